// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cluster's key pair: job credentials are sealed to the public key and opened with the private one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hpke::kem::{Kem as _, X25519HkdfSha256};
use hpke::{Deserializable, Serializable};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::seal_error::SealError;

type Kem = X25519HkdfSha256;

const PUBLIC: &str = "mytoken-x25519";
const PRIVATE: &str = "mytoken-x25519-private";

/// The public key (X25519).
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub(super) key: <Kem as hpke::Kem>::PublicKey,
    id: String,
}

/// The private key. Wiped when dropped; `Debug` prints the id of its public key.
#[derive(Clone)]
pub struct PrivateKey {
    pub(super) key: <Kem as hpke::Kem>::PrivateKey,
    id: String,
}

/// Makes a key pair from the operating system's random numbers.
#[must_use]
pub fn generate() -> (PublicKey, PrivateKey) {
    let (private, public) = Kem::gen_keypair();
    let id = id_of(&public);
    (PublicKey { key: public, id: id.clone() }, PrivateKey { key: private, id })
}

impl PublicKey {
    /// Reads a public key file: `mytoken-x25519 <base64url> <comment>`.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`].
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let bytes = bytes_of(text, PUBLIC)?;
        let key =
            Deserializable::from_bytes(&bytes[..]).map_err(|_| invalid("its bytes are not an X25519 public key"))?;
        let id = id_of(&key);
        Ok(Self { key, id })
    }

    /// The content of the public key file. Characters in `comment` that a terminal would not show are removed.
    #[must_use]
    pub fn to_text(&self, comment: &str) -> String {
        let comment: String = comment.chars().filter(|c| mytoken_wire::is_printable(*c)).collect();
        format!("{PUBLIC} {} {comment}\n", URL_SAFE_NO_PAD.encode(self.key.to_bytes()))
    }

    /// The id of the pair: 8 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl PrivateKey {
    /// Reads a private key file: `mytoken-x25519-private <base64url>`.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`].
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let bytes = bytes_of(text, PRIVATE)?;
        let key =
            Deserializable::from_bytes(&bytes[..]).map_err(|_| invalid("its bytes are not an X25519 private key"))?;
        let id = id_of(&Kem::sk_to_pk(&key));
        Ok(Self { key, id })
    }

    /// The content of the private key file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        self.key.write_exact(&mut bytes[..]);
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..]));
        Zeroizing::new(format!("{PRIVATE} {}\n", encoded.as_str()))
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { key: Kem::sk_to_pk(&self.key), id: self.id.clone() }
    }

    /// The id of the pair: 8 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.id)
    }
}

fn id_of(key: &<Kem as hpke::Kem>::PublicKey) -> String {
    mytoken_wire::hex::encode(Sha256::digest(key.to_bytes()).get(..4).unwrap_or_default())
}

/// The 32 bytes of an X25519 key. A wrong length is an error here, because the library would panic.
fn bytes_of(text: &str, kind: &'static str) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(invalid("it does not have exactly one line"));
    };
    let mut words = line.split_whitespace();
    match words.next() {
        Some(found) if found == kind => {}
        Some(PRIVATE) => return Err(SealError::NotPublic),
        Some(PUBLIC) => return Err(invalid("it is a public key, but a private key is needed")),
        _ => return Err(invalid(&format!("it does not begin with \"{kind}\""))),
    }
    // 33 bytes, so that a longer key is detected by its length. A growing vector would leave copies in freed memory.
    let mut buffer = Zeroizing::new([0_u8; 33]);
    let encoded = words.next().unwrap_or_default();
    let count = URL_SAFE_NO_PAD
        .decode_slice(encoded, &mut buffer[..])
        .map_err(|_| invalid("it is not base64url of 32 bytes"))?;
    let bytes = buffer.get(..count).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(Zeroizing::new).ok_or_else(|| invalid("it is not base64url of 32 bytes"))
}

fn invalid(reason: &str) -> SealError {
    SealError::InvalidKey { reason: reason.to_owned() }
}

mod load {
    use std::path::Path;

    use mytoken::Error;
    use mytoken::private_files::FileError;

    use super::{PrivateKey, PublicKey, SealError};
    use mytoken::config::FileTrust;

    const LIMIT: usize = 4096;

    impl PublicKey {
        /// Reads the public key from `path`, if `trust` permits.
        ///
        /// # Errors
        /// [`SealError::InvalidKey`] and the errors of [`FileTrust::read`].
        pub fn load(path: &Path, trust: FileTrust) -> Result<Self, SealError> {
            named(path, Self::parse(&trust.read(path)?))
        }
    }

    impl PrivateKey {
        /// Reads the private key from `path`, if `trust` permits and no other user can read it.
        ///
        /// # Errors
        /// [`SealError::InvalidKey`], [`FileError::Unusable`] and the errors of [`FileTrust::read_private`].
        pub fn load(path: &Path, trust: FileTrust) -> Result<Self, SealError> {
            let file = |reason: &str| {
                Error::File(FileError::Unusable { path: path.display().to_string(), reason: reason.to_owned() })
            };
            let bytes = trust
                .read_private(path, LIMIT)?
                .ok_or_else(|| file("there is no such file; make a key pair with: mytokenctl keygen"))?;
            let text = std::str::from_utf8(&bytes).map_err(|_| file("it is not a text file"))?;
            named(path, Self::parse(text))
        }
    }

    fn named<T>(path: &Path, result: Result<T, SealError>) -> Result<T, SealError> {
        result.map_err(|error| match error {
            SealError::InvalidKey { reason } => {
                Error::File(FileError::Unusable { path: path.display().to_string(), reason }).into()
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_pair_is_read_back() {
        let (public, private) = generate();
        assert_eq!(private.public(), public);
        assert_eq!(public.id().len(), 8);
        assert_eq!(PublicKey::parse(&public.to_text("testbed\n2026")).unwrap(), public);
        assert_eq!(PrivateKey::parse(&private.to_text()).unwrap().public(), public);
        let shown = format!("{private:?}");
        assert_eq!(shown, format!("PrivateKey({})", public.id()));
    }

    /// Key files on clusters must stay readable with newer dependencies. Release 0.1.0 with hpke 0.13 made these, for this test only.
    #[test]
    fn key_files_of_earlier_releases_are_read() {
        let private_file = "mytoken-x25519-private kUm3Cz8dLE5GXP4LWfxrJRadKU2FCkMu3NhbZSsnsk0\n";
        let public_file = "mytoken-x25519 n7ZkSbe5aEJfwLrFPzoRewsUUHXbebqZpwD7WMe9tBg testbed 2026-11-26\n";
        let private = PrivateKey::parse(private_file).unwrap();
        let public = PublicKey::parse(public_file).unwrap();
        assert_eq!(private.public(), public);
        assert_eq!((private.id(), public.id()), ("6a1d98ed", "6a1d98ed"));
        assert_eq!(private.to_text().as_str(), private_file);
        assert_eq!(public.to_text("testbed 2026-11-26"), public_file);
    }

    #[test]
    fn damaged_key_files_are_refused() {
        let (public, private) = generate();
        let text = public.to_text("");
        for wrong in [
            String::new(),
            "mytoken-x25519".to_owned(),
            "mytoken-x25519 AAAA".to_owned(),
            format!("mytoken-x25519 {}", "A".repeat(44)),
            format!("mytoken-x25519 {}", "A".repeat(400)),
            text.replace("mytoken", "ssh"),
            format!("{text}{text}"),
            private.to_text().to_string(),
        ] {
            assert!(PublicKey::parse(&wrong).is_err(), "{wrong}");
        }
        assert!(PrivateKey::parse(&text).unwrap_err().to_string().contains("public key"));
    }
}
