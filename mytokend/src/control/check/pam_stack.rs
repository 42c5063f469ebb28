// SPDX-License-Identifier: MIT OR Apache-2.0
//! A PAM stack as libpam reads and runs it (pam.conf(5), Linux-PAM 1.1 to 1.7), without running a module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The result when no module decided.
const MUST_FAIL: &str = "must_fail";

/// Deepest inclusion, as in libpam.
const DEEPEST: usize = 16;

/// Longest file in bytes, and most lines of a stack: real ones have some dozens.
const FILE_LIMIT: usize = 256 * 1024;
const LINE_LIMIT: usize = 2_000;

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

/// What libpam does after a module returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The result does not count.
    Ignore,
    /// Success, unless a module failed before.
    Ok,
    /// Success, and the stack ends, unless a module failed before.
    Done,
    /// Failure; the stack goes on.
    Bad,
    /// Failure, and the stack ends.
    Die,
    /// Forgets what came before.
    Reset,
    /// Skips this number of lines.
    Jump(usize),
}

/// The control field: an action for each return value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    actions: BTreeMap<String, Action>,
    default: Action,
}

impl Control {
    fn of(actions: &[(&str, Action)], default: Action) -> Self {
        let actions = actions.iter().map(|(value, action)| ((*value).to_owned(), *action)).collect();
        Self { actions, default }
    }

    fn parse(field: &str) -> Option<Self> {
        let fine = [("success", Action::Ok), ("new_authtok_reqd", Action::Ok)];
        let done = [("success", Action::Done), ("new_authtok_reqd", Action::Done)];
        let with_ignore = |actions: [(&'static str, Action); 2]| [actions[0], actions[1], ("ignore", Action::Ignore)];
        Some(match field.to_ascii_lowercase().as_str() {
            "required" => Self::of(&with_ignore(fine), Action::Bad),
            "requisite" => Self::of(&with_ignore(fine), Action::Die),
            "sufficient" => Self::of(&done, Action::Ignore),
            "optional" => Self::of(&fine, Action::Ignore),
            _ => return Self::parse_pairs(field.strip_prefix('[')?.strip_suffix(']')?),
        })
    }

    fn parse_pairs(text: &str) -> Option<Self> {
        // Without `default`, libpam fails on the values that are not named.
        let mut control = Self { actions: BTreeMap::new(), default: Action::Bad };
        for pair in text.split_whitespace() {
            let (value, action) = pair.split_once('=')?;
            let action = match action {
                "ignore" => Action::Ignore,
                "ok" => Action::Ok,
                "done" => Action::Done,
                "bad" => Action::Bad,
                "die" => Action::Die,
                "reset" => Action::Reset,
                number => Action::Jump(number.parse().ok().filter(|count| *count > 0)?),
            };
            if value == "default" {
                control.default = action;
            } else {
                control.actions.insert(value.to_owned(), action);
            }
        }
        Some(control)
    }

    /// What happens when the module returns `value`, written as in a configuration: `success`, `auth_err`.
    #[must_use]
    pub fn action(&self, value: &str) -> Action {
        self.actions.get(value).copied().unwrap_or(self.default)
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
    /// The line begins with `-`: a module that is missing is passed over.
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

/// The stack of one service and group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// In the order in which libpam runs them, with the number of substacks around each.
    steps: Vec<(usize, Step)>,
    /// Lines that libpam cannot read, or files that it does not find, as sentences. libpam then fails the line or the whole stack.
    pub mistakes: Vec<String>,
}

impl Stack {
    /// Reads the stack of `service` from the directory of `pam.d`. `read` returns a file's text.
    #[must_use]
    pub fn read(directory: &Path, service: &str, group: Group, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut stack = Self::default();
        stack.add_file(&directory.join(service), directory, group, 0, 0, read);
        stack
    }

    fn add_file(
        &mut self,
        path: &Path,
        directory: &Path,
        group: Group,
        depth: usize,
        level: usize,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        if depth > DEEPEST {
            return self.mistakes.push(format!("{}: files include each other", path.display()));
        }
        let Some(text) = read(path).filter(|text| text.len() <= FILE_LIMIT) else {
            return self.mistakes.push(format!("{} cannot be read", path.display()));
        };
        for (number, line) in logical_lines(&text) {
            if self.steps.len() >= LINE_LIMIT {
                return self.mistakes.push(format!("{}: more than {LINE_LIMIT} lines", path.display()));
            }
            let place = format!("{}:{number}", path.display());
            match parse_line(&line) {
                Ok(Parsed::Include { group: of, file, substack }) => {
                    if of.is_none_or(|of| of == group) {
                        if substack {
                            self.steps.push((level, Step::Substack));
                        }
                        let file = if file.starts_with('/') { PathBuf::from(file) } else { directory.join(file) };
                        self.add_file(&file, directory, group, depth + 1, level + usize::from(substack), read);
                    }
                }
                Ok(Parsed::Module { group: of, may_be_missing, control, module, arguments }) => {
                    if of == group {
                        let line = ModuleLine { place, control, module, arguments, may_be_missing };
                        self.steps.push((level, Step::Module(line)));
                    }
                }
                Err(why) => self.mistakes.push(format!("{place}: {why}")),
            }
        }
    }

    /// The lines that name a module, in the order in which libpam runs them.
    pub fn lines(&self) -> impl Iterator<Item = &ModuleLine> {
        self.steps.iter().filter_map(|(_, step)| match step {
            Step::Module(line) => Some(line),
            Step::Substack => None,
        })
    }

    /// The return value of the whole stack when each module returns what `returns` says. The words are those of a configuration;
    /// `must_fail` when no module decided, or when a jump leads out of the stack.
    #[must_use]
    pub fn run<'a>(&'a self, returns: impl Fn(&'a ModuleLine) -> &'static str) -> &'static str {
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

/// Lines without comments, with continuations joined, and the number of their first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let (line, goes_on) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match lines.last_mut() {
            Some((_, last)) if continued => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push((number, line.to_owned())),
        }
        continued = goes_on;
    }
    lines.retain(|(_, line)| !line.trim().is_empty());
    lines
}

/// Words; brackets hold words together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut bracket) = (Vec::new(), String::new(), false);
    for char in line.chars() {
        match char {
            '[' if word.is_empty() && !bracket => bracket = true,
            ']' if bracket => bracket = false,
            _ if char.is_whitespace() && !bracket => {
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

fn parse_line(line: &str) -> Result<Parsed, String> {
    let words = words(line);
    let mut words = words.iter().map(String::as_str);
    let first = words.next().unwrap_or_default();
    if first == "@include" {
        let file = words.next().ok_or("@include without a file")?;
        return Ok(Parsed::Include { group: None, file: file.to_owned(), substack: false });
    }
    let (may_be_missing, word) = first.strip_prefix('-').map_or((false, first), |word| (true, word));
    let group = Group::parse(word).ok_or_else(|| format!("\"{word}\" is none of auth, account, session, password"))?;
    let field = words.next().ok_or("the control field is missing")?;
    let module = words.next().ok_or("the module is missing")?.to_owned();
    if field == "include" || field == "substack" {
        return Ok(Parsed::Include { group: Some(group), file: module, substack: field == "substack" });
    }
    let control = Control::parse(field).ok_or_else(|| format!("the control field {field} cannot be read"))?;
    Ok(Parsed::Module { group, may_be_missing, control, module, arguments: words.map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests;
