// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about sshd's effective configuration.

mod access;
mod blocks;
mod files;
mod fixes;
mod listeners;
mod penalties;
mod people;
mod reload;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use mytoken::config::DIRECTORY;
use mytoken_login::link::REQUEST_TIME;
use mytoken_login::{LoginSettings, Mapping};
use mytoken_wire::printable;

use super::configuration::word;
use super::host::{Host, Ran};
use super::kinds::{self, Kind};
use super::pam;
use super::{Findings, Severity};
use blocks::Whose;
use files::{Block, Files};
use listeners::Listener;

pub(super) use blocks::origin_in;
pub(super) use people::opens;

/// sshd must be started by its path; Debian, Red Hat and SUSE have it here.
const SSHD: &str = "/usr/sbin/sshd";

/// The methods that reach PAM's prompts.
const TOKEN_METHODS: [&str; 2] = ["keyboard-interactive", "keyboard-interactive:pam"];

/// The lines that say whom sshd lets in.
const LISTS: &str = "(allow|deny)(users|groups)";

/// The keyword whose last line counts.
const MAX_STARTUPS: &str = "maxstartups";

/// Longest reason of sshd in a sentence.
const LONGEST: usize = 400;

/// Why nobody but root may change sshd's files.
const WHO_CHANGES_IT: &str = "who can change it decides who logs in";

/// Most `Match` blocks for which sshd is asked.
const MOST_BLOCKS: usize = 50;

/// What a person needs to paste a token.
const PERSON: Duration = Duration::from_secs(30);

/// A setting that keeps tokens out or is dangerous with them, and that a `Match` block can have.
struct Closing {
    kind: Kind,
    text: String,
    /// A regular expression for its lines.
    keyword: &'static str,
}

/// The settings of `sshd` that are wrong, of those that `Match` blocks can have.
fn closing(sshd: &Effective) -> Vec<Closing> {
    let mut found = Vec::new();
    // SSH-39: before OpenSSH 8.7 the second is a setting of its own, and both must be on.
    let keywords = ["KbdInteractiveAuthentication", "ChallengeResponseAuthentication"];
    if let Some(off) = keywords.into_iter().find(|keyword| sshd.is(&keyword.to_ascii_lowercase(), "no")) {
        let text = format!("{off} is off: nobody is asked for a token");
        let keyword = "kbdinteractive|challengeresponse";
        found.push(Closing { kind: kinds::SSHD_KEYBOARD_INTERACTIVE, text, keyword });
    }
    // Lists of methods that must all succeed; one list without keyboard-interactive leaves tokens out.
    let methods = sshd.get("authenticationmethods").unwrap_or("any");
    if methods != "any"
        && !methods.split_whitespace().any(|list| list.split(',').any(|method| TOKEN_METHODS.contains(&method)))
    {
        let text = format!("AuthenticationMethods is \"{methods}\": keyboard-interactive is not among them");
        found.push(Closing { kind: kinds::SSHD_METHODS, text, keyword: "authenticationmethods" });
    }
    if sshd.is("passwordauthentication", "yes") {
        let text = "PasswordAuthentication is on: unix passwords reach pam_mytoken, and one of 8 letters is sent to the mytoken server".to_owned();
        found.push(Closing { kind: kinds::SSHD_PASSWORD, text, keyword: "passwordauth" });
    }
    found
}

/// What sshd does for another login than those in general.
struct Elsewhere<'a> {
    /// The block that applies to it; otherwise it is at another port.
    block: Option<&'a Block>,
    port: u16,
    /// The argument of `sshd -T -C`.
    connection: String,
    found: Vec<Closing>,
}

impl Elsewhere<'_> {
    /// `It differs ...`.
    fn differs(&self) -> String {
        match self.block {
            Some(block) => format!("for \"{}\" ({})", block.text(), block.place),
            None => format!("at port {}", self.port),
        }
    }

    /// The begin of a sentence about it.
    fn told(&self) -> String {
        match self.block {
            Some(block) => format!("{}: it differs for \"{}\"", block.place, block.text()),
            None => format!("it differs at port {}", self.port),
        }
    }
}

/// Asks sshd for a login to which each block applies, and at each port that no block names.
fn elsewhere<'a>(host: &dyn Host, sshd: &Effective, blocks: &'a [Block], whose: Whose<'_>) -> Vec<Elsewhere<'a>> {
    let listeners = Listener::of(sshd, host);
    let resolves = sshd.is("usedns", "yes");
    let mut asked: Vec<(Option<&Block>, u16, String)> = Vec::new();
    for block in blocks.iter().take(MOST_BLOCKS) {
        if let Some((connection, port)) = blocks::connection(block, whose, resolves, &listeners, host) {
            asked.push((Some(block), port, connection));
        }
    }
    if blocks.iter().any(|block| block.get("localport").is_some()) {
        let from = match whose {
            Whose::One(user) => format!("user={user},host=localhost,addr=127.0.0.1,"),
            Whose::Mapped | Whose::Anybody => String::new(),
        };
        let first = listeners.first().map(|listener| listener.port);
        for listener in listeners.iter().take(MOST_BLOCKS) {
            if Some(listener.port) != first && !asked.iter().any(|(_, port, _)| *port == listener.port) {
                asked.push((None, listener.port, format!("{from}{}", listener.end())));
            }
        }
    }
    let asked = asked.into_iter().filter_map(|(block, port, connection)| {
        let Ran::Output(text) = host.run(Path::new(SSHD), &["-T", "-C", &connection]) else { return None };
        Some(Elsewhere { block, port, connection, found: closing(&Effective::parse(&text)) })
    });
    asked.collect()
}

impl Findings {
    /// Checks what sshd would do for `user`, or for everybody. `mapped`: the accounts of the map files. Without `login`, what depends
    /// on it is left out. Returns sshd's name for PAM.
    pub(super) fn sshd(
        &mut self,
        host: &dyn Host,
        user: Option<&str>,
        login: Option<&LoginSettings>,
        mapped: &[String],
    ) -> String {
        let service = pam::SSHD.to_owned();
        let text = match effective(host, user) {
            Ran::Output(text) => text,
            Ran::Missing => {
                self.add_kind(kinds::SSHD_MISSING, format!("there is no {SSHD}: no login over ssh is checked"));
                return service;
            }
            Ran::Failed(reason) => {
                let files = Files::read(host);
                self.no_configuration(host, &reason, &files);
                self.open_files(host, files.paths, kinds::SSHD_OPEN_FILE, WHO_CHANGES_IT);
                return service;
            }
        };
        let before = self.findings.len();
        let sshd = Effective::parse(&text);
        let settings = login.cloned().unwrap_or_default();
        let files = Files::read(host);
        let service = sshd.get("pamservicename").map_or(service, str::to_owned);
        let pam_first = sshd.is("usepam", "no") && stacks_have_errors(host, &service, login);
        self.effective(host, &sshd, &files, login.map(|login| login.deadline.get()), pam_first);
        let templates =
            login.is_some_and(|login| login.rules.iter().any(|rule| !matches!(rule.mapping, Mapping::File(_))));
        let everybody = if templates { Whose::Anybody } else { Whose::Mapped };
        let whose = user.map_or(everybody, Whose::One);
        self.by_connection(host, &sshd, &files, whose, pam_first);
        self.root(&sshd, &files, &settings);
        self.link_time(&sshd, &files, &settings);
        let known = login.is_none_or(|login| self.shut_out(host, &sshd, &files, user, login, mapped));
        self.reload(host, &sshd, &files);
        self.open_files(host, files.paths, kinds::SSHD_OPEN_FILE, WHO_CHANGES_IT);
        if known && self.findings.len() == before {
            let named = user.map_or_else(|| "everybody".to_owned(), |user| format!("\"{user}\""));
            self.ok("sshd", format!("its configuration lets {named} answer the token prompt"));
        }
        service
    }

    /// `sshd -T` failed.
    fn no_configuration(&mut self, host: &dyn Host, reason: &str, files: &Files) {
        let first = reason.lines().next().unwrap_or("it gave no reason");
        if let Some(directory) = reason.lines().find_map(run_directory) {
            // SSH-37.
            let also = if host.exists(Path::new(directory)) { "" } else { ", and drops each connection if it runs" };
            let text = format!("{first}: sshd does not start{also}");
            let fix = format!("install -d -m 0755 -o root -g root {}", word(directory));
            return self.add_fixed(kinds::SSHD_RUN_DIRECTORY, text, fix);
        }
        // Warnings about old keywords can come before the reason.
        let lines: Vec<&str> = reason.lines().map(str::trim).collect();
        let text = format!("sshd -T fails: {}", printable(&lines.join("; "), LONGEST));
        if reason.contains("no hostkeys available") {
            return self.add_fixed(
                kinds::SSHD_CONFIGURATION,
                text,
                "ssh-keygen -A   # makes those that are missing".to_owned(),
            );
        }
        // sshd names no file.
        if reason.contains("recursive configuration includes") {
            let fix = format!("{}   # a file that includes itself, perhaps by way of others", files.grep("include"));
            return self.add_fixed(kinds::SSHD_CONFIGURATION, text, fix);
        }
        self.add_kind(kinds::SSHD_CONFIGURATION, text);
    }

    /// Adds the settings that `Match` blocks can have: for logins in general, and for those to which a block applies.
    fn by_connection(&mut self, host: &dyn Host, sshd: &Effective, files: &Files, whose: Whose<'_>, pam_first: bool) {
        let blocks = &files.blocks;
        let elsewhere = elsewhere(host, sshd, blocks, whose);
        if blocks.len() > MOST_BLOCKS {
            self.ok("sshd", format!("it was asked about the first {MOST_BLOCKS} of {} Match blocks", blocks.len()));
        }
        let has = |found: &[Closing], kind: Kind| found.iter().any(|closed| closed.kind.id == kind.id);
        let general = closing(sshd);
        for Closing { kind, text, keyword } in &general {
            // Blocks that switch it on again: a site can let tokens in from its own network only.
            let without = elsewhere.iter().find(|other| !has(&other.found, *kind));
            let kind = Kind { level: without.map_or(kind.level, |_| Severity::Warning), ..*kind };
            let text = without.map_or_else(|| text.clone(), |other| format!("{text}. It differs {}", other.differs()));
            // The product's sshd.conf does not have it.
            if kind.id == kinds::SSHD_METHODS.id {
                self.add_fixed(kind, text, files.grep(keyword));
            } else {
                self.setting(host, files, kind, &text, keyword, pam_first);
            }
        }
        for other in &elsewhere {
            for closed in other.found.iter().filter(|closed| !has(&general, closed.kind)) {
                let text = format!("{}: {}", other.told(), closed.text);
                let fix = format!("sshd -T -C {}   # what counts for such a login", word(&other.connection));
                self.add_fixed(kinds::SSHD_MATCH, text, fix);
            }
        }
    }

    /// A person who logs in with a link has less time than login.toml says.
    fn link_time(&mut self, sshd: &Effective, files: &Files, login: &LoginSettings) {
        let (time, deadline) = (login.link.time.get(), login.deadline.get());
        // The last request can begin when the time ends, and the decision follows its answer.
        let needed = time.saturating_add(REQUEST_TIME).saturating_add(deadline);
        let grace = sshd.grace_time().filter(|grace| login.accepts_links() && *grace < needed);
        if let Some(grace) = grace {
            let text = format!(
                "LoginGraceTime is {} s: it ends logins with a link whose people need the {} s of [link] time in login.toml. \
                 The last request takes {} s more, and the decision up to {} s",
                grace.as_secs(),
                time.as_secs(),
                REQUEST_TIME.as_secs(),
                deadline.as_secs()
            );
            let fix = format!(
                "{}   # at least {} s, or a shorter time of [link]",
                files.grep("logingracetime"),
                needed.as_secs()
            );
            self.add_fixed(kinds::SSHD_LINK_TIME, text, fix);
        }
    }

    /// sshd refuses root's tokens unless `PermitRootLogin` is `yes`.
    fn root(&mut self, sshd: &Effective, files: &Files, login: &LoginSettings) {
        let has_root = |names: &[String]| names.iter().any(|name| name == "root");
        let (allowed, denied) = (has_root(&login.accounts.allow_system), has_root(&login.accounts.deny));
        if let Some(value) = sshd.get("permitrootlogin").filter(|value| allowed && !denied && *value != "yes") {
            let text = format!("login.toml lets tokens open root, but PermitRootLogin is {value}: sshd refuses them");
            let fix =
                format!("{}   # yes; or take root out of allow_system in login.toml", files.grep("permitrootlogin"));
            self.add_fixed(kinds::SSHD_ROOT, text, fix);
        }
    }

    fn effective(
        &mut self,
        host: &dyn Host,
        sshd: &Effective,
        files: &Files,
        deadline: Option<Duration>,
        pam_first: bool,
    ) {
        if sshd.is("usepam", "no") {
            let text = "UsePAM is off: sshd asks no PAM module";
            self.setting(host, files, kinds::SSHD_USE_PAM, text, "usepam", pam_first);
        }
        if let Some((grace, deadline)) =
            sshd.grace_time().zip(deadline).filter(|(grace, deadline)| *grace < *deadline + PERSON)
        {
            let text = format!(
                "LoginGraceTime is {} s: too short for a deadline of {} s and a person who pastes a token",
                grace.as_secs(),
                deadline.as_secs()
            );
            let fix = format!(
                "{}   # at least deadline of login.toml, and 30 s for the person",
                files.grep("logingracetime")
            );
            self.add_fixed(kinds::SSHD_GRACE_TIME, text, fix);
        }
        // SSH-11: from this many connections that wait for their login, sshd drops new ones, with keys as well.
        let begin = sshd.get(MAX_STARTUPS).and_then(|value| value.split(':').next()?.parse::<u32>().ok());
        if let Some(begin) = begin.filter(|begin| *begin < 30) {
            let text = format!("MaxStartups begins at {begin}: that many people at the token prompt shut others out");
            self.setting(host, files, kinds::SSHD_MAX_STARTUPS, &text, MAX_STARTUPS, pam_first);
        }
        self.penalties(host, sshd, files);
    }
}

/// Whether the stacks of sshd's service have errors, which are told after those of sshd. Our file has `UsePAM yes`, and with it they decide.
fn stacks_have_errors(host: &dyn Host, service: &str, login: Option<&LoginSettings>) -> bool {
    let mut findings = Findings::default();
    let listed = login.map(|login| &*login.services);
    if Findings::checked_services(host, listed.unwrap_or_default(), service).iter().any(|checked| checked == service) {
        findings.pam(host, service, Path::new(DIRECTORY), listed);
    }
    findings.count(Severity::Error) > 0
}

/// The directory that a message of sshd is about: it is missing, or its owner or mode is wrong.
fn run_directory(message: &str) -> Option<&str> {
    let missing = message.strip_prefix("Missing privilege separation directory: ");
    missing.or_else(|| message.strip_suffix(" must be owned by root and not group or world-writable."))
}

/// The output of `sshd -T`, for a login of `user` from this host, or for everybody.
fn effective(host: &dyn Host, user: Option<&str>) -> Ran {
    let run = |arguments: &[&str]| host.run(Path::new(SSHD), arguments);
    let at = |port: &str| {
        let user = user.map(|user| format!("user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,"));
        run(&["-T", "-C", &format!("{}lport={port}", user.unwrap_or_default())])
    };
    if user.is_none() {
        match run(&["-T"]) {
            // OpenSSH 9.2 to 10.6 show a configuration with `Match LocalPort` for a connection to a port only.
            Ran::Failed(reason) if reason.contains("'lport' not in connection test specification") => {}
            other => return other,
        }
    }
    let first = at("22");
    match &first {
        Ran::Output(text) => match Effective::parse(text).get("port") {
            Some(port) if port != "22" => at(port),
            _ => first,
        },
        _ => first,
    }
}

/// The output of `sshd -T`: a keyword in small letters and a value on each line. Lists of names have a line for each.
struct Effective(HashMap<String, Vec<String>>);

impl Effective {
    fn parse(text: &str) -> Self {
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for (keyword, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            values.entry(keyword.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
        }
        Self(values)
    }

    /// All values of a keyword.
    fn all(&self, keyword: &str) -> &[String] {
        self.0.get(keyword).map_or(&[], Vec::as_slice)
    }

    /// The first value of a keyword.
    fn get(&self, keyword: &str) -> Option<&str> {
        self.all(keyword).first().map(String::as_str)
    }

    /// `LoginGraceTime`, if there is a limit.
    fn grace_time(&self) -> Option<Duration> {
        let seconds: u64 = self.get("logingracetime")?.parse().ok()?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    fn is(&self, keyword: &str, value: &str) -> bool {
        self.get(keyword) == Some(value)
    }
}

#[cfg(test)]
mod tests;
