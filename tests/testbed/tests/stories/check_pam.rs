// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` about PAM's stacks: its commands, pasted.

use std::path::Path;
use std::time::Duration;

use mytokend::control::check::pam_answers::answers;
use mytokend::control::check::pam_stack::{Directories, Group, Stack};
use testbed::{Options, Result, story};

use crate::checked::{findings, healthy, sees_alone};

const STACK: &str = "/etc/pam.d/sshd";

/// The stack of README.Debian's way 2 includes common-account and common-session, into which pam-auth-update would write a second line.
#[test]
fn a_missing_line_of_a_stack_for_tokens_and_keys_comes_back_once() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let common = || Ok::<_, testbed::Error>(site.sh("root", "cat /etc/pam.d/common-*")?.ok()?.stdout);
        let before = common()?;
        for (group, status) in [("auth", 2), ("account", 2), ("session", 1)] {
            let break_it = format!("sed -i '/^{group} .*pam_mytoken/d' {STACK}");
            let found = sees_alone(site, "", &break_it, &format!("pam-{group}-missing"), status)?;
            for _ in 0..2 {
                site.sh("root", &found[0].fix)?.ok()?;
                assert_eq!(findings(site, "")?, (vec![], 0), "{group}: {}", found[0].fix);
            }
            let lines = site.sh("root", &format!("grep -c '^{group} .*pam_mytoken' {STACK}"))?.ok()?.stdout;
            assert_eq!(lines.trim(), "1", "{group}");
        }
        assert_eq!(common()?, before);
        Ok(())
    })
}

const PROFILES: [(&str, &str); 2] = [
    ("mytoken", include_str!("../../../../packaging/pam-configs/mytoken")),
    ("mytoken-session", include_str!("../../../../packaging/pam-configs/mytoken-session")),
];

/// The line before ours, a condition for it, stays. pam-auth-update brings ours back.
#[test]
fn a_missing_line_of_pam_auth_update_comes_back() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        for (profile, text) in PROFILES {
            site.write(&format!("/usr/share/pam-configs/{profile}"), text, "0644")?;
        }
        let update = "pam-auth-update --enable mytoken mytoken-session";
        site.sh("root", &format!("printf '@include common-%s\\n' auth account session >{STACK}"))?.ok()?;
        site.sh("root", &format!("export DEBIAN_FRONTEND=noninteractive; {update}"))?.ok()?;
        assert_eq!(findings(site, "")?, (vec![], 0));
        for (group, status) in [("auth", 2), ("account", 2), ("session", 1)] {
            let break_it = format!("sed -i '/pam_mytoken/d' /etc/pam.d/common-{group}");
            let found = sees_alone(site, "", &break_it, &format!("pam-{group}-missing"), status)?;
            assert_eq!(found[0].fix, update, "{group}");
            site.sh("root", &format!("export DEBIAN_FRONTEND=noninteractive; {update}"))?.ok()?;
            assert_eq!(findings(site, "")?, (vec![], 0), "{group}");
        }
        Ok(())
    })
}

/// Modules that are not known may refuse, so the login comes to the line after them.
#[test]
fn a_module_before_ours_that_may_refuse_is_no_fault() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        site.sh("root", &format!("cp {STACK} /root/stack"))?.ok()?;
        let before = |group: &str, line: &str| {
            format!("cp /root/stack {STACK}; sed -i '0,/^{group}/s//{group} {line}\\n&/' {STACK}")
        };
        for (group, line) in [
            ("auth", "sufficient pam_radius_auth.so"),
            ("account", "sufficient pam_localuser.so"),
            ("session", "sufficient pam_x.so"),
        ] {
            site.sh("root", &before(group, line))?.ok()?;
            assert_eq!(findings(site, "")?, (vec![], 0), "{line}");
        }
        for (group, line, id, text) in [
            ("auth", "sufficient pam_permit.so", "pam-login-without-token", "pam_permit.so lets everybody in"),
            (
                "auth",
                "sufficient pam_succeed_if.so quiet user ingroup wheel",
                "pam-login-without-token",
                "pam_succeed_if.so lets some people in",
            ),
            ("auth", "required pam_deny.so", "pam-accepted-token-refused", "refuses it"),
            ("account", "sufficient pam_permit.so", "pam-line-not-reached", "after pam_permit.so in"),
        ] {
            let found = sees_alone(site, "", &before(group, line), id, 2)?;
            assert!(found[0].text.contains(text), "{found:?}");
            // The command opens the line that does it.
            let shows = "edit() { sed -n \"${1#+}p\" \"$2\"; }; EDITOR=edit";
            let shown = site.sh("root", &format!("{shows}; {}", found[0].fix))?.ok()?.stdout;
            assert_eq!(shown.trim_end(), format!("{group} {line}"), "{found:?}");
        }
        Ok(())
    })
}

/// Lines of modules of Linux-PAM; not all are on each release.
const LINES: &[&str] = &[
    "pam_access.so",
    "pam_canonicalize_user.so",
    "pam_cap.so",
    "pam_deny.so",
    "pam_echo.so hello",
    "pam_echo.so file=/nonexistent",
    "pam_env.so",
    "pam_faildelay.so delay=1",
    "pam_faillock.so preauth deny=99",
    "pam_faillock.so authfail deny=99",
    "pam_faillock.so authsucc deny=99",
    "pam_group.so",
    "pam_issue.so",
    "pam_keyinit.so",
    "pam_lastlog.so inactive=9999",
    "pam_limits.so",
    "pam_listfile.so item=user sense=allow onerr=fail file=/root/nobody",
    "pam_listfile.so item=user sense=deny onerr=fail file=/root/nobody",
    "pam_localuser.so",
    "pam_localuser.so file=/root/nobody",
    "pam_loginuid.so",
    "pam_mail.so",
    "pam_mkhomedir.so",
    "pam_motd.so",
    "pam_namespace.so",
    "pam_nologin.so",
    "pam_nologin.so successok",
    "pam_permit.so",
    "pam_pwhistory.so",
    "pam_rootok.so",
    "pam_securetty.so",
    "pam_sepermit.so",
    "pam_setquota.so",
    "pam_shells.so",
    "pam_succeed_if.so quiet uid >= 1000",
    "pam_succeed_if.so quiet uid < 1000",
    "pam_succeed_if.so quiet service in login:answers",
    "pam_succeed_if.so quiet service notin login:answers",
    "pam_succeed_if.so quiet service != answers",
    "pam_systemd.so",
    "pam_time.so",
    "pam_tty_audit.so",
    "pam_umask.so",
    "pam_usertype.so isregular",
    "pam_usertype.so issystem",
    "pam_warn.so",
    "pam_xauth.so",
];

/// SSH-41. As root, as sshd's process: a module's answer is the only value with which its line is jumped from.
#[test]
fn modules_answer_the_auth_phase_as_the_check_expects() -> Result<()> {
    story(Options { nodes: 1, product: false, ..Options::new()? }, |site| {
        let mut script =
            String::from("touch /root/nobody /var/log/lastlog; cd /usr/lib/x86_64-linux-gnu/security || exit\n");
        let mut expected = Vec::new();
        for line in LINES {
            let read = |_: &Path| Some(format!("auth required {line}\n"));
            let directories = [Path::new("/etc/pam.d")];
            let directories = Directories { services: &directories, includes: &directories };
            let stack = Stack::read(directories, "answers", Group::Auth, &read);
            let known: Vec<_> = stack.lines().filter_map(|line| answers(line, Group::Auth, "answers")).collect();
            let [[first, second]] = known[..] else { panic!("{line}: {known:?}") };
            let file = line.split(' ').next().unwrap_or_default();
            // No module gives the last answer: a test that every value passes would say nothing.
            for value in [first, second, "cred_err"] {
                let stack = format!(
                    "auth [{value}=1 default=die] {line}\\nauth requisite pam_deny.so\\nauth required pam_permit.so"
                );
                script += &format!(
                    "printf '{stack}\\n' >/etc/pam.d/answers; if ! test -e {file}; then echo absent; \
                     elif pamtester -I rhost=192.0.2.7 -I tty=ssh answers alice authenticate </dev/null >/dev/null 2>&1; then echo yes; else echo no; fi\n"
                );
            }
            expected.push(line);
        }
        let real =
            site.command("root", ["bash", "-s"]).stdin(script).timeout(Duration::from_secs(120)).run()?.ok()?.stdout;
        let real: Vec<&str> = real.lines().collect();
        assert_eq!(real.len(), expected.len() * 3);
        let mut present = 0;
        for (real, line) in real.chunks(3).zip(expected) {
            match real {
                ["absent", ..] => {}
                [first, second, other] => {
                    present += 1;
                    assert!([first, second].contains(&&"yes") && *other == "no", "{line}: {real:?}");
                }
                _ => panic!("{real:?}"),
            }
        }
        assert!(present > LINES.len() * 3 / 4, "{present} modules are here");
        Ok(())
    })
}

/// SSH-42: what the account phase decides with these files, by libpam and by the check. The files: the service's and `other`.
#[test]
fn a_group_without_a_line_is_that_of_other() -> Result<()> {
    const OTHER_GROUP: &str = "auth required pam_permit.so\n";
    story(Options { nodes: 1, product: false, ..Options::new()? }, |site| {
        let line = |module: &str| format!("account required pam_{module}.so\n");
        let permit = Some(line("permit"));
        let mut rows = vec![(None, permit.clone()), (permit.clone(), Some(line("deny"))), (Some(line("deny")), None)];
        let services = [
            "# nothing\n",
            OTHER_GROUP,
            "account include inner\n",
            "account substack inner\n",
            "account requird pam_permit.so\n",
            "account required\n",
            "acount required pam_permit.so\n",
            "account include no-such\n",
        ];
        rows.extend(services.map(|service| (Some(service.to_owned()), permit.clone())));
        rows.extend(
            ["@include no-such\n", "account include no-such\n"].map(|text| (permit.clone(), Some(text.into()))),
        );
        let mut script =
            format!("printf '{}' >/etc/pam.d/inner; mv /etc/pam.d/other /root/\n", OTHER_GROUP.escape_debug());
        let mut expected = Vec::new();
        for (service, other) in &rows {
            for (name, text) in [("fallback", service), ("other", other)] {
                script += &match text {
                    Some(text) => format!("printf '{}' >/etc/pam.d/{name}\n", text.escape_debug()),
                    None => format!("rm -f /etc/pam.d/{name}\n"),
                };
            }
            script += "if pamtester fallback alice acct_mgmt >/dev/null 2>&1; then echo yes; else echo no; fi\n";
            let read = |path: &Path| match path.to_str()? {
                "/etc/pam.d/fallback" => service.clone(),
                "/etc/pam.d/other" => other.clone(),
                "/etc/pam.d/inner" => Some(OTHER_GROUP.to_owned()),
                _ => None,
            };
            let directories = [Path::new("/etc/pam.d")];
            let directories = Directories { services: &directories, includes: &directories };
            let stack = Stack::read(directories, "fallback", Group::Account, &read);
            let decision = stack.run(|line| if line.name() == "pam_permit" { "success" } else { "auth_err" });
            // A line that cannot be read fails, of the auth group if it names none.
            let fails = |text: &str| !text.contains("acount");
            let is_open = decision == "success" && !stack.mistakes.iter().any(|mistake| fails(&mistake.text));
            expected.push(if is_open { "yes" } else { "no" });
        }
        script += "rm -f /etc/pam.d/other; mv /root/other /etc/pam.d/\n";
        let real =
            site.command("root", ["bash", "-s"]).stdin(script).timeout(Duration::from_secs(60)).run()?.ok()?.stdout;
        assert_eq!(real.lines().collect::<Vec<_>>(), expected, "{rows:#?}");
        assert!(expected.contains(&"yes") && expected.contains(&"no"));
        Ok(())
    })
}
