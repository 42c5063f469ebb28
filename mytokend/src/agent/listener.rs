// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's socket. The kernel gives the user id of each caller. Number, size and duration of requests are limited.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::agent::{Answer, Envelope, LINE_LIMIT, Request, VERSION};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
};
use zeroize::Zeroizing;

use super::Agent;
use super::waiting::Places;
use crate::log::Level;

/// Time limit for receiving a request, and for sending its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum number of connections of root at a time. Starting steps keep theirs open while they wait.
const ROOT_LIMIT: usize = 512;
/// Maximum number of connections of all other users.
const OTHERS: Places = Places { user: 4, all: 32, first: 32 };

/// Maximum number of connections that are accepted between two looks at the signals.
const BURST: usize = 64;

/// Stack of a connection's thread in bytes. `mytokenctl replace` waits there for the mytoken server: enough for TLS.
const STACK: usize = 512 * 1024;

/// The socket, and the number of connections of each user.
pub struct Listener {
    socket: UnixListener,
    connected: Arc<Mutex<HashMap<u32, usize>>>,
    /// The user who may send every request: root, in tests the user who runs them.
    trusted: u32,
}

impl Listener {
    /// Listens at `path`. Replaces a socket that an earlier agent left there.
    ///
    /// # Errors
    /// When another agent listens at `path`, or when the file there is not a socket.
    pub fn bind(path: &Path, trusted: u32) -> io::Result<Self> {
        Self::bind_after(path, trusted, None)
    }

    /// The same after an agent that was `killed` and cannot end: its socket listens for ever, and nobody answers there.
    ///
    /// # Errors
    /// The same.
    pub fn bind_after(path: &Path, trusted: u32, killed: Option<u32>) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => {
                if has_listener(path, killed) {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there"));
                }
                std::fs::remove_file(path)?;
            }
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file there is not a socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = UnixListener::bind(path)?;
        // By path, which is safe because only root can write to the directory.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, connected: Arc::default(), trusted })
    }

    /// Serves until `turn` breaks. It is called after each wait, which ends with a connection, when `signals` becomes readable (a
    /// signalfd, in tests a pipe), and after `longest`. Its argument says whether `signals` is readable.
    ///
    /// # Errors
    /// When the socket itself fails.
    pub fn serve(
        &self,
        agent: &Arc<Agent>,
        signals: &impl AsFd,
        longest: Option<Duration>,
        mut turn: impl FnMut(bool) -> ControlFlow<()>,
    ) -> io::Result<()> {
        // poll cannot wait longer than 24 days; it then waits without a limit.
        let timeout = longest.map_or(PollTimeout::NONE, |longest| longest.try_into().unwrap_or(PollTimeout::NONE));
        loop {
            let mut fds =
                [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [connected, signalled] = fds.map(|fd| fd.any().unwrap_or(false));
            if turn(signalled).is_break() {
                return Ok(());
            }
            if connected {
                self.accept_some(agent);
            }
        }
    }

    /// Accepts those who wait, but not more than [`BURST`]: a signal must not wait behind an endless stream of callers.
    fn accept_some(&self, agent: &Arc<Agent>) {
        for _ in 0..BURST {
            match self.socket.accept() {
                Ok((stream, _)) => self.start_connection(agent, stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // No free descriptor, or the caller is gone already. The pause keeps the caller's loop from spinning.
                Err(_) => return std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn start_connection(&self, agent: &Arc<Agent>, stream: UnixStream) {
        let Ok(peer) = getsockopt(&stream, PeerCredentials) else { return };
        let (uid, trusted) = (peer.uid(), peer.uid() == self.trusted);
        let Some(slot) = Slot::take(&self.connected, uid, trusted, self.trusted) else { return };
        let own = Arc::clone(agent);
        let thread = Builder::new().name("caller".to_owned()).stack_size(STACK).spawn(move || {
            let _slot = slot;
            // The connection failed or was closed, so there is no way to report the error.
            let _ = serve_connection(&own, &stream, uid, trusted);
        });
        // Without a thread the connection is closed. The caller then reports that the agent did not answer.
        if let Err(error) = thread {
            agent.log.line_of(uid, Level::Error, &format!("a request of user {uid} gets no thread: {error}"));
        }
    }
}

fn serve_connection(agent: &Agent, stream: &UnixStream, uid: u32, trusted: bool) -> io::Result<()> {
    // On Linux an accepted socket does not inherit the listener's mode. Set explicitly, because the code below needs it.
    stream.set_nonblocking(false)?;
    let answer = match read_line(stream) {
        Ok(line) => match serde_json::from_slice::<Version>(&line) {
            Ok(Version { v }) if v != VERSION => Answer::Error(format!(
                "this agent uses version {VERSION} of the protocol, not {v}; restart it after an upgrade"
            )),
            Err(_) => Answer::Error("malformed request".to_owned()),
            // serde's message could contain a secret.
            Ok(_) => match serde_json::from_slice::<Envelope<Request>>(&line) {
                // The agent was stopped for a while, and the caller has waited long enough.
                Ok(envelope) if is_for_caller(&envelope.message) && is_gone(stream) => return Ok(()),
                Ok(envelope) => agent.answer(envelope.message, uid, trusted),
                Err(_) => Answer::Error("unknown or malformed request".to_owned()),
            },
        },
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Answer::Error(error.to_string()),
        Err(error) => return Err(error),
    };
    if let Answer::Error(reason) = &answer {
        agent.log.line_of(uid, Level::Warning, &format!("request of user {uid} refused: {reason}"));
    }
    let mut bytes = serde_json::to_vec(&Envelope::of(answer))?;
    if bytes.len() >= LINE_LIMIT {
        let error = Answer::Error("the answer is too long for one line; ask for a single job".to_owned());
        bytes = serde_json::to_vec(&Envelope::of(error))?;
    }
    bytes.push(b'\n');
    write_all(stream, &bytes)
}

/// Whether a request is of no use once its caller does not wait for the answer. The end of a job or session is a fact; so is the session
/// that began. A job that begins asks again with its next step.
fn is_for_caller(request: &Request) -> bool {
    match request {
        // What was sent is a fact, too. Logins do not wait for the answer.
        Request::Permit(permit) => permit.sent == 0,
        Request::Status(_) | Request::JobStart(_) | Request::Renew(_) => true,
        Request::JobEnd(_)
        | Request::Revoke(_)
        | Request::Replace(_)
        | Request::Retire(_)
        | Request::ReplacePending(_)
        | Request::Submitted(_)
        | Request::Register(_)
        | Request::SessionStart(_)
        | Request::SessionEnd(_) => false,
    }
}

/// Whether the caller has closed the connection.
fn is_gone(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let ended = PollFlags::POLLHUP | PollFlags::POLLERR;
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds.iter().any(|fd| fd.revents().is_some_and(|events| events.intersects(ended)))
}

/// Whether somebody else than the process `killed` listens at `path`. Without waiting: one that hangs has a full queue.
fn has_listener(path: &Path, killed: Option<u32>) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(socket) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else { return false };
    let connected = UnixAddr::new(path).and_then(|address| connect(socket.as_raw_fd(), &address));
    match connected {
        // Those of the process that made the socket listen.
        Ok(()) => getsockopt(&socket, PeerCredentials).map_or(true, |peer| u32::try_from(peer.pid()).ok() != killed),
        Err(Errno::EAGAIN) => killed.is_none(),
        Err(_) => false,
    }
}

/// Writes the answer. A caller who reads it slowly gets no more than [`PATIENCE`] for all of it.
fn write_all(mut stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Deadline::after(PATIENCE);
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(deadline.remaining().ok_or(io::ErrorKind::TimedOut)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Version {
    v: u32,
}

fn read_line(mut stream: &UnixStream) -> io::Result<Zeroizing<Vec<u8>>> {
    let deadline = Deadline::after(PATIENCE);
    // Allocated at once: a growing buffer would leave copies of a secret in freed memory. Pages that are not used cost nothing.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_LIMIT));
    let mut chunk = Zeroizing::new([0_u8; 4096]);
    loop {
        let left = deadline.remaining().ok_or(io::ErrorKind::TimedOut)?;
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut chunk[..])?;
        let part = chunk.get(..count).unwrap_or_default();
        let (part, done) = match part.iter().position(|byte| *byte == b'\n') {
            Some(end) => (part.get(..end).unwrap_or_default(), true),
            None => (part, count == 0),
        };
        if line.len() + part.len() > LINE_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a request has at most {LINE_LIMIT} bytes"),
            ));
        }
        line.extend_from_slice(part);
        if done {
            return Ok(line);
        }
    }
}

/// One connection of a user, counted while it is open.
struct Slot {
    connected: Arc<Mutex<HashMap<u32, usize>>>,
    uid: u32,
}

impl Slot {
    fn take(connected: &Arc<Mutex<HashMap<u32, usize>>>, uid: u32, trusted: bool, root: u32) -> Option<Self> {
        let mut map = connected.lock().unwrap_or_else(PoisonError::into_inner);
        let own = map.get(&uid).copied().unwrap_or(0);
        let others: usize = map.iter().filter(|(other, _)| **other != root).map(|(_, count)| count).sum();
        let room = if trusted { own < ROOT_LIMIT } else { OTHERS.has_room(own, others) };
        if !room {
            return None;
        }
        map.insert(uid, own + 1);
        Some(Self { connected: Arc::clone(connected), uid })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut map = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = map.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                map.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_hangs_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let _hanging = UnixListener::bind(&path).unwrap();
        let mut waiting = Vec::new();
        // It accepts nobody, so its queue fills.
        while {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
            let connected = connect(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap());
            waiting.push(socket);
            connected.is_ok() && waiting.len() < 900
        } {}
        let refused = Listener::bind(&path, 0).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_socket_of_a_killed_agent_is_replaced_and_no_other_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let _left = UnixListener::bind(&path).unwrap();
        let own = std::process::id();
        let refused = Listener::bind_after(&path, 0, Some(own + 1)).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert!(Listener::bind_after(&path, 0, Some(own)).is_ok());
    }

    #[test]
    fn users_cannot_use_up_the_connections_of_root_or_of_each_other() {
        let connected = Arc::default();
        let alice: Vec<_> = (0..OTHERS.user).map(|_| Slot::take(&connected, 2001, false, 0).unwrap()).collect();
        assert!(Slot::take(&connected, 2001, false, 0).is_none());
        let bob = Slot::take(&connected, 2002, false, 0);
        assert!(bob.is_some());
        let mut crowd = Vec::new();
        for uid in 3000..3100 {
            crowd.extend(Slot::take(&connected, uid, false, 0));
        }
        assert_eq!(alice.len() + 1 + crowd.len(), OTHERS.all + OTHERS.first);
        assert!(Slot::take(&connected, 0, true, 0).is_some());
        drop((alice, bob, crowd));
        assert!(connected.lock().unwrap().is_empty());
        assert!(Slot::take(&connected, 2001, false, 0).is_some());
    }
}
