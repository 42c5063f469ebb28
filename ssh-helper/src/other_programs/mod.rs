// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens of other programs: of oidc-agent, and of any command that a `[[host]]` names.

pub mod command;
pub mod oidc_agent;

use std::sync::mpsc::channel;
use std::time::Duration;

/// Longest token, in bytes.
const LIMIT: u64 = 64 * 1024;

/// Where the token of a host comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// The user's mytoken.
    Mytoken,
    /// oidc-agent, which gives an access token: the name of an account, or the URL of a provider.
    OidcAgent(String),
    /// What a program prints.
    Command(Vec<String>),
}

/// Runs `work` in a thread, and waits for it at most this long. The thread is left alone then, and ends with this program.
fn within<T: Send + 'static>(time: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = channel();
    std::thread::spawn(move || {
        // Nobody waits any more if this fails.
        let _ = done.send(work());
    });
    result.recv_timeout(time).ok()
}
