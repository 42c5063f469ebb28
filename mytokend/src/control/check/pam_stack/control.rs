// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control field of a line: what libpam does after the module returned.

use std::collections::BTreeMap;

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

/// What a module can return, as pam.conf(5) writes it, in the order of the numbers. libpam does not read a line with another word.
const RETURN_VALUES: [&str; 32] = [
    "success",
    "open_err",
    "symbol_err",
    "service_err",
    "system_err",
    "buf_err",
    "perm_denied",
    "auth_err",
    "cred_insufficient",
    "authinfo_unavail",
    "user_unknown",
    "maxtries",
    "new_authtok_reqd",
    "acct_expired",
    "session_err",
    "cred_unavail",
    "cred_expired",
    "cred_err",
    "no_module_data",
    "conv_err",
    "authtok_err",
    "authtok_recover_err",
    "authtok_lock_busy",
    "authtok_disable_aging",
    "try_again",
    "ignore",
    "abort",
    "authtok_expired",
    "module_unknown",
    "bad_item",
    "conv_again",
    "incomplete",
];

/// The word for what a module or a stack returned (`_pam_types.h`).
#[must_use]
pub fn return_value(code: i32) -> Option<&'static str> {
    RETURN_VALUES.get(usize::try_from(code).ok()?).copied()
}

/// The word for a code by its name in C: `auth_err` for `PAM_AUTH_ERR`.
#[must_use]
pub fn value_named(constant: &str) -> Option<&'static str> {
    let name = constant.strip_prefix("PAM_")?;
    RETURN_VALUES.into_iter().find(|value| value.eq_ignore_ascii_case(name))
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

    /// Over how many lines it can jump.
    pub(super) fn jumps(&self) -> impl Iterator<Item = usize> {
        let actions = self.actions.values().copied().chain([self.default]);
        actions.filter_map(|action| if let Action::Jump(count) = action { Some(count) } else { None })
    }

    /// Over how many lines it jumps when the module returns `value`.
    pub(super) fn jump(&self, value: &str) -> Option<usize> {
        if let Action::Jump(count) = self.action(value) { Some(count) } else { None }
    }

    pub(in super::super) fn parse(field: &str) -> Option<Self> {
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
        // Blanks may stand around each `=`.
        let sides: Vec<&str> = text.split('=').map(str::trim).collect();
        for pair in sides.join("=").split_whitespace() {
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
            } else if RETURN_VALUES.contains(&value) {
                control.actions.insert(value.to_owned(), action);
            } else {
                return None;
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
