// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl keygen`: the cluster's key pair.

use std::path::Path;

use mytoken::Error;
use mytoken::private_files::{FileError, Owner};

use crate::directories::open_or_make;
use crate::jobs::keys;

/// Name of the public key's file.
pub const PUBLIC: &str = "cluster.pub";
/// Name of the private key's file.
pub const PRIVATE: &str = "cluster.key";

/// Makes a key pair in `dir` and returns its id. Neither file may exist: jobs in the queue need the old key. Missing directories are made
/// with mode 0755: on a new host these are the first files in `/etc/mytoken`, and all users read the public key.
///
/// # Errors
/// [`FileError::Unusable`].
pub fn keygen(dir: &Path, comment: &str) -> Result<String, Error> {
    let me = Owner::current();
    let directory = open_or_make(dir, me)?;
    if directory.has(PUBLIC)? || directory.has(PRIVATE)? {
        return Err(refused(
            dir,
            "there is a key already, and the credentials of jobs in the queue are sealed to it. To replace it, move both files away first",
        ));
    }
    let (public, private) = keys::generate();
    directory.write_durably(PRIVATE, private.to_text().as_bytes(), me, 0o600)?;
    directory.write_durably(PUBLIC, public.to_text(comment).as_bytes(), me, 0o644)?;
    Ok(public.id().to_owned())
}

fn refused(path: &Path, reason: &str) -> Error {
    Error::File(FileError::Unusable { path: path.display().to_string(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mytoken::config::FileTrust;

    use crate::jobs::keys::{PrivateKey, PublicKey};

    use super::*;

    #[test]
    fn a_key_pair_is_made_once() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("keys");
        let id = keygen(&dir, "testbed").unwrap();
        let me = FileTrust::user(Owner::current().uid);
        let public = PublicKey::load(&dir.join(PUBLIC), me).unwrap();
        let private = PrivateKey::load(&dir.join(PRIVATE), me).unwrap();
        assert_eq!((public.id(), private.id(), &private.public()), (id.as_str(), id.as_str(), &public));
        let mode = std::fs::metadata(dir.join(PRIVATE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(keygen(&dir, "again").unwrap_err().to_string().contains("already"));
        assert_eq!(PrivateKey::load(&dir.join(PRIVATE), me).unwrap().id(), id);
    }

    #[test]
    fn missing_directories_are_made_readable_for_all_users() {
        let temp = tempfile::tempdir().unwrap();
        keygen(&temp.path().join("mytoken/keys"), "").unwrap();
        let mode = |below: &str| std::fs::metadata(temp.path().join(below)).unwrap().permissions().mode() & 0o7777;
        assert_eq!([mode("mytoken"), mode("mytoken/keys"), mode("mytoken/keys/cluster.pub")], [0o755, 0o755, 0o644]);
    }

    #[test]
    fn a_link_to_the_directory_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("managed")).unwrap();
        std::os::unix::fs::symlink("managed", temp.path().join("mytoken")).unwrap();
        keygen(&temp.path().join("mytoken/keys"), "").unwrap();
        assert!(temp.path().join("managed/keys/cluster.key").exists());
        let me = FileTrust::user(Owner::current().uid);
        let keys = temp.path().join("mytoken/keys");
        assert!(PublicKey::load(&keys.join(PUBLIC), me).is_ok() && PrivateKey::load(&keys.join(PRIVATE), me).is_ok());
        let error = PrivateKey::load(&keys.join("missing"), me).unwrap_err().to_string();
        assert!(error.contains("mytokenctl keygen"), "{error}");
    }

    #[test]
    fn a_relative_directory_is_refused() {
        assert!(keygen(Path::new("keys"), "").unwrap_err().to_string().contains("absolute"));
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("keys");
        keygen(&dir, "").unwrap();
        std::fs::set_permissions(dir.join(PRIVATE), std::fs::Permissions::from_mode(0o640)).unwrap();
        let me = FileTrust::user(Owner::current().uid);
        let error = PrivateKey::load(&dir.join(PRIVATE), me).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("0600"), "{error}");
    }
}
