// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins with a link: plain ssh on a terminal, and a browser elsewhere.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use testbed::drive::journal::{Journal, fingerprint};
use testbed::drive::people;
use testbed::{Error, Need, Options, Result, Site, story_needing, story_with_own_servers};

/// ssh on a terminal of 80 columns and 24 lines. It presses Enter at the prompt for a token, writes the link to the file `link`,
/// and presses Enter again when the file `confirmed` exists, at each prompt that follows. It waits as a person does: an answer
/// within a second counts as that of a program. All that the terminal shows goes to standard output.
const EXPECT: &str = r#"
set timeout 100
set stty_init "rows 24 columns 80"
set pid [spawn -noecho ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 {*}$argv]
set file [open ssh.pid w]; puts $file $pid; close $file
proc ended {} { catch wait result; exit [lindex $result 3] }
expect {
    "Access Token:" { send "\r" }
    eof { ended }
    timeout { exit 4 }
}
expect {
    -re {(https://[^\r\n]+/c/[A-Za-z0-9_-]+)\r?\n} {
        set file [open link.new w]; puts $file $expect_out(1,string); close $file
        file rename -force link.new link
    }
    eof { ended }
    timeout { exit 5 }
}
while {![file exists confirmed]} { after 100 }
expect {
    "Enter here:" { after 1500; send "\r"; exp_continue }
    "press Enter:" { after 1500; send "\r"; exp_continue }
    eof { ended }
    timeout { exit 6 }
}
"#;

/// One node of a cluster, whose site lets people log in with a link.
fn site_with_links() -> Result<Options> {
    Ok(Options { nodes: 1, sshd_log_level: "DEBUG3", ..Options::new()? })
}

fn accept_links(site: &Site, more: &str) -> Result<()> {
    let accept =
        "sed -i 's/^server = .*/&\\naccept = [\"mytoken\", \"transfer_code\", \"link\"]/' /etc/mytoken/login.toml";
    site.sh("root", accept)?.ok()?;
    site.write("/etc/mytoken/login.d/50-link.toml", &format!("[link]\n{more}\n"), "0644")?;
    site.write("/home/alice/ssh.exp", EXPECT, "0644")
}

/// An ssh of alice that waits for its person, who sits at a terminal.
struct Waiting {
    child: Child,
    lines: Receiver<String>,
    link: String,
}

impl Waiting {
    /// Starts ssh and waits for the link. `locale` is that of the terminal.
    fn begin(site: &Site, destination: &str, locale: &str) -> Result<Self> {
        site.sh("alice", "rm -f link confirmed")?.ok()?;
        let command = format!("export LC_ALL={locale}; exec expect ssh.exp {destination} 2>&1");
        let mut child = site.script("alice", &command).timeout(Duration::from_secs(120)).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Error::Refused("a command without standard output".into()))?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                drop(sender.send(String::from_utf8_lossy(&line).into_owned()));
                line.clear();
            }
        });
        let waited = site.wait_for("the link", Duration::from_secs(40), "alice", "test -s link");
        if let Err(error) = waited {
            let seen: String = lines.try_iter().collect();
            return Err(Error::Refused(format!("{error}\n{seen}")));
        }
        let link = site.sh("alice", "cat link")?.ok()?.stdout.trim().to_owned();
        Ok(Self { child, lines, link })
    }

    /// Presses Enter, and waits for the end of ssh: its status, and what the terminal has shown.
    fn enter(mut self, site: &Site) -> Result<(i32, String)> {
        site.sh("alice", "touch confirmed")?.ok()?;
        let status = self.child.wait().map_err(|error| Error::Refused(format!("waiting for ssh: {error}")))?;
        let begun = Instant::now();
        let mut seen = String::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5).saturating_sub(begun.elapsed())) {
            seen.push_str(&line);
        }
        Ok((status.code().unwrap_or(-1), seen))
    }
}

/// What of the log the module has written.
fn decisions(site: &Site) -> Result<String> {
    let log = site.system_log()?;
    Ok(log.lines().filter(|line| line.contains("pam_mytoken(")).map(|line| format!("{line}\n")).collect())
}

#[test]
fn somebody_with_only_ssh_logs_in_by_link_and_submits_a_job_at_once() -> Result<()> {
    story_with_own_servers(site_with_links()?, |site| {
        // The mytoken server sees the nodes at addresses of their own.
        let hosts = "hosts = [\"this\", \"127.0.0.0/8\", \"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \
                     \"198.18.0.0/15\", \"198.51.100.0/24\", \"192.0.2.0/24\"]";
        accept_links(site, &format!("create_mytoken = true\n{hosts}\n[session]\nrevoke_at_logout = true"))?;
        let work = "'id -un; stat -c %a $MYTOKEN_FILE; cp $MYTOKEN_FILE token; \
                    srun --mytoken -n1 sh -c \"wc -l <\\$BEARER_TOKEN_FILE\"'";
        let waiting = Waiting::begin(site, &format!("testbed {work}"), "C.UTF-8")?;
        let code = waiting.link.rsplit('/').next().unwrap_or_default().to_owned();
        people::browser(site, "alice", &waiting.link)?;
        let begun = Instant::now();
        let (status, seen) = waiting.enter(site)?;
        assert_eq!(status, 0, "{seen}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        for part in ["No token? Press Enter", "\u{2588}", "alice\r\n600\r\n", "\r\n0\r\n"] {
            assert!(seen.contains(part), "no {part:?}:\n{seen}");
        }
        let log = decisions(site)?;
        assert!(log.contains("accept user=alice") && log.contains(" token=link:"), "{log}");
        // The link is a secret, even at DEBUG3.
        assert!(code.len() >= 6 && !site.system_log()?.contains(&code), "the link is in a log");
        let mytoken = fingerprint(site.sh("alice", "cat token")?.ok()?.stdout.trim());
        let until = Instant::now() + Duration::from_secs(30);
        let is_revoked = |journal: &Journal| {
            journal
                .requests()
                .iter()
                .any(|request| request.endpoint == "revocation" && request.token.as_deref() == Some(mytoken.as_str()))
        };
        while !is_revoked(&Journal::read(site)?) {
            assert!(Instant::now() < until, "the session's mytoken was not revoked at its end");
            std::thread::sleep(Duration::from_millis(500));
        }
        let nothing = "! find /run/mytoken/sessions /run/mytoken/handover -mindepth 2 | grep .";
        site.wait_for("the end of the session", Duration::from_secs(20), "root", nothing)?;
        Ok(())
    })
}

#[test]
fn the_link_and_its_code_fit_on_a_terminal_and_the_link_is_readable_without_utf_8() -> Result<()> {
    story_needing(&[Need::Browser], site_with_links()?, |site| {
        accept_links(site, "")?;
        let waiting = Waiting::begin(site, "testbed true", "C.UTF-8")?;
        people::browser(site, "alice", &waiting.link)?;
        let (status, seen) = waiting.enter(site)?;
        assert_eq!(status, 0, "{seen}");
        let shown: Vec<&str> = seen.lines().collect();
        let first = shown.iter().position(|line| line.contains('\u{2588}'));
        let last = shown.iter().position(|line| line.contains("press Enter here:"));
        let (Some(first), Some(last)) = (first, last) else { return Err(Error::Refused(seen)) };
        assert!(last - first + 2 <= 24, "{} lines:\n{seen}", last - first + 2);
        assert!(shown.iter().all(|line| line.trim_end().chars().count() <= 80), "{seen}");

        site.write("/etc/mytoken/login.d/60-qr.toml", "[link]\nqr = \"on_request\"\n", "0644")?;
        let waiting = Waiting::begin(site, "testbed true", "C")?;
        people::browser(site, "alice", &waiting.link)?;
        let (status, seen) = waiting.enter(site)?;
        assert!(status == 0 && seen.is_ascii() && !seen.contains("\\342"), "{seen}");
        Ok(())
    })
}

#[test]
fn a_link_that_somebody_else_confirms_opens_nothing() -> Result<()> {
    story_needing(&[Need::Browser], site_with_links()?, |site| {
        accept_links(site, "")?;
        let waiting = Waiting::begin(site, "testbed 'echo inside'", "C.UTF-8")?;
        people::browser(site, "bob", &waiting.link)?;
        let (status, seen) = waiting.enter(site)?;
        assert!(status != 0 && !seen.contains("inside\r"), "{seen}");
        assert!(seen.contains("not mapped to the account \"alice\""), "{seen}");
        let log = decisions(site)?;
        let refused = log.lines().find(|line| line.contains("reason=not_mapped"));
        // A foreign provider has its own names for people.
        let subject = if site.has_testserver() { " sub=bob " } else { " sub=" };
        assert!(refused.is_some_and(|line| line.contains("redeemed=revoked") && line.contains(subject)), "{log}");
        // An account that does not exist: the same, from the first prompt to the last sentence.
        let unknown = Waiting::begin(site, "nobody-here@testbed true", "C.UTF-8")?;
        people::browser(site, "bob", &unknown.link)?;
        let (status, seen) = unknown.enter(site)?;
        assert!(status != 0 && seen.contains("not mapped to the account \"nobody-here\""), "{seen}");
        assert!(site.sh("root", "! find /run/mytoken/handover -mindepth 2 | grep .")?.success(), "something is left");
        Ok(())
    })
}

#[test]
fn an_abandoned_link_is_revoked_and_costs_the_next_login_nothing() -> Result<()> {
    story_with_own_servers(site_with_links()?, |site| {
        accept_links(site, "")?;
        let first = Waiting::begin(site, "testbed true", "C.UTF-8")?;
        site.sh("alice", "mv ssh.pid first.pid")?.ok()?;
        assert!(site.sh("root", "find /run/mytoken/handover -mindepth 2 -type f | grep .")?.success(), "no record");
        // While it waits, there is no second link for the account, from another address either.
        let other = format!("rm -f link confirmed; exec expect ssh.exp {} true 2>&1", site.new_client()?.destination());
        let second = site.script("alice", &other).timeout(Duration::from_secs(60)).run()?;
        assert!(!second.success() && second.stdout.contains("another login with a link"), "{second:?}");
        Journal::clear(site)?;
        // The person closes the terminal.
        site.sh("alice", "kill $(cat first.pid)")?.ok()?;
        let revoked = "! find /run/mytoken/handover -mindepth 2 -type f | grep .";
        site.wait_for("the revocation of the link", Duration::from_secs(60), "root", revoked)?;
        let journal = Journal::read(site)?;
        assert_eq!((journal.granted("revocation"), journal.requests_to("access_token")), (1, 0), "{journal:?}");
        // Who confirms the link now is told that it is not valid.
        assert!(people::browser(site, "alice", &first.link).is_err(), "the link is still valid");
        let again = Waiting::begin(site, "testbed true", "C.UTF-8")?;
        people::browser(site, "alice", &again.link)?;
        let (status, seen) = again.enter(site)?;
        assert_eq!(status, 0, "{seen}");
        Ok(())
    })
}
