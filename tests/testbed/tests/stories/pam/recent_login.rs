// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins with a key that need a recent one with a token. No rule asks motley_cue.

use testbed::drive::tokens;
use testbed::{Options, Result, Site, story_with_own_servers};

use super::{login_with_answers, login_with_key, one_node};

/// su asks for nothing but the account. It is listed, too, and its caller has logged in already.
const SU: &str = "auth sufficient pam_rootok.so\nauth required pam_deny.so\naccount required pam_mytoken.so\n\
                  account required pam_permit.so\nsession required pam_permit.so\n";

fn set_account(site: &Site, lines: &str) -> Result<()> {
    site.sh("root", "mkdir -p /etc/mytoken/login.d")?.ok()?;
    let text = format!("services = [\"sshd\", \"su\"]\n[account]\n{lines}");
    site.write("/etc/mytoken/login.d/account.toml", &text, "0644")
}

/// Whether a line of the log has all these parts.
fn is_logged(site: &Site, parts: &[&str]) -> Result<bool> {
    let log = site.system_log()?;
    Ok(log.lines().any(|line| parts.iter().all(|part| line.contains(part))))
}

#[test]
fn a_key_needs_a_recent_login_with_a_token() -> Result<()> {
    // Many refused logins of one address.
    story_with_own_servers(Options { penalties: false, ..one_node()? }, |site| {
        let token = [tokens::access_token(site, "alice")?];
        assert!(login_with_key(site, "alice", "true")?.success(), "by default nothing is asked");
        login_with_answers(site, &token, "true")?.ok()?;
        assert!(!site.exists("/var/lib/mytoken/logins")?, "nothing is kept");

        set_account(site, "key_logins = \"recent-login:1h\"\nexempt = [\"carol\"]\n")?;
        site.write("/etc/pam.d/su", SU, "0644")?;
        let refused = login_with_key(site, "alice", "true")?;
        assert!(!refused.success() && refused.stderr.contains("only within 1h"), "{refused:?}");
        let decision = ["pam_mytoken(sshd:account): refuse user=alice uid=", " reason=no_recent_login issuer=- sub=- "];
        assert!(is_logged(site, &decision)?, "{}", site.logs());
        assert!(login_with_key(site, "carol", "true")?.success(), "an exempt account");
        assert!(site.sh("root", "su alice -c true")?.success(), "su is no login over ssh");

        login_with_answers(site, &token, "true")?.ok()?;
        assert!(login_with_key(site, "alice", "true")?.success());
        assert!(!login_with_key(site, "bob", "true")?.success(), "bob has not logged in");
        let mode = site.sh("root", "stat -c '%a %U' /var/lib/mytoken/logins /var/lib/mytoken/logins/*")?.ok()?.stdout;
        assert_eq!(mode, "700 root\n600 root\n");
        // Two hours later.
        let age = "sed -i -E 's/\"accepted\":[0-9]+/\"accepted\":'$(($(date +%s) - 7200))/ /var/lib/mytoken/logins/*";
        site.sh("root", age)?.ok()?;
        assert!(!login_with_key(site, "alice", "true")?.success());

        // A damaged file is not an absent one, and the next login with a token mends it.
        site.sh("root", "for file in /var/lib/mytoken/logins/*; do : >$file; done")?.ok()?;
        let refused = login_with_key(site, "alice", "true")?;
        assert!(!refused.success() && refused.stderr.contains("tell its administrator"), "{refused:?}");
        assert!(is_logged(site, &[": refuse user=alice uid=", " reason=logins_unreadable "])?);
        login_with_answers(site, &token, "true")?.ok()?;
        assert!(login_with_key(site, "alice", "true")?.success());

        // Others could have taken key_logins out of the file.
        site.sh("root", "chmod 664 /etc/mytoken/login.d/account.toml")?.ok()?;
        assert!(!login_with_key(site, "alice", "true")?.success());
        assert!(is_logged(site, &[": refuse user=alice uid=", " reason=key_logins_invalid "])?);
        site.sh("root", "rm -r /var/lib/mytoken/logins")?.ok()?;
        assert!(login_with_key(site, "alice", "true")?.success(), "key_logins was never set, as far as is known");
        assert!(is_logged(site, &["key_logins cannot be read, and logins without a token are not checked: "])?);
        Ok(())
    })
}
