// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directories with token files.

use std::fmt;

use mytoken_wire::agent::SessionPlace;

/// A directory with token files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FilePlace {
    /// That of a job.
    Job(u32),
    /// That of a session.
    Session {
        /// The user.
        uid: u32,
        /// The user's group.
        gid: u32,
        /// The id.
        session: String,
        /// Where its directory is.
        place: SessionPlace,
    },
}

/// Its name in the log.
impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => write!(f, "job {job}"),
            Self::Session { uid, session, .. } => {
                write!(f, "session {} uid {uid}", session.get(..8).unwrap_or_default())
            }
        }
    }
}
