// SPDX-License-Identifier: MIT OR Apache-2.0
//! Question and answer between the askpass instance and the wrapper: one JSON line each way, one question per connection.

use std::io::{BufRead, BufReader, Read, Write};

use mytoken::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;

/// Environment variable that names the socket.
pub const SOCKET: &str = "MYTOKEN_SSH_SOCKET";
/// Environment variable with the nonce of this run.
pub const NONCE: &str = "MYTOKEN_SSH_NONCE";
/// Name under which ssh runs this program as askpass: the link in the wrapper's private directory.
pub const PROGRAM: &str = "mytoken-askpass";

/// Longest line. A server's texts in front of a prompt can be long; what is longer is not ours to answer.
const LIMIT: u64 = 256 * 1024;

/// The variable that names the askpass program for ssh's local command. Startup files of shells set `SSH_ASKPASS` to one of their own.
pub const ASKPASS: &str = "MYTOKEN_SSH_ASKPASS";

/// The askpass's only argument in the place of a prompt: ssh was let in. No prompt of ssh reads like that.
pub const ENTERED: &str = "--entered";

/// From an askpass instance to the wrapper.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// The run's nonce.
    pub nonce: Secret,
    /// What it is about.
    pub message: Message,
}

/// What ssh ran the askpass for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// This prompt, as ssh gave it.
    Prompt(String),
    /// The login succeeded: ssh ran its `LocalCommand`.
    Entered,
}

/// What to do about it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Print this.
    Token(Secret),
    /// Not for the token: ask the person, or the askpass that was set before.
    NotOurs(Former),
    /// Answer nothing. The wrapper has told the person why.
    Refused,
    /// Nothing was asked.
    Noted,
}

/// The askpass settings of the wrapper's own environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// `SSH_ASKPASS`
    pub program: Option<String>,
    /// `SSH_ASKPASS_REQUIRE`
    pub require: Option<String>,
}

/// Writes a message as one line.
pub fn send<T: Serialize>(mut stream: impl Write, message: &T) -> Result<(), Error> {
    let told = "the askpass socket";
    let mut line = Zeroizing::new(serde_json::to_vec(message).map_err(Error::system(told))?);
    line.push(b'\n');
    stream.write_all(&line).map_err(Error::system(told))
}

/// Reads one line as a message.
pub fn receive<T: DeserializeOwned>(stream: impl Read) -> Result<T, Error> {
    let told = "the askpass socket";
    let mut line = Zeroizing::new(Vec::with_capacity(8 * 1024));
    BufReader::new(stream.take(LIMIT)).read_until(b'\n', &mut line).map_err(Error::system(told))?;
    // The text of a parse error can quote the line.
    serde_json::from_slice(&line).map_err(|_| Error::System { what: told.into(), reason: "not a message".into() })
}
