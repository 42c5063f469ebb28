// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configuration as administrators write it: symbolic links, map files from other systems, mistakes.

use serde_json::json;
use testbed::drive::{askpass, people, tokens};
use testbed::site::command::CommandOutcome;
use testbed::site::servers::AUDIENCE;
use testbed::{Error, Options, Result, Site, story_with_own_servers};

const RULE_BY_FILE: &str = "[[rule]]\nname = \"map\"\nissuer = \"op\"\nmap_file = \"/etc/mytoken/users.map\"\n";

/// Logins need no cluster.
fn one_node() -> Result<Options> {
    Ok(Options { nodes: 1, ..Options::new()? })
}

/// Runs ssh as alice to `account`, with these answers at the prompts.
fn log_in(site: &Site, account: &str, answers: &[&str]) -> Result<CommandOutcome> {
    // SSH-32: the account is in alice's configuration, because OpenSSH 10.6 rejects a backslash after -l.
    site.script("alice", "mkdir -p .ssh && cat >.ssh/config").stdin(format!("User {account}\n")).run()?.ok()?;
    let ssh = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1";
    askpass::run_with_answers(site, "alice", answers, &format!("{ssh} testbed id -un"))
}

/// `login.toml` without its rules.
fn without_rules(site: &Site) -> Result<String> {
    let text = site.read("/etc/mytoken/login.toml")?;
    let end = text.find("[[rule]]").ok_or_else(|| Error::Refused("the site has no rule".into()))?;
    Ok(text.get(..end).unwrap_or_default().to_owned())
}

fn add_accounts(site: &Site, names: &[&str]) -> Result<()> {
    for name in names {
        site.sh("root", &format!("useradd --badname --create-home --password '*' '{name}'"))?.ok()?;
    }
    Ok(())
}

fn log_lines(site: &Site, part: &str) -> Result<usize> {
    Ok(site.system_log()?.lines().filter(|line| line.contains(part)).count())
}

#[test]
fn a_wrong_line_in_a_map_file_does_not_affect_other_lines_and_unusual_account_names() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let accounts = ["4dave", "Dave", "dave@example.org", "DOM\\dave"];
        add_accounts(site, &accounts)?;
        site.write("/etc/mytoken/login.toml", &(without_rules(site)? + RULE_BY_FILE), "0644")?;
        // With a byte order mark and CRLF, as an editor on Windows writes it.
        let map = "\u{feff}# users of the site\r\nop alice 4dave # the boss\r\nop alice alice the boss\r\n\
                   op alice \"dave@example.org\"\r\nop alice\tDave\r\nop alice DOM\\dave\r\n";
        site.write("/etc/mytoken/users.map", map, "0644")?;
        let token = tokens::access_token(site, "alice")?;
        for account in accounts {
            assert_eq!(log_in(site, account, &[&token])?.ok()?.lines(), [account]);
        }
        let refused = log_in(site, "alice", &[&token])?;
        assert!(refused.stderr.contains("not mapped to the account \"alice\""), "{refused:?}");
        // An invalid token is refused before the map file is read, so this login logs no line about it.
        assert!(!log_in(site, "alice", &["nonsense"])?.success());
        // Each of the five logins with a valid token logs one line.
        let message = "map file /etc/mytoken/users.map: 1 line not used: 3:16: a fourth field";
        assert_eq!(log_lines(site, message)?, 5, "{}", site.system_log()?);
        let check = site.run("root", ["mytokenctl", "check"])?;
        assert!(!check.success() && check.stdout.contains("/etc/mytoken/users.map:3:16: a fourth field"), "{check:?}");
        let explained = site.script("root", "mytokenctl explain --user alice").stdin(token).run()?;
        assert!(!explained.success() && explained.stdout.contains(message), "{explained:?}");
        Ok(())
    })
}

#[test]
fn a_template_maps_to_non_posix_names_only_when_configured() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        add_accounts(site, &["dave@example.org"])?;
        let order = json!({"claims": {"aud": AUDIENCE, "preferred_username": "dave@example.org"}});
        let minted = people::control(site, "/provider/mint", Some(&order.to_string()))?;
        let minted: serde_json::Value = serde_json::from_str(&minted).unwrap_or_default();
        let token = minted.get("token").and_then(|token| token.as_str()).unwrap_or_default();
        assert!(!log_in(site, "dave@example.org", &[token])?.success(), "a name with `@` was accepted by default");
        let login = site.read("/etc/mytoken/login.toml")?;
        let login = login.replace("[[rule]]", "[accounts]\nnames = \"nss\"\n[[rule]]");
        site.write("/etc/mytoken/login.toml", &login, "0644")?;
        assert_eq!(log_in(site, "dave@example.org", &[token])?.ok()?.lines(), ["dave@example.org"]);
        Ok(())
    })
}

#[test]
fn linked_configuration_is_used_only_when_root_owns_the_whole_path() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = tokens::access_token(site, "alice")?;
        // As configuration management does: the directory and a file in it are links.
        let managed = "set -e; mkdir -p /srv/managed/files; mv /etc/mytoken /srv/managed/mytoken; cd /srv/managed/mytoken
            mv login.toml ../files/login.toml; ln -s ../files/login.toml login.toml; ln -s /srv/managed/mytoken /etc/mytoken";
        site.sh("root", managed)?.ok()?;
        assert_eq!(log_in(site, "alice", &[&token])?.ok()?.lines(), ["alice"]);
        let check = site.run("root", ["mytokenctl", "check"])?;
        assert!(check.stdout.contains("login.toml\n") && check.stdout.contains("cluster.key"), "{check:?}");
        assert!(!check.stdout.contains("is not used"), "{check:?}");

        // root owns the files, but alice owns a directory of the path.
        let in_alices_home =
            "set -e; cp -a /srv/managed /home/alice/managed; ln -sfn /home/alice/managed/mytoken /etc/mytoken";
        site.sh("root", in_alices_home)?.ok()?;
        assert!(!log_in(site, "alice", &[&token])?.success(), "a configuration in alice's directory was used");
        let message = "/etc/mytoken/mytoken.toml is not used: the directory /home/alice (reached by the link /etc/mytoken) \
                    belongs to user 2001, not to root; put the file elsewhere";
        assert!(log_lines(site, message)? > 0, "{}", site.system_log()?);
        let check = site.run("root", ["mytokenctl", "check"])?;
        assert!(!check.success() && check.stdout.contains(message), "{check:?}");
        Ok(())
    })
}
