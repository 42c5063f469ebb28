// SPDX-License-Identifier: GPL-3.0-or-later
//! Which PAM code follows from which situation: the one table, and why.
//!
//! - `AUTHINFO_UNAVAIL` is the only code that tells a careful stack "nobody could say" (SSH-06). A rejected token must never get it, or whoever
//!   presents a bad token opens the way that is kept for outages.
//! - `SERVICE_ERR` says that root's configuration cannot be used, which nobody at a prompt can bring about: a stack may `ignore` it
//!   and ask for something else. Whatever an answer may have caused gets another code, a panic too.
//! - `IGNORE` is for lines that have nothing to say in `account` and `session`. `setcred` never gets it: with jumps in the stack
//!   it lets later modules run whose credentials do not exist, and a failing `setcred` kills a keyboard-interactive login that
//!   was already accepted.
//! - What is not ours gets `USER_UNKNOWN` from `authenticate`: a module that stands alone must not open the door.

use mytoken_login::Class;
use pamsm::PamError;

use crate::entry::Hook;

/// For `authenticate`.
pub fn authenticate(class: Class) -> PamError {
    match class {
        Class::NotOurs => PamError::USER_UNKNOWN,
        Class::Rejected => PamError::AUTH_ERR,
        Class::Forbidden => PamError::PERM_DENIED,
        Class::Unavailable => PamError::AUTHINFO_UNAVAIL,
        Class::Misconfigured => PamError::SERVICE_ERR,
        Class::Conversation => PamError::CONV_ERR,
        Class::System => PamError::SYSTEM_ERR,
    }
}

/// What the account phase found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The login was none of ours.
    NotOurs,
    /// It was, and the token is still valid.
    Good,
    /// The token has expired since.
    Expired,
    /// The record of the login does not belong to it: the user was changed, or somebody tampers.
    Foreign,
}

/// For `acct_mgmt`.
pub fn account(standing: Standing) -> PamError {
    match standing {
        Standing::NotOurs => PamError::IGNORE,
        Standing::Good => PamError::SUCCESS,
        Standing::Expired => PamError::ACCT_EXPIRED,
        Standing::Foreign => PamError::PERM_DENIED,
    }
}

/// For `open_session` and `close_session`: a session without credential is still a session.
pub fn session(ours: bool) -> PamError {
    if ours { PamError::SUCCESS } else { PamError::IGNORE }
}

/// For `setcred`, always.
pub fn credentials() -> PamError {
    PamError::SUCCESS
}

/// For `chauthtok`: there is no token to change here.
pub fn password() -> PamError {
    PamError::IGNORE
}

/// After a panic that was caught: whoever was about to be let in by a token is not; whoever is in, or comes with a key, is not
/// concerned. `ours`: the login left a record. Never `SERVICE_ERR`: what was typed may have caused it, and must not open the way that
/// a stack keeps for a broken configuration.
pub fn after_panic(hook: Hook, ours: bool) -> PamError {
    match hook {
        Hook::Account if !ours => account(Standing::NotOurs),
        Hook::Authenticate | Hook::Account => PamError::SYSTEM_ERR,
        Hook::Credentials => credentials(),
        Hook::Session | Hook::Close => session(false),
        Hook::Password => password(),
    }
}

#[cfg(test)]
mod tests {
    use mytoken::token::Why;
    use mytoken_login::Refusal;
    use mytoken_login::oidc::Rejection;
    use mytoken_wire::chunks::ChunkFault;

    use super::*;

    /// Each situation with its code.
    #[test]
    fn situations_of_authenticate() {
        let text = || "x".to_owned();
        let table: &[(Refusal, PamError)] = &[
            (Refusal::NotOurs("the service is not listed"), PamError::USER_UNKNOWN),
            (Refusal::UserUnknown, PamError::AUTH_ERR),
            (Refusal::Garbage(Why::SshdJunk), PamError::AUTH_ERR),
            (Refusal::Empty, PamError::AUTH_ERR),
            (Refusal::Garbage(Why::Empty), PamError::AUTH_ERR),
            (Refusal::Garbage(Why::Cut), PamError::AUTH_ERR),
            (Refusal::Garbage(Why::TooLong), PamError::AUTH_ERR),
            (Refusal::Garbage(Why::ForeignCharacters), PamError::AUTH_ERR),
            (Refusal::Garbage(Why::BrokenJwt), PamError::AUTH_ERR),
            (Refusal::Garbage(Why::TooShort), PamError::AUTH_ERR),
            (Refusal::Chunks(ChunkFault::Order), PamError::AUTH_ERR),
            (Refusal::Opaque, PamError::AUTH_ERR),
            (Refusal::KindNotAccepted("a mytoken"), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::IssuerUnknown), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::Malformed), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::Algorithm), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::Critical), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::WrongKind("an ID token")), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::KeyUnknown), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::KeyUnfit), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::Signature), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::Expired), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::NotYetValid), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::TooOld), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::Claim("exp")), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::Audience), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::Scope(text())), PamError::PERM_DENIED),
            (Refusal::Token(Rejection::KeysUnavailable(text())), PamError::AUTHINFO_UNAVAIL),
            (Refusal::ForeignServer, PamError::AUTH_ERR),
            (Refusal::Rotating, PamError::AUTH_ERR),
            (Refusal::NoAccessTokens, PamError::AUTH_ERR),
            (Refusal::CodeUnknown, PamError::AUTH_ERR),
            (Refusal::MytokenRefused, PamError::AUTH_ERR),
            (Refusal::Restricted, PamError::AUTH_ERR),
            (Refusal::ExchangeRefused(text()), PamError::AUTH_ERR),
            (Refusal::Busy { wait: 1, what: "budget_address" }, PamError::AUTH_ERR),
            (Refusal::Late, PamError::AUTH_ERR),
            (Refusal::Unavailable(text()), PamError::AUTHINFO_UNAVAIL),
            (Refusal::ProviderUnavailable, PamError::AUTHINFO_UNAVAIL),
            (Refusal::NotMapped { account: text(), maps_to: None }, PamError::PERM_DENIED),
            (Refusal::Requirement(text()), PamError::PERM_DENIED),
            (Refusal::Configuration(text()), PamError::SERVICE_ERR),
            (Refusal::Conversation, PamError::CONV_ERR),
            (Refusal::System(text()), PamError::SYSTEM_ERR),
        ];
        for (refusal, code) in table {
            assert_eq!(authenticate(refusal.class()), *code, "{refusal:?}");
            // `mytokenctl explain` prints the code by name.
            assert_eq!(refusal.class().pam(), format!("PAM_{code}"), "{refusal:?}");
        }
    }

    #[test]
    fn situations_of_acct_mgmt() {
        assert_eq!(account(Standing::NotOurs), PamError::IGNORE);
        assert_eq!(account(Standing::Good), PamError::SUCCESS);
        assert_eq!(account(Standing::Expired), PamError::ACCT_EXPIRED);
        assert_eq!(account(Standing::Foreign), PamError::PERM_DENIED);
    }

    #[test]
    fn setcred_never_fails_and_a_panic_lets_nobody_in() {
        assert_eq!(credentials(), PamError::SUCCESS);
        for ours in [true, false] {
            assert_eq!(after_panic(Hook::Credentials, ours), PamError::SUCCESS);
            assert_eq!(after_panic(Hook::Authenticate, ours), PamError::SYSTEM_ERR);
            assert_eq!(after_panic(Hook::Session, ours), PamError::IGNORE);
            assert_eq!(after_panic(Hook::Close, ours), PamError::IGNORE);
            assert_eq!(after_panic(Hook::Password, ours), PamError::IGNORE);
        }
        assert_eq!(after_panic(Hook::Account, true), PamError::SYSTEM_ERR);
        assert_eq!(after_panic(Hook::Account, false), PamError::IGNORE, "a login with a key");
    }

    #[test]
    fn sessions_never_fail() {
        assert_eq!((session(true), session(false)), (PamError::SUCCESS, PamError::IGNORE));
        assert_eq!(password(), PamError::IGNORE);
    }
}
