// SPDX-License-Identifier: GPL-3.0-or-later
//! The records that the auth child stores for the session.

use std::path::Path;

use mytoken::private_files::Owner;
use mytoken_login::handover::{DIRECTORY, Handover};

/// The directory of the records.
pub fn records() -> Handover {
    #[cfg(feature = "scripted")]
    if let Some(directory) = super::scripted::records() {
        return Handover::new(directory, Owner::current());
    }
    Handover::new(Path::new(DIRECTORY), Owner::ROOT)
}
