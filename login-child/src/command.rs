// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command as another user: no shell, an empty environment, its input from a pipe.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use mytoken_wire::clock::Deadline;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use crate::User;
use crate::message::Message;
use crate::raw::{self, End};
use crate::supervise::supervise;
use crate::supervisor::Ends;
use crate::worker::{self, Work};

/// What a pipe holds when it is new.
const PIPE_SIZE: usize = 64 * 1024;

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// Its absolute path.
    pub program: &'a Path,
    /// Its arguments, without its name.
    pub arguments: &'a [String],
    /// Whom it runs as. `None`: as the caller.
    pub user: Option<User>,
    /// Its standard input, at most 1 MiB: a pipe cannot hold more.
    pub input: &'a [u8],
    /// Longest standard output in bytes.
    pub output_limit: usize,
}

/// How a command ended. Nothing of its process group is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// It exited.
    Exited {
        /// Its status.
        status: i32,
        /// Its standard output.
        output: Vec<u8>,
        /// The begin of its standard error.
        errors: Vec<u8>,
    },
    /// A signal killed it.
    Killed {
        /// The signal.
        signal: i32,
        /// The begin of its standard error.
        errors: Vec<u8>,
    },
    /// It was killed because it wrote too much.
    TooMuch,
    /// It was killed because the deadline had passed.
    TimedOut,
    /// It was not started.
    NotStarted(Errno),
}

/// Runs a command, and ends it at the deadline.
///
/// # Errors
/// [`Errno`] if no child can be made or it is lost or stopped (`ECHILD`), an argument has a NUL character, or the input is too long.
pub fn run(command: &Command<'_>, deadline: Deadline) -> Result<Ran, Errno> {
    if deadline.remaining().is_none() {
        return Ok(Ran::TimedOut);
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let program = text(command.program.as_os_str().as_bytes())?;
    let mut arguments = vec![program.clone()];
    for argument in command.arguments {
        arguments.push(text(argument.as_bytes())?);
    }
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    let prepared = Prepared { program: &program, pointers: &pointers, user: command.user };
    let collected = supervise(&prepared, Some(input(command.input)?), command.output_limit, deadline)?;
    let had_its_time = collected.had_its_time();
    let (output, errors) = (collected.output, collected.errors);
    for message in &collected.messages {
        match *message {
            Message::Failed(errno) => return Ok(Ran::NotStarted(errno)),
            Message::Ended(_) if collected.too_much => return Ok(Ran::TooMuch),
            Message::Ended(End::Exited(status)) => return Ok(Ran::Exited { status, output, errors }),
            Message::Ended(End::Killed(signal)) => return Ok(Ran::Killed { signal, errors }),
            Message::Begun | Message::TimedOut | Message::File { .. } | Message::Read => {}
        }
    }
    match (collected.too_much, had_its_time) {
        (true, _) => Ok(Ran::TooMuch),
        (false, true) => Ok(Ran::TimedOut),
        // Somebody has killed or stopped the supervisor: the caller of a set-uid program can do that, before it is wholly root.
        (false, false) => Err(Errno::ECHILD),
    }
}

/// A pipe that holds the whole input and has no writer: nobody has to write while the command runs, and a command that does not read it
/// causes no `SIGPIPE`. Not a memfd: its label forbids it to a confined sshd.
fn input(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    if bytes.len() > PIPE_SIZE {
        let size = i32::try_from(bytes.len()).map_err(|_| Errno::EMSGSIZE)?;
        fcntl(write.as_fd(), FcntlArg::F_SETPIPE_SZ(size)).map_err(|_| Errno::EMSGSIZE)?;
    }
    fcntl(write.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    File::from(write).write_all(bytes).map_err(|_| Errno::EMSGSIZE)?;
    Ok(read)
}

/// All that the worker needs. It allocates nothing.
struct Prepared<'a> {
    program: &'a CString,
    pointers: &'a [*const libc::c_char],
    user: Option<User>,
}

impl Work for Prepared<'_> {
    fn perform(&self, ends: Ends) -> ! {
        let (errno, messages) = match place(ends) {
            Ok(messages) => match worker::begin(self.user) {
                Ok(()) => (raw::execute(self.program, self.pointers), messages),
                Err(errno) => (errno, messages),
            },
            Err(errno) => (errno, ends.messages),
        };
        let _ = raw::write_all(messages, &Message::Failed(errno).bytes());
        raw::exit(127)
    }
}

/// Makes the pipes descriptors 0, 1 and 2. Returns the one for messages, which exec closes. The host's may have been closed, so the pipes can
/// have these numbers already.
fn place(ends: Ends) -> Result<libc::c_int, Errno> {
    let messages = raw::copy_above_standard(ends.messages)?;
    let input = raw::copy_above_standard(ends.input)?;
    let output = raw::copy_above_standard(ends.output)?;
    let errors = raw::copy_above_standard(ends.errors)?;
    raw::copy_to(input, 0)?;
    raw::copy_to(output, 1)?;
    raw::copy_to(errors, 2)?;
    raw::close_others(&[0, 1, 2, messages]);
    Ok(messages)
}
