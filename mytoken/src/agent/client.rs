// SPDX-License-Identifier: MIT OR Apache-2.0
//! The caller's side: blocking, no thread, bounded in time and size, fit for a process of Slurm or sshd.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::message::{Answer, Envelope, LINE_LIMIT, Request, VERSION};
use crate::{Deadline, Error};

/// Where the agent listens.
pub const SOCKET: &str = "/run/mytoken/agent.sock";

/// Sends `request` and waits for the answer until `deadline`.
///
/// # Errors
/// [`Error::AgentUnreachable`] when nobody listens or time runs out, [`Error::AgentProtocol`] when the answer is no message of this
/// version, [`Error::AgentRefused`] with the agent's own sentence.
pub fn ask(socket: &Path, request: Request, deadline: Deadline) -> Result<Answer, Error> {
    let unreachable = |error: std::io::Error| Error::AgentUnreachable { reason: error.to_string() };
    let late = || Error::AgentUnreachable { reason: "the time for it is over".to_owned() };
    let protocol = |reason: String| Error::AgentProtocol { reason };

    let mut line = zeroize::Zeroizing::new(
        serde_json::to_vec(&Envelope::of(request)).map_err(|error| protocol(error.to_string()))?,
    );
    line.push(b'\n');
    // A unix stream's connect blocks only while the listener's backlog is full, which no timeout of std bounds; the agent accepts at once.
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_write_timeout(Some(deadline.remaining().ok_or_else(late)?)).map_err(unreachable)?;
    stream.write_all(&line).map_err(unreachable)?;

    let mut answer = Vec::new();
    let mut chunk = [0_u8; 4096];
    while !answer.ends_with(b"\n") {
        stream.set_read_timeout(Some(deadline.remaining().ok_or_else(late)?)).map_err(unreachable)?;
        let count = stream.read(&mut chunk).map_err(unreachable)?;
        if count == 0 {
            break;
        }
        answer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if answer.len() > LINE_LIMIT {
            return Err(protocol(format!("it is longer than {LINE_LIMIT} bytes")));
        }
    }
    let envelope: Envelope<Answer> = serde_json::from_slice(&answer).map_err(|error| protocol(error.to_string()))?;
    match envelope.message {
        _ if envelope.v != VERSION => Err(protocol(format!("it speaks version {}", envelope.v))),
        Answer::Error(reason) => Err(Error::AgentRefused { reason }),
        message => Ok(message),
    }
}
