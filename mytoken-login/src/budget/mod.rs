// SPDX-License-Identifier: MIT OR Apache-2.0
//! What logins may cost others: requests to the mytoken server that nobody has vouched for yet.
//!
//! The server counts requests per address (100 in 300 s by default, MT-07), so whoever can make this host send one spends what belongs to
//! everybody who logs in here. A request with a code or token that somebody typed is therefore counted before it leaves, per remote
//! address and for the whole host. A login that is let in gets its cost back: a course of sixty behind one address gets in, while
//! guesses from there do not. What the server asked for ("not before") and that it did not answer is remembered in the same place.

mod allowance;
mod file;
mod ledger;
mod settings;

pub use allowance::{Allowance, Behind};
pub use file::{DIRECTORY, LOCAL_DIRECTORY, LedgerFile};
pub use ledger::{Hold, Ledger, Why};
pub use settings::BudgetSettings;
