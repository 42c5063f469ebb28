// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check --as USER`: findings about the user's own files, each on a site where this alone is wrong.

use testbed::drive::people::{self, Session};
use testbed::{Options, Result, Site, story};

use crate::checked::{findings, healthy, sees_alone};

const TOKENS: &str = "~alice/.config/mytoken/tokens";
const SESSION: &str = "/run/mytoken/sessions/$(id -u alice)/*";

/// How a user's files are broken, the id of the one finding, and how they are mended.
const BROKEN: &[(&str, &str, &str)] = &[
    ("chmod 000 ~alice", "user-home", "chmod 755 ~alice"),
    ("chmod 755 TOKENS", "user-store", "chmod 700 TOKENS"),
    ("chmod 644 TOKENS/*.json", "user-store", "chmod 600 TOKENS/*.json"),
    (
        "cd TOKENS; mkdir /root/kept; mv *.json /root/kept; echo '{' >broken.json; chown alice *; chmod 600 *.json",
        "user-store",
        "cd TOKENS; rm *.json; mv /root/kept/* .; rmdir /root/kept",
    ),
    (
        "cd TOKENS/..; mv tokens elsewhere; ln -s elsewhere tokens",
        "user-store",
        "cd TOKENS/..; rm tokens; mv elsewhere tokens",
    ),
    ("echo 'sever = 1' >TOKENS/../config.toml", "user-settings", "rm TOKENS/../config.toml"),
    ("echo 'profile = 7' >TOKENS/../jobs.toml", "user-profiles", "rm TOKENS/../jobs.toml"),
    (
        "rm -rf /tmp/helper; mv /usr/bin/mytoken-ssh /tmp/helper; printf '#!/bin/sh\\nexec sleep 60' >/usr/bin/mytoken-ssh; \
         chmod 755 /usr/bin/mytoken-ssh",
        "user-helper",
        "mv /tmp/helper /usr/bin/mytoken-ssh",
    ),
    // The helper runs with alice's rights, and kills the process that waits for it.
    (
        "mv /usr/bin/mytoken-ssh /tmp/helper; printf '#!/bin/sh\\nkill -KILL $PPID' >/usr/bin/mytoken-ssh; \
         chmod 755 /usr/bin/mytoken-ssh",
        "user-not-checked",
        "mv /tmp/helper /usr/bin/mytoken-ssh",
    ),
    ("mkfifo -m 600 TOKENS/fifo.json; chown alice TOKENS/fifo.json", "user-store", "rm TOKENS/fifo.json"),
    (
        "echo 'server = 1' >TOKENS/../config.toml; chmod 666 TOKENS/../config.toml",
        "user-settings",
        "rm TOKENS/../config.toml",
    ),
    (
        "mkdir -p -m 755 /run/user/$(id -u alice); chown alice /run/user/$(id -u alice)",
        "user-runtime-dir",
        "chmod 700 /run/user/$(id -u alice)",
    ),
    ("chmod 755 SESSION", "user-session", "chmod 700 SESSION"),
    ("chmod 640 SESSION/bt_u*", "user-session", "chmod 600 SESSION/bt_u*"),
    (
        "cd SESSION; mv mt_u* /root/; ln -s /etc/shadow mt_u$(id -u alice)",
        "user-session",
        "cd SESSION; rm mt_u*; mv /root/mt_u* .",
    ),
    (
        "cd SESSION; cp -p mt_u* /root/; echo nonsense >$(echo mt_u*)",
        "user-session-mytoken",
        "cd SESSION; cat /root/mt_u* >$(echo mt_u*)",
    ),
];

fn command(row: &str) -> String {
    row.replace("TOKENS", TOKENS).replace("SESSION", SESSION)
}

#[test]
fn each_fault_of_a_users_files_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, request_limit: "1000/300s", ..Options::new()? }, |site| {
        healthy(site)?;
        assert_eq!(findings(site, "--as alice")?, (vec![], 0), "before the first login");
        assert!(!site.exists("/home/alice/.config/mytoken")?, "the check makes nothing");
        people::first_mytoken(site, "alice")?;
        let session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed bash -s")?;
        site.sh("root", "test -f /run/mytoken/sessions/$(id -u alice)/*/mt_u*")?.ok()?;
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        for (break_it, id, mend) in BROKEN {
            for found in sees_alone(site, "--as alice", &command(break_it), id, 1)? {
                assert!(
                    found.fix.starts_with("setsid -w runuser -u alice -- ") && !found.fix.contains('\n'),
                    "{found:?}"
                );
                assert!(!found.text.contains('\n') && !found.text.contains("root:"), "{found:?}");
            }
            // The findings are about alice, so others have none.
            assert_eq!(findings(site, "")?.0, [], "{break_it}");
            site.sh("root", &format!("set -e; {}", command(mend)))?.ok()?;
        }
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        session.close()
    })
}

/// Root reaches this socket, and the user does not.
#[test]
fn an_agent_that_does_not_answer_the_user_is_found_once() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let closed = "--as alice --socket /root/agent.sock";
        sees_alone(site, closed, "ln -s /run/mytoken/agent.sock /root/agent.sock", "user-agent", 1)?;
        sees_alone(site, "--as alice", "chmod 600 /run/mytoken/agent.sock", "agent-socket-mode", 1)?;
        site.sh("root", "chmod 666 /run/mytoken/agent.sock")?.ok()?;
        sees_alone(site, "--as alice", "chmod 700 /run/mytoken", "runtime-dir-mode", 2)?;
        site.sh("root", "chmod 711 /run/mytoken")?.ok()?;
        site.stop("agent", "TERM")?;
        sees_alone(site, "--as alice", "true", "agent-not-running", 2)?;
        secrets_stay_hidden(site)
    })
}

/// A user can trace what runs with her rights. On root's terminal she could so write commands into root's shell.
#[test]
fn what_runs_with_the_users_rights_has_no_terminal_of_root() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        // In the helper's place, a program that shows session, terminal and descriptors of itself.
        let spy = "mv /usr/bin/mytoken-ssh /root/ && cat >/usr/bin/mytoken-ssh && chmod 755 /usr/bin/mytoken-ssh";
        let script = "#!/bin/sh\nread -r _ _ _ _ _ session terminal _ </proc/self/stat\n\
                      { echo terminal $terminal; echo session $session; ls -l /proc/$$/fd | sed -n 's/.* -> //p'; \
                      } >/tmp/seen 2>&1\n";
        site.sh("root", &format!("printf '%s' '{}' | {{ {spy}; }}", script.replace('\'', "'\\''")))?.ok()?;
        let root = "exec 9<>/dev/tty; read -r _ _ _ _ _ session terminal _ </proc/self/stat; \
                    echo of root $session $terminal; mytokenctl check --as alice; exit 0";
        let shown = site.sh("root", &format!("script -qec '{root}' /dev/null </dev/null"))?.ok()?.stdout;
        let of_root = shown.lines().find_map(|line| line.strip_prefix("of root ")).unwrap_or_default();
        let (session, terminal) = of_root.trim().split_once(' ').unwrap_or_default();
        let seen = site.read("/tmp/seen")?;
        assert!(!session.is_empty() && !["", "0"].contains(&terminal), "root has a terminal: {shown}");
        assert!(seen.starts_with("terminal 0\n") && seen.contains("\nsession "), "{seen}");
        assert!(!seen.contains(&format!("session {session}\n")) && !seen.contains("/dev/pts"), "{shown}{seen}");
        assert!(!seen.contains("/dev/tty"), "{seen}");
        Ok(())
    })
}

/// A file of another user that a link of alice's leads to is not shown.
fn secrets_stay_hidden(site: &Site) -> Result<()> {
    let link = "install -d -m 700 -o alice ~alice/.config ~alice/.config/mytoken ~alice/.config/mytoken/tokens; \
                echo 'secret-of-root' >/root/secret; chmod 600 /root/secret; \
                ln -s /root/secret ~alice/.config/mytoken/config.toml; ln -s /root/secret ~alice/.config/mytoken/tokens/a.json";
    site.sh("root", link)?.ok()?;
    let screen = site.sh("root", "mytokenctl check --as alice; mytokenctl check --json --as alice")?;
    assert!(screen.stdout.contains("user-store"), "{screen:?}");
    assert!(!screen.stdout.contains("secret-of-root"), "{screen:?}");
    Ok(())
}
