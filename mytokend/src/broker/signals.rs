// SPDX-License-Identifier: MIT OR Apache-2.0
//! The signals to which the broker answers.
//!
//! tokio has this too. But cargo builds one tokio for all crates of a build, also for the PAM module. With its feature `signal` the first
//! request of a login opens a pair of sockets that stays open in sshd, su or sudo.

use std::future::pending;
use std::io;
use std::os::unix::net::UnixStream as Socket;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::net::UnixStream;

/// The signals of the broker.
pub(super) struct Signals {
    /// `SIGTERM`
    pub(super) end: Signal,
    /// `SIGINT`
    pub(super) interrupt: Signal,
    /// `SIGHUP`
    pub(super) reload: Signal,
}

impl Signals {
    /// Catches the signals from now on. Must be called inside of a runtime.
    pub(super) fn catch() -> io::Result<Self> {
        let [end, interrupt, reload] = [SIGTERM, SIGINT, SIGHUP].map(Signal::catch);
        Ok(Self { end: end?, interrupt: interrupt?, reload: reload? })
    }
}

/// A signal that is caught.
pub(super) struct Signal(UnixStream);

impl Signal {
    fn catch(signal: i32) -> io::Result<Self> {
        let (arrived, sender) = Socket::pair()?;
        arrived.set_nonblocking(true)?;
        pipe::register(signal, sender)?;
        UnixStream::from_std(arrived).map(Self)
    }

    /// Waits for the signal. Signals that arrive close together count as one.
    pub(super) async fn recv(&self) {
        loop {
            let read = match self.0.readable().await {
                Ok(()) => self.0.try_read(&mut [0; 64]),
                Err(error) => Err(error),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) if count > 0 => return,
                // The sender stays open in this process, so this does not happen.
                _ => pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use signal_hook::consts::SIGUSR2;
    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn a_signal_is_received_and_two_count_as_one() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let signal = Signal::catch(SIGUSR2).unwrap();
            raise(SIGUSR2).unwrap();
            raise(SIGUSR2).unwrap();
            signal.recv().await;
            let again = tokio::time::timeout(Duration::from_millis(100), signal.recv()).await;
            assert!(again.is_err(), "one signal was received twice");
            raise(SIGUSR2).unwrap();
            signal.recv().await;
        });
    }
}
