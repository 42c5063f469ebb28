// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about what a stack decides: whom it lets in with a token and without one, and the lines to which that is due.

use mytoken_wire::printable;

use super::Findings;
use super::configuration::edit;
use super::kinds::{self, Kind};
use super::pam::{MODULE, NAME};
use super::pam_answers::{Case, Course, PASSWORD, Unknown, is_refusal, occasion, without_token};
use super::pam_stack::{Action, Group, ModuleLine, Stack};

/// What our module returns in the account stack for a token that expired during the login, for a login whose record cannot be used, and
/// after an internal error.
const ACCOUNT_REFUSALS: [&str; 3] = ["acct_expired", "perm_denied", "system_err"];

impl Findings {
    /// Lets a stack decide about tokens that our module accepts and refuses, and about its other answers.
    pub(super) fn decisions(&mut self, group: Group, stack: &Stack, line: &ModuleLine, service: &str, effect: &str) {
        let place = &line.place;
        // Only what is so in each case is a fault: a module that is not known here can succeed or fail.
        let accepted = Case { stack, group, service, ours: "success", unknown: Unknown::Either };
        let courses = accepted.courses();
        let reached: Vec<_> = courses.iter().filter(|course| course.before_ours().is_some()).collect();
        let is_bypassed = group == Group::Auth && self.is_bypassed(stack, Some(line), service);
        if reached.is_empty() {
            if is_bypassed {
                return;
            }
            let passed_by = courses.first().and_then(|course| course.last_before(stack, line));
            let (reason, fix) = match passed_by {
                Some(by) => (format!(" after {}", named(by)), edit(&by.place)),
                None => (String::new(), edit(place)),
            };
            let text =
                format!("{place}: libpam never comes to this line of the {} stack{reason}: {effect}", group.name());
            return self.add_fixed(kinds::PAM_NOT_REACHED, text, fix);
        }
        let enters = reached.iter().find(|course| course.succeeds());
        if group == Group::Session {
            return;
        }
        if let (None, Some(course)) = (enters, reached.first()) {
            self.refuses_accepted(&accepted, course, line);
        }
        if group == Group::Account {
            // Other modules of this stack judge the account, not the token.
            let open: Vec<&str> = ACCOUNT_REFUSALS
                .into_iter()
                .filter(|refusal| {
                    let case = Case { ours: refusal, unknown: Unknown::Succeed, ..accepted };
                    case.courses().iter().any(|course| course.succeeds() && course.before_ours().is_some())
                })
                .collect();
            if !open.is_empty() {
                let text =
                    format!("{place}: a refused or expired token logs in ({} counts as success)", open.join(", "));
                self.add_kind(kinds::PAM_OPEN, text);
            }
            return;
        }
        if self.is_open(stack, line, service) || is_bypassed {
            return;
        }
        let passes =
            |refusal: &&str| matches!(line.control.action(refusal), Action::Ignore | Action::Jump(_) | Action::Reset);
        let refusals = without_token().filter(|(class, _)| is_refusal(*class)).map(|(_, answer)| answer);
        let through: Vec<&str> = refusals.filter(passes).collect();
        if !through.is_empty() {
            let text = format!("{place}: after a refused token the next line is asked ({})", through.join(", "));
            self.add_kind(kinds::PAM_FALLS_THROUGH, text);
        }
        let before = enters.or(reached.first()).and_then(|course| course.before_ours()).unwrap_or_default();
        if let Some((password, _)) = before.iter().find(|(asked, _)| PASSWORD.contains(&asked.name())) {
            let text = format!(
                "{}: {} asks for a password before {MODULE}.so asks for a token: each login by token is a wrong password first",
                password.place, password.module
            );
            self.add_kind(kinds::PAM_PASSWORD_FIRST, text);
        }
    }

    /// Adds the line to which it is due that an accepted token does not log in.
    fn refuses_accepted(&mut self, case: &Case<'_>, course: &Course<'_>, line: &ModuleLine) {
        let place = &line.place;
        let said = format!("{place}: an accepted token does not log in");
        let Some(by) = case.due_to(course).filter(|by| !std::ptr::eq(*by, line)) else {
            let text = format!("{said}: the control field of this line does not let it");
            return self.add_fixed(kinds::PAM_CLOSED, text, edit(place));
        };
        let is_before =
            course.before_ours().is_some_and(|before| before.iter().any(|(asked, _)| std::ptr::eq(*asked, by)));
        let named = named(by);
        match case.group {
            // Our line should have ended the stack.
            Group::Auth if !is_before => {
                self.add_due(kinds::PAM_CLOSED, format!("{said}: a later line asks for more, {named}"), line, by);
            }
            _ => self.add_fixed(kinds::PAM_CLOSED, format!("{said}: {named} refuses it"), edit(&by.place)),
        }
    }

    /// Whether the auth stack lets somebody in whom our module is not asked about, and who has no other credential. Adds the line to which
    /// that is due. `line`: ours, if the stack has it.
    pub(super) fn is_bypassed(&mut self, stack: &Stack, line: Option<&ModuleLine>, service: &str) -> bool {
        // The answer of our module does not count where libpam does not come to it.
        let case = Case { stack, group: Group::Auth, service, ours: "auth_err", unknown: Unknown::Fail };
        let courses = case.courses();
        let passed: Vec<_> =
            courses.iter().filter(|course| course.succeeds() && course.before_ours().is_none()).collect();
        let Some((first, by)) = passed.iter().find_map(|course| Some((course, case.due_to(course)?))) else {
            return false;
        };
        // A line that leads past ours, rather than one behind it that succeeds.
        let by = line.and_then(|line| first.last_before(stack, line)).unwrap_or(by);
        let whom = if passed.len() == courses.len() { "everybody" } else { "some people" };
        let past = line.map(|line| format!(": libpam does not come to {MODULE}.so in {}", line.place));
        let text = format!(
            "{}: {} lets {whom} in without a token{}",
            by.place,
            printable(&by.module, NAME),
            past.unwrap_or_default()
        );
        self.add_fixed(kinds::PAM_WITHOUT_TOKEN, text, edit(&by.place));
        true
    }

    /// Whether the auth stack lets somebody in who has neither a valid token nor another credential, after our line.
    fn is_open(&mut self, stack: &Stack, line: &ModuleLine, service: &str) -> bool {
        let mut due_to = None;
        let mut opens = |ours| {
            let case = Case { stack, group: Group::Auth, service, ours, unknown: Unknown::Fail };
            let courses = case.courses();
            let open = courses.iter().find(|course| course.succeeds() && course.before_ours().is_some());
            due_to = due_to.or_else(|| case.due_to(open?));
            open.is_some()
        };
        let open: Vec<_> = without_token().filter(|&(_, answer)| opens(answer)).collect();
        let (place, due_to) = (&line.place, due_to.unwrap_or(line));
        let by = if std::ptr::eq(due_to, line) { String::new() } else { format!("; {} lets it in", named(due_to)) };
        if open.iter().any(|(class, _)| is_refusal(*class)) {
            let answers: Vec<&str> = open.iter().map(|(_, answer)| *answer).collect();
            let text = format!("{place}: a refused token logs in ({} counts as success){by}", answers.join(", "));
            self.add_due(kinds::PAM_OPEN, text, line, due_to);
        } else if !open.is_empty() {
            let answers: Vec<String> =
                open.iter().map(|(class, answer)| format!("{} ({answer})", occasion(*class))).collect();
            let text = format!(
                "{place}: everybody logs in without a token when {}: no later line asks for another credential{by}",
                answers.join(", or ")
            );
            self.add_due(kinds::PAM_WITHOUT_TOKEN, text, line, due_to);
        }
        !open.is_empty()
    }

    /// Adds a finding about our line that is due to another one. The example shows both, but not a line of another file.
    fn add_due(&mut self, kind: Kind, text: String, line: &ModuleLine, due_to: &ModuleLine) {
        let file = |line: &ModuleLine| line.place.rsplit_once(':').map(|(file, _)| file.to_owned());
        if file(line) == file(due_to) {
            self.add_kind(kind, text);
        } else {
            self.add_fixed(kind, text, edit(&due_to.place));
        }
    }
}

/// The module of a line, and where it is.
fn named(line: &ModuleLine) -> String {
    format!("{} in {}", printable(&line.module, NAME), line.place)
}
