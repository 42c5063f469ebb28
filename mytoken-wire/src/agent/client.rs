// SPDX-License-Identifier: MIT OR Apache-2.0
//! The caller's side: blocking, no thread, bounded in time and size, fit for a process of Slurm or sshd.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;

use super::AgentError;
use super::message::{Answer, Envelope, LINE_LIMIT, Request, VERSION, parse_answer, parse_answer_but_status};
use crate::Deadline;

/// Where the agent listens.
pub const SOCKET: &str = "/run/mytoken/agent.sock";

/// Sends `request` and waits for the answer until `deadline`.
///
/// # Errors
/// [`AgentError::Unreachable`] when nobody listens or time runs out, [`AgentError::Protocol`] when the answer is no message of this
/// version, [`AgentError::Refused`] with the agent's own sentence.
pub fn ask(path: &Path, request: &Request, deadline: Deadline) -> Result<Answer, AgentError> {
    exchange(path, request, deadline, parse_answer)
}

/// The same for the Slurm plugin, which never asks for [`Request::Status`]: the code that reads one would be 15 KB of it.
///
/// # Errors
/// As [`ask`].
pub fn ask_without_status(path: &Path, request: &Request, deadline: Deadline) -> Result<Answer, AgentError> {
    exchange(path, request, deadline, parse_answer_but_status)
}

fn exchange(
    path: &Path,
    request: &Request,
    deadline: Deadline,
    parse: fn(&[u8]) -> Result<Envelope<Answer>, serde_json::Error>,
) -> Result<Answer, AgentError> {
    let protocol = |reason: String| AgentError::Protocol { reason };
    let mut line = zeroize::Zeroizing::new(
        serde_json::to_vec(&Envelope::of(request)).map_err(|_| protocol("the request cannot be written".to_owned()))?,
    );
    line.push(b'\n');
    let mut stream = connect_until(path, deadline)?;
    send_all(&stream, &line, deadline)?;
    let answer = read_line(&mut stream, deadline)?;
    if answer.is_empty() {
        // It ends just now, or has too many callers.
        return Err(AgentError::Unreachable { reason: "it hung up".to_owned() });
    }
    let envelope = parse(&answer).map_err(|_| protocol("it is no answer".to_owned()))?;
    match envelope.message {
        _ if envelope.v != VERSION => Err(protocol(format!("it speaks version {}", envelope.v))),
        Answer::Error(reason) => Err(AgentError::Refused { reason }),
        message => Ok(message),
    }
}

/// Connects. While the listener's backlog is full a unix socket's connect blocks, and only `SO_SNDTIMEO` bounds it (unix(7)): std,
/// which connects before a time-out can be set, would hang with a hanging agent.
fn connect_until(path: &Path, deadline: Deadline) -> Result<UnixStream, AgentError> {
    let address = UnixAddr::new(path).map_err(unreachable)?;
    let socket: OwnedFd =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(unreachable)?;
    loop {
        limit_sending(&socket, deadline)?;
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(late()),
            Err(error) => return Err(unreachable(error)),
        }
    }
}

/// Sends without `SIGPIPE`, which is not ignored in a C program that loads us.
fn send_all(stream: &UnixStream, mut bytes: &[u8], deadline: Deadline) -> Result<(), AgentError> {
    while !bytes.is_empty() {
        limit_sending(stream, deadline)?;
        match send(stream.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(late()),
            Err(error) => return Err(unreachable(error)),
        }
    }
    Ok(())
}

/// Reads until the newline, the end or the limit.
fn read_line(stream: &mut UnixStream, deadline: Deadline) -> Result<Vec<u8>, AgentError> {
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 4096];
    while !answer.ends_with(b"\n") {
        stream.set_read_timeout(Some(left(deadline)?)).map_err(unreachable)?;
        let count = match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(unreachable(error)),
        };
        answer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if answer.len() > LINE_LIMIT {
            return Err(AgentError::Protocol { reason: format!("it is longer than {LINE_LIMIT} bytes") });
        }
    }
    Ok(answer)
}

/// Bounds the next `connect` or `send` by what is left.
fn limit_sending(socket: &impl std::os::fd::AsFd, deadline: Deadline) -> Result<(), AgentError> {
    let left = left(deadline)?;
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    setsockopt(socket, SendTimeout, &TimeVal::new(seconds, i64::from(left.subsec_micros()))).map_err(unreachable)
}

/// What is left, at least a microsecond: zero would mean for ever.
fn left(deadline: Deadline) -> Result<Duration, AgentError> {
    Ok(deadline.remaining().ok_or_else(late)?.max(Duration::from_micros(1)))
}

fn unreachable(error: impl Into<std::io::Error>) -> AgentError {
    AgentError::Unreachable { reason: error.into().to_string() }
}

fn late() -> AgentError {
    AgentError::Unreachable { reason: "the time for it is over".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::super::message::JobEnd;

    fn job_end() -> Request {
        Request::JobEnd(JobEnd { job: 1 })
    }

    #[test]
    fn a_listener_that_never_accepts_costs_the_deadline_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // Fill the backlog, so that connect itself blocks.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let start = Instant::now();
        let error = ask(&path, &job_end(), Deadline::after(Duration::from_millis(300))).unwrap_err();
        assert!(matches!(error, AgentError::Unreachable { .. }), "{error}");
        assert!(start.elapsed() >= Duration::from_millis(250) && start.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn an_agent_that_hangs_up_is_unreachable_and_kills_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || drop(listener.accept()));
        let stream = connect_until(&path, Deadline::after(Duration::from_secs(5))).unwrap();
        server.join().unwrap();
        // The test harness ignores SIGPIPE; the exit of the fake host's process in slurm-spank's tests shows the rest.
        let error = send_all(&stream, b"x", Deadline::after(Duration::from_secs(5))).unwrap_err();
        assert!(matches!(error, AgentError::Unreachable { .. }), "{error}");
    }
}
