// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens of other programs: of oidc-agent, and of any command that a `[[host]]` names.

pub mod command;
pub mod oidc_agent;
pub mod reach;
pub mod waiting;

pub use reach::Reach;

/// Longest token, in bytes.
const LIMIT: usize = 64 * 1024;

/// Where the token of a host comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// The user's mytoken.
    Mytoken,
    /// oidc-agent, which gives an access token: the name of an account, or the URL of a provider.
    OidcAgent(String),
    /// What a program prints.
    Command(Vec<String>),
    /// The entry cannot be meant so, for this reason.
    Unclear(String),
}
