// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small files that root keeps between logins, in `/var/cache/mytoken`: fetched keys, and which servers did not answer.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Error;
use crate::credential::files::{Directory, Owner};

/// Where the cache is.
pub const DIRECTORY: &str = "/var/cache/mytoken";

/// Largest file that is read, in bytes.
const LIMIT: usize = 512 * 1024;

/// A directory of mode 0700 for one owner. Nothing is believed that another could have written.
#[derive(Debug, Clone)]
pub struct DiskCache {
    path: PathBuf,
    owner: Owner,
}

impl DiskCache {
    /// The cache at `path`, which only `owner` may reach. Nothing is opened yet.
    #[must_use]
    pub fn new(path: &Path, owner: Owner) -> Self {
        Self { path: path.to_owned(), owner }
    }

    /// The file `name`; `None` when there is none or it cannot be trusted.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.directory().ok()?.read(name, self.owner, 0o600, LIMIT).ok()?.map(|bytes| bytes.to_vec())
    }

    /// Writes the file `name` whole.
    ///
    /// # Errors
    /// [`Error::File`]. Callers go on without: a cache that cannot be written costs time only.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.directory()?.write(name, bytes, self.owner, 0o600)
    }

    /// Removes the file `name`.
    pub fn remove(&self, name: &str) {
        if let Ok(directory) = self.directory() {
            let _ = directory.remove(name);
        }
    }

    fn directory(&self) -> Result<Directory, Error> {
        let wrong =
            || Error::File { path: self.path.display().to_string(), reason: "it is no absolute path".to_owned() };
        let above = self.path.parent().ok_or_else(wrong)?;
        let name = self.path.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
        Directory::open(above)?.make(name, self.owner, 0o700)
    }
}

/// A file name for something that belongs to `url`: `prefix-<16 hexadecimal digits>`.
#[must_use]
pub fn file_name(prefix: &str, url: &str) -> String {
    let digest = Sha256::digest(url.as_bytes());
    digest.iter().take(8).fold(format!("{prefix}-"), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_could_have_written_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(&dir.path().join("cache"), Owner::current());
        assert_eq!(cache.read("a"), None);
        cache.write("a", b"x").unwrap();
        assert_eq!(cache.read("a").unwrap(), b"x");
        let file = dir.path().join("cache/a");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o646)).unwrap();
        assert_eq!(cache.read("a"), None);
        let foreign = DiskCache::new(&dir.path().join("cache"), Owner { uid: 4_242, gid: 4_242 });
        assert_eq!(foreign.read("a"), None);
    }
}
