// SPDX-License-Identifier: GPL-3.0-or-later
//! Which PAM code follows from which situation, and why.
//!
//! - `AUTHINFO_UNAVAIL` means that no decision was possible (SSH-06). A rejected token must never get it: a stack can have a fallback
//!   for outages, and a bad token must not open it.
//! - `SERVICE_ERR` means that root's configuration cannot be used. A user cannot cause that, so a stack may `ignore` it and ask for
//!   something else. Whatever an answer can cause has another code, and so has a panic.
//! - `IGNORE` is for `account` and `session` of logins without a token. `setcred` never returns it: with jumps in the stack, later
//!   modules would run without their credentials, and a `setcred` that fails ends a keyboard-interactive login that was already
//!   accepted (SSH-05).
//! - `authenticate` returns `USER_UNKNOWN` for services and accounts that do not accept tokens: a module that is alone in its
//!   stack must not let them in.

use mytoken_login::RefusalClass;
use pamsm::PamError;

use crate::hook::Hook;

/// For `authenticate`.
pub fn authenticate(class: RefusalClass) -> PamError {
    match class {
        RefusalClass::NotHandled => PamError::USER_UNKNOWN,
        RefusalClass::Rejected => PamError::AUTH_ERR,
        RefusalClass::Forbidden => PamError::PERM_DENIED,
        RefusalClass::Unavailable => PamError::AUTHINFO_UNAVAIL,
        RefusalClass::Misconfigured => PamError::SERVICE_ERR,
        RefusalClass::Conversation => PamError::CONV_ERR,
        RefusalClass::System => PamError::SYSTEM_ERR,
    }
}

/// How the user logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMethod {
    /// By token: there is a handle of the login's record.
    Token,
    /// By key or password, without this module.
    Other,
}

/// The result of the account phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountState {
    /// The login is not by token.
    NotByToken,
    /// The token is still valid.
    Valid,
    /// The login was by token, and there is nothing for its session: a one-time password, or the record could not be
    /// stored.
    WithoutRecord,
    /// The token has expired since the login.
    Expired,
    /// The record cannot be used: it belongs to another login (another module changed the user), is too old or missing, or another version
    /// of this module wrote it.
    RecordUnusable,
    /// A login without a token, and motley_cue has refused the account.
    AccountRefused,
    /// A login without a token, and there was none with a token, or too long ago.
    NoRecentLogin,
    /// A login without a token, and what is known about the account cannot be read.
    LastLoginUnreadable,
    /// A login without a token, and the rule for such logins cannot be understood.
    RuleUnusable,
}

/// For `acct_mgmt`.
pub fn account(state: AccountState) -> PamError {
    match state {
        AccountState::NotByToken => PamError::IGNORE,
        AccountState::Valid | AccountState::WithoutRecord => PamError::SUCCESS,
        AccountState::Expired | AccountState::AccountRefused => PamError::ACCT_EXPIRED,
        AccountState::RecordUnusable | AccountState::NoRecentLogin => PamError::PERM_DENIED,
        AccountState::LastLoginUnreadable => PamError::SYSTEM_ERR,
        AccountState::RuleUnusable => PamError::SERVICE_ERR,
    }
}

/// For `open_session` of a login by token whose session gets no credential, although `required` of `[session]` asks for one. A stack with
/// `optional` opens the session all the same.
pub fn without_required_credential() -> PamError {
    PamError::SESSION_ERR
}

/// For `open_session` and `close_session`. A missing credential does not fail the session, unless the site requires it.
pub fn session(method: LoginMethod) -> PamError {
    match method {
        LoginMethod::Token => PamError::SUCCESS,
        LoginMethod::Other => PamError::IGNORE,
    }
}

/// For `setcred`, always.
pub fn credentials() -> PamError {
    PamError::SUCCESS
}

/// For `chauthtok`. A token cannot be changed here.
pub fn password() -> PamError {
    PamError::IGNORE
}

/// After a panic. A login by token is refused. An open session and a login by key go on. Never `SERVICE_ERR`: the answer at the prompt
/// may have caused the panic, and must not open a fallback for a broken configuration.
pub fn after_panic(hook: Hook, method: LoginMethod) -> PamError {
    match hook {
        Hook::Account if method == LoginMethod::Other => account(AccountState::NotByToken),
        Hook::Authenticate | Hook::Account => PamError::SYSTEM_ERR,
        Hook::Credentials => credentials(),
        Hook::Session | Hook::Close => session(LoginMethod::Other),
        Hook::Password => password(),
    }
}

#[cfg(test)]
mod tests {
    use mytoken::token::NotAToken;
    use mytoken_login::link::{Busy, LinkRefusal};
    use mytoken_login::oidc::Rejection;
    use mytoken_login::{Limit, Refusal, ServiceState};
    use mytoken_wire::chunks::ChunkFault;

    use super::*;

    #[test]
    fn each_refusal_has_its_code() {
        let text = || "x".to_owned();
        let table: &[(Refusal, PamError)] = &[
            (Refusal::NotHandled("the service is not listed"), PamError::USER_UNKNOWN),
            (Refusal::UserUnknown, PamError::AUTH_ERR),
            (Refusal::Garbage(NotAToken::SshdJunk), PamError::AUTH_ERR),
            (Refusal::Empty, PamError::AUTH_ERR),
            (Refusal::Garbage(NotAToken::Empty), PamError::AUTH_ERR),
            (Refusal::Garbage(NotAToken::Cut), PamError::AUTH_ERR),
            (Refusal::Garbage(NotAToken::TooLong), PamError::AUTH_ERR),
            (Refusal::Garbage(NotAToken::ForeignCharacters), PamError::AUTH_ERR),
            (Refusal::Garbage(NotAToken::BrokenJwt), PamError::AUTH_ERR),
            (Refusal::Garbage(NotAToken::TooShort), PamError::AUTH_ERR),
            (Refusal::Chunks(ChunkFault::Order), PamError::AUTH_ERR),
            (Refusal::Opaque, PamError::AUTH_ERR),
            (Refusal::OpaqueIssuer, PamError::AUTH_ERR),
            (Refusal::OpaqueExchange { provider: Some(text()) }, PamError::AUTH_ERR),
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
            (Refusal::Token(Rejection::Inactive), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::ClaimsDiffer("sub")), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::ValidationRefused(text())), PamError::AUTH_ERR),
            (Refusal::Token(Rejection::ValidationUnavailable(text())), PamError::AUTHINFO_UNAVAIL),
            (Refusal::Token(Rejection::KeysUnavailable(text())), PamError::AUTHINFO_UNAVAIL),
            (Refusal::ForeignServer, PamError::AUTH_ERR),
            (Refusal::Rotating, PamError::AUTH_ERR),
            (Refusal::NoAccessTokens, PamError::AUTH_ERR),
            (Refusal::CodeUnknown, PamError::AUTH_ERR),
            (Refusal::Repeated, PamError::AUTH_ERR),
            (Refusal::Replayed, PamError::AUTH_ERR),
            (Refusal::TooManyRequests { wait: 1, limit: Limit::UsedByAccount }, PamError::AUTH_ERR),
            (Refusal::TooManyRequests { wait: 1, limit: Limit::UsedOnHost }, PamError::AUTH_ERR),
            (Refusal::Link(LinkRefusal::Busy(Busy::Account)), PamError::AUTH_ERR),
            (Refusal::Link(LinkRefusal::Declined), PamError::AUTH_ERR),
            (Refusal::Link(LinkRefusal::NotConfirmed), PamError::AUTH_ERR),
            (Refusal::Link(LinkRefusal::AnswerLost), PamError::AUTH_ERR),
            (Refusal::Link(LinkRefusal::Broader(text())), PamError::AUTH_ERR),
            (Refusal::MytokenRefused, PamError::AUTH_ERR),
            (Refusal::Restricted, PamError::AUTH_ERR),
            (Refusal::ExchangeRefused(text()), PamError::AUTH_ERR),
            (Refusal::TooManyRequests { wait: 1, limit: Limit::Address }, PamError::AUTH_ERR),
            (Refusal::DeadlinePassed, PamError::AUTH_ERR),
            (Refusal::Unavailable(text()), PamError::AUTHINFO_UNAVAIL),
            (Refusal::ProviderUnavailable, PamError::AUTHINFO_UNAVAIL),
            (Refusal::NotMapped { account: text(), maps_to: None }, PamError::PERM_DENIED),
            (Refusal::Requirement(text()), PamError::PERM_DENIED),
            (Refusal::NotActive(ServiceState::Suspended), PamError::PERM_DENIED),
            (Refusal::NotActive(ServiceState::Limited), PamError::PERM_DENIED),
            (Refusal::NotActive(ServiceState::Pending), PamError::PERM_DENIED),
            (Refusal::OneTimePasswordRefused(text()), PamError::AUTH_ERR),
            (Refusal::NotDecided(text()), PamError::AUTH_ERR),
            (Refusal::Configuration(text()), PamError::SERVICE_ERR),
            (Refusal::Conversation, PamError::CONV_ERR),
            (Refusal::System(text()), PamError::SYSTEM_ERR),
        ];
        for (refusal, code) in table {
            assert_eq!(authenticate(refusal.class()), *code, "{refusal:?}");
            // `mytokenctl explain` prints the name of the code.
            assert_eq!(refusal.class().pam(), format!("PAM_{code}"), "{refusal:?}");
        }
    }

    #[test]
    fn each_account_state_has_its_code() {
        assert_eq!(account(AccountState::NotByToken), PamError::IGNORE);
        assert_eq!(account(AccountState::Valid), PamError::SUCCESS);
        assert_eq!(account(AccountState::WithoutRecord), PamError::SUCCESS);
        assert_eq!(account(AccountState::Expired), PamError::ACCT_EXPIRED);
        assert_eq!(account(AccountState::RecordUnusable), PamError::PERM_DENIED);
        assert_eq!(account(AccountState::AccountRefused), PamError::ACCT_EXPIRED);
        assert_eq!(account(AccountState::NoRecentLogin), PamError::PERM_DENIED);
        assert_eq!(account(AccountState::LastLoginUnreadable), PamError::SYSTEM_ERR);
        assert_eq!(account(AccountState::RuleUnusable), PamError::SERVICE_ERR);
    }

    #[test]
    fn setcred_never_fails_and_a_panic_refuses_a_login_by_token() {
        assert_eq!(credentials(), PamError::SUCCESS);
        for method in [LoginMethod::Token, LoginMethod::Other] {
            assert_eq!(after_panic(Hook::Credentials, method), PamError::SUCCESS);
            assert_eq!(after_panic(Hook::Authenticate, method), PamError::SYSTEM_ERR);
            assert_eq!(after_panic(Hook::Session, method), PamError::IGNORE);
            assert_eq!(after_panic(Hook::Close, method), PamError::IGNORE);
            assert_eq!(after_panic(Hook::Password, method), PamError::IGNORE);
        }
        assert_eq!(after_panic(Hook::Account, LoginMethod::Token), PamError::SYSTEM_ERR);
        assert_eq!(after_panic(Hook::Account, LoginMethod::Other), PamError::IGNORE, "a login with a key");
    }

    #[test]
    fn sessions_never_fail() {
        assert_eq!((session(LoginMethod::Token), session(LoginMethod::Other)), (PamError::SUCCESS, PamError::IGNORE));
        assert_eq!(password(), PamError::IGNORE);
        assert_eq!(without_required_credential(), PamError::SESSION_ERR, "only if the site requires a credential");
    }
}
