// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the PAM stacks of sshd.

use std::collections::BTreeSet;
use std::path::Path;

use mytoken_wire::printable;

use super::Findings;
use super::configuration::{edit, word};
use super::host::{Host, Ran, module_paths};
use super::kinds;
use super::pam_answers::of_service;
use super::pam_fixes::missing_line;
use super::pam_stack::{Action, Directories, Group, ModuleLine, OTHER, Stack};

/// Our module.
pub(super) const MODULE: &str = "pam_mytoken";

/// Where libpam looks for the files of services. SUSE has its own ones in the second; administrators' are in the first everywhere.
const DIRECTORIES: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// Debian's first package of libpam that also looks for included files in both (SSH-36).
const INCLUDES_FROM_BOTH: &str = "1.7.0-6";

/// The service of sshd, unless `PAMServiceName` of newer releases has another.
pub(super) const SSHD: &str = "sshd";

/// Longest name of a module in a text.
pub(super) const NAME: usize = 80;

impl Findings {
    /// Checks the stacks of `service`. `dir`: the directory of the configuration that is checked. `listed`: `services` of `login.toml`,
    /// if it can be used.
    pub(super) fn pam(&mut self, host: &dyn Host, service: &str, dir: &Path, listed: Option<&[String]>) {
        let [auth, account, session] =
            [Group::Auth, Group::Account, Group::Session].map(|group| (group, read(host, service, group)));
        let before = self.findings.len();
        // What such stacks decide is due to these lines.
        let mut undecided = self.line_ends([&auth, &account, &session]);
        self.mistakes([&auth.1, &account.1, &session.1]);
        undecided.extend(self.jumps_out([&auth, &account, &session], service));
        for (stack, kind, effect) in [
            (&auth, kinds::PAM_AUTH, "tokens are not asked for"),
            (&account, kinds::PAM_ACCOUNT, "a token that expired during the login is not refused"),
            (&session, kinds::PAM_SESSION, "sessions get no access token"),
        ] {
            let (group, stack) = stack;
            let undecided = undecided.contains(group);
            let misspelt = self.module_files(host, *group, stack)
                || stack.mistakes.iter().any(|mistake| mistake.is_of(*group, MODULE));
            match ours(stack) {
                // Our line is there, and its mistake is told. Of a file that cannot be read, no line is known.
                None if misspelt || undecided || (stack.lines().next().is_none() && !stack.mistakes.is_empty()) => {}
                None => {
                    let of_other = stack.instead_of.as_ref().map(|file| {
                        format!(" ({} has no line of this group, so libpam takes those of {OTHER})", file.display())
                    });
                    let text = format!(
                        "the {} stack of {service} has no {MODULE}.so: {effect}{}{}",
                        group.name(),
                        of_other.unwrap_or_default(),
                        left_condition(stack, service)
                    );
                    let stacks = [&auth, &account, &session];
                    let fix = missing_line(self.package_tool, kind, host, service, *group, &stacks);
                    self.add_fixed(kind, text, fix);
                    if *group == Group::Auth {
                        self.is_bypassed(stack, None, service);
                    }
                }
                Some(_) if undecided => {}
                Some(line) => self.decisions(*group, stack, line, service, effect),
            }
        }
        self.pam_files(host, [&auth.1, &account.1, &session.1]);
        self.session_order(&session.1);
        self.user_environment(&auth.1, &session.1, service);
        self.arguments([&auth.1, &account.1, &session.1], dir);
        if let Some(listed) = listed {
            self.served(&auth.1, service, listed);
        }
        if self.findings.len() == before {
            self.ok("PAM", format!("the stacks of {service} ask for tokens and refuse what they must"));
        }
    }

    /// Adds the files with line ends of Windows. Returns the groups that have such lines.
    fn line_ends(&mut self, stacks: [&(Group, Stack); 3]) -> Vec<Group> {
        let (mut files, mut groups) = (BTreeSet::new(), Vec::new());
        for (group, stack) in stacks {
            let of_lines = stack.lines().filter(|line| has_cr(line)).map(|line| &line.place);
            let of_mistakes = stack.mistakes.iter().filter(|mistake| mistake.line.ends_with('\r'));
            let places = of_lines.chain(of_mistakes.map(|mistake| &mistake.place));
            let of_group: BTreeSet<String> =
                places.filter_map(|place| Some(place.rsplit_once(':')?.0.to_owned())).collect();
            groups.extend((!of_group.is_empty()).then_some(*group));
            files.extend(of_group);
        }
        for file in &files {
            let text = format!(
                "{file} has line ends of Windows (CR LF): libpam takes the CR for a part of the last word, a module, an argument or a file"
            );
            self.add_fixed(kinds::PAM_LINE, text, format!("sed -i --follow-symlinks 's/\\r$//' {}", word(file)));
        }
        groups
    }

    /// Adds each line that libpam cannot read once: those of all groups are in each stack.
    fn mistakes(&mut self, stacks: [&Stack; 3]) {
        let mut known = Vec::new();
        for mistake in stacks.into_iter().flat_map(|stack| &stack.mistakes) {
            if !known.contains(&mistake) && !mistake.line.ends_with('\r') {
                known.push(mistake);
                self.add_fixed(kinds::PAM_LINE, mistake.text.clone(), edit(&mistake.place));
            }
        }
    }

    /// Adds the lines that can jump out of their stack. Returns the groups that have such lines.
    fn jumps_out(&mut self, stacks: [&(Group, Stack); 3], service: &str) -> Vec<Group> {
        let mut groups = Vec::new();
        for (group, stack) in stacks {
            for (line, count) in stack.jumps_out(|line| of_service(line, service)) {
                let text = format!(
                    "{}: {} can jump over {count} lines, and fewer follow in the {} stack: libpam then fails the whole stack",
                    line.place,
                    printable(&line.module, NAME),
                    group.name()
                );
                self.add_fixed(kinds::PAM_JUMP, text, edit(&line.place));
                groups.push(*group);
            }
        }
        groups
    }

    /// Looks for the files of the modules. Returns whether one that is missing has nearly our name.
    fn module_files(&mut self, host: &dyn Host, group: Group, stack: &Stack) -> bool {
        let mut misspelt = false;
        for line in stack.lines().filter(|line| !has_cr(line)) {
            if module_paths(&line.module).iter().any(|path| host.exists(path)) {
                continue;
            }
            let own = line.name() == MODULE;
            let nearly = !own && strsim::damerau_levenshtein(line.name(), MODULE) <= 3;
            misspelt |= nearly;
            // A leading `-` changes only what is logged (pam.conf(5)).
            let fails = matches!(line.control.action("module_unknown"), Action::Bad | Action::Die);
            if !(own || nearly || fails) {
                continue;
            }
            let effect = match (fails, group) {
                (false, _) => "the line is passed over",
                (true, Group::Session) => "sessions are not complete",
                (true, _) => "every login of this service fails",
            };
            let meant = if nearly { format!("; it should be {MODULE}.so") } else { String::new() };
            let text = format!("{}: there is no {}: {effect}{meant}", line.place, printable(&line.module, NAME));
            if own && line.module.strip_suffix(".so") == Some(MODULE) {
                self.add_kind(kinds::PAM_FILE, text);
            } else {
                self.add_fixed(kinds::PAM_FILE, text, edit(&line.place));
            }
        }
        misspelt
    }
}

/// A sentence about a line that was the condition for our one: for other services it jumps over a line that is missing.
fn left_condition(stack: &Stack, service: &str) -> String {
    let jumps = stack.jumps_out(|_| None).find(|(line, _)| of_service(line, service) == Some("success"));
    let said = |(line, _): (&ModuleLine, _)| {
        format!(
            "; {} is there without the line that it is for: libpam fails the stacks of other services that have it",
            line.place
        )
    };
    jumps.map(said).unwrap_or_default()
}

pub(super) fn read(host: &dyn Host, service: &str, group: Group) -> Stack {
    let services = DIRECTORIES.map(Path::new);
    let read = |path: &Path| host.read(path);
    let both = Stack::read(Directories { services: &services, includes: &services }, service, group, &read);
    let elsewhere = |line: &ModuleLine| line.place.starts_with(DIRECTORIES[1]);
    if !both.lines().any(elsewhere) || includes_from_both(host) {
        return both;
    }
    Stack::read(Directories { services: &services, includes: &services[..1] }, service, group, &read)
}

/// Whether this host's libpam looks for included files in both directories.
fn includes_from_both(host: &dyn Host) -> bool {
    let Ran::Output(version) = host.run(Path::new("/usr/bin/dpkg-query"), &["-W", "-f", "${Version} ", "libpam0g"])
    else {
        return true;
    };
    let version = version.split(' ').next().unwrap_or_default();
    let compare = ["--compare-versions", version, "lt", INCLUDES_FROM_BOTH];
    !matches!(host.run(Path::new("/usr/bin/dpkg"), &compare), Ran::Output(_))
}

/// Whether the line ends as lines of Windows do.
pub(super) fn has_cr(line: &ModuleLine) -> bool {
    line.arguments.last().unwrap_or(&line.module).ends_with('\r')
}

/// Whether sshd's auth stack has our module.
pub(super) fn sshd_asks_us(host: &dyn Host) -> bool {
    asks_us(host, SSHD)
}

/// Whether the auth stack of this service has our module.
pub(super) fn asks_us(host: &dyn Host, service: &str) -> bool {
    ours(&read(host, service, Group::Auth)).is_some()
}

pub(super) fn ours(stack: &Stack) -> Option<&ModuleLine> {
    stack.lines().find(|line| line.name() == MODULE)
}

#[cfg(test)]
mod tests;
