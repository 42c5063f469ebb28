// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl explain --last`: the last refused login of an account by the log of this host, and what to do.

mod advice;
mod journal;
mod journalctl;
mod lines;
mod text_log;

use std::fmt::Write as _;
use std::path::Path;

use mytoken::time_format::TimeFormat;
use mytoken_login::LoggedDecision;
use mytoken_wire::printable;

/// The programs whose lines are read: sshd, and since OpenSSH 9.8 its process for one connection.
const PROGRAMS: [&str; 2] = ["sshd", "sshd-session"];

/// When a line was written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Moment {
    /// Unix seconds.
    At(u64),
    /// As the text log has it: it may have neither year nor time zone.
    Written(String),
}

impl Moment {
    fn show(&self, times: TimeFormat) -> String {
        match self {
            Self::At(at) => format!("{} ({})", times.seconds(*at), times.ago(*at)),
            Self::Written(text) => printable(text, 40),
        }
    }
}

/// A decision in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    moment: Moment,
    /// Name and process id of the program.
    program: String,
    decision: LoggedDecision,
}

/// What the log tells about an account.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    refused: Option<Entry>,
    /// The last accepted login, if it came after the refusal.
    accepted: Option<Entry>,
}

/// The last refused login of `account`. For root only: the log says who logs in from where.
///
/// # Errors
/// A sentence: the caller is not root, or no log has one.
pub fn show(account: &str, times: TimeFormat) -> Result<String, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root may read the log of logins: run this command as root".to_owned());
    }
    last(journal::search(account), Path::new(text_log::DIRECTORY), account, times)
}

/// The last refused login: that of the journal, else that of the text logs in `directory`.
fn last(
    journal: Result<(Found, Option<String>), String>,
    directory: &Path,
    account: &str,
    times: TimeFormat,
) -> Result<String, String> {
    let (mut searched, mut problems) = (Vec::new(), Vec::new());
    // Each log ends where the one before it begins, so an accepted login in it came after each refusal in the next ones.
    let mut accepted = None;
    match journal {
        Ok((found, warning)) => {
            let warning = warning.map(|warning| format!(" (journalctl says: {warning})")).unwrap_or_default();
            if found.refused.is_some() {
                return Ok(screen(&found, &format!("the journal{warning}"), times));
            }
            accepted = found.accepted;
            searched.push(format!("the journal of the last {} days{warning}", journal::DAYS));
        }
        Err(problem) => problems.push(format!("the journal ({problem})")),
    }
    for name in text_log::FILES {
        let path = directory.join(name);
        let file = path.display();
        match text_log::search(&path, account) {
            Ok(mut found) if found.refused.is_some() => {
                found.accepted = accepted.or(found.accepted);
                // Who can write to syslog can write such a line, and the file does not say who did.
                let source = format!("{file}, to which other programs of this host can write too");
                return Ok(screen(&found, &source, times));
            }
            Ok(found) => {
                accepted = accepted.or(found.accepted);
                searched.push(file.to_string());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => problems.push(format!("{file} ({error})")),
        }
    }
    Err(nothing(account, &searched, &problems))
}

/// The sentence about logs without a refusal of the account. It does not call a log searched that was not.
fn nothing(account: &str, searched: &[String], problems: &[String]) -> String {
    if searched.is_empty() {
        let files = text_log::FILES.join(", ");
        return format!(
            "no log of logins was searched: {}; {} has no other one of {files}",
            problems.join(", "),
            text_log::DIRECTORY
        );
    }
    let mut text = format!("no refused login of \"{}\" in {}", printable(account, 64), searched.join(", "));
    if !problems.is_empty() {
        let _ = write!(text, "; not searched: {}", problems.join(", "));
    }
    text
}

fn screen(found: &Found, source: &str, times: TimeFormat) -> String {
    let Some(Entry { moment, program, decision }) = &found.refused else { return String::new() };
    let mut text = String::new();
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "{}", format!("{name:<15} {}", printable(what, 400)).trim_end());
    };
    line("refused", &moment.show(times));
    let how = if decision.without_token { ", without a token" } else { "" };
    line("login", &format!("{} by {}{how}, from {}", decision.user, decision.service, decision.rhost));
    line("reason", &decision.reason);
    line("", &advice::advice(&decision.reason));
    if let Some(why) = &decision.why {
        line("details", why);
    }
    if decision.sub != "-" {
        line("identity", &format!("{} at issuer \"{}\"", decision.sub, decision.issuer));
    }
    if !decision.without_token {
        line("token", &kind_of_token(&decision.token));
    }
    if let Some(redeemed) = &decision.redeemed {
        let of = if decision.token.starts_with("link") { "login with a link" } else { "transfer code" };
        line("mytoken", &format!("of the {of}: {redeemed}"));
    }
    if let Some(accepted) = &found.accepted {
        line("since then", &format!("accepted {}", accepted.moment.show(times)));
    }
    line("source", &format!("{source}: {program}"));
    if decision.without_token {
        line("decided by", "key_logins in [account] of login.toml");
    } else {
        line("each check", "mytokenctl explain --user NAME < TOKEN; in the log with \"debug\" in the PAM stack");
    }
    text
}

/// Kind and fingerprint of a token in words.
fn kind_of_token(token: &str) -> String {
    let (kind, fingerprint) = token.split_once(':').unwrap_or((token, ""));
    let kind = match kind {
        "at" => "access token",
        "mt" => "mytoken",
        "st" => "short token",
        "tc" => "transfer code",
        "link" => "login with a link",
        "otp" => "one-time password of motley_cue",
        "opaque" => "a text without the form of a token",
        "-" => "none",
        other => other,
    };
    if fingerprint.is_empty() { kind.to_owned() } else { format!("{kind}, fingerprint {fingerprint}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_300_800;

    fn entry(at: u64, line: &str) -> Entry {
        entry_of("auth", at, line)
    }

    fn entry_of(phase: &str, at: u64, line: &str) -> Entry {
        let decision = LoggedDecision::parse(&format!("pam_mytoken(sshd:{phase}): {line}")).unwrap();
        Entry { moment: Moment::At(at), program: "sshd-session[410]".to_owned(), decision }
    }

    #[test]
    fn the_screen_says_what_happened_and_what_to_do() {
        let refused = entry(
            NOW - 720,
            "refuse user=bob uid=2002 rhost=192.0.2.10 reason=not_mapped issuer=op sub=alice rule=- token=tc:8d3b33e4 \
             ms=38 (exchange 26, verify 0, map 0) why=\"maps to alice\" redeemed=revoked",
        );
        let accepted = entry(
            NOW - 60,
            "accept user=bob uid=2002 rhost=192.0.2.10 issuer=op sub=bob rule=hpc token=at:1f2e3d4c ms=1",
        );
        let found = Found { refused: Some(refused), accepted: Some(accepted) };
        let expected = "\
refused         22:28:00 (12 min ago)
login           bob by sshd, from 192.0.2.10
reason          not_mapped
                No rule gives this identity the account. why= names the account it has.
details         maps to alice
identity        alice at issuer \"op\"
token           transfer code, fingerprint 8d3b33e4
mytoken         of the transfer code: revoked
since then      accepted 22:39:00 (60 s ago)
source          the journal: sshd-session[410]
each check      mytokenctl explain --user NAME < TOKEN; in the log with \"debug\" in the PAM stack
";
        assert_eq!(screen(&found, "the journal", TimeFormat::utc(NOW)), expected);
    }

    #[test]
    fn a_refused_login_without_a_token_says_which_setting_decides() {
        let refused = entry_of(
            "account",
            NOW - 720,
            "refuse user=bob uid=2002 rhost=192.0.2.10 reason=limited issuer=- sub=- rule=- token=-",
        );
        let text = screen(&Found { refused: Some(refused), accepted: None }, "the journal", TimeFormat::utc(NOW));
        let expected = format!(
            "\
refused         22:28:00 (12 min ago)
login           bob by sshd, without a token, from 192.0.2.10
reason          limited
                {}
source          the journal: sshd-session[410]
decided by      key_logins in [account] of login.toml
",
            advice::advice("limited")
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_log_that_was_not_searched_is_told() {
        let times = TimeFormat::utc(NOW);
        let dir = tempfile::tempdir().unwrap();
        let none = || Err("this host keeps none".to_owned());
        let nothing = last(none(), dir.path(), "alice", times).unwrap_err();
        assert!(
            nothing.starts_with("no log of logins was searched: the journal (this host keeps none); /var/log has no"),
            "{nothing}"
        );
        let journal = Ok((Found::default(), Some("Journal file x is truncated".to_owned())));
        assert_eq!(
            last(journal, dir.path(), "alice", times).unwrap_err(),
            "no refused login of \"alice\" in the journal of the last 30 days \
             (journalctl says: Journal file x is truncated)"
        );
        std::fs::write(dir.path().join("auth.log"), "").unwrap();
        assert_eq!(
            last(none(), dir.path(), "alice", times).unwrap_err(),
            format!(
                "no refused login of \"alice\" in {}/auth.log; not searched: the journal (this host keeps none)",
                dir.path().display()
            )
        );
    }

    #[test]
    fn an_accepted_login_in_a_newer_log_came_after_the_refusal() {
        let (times, dir) = (TimeFormat::utc(NOW), tempfile::tempdir().unwrap());
        let write = |file: &str, lines: &str| std::fs::write(dir.path().join(file), lines).unwrap();
        let accept = "pam_mytoken(sshd:auth): accept user=bob uid=1 rhost=- issuer=op sub=s rule=r token=at:1";
        let refuse =
            "pam_mytoken(sshd:auth): refuse user=bob uid=1 rhost=- reason=expired issuer=- sub=- rule=- token=at:1";
        let rotated = format!("Nov 20 10:00:01 login sshd[1]: {accept}\nNov 20 10:00:02 login sshd[2]: {refuse}\n");
        let found = |journal| last(journal, dir.path(), "bob", times).unwrap();
        let no_journal = || Err("this host keeps none".to_owned());
        write("auth.log.1", &rotated);
        assert!(!found(no_journal()).contains("since then"), "the login came before the refusal");
        write("auth.log", &format!("Nov 26 10:00:01 login sshd[3]: {accept}\n"));
        let text = found(no_journal());
        assert!(text.contains("since then      accepted Nov 26 10:00:01\n") && text.contains("auth.log.1,"), "{text}");
        let accepted = Some(entry(NOW - 60, accept.split_once(": ").unwrap().1));
        let text = found(Ok((Found { refused: None, accepted }, None)));
        assert!(text.contains("since then      accepted 22:39:00 (60 s ago)\n"), "{text}");
        write("auth.log.1", &format!("{rotated}Nov 20 10:00:03 login sshd[1]: {accept}\n"));
        write("auth.log", "");
        assert!(found(no_journal()).contains("since then      accepted Nov 20 10:00:03\n"));
    }

    #[test]
    fn each_kind_of_token_of_the_page_has_a_name() {
        let page = include_str!("../../../../docs/admin/logs.md");
        let (_, after) = page.split_once("\n- `token=` ").unwrap();
        let (about_token, _) = after.split_once("\n- `").unwrap();
        let words: Vec<&str> = about_token.split('`').skip(1).step_by(2).collect();
        let kinds: std::collections::BTreeSet<&str> = words.iter().copied().collect();
        assert!(kinds.len() >= 7 && kinds.len() == words.len(), "each kind once: {words:?}");
        for kind in kinds {
            let name = kind_of_token(&format!("{kind}:8d3b33e4"));
            assert!(name.ends_with(", fingerprint 8d3b33e4") && !name.starts_with(&format!("{kind},")), "{name}");
        }
    }

    #[test]
    fn only_root_may_see_it() {
        if !nix::unistd::geteuid().is_root() {
            let refused = show("alice", TimeFormat::utc(NOW)).unwrap_err();
            assert!(refused.contains("only root"), "{refused}");
        }
    }
}
