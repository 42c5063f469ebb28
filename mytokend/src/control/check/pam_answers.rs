// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stack decides about a login over ssh, and what its modules answer to it.

use std::cell::RefCell;

use mytoken_login::RefusalClass;

use super::pam::MODULE;
use super::pam_stack::{Action, Group, ModuleLine, Stack, value_named};

/// Modules that ask for a password. Somebody who has a token has none.
pub(super) const PASSWORD: [&str; 6] = ["pam_unix", "pam_sss", "pam_krb5", "pam_ldap", "pam_userdb", "pam_winbind"];

/// Modules whose auth phase does not count: it returns `PAM_IGNORE` for everybody (SSH-41). Not among them: `pam_echo`, which returns
/// `PAM_SUCCESS` when it has shown its text, and `pam_cap`, which does so for accounts of its file; Debian's file has all.
const DO_NOT_COUNT: [&str; 9] = [
    "pam_canonicalize_user",
    "pam_env",
    "pam_faildelay",
    "pam_group",
    "pam_issue",
    "pam_keyinit",
    "pam_mail",
    "pam_nologin",
    "pam_warn",
];

/// Of these, the ones whose account phase returns it, too.
const DO_NOT_COUNT_FOR_ACCOUNTS: [&str; 2] = ["pam_nologin", "pam_warn"];

/// Modules that have no auth phase (SSH-41): libpam puts `PAM_MODULE_UNKNOWN` in its place, so a `required` line with one refuses all.
const WITHOUT_AUTH: [&str; 11] = [
    "pam_limits",
    "pam_loginuid",
    "pam_mkhomedir",
    "pam_motd",
    "pam_namespace",
    "pam_pwhistory",
    "pam_setquota",
    "pam_systemd",
    "pam_tty_audit",
    "pam_umask",
    "pam_xauth",
];

/// Services that users start, so that `pam_rootok` is not about the process of sshd.
const OF_USERS: [&str; 2] = ["su", "su-l"];

/// Modules that let each login over ssh pass, and ask for no credential.
const ASK_NOTHING: [&str; 7] = [
    "pam_faillock",
    "pam_permit",
    // SSH-41: the uid that counts is that of sshd's process, root. It opens every account; only SELinux can deny sshd `rootok`.
    "pam_rootok",
    "pam_securetty",
    "pam_shells",
    "pam_tally",
    "pam_tally2",
];

/// Modules that ask for no credential, and what they return to some logins and to others.
const CONDITIONS: [(&str, [&str; 2]); 10] = [
    ("pam_access", ["success", "perm_denied"]),
    ("pam_cap", ["success", "ignore"]),
    ("pam_echo", ["success", "ignore"]),
    ("pam_lastlog", ["success", "auth_err"]),
    ("pam_listfile", ["success", "auth_err"]),
    ("pam_localuser", ["success", "perm_denied"]),
    ("pam_sepermit", ["success", "ignore"]),
    ("pam_succeed_if", ["success", "auth_err"]),
    ("pam_time", ["success", "perm_denied"]),
    ("pam_usertype", ["success", "auth_err"]),
];

/// Words of `pam_succeed_if` that are no conditions.
const FLAGS: [&str; 6] = ["audit", "debug", "quiet", "quiet_fail", "quiet_success", "use_uid"];

/// Most lines of a stack that are tried with both answers, in all combinations. Real stacks have fewer.
const MOST_OPEN_LINES: usize = 8;

/// What modules answer that are not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// They let the login pass.
    Succeed,
    /// They ask for a credential, and there is none.
    Fail,
    /// One or the other.
    Either,
}

/// What a module answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// This, to each login.
    Always(&'static str),
    /// One of these, which depends on account, address or time. The first lets the login pass.
    Either([&'static str; 2]),
    /// It is not known here. It may ask for a credential.
    Unknown,
}

/// What a stack does in one case.
#[derive(Debug)]
pub(super) struct Course<'a> {
    /// Its return value.
    pub decision: &'static str,
    /// The lines that libpam came to, in their order, and their answers.
    asked: Vec<(&'a ModuleLine, &'static str)>,
    /// Which of the answers that are not certain do not let the login pass, one bit for each.
    failing: usize,
}

impl<'a> Course<'a> {
    /// Whether the login goes on.
    pub(super) fn succeeds(&self) -> bool {
        self.decision == "success"
    }

    /// The lines before ours; `None` if libpam did not come to it.
    pub(super) fn before_ours(&self) -> Option<&[(&'a ModuleLine, &'static str)]> {
        let turn = self.asked.iter().position(|(asked, _)| asked.name() == MODULE)?;
        self.asked.get(..turn)
    }

    /// Whether libpam came to this line.
    pub(super) fn comes_to(&self, line: &ModuleLine) -> bool {
        self.asked.iter().any(|(asked, _)| std::ptr::eq(*asked, line))
    }

    /// The last line before this one that libpam came to: where it does not come to this one, that line led past it.
    pub(super) fn last_before(&self, stack: &'a Stack, line: &ModuleLine) -> Option<&'a ModuleLine> {
        let before: Vec<&ModuleLine> = stack.lines().take_while(|other| !std::ptr::eq(*other, line)).collect();
        let is_before = |asked: &&ModuleLine| before.iter().any(|other| std::ptr::eq(*other, *asked));
        self.asked.iter().rev().map(|(asked, _)| *asked).find(is_before)
    }
}

/// What our module answers to a login without a valid token, from its own table.
pub(super) fn without_token() -> impl Iterator<Item = (RefusalClass, &'static str)> {
    RefusalClass::ALL.into_iter().filter_map(|class| Some((class, value_named(class.pam())?)))
}

/// Whether the module has judged a token. A stack may ask for another credential after its other answers, but not after these.
pub(super) fn is_refusal(class: RefusalClass) -> bool {
    matches!(class, RefusalClass::Rejected | RefusalClass::Forbidden)
}

/// When the module gives such an answer.
pub(super) fn occasion(class: RefusalClass) -> &'static str {
    match class {
        RefusalClass::NotHandled => "the account is not for tokens",
        RefusalClass::Rejected => "the token is not accepted",
        RefusalClass::Forbidden => "the token is for another account",
        RefusalClass::Unavailable => "a server does not answer",
        RefusalClass::Misconfigured => "the configuration cannot be used",
        RefusalClass::Conversation => "the conversation fails",
        RefusalClass::System => "this host has a problem",
    }
}

/// What a module can return to a login over ssh, as words of a stack: two times the same if it is certain; `None` for a module that is
/// not known here, and may ask for a credential.
#[must_use]
pub fn answers(line: &ModuleLine, group: Group, service: &str) -> Option<[&'static str; 2]> {
    match answer(line, group, service) {
        Answer::Always(value) => Some([value; 2]),
        Answer::Either(values) => Some(values),
        Answer::Unknown => None,
    }
}

/// What `pam_succeed_if` says about the service alone: whether its conditions are met; `None` if another one decides.
fn is_met(line: &ModuleLine, service: &str) -> Option<bool> {
    // Flags may stand before and between the conditions, which have three words each.
    let words: Vec<&str> = line.arguments.iter().map(String::as_str).filter(|word| !FLAGS.contains(word)).collect();
    let mut met = Some(true);
    for condition in words.chunks(3) {
        let holds = match condition {
            ["service", "=", name] => Some(*name == service),
            ["service", "!=", name] => Some(*name != service),
            ["service", "=~", pattern] => glob::Pattern::new(pattern).ok().map(|pattern| pattern.matches(service)),
            ["service", "!~", pattern] => glob::Pattern::new(pattern).ok().map(|pattern| !pattern.matches(service)),
            ["service", "in", names] => Some(names.split(':').any(|name| name == service)),
            ["service", "notin", names] => Some(names.split(':').all(|name| name != service)),
            _ => None,
        };
        match holds {
            Some(false) => return Some(false),
            Some(true) => {}
            None => met = None,
        }
    }
    met
}

/// The only value with which libpam goes on after a line in a login to this service, if the line is a condition about the service.
pub(super) fn of_service(line: &ModuleLine, service: &str) -> Option<&'static str> {
    let is_met = if line.name() == "pam_succeed_if" { is_met(line, service)? } else { return None };
    Some(if is_met { "success" } else { "auth_err" })
}

/// What another module than ours answers to somebody who has no password.
fn answer(line: &ModuleLine, group: Group, service: &str) -> Answer {
    let has = |word: &str| line.arguments.iter().any(|argument| argument == word);
    let is_auth = group == Group::Auth;
    // A condition for our line, which a login over ssh fulfils.
    if let Some(value) = of_service(line, service) {
        return Answer::Always(value);
    }
    match line.name() {
        "pam_deny" => Answer::Always("auth_err"),
        // These run as who calls them.
        "pam_rootok" if OF_USERS.contains(&service) => Answer::Always("auth_err"),
        "pam_usertype" if has("issystem") => Answer::Always("auth_err"),
        // It counts a failure, and refuses only an account that is locked already (SSH-41).
        "pam_faillock" if is_auth && has("authfail") => Answer::Always("ignore"),
        "pam_nologin" if has("successok") => Answer::Always("success"),
        "pam_time" if is_auth => Answer::Always("module_unknown"),
        name if PASSWORD.contains(&name) => Answer::Always(if is_auth { "auth_err" } else { "success" }),
        name if DO_NOT_COUNT.contains(&name) => {
            let counts = !(is_auth || group == Group::Account && DO_NOT_COUNT_FOR_ACCOUNTS.contains(&name));
            Answer::Always(if counts { "success" } else { "ignore" })
        }
        name if WITHOUT_AUTH.contains(&name) => Answer::Always(if is_auth { "module_unknown" } else { "success" }),
        name if ASK_NOTHING.contains(&name) => Answer::Always("success"),
        name => {
            let known = CONDITIONS.into_iter().find(|(condition, _)| *condition == name);
            known.map_or(Answer::Unknown, |(_, values)| Answer::Either(values))
        }
    }
}

/// A login over ssh of somebody whose only credential is a token, and how a stack is asked about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub stack: &'a Stack,
    pub group: Group,
    pub service: &'a str,
    /// What our module returns.
    pub ours: &'static str,
    pub unknown: Unknown,
}

impl<'a> Case<'a> {
    /// What the stack can do: once for each combination of the answers that are not certain. In the first one all of these modules let the
    /// login pass.
    pub(super) fn courses(&self) -> Vec<Course<'a>> {
        (0..1_usize << self.open().len()).map(|failing| self.course(failing, None)).collect()
    }

    /// The line to which the decision of a course is due: the first without which it would be another. Two can do the same; then it is the
    /// first that refuses, or the last that lets pass.
    pub(super) fn due_to(&self, course: &Course<'a>) -> Option<&'a ModuleLine> {
        let asked = || course.asked.iter().filter(|(line, _)| line.name() != MODULE);
        let decides = |line: &&ModuleLine| self.course(course.failing, Some(line)).succeeds() != course.succeeds();
        if let Some(line) = asked().map(|(line, _)| *line).find(decides) {
            return Some(line);
        }
        let action = |(line, answer): &(&ModuleLine, &'static str)| line.control.action(answer);
        if course.succeeds() {
            let passes = |asked: &&(&ModuleLine, _)| matches!(action(asked), Action::Ok | Action::Done);
            course.asked.iter().rev().find(passes).map(|(line, _)| *line)
        } else {
            let refuses = |asked: &&(&ModuleLine, _)| matches!(action(asked), Action::Bad | Action::Die);
            course.asked.iter().find(refuses).map(|(line, _)| *line)
        }
    }

    /// The lines whose answers are not certain.
    fn open(&self) -> Vec<&'a ModuleLine> {
        let is_open = |line: &&ModuleLine| match answer(line, self.group, self.service) {
            Answer::Always(_) => false,
            Answer::Either(_) => true,
            Answer::Unknown => self.unknown == Unknown::Either,
        };
        self.stack.lines().filter(|line| line.name() != MODULE).filter(is_open).take(MOST_OPEN_LINES).collect()
    }

    /// One of the courses. `left_out`: a line that does not count.
    fn course(&self, failing: usize, left_out: Option<&ModuleLine>) -> Course<'a> {
        let open = self.open();
        let asked = RefCell::new(Vec::new());
        let answer = |line: &'a ModuleLine| {
            if line.name() == MODULE {
                return self.ours;
            }
            let passes =
                open.iter().position(|one| std::ptr::eq(*one, line)).is_none_or(|number| (failing >> number) & 1 == 0);
            match (answer(line, self.group, self.service), passes) {
                (Answer::Always(value), _) => value,
                (Answer::Either([first, _]), true) => first,
                (Answer::Either([_, second]), false) => second,
                (Answer::Unknown, true) if self.unknown != Unknown::Fail => "success",
                (Answer::Unknown, _) => "auth_err",
            }
        };
        let decision = self.stack.run_without(left_out, |line| {
            let answer = answer(line);
            asked.borrow_mut().push((line, answer));
            answer
        });
        Course { decision, asked: asked.into_inner(), failing }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::pam_stack::Directories;
    use super::*;

    #[test]
    fn each_code_of_the_module_is_a_word_of_a_stack() {
        assert_eq!(without_token().count(), RefusalClass::ALL.len());
        assert_eq!(value_named("PAM_AUTHINFO_UNAVAIL"), Some("authinfo_unavail"));
        assert_eq!([value_named("PAM_NOSUCH"), value_named("auth_err")], [None, None]);
    }

    #[test]
    fn conditions_about_the_service_are_certain() {
        for (conditions, value) in [
            ("service = sshd", Some("success")),
            ("quiet service = sshd use_uid", Some("success")),
            ("service = su:sshd", Some("auth_err")),
            ("service in su:sshd", Some("success")),
            ("service notin su:sshd", Some("auth_err")),
            ("service != sshd", Some("auth_err")),
            ("service =~ ssh*", Some("success")),
            ("service !~ ssh*", Some("auth_err")),
            ("service = su user ingroup x", Some("auth_err")),
            // Whether these hold depends on the account.
            ("service = sshd user ingroup x", None),
            ("user ingroup service", None),
            ("user = sshd", None),
        ] {
            let line = ModuleLine {
                place: String::new(),
                control: super::super::pam_stack::Control::parse("required").unwrap(),
                module: "pam_succeed_if.so".to_owned(),
                arguments: conditions.split(' ').map(str::to_owned).collect(),
                may_be_missing: false,
            };
            assert_eq!(of_service(&line, "sshd"), value, "{conditions}");
            let either = value.map_or(["success", "auth_err"], |value| [value; 2]);
            assert_eq!(answers(&line, Group::Auth, "sshd"), Some(either), "{conditions}");
        }
    }

    #[test]
    fn a_line_is_tried_with_both_answers_if_its_own_is_not_certain() {
        let seen = |text: &str, unknown| {
            let read = |_: &Path| Some(text.to_owned());
            let directories = [Path::new("/etc/pam.d")];
            let directories = Directories { services: &directories, includes: &directories };
            let stack = Stack::read(directories, "sshd", Group::Auth, &read);
            let case = Case { stack: &stack, group: Group::Auth, service: "sshd", ours: "success", unknown };
            let courses = case.courses();
            let before = |course: &Course<'_>| course.before_ours().map(<[_]>::len);
            courses.iter().map(|course| (course.succeeds(), before(course))).collect::<Vec<_>>()
        };
        let ours = "auth required pam_mytoken.so\n";
        let radius = format!("auth sufficient pam_radius_auth.so\n{ours}");
        assert_eq!(seen(&radius, Unknown::Either), [(true, None), (true, Some(1))]);
        assert_eq!(seen(&radius, Unknown::Succeed), [(true, None)]);
        assert_eq!(seen(&radius, Unknown::Fail), [(true, Some(1))]);
        assert_eq!(seen(&radius.replace("radius_auth", "permit"), Unknown::Either), [(true, None)]);
        assert_eq!(seen(&radius.replace("radius_auth", "unix"), Unknown::Either), [(true, Some(1))]);
        let groups = format!("auth requisite pam_succeed_if.so user ingroup x\n{ours}");
        assert_eq!(seen(&groups, Unknown::Fail), [(true, Some(1)), (false, None)]);
        // The lines differ, although both are equal.
        let two = format!("auth required pam_x.so\n{}{ours}", "auth requisite pam_x.so\n".repeat(2));
        let courses = seen(&two, Unknown::Either);
        assert_eq!(courses.len(), 8);
        assert_eq!(courses.iter().filter(|(succeeds, _)| *succeeds).count(), 1);
        // Everybody may have a line in the file of pam_cap, and then it counts.
        let cap = "auth sufficient pam_mytoken.so\nauth optional pam_cap.so\n";
        assert_eq!(seen(cap, Unknown::Fail).len(), 2);
        let many = format!("{}{ours}", "auth required pam_x.so\n".repeat(100));
        assert_eq!(seen(&many, Unknown::Either).len(), 256);
    }
}
