// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs ssh, scp and sftp so that only the right host gets a token.

pub mod arguments;
pub mod foreground;
pub mod installed;
mod options;
mod outcome;
pub mod resolution;
pub mod version;
pub mod wrapper;

/// Whether the user's ssh configuration has another host name for `host`.
pub fn is_alias(host: &str) -> bool {
    let found = installed::find("ssh").and_then(|ssh| resolution::resolve(ssh.as_os_str(), &vec![host.into()]));
    found.is_ok_and(|found| found.is_some_and(|found| found.hostname != host))
}
