// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/etc/mytoken/*.toml`: strict, with file and line in every error (DESIGN section 8, `docs/interfaces.md`).
//!
//! Each program reads only the parts it needs, so that a mistake in `jobs.toml` locks nobody out of ssh.

pub mod duration;
mod shared;
mod source;
mod trust;

pub use duration::Duration;
pub use shared::{DIRECTORY, HttpSection, ServerSettings, Shared};
pub use source::{peek_list, read};
pub use trust::FileTrust;
