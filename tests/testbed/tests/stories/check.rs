// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` on a site that works, and on the same site broken in one way after the other.

use std::path::Path;
use std::time::Duration;

use mytokend::control::check::pam_stack::{Directories, Group, ModuleLine, Stack};
use testbed::{Options, Release, Result, Site, story};

use crate::checked::{RELOAD_SSHD, findings, healthy, sees_alone};

const STACK: &str = "/etc/pam.d/sshd";
const OURS: &str = "auth     [success=done authinfo_unavail=ignore service_err=ignore user_unknown=ignore default=die]";

/// How a site is broken, the id of the one finding, and the exit status.
const BROKEN: &[(&str, &str, i32)] = &[
    ("echo 'UsePAM no' >/etc/ssh/sshd_config.d/01-broken.conf", "sshd-use-pam", 2),
    ("echo 'KbdInteractiveAuthentication no' >/etc/ssh/sshd_config.d/01-broken.conf", "sshd-keyboard-interactive", 2),
    ("echo 'AuthenticationMethods publickey' >/etc/ssh/sshd_config.d/01-broken.conf", "sshd-authentication-methods", 2),
    (
        "printf 'Match User alice\\n KbdInteractiveAuthentication no\\nMatch all\\n' >/etc/ssh/sshd_config.d/01-broken.conf",
        "sshd-keyboard-interactive",
        2,
    ),
    ("echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/01-broken.conf", "sshd-password", 1),
    ("echo 'LoginGraceTime 30' >/etc/ssh/sshd_config.d/01-broken.conf", "sshd-login-grace-time", 2),
    (
        "mkdir /etc/mytoken/login.d; printf '[exchange]\\naccept = [\"link\"]\\n' >/etc/mytoken/login.d/link.toml; \
         echo 'LoginGraceTime 60' >/etc/ssh/sshd_config.d/01-broken.conf",
        "sshd-link-time",
        1,
    ),
    // Of this keyword the last line counts, in sid the first.
    (
        "for n in 01 99; do echo 'MaxStartups 10:30:100' >/etc/ssh/sshd_config.d/$n-broken.conf; done",
        "sshd-max-startups",
        1,
    ),
    (
        "echo 'ChallengeResponseAuthentication no' >/etc/ssh/sshd_config.d/01-broken.conf",
        "sshd-keyboard-interactive",
        2,
    ),
    (
        "echo 'AuthenticationMethods keyboard-interactive:bsdauth' >/etc/ssh/sshd_config.d/01-broken.conf",
        "sshd-authentication-methods",
        2,
    ),
    ("echo 'NoSuchKeyword yes' >/etc/ssh/sshd_config.d/01-broken.conf", "sshd-configuration", 2),
    ("sed -i '/^auth .*pam_mytoken/d' STACK", "pam-auth-missing", 2),
    ("sed -i '/^account .*pam_mytoken/d' STACK", "pam-account-missing", 2),
    ("sed -i '/^session .*pam_mytoken/d' STACK", "pam-session-missing", 1),
    ("sed -i 's/^auth .*default=die]/auth sufficient/' STACK", "pam-refused-token-falls-through", 1),
    (
        "sed -i 's/^auth .*default=die]/auth optional/; s/pam_deny.so/pam_permit.so/' STACK",
        "pam-refused-token-logs-in",
        2,
    ),
    // While no server answers, and for system accounts.
    ("sed -i 's/pam_deny.so/pam_permit.so/' STACK", "pam-login-without-token", 2),
    (
        "sed -i 's/^auth .*default=die]/auth [success=2 authinfo_unavail=2 default=die]/; \
         s/^auth .*pam_deny.so/auth [success=1 default=ignore] pam_unix.so\\n&\\nauth required pam_permit.so/' STACK",
        "pam-login-without-token",
        2,
    ),
    ("sed -i 's/^auth .*default=die]/auth required/' STACK", "pam-accepted-token-refused", 2),
    ("sed -i 's/requisite /requisit /' STACK", "pam-line", 2),
    // libpam reads no file then, of no service.
    ("rm STACK; mv /etc/pam.d/other /root/other", "pam-line", 2),
    ("mv /etc/pam.d/other /root/other; echo '@include no-such' >/etc/pam.d/other", "pam-line", 2),
    // A login is asked through this file, and the stack of the site is not in it.
    ("sed -i '/^auth/d' STACK", "pam-auth-missing", 2),
    ("sed -i 's/$/\\r/' STACK", "pam-line", 2),
    ("echo 'session [success=3 default=ignore] pam_limits.so' >>STACK", "pam-jump", 2),
    ("echo 'session include no-such' >>STACK", "pam-line", 2),
    // A mistake that mytoken-ssh sees, too.
    ("mkdir /etc/mytoken/mytoken.d; echo 'proxi = 1' >/etc/mytoken/mytoken.d/a.toml", "configuration-invalid", 2),
    ("sed -i 's/^auth  *.success=/auth [sucess=/' STACK", "pam-line", 2),
    ("echo 'account required pam_nosuch.so' >>STACK", "pam-module-file", 2),
    ("sed -i 's/^\\(auth .*\\)pam_mytoken/\\1pam_mytokn/' STACK", "pam-module-file", 2),
    ("sed -i 's/^account .*pam_mytoken/account optional pam_mytoken/' STACK", "pam-refused-token-logs-in", 2),
    ("sed -i '0,/^account/s//account sufficient pam_permit.so\\n&/' STACK", "pam-line-not-reached", 2),
    (
        "sed -i '0,/^auth/s//auth [success=2 default=ignore] pam_unix.so\\n&/' STACK; echo 'auth required pam_permit.so' >>STACK",
        "pam-password-first",
        1,
    ),
    (
        "sed -i 's,^session .*envfile=,session required pam_env.so user_readenv=1 envfile=,' STACK",
        "pam-user-environment",
        1,
    ),
    // Before our line it can change the variable by which this one finds the token, after it those that this one sets.
    ("echo 'session required pam_env.so user_readenv=2' >>STACK", "pam-user-environment", 1),
    ("sed -i '0,/^auth/s//auth required pam_env.so user_readenv=1\\n&/' STACK", "pam-user-environment", 1),
    ("mv /usr/lib/x86_64-linux-gnu/security/pam_mytoken.so /root/", "pam-module-file", 2),
    // libpam cannot load these.
    ("cd /usr/lib/x86_64-linux-gnu/security && mv pam_mytoken.so /root/ && : >pam_mytoken.so", "pam-module-file", 2),
    (
        "cd /usr/lib/x86_64-linux-gnu/security && mv pam_mytoken.so /root/ && head -c 100000 /root/pam_mytoken.so >pam_mytoken.so",
        "pam-module-file",
        2,
    ),
    ("chmod 0666 STACK", "pam-file-writable", 2),
    ("chown alice /etc/pam.d/common-account", "pam-file-writable", 2),
    ("chmod 0777 /usr/lib/x86_64-linux-gnu/security", "pam-file-writable", 2),
    ("echo 'session optional pam_systemd.so' >>STACK", "pam-session-order", 1),
    ("cd /etc/ssh/sshd_config.d && touch 90-open.conf && chmod 0666 90-open.conf", "sshd-file-writable", 2),
    ("chmod 0777 /etc/ssh/sshd_config.d", "sshd-file-writable", 2),
    ("chown alice /etc/ssh/sshd_config.d", "sshd-file-writable", 2),
    (
        "mkdir -m 0777 /etc/ssh/empty.d; echo 'Include /etc/ssh/empty.d/*.conf' >/etc/ssh/sshd_config.d/90-open.conf",
        "sshd-file-writable",
        2,
    ),
    ("mv /usr/sbin/sshd /root/", "sshd-missing", 1),
    ("mv /run/sshd /root/run-sshd", "sshd-run-directory", 2),
    ("chmod 0777 /run/sshd", "sshd-run-directory", 2),
    ("mkdir /root/keys; mv /etc/ssh/ssh_host_*_key /root/keys", "sshd-configuration", 2),
    ("sed -i 's/^auth .*pam_mytoken.so/& services=su/' STACK", "pam-service", 2),
    (
        "mkdir /etc/mytoken/login.d; echo 'services = [\"su\"]' >/etc/mytoken/login.d/a.toml; cp STACK /etc/pam.d/su",
        "pam-service",
        2,
    ),
    ("sed -i 's,^auth .*pam_mytoken.so,& config=/srv,' STACK", "pam-configuration", 1),
    ("touch /etc/nologin", "nologin", 2),
    ("touch /run/nologin", "nologin", 2),
    // Logged at each login, and otherwise passed over.
    ("sed -i 's/^account .*pam_mytoken.so/& dbug services=/' STACK", "pam-argument", 1),
    (
        "mkdir /etc/mytoken/login.d; printf '[accounts]\\nallow_system = [\"root\"]\\ndeny = []\\n' >/etc/mytoken/login.d/root.toml",
        "sshd-permit-root-login",
        1,
    ),
];

/// What is unusual, and right.
const LEGAL: &[&str] = &[
    // Passwords as a fallback.
    "sed -i 's/^auth .*pam_deny.so/@include common-auth/' STACK",
    "printf 'Match LocalPort 2222\n KbdInteractiveAuthentication no\nMatch all\n' >/etc/ssh/sshd_config.d/01-broken.conf",
    "sed -i 's/^account/-ACCOUNT/; s/^@include/@INCLUDE/; s/success=/success = /' STACK",
    "mv STACK /usr/lib/pam.d/",
    "echo 'session required pam_env.so user_readenv=1 user_readenv=0' >>STACK",
    // For groups of which the service has no line, libpam takes this file (SSH-42).
    "mv /etc/pam.d/other /root/other; mv STACK /etc/pam.d/other",
    "mv /etc/pam.d/other /root/other; cp STACK /etc/pam.d/other; sed -i '/^auth/d' STACK",
];

#[test]
fn a_working_site_has_no_finding_and_each_fault_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        assert!(site.read(STACK)?.contains(OURS));
        site.sh("root", &format!("cp {STACK} /root/stack"))?.ok()?;
        for (break_it, id, status) in BROKEN {
            let break_it = break_it.replace("STACK", STACK);
            let found = sees_alone(site, "--as alice", &with_reload(&break_it, id), id, *status)?;
            if break_it.contains("sshd_config.d") && !["sshd-configuration", "sshd-file-writable"].contains(id) {
                // The pasted command shows the line.
                let shown = site.sh("root", &found[0].fix)?.ok()?.stdout;
                assert!(shown.contains("-broken.conf:"), "{break_it}: {found:?} {shown}");
            }
            assert!(*id != "sshd-missing" || found[0].fix.starts_with("apt install openssh-server "), "{found:?}");
            if *id == "sshd-run-directory" {
                let answer = site.sh("alice", "ssh -o BatchMode=yes testbed true")?.stderr;
                let dropped = answer.contains("reset") || answer.contains("closed");
                // The mode counts only at the start of newer releases.
                let starts_only = break_it.contains("chmod") && site.options().release != Release::Bookworm;
                assert_ne!(dropped, starts_only, "{break_it}: {answer}");
                assert_eq!(found[0].text.contains("drops"), break_it.contains("mv"), "{found:?}");
            }
            if ["sshd-run-directory", "pam-file-writable"].contains(id) || break_it.contains("\\r") {
                site.sh("root", &found[0].fix)?.ok()?;
                assert_eq!(findings(site, "")?, (vec![], 0), "{break_it}");
            }
            if *id == "sshd-file-writable" {
                // sshd counts as not reloaded since.
                site.sh("root", &format!("{}; {RELOAD_SSHD}", found[0].fix))?.ok()?;
                assert_eq!(findings(site, "")?, (vec![], 0), "{break_it}: {found:?}");
            }
            mend(site)?;
        }
        for legal in LEGAL {
            let legal = with_reload(&legal.replace("STACK", STACK), "");
            site.sh("root", &format!("mkdir -p /usr/lib/pam.d; {legal}"))?.ok()?;
            for arguments in ["--as alice", ""] {
                assert_eq!(findings(site, arguments)?, (vec![], 0), "{legal}");
            }
            mend(site)?;
        }
        a_fault_of_a_file_of_ours_hides_no_other(site)?;
        let link =
            "cd /etc/ssh; mv sshd_config of-site; ln -s of-site sshd_config; sed -i s/^Include/#Include/ of-site";
        for off in ["rm /etc/ssh/sshd_config.d/10-mytoken.conf", link] {
            site.sh("root", &format!("{off}; {RELOAD_SSHD}"))?.ok()?;
            let (found, _) = findings(site, "")?;
            assert!(found.iter().any(|found| found.id == "sshd-keyboard-interactive"), "{found:?}");
            site.sh("root", &found[0].fix.replace("systemctl reload ssh", RELOAD_SSHD))?.ok()?;
            assert_eq!(findings(site, "--as alice")?, (vec![], 0), "{off}");
        }
        site.sh("root", "test -L /etc/ssh/sshd_config")?.ok()?;
        included_files_are_looked_for_as_libpam_does(site)?;
        refuses_what_it_cannot_check(site)
    })
}

/// What keeps people out, and what hurts jobs, is found whatever is wrong with the product's own files.
fn a_fault_of_a_file_of_ours_hides_no_other(site: &Site) -> Result<()> {
    let broken = "sed -i '/^account .*pam_mytoken/d' STACK; echo 'UsePAM no' >/etc/ssh/sshd_config.d/01-broken.conf; \
                  sed -i s/optional/required/ /usr/share/mytoken/plugstack.conf; chmod o+w /run/mytoken";
    for name in ["mytoken", "login", "jobs"] {
        site.sh("root", &broken.replace("STACK", STACK))?.ok()?;
        let fault = format!("mkdir /etc/mytoken/{name}.d; echo 'nonsense = 1' >/etc/mytoken/{name}.d/a.toml");
        site.sh("root", &format!("{fault}; {RELOAD_SSHD}"))?.ok()?;
        let (found, status) = findings(site, "")?;
        let mut ids: Vec<&str> = found.iter().map(|found| &*found.id).collect();
        ids.sort_unstable();
        let mut expected = vec!["configuration-invalid", "pam-account-missing", "plugin-required", "sshd-use-pam"];
        // Where the agent's directory is, a jobs.toml that cannot be read does not say.
        if name != "jobs" {
            expected.insert(3, "runtime-dir-writable");
        }
        assert_eq!((ids, status), (expected, 2), "{name}: {found:?}");
        let repair = "sed -i s/required/optional/ /usr/share/mytoken/plugstack.conf; rm -rf /etc/mytoken/jobs.d; chmod 711 /run/mytoken";
        site.sh("root", repair)?.ok()?;
        mend(site)?;
    }
    assert_eq!(findings(site, "")?, (vec![], 0));
    Ok(())
}

fn included_files_are_looked_for_as_libpam_does(site: &Site) -> Result<()> {
    let moved = "mv /etc/pam.d/common-account /usr/lib/pam.d/";
    if includes_from_both(site) {
        site.sh("root", moved)?.ok()?;
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
    } else {
        let found = sees_alone(site, "--as alice", moved, "pam-line", 2)?;
        assert!(
            found.iter().all(|found| found.text.ends_with("/etc/pam.d/common-account cannot be read")),
            "{found:?}"
        );
    }
    site.sh("root", "mv /usr/lib/pam.d/common-account /etc/pam.d/")?.ok()?;
    Ok(())
}

/// An administrator reloads sshd after a change of its configuration. With one that it does not accept, it would end.
fn with_reload(change: &str, id: &str) -> String {
    let reload = change.contains("sshd_config.d") && id != "sshd-configuration";
    if reload { format!("{change}; {RELOAD_SSHD}") } else { change.to_owned() }
}

fn mend(site: &Site) -> Result<()> {
    let mend = format!(
        "rm -f /etc/ssh/sshd_config.d/*-broken.conf /etc/ssh/sshd_config.d/90-open.conf /usr/lib/pam.d/sshd; cp /root/stack {STACK}; \
         mv /root/other /etc/pam.d/ 2>/dev/null; \
         mv /root/pam_mytoken.so /usr/lib/x86_64-linux-gnu/security/ 2>/dev/null; \
         mv /root/sshd /usr/sbin/ 2>/dev/null; rm -rf /root/run-sshd /etc/nologin /run/nologin; mv /root/keys/* /etc/ssh/ 2>/dev/null; rm -rf /root/keys; rm -rf /etc/mytoken/login.d /etc/mytoken/mytoken.d; {RELOAD_SSHD}"
    );
    site.sh("root", &mend)?.ok()?;
    Ok(())
}

/// Monitoring systems take this exit status for "unknown".
fn refuses_what_it_cannot_check(site: &Site) -> Result<()> {
    let rows = [
        ("root", "--as nosuch", "has no account \"nosuch\""),
        ("alice", "--as alice", "only root can check as another user"),
        ("root", "--nosuch", "unexpected argument"),
    ];
    for (user, arguments, reason) in rows {
        let refused = site.sh(user, &format!("mytokenctl check {arguments}"))?;
        assert!(refused.code == 3 && refused.stdout.is_empty() && refused.stderr.contains(reason), "{refused:?}");
    }
    let part = site.sh("alice", "mytokenctl check --json")?;
    assert!(part.code == 0 && part.stdout.contains("were not checked: only root can"), "{part:?}");
    // Output that is lost, and nobody who reads why.
    for (user, command, status, told) in [
        ("root", "check >/dev/full", 3, "standard output cannot be written: No space left"),
        ("root", "check --json >/dev/full", 3, "standard output cannot be written"),
        ("alice", "profile list >/dev/full", 1, "standard output cannot be written"),
        ("alice", "status 2>/dev/full", 1, ""),
        ("alice", "check --as bob 2>/dev/full", 3, ""),
        ("alice", "check --as bob 2>&-", 3, ""),
        // The reader of a pipe needs no more.
        ("root", "check | true; exit ${PIPESTATUS[0]}", 0, ""),
    ] {
        let ended = site.sh(user, &format!("mytokenctl {command}"))?;
        assert!(ended.code == status && ended.stderr.contains(told), "{command}: {ended:?}");
    }
    Ok(())
}

/// It reports a wrong mode and missing directories, and corrects and makes none.
#[test]
fn a_check_changes_nothing() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let state = "find /etc/mytoken /run/mytoken /var/cache /home/alice -printf '%p %m %u %s %T@\n' | sort";
        site.sh("root", "rm -rf /var/cache/mytoken /run/mytoken/cache")?.ok()?;
        sees_alone(site, "", "chmod 700 /run/mytoken", "runtime-dir-mode", 2)?;
        let before = site.sh("root", state)?.ok()?.stdout;
        assert!(before.contains("/run/mytoken 700 ") && !before.contains("/cache/mytoken"), "{before}");
        sees_alone(site, "--as alice", "true", "runtime-dir-mode", 2)?;
        assert_eq!(site.sh("root", state)?.ok()?.stdout, before);
        Ok(())
    })
}

/// Pseudo-random numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX generator; its upper bits are good enough to choose lines.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % limit
    }

    fn choose<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.get(self.below(of.len())).copied().unwrap_or_default()
    }

    /// Lines of a stack. `pam_debug` returns what its argument says.
    fn stack(&mut self) -> String {
        const CONTROLS: &[&str] = &[
            "required",
            "requisite",
            "sufficient",
            "optional",
            "[success=1 default=ignore]",
            "[success=ok default=1]",
            "[success=done auth_err=ignore default=die]",
            "[success=2 perm_denied=ok default=bad]",
            "[default=reset]",
            "[success=ok]",
        ];
        (0..=self.below(5))
            .map(|_| match self.below(8) {
                0 => "auth include evaluator-inner\n".to_owned(),
                1 => "auth substack evaluator-inner\n".to_owned(),
                _ => {
                    let value = self.choose(&["success", "auth_err", "perm_denied", "ignore", "authinfo_unavail"]);
                    format!("auth {} pam_debug.so auth={value}\n", self.choose(CONTROLS))
                }
            })
            .collect()
    }
}

/// Spellings. What libpam cannot read fails.
const FORMS: &[&str] = &[
    "AUTH Required pam_debug.so auth=success\n",
    "auth INCLUDE evaluator-inner\n",
    "auth SubStack evaluator-inner\n",
    "@INCLUDE evaluator-inner\n",
    "@include evaluator-none\n",
    "auth include evaluator-none\nauth required pam_debug.so auth=success\n",
    "account include evaluator-none\nauth required pam_debug.so auth=success\n",
    "auth [success = ok default=die] pam_debug.so auth=success\n",
    "auth [ success=ok ] pam_debug.so auth=success\n",
    "auth [sucess=ok default=ok] pam_debug.so auth=success\n",
    "auth [SUCCESS=ok default=ok] pam_debug.so auth=success\n",
    "auth [success=OK default=ok] pam_debug.so auth=success\n",
    "auth [success=ok,default=ok] pam_debug.so auth=success\n",
    "auth [success=0 default=ok] pam_debug.so auth=success\n",
    "auth [success=ok \\\n default=die] pam_debug.so auth=success\n",
    "auth optional pam_debug.so auth=success \\  \nauth required pam_deny.so\n",
    "auth optional pam_debug.so auth=success # \\\nauth required pam_deny.so\n",
    "-auth required pam_none.so\nauth required pam_debug.so auth=success\n",
    "-auth optional pam_none.so\nauth required pam_debug.so auth=success\n",
    "auth include evaluator-vendor\n",
    "auth substack evaluator-vendor\n",
    "@include evaluator-vendor\n",
    "auth include /usr/lib/pam.d/evaluator-vendor\n",
    "auth include ./evaluator-vendor\n",
    "auth include ../pam.d/evaluator-vendor\n",
    "auth include evaluator.d/vendor\n",
    "@include evaluator.d/vendor\n",
    "auth include evaluator-both\n",
    "auth include /usr/lib/pam.d/evaluator-both\n",
    "@include /etc/pam.d/evaluator-vendor\n",
];

/// Whether libpam looks for included files in both directories (SSH-36).
fn includes_from_both(site: &Site) -> bool {
    site.options().release == Release::Sid
}

/// What distributions have in the second directory.
const ELSEWHERE: &[(&str, &str)] = &[
    ("/usr/lib/pam.d/evaluator-vendor", "auth include evaluator-inner\n@include evaluator.d/vendor\n"),
    ("/usr/lib/pam.d/evaluator.d/vendor", "auth required pam_debug.so auth=success\n"),
    ("/usr/lib/pam.d/evaluator-both", "auth required pam_debug.so auth=success\n"),
    ("/etc/pam.d/evaluator-both", "auth required pam_debug.so auth=auth_err\n"),
];

#[test]
fn the_stack_evaluator_decides_as_libpam() -> Result<()> {
    story(Options { nodes: 1, product: false, ..Options::new()? }, |site| {
        let mut numbers = Numbers(26);
        let mut script = String::from("mkdir -p /usr/lib/pam.d/evaluator.d\n");
        for (path, text) in ELSEWHERE {
            script += &format!("cat >{path} <<'END'\n{text}END\n");
        }
        let mut expected = Vec::new();
        let random = (0..400).map(|_| (numbers.stack(), numbers.stack().replace("evaluator-inner", "evaluator-last")));
        let forms =
            FORMS.iter().map(|form| ((*form).to_owned(), "auth required pam_debug.so auth=success\n".to_owned()));
        for (outer, inner) in random.chain(forms).collect::<Vec<_>>() {
            let last = "auth required pam_debug.so auth=success\n";
            let files = [
                ("/etc/pam.d/evaluator", outer.as_str()),
                ("/etc/pam.d/evaluator-inner", inner.as_str()),
                ("/etc/pam.d/evaluator-last", last),
            ];
            let read = |path: &Path| {
                // As the kernel reads such a path.
                let path = path.to_str()?.replace("/./", "/").replace("/pam.d/../", "/");
                let all = files.iter().chain(ELSEWHERE);
                all.clone().find(|(file, _)| *file == path).map(|(_, text)| (*text).to_owned())
            };
            let services = ["/etc/pam.d", "/usr/lib/pam.d"].map(Path::new);
            let includes = if includes_from_both(site) { &services[..] } else { &services[..1] };
            let directories = Directories { services: &services, includes };
            let stack = Stack::read(directories, "evaluator", Group::Auth, &read);
            let argument = |line: &ModuleLine| {
                let value = line.arguments.first().and_then(|argument| argument.strip_prefix("auth=")).unwrap_or("?");
                // The evaluator takes words that live as long as the program.
                ["success", "auth_err", "perm_denied", "ignore", "authinfo_unavail"]
                    .into_iter()
                    .find(|word| *word == value)
            };
            let ours = stack.run(|line| argument(line).unwrap_or("?"));
            expected.push((ours == "success" && stack.mistakes.is_empty(), format!("{outer}--- inner\n{inner}")));
            for (name, text) in files {
                script += &format!("cat >{name} <<'END'\n{text}END\n");
            }
            script += "if pamtester evaluator alice authenticate >/dev/null 2>&1; then echo yes; else echo no; fi\n";
        }
        let real =
            site.command("root", ["bash", "-s"]).stdin(script).timeout(Duration::from_secs(120)).run()?.ok()?.stdout;
        assert_eq!(real.lines().count(), expected.len());
        for (real, (ours, stacks)) in real.lines().zip(&expected) {
            assert_eq!(real == "yes", *ours, "{stacks}");
        }
        // Otherwise the comparison would say nothing.
        let successes = expected.iter().filter(|(success, _)| *success).count();
        assert!((50..350).contains(&successes), "{successes}");
        Ok(())
    })
}
