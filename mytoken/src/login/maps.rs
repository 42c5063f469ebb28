// SPDX-License-Identifier: MIT OR Apache-2.0
//! Map files: lines `<issuer> <sub> <account>`, read before a decision so that the decision itself is pure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Identity, Mapping, Rule};
use crate::config::FileTrust;
use crate::names::{AccountName, same_base};

/// The map files of a rule set.
#[derive(Debug, Clone, Default)]
pub struct Maps(HashMap<PathBuf, Result<MapFile, String>>);

/// One map file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapFile(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    issuer: String,
    sub: String,
    account: AccountName,
}

impl Maps {
    /// Reads the map files that `rules` name. A file that cannot be read or has a mistake is remembered as such: a rule that needs
    /// it gives nobody an account.
    #[must_use]
    pub fn load(rules: &[Rule], trust: FileTrust) -> Self {
        let files = rules.iter().filter_map(|rule| match &rule.mapping {
            Mapping::File(path) => Some(path),
            Mapping::Template(_) => None,
        });
        Self(
            files
                .map(|path| {
                    let text = trust.read(path).map_err(|error| error.to_string());
                    (path.clone(), text.and_then(|text| MapFile::parse(&text, path)))
                })
                .collect(),
        )
    }

    /// Adds a file.
    pub fn insert(&mut self, path: &Path, file: Result<MapFile, String>) {
        self.0.insert(path.to_owned(), file);
    }

    pub(super) fn get(&self, path: &Path) -> Result<&MapFile, String> {
        match self.0.get(path) {
            Some(Ok(file)) => Ok(file),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err(format!("{} was not read", path.display())),
        }
    }
}

impl MapFile {
    /// Reads lines `<issuer> <sub> <account>`: the issuer's URL or its name in the configuration, the subject (which may hold
    /// blanks), the account. Empty lines and lines that begin with `#` are nothing.
    ///
    /// # Errors
    /// A sentence with file and line. One wrong line spoils the whole file: it may be the line that takes an account away.
    pub fn parse(text: &str, path: &Path) -> Result<Self, String> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |problem: &str| format!("{}:{}: {problem}", path.display(), number + 1);
            let form = || wrong("a line holds an issuer, a subject and an account");
            let (issuer, rest) = line.split_once(char::is_whitespace).ok_or_else(form)?;
            let (sub, account) = rest.trim_start().rsplit_once(char::is_whitespace).ok_or_else(form)?;
            let account = AccountName::parse(account).map_err(|error| wrong(&error.to_string()))?;
            entries.push(Entry { issuer: issuer.to_owned(), sub: sub.trim_end().to_owned(), account });
        }
        Ok(Self(entries))
    }

    /// The accounts of an identity, in the order of the file.
    pub(super) fn accounts<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a AccountName> {
        self.0
            .iter()
            .filter(move |entry| {
                entry.sub == identity.sub
                    && (entry.issuer == identity.issuer || same_base(&entry.issuer, &identity.iss))
            })
            .map(|entry| &entry.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_mistakes_are_told() {
        let parse = |text: &str| MapFile::parse(text, Path::new("/etc/mytoken/users.map"));
        assert_eq!(parse("# nobody\n\n").unwrap(), MapFile::default());
        assert_eq!(parse("https://op/  a b\tc  alice\n").unwrap().0[0].sub, "a b\tc");
        for (text, line) in [("\nop sub", ":2:"), ("op", ":1:"), ("op sub Alice", ":1:"), ("op sub ../x", ":1:")] {
            assert!(parse(text).unwrap_err().contains(line), "{text}");
        }
    }
}
