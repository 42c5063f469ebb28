// SPDX-License-Identifier: MIT OR Apache-2.0
//! The map files of the rules. They are read before the decision, so that the decision is pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mytoken::config::{ConfigError, FileTrust};

use crate::map_file::MapFile;
use crate::settings::{Mapping, Rule};

/// How many invalid lines of a file one log line shows.
const SHOWN_LINES: usize = 3;

/// The map files of the rules.
#[derive(Debug, Clone, Default)]
pub struct Maps(BTreeMap<PathBuf, Result<MapFile, MapFileUnusable>>);

/// A map file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MapFileUnusable {
    /// Why, with the path.
    pub reason: String,
    /// The same, if it cannot be read.
    pub cause: Option<ConfigError>,
}

impl Maps {
    /// Reads the map files of `rules`. A file that cannot be read is kept as an error: the rules that need it give no account, the
    /// other rules work.
    #[must_use]
    pub fn load(rules: &[Rule], trust: FileTrust) -> Self {
        let files = rules.iter().filter_map(|rule| match &rule.mapping {
            Mapping::File(path) => Some(path),
            Mapping::Template(_) | Mapping::Asked(_) => None,
        });
        let read = |path: &PathBuf| match trust.read_bytes(path) {
            Ok(bytes) => Ok(MapFile::parse(&bytes)),
            Err(error) => Err(MapFileUnusable { reason: error.to_string(), cause: Some(error) }),
        };
        Self(files.map(|path| (path.clone(), read(path))).collect())
    }

    /// Adds a file.
    pub fn insert(&mut self, path: &Path, file: Result<MapFile, MapFileUnusable>) {
        self.0.insert(path.to_owned(), file);
    }

    /// All files, by path.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Result<MapFile, MapFileUnusable>)> {
        self.0.iter().map(|(path, file)| (path.as_path(), file))
    }

    /// The problems of the map files, for the log: one line for each file that has invalid lines or cannot be used.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.files().filter_map(|(path, file)| problem(path, file)).collect()
    }

    /// The file at `path`.
    pub(super) fn get(&self, path: &Path) -> Result<&MapFile, MapFileUnusable> {
        match self.0.get(path) {
            Some(Ok(file)) => Ok(file),
            Some(Err(error)) => Err(error.clone()),
            None => Err(MapFileUnusable { reason: format!("{} was not read", path.display()), cause: None }),
        }
    }
}

fn problem(path: &Path, file: &Result<MapFile, MapFileUnusable>) -> Option<String> {
    let file = match file {
        Ok(file) => file,
        Err(error) => return Some(format!("map file not used: {error}")),
    };
    let count = file.ignored_lines();
    let shown: Vec<String> = file.errors().iter().take(SHOWN_LINES).map(ToString::to_string).collect();
    let (lines, more) = (if count == 1 { "line" } else { "lines" }, count.saturating_sub(shown.len()));
    let more = if more > 0 { format!("; and {more} more, see mytokenctl check") } else { String::new() };
    (count > 0).then(|| format!("map file {}: {count} {lines} not used: {}{more}", path.display(), shown.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_shows_a_few_invalid_lines_and_counts_the_rest() {
        let mut maps = Maps::default();
        assert!(maps.problems().is_empty());
        maps.insert(Path::new("/a.map"), Ok(MapFile::parse(b"op s alice\n")));
        maps.insert(Path::new("/b.map"), Ok(MapFile::parse("op\n".repeat(50).as_bytes())));
        maps.insert(
            Path::new("/c.map"),
            Err(MapFileUnusable { reason: "cannot read /c.map: no".to_owned(), cause: None }),
        );
        let [invalid, unusable] = &maps.problems()[..] else { panic!("{:?}", maps.problems()) };
        assert!(invalid.starts_with("map file /b.map: 50 lines not used: 1:3: "), "{invalid}");
        assert!(invalid.ends_with("; and 47 more, see mytokenctl check") && invalid.len() < 500, "{invalid}");
        assert_eq!(unusable, "map file not used: cannot read /c.map: no");
    }

    #[test]
    fn a_file_that_was_not_read_is_an_error() {
        let maps = Maps::default();
        assert!(maps.get(Path::new("/elsewhere.map")).unwrap_err().reason.contains("was not read"));
    }
}
