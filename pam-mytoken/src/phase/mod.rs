// SPDX-License-Identifier: GPL-3.0-or-later
//! The hooks' work, one file each. All of it is deciding what to ask `mytoken::login` and where to put the answer.

mod account;
mod authenticate;
mod credentials;
mod revocation;
mod session;

use std::path::Path;

use mytoken::credential::files::Owner;
use mytoken::login::handover::{self, Handover};

pub use account::account;
pub use authenticate::authenticate;
pub use credentials::{chauthtok, credentials};
pub use session::{close_session, open_session};

/// Where the auth child leaves what the session needs.
fn handover() -> Handover {
    Handover::new(Path::new(handover::DIRECTORY), Owner::ROOT)
}
