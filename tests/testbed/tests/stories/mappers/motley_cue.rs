// SPDX-License-Identifier: MIT OR Apache-2.0
//! A real motley_cue with the accounts of the site (feudalAdapter's `local_unix`), and mccli as its client. Both come from `PyPI`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testbed::drive::{people, tokens};
use testbed::site::command::CommandOutcome;
use testbed::site::daemon::Daemon;
use testbed::site::servers::{CA, PROVIDER};
use testbed::{Error, Options, Result, Site, skip, story_with_own_servers};

use super::{is_logged, log_in, outcome, set_rules};
use crate::bad_tokens::inputs;

/// Where it is in the site.
const INSIDE: &str = "/opt/motley-cue";

const URL: &str = "https://127.0.0.1:8080";

/// Sources without compiled parts. What they need for LDAP and Courier, which these stories do not use, is left out.
const PURE: [&str; 4] = ["motley-cue==0.8.8", "feudalAdapter==2.0.4", "mccli==0.7.6", "sqlitedict==2.1.0"];

/// What they need, as wheels for the Python of the site.
const WHEELS: [&str; 15] = [
    "flaat==1.3.1",
    "aarc-entitlement==1.0.5",
    "fastapi",
    "uvicorn",
    "cryptography==50.*",
    "markdown",
    "pydantic-settings",
    "regex",
    "Unidecode",
    "ldap3",
    "pexpect",
    "click",
    "click-option-group",
    "click-logging",
    "rfc3986",
];

const RULE: &str = "[[rule]]\nname = \"mc\"\nissuer = \"op\"\nmotley_cue = \"https://127.0.0.1:8080\"\n";

fn settings() -> String {
    format!(
        "[mapper]\nlog_level = INFO\n[mapper.otp]\nuse_otp = True\nbackend = sqlite\ndb_location = /srv/mc/tokens.db\n\
         keyfile = /srv/mc/key\n[privacy]\nprivacy_contact = root@testbed\n[DEFAULT]\n[authorisation.testbed]\n\
         op_url = {PROVIDER}\nscopes = [\"openid\", \"profile\"]\naudience = https://testbed\nauthorise_all = True\n"
    )
}

const BACKEND: &str = "[ldf_adapter]\nbackend = local_unix\nprimary_group = users\n[messages]\n\
                       log_file = /var/log/feudal.log\nlog_level = INFO\n[approval]\nenabled = False\n\
                       [username_generator]\nmode = friendly\n[groups]\npolicy = listed\n[login_info]\n\
                       ssh_host = testbed\n[backend.local_unix]\nshell = /bin/bash\n";

/// A certificate for its address, by an authority that the site trusts beside its own.
const CERTIFICATE: &str = r"
set -e; cd /srv/mc
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=mc-authority -keyout ca.key -out ca.pem \
    -addext keyUsage=critical,keyCertSign 2>/dev/null
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=mc -keyout tls.key -out tls.csr 2>/dev/null
printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n' >extensions
openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile extensions -out tls.pem 2>/dev/null
";

fn options() -> Result<Options> {
    // Many logins of one story, and each asks motley_cue.
    Ok(Options { nodes: 1, python: true, sshd_log_level: "DEBUG3", penalties: false, ..Options::new()? })
}

/// The packages for this release of Python, in the directory of the build. An error text if they are not to be had.
fn packages(python: &str) -> Result<std::result::Result<PathBuf, String>> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("motley-cue-0.8.8-{python}"));
    if place.is_dir() {
        return Ok(Ok(place));
    }
    let io = |source| Error::Io { what: "getting motley_cue".into(), source };
    let making = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(io)?;
    let pip = |arguments: &[&str], names: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "install", "--quiet", "--no-cache-dir", "--timeout", "10", "--retries", "1"]);
        command.arg("--target").arg(making.path()).args(arguments).args(names).output()
    };
    for (arguments, names) in [
        (&["--no-deps"] as &[&str], &PURE as &[&str]),
        (&["--only-binary=:all:", "--upgrade", "--python-version", python], &WHEELS),
    ] {
        match pip(arguments, names) {
            Err(error) => return Ok(Err(format!("python3 -m pip cannot be run: {error}"))),
            Ok(output) if !output.status.success() => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                let last = text.lines().rfind(|line| line.starts_with("ERROR")).unwrap_or("no reason").to_owned();
                return Ok(Err(format!("PyPI does not give motley_cue for Python {python}: {last}")));
            }
            Ok(_) => {}
        }
    }
    // Another story may have been faster.
    if fs::rename(making.path(), &place).is_err() && !place.is_dir() {
        return Ok(Err(format!("{} cannot be made", place.display())));
    }
    Ok(Ok(place))
}

/// Starts motley_cue in the site, with alice's and bob's accounts as those of their identities. `false`: it is not to be had, and the story is
/// skipped.
fn start(site: &Site) -> Result<bool> {
    let version = site.sh("root", "python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")?.ok()?.stdout;
    let packages = match packages(version.trim())? {
        Ok(packages) => packages,
        Err(reason) => return skip(&reason).map(|()| false),
    };
    let archive = Command::new("tar").arg("-C").arg(&packages).args(["--exclude=__pycache__", "-c", "."]).output();
    let archive = archive.map_err(|source| Error::Io { what: "reading motley_cue".into(), source })?;
    let unpack = format!("mkdir -p {INSIDE} /srv/mc /etc/motley_cue && tar --no-same-owner -C {INSIDE} -x");
    site.script("root", &unpack).stdin(archive.stdout).timeout(Duration::from_secs(120)).run()?.ok()?;
    site.write("/etc/motley_cue/motley_cue.conf", &settings(), "0644")?;
    site.write("/etc/motley_cue/feudal_adapter.conf", BACKEND, "0644")?;
    for user in ["alice", "bob"] {
        // The unique id by which feudalAdapter finds the account of an identity.
        site.sh("root", &format!("usermod -c '{user}@https%3A%2F%2Fop.testbed%3A8444' {user}"))?.ok()?;
    }
    site.sh("root", &format!("{CERTIFICATE}cat ca.pem >>{CA}"))?.ok()?;
    #[rustfmt::skip]
    let argv = [
        "/usr/bin/python3", "-m", "uvicorn", "motley_cue.api:api", "--host", "127.0.0.1", "--port", "8080",
        "--ssl-keyfile", "/srv/mc/tls.key", "--ssl-certfile", "/srv/mc/tls.pem",
    ];
    let daemon = Daemon::new("motley-cue", argv)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("PYTHONPATH", INSIDE)
        .env("MOTLEY_CUE_CONFIG", "/etc/motley_cue/motley_cue.conf")
        .env("FEUDAL_ADAPTER_CONFIG", "/etc/motley_cue/feudal_adapter.conf")
        .env("REQUESTS_CA_BUNDLE", CA)
        .env("SSL_CERT_FILE", CA);
    site.start_daemon(daemon)?;
    site.wait_for("motley_cue", Duration::from_secs(60), "root", &format!("curl -sf --cacert {CA} {URL}/info"))?;
    Ok(true)
}

/// Suspends the account of alice as feudalAdapter does it, or ends that.
fn suspend(site: &Site, is_suspended: bool) -> Result<()> {
    let day = if is_suspended { "1" } else { "-1" };
    site.sh("root", &format!("chage -E {day} alice"))?.ok().map(drop)
}

/// `pam_unix` refuses an account that has expired by itself. This shows what the module does.
fn without_other_account_modules(site: &Site) -> Result<()> {
    site.sh("root", "sed -i -E '/^(@include common-account|account)/{/pam_mytoken/!d}' /etc/pam.d/sshd && grep -q '^account.*pam_mytoken' /etc/pam.d/sshd && sed -i '$a account required pam_permit.so' /etc/pam.d/sshd")?.ok().map(drop)
}

#[test]
fn a_real_motley_cue_gives_accounts_and_refuses_a_suspended_one() -> Result<()> {
    story_with_own_servers(options()?, |site| {
        if !start(site)? {
            return Ok(());
        }
        let token = tokens::access_token(site, "alice")?;
        set_rules(site, RULE)?;
        assert_eq!(outcome(site, "alice", &token)?, "accepted by mc", "{}", site.logs());
        assert_eq!(outcome(site, "bob", &token)?, "not_mapped");
        assert!(is_logged(site, &["mapper user=bob rule=mc ", "says that the account is not the identity"])?);
        assert_eq!(outcome(site, "carol", &tokens::access_token(site, "carol")?)?, "not_mapped", "it has no carol");
        assert!(is_logged(site, &["mapper user=carol rule=mc ", "state not_deployed"])?);
        let checked = site.run("root", ["mytokenctl", "check"])?;
        assert!(checked.stdout.contains(&format!("{URL} trusts {PROVIDER}")), "{checked:?}");

        // What it says to clients, for whoever believes it.
        people::first_mytoken(site, "alice")?;
        let add = format!("mytoken-ssh add testbed --info {URL}");
        let undecided = site.sh("alice", &add)?;
        assert!(!undecided.success() && undecided.stderr.contains("nothing was added"), "{undecided:?}");
        assert!(!site.exists("/home/alice/.config/mytoken/hosts.toml")?);
        let added = site.sh("alice", &format!("{add} --yes && mytoken-ssh hosts"))?.ok()?.stdout;
        let asked =
            "    provider  https://op.testbed:8444\n    audience  https://testbed\n    scope     openid profile\n";
        assert!(added.contains(asked), "{added}");
        assert!(
            added.ends_with("\ntestbed   (hosts.toml)\n  audience https://testbed, scope openid profile\n"),
            "{added}"
        );

        // Any user could take this port.
        set_rules(site, &RULE.replace("https", "http"))?;
        let checked = site.run("root", ["mytokenctl", "check"])?;
        assert!(!checked.success() && checked.stdout.contains("any user of this host"), "{checked:?}");
        assert!(!log_in(site, "alice", &token)?.success());
        assert!(is_logged(site, &["pam_mytoken", "login.toml", "with a port below 1024"])?, "{}", site.logs());

        // No later rule opens a suspended account.
        let template = "[[rule]]\nname = \"everybody\"\nissuer = \"op\"\ntemplate = \"{preferred_username}\"\n";
        set_rules(site, &format!("{RULE}{template}"))?;
        suspend(site, true)?;
        assert_eq!(outcome(site, "alice", &token)?, "suspended");
        suspend(site, false)?;
        assert_eq!(outcome(site, "alice", &token)?, "accepted by mc");

        // An outage of motley_cue, which may have suspended the person.
        site.stop("motley-cue", "KILL")?;
        assert_eq!(outcome(site, "alice", &token)?, "unavailable");
        set_rules(site, &format!("{RULE}on_outage = \"next\"\n{template}"))?;
        assert_eq!(outcome(site, "alice", &token)?, "accepted by everybody");
        set_rules(site, RULE)?;
        assert_eq!(outcome(site, "alice", &token)?, "unavailable");
        let checked = site.run("root", ["mytokenctl", "check"])?;
        assert!(!checked.success() && checked.stdout.contains("127.0.0.1"), "{checked:?}");
        Ok(())
    })
}

/// Logs in as alice by mccli, and prints the name of the account.
fn mccli(site: &Site, token: &str) -> Result<CommandOutcome> {
    let script = format!(
        "cat >token && echo 'id -un >logged-in-as' | python3 -c 'from mccli.mccli import cli; cli()' \
         ssh --mc-endpoint {URL} --token \"$(cat token)\" testbed; ended=$?; rm token; cat logged-in-as; exit $ended"
    );
    let mccli = site.script("alice", &script).stdin(token).env("PYTHONPATH", INSIDE);
    mccli.env("REQUESTS_CA_BUNDLE", CA).env("SSL_CERT_FILE", CA).timeout(Duration::from_secs(60)).run()
}

#[test]
fn mccli_logs_in_with_a_short_and_a_long_token() -> Result<()> {
    story_with_own_servers(options()?, |site| {
        if !start(site)? {
            return Ok(());
        }
        set_rules(site, RULE)?;
        let short = tokens::access_token(site, "alice")?;
        assert!(short.len() < 1_024, "{}", short.len());
        let login = mccli(site, &short)?;
        assert!(login.stdout.lines().any(|line| line == "alice"), "{login:?}");
        assert!(is_logged(site, &["accept user=alice ", " rule=mc token=at:"])?);

        let long = inputs::mint(site, &json!({"pad": 800}))?;
        assert!(long.len() >= 1_500, "{}", long.len());
        let shown = mccli(site, &long)?;
        assert!(is_logged(site, &["refuse user=alice ", "reason=opaque ", "token=opaque "])?, "{shown:?}");

        set_rules(site, &format!("{RULE}otp = true\n"))?;
        site.sh("alice", "rm -f logged-in-as")?.ok()?;
        let login = mccli(site, &long)?;
        assert!(login.stdout.lines().any(|line| line == "alice"), "{login:?}");
        assert!(is_logged(site, &["accept user=alice ", "issuer=- sub=- rule=mc token=otp:"])?);

        // It works once. The provider was not asked by this host.
        let hash = site.script("alice", "sha512sum | cut -d' ' -f1").stdin(long.as_str()).run()?.ok()?.stdout;
        assert_eq!(outcome(site, "alice", hash.trim())?, "otp_refused");
        assert_eq!(outcome(site, "alice", &"0a".repeat(64))?, "otp_refused");
        for (log, text) in [("system", site.system_log()?), ("motley_cue", site.read("/var/log/motley-cue.log")?)] {
            assert!(!text.contains(hash.trim()) && !text.contains(&long), "the log of {log} has a secret");
        }
        Ok(())
    })
}

#[test]
fn keys_need_a_recent_login_with_a_token_and_no_suspension() -> Result<()> {
    story_with_own_servers(options()?, |site| {
        if !start(site)? {
            return Ok(());
        }
        set_rules(site, RULE)?;
        without_other_account_modules(site)?;
        let token = tokens::access_token(site, "alice")?;
        let by_key = |user: &str| site.sh(user, "ssh -i .ssh/site_key testbed true");
        let account = |lines: &str| {
            site.sh("root", "mkdir -p /etc/mytoken/login.d")?.ok()?;
            site.write("/etc/mytoken/login.d/account.toml", &format!("[account]\n{lines}"), "0644")
        };
        assert!(by_key("alice")?.success(), "by default nothing is asked");
        assert_eq!(outcome(site, "alice", &token)?, "accepted by mc");
        assert!(!site.exists("/var/lib/mytoken/logins")?, "nothing is kept");

        account("key_logins = \"recent-login:1h\"\nexempt = [\"carol\"]\n")?;
        let refused = by_key("alice")?;
        assert!(!refused.success() && refused.stderr.contains("only within 1h"), "{refused:?}");
        assert!(is_logged(site, &["user=alice login without token refused: there was no login with a token"])?);
        assert!(by_key("carol")?.success(), "an exempt account");
        assert_eq!(outcome(site, "alice", &token)?, "accepted by mc");
        assert!(by_key("alice")?.success());
        assert!(!by_key("bob")?.success(), "bob has not logged in");
        let mode = site.sh("root", "stat -c '%a %U' /var/lib/mytoken/logins /var/lib/mytoken/logins/*")?.ok()?.stdout;
        assert_eq!(mode, "700 root\n600 root\n");
        // Two hours later.
        let age = "sed -i -E 's/\"accepted\":[0-9]+/\"accepted\":'$(($(date +%s) - 7200))/ /var/lib/mytoken/logins/*";
        site.sh("root", age)?.ok()?;
        assert!(!by_key("alice")?.success());

        account("key_logins = \"motley_cue\"\n")?;
        assert!(by_key("alice")?.success() && by_key("bob")?.success());
        suspend(site, true)?;
        assert!(by_key("alice")?.success(), "motley_cue cannot be asked about a key");
        assert_eq!(outcome(site, "alice", &token)?, "suspended");
        let refused = by_key("alice")?;
        assert!(!refused.success() && refused.stderr.contains("your account is suspended"), "{refused:?}");
        // Nobody else can make motley_cue refuse an account.
        assert_eq!(outcome(site, "bob", &token)?, "not_mapped");
        assert!(by_key("bob")?.success());
        suspend(site, false)?;
        assert_eq!(outcome(site, "alice", &token)?, "accepted by mc");
        assert!(by_key("alice")?.success());

        // A mistake elsewhere in the files does not matter for keys.
        site.write("/etc/mytoken/login.d/zz.toml", "???\n", "0644")?;
        assert!(by_key("alice")?.success() && by_key("bob")?.success());
        site.sh("root", "rm /etc/mytoken/login.d/zz.toml")?.ok()?;
        account("key_logins = \"recent\"\n")?;
        let refused = by_key("alice")?;
        assert!(!refused.success() && refused.stderr.contains("tell its administrator"), "{refused:?}");
        Ok(())
    })
}
