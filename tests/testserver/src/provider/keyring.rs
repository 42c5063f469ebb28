// SPDX-License-Identifier: MIT OR Apache-2.0
//! All keys of the provider: the one that signs and those that are published. They are kept in a file, because making
//! an RSA key takes long and tests restart the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{Algorithm, ProviderKey};
use crate::private_file;

/// The published keys; the last one signs.
pub struct Keyring {
    file: Option<PathBuf>,
    published: Vec<Arc<ProviderKey>>,
    foreign: Option<Arc<ProviderKey>>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    algorithm: Algorithm,
    pkcs8: String,
}

impl Keyring {
    /// Reads the keys of a folder, or makes one of that algorithm. Without a folder nothing is stored.
    ///
    /// # Errors
    /// The file cannot be read, parsed or written.
    pub fn open(folder: Option<&Path>, algorithm: Algorithm) -> Result<Self, String> {
        let file = folder.map(|folder| folder.join("provider-keys.json"));
        let mut ring = Self { published: read(file.as_deref())?, file, foreign: None };
        if ring.published.last().is_none_or(|key| key.algorithm != algorithm) {
            ring.add_signing_key(algorithm, false)?;
        }
        Ok(ring)
    }

    /// Adds a key that signs from now on. With `drop_old` the older ones are no longer published.
    ///
    /// # Errors
    /// The key cannot be made or stored.
    pub fn add_signing_key(&mut self, algorithm: Algorithm, drop_old: bool) -> Result<Arc<ProviderKey>, String> {
        let key = Arc::new(ProviderKey::generate(algorithm)?);
        if drop_old {
            self.published.clear();
        }
        self.published.push(Arc::clone(&key));
        self.store()?;
        Ok(key)
    }

    /// The key that signs.
    ///
    /// # Errors
    /// There is no key.
    pub fn signing_key(&self) -> Result<Arc<ProviderKey>, String> {
        self.published.last().cloned().ok_or_else(|| "the provider has no key".into())
    }

    /// The newest published key of an algorithm. If there is none, it makes one, which does not become the signing key.
    ///
    /// # Errors
    /// The key cannot be made or stored.
    pub fn published_key(&mut self, algorithm: Algorithm) -> Result<Arc<ProviderKey>, String> {
        if let Some(key) = self.published.iter().rev().find(|key| key.algorithm == algorithm) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(ProviderKey::generate(algorithm)?);
        self.published.insert(0, Arc::clone(&key));
        self.store()?;
        Ok(key)
    }

    /// A key that is not published.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn foreign_key(&mut self, algorithm: Algorithm) -> Result<Arc<ProviderKey>, String> {
        match &self.foreign {
            Some(key) if key.algorithm == algorithm => Ok(Arc::clone(key)),
            _ => {
                let key = Arc::new(ProviderKey::generate(algorithm)?);
                self.foreign = Some(Arc::clone(&key));
                Ok(key)
            }
        }
    }

    /// The JWKS document.
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({"keys": self.published.iter().map(|key| key.public_jwk()).collect::<Vec<_>>()})
    }

    fn store(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let stored: Vec<_> = self
            .published
            .iter()
            .map(|key| Stored { algorithm: key.algorithm, pkcs8: STANDARD.encode(key.pkcs8()) })
            .collect();
        let text = serde_json::to_vec(&stored).map_err(|error| error.to_string())?;
        private_file::write(file, &text)
    }
}

fn read(file: Option<&Path>) -> Result<Vec<Arc<ProviderKey>>, String> {
    let Some(file) = file.filter(|file| file.exists()) else { return Ok(Vec::new()) };
    let named = |reason: String| format!("{}: {reason}", file.display());
    let text = std::fs::read(file).map_err(|error| named(error.to_string()))?;
    let stored: Vec<Stored> = serde_json::from_slice(&text).map_err(|error| named(error.to_string()))?;
    stored
        .into_iter()
        .map(|key| {
            let pkcs8 = STANDARD.decode(&key.pkcs8).map_err(|error| named(error.to_string()))?;
            ProviderKey::from_pkcs8(key.algorithm, pkcs8).map(Arc::new).map_err(named)
        })
        .collect()
}
