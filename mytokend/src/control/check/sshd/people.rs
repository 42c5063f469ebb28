// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about accounts that tokens open by our rules, and that sshd keeps out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mytoken_login::{LocalAccount, LoginSettings, Mapping, Rule};

use super::super::configuration::word;
use super::super::host::{Host, Person, Ran};
use super::super::kinds::{self, Kind};
use super::super::nss::NoAnswer;
use super::super::{Findings, Severity};
use super::access::{Access, Left};
use super::files::Files;
use super::{Closing, Effective, LISTS, closing, effective};

/// Most accounts of the map files for which sshd is asked one by one, where it has `Match` blocks for users.
const MOST_ASKED: usize = 100;

/// Time limit for all accounts: NSS may ask a directory server.
const LIMIT: Duration = Duration::from_secs(5);

/// Most accounts in a sentence.
const MOST_SHOWN: usize = 5;

/// Shells that end at once.
const ENDING: [&str; 3] = ["nologin", "false", "true"];

/// An account that sshd does not let in.
struct ShutOut {
    name: String,
    reason: String,
    /// The command that shows the lines.
    fix: String,
}

/// What sshd does for the accounts of the map files.
#[derive(Default)]
struct Judged {
    /// How many it lets in.
    open: usize,
    shut: Vec<ShutOut>,
    /// Those that it lets in for nothing, with the shell.
    ended: Vec<(String, PathBuf)>,
}

/// The command that sshd runs whatever a user asks for.
fn forced(sshd: &Effective) -> Option<&str> {
    sshd.get("forcecommand").filter(|command| *command != "none")
}

/// For this command sshd starts no shell. Any other is run by the shell.
fn is_internal_sftp(command: &str) -> bool {
    command.split_whitespace().next() == Some("internal-sftp")
}

/// Whether the shell of an account ends each shell session. sshd itself asks only whether it can be executed.
fn ends_at_once(sshd: &Effective, person: &Person) -> bool {
    let files_only = forced(sshd).is_some_and(is_internal_sftp);
    let name = person.shell.file_name().and_then(|name| name.to_str());
    !files_only && name.is_some_and(|name| ENDING.contains(&name))
}

/// What such an account can do all the same, the end of a clause: jump hosts and accounts for files have such shells on purpose.
fn what_works(sshd: &Effective) -> &'static str {
    let internal = |subsystem: &String| subsystem.strip_prefix("sftp ").is_some_and(is_internal_sftp);
    let sftp = forced(sshd).is_none() && sshd.all("subsystem").iter().any(internal);
    let forwards =
        !sshd.is("disableforwarding", "yes") && !matches!(sshd.get("allowtcpforwarding"), Some("no" | "remote"));
    match (sftp, forwards) {
        (true, true) => "; sftp and forwarding (-J, -N) work",
        (true, false) => "; sftp works",
        (false, true) => "; forwarding (-J, -N) works",
        (false, false) => "",
    }
}

/// The command that shows the shell of an account.
fn show_shell(name: &str) -> String {
    format!("getent passwd {}   # the last field is the shell", word(name))
}

/// The first of many.
fn some(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(MOST_SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    all.take(MOST_SHOWN).collect::<Vec<_>>().join(", ") + &more
}

/// Why sshd does not let an account in.
///
/// # Errors
/// It cannot be said whether it does.
fn shut_out(
    host: &dyn Host,
    files: &Files,
    access: &Access,
    name: &str,
    person: &Person,
) -> Result<Option<ShutOut>, NoAnswer> {
    let account = name.to_owned();
    if !host.is_program(&person.shell) {
        let fault = if host.exists(&person.shell) { "is not executable" } else { "does not exist" };
        let reason = format!("its shell {} {fault}", person.shell.display());
        return Ok(Some(ShutOut { name: account, reason, fix: show_shell(name) }));
    }
    let reason = access.refuses(host, name, person)?;
    Ok(reason.map(|reason| ShutOut { name: account, reason, fix: files.lines(LISTS) }))
}

impl Findings {
    /// `sshd`: what it does for `user`, or for everybody. `mapped`: the accounts of the map files. Returns whether this is known for `user`.
    pub(super) fn shut_out(
        &mut self,
        host: &dyn Host,
        sshd: &Effective,
        files: &Files,
        user: Option<&str>,
        login: &LoginSettings,
        mapped: &[String],
    ) -> bool {
        if let Some(user) = user {
            // Without an answer of NSS, which is a finding of its own.
            return self.account(host, sshd, files, user, login, mapped).unwrap_or_default();
        }
        let access = Access::of(sshd);
        let Judged { open, shut, ended } = self.judge(host, sshd, files, login, mapped);
        // Templates and mappers: which accounts they open is not known in advance.
        let templates = login.rules.iter().any(|rule| !matches!(rule.mapping, Mapping::File(_)));
        let some_template = templates
            && match access.left(host) {
                Left::Unknown => true,
                Left::Only(names) => names.iter().any(|name| {
                    // Without an answer of NSS it can be one that sshd lets in.
                    let Ok(person) = host.person(name) else { return true };
                    let person = person.filter(|person| opens(login, name, person, false));
                    person.is_some_and(|person| !matches!(shut_out(host, files, &access, name, &person), Ok(Some(_))))
                }),
            };
        let shown = some(shut.iter().map(|shut| format!("{} ({})", shut.name, shut.reason)));
        let fix = shut.first().map_or_else(|| files.lines(LISTS), |shut| shut.fix.clone());
        if open == 0 && !some_template && (templates || !shut.is_empty()) {
            let kind = Kind { level: Severity::Error, ..kinds::SSHD_SHUT_OUT };
            let whom = if templates { access.keywords() } else { shown };
            let text = format!("sshd lets nobody in for whom login.toml accepts a token: {whom}");
            self.add_fixed(kind, text, fix);
        } else if !shut.is_empty() {
            let text = format!("sshd does not let accounts of the map files in, whatever the token: {shown}");
            self.add_fixed(kinds::SSHD_SHUT_OUT, text, fix);
        } else if templates && !access.keywords().is_empty() {
            let text = format!("sshd lets in only whom these allow, whatever the token: {}", access.keywords());
            self.add_kind(kinds::SSHD_LISTS, text);
        }
        if let Some((first, _)) = ended.first() {
            let shown = some(ended.iter().map(|(name, shell)| format!("{name} ({})", shell.display())));
            let text = format!(
                "sshd lets accounts of the map files in whose shell ends a shell session at once{}: {shown}",
                what_works(sshd)
            );
            // Which of them shall have a shell session is not known here.
            let kind = Kind { level: Severity::Ok, ..kinds::ACCOUNT_SHELL };
            self.add_fixed(kind, text, show_shell(first));
        }
        true
    }

    /// What `sshd` does for `user`.
    ///
    /// Returns whether our own settings let a token open the account.
    ///
    /// # Errors
    /// It cannot be said.
    fn account(
        &mut self,
        host: &dyn Host,
        sshd: &Effective,
        files: &Files,
        user: &str,
        login: &LoginSettings,
        mapped: &[String],
    ) -> Result<bool, NoAnswer> {
        let Some(person) = host.person(user)? else { return Ok(true) };
        // Without a rule nobody logs in, which is a finding of its own.
        if login.rules.is_empty() {
            return Ok(true);
        }
        if let Some(reason) = closed_to_tokens(login, user, &person, mapped) {
            self.add_kind(kinds::ACCOUNT_CLOSED, format!("no token logs in as \"{user}\": {reason}"));
            return Ok(false);
        }
        if let Some(shut) = shut_out(host, files, &Access::of(sshd), user, &person)? {
            let text = format!("sshd does not let \"{user}\" in, whatever the token: {}", shut.reason);
            self.add_fixed(kinds::SSHD_SHUT_OUT, text, shut.fix);
        } else if ends_at_once(sshd, &person) {
            let shell = person.shell.display();
            let works = what_works(sshd);
            let text = format!("sshd lets \"{user}\" in, and its shell {shell} ends a shell session at once{works}");
            self.add_fixed(kinds::ACCOUNT_SHELL, text, show_shell(user));
        }
        Ok(true)
    }

    /// Asks about each account of the map files.
    fn judge(
        &mut self,
        host: &dyn Host,
        sshd: &Effective,
        files: &Files,
        login: &LoginSettings,
        mapped: &[String],
    ) -> Judged {
        let by_user = files.blocks.iter().any(|block| block.get("user").or(block.get("group")).is_some());
        let began = Instant::now();
        let (mut judged, mut asked) = (Judged::default(), 0_usize);
        for name in mapped {
            if began.elapsed() > LIMIT || (by_user && asked >= MOST_ASKED) {
                let text = format!("it was asked about {asked} of the {} accounts of the map files", mapped.len());
                self.ok("sshd", text);
                // Of the others some can be open.
                judged.open = judged.open.saturating_add(1);
                break;
            }
            asked = asked.saturating_add(1);
            let Ok(person) = host.person(name) else {
                // NSS answers no more, which is a finding of its own.
                judged.open = judged.open.saturating_add(1);
                break;
            };
            let Some(person) = person.filter(|person| opens(login, name, person, true)) else { continue };
            let own = by_user.then(|| effective(host, Some(name)));
            let own = match &own {
                Some(Ran::Output(text)) => Some(Effective::parse(text)),
                _ => None,
            };
            let known = |kind: Kind| closing(sshd).iter().any(|closed| closed.kind.id == kind.id);
            let closed = own.as_ref().and_then(|own| closing(own).into_iter().find(|closed| !known(closed.kind)));
            let own = own.as_ref().unwrap_or(sshd);
            let access = Access::of(own);
            let by_block =
                |closed: Closing| ShutOut { name: name.clone(), reason: closed.text, fix: files.lines(closed.keyword) };
            let Ok(shut) = shut_out(host, files, &access, name, &person) else {
                // As above.
                judged.open = judged.open.saturating_add(1);
                break;
            };
            match shut.or(closed.map(by_block)) {
                Some(account) => judged.shut.push(account),
                None => {
                    judged.open = judged.open.saturating_add(1);
                    if ends_at_once(own, &person) {
                        judged.ended.push((name.clone(), person.shell));
                    }
                }
            }
        }
        judged
    }
}

/// Why our own settings let no token open this account.
fn closed_to_tokens(login: &LoginSettings, name: &str, person: &Person, mapped: &[String]) -> Option<String> {
    let by_map = mapped.iter().any(|mapped| mapped == name);
    if login.accounts.deny.iter().any(|denied| denied == name) {
        return Some("deny in login.toml names it".to_owned());
    }
    if !opens(login, name, person, by_map) {
        let text = format!(
            "it is a system account (user id {}), and login.toml opens those only by allow_system and a map file",
            person.uid
        );
        return Some(text);
    }
    let only_maps = login.rules.iter().all(|rule| matches!(rule.mapping, Mapping::File(_)));
    (only_maps && !by_map).then(|| "no map file of a rule names it".to_owned())
}

/// Whether our own settings let a rule open this account. Only a map file opens system accounts, of a rule that asks for more.
pub(in super::super) fn opens(login: &LoginSettings, name: &str, person: &Person, by_map: bool) -> bool {
    let has = |names: &[String]| names.iter().any(|other| other == name);
    let account = LocalAccount::new(name, person.uid, person.gid, &login.accounts);
    let opens_system = || by_map && login.rules.iter().any(Rule::opens_system_accounts);
    !has(&login.accounts.deny) && (!account.system || (has(&login.accounts.allow_system) && opens_system()))
}

#[cfg(test)]
mod tests;
