// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs ssh, scp and sftp so that only the right host gets a token.

pub mod arguments;
mod foreground;
mod options;
mod outcome;
pub mod resolution;
pub mod version;
pub mod wrapper;

/// Whether the user's ssh configuration has another host name for `host`.
pub fn is_alias(host: &str) -> bool {
    let found = resolution::resolve(std::ffi::OsStr::new("ssh"), &vec![host.into()]);
    found.is_ok_and(|found| found.is_some_and(|found| found.hostname != host))
}
