// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about accounts that tokens open by our rules, and that the account stack keeps out: expired, or by `pam_access` and others.
//!
//! The client hardly says so, and our log not at all (SSH-38). What a module decides is not decided here again: libpam runs the module for
//! the account, in a process of its own and without a login ([`Host::account`]). Each line is asked alone, so that a finding names it, and
//! the lines are combined as libpam does ([`Stack::run`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mytoken_login::LoginSettings;
use mytoken_wire::printable;

use super::configuration::{edit, word};
use super::host::{AccountAnswer, AccountError, AccountQuestion, Host};
use super::kinds::{self, Kind};
use super::nss::NoAnswer;
use super::pam::{MODULE, NAME, read};
use super::pam_answers::{Case, Course, Unknown};
use super::pam_stack::{Action, Group, ModuleLine, Stack, return_value};
use super::sshd::{opens, origin_in};
use super::{Findings, Severity};

/// Modules whose account phase only looks, by their source and manual. sssd has a command of its own that asks `pam_sss` so (`sssctl
/// user-checks`). Others can do more: `pam_faillock` and `pam_tally2` forget failures, `pam_exec` and `pam_script` run programs, `pam_slurm_adopt`
/// moves the process into a job, `pam_sepermit` locks and kills. What is not in the list is not asked.
const ASKED: [&str; 10] = [
    "pam_access",
    "pam_debug",
    "pam_listfile",
    "pam_localuser",
    "pam_shells",
    "pam_sss",
    "pam_succeed_if",
    "pam_time",
    "pam_unix",
    "pam_usertype",
];

/// Where a login comes from: this host, and some other.
const ORIGINS: [&str; 2] = ["127.0.0.1", "192.0.2.1"];

/// Most origins that are tried.
const MOST_ORIGINS: usize = 20;

/// Most accounts of the map files that are asked, until one is let in.
const MOST_ASKED: usize = 20;

/// Time limit for all questions: a module may ask a directory server.
const LIMIT: Duration = Duration::from_secs(20);

/// Longest text of a module in a sentence, and most origins and accounts.
const LONGEST: usize = 200;
const MOST_SHOWN: usize = 5;

/// What the stack says about a login.
#[derive(Debug, Default)]
struct Verdict {
    /// Its return value.
    decision: &'static str,
    /// The lines to which this is due: the sentence about each, and a command.
    reasons: Vec<(String, String)>,
}

/// Asks about one account, each line and origin once.
struct Asking<'a> {
    host: &'a dyn Host,
    service: &'a str,
    stack: &'a Stack,
    began: Instant,
    /// Modules that were not asked, because asking could change something.
    passed_over: RefCell<BTreeSet<String>>,
    /// Lines that gave no answer, with the reason.
    silent: RefCell<BTreeMap<String, String>>,
    /// Why libpam cannot be asked at all.
    unsupported: RefCell<Option<String>>,
}

impl Asking<'_> {
    /// The return value of a line. One that is not known counts as success.
    fn line(&self, line: &ModuleLine, user: &str, origin: &str) -> (&'static str, Vec<String>) {
        const UNKNOWN: (&str, Vec<String>) = ("success", Vec::new());
        match line.name() {
            // A valid token; a file that keeps everybody out is a finding of its own.
            MODULE | "pam_nologin" | "pam_permit" => return UNKNOWN,
            "pam_deny" => return ("auth_err", Vec::new()),
            name if !ASKED.contains(&name) => {
                self.passed_over.borrow_mut().insert(printable(name, NAME));
                return UNKNOWN;
            }
            _ if self.unsupported.borrow().is_some() => return UNKNOWN,
            _ => {}
        }
        let place = format!("{}: {}", line.place, printable(&line.module, NAME));
        // A second question would take as long.
        if self.silent.borrow().contains_key(&place) {
            return UNKNOWN;
        }
        let left = LIMIT.saturating_sub(self.began.elapsed());
        let question = AccountQuestion { line, service: self.service, user, origin, limit: left };
        match self.host.account(&question) {
            Ok(AccountAnswer { code, messages }) => match return_value(code) {
                Some(value) => (value, messages),
                None => UNKNOWN,
            },
            Err(AccountError::Unsupported(reason)) => {
                *self.unsupported.borrow_mut() = Some(reason);
                UNKNOWN
            }
            Err(AccountError::NoAnswer(reason)) => {
                self.silent.borrow_mut().insert(place, reason);
                UNKNOWN
            }
        }
    }

    fn verdict(&self, user: &str, origin: &str) -> Verdict {
        let said = RefCell::new(Vec::new());
        let decision = self.stack.run(|line| {
            let (value, messages) = self.line(line, user, origin);
            said.borrow_mut().push((line, value, messages));
            value
        });
        if decision == "success" {
            return Verdict { decision, ..Verdict::default() };
        }
        let said = said.into_inner();
        let due = |wanted: &dyn Fn(&ModuleLine, &str) -> bool| -> Vec<(String, String)> {
            let lines = said.iter().filter(|(line, value, _)| wanted(line, value));
            lines.map(|(line, value, messages)| (reason(line, value, messages), fix(line, value, user))).collect()
        };
        let bad = |line: &ModuleLine, value: &str| matches!(line.control.action(value), Action::Bad | Action::Die);
        let good = |value: &str| ["success", "ignore"].contains(&value);
        // Debian's stacks ignore a module's refusal, and let pam_deny refuse.
        let mut reasons = due(&|line, value| line.name() != "pam_deny" && (bad(line, value) || value == decision));
        if reasons.is_empty() {
            reasons = due(&|line, value| line.name() != "pam_deny" && !good(value));
        }
        if reasons.is_empty() {
            reasons = due(&|line, value| bad(line, value));
        }
        Verdict { decision, reasons }
    }
}

/// A sentence about a line that refuses.
fn reason(line: &ModuleLine, value: &str, messages: &[String]) -> String {
    let said = messages.iter().map(|text| text.trim()).find(|text| !text.is_empty());
    let said = said.map(|text| format!(" (\"{}\")", printable(text, LONGEST))).unwrap_or_default();
    format!("{}: {} returns {value}{said}", line.place, printable(&line.module, NAME))
}

/// A command that shows why a line refuses.
fn fix(line: &ModuleLine, value: &str, user: &str) -> String {
    let user = word(user);
    match line.name() {
        "pam_unix" if EXPIRED_PASSWORD.contains(&value) => {
            format!("chage -l {user}   # if nobody uses its password: chage -d $(date +%F) -M -1 {user}")
        }
        // It has no line about the password.
        "pam_unix" if value == "authinfo_unavail" => {
            format!("getent shadow {user}   # no line? for an account in /etc/passwd: pwconv")
        }
        "pam_unix" => format!("chage -l {user}   # until when the account is valid: chage -E DATE {user}"),
        "pam_access" => {
            format!("grep -ns '^[^#]' {}   # the first line that matches counts", words(&access_files(line)))
        }
        "pam_time" => "grep -ns '^[^#]' /etc/security/time.conf".to_owned(),
        _ => edit(&line.place),
    }
}

/// What a stack returns for a password that must be changed before the login.
const EXPIRED_PASSWORD: [&str; 2] = ["new_authtok_reqd", "authtok_expired"];

/// The files of a line of `pam_access`. The names are patterns.
fn access_files(line: &ModuleLine) -> Vec<String> {
    let named = line.arguments.iter().filter_map(|argument| argument.strip_prefix("accessfile=")).next_back();
    match named {
        Some(file) => vec![file.to_owned()],
        None => vec!["/etc/security/access.conf".to_owned(), "/etc/security/access.d/*.conf".to_owned()],
    }
}

fn words(patterns: &[String]) -> String {
    let word = |pattern: &String| if pattern.ends_with("/*.conf") { pattern.clone() } else { word(pattern) };
    patterns.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Origins for which `pam_access` may decide differently: one of each network and name in its files. It alone says what they mean.
fn origins(host: &dyn Host, stack: &Stack) -> Vec<String> {
    let mut origins: Vec<String> = ORIGINS.map(str::to_owned).to_vec();
    let lines = stack.lines().filter(|line| line.name() == "pam_access");
    let files: BTreeSet<PathBuf> = lines
        .flat_map(access_files)
        .flat_map(|file| if file.contains('*') { host.expand(Path::new(&file)) } else { vec![file.into()] })
        .collect();
    for text in files.iter().filter_map(|file| host.read(file)) {
        let fields = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = fields
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .flat_map(|field| field.split([' ', '\t', ',']).map(str::trim).filter(|word| !word.is_empty()));
        for origin in words.filter_map(origin_in) {
            if origins.len() >= MOST_ORIGINS {
                return origins;
            }
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
    }
    origins
}

/// Which origins let an account in.
struct Asked {
    inside: Vec<String>,
    outside: Vec<(String, Verdict)>,
}

impl Findings {
    /// Asks the account stack of `service` about `user`, or about accounts of the map files (`mapped`) until one is let in.
    pub(super) fn pam_account(
        &mut self,
        host: &dyn Host,
        service: &str,
        user: Option<&str>,
        login: &LoginSettings,
        mapped: &[String],
    ) {
        let stack = read(host, service, Group::Account);
        // A stack that is wrong for everybody has findings of its own.
        let case = Case { stack: &stack, group: Group::Account, service, ours: "success", unknown: Unknown::Either };
        if !stack.mistakes.is_empty() || !case.courses().iter().any(Course::succeeds) {
            return;
        }
        let asking = Asking {
            host,
            service,
            stack: &stack,
            began: Instant::now(),
            passed_over: RefCell::default(),
            silent: RefCell::default(),
            unsupported: RefCell::default(),
        };
        let origins = origins(host, &stack);
        let known =
            |name: &str| host.person(name).map(|person| person.is_some_and(|person| opens(login, name, &person, true)));
        let ask = |name: &str| {
            let (mut inside, mut outside) = (Vec::new(), Vec::new());
            for origin in &origins {
                let verdict = asking.verdict(name, origin);
                if verdict.decision == "success" {
                    inside.push(origin.clone());
                } else {
                    outside.push((origin.clone(), verdict));
                }
            }
            Asked { inside, outside }
        };
        match user {
            Some(user) if known(user) == Ok(true) => {
                let asked = ask(user);
                self.account_of(user, service, &asked, &asking);
            }
            Some(_) => {}
            None => self.accounts_of_maps(mapped, asking.began, &known, &ask),
        }
        for (line, reason) in asking.silent.into_inner() {
            let text = format!("{line} gave no answer about the account: {}", printable(&reason, LONGEST));
            let kind = kinds::PAM_ACCOUNT_UNKNOWN;
            self.add_fixed(kind, text, "journalctl -t mytokenctl -n 20   # what the module logged".to_owned());
        }
        if let Some(reason) = asking.unsupported.into_inner() {
            let text = format!("the account stack of {service} was not asked: {}", printable(&reason, LONGEST));
            self.ok("PAM", text);
        }
    }

    fn account_of(&mut self, user: &str, service: &str, asked: &Asked, asking: &Asking<'_>) {
        let from = |origins: &[&str]| {
            let shown: Vec<&str> = origins.iter().take(MOST_SHOWN).copied().collect();
            let more = origins.len().saturating_sub(MOST_SHOWN);
            shown.join(", ") + &(if more == 0 { String::new() } else { format!(" and {more} more") })
        };
        let inside: Vec<&str> = asked.inside.iter().map(String::as_str).collect();
        let outside: Vec<&str> = asked.outside.iter().map(|(origin, _)| origin.as_str()).collect();
        let Some((_, first)) = asked.outside.first() else {
            if asking.silent.borrow().is_empty() && asking.unsupported.borrow().is_none() {
                let passed_over: Vec<String> = asking.passed_over.borrow().iter().cloned().collect();
                let passed_over = match passed_over.as_slice() {
                    [] => String::new(),
                    names => format!("; not asked, because this could change something: {}", names.join(", ")),
                };
                self.ok("PAM", format!("the account stack of {service} lets \"{user}\" in{passed_over}"));
            }
            return;
        };
        let reason = first.reasons.first().map_or("no line says why", |(reason, _)| reason);
        if !inside.is_empty() {
            let text = format!(
                "the account stack of {service} lets \"{user}\" in from {}, and not from {}: {reason}",
                from(&inside),
                from(&outside)
            );
            return self.ok("PAM", text);
        }
        let password = EXPIRED_PASSWORD.contains(&first.decision);
        let (kind, text) = if password {
            let text = format!(
                "PAM asks \"{user}\" for a new password, and for the old one before: a token does not help, {reason}"
            );
            (kinds::PAM_PASSWORD_EXPIRED, text)
        } else {
            let tried =
                if outside.len() > ORIGINS.len() { format!(" (tried from {})", from(&outside)) } else { String::new() };
            let text = format!("PAM does not let \"{user}\" in, whatever the token: {reason}{tried}");
            (kinds::PAM_SHUT_OUT, text)
        };
        let fix = first.reasons.first().map(|(_, fix)| fix.clone()).unwrap_or_default();
        self.add_fixed(kind, text, fix);
    }

    /// Accounts of the map files can have expired on purpose. That all are kept out is a mistake.
    fn accounts_of_maps(
        &mut self,
        mapped: &[String],
        began: Instant,
        known: &dyn Fn(&str) -> Result<bool, NoAnswer>,
        ask: &dyn Fn(&str) -> Asked,
    ) {
        let mut shut: Vec<(String, String, String)> = Vec::new();
        let mut all = true;
        for name in mapped {
            if shut.len() >= MOST_ASKED || began.elapsed() > LIMIT {
                all = false;
                break;
            }
            match known(name) {
                Ok(true) => {}
                Ok(false) => continue,
                // NSS answers no more, which is a finding of its own.
                Err(_) => {
                    all = false;
                    break;
                }
            }
            match ask(name) {
                Asked { inside, .. } if !inside.is_empty() => {
                    if !shut.is_empty() {
                        let names: Vec<&str> = shut.iter().take(MOST_SHOWN).map(|(name, _, _)| name.as_str()).collect();
                        self.ok("PAM", format!("it lets \"{name}\" of the map files in, and not {}", names.join(", ")));
                    }
                    return;
                }
                Asked { outside, .. } => {
                    let first = outside.into_iter().next().and_then(|(_, verdict)| verdict.reasons.into_iter().next());
                    let (reason, fix) = first.unwrap_or_default();
                    shut.push((name.clone(), reason, fix));
                }
            }
        }
        let Some((name, reason, fix)) = shut.first() else { return };
        let count = shut.len();
        if all {
            let kind = Kind { level: Severity::Error, ..kinds::PAM_SHUT_OUT };
            let text = format!(
                "PAM lets none of the {count} accounts of the map files in, whatever the token; for \"{name}\": {reason}"
            );
            self.add_fixed(kind, text, fix.clone());
        } else {
            // Of the others some can be let in.
            let text =
                format!("{count} accounts of the map files were asked, and none is let in; for \"{name}\": {reason}");
            self.ok("PAM", text);
        }
    }
}

#[cfg(test)]
mod tests;
