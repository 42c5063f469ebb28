// SPDX-License-Identifier: MIT OR Apache-2.0
//! One-time codes with which a node enrols where there is no MUNGE. Root makes one at a broker for one node and takes it there.
//!
//! A code is used up in two steps, because the broker may be killed at any moment: [`Codes::take`] gives it to one key before the register
//! has that key, and [`Codes::finish`] ends its use afterwards. In between, the same key can enrol with it again, and no other one can.

use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// Held while the use of a code begins or ends.
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
    /// The register may not have that key yet: the broker may have ended before. A release that does not know this refuses the code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unfinished: bool,
}

impl CodeFile {
    fn code_use(&self) -> CodeUse {
        match self.used {
            None => CodeUse::Unused,
            Some(key) if self.unfinished => CodeUse::Begun(key),
            Some(key) => CodeUse::Finished(key),
        }
    }
}

/// How far the use of a code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeUse {
    /// No key has used it.
    Unused,
    /// This key uses it, and may not be in the register yet.
    Begun(KeyHash),
    /// The register got this key.
    Finished(KeyHash),
}

/// A code that is valid.
#[derive(Debug)]
#[must_use]
pub struct ValidCode {
    name: String,
    file: CodeFile,
}

impl ValidCode {
    /// How far its use is.
    #[must_use]
    pub fn code_use(&self) -> CodeUse {
        self.file.code_use()
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
        let file = CodeFile {
            node: node.clone(),
            hash: hash(&bytes),
            expires: now.saturating_add(LIFE),
            used: None,
            unfinished: false,
        };
        self.write(&file_name(node), &file)?;
        Ok(written(&bytes))
    }

    /// Whether `code` is valid for `node` at `now` (Unix seconds). After [`Self::take`] it is, too: [`ValidCode::code_use`].
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

    /// Begins to use a code up with this key, or goes on with that. Of several connections with the same code and other keys, one succeeds.
    ///
    /// # Errors
    /// [`CodeRefusal`].
    pub fn take(&self, node: &NodeName, code: ValidCode, key: KeyHash) -> Result<(), CodeRefusal> {
        let ValidCode { name, file } = code;
        let _taking = self.taking();
        let present = self.read(&name)?.filter(|present| present.hash == file.hash);
        match present.map(|present| present.code_use()) {
            Some(CodeUse::Unused) => Ok(self.write(&name, &CodeFile { used: Some(key), unfinished: true, ..file })?),
            Some(CodeUse::Begun(taker)) if taker == key => Ok(()),
            _ => Err(CodeRefusal::Invalid { node: node.clone() }),
        }
    }

    /// The register has `node` with this key, which began to use the code. If the key is removed there, the code does not bring it back.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn finish(&self, node: &NodeName, key: KeyHash) -> Result<(), FileError> {
        let name = file_name(node);
        let _taking = self.taking();
        match self.read(&name)? {
            Some(file) if file.code_use() == CodeUse::Begun(key) => {
                self.write(&name, &CodeFile { unfinished: false, ..file })
            }
            _ => Ok(()),
        }
    }

    /// Forgets the code of `node` if a key has begun to use it: the node is about to be removed from the register. A new code stays.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn forget_used(&self, node: &NodeName) -> Result<(), FileError> {
        let name = file_name(node);
        let _taking = self.taking();
        match self.read(&name) {
            Ok(None) => Ok(()),
            Ok(Some(file)) if file.code_use() == CodeUse::Unused => Ok(()),
            // One that cannot be read enrols nobody, and is in the way of no removal.
            Ok(Some(_)) | Err(_) => self.directory.remove(&name).map(|_| ()),
        }
    }

    fn taking(&self) -> MutexGuard<'_, ()> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
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
#[must_use]
pub fn written(bytes: &[u8; BYTES]) -> Zeroizing<String> {
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
#[must_use]
pub fn bytes_of(code: &str) -> Option<Zeroizing<[u8; BYTES]>> {
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
        assert_eq!((one.code_use(), codes.take(&node("n1"), one, own)), (CodeUse::Unused, Ok(())));
        assert!(matches!(codes.take(&node("n1"), two, other), Err(CodeRefusal::Invalid { .. })), "at the same time");
        let checked = || codes.check(&node("n1"), &code, NOW).unwrap();
        assert_eq!(checked().code_use(), CodeUse::Begun(own));
        assert_eq!(codes.take(&node("n1"), checked(), own), Ok(()), "it may not be in the register");
        assert!(codes.take(&node("n1"), checked(), other).is_err());
        codes.finish(&node("n1"), other).unwrap();
        assert_eq!(checked().code_use(), CodeUse::Begun(own), "another key ends nothing");
        codes.finish(&node("n1"), own).unwrap();
        assert_eq!(checked().code_use(), CodeUse::Finished(own), "until its end");
        assert!(codes.take(&node("n1"), checked(), own).is_err());
        assert!(codes.check(&node("n1"), &code, NOW + 1 + LIFE).is_err());
    }

    #[test]
    fn with_its_node_only_a_used_code_is_forgotten() {
        let (temp, codes) = codes();
        let path = temp.path().join("n1.json");
        assert_eq!(codes.forget_used(&node("n1")), Ok(()), "there is none");
        let code = codes.issue(&node("n1"), NOW).unwrap();
        codes.forget_used(&node("n1")).unwrap();
        let valid = codes.check(&node("n1"), &code, NOW).unwrap();
        codes.take(&node("n1"), valid, KeyHash([1; 32])).unwrap();
        codes.forget_used(&node("n1")).unwrap();
        assert!(codes.check(&node("n1"), &code, NOW).is_err() && !path.exists());
        std::fs::write(&path, "{}").unwrap();
        assert_eq!((codes.forget_used(&node("n1")), path.exists()), (Ok(()), false));
    }

    /// An earlier release wrote them. Whether the register got the key, only the register tells.
    #[test]
    fn a_used_code_of_an_earlier_release_is_finished() {
        let (temp, codes) = codes();
        let code = codes.issue(&node("n1"), NOW).unwrap();
        let path = temp.path().join("n1.json");
        let (file, key) = (std::fs::read_to_string(&path).unwrap(), KeyHash([1; 32]));
        assert!(!file.contains("used") && !file.contains("unfinished"), "{file}");
        std::fs::write(&path, file.replace('}', &format!(",\"used\":\"{key}\"}}"))).unwrap();
        assert_eq!(codes.check(&node("n1"), &code, NOW).unwrap().code_use(), CodeUse::Finished(key));
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
