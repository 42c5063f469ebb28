// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wrapper's side: a private directory with the socket, and with the link by which ssh runs this program as its
//! askpass.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::directory::{PrivateDirectory, SOCKET_NAME};
use super::message::{ASKPASS_NAME, AskpassRequest, AskpassResponse, receive, send};
use super::responder::Responder;
use crate::error::Error;
use crate::unix_socket;

/// How long the server waits for a request. The askpass sends it at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers askpass processes until it is dropped.
pub struct AskpassServer {
    responder: Arc<Mutex<Responder>>,
    directory: PrivateDirectory,
}

impl AskpassServer {
    /// Creates the directory (0700) with socket (0600) and link, and starts a thread that answers.
    pub fn start(responder: Responder) -> Result<Self, Error> {
        let executable = own_executable()?;
        let directory = PrivateDirectory::create()?;
        let server = Self { responder: Arc::new(Mutex::new(responder)), directory };
        let action = || format!("cannot create the askpass socket in {}", server.directory.path().display());
        symlink(executable, server.program()).map_err(Error::system(action()))?;
        let listener = unix_socket::bind(&server.socket()).map_err(Error::system(action()))?;
        std::fs::set_permissions(server.socket(), Permissions::from_mode(0o600)).map_err(Error::system(action()))?;
        let responder = Arc::clone(&server.responder);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // An error means that the askpass has gone, so there is no process left to report it to.
                let _ = serve(&stream, &responder);
            }
        });
        Ok(server)
    }

    /// Path of the askpass, for `SSH_ASKPASS`.
    pub fn program(&self) -> PathBuf {
        self.directory.path().join(ASKPASS_NAME)
    }

    /// The private directory. It may get further links to this program.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET_NAME)
    }

    /// Locks the responder. This waits while a token is being made: a process that ends before the server's answer is
    /// stored loses a rotating token.
    pub fn responder(&self) -> MutexGuard<'_, Responder> {
        self.responder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the directory.
    pub fn close(self) -> Result<(), Error> {
        self.directory.close()
    }
}

/// This program's own file, for links to it.
pub fn own_executable() -> Result<PathBuf, Error> {
    std::env::current_exe().map(installed).map_err(Error::system("cannot find this program's own file"))
}

/// The file at the place of this program. An upgrade replaces the file of a running program; Linux then adds a word to the path of the
/// old one.
fn installed(executable: PathBuf) -> PathBuf {
    if executable.exists() {
        return executable;
    }
    let replaced =
        executable.as_os_str().as_bytes().strip_suffix(b" (deleted)").map(OsStr::from_bytes).map(PathBuf::from);
    replaced.filter(|path| path.exists()).unwrap_or(executable)
}

fn serve(stream: &UnixStream, responder: &Mutex<Responder>) -> Result<(), Error> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).map_err(Error::system("the askpass socket"))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT)).map_err(Error::system("the askpass socket"))?;
    let response = if unix_socket::is_same_user(stream) {
        let request: AskpassRequest = receive(stream)?;
        responder.lock().unwrap_or_else(PoisonError::into_inner).respond(&request)
    } else {
        AskpassResponse::Refused
    };
    send(stream, &response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_an_upgrade_replaced_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("mytoken-ssh");
        let replaced = directory.path().join("mytoken-ssh (deleted)");
        assert_eq!(installed(replaced.clone()), replaced, "nothing is there");
        std::fs::write(&program, "").unwrap();
        assert_eq!(installed(replaced.clone()), program);
        assert_eq!(installed(program.clone()), program);
        std::fs::write(&replaced, "").unwrap();
        assert_eq!(installed(replaced.clone()), replaced, "a file of this name");
    }
}
