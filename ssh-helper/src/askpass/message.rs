// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages between the askpass and the wrapper: one JSON line each way, one request per connection.

use std::io::{BufRead, BufReader, Read, Write};

use mytoken::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;

/// Environment variable: path of the wrapper's socket.
pub const SOCKET_VARIABLE: &str = "MYTOKEN_SSH_SOCKET";
/// Environment variable: nonce of this run.
pub const NONCE_VARIABLE: &str = "MYTOKEN_SSH_NONCE";
/// Environment variable: path of the askpass, for `LocalCommand`. The startup file of a shell may set `SSH_ASKPASS` to
/// something else.
pub const ASKPASS_VARIABLE: &str = "MYTOKEN_SSH_ASKPASS";

/// Name of the link by which ssh runs this program as its askpass. The link is in the wrapper's private directory.
pub const ASKPASS_NAME: &str = "mytoken-askpass";

/// Argument of the askpass, instead of a prompt, when ssh has authenticated. No prompt of ssh is equal to it.
pub const AUTHENTICATED_FLAG: &str = "--authenticated";

/// Longest line in bytes. The server may send long texts before a prompt. A longer line is not a message.
const MAX_LINE: u64 = 256 * 1024;

/// Name of the connection in error messages.
const CONNECTION: &str = "the askpass socket";

/// From the askpass to the wrapper.
#[derive(Debug, Serialize, Deserialize)]
pub struct AskpassRequest {
    /// Nonce of the run. The wrapper refuses a request with another one.
    pub nonce: Secret,
    /// The ssh that started the askpass, by its process id: each connection has one of its own.
    pub ssh: i32,
    /// Why ssh started the askpass.
    pub event: AskpassEvent,
}

/// Why ssh started the askpass.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskpassEvent {
    /// ssh shows this prompt.
    Prompt(String),
    /// ssh has authenticated and runs its `LocalCommand`.
    Authenticated,
}

/// From the wrapper to the askpass.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskpassResponse {
    /// Print this answer.
    Token(Secret),
    /// The prompt does not ask for the token. Pass it on to the previous askpass, or ask the user.
    PassOn(PreviousAskpass),
    /// Print nothing. The wrapper has shown the reason.
    Refused,
    /// The host asks without end: end the ssh that asks. The wrapper has shown the reason.
    EndConnection,
    /// The event needs no answer.
    Acknowledged,
}

/// The askpass settings that were in the wrapper's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousAskpass {
    /// `SSH_ASKPASS`
    pub program: Option<String>,
    /// `SSH_ASKPASS_REQUIRE`
    pub require: Option<String>,
}

/// Writes a message as one line.
pub fn send<T: Serialize>(mut stream: impl Write, message: &T) -> Result<(), Error> {
    let mut line = Zeroizing::new(serde_json::to_vec(message).map_err(Error::system(CONNECTION))?);
    line.push(b'\n');
    stream.write_all(&line).map_err(Error::system(CONNECTION))
}

/// Reads one line as a message.
pub fn receive<T: DeserializeOwned>(stream: impl Read) -> Result<T, Error> {
    let mut line = Zeroizing::new(Vec::with_capacity(8 * 1024));
    BufReader::new(stream.take(MAX_LINE)).read_until(b'\n', &mut line).map_err(Error::system(CONNECTION))?;
    // The parser's own error may quote the line, and the line may hold a token.
    serde_json::from_slice(&line)
        .map_err(|_| Error::System { action: CONNECTION.into(), reason: "malformed message".into() })
}
