// SPDX-License-Identifier: MIT OR Apache-2.0
//! File and line of what a configuration file and its drop-ins say, for explanations.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Source, line_of, sources};
use crate::config::{ConfigError, FileTrust, Setting};

/// A configuration file and its drop-ins, for questions where something stands in them: `login.toml:8`, `login.d/10-vo.toml:3`.
pub struct ConfigPlaces {
    dir: PathBuf,
    sources: Vec<Source>,
}

impl ConfigPlaces {
    /// Reads `DIR/NAME.toml` and its drop-ins.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(dir: &Path, name: &str, trust: FileTrust) -> Result<Self, ConfigError> {
        Ok(Self { dir: dir.to_owned(), sources: sources(dir, name, trust)? })
    }

    /// The key at this path, in the last file that has it. Of a list of tables (`[[exchange]]`) on the path the first one counts.
    #[must_use]
    pub fn key(&self, path: &[&str]) -> Option<String> {
        self.sources.iter().rev().find_map(|source| {
            let table = table(source)?;
            Some(self.place(source, find(&table, path)?))
        })
    }

    /// Where a setting stands. If no file has a key, the table counts to which it belongs.
    #[must_use]
    pub fn setting(&self, setting: &Setting) -> Option<String> {
        match setting {
            Setting::Key(key) => {
                let path: Vec<&str> = key.split('.').collect();
                (1..=path.len()).rev().find_map(|length| self.key(path.get(..length)?))
            }
            Setting::Entry { list, index, keys } => {
                let found = self.entry(list, *index, keys)?;
                Some(found.key.unwrap_or(found.entry))
            }
        }
    }

    /// The table with this index in the list of tables called `list`, and the first of `keys` that it has. An entry of a drop-in
    /// follows those of earlier files. A table that is no list counts as a list of one.
    #[must_use]
    pub fn entry(&self, list: &str, index: usize, keys: &[&str]) -> Option<EntryPlace> {
        let parts = self.entries(list).into_iter().nth(index)?;
        let key = keys.iter().find_map(|key| {
            let mut later_first = parts.iter().rev();
            later_first.find_map(|part| Some(self.place(part.source, part.members.get_key_value(*key)?.0.span().start)))
        });
        let first = parts.first()?;
        Some(EntryPlace { entry: self.place(first.source, first.begin), key })
    }

    /// The entries of a list, as `read` puts them together. Tables that are no list are parts of one entry.
    fn entries(&self, list: &str) -> Vec<Vec<Part<'_>>> {
        let mut entries: Vec<Vec<Part<'_>>> = Vec::new();
        let mut single = false;
        for source in &self.sources {
            let found = table(source).and_then(|table| table.into_iter().find(|(key, _)| key.get_ref() == list));
            let Some((_, value)) = found else { continue };
            let begin = value.span().start;
            match value.into_inner() {
                DeValue::Table(members) => {
                    let part = Part { source, begin, members };
                    match entries.last_mut().filter(|_| single) {
                        Some(entry) => entry.push(part),
                        None => {
                            single = entries.is_empty();
                            entries.push(vec![part]);
                        }
                    }
                }
                DeValue::Array(values) => {
                    for value in values {
                        let begin = value.span().start;
                        if let DeValue::Table(members) = value.into_inner() {
                            single = false;
                            entries.push(vec![Part { source, begin, members }]);
                        }
                    }
                }
                _ => {}
            }
        }
        entries
    }

    fn place(&self, source: &Source, position: usize) -> String {
        let file = source.file.strip_prefix(&self.dir).unwrap_or(&source.file);
        format!("{}:{}", file.display(), line_of(&source.text, position))
    }
}

/// What one file says about an entry.
struct Part<'a> {
    source: &'a Source,
    begin: usize,
    members: DeTable<'a>,
}

/// Where an entry of a list of tables stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPlace {
    /// Its beginning.
    pub entry: String,
    /// The key that was asked for. `None`: the entry has none of these, so the default applies.
    pub key: Option<String>,
}

fn table(source: &Source) -> Option<DeTable<'_>> {
    DeTable::parse(&source.text).ok().map(Spanned::into_inner)
}

/// The position of the key at the path.
pub(super) fn find(table: &DeTable<'_>, path: &[&str]) -> Option<usize> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.get_key_value(*first)?;
    if rest.is_empty() {
        return Some(key.span().start);
    }
    match value.get_ref() {
        DeValue::Table(inner) => find(inner, rest),
        DeValue::Array(entries) => entries.iter().find_map(|entry| match entry.get_ref() {
            DeValue::Table(inner) => find(inner, rest),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(texts: &[(&str, &str)]) -> ConfigPlaces {
        let dir = Path::new("/etc/mytoken");
        let source = |(file, text): &(&str, &str)| Source { file: dir.join(file), text: (*text).to_owned() };
        ConfigPlaces { dir: dir.to_owned(), sources: texts.iter().map(source).collect() }
    }

    #[test]
    fn a_key_stands_in_the_last_file_that_has_it() {
        let places = places(&[
            ("login.toml", "# x\nservices = [\"sshd\"]\n[accounts]\nmin_uid = 500\n\ndeny = [\n  \"root\",\n]\n"),
            ("login.d/10-deny.toml", "\naccounts.deny = []\n"),
            ("login.d/20-broken.toml", "= ="),
        ]);
        assert_eq!(places.key(&["services"]).as_deref(), Some("login.toml:2"));
        assert_eq!(places.key(&["accounts", "min_uid"]).as_deref(), Some("login.toml:4"));
        assert_eq!(places.key(&["accounts", "deny"]).as_deref(), Some("login.d/10-deny.toml:2"));
        for path in [&["accounts", "names"][..], &["services", "x"], &["nothing"], &[]] {
            assert_eq!(places.key(path), None, "{path:?}");
        }
        let several = self::places(&[("login.toml", "[[exchange]]\nserver = 'a'\n[[exchange]]\nserver = 'b'\n")]);
        assert_eq!(several.key(&["exchange", "server"]).as_deref(), Some("login.toml:2"));
    }

    #[test]
    fn entries_of_drop_ins_follow_those_of_the_main_file() {
        let places = places(&[
            ("login.toml", "[[rule]]\nname = 'a'\n\n[[rule]]\nname = 'b'\nrequire_scopes = ['x']\n"),
            ("login.d/05-none.toml", "deadline = '5s'\n"),
            ("login.d/10-vo.toml", "# vo\n\n[[rule]]\nname = 'c'\ntemplate = '{sub}'\n"),
        ]);
        let entry = |index, keys: &[&str]| {
            places.entry("rule", index, keys).map(|found| (found.entry, found.key.unwrap_or_default()))
        };
        let found = |entry: &str, key: &str| Some((entry.to_owned(), key.to_owned()));
        assert_eq!(entry(0, &["require_scopes"]), found("login.toml:1", ""));
        assert_eq!(entry(1, &["require_scopes"]), found("login.toml:4", "login.toml:6"));
        assert_eq!(entry(2, &["map_file", "template"]), found("login.d/10-vo.toml:3", "login.d/10-vo.toml:5"));
        assert_eq!(entry(3, &[]), None);
        assert_eq!(places.entry("deadline", 0, &[]), None);
    }

    #[test]
    fn a_table_that_is_no_list_counts_as_a_list_of_one() {
        let main = ("login.toml", "\n[exchange]\nserver = 'a'\nscope = 'x'\n");
        let more = ("login.d/10-more.toml", "[exchange]\nscope = 'y'\n");
        let list = ("login.d/20-list.toml", "[[exchange]]\nserver = 'b'\n\n[[exchange]]\nserver = 'c'\n");
        let last = ("login.d/30-last.toml", "[exchange]\nserver = 'd'\n");
        let places = places(&[main, more, list, last]);
        let key = |index, key: &str| places.entry("exchange", index, &[key]).and_then(|found| found.key);
        assert_eq!(key(0, "server").as_deref(), Some("login.toml:3"));
        assert_eq!(key(0, "scope").as_deref(), Some("login.d/10-more.toml:2"));
        assert_eq!(key(1, "server").as_deref(), Some("login.d/20-list.toml:2"));
        assert_eq!(key(2, "server").as_deref(), Some("login.d/20-list.toml:5"));
        assert_eq!(key(3, "server").as_deref(), Some("login.d/30-last.toml:2"));
        assert_eq!((key(3, "scope"), key(4, "server")), (None, None));
        let entry = |index| places.entry("exchange", index, &[]).map(|found| found.entry);
        assert_eq!(entry(0).as_deref(), Some("login.toml:2"));
        assert_eq!(entry(3).as_deref(), Some("login.d/30-last.toml:1"));
    }
}
