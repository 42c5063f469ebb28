// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` about PAM's stacks: its commands, pasted.

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
        sees_alone(site, "", &before("auth", "sufficient pam_permit.so"), "pam-line-not-reached", 2)?;
        let members = "sufficient pam_succeed_if.so quiet user ingroup wheel";
        let found = sees_alone(site, "", &before("auth", members), "pam-refused-token-logs-in", 2)?;
        assert!(found[0].text.contains("a refused token logs in (user_unknown, auth_err, "), "{found:?}");
        Ok(())
    })
}
