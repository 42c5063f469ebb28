// SPDX-License-Identifier: MIT OR Apache-2.0
//! A PAM stack as libpam reads and runs it (pam.conf(5), Linux-PAM 1.1 to 1.7), without running a module.

mod control;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mytoken_wire::printable;

pub use control::{Action, Control, return_value, value_named};

/// The result when no module decided.
const MUST_FAIL: &str = "must_fail";

/// Deepest inclusion, as in libpam.
const DEEPEST: usize = 16;

/// Longest file in bytes, and most lines of a stack: real ones have some dozens.
const FILE_LIMIT: usize = 256 * 1024;
const LINE_LIMIT: usize = 2_000;

/// Most files of a stack. Two lines that include their own file would double them at each depth.
const MOST_FILES: usize = 500;

/// Longest path in a sentence.
const LONGEST_PATH: usize = 200;

/// The service whose lines libpam takes for each group of which a service has no line (SSH-42).
pub(super) const OTHER: &str = "other";

/// The management groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// `pam_authenticate`, `pam_setcred`.
    Auth,
    /// `pam_acct_mgmt`.
    Account,
    /// `pam_open_session`, `pam_close_session`.
    Session,
    /// `pam_chauthtok`.
    Password,
}

impl Group {
    fn parse(word: &str) -> Option<Self> {
        [Self::Auth, Self::Account, Self::Session, Self::Password]
            .into_iter()
            .find(|group| word.eq_ignore_ascii_case(group.name()))
    }

    /// Its word in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Account => "account",
            Self::Session => "session",
            Self::Password => "password",
        }
    }
}

/// A line that names a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleLine {
    /// `FILE:LINE`.
    pub place: String,
    /// The control field.
    pub control: Control,
    /// The module as it is written: a file name or a path.
    pub module: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The line begins with `-`: libpam does not log that the module is missing. It fails all the same.
    pub may_be_missing: bool,
}

/// What libpam keeps for a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Module(ModuleLine),
    /// The lines of the substack follow, one level deeper.
    Substack,
}

impl ModuleLine {
    /// The module's name: `pam_unix.so` without directory and ending.
    #[must_use]
    pub fn name(&self) -> &str {
        let file = self.module.rsplit('/').next().unwrap_or_default();
        file.strip_suffix(".so").unwrap_or(file)
    }
}

/// A line that libpam cannot read, or a file that it does not find. libpam then fails the line or the whole stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// `FILE:LINE`: the line itself, or the one that names the file; for the service's own file its path alone.
    pub place: String,
    /// A sentence.
    pub text: String,
    /// The line, if it is one that libpam cannot read.
    pub line: String,
    /// libpam then refuses every call of every service that reads this file: `@include` of a file that it does not find (SSH-42).
    pub stops_all: bool,
}

impl Mistake {
    /// Whether it is a line of this group with this module.
    #[must_use]
    pub fn is_of(&self, group: Group, module: &str) -> bool {
        group_of(&self.line) == Some(group) && self.line.contains(module)
    }
}

/// The stack of one service and group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// In the order in which libpam runs them, with the number of substacks around each.
    steps: Vec<(usize, Step)>,
    /// What libpam cannot use.
    pub mistakes: Vec<Mistake>,
    /// Whether files include each other.
    is_circle: bool,
    /// How many were read.
    files: usize,
    /// Whether a line of this group was read, also one that libpam cannot use.
    has_lines: bool,
    /// The files that were read.
    pub(super) read: BTreeSet<PathBuf>,
    /// Where the service would have its lines, if all are those of `other`: it has none of this group.
    pub instead_of: Option<PathBuf>,
}

/// Where libpam looks for files whose names have no directory, in this order.
#[derive(Debug, Clone, Copy)]
pub struct Directories<'a> {
    /// For the service's own file.
    pub services: &'a [&'a Path],
    /// For the files that others include. Debian's libpam before 1.7.0-6 knows one directory only (SSH-36).
    pub includes: &'a [&'a Path],
}

/// Where a stack is read from.
struct Source<'a> {
    directories: Directories<'a>,
    group: Group,
    read: &'a dyn Fn(&Path) -> Option<String>,
}

/// The line that includes a file.
#[derive(Clone, Copy)]
struct Inclusion<'a> {
    place: &'a str,
    /// The group whose lines are taken; all with `@include` alone.
    group: Option<Group>,
}

impl Source<'_> {
    /// The path and text of a file. Without a text, the path is the first of those that libpam tries.
    fn file(&self, name: &str, is_included: bool) -> (PathBuf, Option<String>) {
        let directories = if is_included { self.directories.includes } else { self.directories.services };
        // An absolute name replaces the directory.
        let paths = || directories.iter().map(|directory| directory.join(name));
        let found = paths().find_map(|path| Some(((self.read)(&path)?, path)));
        match found {
            Some((text, path)) => (path, Some(text)),
            None => (paths().next().unwrap_or_default(), None),
        }
    }
}

impl Stack {
    /// Reads the stack of `service` from the first of these directories that has it, or that of `other` (SSH-42). `read` returns a
    /// file's text.
    #[must_use]
    pub fn read(
        directories: Directories<'_>,
        service: &str,
        group: Group,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Self {
        let source = Source { directories, group, read };
        let mut stack = Self::default();
        stack.add_file(&source, service, None, 0, 0);
        if service == OTHER {
            return stack;
        }
        let mut other = Self::default();
        other.add_file(&source, OTHER, None, 0, 0);
        let file = |name: &str| source.file(name, false);
        match (file(service), file(OTHER)) {
            ((_, None), (_, None)) => {
                for mistake in &mut stack.mistakes {
                    mistake.text = format!("{}, and there is no /etc/pam.d/{OTHER}", mistake.text);
                }
                stack
            }
            ((path, None), _) => Self { instead_of: Some(path), ..other },
            ((path, _), (_, Some(_))) if !stack.has_lines => {
                let mistakes = [stack.mistakes, other.mistakes].concat();
                Self { instead_of: Some(path), mistakes, ..other }
            }
            (_, (_, Some(_))) => {
                // Of lines that are not used, only this counts.
                let mut more = other.mistakes;
                more.retain(|mistake| mistake.stops_all && !stack.mistakes.contains(mistake));
                stack.mistakes.extend(more);
                stack
            }
            (_, (_, None)) => stack,
        }
    }

    fn add_file(&mut self, source: &Source<'_>, name: &str, by: Option<Inclusion<'_>>, depth: usize, level: usize) {
        self.files = self.files.saturating_add(1);
        if self.files > MOST_FILES && self.is_circle {
            return;
        }
        let (read, text) = source.file(name, by.is_some());
        let path = read.display().to_string();
        let place = by.map_or_else(|| path.clone(), |by| by.place.to_owned());
        if depth > DEEPEST || self.files > MOST_FILES {
            self.has_lines = true;
            // Each file of the circle, and what these include, would be one.
            if !std::mem::replace(&mut self.is_circle, true) {
                let (text, line) = (format!("{path}: files include each other"), String::new());
                let stops_all = by.is_some_and(|by| by.group.is_none());
                self.mistakes.push(Mistake { place, text, line, stops_all });
            }
            return;
        }
        let Some(text) = text.filter(|text| text.len() <= FILE_LIMIT) else {
            self.has_lines = true;
            let stops_all = by.is_some_and(|by| by.group.is_none());
            let by = by.map(|by| format!("{}: ", by.place)).unwrap_or_default();
            let text = format!("{by}{} cannot be read", printable(&path, LONGEST_PATH));
            return self.mistakes.push(Mistake { place, text, line: name.to_owned(), stops_all });
        };
        self.read.insert(read);
        let wanted = by.and_then(|by| by.group);
        for (number, line) in logical_lines(&text) {
            if self.steps.len() >= LINE_LIMIT {
                return self.mistake(place, format!("{path}: more than {LINE_LIMIT} lines"));
            }
            let here = format!("{path}:{number}");
            match parse_line(&line) {
                Ok(Parsed::Include { group: of, file, substack }) => {
                    if of.is_none_or(|of| of == source.group) {
                        if substack {
                            self.has_lines = true;
                            self.steps.push((level, Step::Substack));
                        }
                        let by = Inclusion { place: &here, group: of.or(wanted) };
                        self.add_file(source, &file, Some(by), depth + 1, level + usize::from(substack));
                    }
                }
                Ok(Parsed::Module { group: of, may_be_missing, control, module, arguments }) => {
                    if of == source.group {
                        self.has_lines = true;
                        let line = ModuleLine { place: here, control, module, arguments, may_be_missing };
                        self.steps.push((level, Step::Module(line)));
                    }
                }
                Err(why) => {
                    // In the place of a line that libpam cannot read is one that fails, of the auth group if none is named.
                    self.has_lines |= group_of(&line).or(wanted).unwrap_or(Group::Auth) == source.group;
                    let text = format!("{here}: {why}");
                    self.mistakes.push(Mistake { text, place: here, line, stops_all: false });
                }
            }
        }
    }

    fn mistake(&mut self, place: String, text: String) {
        self.mistakes.push(Mistake { place, text, line: String::new(), stops_all: false });
    }

    /// The lines that name a module, in the order in which libpam runs them.
    pub fn lines(&self) -> impl Iterator<Item = &ModuleLine> {
        self.steps.iter().filter_map(|(_, step)| match step {
            Step::Module(line) => Some(line),
            Step::Substack => None,
        })
    }

    /// The lines that can jump over more lines than follow, and over how many. libpam then fails the stack. `certain`: what a line
    /// returns, if it is always the same.
    pub(super) fn jumps_out(
        &self,
        certain: impl Fn(&ModuleLine) -> Option<&'static str>,
    ) -> impl Iterator<Item = (&ModuleLine, usize)> {
        let steps = self.steps.iter().enumerate();
        steps.filter_map(move |(at, (level, step))| {
            let Step::Module(line) = step else { return None };
            let leads_out = |count: &usize| self.jump(at + 1, *level, *count).is_none();
            let count = match certain(line) {
                Some(value) => line.control.jump(value).filter(leads_out),
                None => line.control.jumps().find(leads_out),
            };
            Some((line, count?))
        })
    }

    /// The return value of the whole stack when each module returns what `returns` says. The words are those of a configuration;
    /// `must_fail` when no module decided, or when a jump leads out of the stack.
    #[must_use]
    pub fn run<'a>(&'a self, returns: impl Fn(&'a ModuleLine) -> &'static str) -> &'static str {
        self.run_without(None, returns)
    }

    /// The same if this line of the stack, whatever it returns, did not count.
    pub(super) fn run_without<'a>(
        &'a self,
        left_out: Option<&ModuleLine>,
        returns: impl Fn(&'a ModuleLine) -> &'static str,
    ) -> &'static str {
        // libpam calls this the impression: no module has decided yet, one succeeded, one failed.
        let (mut decided, mut status) = (None, MUST_FAIL);
        // What libpam remembers at the beginning of each substack, for `reset`.
        let mut outer: Vec<(Option<bool>, &'static str)> = Vec::new();
        let mut next = 0;
        while let Some((level, step)) = self.steps.get(next) {
            next += 1;
            outer.truncate(*level);
            let Step::Module(line) = step else {
                outer.push((decided, status));
                continue;
            };
            if left_out.is_some_and(|left_out| std::ptr::eq(left_out, line)) {
                continue;
            }
            let value = returns(line);
            match line.control.action(value) {
                Action::Ignore => {}
                action @ (Action::Ok | Action::Done) => {
                    // `ok` for another value than success keeps that value, and no later success changes it.
                    if decided.is_none() || (decided == Some(true) && status == "success") {
                        (decided, status) = (Some(true), value);
                    }
                    if action == Action::Done && decided == Some(true) {
                        next = self.end_of_level(next, *level);
                    }
                }
                action @ (Action::Bad | Action::Die) => {
                    if decided != Some(false) {
                        (decided, status) = (Some(false), value);
                    }
                    if action == Action::Die {
                        next = self.end_of_level(next, *level);
                    }
                }
                Action::Reset => (decided, status) = outer.last().copied().unwrap_or((None, MUST_FAIL)),
                Action::Jump(count) => match self.jump(next, *level, count) {
                    Some(target) => next = target,
                    None => (decided, status) = (Some(false), MUST_FAIL),
                },
            }
        }
        if status == "success" && decided != Some(true) { MUST_FAIL } else { status }
    }

    /// The first step after those of this level and deeper ones.
    fn end_of_level(&self, from: usize, level: usize) -> usize {
        let mut at = from;
        while self.steps.get(at).is_some_and(|(other, _)| *other >= level) {
            at += 1;
        }
        at
    }

    /// Where a jump over `count` lines of this level leads. A substack is one line.
    fn jump(&self, from: usize, level: usize, count: usize) -> Option<usize> {
        let mut at = from;
        for _ in 0..count {
            self.steps.get(at).filter(|(other, _)| *other >= level)?;
            at += 1;
            while self.steps.get(at).is_some_and(|(other, _)| *other > level) {
                at += 1;
            }
        }
        Some(at)
    }
}

enum Parsed {
    Include { group: Option<Group>, file: String, substack: bool },
    Module { group: Group, may_be_missing: bool, control: Control, module: String, arguments: Vec<String> },
}

/// What separates words.
const BLANKS: [char; 3] = [' ', '\t', '\n'];

/// Lines without comments, with continuations joined, and the number of their first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    // Not `lines`: to libpam a carriage return belongs to the last word.
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.split('#').next().unwrap_or_default();
        // Blanks may follow the backslash.
        let (line, goes_on) =
            line.trim_end_matches(BLANKS).strip_suffix('\\').map_or((line, false), |line| (line, true));
        match lines.last_mut() {
            Some((_, last)) if continued => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push((number, line.to_owned())),
        }
        continued = goes_on;
    }
    lines.retain(|(_, line)| !line.trim_matches(BLANKS).is_empty());
    lines
}

/// Words; brackets hold words together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut bracket) = (Vec::new(), String::new(), false);
    for char in line.chars() {
        match char {
            '[' if word.is_empty() && !bracket => bracket = true,
            ']' if bracket => bracket = false,
            _ if BLANKS.contains(&char) && !bracket => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(char);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The group that a line names.
fn group_of(line: &str) -> Option<Group> {
    let first = line.split(BLANKS).find(|word| !word.is_empty())?;
    Group::parse(first.strip_prefix('-').unwrap_or(first))
}

fn parse_line(line: &str) -> Result<Parsed, String> {
    let words = words(line);
    let mut words = words.iter().map(String::as_str);
    let first = words.next().unwrap_or_default();
    if first.eq_ignore_ascii_case("@include") {
        let file = words.next().ok_or("@include without a file")?;
        return Ok(Parsed::Include { group: None, file: file.to_owned(), substack: false });
    }
    let (may_be_missing, word) = first.strip_prefix('-').map_or((false, first), |word| (true, word));
    let group = Group::parse(word)
        .ok_or_else(|| format!("\"{}\" is none of auth, account, session, password", word.escape_debug()))?;
    let field = words.next().ok_or("the control field is missing")?;
    let module = words.next().ok_or("the module is missing")?.to_owned();
    let substack = field.eq_ignore_ascii_case("substack");
    if substack || field.eq_ignore_ascii_case("include") {
        return Ok(Parsed::Include { group: Some(group), file: module, substack });
    }
    let control =
        Control::parse(field).ok_or_else(|| format!("the control field {} cannot be read", field.escape_debug()))?;
    // Brackets hold an argument with blanks together, and do not belong to it.
    let bare = |word: &str| word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word).to_owned();
    Ok(Parsed::Module { group, may_be_missing, control, module, arguments: words.map(bare).collect() })
}

#[cfg(test)]
mod tests;
