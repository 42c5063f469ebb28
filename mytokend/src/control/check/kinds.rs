// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of findings about sshd and PAM. An id never changes its meaning: scripts compare it.

use super::Severity;

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name in JSON.
    pub id: &'static str,
    /// The part of the suite.
    pub part: &'static str,
    /// How bad it is.
    pub level: Severity,
    /// A command that corrects it, to be pasted into a shell of root; empty when no command does.
    pub fix: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $id:literal, $part:literal, $level:ident, $fix:literal;)*) => {
        $($(#[$doc])* pub const $name: Kind = Kind { id: $id, part: $part, level: Severity::$level, fix: $fix };)*
        /// All of them.
        pub const ALL: &[Kind] = &[$($name),*];
    };
}

pub(super) use kinds;

kinds! {
    /// sshd -T fails.
    SSHD_CONFIGURATION: "sshd-configuration", "sshd", Error, "sshd -t";
    /// There is no sshd to ask.
    SSHD_MISSING: "sshd-missing", "sshd", Warning, "";
    /// `UsePAM no`.
    SSHD_USE_PAM: "sshd-use-pam", "sshd", Error, "apt install mytoken-sshd-config && systemctl reload ssh";
    /// `KbdInteractiveAuthentication no`.
    SSHD_KEYBOARD_INTERACTIVE: "sshd-keyboard-interactive", "sshd", Error, "grep -ni kbdinteractive /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf   # the first line counts";
    /// Keyboard-interactive is on in general, but not for the account that was asked for.
    SSHD_METHODS: "sshd-authentication-methods", "sshd", Error, "grep -ni authenticationmethods /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf";
    /// `PasswordAuthentication yes`.
    SSHD_PASSWORD: "sshd-password", "sshd", Warning, "apt install mytoken-sshd-config && systemctl reload ssh";
    /// `LoginGraceTime` ends before our deadline does.
    SSHD_GRACE_TIME: "sshd-login-grace-time", "sshd", Error, "sshd -T | grep -i logingracetime   # at least deadline of login.toml, and 30 s for the person";
    /// `MaxStartups` as shipped.
    SSHD_MAX_STARTUPS: "sshd-max-startups", "sshd", Warning, "apt install mytoken-sshd-config && systemctl reload ssh";
    /// Penalties as shipped.
    SSHD_PENALTIES: "sshd-penalties", "sshd", Ok, "ln -s /usr/share/mytoken/sshd-penalties.conf /etc/ssh/sshd_config.d/11-mytoken-penalties.conf && sshd -t";
    /// A line that libpam cannot read.
    PAM_LINE: "pam-line", "PAM", Error, "";
    /// The module is not in the auth stack.
    PAM_AUTH: "pam-auth-missing", "PAM", Error, "pam-auth-update --enable mytoken mytoken-session";
    /// The module is not in the account stack.
    PAM_ACCOUNT: "pam-account-missing", "PAM", Error, "pam-auth-update --enable mytoken mytoken-session";
    /// The module is not in the session stack.
    PAM_SESSION: "pam-session-missing", "PAM", Warning, "pam-auth-update --enable mytoken mytoken-session";
    /// The stack names a file that does not exist.
    PAM_FILE: "pam-module-file", "PAM", Error, "apt install --reinstall libpam-mytoken";
    /// A refused token logs in.
    PAM_OPEN: "pam-refused-token-logs-in", "PAM", Error, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// After a refused token the next line asks.
    PAM_FALLS_THROUGH: "pam-refused-token-falls-through", "PAM", Warning, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// An accepted token does not log in.
    PAM_CLOSED: "pam-accepted-token-refused", "PAM", Error, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// The session line comes before `pam_systemd`.
    PAM_ORDER: "pam-session-order", "PAM", Warning, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// `user_readenv=1`.
    PAM_USER_ENVIRONMENT: "pam-user-environment", "PAM", Warning, "grep -n user_readenv /etc/pam.d/sshd   # remove that argument";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_different_and_every_problem_has_a_command_or_says_none() {
        let mut ids: Vec<&str> = ALL.iter().map(|kind| kind.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ALL.len());
        for kind in ALL.iter().filter(|kind| kind.fix.is_empty()) {
            assert!(["sshd-missing", "pam-line"].contains(&kind.id), "{}", kind.id);
        }
    }
}
