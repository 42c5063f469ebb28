// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends one request to the agent. It blocks until a deadline, starts no thread and reads a limited answer, so that processes of Slurm
//! and sshd can use it.

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

use super::call::{AnswerLine, Call, FromAnswer as _, request_line};
use super::envelope::{LINE_LIMIT, VERSION};
use super::error::AgentError;
use crate::Deadline;

/// Sends `request` and waits for the answer until `deadline`.
///
/// # Errors
/// [`AgentError::Unreachable`] if there is no listener or the deadline passes, [`AgentError::Protocol`] if the answer is not a message
/// of this version, [`AgentError::Refused`] with the agent's sentence.
pub fn ask<C: Call>(path: &Path, request: &C, deadline: Deadline) -> Result<C::Answer, AgentError> {
    let line = request_line(request).ok_or_else(|| protocol("the request cannot be written"))?;
    let line = exchange(path, &line, deadline)?;
    C::Answer::from_answer(&accepted(&line)?).map_err(|_| protocol("it is not an answer"))
}

/// Sends `request`, and waits for no answer.
///
/// # Errors
/// [`AgentError::Unreachable`] if there is no listener, or if it does not take the request before `deadline`.
pub fn tell<C: Call>(path: &Path, request: &C, deadline: Deadline) -> Result<(), AgentError> {
    let line = request_line(request).ok_or_else(|| protocol("the request cannot be written"))?;
    send_all(&connect_until(path, deadline)?, &line, deadline)
}

/// The answer of an agent that accepts the request.
fn accepted(line: &[u8]) -> Result<AnswerLine<'_>, AgentError> {
    match AnswerLine::parse(line).map_err(|_| protocol("it is not an answer"))? {
        AnswerLine { v, .. } if v != VERSION => Err(protocol(&format!("it has version {v}"))),
        AnswerLine { error: Some(reason), .. } => Err(AgentError::Refused { reason }),
        line if line.answer().is_none() => Err(protocol("it belongs to another request")),
        line => Ok(line),
    }
}

/// Sends a line and reads one.
fn exchange(path: &Path, line: &[u8], deadline: Deadline) -> Result<Vec<u8>, AgentError> {
    let mut stream = connect_until(path, deadline)?;
    send_all(&stream, line, deadline)?;
    let answer = read_line(&mut stream, deadline)?;
    if answer.is_empty() {
        // The agent is stopping, or has too many callers.
        return Err(AgentError::Unreachable { reason: "it closed the connection".to_owned() });
    }
    Ok(answer)
}

/// Connects. `connect` on a unix socket blocks while the listener's backlog is full, and only `SO_SNDTIMEO` limits it (unix(7)). The
/// standard library connects before a timeout can be set, so it would block for as long as the agent hangs.
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

/// Sends without `SIGPIPE`: that signal would kill a C program that loads this code.
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
            return Err(protocol(&format!("it is longer than {LINE_LIMIT} bytes")));
        }
    }
    Ok(answer)
}

/// Limits the next `connect` or `send` to the time that is left.
fn limit_sending(socket: &impl std::os::fd::AsFd, deadline: Deadline) -> Result<(), AgentError> {
    let left = left(deadline)?;
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    setsockopt(socket, SendTimeout, &TimeVal::new(seconds, i64::from(left.subsec_micros()))).map_err(unreachable)
}

/// The time that is left, at least a microsecond: zero would mean no limit.
fn left(deadline: Deadline) -> Result<Duration, AgentError> {
    Ok(deadline.remaining().ok_or_else(late)?.max(Duration::from_micros(1)))
}

fn unreachable(error: impl Into<std::io::Error>) -> AgentError {
    AgentError::Unreachable { reason: error.into().to_string() }
}

fn protocol(reason: &str) -> AgentError {
    AgentError::Protocol { reason: reason.to_owned() }
}

fn late() -> AgentError {
    AgentError::Unreachable { reason: "no answer in time".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::super::{JobEnd, Started};

    #[test]
    fn a_listener_that_never_accepts_blocks_only_until_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // Fill the backlog, so that connect itself blocks.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let start = Instant::now();
        let error = ask(&path, &JobEnd { job: 1, ..JobEnd::default() }, Deadline::after(Duration::from_millis(300)))
            .unwrap_err();
        assert!(matches!(error, AgentError::Unreachable { .. }), "{error}");
        assert!(start.elapsed() >= Duration::from_millis(250) && start.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn an_agent_that_closes_the_connection_is_unreachable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || drop(listener.accept()));
        let stream = connect_until(&path, Deadline::after(Duration::from_secs(5))).unwrap();
        server.join().unwrap();
        // The test harness ignores SIGPIPE. The tests of slurm-spank show that a process without such a handler survives.
        let error = send_all(&stream, b"x", Deadline::after(Duration::from_secs(5))).unwrap_err();
        assert!(matches!(error, AgentError::Unreachable { .. }), "{error}");
    }

    #[test]
    fn an_answer_of_a_neighbouring_version_is_one_sentence() {
        for v in [VERSION - 1, VERSION + 1] {
            let line = format!("{{\"v\":{v},\"done\":{{}}}}");
            let told = accepted(line.as_bytes()).map(drop).unwrap_err().to_string();
            let reason = format!("(it has version {v}); do the versions match?");
            assert!(told.ends_with(&reason), "{told}");
        }
        // An agent of a later release, with the same version: what is new is not read.
        let later = accepted(br#"{"v":1,"news":[1],"started":{"path":"/x","state":"ready","news":{"a":1}}}"#).unwrap();
        assert_eq!(Started::from_answer(&later).map(|started| started.path), Ok("/x".to_owned()));
    }
}
