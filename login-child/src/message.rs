// SPDX-License-Identifier: MIT OR Apache-2.0
//! What supervisor and worker say to the host: 16 bytes each, which a pipe takes as a whole.

use nix::errno::Errno;

use crate::raw::End;

pub(crate) const LENGTH: usize = 16;

/// What supervisor or worker say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// The supervisor starts the worker.
    Begun,
    /// The worker has ended by itself.
    Ended(End),
    /// The worker was killed because the time was up.
    TimedOut,
    /// Something failed before the work began.
    Failed(Errno),
    /// The worker cannot use a file.
    File {
        /// Which part of the path: 0 is the home directory.
        part: u32,
        /// What is wrong.
        fault: RawFault,
    },
    /// The worker has read the whole file.
    Read,
}

/// What is wrong with a part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RawFault {
    Open(Errno),
    NotRegular,
    Owner(u32),
    Writable(u32),
    TooLarge,
}

impl Message {
    pub(crate) fn bytes(self) -> [u8; LENGTH] {
        let number = |errno: Errno| (errno as i32).unsigned_abs();
        let [kind, part, code, value] = match self {
            Self::Ended(End::Exited(status)) => [1, 0, 0, status.unsigned_abs()],
            Self::Ended(End::Killed(signal)) => [1, 0, 1, signal.unsigned_abs()],
            Self::TimedOut => [2, 0, 0, 0],
            Self::Failed(errno) => [3, 0, 0, number(errno)],
            Self::File { part, fault: RawFault::Open(errno) } => [4, part, 0, number(errno)],
            Self::File { part, fault: RawFault::NotRegular } => [4, part, 1, 0],
            Self::File { part, fault: RawFault::Owner(uid) } => [4, part, 2, uid],
            Self::File { part, fault: RawFault::Writable(mode) } => [4, part, 3, mode],
            Self::File { part, fault: RawFault::TooLarge } => [4, part, 4, 0],
            Self::Read => [5, 0, 0, 0],
            Self::Begun => [6, 0, 0, 0],
        };
        let mut bytes = [0; LENGTH];
        for (place, number) in bytes.chunks_exact_mut(4).zip([kind, part, code, value]) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(4).filter_map(|four| four.try_into().ok().map(u32::from_ne_bytes));
        let (kind, part, code, value) = (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?);
        let signed = i32::try_from(value).ok();
        Some(match (kind, code) {
            (1, 0) => Self::Ended(End::Exited(signed?)),
            (1, 1) => Self::Ended(End::Killed(signed?)),
            (2, 0) => Self::TimedOut,
            (3, 0) => Self::Failed(Errno::from_raw(signed?)),
            (4, 0) => Self::File { part, fault: RawFault::Open(Errno::from_raw(signed?)) },
            (4, 1) => Self::File { part, fault: RawFault::NotRegular },
            (4, 2) => Self::File { part, fault: RawFault::Owner(value) },
            (4, 3) => Self::File { part, fault: RawFault::Writable(value) },
            (4, 4) => Self::File { part, fault: RawFault::TooLarge },
            (5, 0) => Self::Read,
            (6, 0) => Self::Begun,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_read_as_it_was_written() {
        let file = |fault| Message::File { part: 3, fault };
        for message in [
            Message::Ended(End::Exited(255)),
            Message::Ended(End::Killed(9)),
            Message::TimedOut,
            Message::Failed(Errno::EPERM),
            file(RawFault::Open(Errno::ELOOP)),
            file(RawFault::NotRegular),
            file(RawFault::Owner(u32::MAX - 1)),
            file(RawFault::Writable(0o4777)),
            file(RawFault::TooLarge),
            Message::Read,
            Message::Begun,
        ] {
            assert_eq!(Message::parse(&message.bytes()), Some(message));
        }
        assert_eq!(Message::parse(&[9; LENGTH]), None);
        assert_eq!(Message::parse(b"short"), None);
    }
}
