// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stack decides about a login over ssh, and what its modules answer to it.

use std::cell::RefCell;

use mytoken_login::RefusalClass;

use super::pam::MODULE;
use super::pam_stack::{Group, ModuleLine, Stack, value_named};

/// Modules that ask for a password. Somebody who has a token has none.
pub(super) const PASSWORD: [&str; 5] = ["pam_unix", "pam_sss", "pam_krb5", "pam_ldap", "pam_winbind"];

/// Modules whose auth phase does not count: it returns `PAM_IGNORE`.
const DO_NOT_COUNT: [&str; 11] = [
    "pam_cap",
    "pam_echo",
    "pam_env",
    "pam_faildelay",
    "pam_group",
    "pam_issue",
    "pam_keyinit",
    "pam_mail",
    "pam_motd",
    "pam_nologin",
    "pam_warn",
];

/// Modules that let a login over ssh pass, and ask for no credential.
const ASK_NOTHING: [&str; 14] = [
    "pam_access",
    "pam_faillock",
    "pam_listfile",
    "pam_localuser",
    "pam_permit",
    // The uid that counts is that of sshd.
    "pam_rootok",
    "pam_securetty",
    "pam_sepermit",
    "pam_shells",
    "pam_succeed_if",
    "pam_tally",
    "pam_tally2",
    "pam_time",
    "pam_usertype",
];

/// What modules answer that are not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// They let the login pass.
    Succeed,
    /// They ask for a credential, and there is none.
    Fail,
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

/// What a module of another kind than ours answers to somebody who has no password; `None` if it is not known.
fn answer(line: &ModuleLine, group: Group, service: &str) -> Option<&'static str> {
    let has = |word: &str| line.arguments.iter().any(|argument| argument == word);
    Some(match line.name() {
        "pam_deny" => "auth_err",
        // A condition for our line, which a login over ssh fulfils.
        "pam_succeed_if" if has("service") => {
            if line.arguments.iter().any(|argument| argument.split(':').any(|name| name == service)) {
                "success"
            } else {
                "auth_err"
            }
        }
        "pam_usertype" if has("issystem") => "auth_err",
        // Counts a failure, and is one.
        "pam_faillock" if has("authfail") => "auth_err",
        name if PASSWORD.contains(&name) => {
            if group == Group::Auth {
                "auth_err"
            } else {
                "success"
            }
        }
        name if group == Group::Auth && DO_NOT_COUNT.contains(&name) => "ignore",
        name if ASK_NOTHING.contains(&name) => "success",
        _ => return None,
    })
}

/// Runs a stack for a login over ssh of somebody whose only credential is a token, to which our module returns `ours`. Returns the
/// decision, and the lines that libpam came to, in their order.
pub(super) fn run<'a>(
    stack: &'a Stack,
    group: Group,
    service: &str,
    ours: &'static str,
    unknown: Unknown,
) -> (&'static str, Vec<&'a ModuleLine>) {
    let asked = RefCell::new(Vec::new());
    let decision = stack.run(|line| {
        asked.borrow_mut().push(line);
        if line.name() == MODULE {
            return ours;
        }
        answer(line, group, service).unwrap_or(match unknown {
            Unknown::Succeed => "success",
            Unknown::Fail => "auth_err",
        })
    });
    (decision, asked.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_the_module_is_a_word_of_a_stack() {
        assert_eq!(without_token().count(), RefusalClass::ALL.len());
        assert_eq!(value_named("PAM_AUTHINFO_UNAVAIL"), Some("authinfo_unavail"));
        assert_eq!([value_named("PAM_NOSUCH"), value_named("auth_err")], [None, None]);
    }
}
