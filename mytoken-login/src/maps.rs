// SPDX-License-Identifier: MIT OR Apache-2.0
//! The map files of a rule set, read before a decision so that the decision itself is pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mytoken::config::FileTrust;

use super::{MapFile, Mapping, Rule};

/// How many wrong lines of a file a log line names.
const NAMED: usize = 3;

/// The map files of a rule set.
#[derive(Debug, Clone, Default)]
pub struct Maps(BTreeMap<PathBuf, Result<MapFile, String>>);

impl Maps {
    /// Reads the map files that `rules` name. A file that cannot be read is remembered as such: a rule that needs it gives nobody an
    /// account, other rules go on.
    #[must_use]
    pub fn load(rules: &[Rule], trust: FileTrust) -> Self {
        let files = rules.iter().filter_map(|rule| match &rule.mapping {
            Mapping::File(path) => Some(path),
            Mapping::Template(_) => None,
        });
        let read = |path: &PathBuf| match trust.read_bytes(path) {
            Ok(bytes) => Ok(MapFile::parse(&bytes)),
            Err(error) => Err(error.to_string()),
        };
        Self(files.map(|path| (path.clone(), read(path))).collect())
    }

    /// Adds a file.
    pub fn insert(&mut self, path: &Path, file: Result<MapFile, String>) {
        self.0.insert(path.to_owned(), file);
    }

    /// All of them, by path.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Result<MapFile, String>)> {
        self.0.iter().map(|(path, file)| (path.as_path(), file))
    }

    /// What is wrong with them, for a log: one line for each file that has mistakes or cannot be used.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.files().filter_map(|(path, file)| complaint(path, file)).collect()
    }

    pub(super) fn get(&self, path: &Path) -> Result<&MapFile, String> {
        match self.0.get(path) {
            Some(Ok(file)) => Ok(file),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err(format!("{} was not read", path.display())),
        }
    }
}

fn complaint(path: &Path, file: &Result<MapFile, String>) -> Option<String> {
    let file = match file {
        Ok(file) => file,
        Err(reason) => return Some(format!("map file not used: {reason}")),
    };
    let count = file.wrong_lines();
    let named: Vec<String> = file.mistakes().iter().take(NAMED).map(ToString::to_string).collect();
    let (lines, more) = (if count == 1 { "line" } else { "lines" }, count.saturating_sub(named.len()));
    let more = if more > 0 { format!("; and {more} more, see mytokenctl check") } else { String::new() };
    (count > 0).then(|| format!("map file {}: {count} {lines} not used: {}{more}", path.display(), named.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_names_a_few_mistakes_and_counts_the_rest() {
        let mut maps = Maps::default();
        assert!(maps.complaints().is_empty());
        maps.insert(Path::new("/a.map"), Ok(MapFile::parse(b"op s alice\n")));
        maps.insert(Path::new("/b.map"), Ok(MapFile::parse("op\n".repeat(50).as_bytes())));
        maps.insert(Path::new("/c.map"), Err("cannot read /c.map: no".to_owned()));
        let [wrong, unusable] = &maps.complaints()[..] else { panic!("{:?}", maps.complaints()) };
        assert!(wrong.starts_with("map file /b.map: 50 lines not used: 1:3: "), "{wrong}");
        assert!(wrong.ends_with("; and 47 more, see mytokenctl check") && wrong.len() < 500, "{wrong}");
        assert_eq!(unusable, "map file not used: cannot read /c.map: no");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_the_rule_that_needs_it() {
        let maps = Maps::default();
        assert!(maps.get(Path::new("/elsewhere.map")).unwrap_err().contains("was not read"));
    }
}
