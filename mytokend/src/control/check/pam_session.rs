// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the place of our session line, and about files of users that change what it leaves for the session.

use mytoken_wire::printable;

use super::configuration::edit;
use super::pam::{MODULE, NAME};
use super::pam_answers::{Case, Unknown};
use super::pam_stack::{Group, ModuleLine, Stack};
use super::{Findings, kinds};

/// The file that `pam_env` reads in a home directory.
const USER_FILE: &str = ".pam_environment";

impl Findings {
    /// Whether our line comes after the one that makes the session complete.
    pub(super) fn session_order(&mut self, session: &Stack) {
        let at = |name: &str| session.lines().position(|line| line.name() == name);
        let line = session.lines().find(|line| line.name() == MODULE);
        let (Some(own), Some(line)) = (at(MODULE), line) else { return };
        if at("pam_systemd").is_some_and(|systemd| own < systemd) {
            let text =
                format!("{}: {} comes before pam_systemd: the session is not complete yet", line.place, line.module);
            let fix = format!("{}   # move the line to the end of the session lines", edit(&line.place));
            self.add_fixed(kinds::PAM_ORDER, text, fix);
        }
    }

    /// Whether a line of `pam_env` reads a file of the user. Before our session line it can change the variable with which the login
    /// tells it about the token; behind it, those that it sets. In the auth stack it is read before and behind: libpam runs this module
    /// in `pam_setcred`, which sshd calls before it opens the session and once more behind.
    pub(super) fn user_environment(&mut self, auth: &Stack, session: &Stack, service: &str) {
        let Some(own) = session.lines().position(|line| line.name() == MODULE) else { return };
        let case = Case { stack: auth, group: Group::Auth, service, ours: "success", unknown: Unknown::Either };
        let courses = case.courses();
        let is_run = |line: &&ModuleLine| courses.iter().any(|course| course.comes_to(line));
        let of_auth =
            auth.lines().filter(is_run).filter(|line| user_file(line).is_some()).map(|line| (line, "hide or replace"));
        let of_session = session.lines().enumerate().filter(|(_, line)| user_file(line).is_some());
        let of_session = of_session.map(|(at, line)| (line, if at < own { "hide" } else { "replace" }));
        for (line, does) in of_auth.chain(of_session).collect::<Vec<_>>() {
            let text = format!(
                "{}: {} lets ~/{} set variables: a user's own file can {does} the session's token",
                line.place,
                printable(&line.module, NAME),
                printable(user_file(line).unwrap_or_default(), NAME)
            );
            let fix = format!("{}   # remove user_readenv", edit(&line.place));
            self.add_fixed(kinds::PAM_USER_ENVIRONMENT, text, fix);
        }
    }
}

/// The file in a home directory that a line reads. Of each argument the last one counts, and of a value its number, as in C.
fn user_file(line: &ModuleLine) -> Option<&str> {
    let last = |name: &str| line.arguments.iter().rev().find_map(|argument| argument.strip_prefix(name));
    let file = line
        .arguments
        .iter()
        .rev()
        .find_map(|argument| argument.strip_prefix("user_envfile=").filter(|file| !file.is_empty()));
    let is_read = line.name() == "pam_env" && last("user_readenv=").is_some_and(is_not_zero);
    is_read.then(|| file.unwrap_or(USER_FILE))
}

/// Whether `atoi` finds another number than 0.
fn is_not_zero(value: &str) -> bool {
    let value = value.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    digits.bytes().take_while(u8::is_ascii_digit).any(|digit| digit != b'0')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::pam_stack::Directories;
    use super::*;

    fn found(lines: &str) -> Vec<String> {
        let read = |group| {
            let text = move |path: &Path| path.ends_with("sshd").then(|| lines.to_owned());
            let directories = [Path::new("/etc/pam.d")];
            Stack::read(Directories { services: &directories, includes: &directories }, "sshd", group, &text)
        };
        let mut findings = Findings::default();
        findings.user_environment(&read(Group::Auth), &read(Group::Session), "sshd");
        assert!(findings.findings.iter().all(|finding| finding.id.as_deref() == Some(kinds::PAM_USER_ENVIRONMENT.id)));
        findings.findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn each_value_but_zero_reads_the_users_file_and_the_last_counts() {
        for (arguments, is_read) in [
            ("", false),
            ("user_readenv=1", true),
            ("user_readenv=2", true),
            ("user_readenv=-1", true),
            ("user_readenv=01", true),
            ("user_readenv=1x", true),
            ("user_readenv=0", false),
            ("user_readenv=00", false),
            ("user_readenv=", false),
            ("user_readenv=yes", false),
            ("user_readenv=0x1", false),
            ("user_readenv", false),
            ("user_readenv=1 user_readenv=0", false),
            ("user_readenv=0 user_readenv=1", true),
            ("[user_readenv=1]", true),
            ("user_envfile=.x", false),
            // This file is root's.
            ("readenv=1 envfile=/etc/default/locale", false),
        ] {
            let lines = format!("session optional pam_mytoken.so\nsession required pam_env.so {arguments}\n");
            assert_eq!(found(&lines).len(), usize::from(is_read), "{arguments}");
        }
    }

    /// The later of two lines wins, but ours needs a variable of the login.
    #[test]
    fn the_users_file_is_told_wherever_it_is_read() {
        let env = "pam_env.so user_readenv=1";
        let (auth, ours) = ("auth [success=done default=die] pam_mytoken.so\n", "session optional pam_mytoken.so\n");
        for (lines, texts) in [
            (
                format!("{auth}session required {env}\n{ours}"),
                &["sshd:2: pam_env.so lets ~/.pam_environment set variables: a user's own file can hide the"][..],
            ),
            (
                format!("{auth}{ours}session required {env} user_envfile=.env user_envfile=\n"),
                &["sshd:3: pam_env.so lets ~/.env set variables: a user's own file can replace the"],
            ),
            (format!("session required {env}\n{ours}session required {env}\n"), &["sshd:1: ", "sshd:3: "]),
            (
                format!("auth required {env}\n{auth}{ours}"),
                &[
                    "sshd:1: pam_env.so lets ~/.pam_environment set variables: a user's own file can hide or replace the",
                ],
            ),
            // A login by token does not come to this line.
            (format!("{auth}auth required {env}\n{ours}"), &[]),
            // This module has no such phase of its own.
            (format!("{auth}account required {env}\n{ours}"), &[]),
            (format!("session required {env}\n"), &[]),
        ] {
            let found = found(&lines);
            assert_eq!(found.len(), texts.len(), "{lines}: {found:?}");
            assert!(found.iter().zip(texts).all(|(found, text)| found.contains(text)), "{lines}: {found:?}");
        }
    }
}
