// SPDX-License-Identifier: MIT OR Apache-2.0
//! The classes of refusals, and the code of `pam_authenticate` for each.

/// The class of a refusal. Each has one PAM code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalClass {
    /// Other modules of the PAM stack decide.
    NotHandled,
    /// The token is not accepted.
    Rejected,
    /// The token is accepted, but its holder may not use the account.
    Forbidden,
    /// A service that the decision needs does not answer.
    Unavailable,
    /// The configuration cannot be used.
    Misconfigured,
    /// The conversation failed.
    Conversation,
    /// An operation of the operating system failed.
    System,
}

impl RefusalClass {
    /// All of them: what a stack must be safe against.
    pub const ALL: [Self; 7] = [
        Self::NotHandled,
        Self::Rejected,
        Self::Forbidden,
        Self::Unavailable,
        Self::Misconfigured,
        Self::Conversation,
        Self::System,
    ];

    /// The code of `pam_authenticate` for it.
    #[must_use]
    pub fn pam(self) -> &'static str {
        match self {
            Self::NotHandled => "PAM_USER_UNKNOWN",
            Self::Rejected => "PAM_AUTH_ERR",
            Self::Forbidden => "PAM_PERM_DENIED",
            Self::Unavailable => "PAM_AUTHINFO_UNAVAIL",
            Self::Misconfigured => "PAM_SERVICE_ERR",
            Self::Conversation => "PAM_CONV_ERR",
            Self::System => "PAM_SYSTEM_ERR",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_listed_and_has_a_code_of_its_own() {
        // A new class does not compile here until it has a number.
        let number = |class| match class {
            RefusalClass::NotHandled => 0,
            RefusalClass::Rejected => 1,
            RefusalClass::Forbidden => 2,
            RefusalClass::Unavailable => 3,
            RefusalClass::Misconfigured => 4,
            RefusalClass::Conversation => 5,
            RefusalClass::System => 6,
        };
        assert_eq!(RefusalClass::ALL.map(number), [0, 1, 2, 3, 4, 5, 6]);
        let mut codes = RefusalClass::ALL.map(RefusalClass::pam);
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]), "{codes:?}");
    }
}
