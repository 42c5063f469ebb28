// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mode of a file. `mode_t` has 32 bits on Linux and 16 bits on macOS and FreeBSD.

use nix::libc::mode_t;
use nix::sys::stat::{FileStat, Mode, SFlag};

/// Type and permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMode(mode_t);

impl FileMode {
    /// The mode of an open or named file.
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self(stat.st_mode)
    }

    /// Whether it is a regular file.
    pub(crate) fn is_regular(self) -> bool {
        self.kind() == SFlag::S_IFREG
    }

    /// Whether it is a symbolic link.
    pub(crate) fn is_link(self) -> bool {
        self.kind() == SFlag::S_IFLNK
    }

    /// The bits below 0o10000: permissions, setuid, setgid and sticky bit.
    #[allow(clippy::useless_conversion, reason = "16 bits on some systems")]
    pub(crate) fn permissions(self) -> u32 {
        u32::from(self.0 & 0o7777)
    }

    fn kind(self) -> SFlag {
        SFlag::from_bits_truncate(self.0) & SFlag::S_IFMT
    }
}

/// Permissions for a call that sets them.
#[allow(clippy::unnecessary_fallible_conversions, reason = "16 bits on some systems")]
pub(super) fn settable(permissions: u32) -> Mode {
    Mode::from_bits_truncate(mode_t::try_from(permissions & 0o7777).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn type_and_permissions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o1640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mode = |path| FileMode::of(&nix::sys::stat::lstat(path).unwrap());
        assert_eq!((mode(&file).permissions(), mode(&file).is_regular(), mode(&file).is_link()), (0o1640, true, false));
        assert_eq!((mode(&link).is_regular(), mode(&link).is_link()), (false, true));
        assert!(!mode(&dir.path().to_owned()).is_regular());
        assert_eq!(settable(0o100_640), Mode::from_bits_truncate(0o640));
    }
}
