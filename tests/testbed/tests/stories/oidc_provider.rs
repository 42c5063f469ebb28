// SPDX-License-Identifier: MIT OR Apache-2.0
//! npm's oidc-provider, a certified implementation of `OpenID` Connect, as a second provider beside the test server's. What runs in the
//! site is in `tests/oidc_provider`; the provider itself comes from the registry of npm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testbed::drive::tokens;
use testbed::site::daemon::Daemon;
use testbed::site::servers::{AUDIENCE, CA};
use testbed::{Error, Options, Result, Site, skip, story_with_own_servers};

use crate::checked::{findings, problems, with_notes};
use crate::mappers::{is_logged, outcome};

/// Where it is in the site.
const INSIDE: &str = "/opt/oidc-provider";

const HOST: &str = "oidc.testbed";
const ISSUER: &str = "https://oidc.testbed:9444";

/// Files of the repository that the site gets too.
const FILES: [&str; 4] = ["package.json", "package-lock.json", "provider.mjs", "access_token"];

/// A certificate of the site's authority for the provider.
const CERTIFICATE: &str = "set -e; umask 077; cd /opt/oidc-provider; tls=/var/lib/testserver/tls
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -subj /CN=oidc.testbed -out request 2>/dev/null
printf 'subjectAltName=DNS:oidc.testbed\nbasicConstraints=CA:FALSE\n' >extensions
openssl x509 -req -in request -CA /var/lib/testserver/ca.pem -CAkey $tls/ca.key -set_serial 77 -days 9 -extfile extensions \
    -out certificate.pem 2>/dev/null
echo site-secret >/root/secret";

/// The client as which the module introspects.
const CLIENT: &str = "client_id = \"site\"\nclient_secret_file = \"/root/secret\"\n";

const RULE: &str = "[[rule]]\nname = \"certified\"\nissuer = \"certified\"\ntemplate = \"{preferred_username}\"\n";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc_provider")
}

/// The provider with all that it needs, in the directory of the build, exactly as the lock file names it. An error text if it is not to be
/// had.
fn packages() -> Result<std::result::Result<PathBuf, String>> {
    let io = |source| Error::Io { what: "getting oidc-provider".into(), source };
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc-provider");
    let lock = fs::read(sources().join("package-lock.json")).map_err(io)?;
    if fs::read(place.join("package-lock.json")).is_ok_and(|made_by| made_by == lock) {
        return Ok(Ok(place));
    }
    let making = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(io)?;
    let [fresh, cache] = ["fresh", "cache"].map(|name| making.path().join(name));
    fs::create_dir(&fresh).map_err(io)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(sources().join(file), fresh.join(file)).map_err(io)?;
    }
    // No script of a package runs.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-timeout=10000", "--fetch-retries=1"]);
    match npm.arg("--cache").arg(cache).current_dir(&fresh).output() {
        Err(error) => return Ok(Err(format!("npm cannot be run (`make extras` installs it): {error}"))),
        Ok(output) if !output.status.success() => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let first = text.lines().find(|line| line.starts_with("npm ")).unwrap_or("no reason").to_owned();
            return Ok(Err(format!("npm does not give oidc-provider: {first}")));
        }
        Ok(_) => {}
    }
    drop(fs::remove_dir_all(&place));
    // Another story may have been faster.
    if fs::rename(&fresh, &place).is_err() && !place.is_dir() {
        return Ok(Err(format!("{} cannot be made", place.display())));
    }
    Ok(Ok(place))
}

/// Runs a story in a site with the provider. Without the provider it is skipped, before a root with Node is made for it.
fn story_with_the_provider(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let packages = match packages()? {
        Ok(packages) => packages,
        Err(reason) => return skip(&reason),
    };
    let options = Options { nodes: 1, node: true, sshd_log_level: "DEBUG3", penalties: false, ..Options::new()? };
    story_with_own_servers(options, |site| {
        start(site, &packages)?;
        body(site)
    })
}

fn start(site: &Site, packages: &Path) -> Result<()> {
    let mut archive = Command::new("tar");
    archive.arg("-c").arg("-C").arg(packages).arg("node_modules").arg("-C").arg(sources()).args(FILES);
    let archive = archive.output().map_err(|source| Error::Io { what: "reading oidc-provider".into(), source })?;
    let unpack = format!("mkdir -p {INSIDE} && tar --no-same-owner -C {INSIDE} -x");
    site.script("root", &unpack).stdin(archive.stdout).timeout(Duration::from_secs(120)).run()?.ok()?;
    let address = site.network().address();
    site.sh("root", &format!("echo '{address} {HOST}' >>/etc/hosts; {CERTIFICATE}"))?.ok()?;
    let files = ["provider.mjs", "certificate.pem", "key.pem"].map(|file| format!("{INSIDE}/{file}"));
    let [program, certificate, key] = &files;
    let argv = ["/usr/bin/node", program, ISSUER, certificate, key];
    site.start_daemon(Daemon::new("oidc-provider", argv))?;
    let discovery = format!("curl -sf --cacert {CA} {ISSUER}/.well-known/openid-configuration");
    site.wait_for("oidc-provider", Duration::from_secs(60), "root", &discovery)?;
    site.sh("root", "mkdir -p /etc/mytoken/mytoken.d /etc/mytoken/login.d")?.ok()?;
    site.write("/etc/mytoken/login.d/certified.toml", RULE, "0644")
}

/// Configures the provider with these further lines.
fn configure(site: &Site, lines: &str) -> Result<()> {
    let issuer = format!("[[issuer]]\nname = \"certified\"\nurl = \"{ISSUER}\"\n{lines}");
    site.write("/etc/mytoken/mytoken.d/certified.toml", &issuer, "0644")
}

/// An access token of the provider for `user`, which its pages for login and consent gave.
fn access_token(site: &Site, user: &str, resource: &str) -> Result<String> {
    let program = format!("{INSIDE}/access_token");
    let got = site.run("root", [program.as_str(), ISSUER, CA, user, resource])?.ok()?;
    Ok(got.stdout.trim().to_owned())
}

/// `mytokenctl check` has looked at the provider, and has no finding about it.
fn nothing_is_wrong_with_it(site: &Site) -> Result<()> {
    let checked = site.sh("root", "mytokenctl check --json")?;
    assert!(with_notes(&checked)?.iter().any(|note| is_about_it(&note.text)), "{checked:?}");
    let (found, _) = problems(&checked)?;
    assert!(!found.iter().any(|found| is_about_it(&found.text)), "{found:?}");
    Ok(())
}

fn is_about_it(text: &str) -> bool {
    text.contains("certified") || text.contains(ISSUER)
}

#[test]
fn a_jwt_of_a_certified_provider_logs_in_by_its_published_keys() -> Result<()> {
    story_with_the_provider(|site| {
        // One audience has tokens with RS256, the other one with ES256.
        configure(
            site,
            &format!("audiences = [\"{AUDIENCE}\", \"https://es256.testbed\"]\nrequired_scopes = [\"openid\"]\n"),
        )?;
        let token = access_token(site, "alice", AUDIENCE)?;
        assert_eq!(token.split('.').count(), 3, "{token}");
        assert_eq!(outcome(site, "alice", &token)?, "accepted by certified", "{}", site.logs());
        assert!(is_logged(site, &["accept user=alice ", "issuer=certified sub=alice ", "token=at:"])?);
        assert_eq!(outcome(site, "bob", &token)?, "not_mapped");
        let other = access_token(site, "bob", "https://es256.testbed")?;
        assert_eq!(outcome(site, "bob", &other)?, "accepted by certified");
        assert_eq!(outcome(site, "alice", &access_token(site, "alice", "https://elsewhere")?)?, "audience");
        let (signed, _) = token.rsplit_once('.').unwrap_or_default();
        let foreign = access_token(site, "bob", AUDIENCE)?;
        let signature = foreign.rsplit('.').next().unwrap_or_default();
        assert_eq!(outcome(site, "alice", &format!("{signed}.{signature}"))?, "signature");
        // The test server's provider is served as before.
        assert_eq!(outcome(site, "alice", &tokens::access_token(site, "alice")?)?, "accepted by hpc");
        nothing_is_wrong_with_it(site)?;

        // It lets nobody use a token for another service at its userinfo, and does not know its own JWTs at introspection.
        configure(site, &format!("audiences = [\"{AUDIENCE}\"]\nvalidation = [\"local\", \"userinfo\"]\n"))?;
        assert_eq!(outcome(site, "alice", &token)?, "inactive");
        configure(
            site,
            &format!("audiences = [\"{AUDIENCE}\"]\nvalidation = [\"local\", \"introspection\"]\n{CLIENT}"),
        )?;
        assert_eq!(outcome(site, "alice", &token)?, "inactive");
        Ok(())
    })
}

#[test]
fn an_opaque_token_of_a_certified_provider_logs_in_until_it_is_revoked() -> Result<()> {
    story_with_the_provider(|site| {
        let opaque = format!("{AUDIENCE}/opaque");
        let token = access_token(site, "alice", &opaque)?;
        assert!(!token.contains('.') && token.len() >= 16, "{token}");
        configure(site, &format!("audiences = [\"{AUDIENCE}\"]\n"))?;
        assert_eq!(outcome(site, "alice", &token)?, "opaque", "nobody can be asked");

        let introspection =
            format!("required_scopes = [\"openid\"]\nvalidation = [\"introspection\"]\nopaque = true\n{CLIENT}");
        configure(site, &format!("audiences = [\"{AUDIENCE}\"]\n{introspection}"))?;
        assert_eq!(outcome(site, "alice", &token)?, "accepted by certified", "{}", site.logs());
        assert!(is_logged(site, &["accept user=alice ", "issuer=certified sub=alice "])?);
        assert_eq!(outcome(site, "bob", &token)?, "not_mapped");
        assert_eq!(outcome(site, "alice", &access_token(site, "alice", "https://elsewhere/opaque")?)?, "audience");
        let other = access_token(site, "alice", &opaque)?;
        let revoke =
            format!("curl -sf --cacert {CA} -u portal:portal-secret -d token={token} {ISSUER}/token/revocation");
        site.sh("root", &revoke)?.ok()?;
        assert_eq!(outcome(site, "alice", &token)?, "inactive");
        assert_eq!(outcome(site, "alice", &other)?, "accepted by certified");
        nothing_is_wrong_with_it(site)?;

        // Its userinfo answers only about tokens without audience.
        configure(site, "require_audience = false\nvalidation = [\"userinfo\"]\nopaque = true\n")?;
        let token = access_token(site, "alice", "")?;
        assert!(!token.contains('.'), "{token}");
        assert_eq!(outcome(site, "alice", &token)?, "accepted by certified", "{}", site.logs());
        assert_eq!(outcome(site, "bob", &token)?, "not_mapped");
        assert_eq!(outcome(site, "alice", &other)?, "inactive");

        configure(site, &format!("audiences = [\"{AUDIENCE}\"]\n{introspection}"))?;
        site.sh("root", "echo wrong >/root/secret")?.ok()?;
        assert_eq!(outcome(site, "alice", &other)?, "validation_unavailable");
        let (found, _) = findings(site, "")?;
        assert!(found.iter().any(|found| found.text.contains("refuses the client \"site\"")), "{found:?}");
        Ok(())
    })
}
