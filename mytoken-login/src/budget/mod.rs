// SPDX-License-Identifier: MIT OR Apache-2.0
//! The budget for requests that unverified logins can send to the mytoken server.
//!
//! The server limits requests per client address (100 in 300 s by default, MT-07). All users of this host share that limit, and
//! anybody who can make this host send requests can use it up. So a request with a code or token from the prompt is counted before it
//! is sent, per remote address and for the whole host. The requests of an accepted login are removed from the count: sixty people of a
//! course can log in from one address, but guesses from that address reach the limit. The ledger also keeps the backoffs: a server gets
//! no request for some time after a 429 (with its `Retry-After`) or after a request without an answer, also if sshd
//! ended the login that waited for it.

mod agent_notes;
mod allowance;
mod backoff;
mod connections;
mod file;
mod ledger;
mod links;
mod refused_tokens;
mod settings;
mod wait;
mod waiting;

pub use agent_notes::AgentNotes;
pub use allowance::{Allowance, RequestProvider};
pub use backoff::{Backoff, BackoffReason, Backoffs};
pub use connections::{ConnectionEnd, EndedConnections};
pub use file::LedgerFile;
pub(crate) use file::{OTHERS_DIRECTORY, SSH_DIRECTORY};
pub use ledger::Ledger;
pub use links::{LinkPlace, WaitingLink, WaitingLinks};
pub use refused_tokens::RefusedTokens;
pub use settings::BudgetSettings;
pub use wait::LongWait;
pub use waiting::{WaitingLogin, WaitingLogins};
