// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wrapper's private directory: socket, and a link under which ssh runs this program as askpass.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::directory::{PrivateDirectory, SOCKET_NAME};
use super::message::{Answer, PROGRAM, Question, receive, send};
use super::service::Service;
use crate::error::Error;

/// The askpass instance sends at once; who does not is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest path in the address of a socket (`sun_path` without its end).
const LONGEST_ADDRESS: usize = 107;

/// A socket that answers askpass instances until it is dropped.
pub struct Desk {
    service: Arc<Mutex<Service>>,
    directory: PrivateDirectory,
}

impl Desk {
    /// Makes the directory (0700) with socket (0600) and link, and answers from a thread of its own.
    pub fn open(service: Service) -> Result<Self, Error> {
        let own = std::env::current_exe().map_err(Error::system("cannot find this program's own file"))?;
        let directory = PrivateDirectory::make()?;
        let desk = Self { service: Arc::new(Mutex::new(service)), directory };
        let told = || format!("cannot make the askpass socket in {}", desk.directory.path().display());
        symlink(own, desk.program()).map_err(Error::system(told()))?;
        let listener = by_short_path(&desk.socket(), |path| UnixListener::bind(path)).map_err(Error::system(told()))?;
        std::fs::set_permissions(desk.socket(), Permissions::from_mode(0o600)).map_err(Error::system(told()))?;
        let service = Arc::clone(&desk.service);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Nobody is left to tell when an instance goes away half-way.
                let _ = serve(&stream, &service);
            }
        });
        Ok(desk)
    }

    /// For `SSH_ASKPASS`.
    pub fn program(&self) -> PathBuf {
        self.directory.path().join(PROGRAM)
    }

    /// The socket's path.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET_NAME)
    }

    /// The decisions. Waits for a token that is being made: leaving between a server's answer and its storage loses a rotating token.
    pub fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the directory.
    pub fn close(self) -> Result<(), Error> {
        self.directory.close()
    }
}

fn serve(stream: &UnixStream, service: &Mutex<Service>) -> Result<(), Error> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(Error::system("askpass socket"))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(Error::system("askpass socket"))?;
    let answer = if same_user(stream) {
        let question: Question = receive(stream)?;
        service.lock().unwrap_or_else(PoisonError::into_inner).answer(&question)
    } else {
        Answer::Refused
    };
    send(stream, &answer)
}

/// Whether the other end runs as this user.
pub fn same_user(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

/// Connects to the socket at `path`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    by_short_path(path, |path| UnixStream::connect(path))
}

/// Gives `action` a path that fits into the address of a socket: `path`, or one by a handle of its directory.
fn by_short_path<T>(path: &Path, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return action(path) };
    if path.as_os_str().len() <= LONGEST_ADDRESS {
        return action(path);
    }
    let directory = File::open(directory)?;
    action(&PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}
