// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl keygen`: the cluster's key pair.

use std::path::Path;

use mytoken::Error;
use mytoken::credential::files::{Directory, Owner};
use mytoken::credential::keys;

/// Name of the public key's file.
pub const PUBLIC: &str = "cluster.pub";
/// Name of the private key's file.
pub const PRIVATE: &str = "cluster.key";

/// Makes a key pair in `dir` and gives its id. Neither file may exist: jobs that wait in the queue need the old key.
///
/// # Errors
/// [`Error::File`].
pub fn keygen(dir: &Path, comment: &str) -> Result<String, Error> {
    let me = Owner::current();
    let refused = |reason: &str| Error::File { path: dir.display().to_string(), reason: reason.to_owned() };
    let directory = if dir.exists() {
        Directory::open(dir)?
    } else {
        let name = dir.file_name().and_then(|name| name.to_str()).ok_or_else(|| refused("it has no name"))?;
        Directory::open(dir.parent().ok_or_else(|| refused("it has no directory above it"))?)?.make(name, me, 0o755)?
    };
    if directory.names()?.iter().any(|name| name == PUBLIC || name == PRIVATE) {
        return Err(refused(
            "there is a key already; jobs in the queue are sealed to it. To replace it move both files away first",
        ));
    }
    let (public, private) = keys::generate();
    directory.write_durably(PRIVATE, private.to_text().as_bytes(), me, 0o600)?;
    directory.write_durably(PUBLIC, public.to_text(comment).as_bytes(), me, 0o644)?;
    Ok(public.id().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mytoken::config::FileTrust;
    use mytoken::credential::keys::{PrivateKey, PublicKey};

    use super::*;

    #[test]
    fn a_pair_is_made_once_and_fits() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("keys");
        let id = keygen(&dir, "testbed").unwrap();
        let me = Owner::current();
        let public = PublicKey::load(&dir.join(PUBLIC), FileTrust::user(me.uid)).unwrap();
        let private = PrivateKey::load(&dir.join(PRIVATE), me).unwrap();
        assert_eq!((public.id(), private.id(), &private.public()), (id.as_str(), id.as_str(), &public));
        let mode = std::fs::metadata(dir.join(PRIVATE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(keygen(&dir, "again").unwrap_err().to_string().contains("already"));
        assert_eq!(PrivateKey::load(&dir.join(PRIVATE), me).unwrap().id(), id);
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("keys");
        keygen(&dir, "").unwrap();
        std::fs::set_permissions(dir.join(PRIVATE), std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = PrivateKey::load(&dir.join(PRIVATE), Owner::current()).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("0600"), "{error}");
    }
}
