// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mistake that shows only when all settings are read, and the setting that has it: it can stand in a drop-in.

use std::fmt;
use std::path::Path;

use super::{ConfigError, ConfigPlaces, FileTrust};

/// A mistake in a configuration file or one of its drop-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The setting.
    pub setting: Setting,
    /// A sentence for the administrator.
    pub problem: String,
}

/// A setting, for the question where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A key with its tables: `agent.runtime_dir`.
    Key(String),
    /// A table of a list of tables.
    Entry {
        /// The name of the list.
        list: &'static str,
        /// Which one, from 0, as `read` puts the files together.
        index: usize,
        /// The keys that can have the mistake. The first one that is there counts.
        keys: &'static [&'static str],
    },
}

impl Mistake {
    /// A mistake of the value of a key.
    #[must_use]
    pub fn of_key(key: &str, problem: impl Into<String>) -> Self {
        Self { setting: Setting::Key(key.to_owned()), problem: problem.into() }
    }

    /// A mistake of the value of a key, in a sentence that begins with this key.
    #[must_use]
    pub fn key_that(key: &str, predicate: &str) -> Self {
        Self::of_key(key, format!("{key} {predicate}"))
    }

    /// A mistake of a table in a list.
    #[must_use]
    pub fn of_entry(
        list: &'static str,
        index: usize,
        keys: &'static [&'static str],
        problem: impl Into<String>,
    ) -> Self {
        Self { setting: Setting::Entry { list, index, keys }, problem: problem.into() }
    }

    /// The error for it, with the file and the line that has the setting, of `DIR/NAME.toml` and its drop-ins. If no file has it, a default
    /// or a missing setting is the mistake, and the error names the main file.
    #[must_use]
    pub fn into_error(self, dir: &Path, name: &str, trust: FileTrust) -> ConfigError {
        let found = ConfigPlaces::read(dir, name, trust).ok().and_then(|places| places.setting(&self.setting));
        let place = dir.join(found.unwrap_or_else(|| format!("{name}.toml")));
        ConfigError::Invalid { place: place.display().to_string(), problem: self.problem }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_of_the_file_and_line_that_have_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("jobs.d")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("jobs.toml", "[cluster]\nname = 'c'\n[agent]\nsqueue = '/x'\n[[profile]]\nname = 'a'\n");
        write("jobs.d/10.toml", "\n[cluster]\nname = '-x'\n[[profile]]\nserver = 's'\nname = 'a'\n");
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        let place = |mistake: Mistake| {
            let error = mistake.into_error(dir.path(), "jobs", me).to_string();
            let error = error.strip_prefix(&format!("{}/", dir.path().display())).unwrap().to_owned();
            error.strip_suffix(": p").unwrap().to_owned()
        };
        for (key, expected) in [
            ("cluster.name", "jobs.d/10.toml:3"),
            ("agent.squeue", "jobs.toml:4"),
            ("agent.runtime_dir", "jobs.toml:3"),
            ("broker.names", "jobs.toml"),
        ] {
            assert_eq!(place(Mistake::of_key(key, "p")), expected, "{key}");
        }
        let entry = |index, keys| place(Mistake::of_entry("profile", index, keys, "p"));
        assert_eq!(entry(0, &["name"]), "jobs.toml:6");
        assert_eq!(entry(1, &["name"]), "jobs.d/10.toml:6");
        assert_eq!(entry(1, &["scope", "server"]), "jobs.d/10.toml:5");
        assert_eq!(entry(1, &["scope"]), "jobs.d/10.toml:4");
        assert_eq!(entry(2, &[]), "jobs.toml");
        std::fs::remove_file(dir.path().join("jobs.toml")).unwrap();
        assert_eq!(entry(0, &["name"]), "jobs.toml");
    }
}
