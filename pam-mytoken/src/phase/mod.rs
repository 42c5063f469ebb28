// SPDX-License-Identifier: GPL-3.0-or-later
//! The phases of a login, one file each. They pass PAM's values to `mytoken_login` and store its results.

mod account;
mod authenticate;
mod credentials;
mod key_login;
mod records;
mod revocation;
#[cfg(feature = "scripted")]
mod scripted;
mod session;

pub use account::account;
pub use authenticate::authenticate;
pub use credentials::{chauthtok, credentials};
pub use session::{close_session, open_session};
