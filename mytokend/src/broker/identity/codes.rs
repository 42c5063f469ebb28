// SPDX-License-Identifier: MIT OR Apache-2.0
//! One-time codes with which a node enrols where there is no MUNGE. Root makes one at a broker for one node and takes it there.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use mytoken::private_files::{Directory, FileError, Owner};
use mytoken_wire::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::key_hash::KeyHash;
use super::node_name::NodeName;

/// How long a code can be used, in seconds.
pub const LIFE: u64 = 3600;

/// Bytes of a code.
const BYTES: usize = 16;

/// Digits between two hyphens of a code.
const GROUP: usize = 4;

/// Longest file in bytes.
const LIMIT: usize = 1024;

/// Mode of the files.
const MODE: u32 = 0o600;

/// The codes that were made. A code itself is never written to a file.
pub struct Codes {
    directory: Directory,
    owner: Owner,
    /// Held while a code is used up.
    taking: Mutex<()>,
}

/// The file of a code.
#[derive(Debug, Serialize, Deserialize)]
struct CodeFile {
    node: NodeName,
    /// SHA-256 of the code's bytes.
    hash: String,
    /// Its last second, Unix seconds.
    expires: u64,
    /// The key with which it was used. The node may not have heard the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<KeyHash>,
}

/// A code that is valid.
#[derive(Debug)]
#[must_use]
pub struct ValidCode {
    name: String,
    file: CodeFile,
}

impl ValidCode {
    /// The key with which it was used already.
    #[must_use]
    pub fn used_with(&self) -> Option<KeyHash> {
        self.file.used
    }
}

/// Why a code is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeRefusal {
    /// There is no such code for this node, or another key has used it, or it is too old. Which one it is helps an attacker.
    #[error("the one-time code is not valid for the node {node}; make another one with: mytokenctl node code {node}")]
    Invalid {
        /// The node.
        node: NodeName,
    },
    /// The file cannot be read, written or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Codes {
    /// The codes in `directory`, of which the files belong to `owner`.
    #[must_use]
    pub fn new(directory: Directory, owner: Owner) -> Self {
        Self { directory, owner, taking: Mutex::default() }
    }

    /// Makes a code for `node`, in place of a former one.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn issue(&self, node: &NodeName, now: u64) -> Result<Zeroizing<String>, FileError> {
        let bytes = Zeroizing::new(mytoken::random::random::<[u8; BYTES]>());
        let file = CodeFile { node: node.clone(), hash: hash(&bytes), expires: now.saturating_add(LIFE), used: None };
        self.write(&file_name(node), &file)?;
        Ok(written(&bytes))
    }

    /// Whether `code` is valid for `node` at `now` (Unix seconds). After [`Self::take`] it is, too: [`ValidCode::used_with`].
    ///
    /// # Errors
    /// [`CodeRefusal`].
    pub fn check(&self, node: &NodeName, code: &str, now: u64) -> Result<ValidCode, CodeRefusal> {
        let invalid = || CodeRefusal::Invalid { node: node.clone() };
        let name = file_name(node);
        let file = self.read(&name)?.ok_or_else(invalid)?;
        if now > file.expires || now.saturating_add(LIFE) < file.expires {
            self.directory.remove(&name)?;
            return Err(invalid());
        }
        let given = bytes_of(code).ok_or_else(invalid)?;
        if file.node == *node && is_same(&hash(&given), &file.hash) {
            Ok(ValidCode { name, file })
        } else {
            Err(invalid())
        }
    }

    /// Uses a code up with this key. Of several connections with the same code, one succeeds.
    ///
    /// # Errors
    /// [`CodeRefusal`].
    pub fn take(&self, node: &NodeName, code: ValidCode, key: KeyHash) -> Result<(), CodeRefusal> {
        let ValidCode { name, file } = code;
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read(&name)? {
            Some(present) if present.hash == file.hash && present.used.is_none() => {
                Ok(self.write(&name, &CodeFile { used: Some(key), ..file })?)
            }
            _ => Err(CodeRefusal::Invalid { node: node.clone() }),
        }
    }

    fn read(&self, name: &str) -> Result<Option<CodeFile>, FileError> {
        let Some(bytes) = self.directory.read(name, self.owner, MODE, LIMIT)? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes).map_err(|_| FileError::Unusable {
            path: self.directory.path().join(name).display().to_string(),
            reason: "it is damaged; make another code".to_owned(),
        });
        read.map(Some)
    }

    fn write(&self, name: &str, file: &CodeFile) -> Result<(), FileError> {
        // A struct of texts and numbers always has a JSON form.
        let text = serde_json::to_string(file).unwrap_or_default();
        self.directory.write_durably(name, text.as_bytes(), self.owner, MODE)
    }
}

fn file_name(node: &NodeName) -> String {
    format!("{node}.json")
}

fn hash(bytes: &[u8; BYTES]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// A code as it is shown: `0123-4567-...`.
fn written(bytes: &[u8; BYTES]) -> Zeroizing<String> {
    let digits = Zeroizing::new(hex::encode(bytes));
    let mut text = Zeroizing::new(String::with_capacity(BYTES * 2 + BYTES * 2 / GROUP));
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % GROUP == 0 {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// The bytes of a code as somebody typed it.
fn bytes_of(code: &str) -> Option<Zeroizing<[u8; BYTES]>> {
    if code.len() > 4 * BYTES {
        return None;
    }
    // It has its full size from the start: a growing one would leave copies in freed memory.
    let mut digits = Zeroizing::new(String::with_capacity(4 * BYTES));
    digits.extend(code.chars().filter(|c| *c != '-' && !c.is_ascii_whitespace()).map(|c| c.to_ascii_lowercase()));
    let mut bytes = hex::decode::<BYTES>(&digits)?;
    let kept = Zeroizing::new(bytes);
    bytes.zeroize();
    Some(kept)
}

/// Compares two hashes in the same time, wherever they differ.
fn is_same(one: &str, other: &str) -> bool {
    let difference = one.bytes().zip(other.bytes()).fold(0, |all, (one, other)| black_box(all | (one ^ other)));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn codes() -> (tempfile::TempDir, Codes) {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        (temp, Codes::new(directory, Owner::current()))
    }

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn a_code_is_used_once_by_its_node() {
        let (temp, codes) = codes();
        let code = codes.issue(&node("n1"), NOW).unwrap();
        assert_eq!((code.len(), code.split('-').count()), (39, 8));
        let path = temp.path().join("n1.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let file = std::fs::read_to_string(&path).unwrap();
        assert!(!file.contains(&code.replace('-', "")) && !file.contains(code.as_str()));
        assert!(matches!(codes.check(&node("n2"), &code, NOW), Err(CodeRefusal::Invalid { .. })));
        let typed = format!(" {}\n", code.to_uppercase().replace('-', " "));
        let (one, two) =
            (codes.check(&node("n1"), &typed, NOW).unwrap(), codes.check(&node("n1"), &code, NOW).unwrap());
        let (own, other) = (KeyHash([1; 32]), KeyHash([2; 32]));
        assert_eq!((one.used_with(), codes.take(&node("n1"), one, own)), (None, Ok(())));
        assert!(matches!(codes.take(&node("n1"), two, other), Err(CodeRefusal::Invalid { .. })), "at the same time");
        assert_eq!(codes.check(&node("n1"), &code, NOW).unwrap().used_with(), Some(own), "until its end");
        assert!(codes.check(&node("n1"), &code, NOW + 1 + LIFE).is_err());
    }

    #[test]
    fn a_code_of_another_node_is_refused_also_with_its_file() {
        let (temp, codes) = codes();
        let code = codes.issue(&node("n1"), NOW).unwrap();
        std::fs::copy(temp.path().join("n1.json"), temp.path().join("n2.json")).unwrap();
        assert!(codes.check(&node("n2"), &code, NOW).is_err());
    }

    #[test]
    fn codes_end_after_an_hour_and_when_another_is_made() {
        let (temp, codes) = codes();
        let first = codes.issue(&node("n1"), NOW).unwrap();
        let second = codes.issue(&node("n1"), NOW + 10).unwrap();
        assert!(first != second && codes.check(&node("n1"), &first, NOW + 10).is_err());
        assert!(codes.check(&node("n1"), &second, NOW + 10 + LIFE).is_ok());
        assert!(codes.check(&node("n1"), &second, NOW + 11 + LIFE).is_err());
        assert!(!temp.path().join("n1.json").exists());
        let third = codes.issue(&node("n1"), NOW).unwrap();
        assert!(codes.check(&node("n1"), &third, NOW - 1).is_err(), "the clock was set back: it would live longer");
    }

    #[test]
    fn wrong_codes_and_damaged_files_are_refused() {
        let (temp, codes) = codes();
        let code = codes.issue(&node("n1"), NOW).unwrap();
        let other = code.replace(|digit| digit != '-', "0");
        let long = format!("{}{}", code.as_str(), " ".repeat(100));
        for wrong in ["", "-", "0", &code[..38], &other, &long, "ääää", &format!("{}0", code.as_str())] {
            assert!(matches!(codes.check(&node("n1"), wrong, NOW), Err(CodeRefusal::Invalid { .. })), "{wrong}");
        }
        assert!(codes.check(&node("n1"), &code, NOW).is_ok());
        std::fs::write(temp.path().join("n1.json"), "{}").unwrap();
        assert!(codes.check(&node("n1"), &code, NOW).unwrap_err().to_string().contains("n1.json"));
    }

    #[test]
    fn hashes_are_compared_whole() {
        assert!(is_same("abc", "abc") && is_same("", ""));
        for other in ["abd", "bbc", "ab", "abcd", ""] {
            assert!(!is_same("abc", other) && !is_same(other, "abc"), "{other}");
        }
    }
}
