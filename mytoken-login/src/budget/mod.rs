// SPDX-License-Identifier: MIT OR Apache-2.0
//! The budget of requests to the mytoken server that unverified logins can cause.
//!
//! The server counts requests per address (100 in 300 s by default, MT-07). Whoever can make this host send a request spends what
//! belongs to every user who logs in here. So a request with a code or token from the prompt is counted before it is sent, per
//! remote address and for the whole host. An accepted login gets its requests back: sixty people of a course behind one address get
//! in, guesses from that address do not. The ledger also keeps the backoffs: a 429 with its `Retry-After`, and a server that did not
//! answer.

mod allowance;
mod backoff;
mod connections;
mod file;
mod ledger;
mod settings;

pub use allowance::{Allowance, RequestProvider};
pub use backoff::{Backoff, BackoffReason, Backoffs};
pub use connections::{ConnectionEnd, EndedConnections};
pub use file::LedgerFile;
pub use ledger::Ledger;
pub use settings::BudgetSettings;
