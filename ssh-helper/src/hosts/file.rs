// SPDX-License-Identifier: MIT OR Apache-2.0
//! `~/.config/mytoken/hosts.toml`. What the user has written into it, comments too, stays as it is.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::private_files::{Lock, lock};
use nix::errno::Errno;
use toml_edit::{Array, ArrayOfTables, Decor, DocumentMut, Item, RawString, Table, value};

use super::HostRule;
use crate::error::Error;

/// Its name.
pub(super) const NAME: &str = "hosts.toml";

/// The list in it.
const LIST: &str = "host";

/// The first lines of a new file.
const HEAD: &str =
    "# Hosts that get a token from mytoken-ssh. `mytoken-ssh add` fills this file, and keeps what you write.\n";

/// Time limit for another process that changes the file.
const LOCK_TIME: Duration = Duration::from_secs(10);
/// How often it is looked for meanwhile.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The file, locked against other processes that change it.
pub struct HostsFile {
    path: PathBuf,
    document: DocumentMut,
    _lock: Lock,
}

impl HostsFile {
    /// Opens the file in `directory`, which is made if it is missing, as the file is when it is saved.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let action = || format!("cannot change {}", directory.join(NAME).display());
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(Error::system(action()))?;
        let lock = locked(directory).map_err(Error::system(action()))?;
        // A link stays one, for example into a directory under version control.
        let path = directory.join(NAME);
        let path = if path.is_symlink() { path.canonicalize().map_err(Error::system(action()))? } else { path };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HEAD.to_owned(),
            Err(error) => return Err(Error::system(action())(error)),
        };
        let document = text.parse().map_err(|error: toml_edit::TomlError| Error::system(action())(error.message()))?;
        Ok(Self { path, document, _lock: lock })
    }

    /// Adds a rule, or puts it in the place of the one with its pattern.
    pub fn put(&mut self, rule: &HostRule) -> Result<(), Error> {
        let found = position(self.list()?, &rule.pattern);
        let end = self.document.trailing().as_str().unwrap_or_default().to_owned();
        let list = self.list()?;
        let index = found.unwrap_or_else(|| {
            let mut table = Table::new();
            // What stands at the end of the file stays before the new table.
            table.decor_mut().set_prefix(if end.is_empty() { "\n".to_owned() } else { format!("{end}\n") });
            list.push(table);
            list.len().saturating_sub(1)
        });
        let Some(table) = list.get_mut(index) else { return Ok(()) };
        let send = rule.send.map(|send| send.word().to_owned());
        let keys = [
            ("pattern", Some(&rule.pattern)),
            ("audience", rule.audience.as_ref()),
            ("scope", rule.scope.as_ref()),
            ("send", send.as_ref()),
            ("oidc_agent", rule.oidc_agent.as_ref()),
        ];
        for (key, text) in keys {
            set(table, key, text.map(String::as_str));
        }
        // Another text of the same command is the user's own.
        if rule.command != words(table.get("command")) {
            match &rule.command {
                Some(command) => drop(table.insert("command", value(command.iter().collect::<Array>()))),
                None => drop(table.remove("command")),
            }
        }
        if found.is_none() {
            self.document.set_trailing("");
        }
        Ok(())
    }

    /// Removes the rules with this pattern. `false`: there is none.
    pub fn remove(&mut self, pattern: &str) -> Result<bool, Error> {
        let mut found = false;
        while let Some(index) = position(self.list()?, pattern) {
            found = true;
            self.remove_at(index)?;
        }
        Ok(found)
    }

    /// Removes one. What stands above it may be about the whole file, and stays.
    fn remove_at(&mut self, index: usize) -> Result<(), Error> {
        let list = self.list()?;
        let above = list.get(index).map(|table| prefix(table.decor())).unwrap_or_default();
        list.remove(index);
        match list.get_mut(index) {
            Some(next) => {
                let all = above + &prefix(next.decor());
                next.decor_mut().set_prefix(all);
            }
            None => {
                let end = self.document.trailing().as_str().unwrap_or_default();
                self.document.set_trailing(format!("{above}{end}"));
            }
        }
        Ok(())
    }

    /// Replaces the file on disk. A reader sees the old one or the new one.
    pub fn save(self) -> Result<(), Error> {
        let action = || format!("cannot write {}", self.path.display());
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        // Made with mode 0600.
        let mut fresh = tempfile::NamedTempFile::new_in(directory).map_err(Error::system(action()))?;
        fresh.write_all(self.document.to_string().as_bytes()).map_err(Error::system(action()))?;
        fresh.as_file().sync_all().map_err(Error::system(action()))?;
        fresh.persist(&self.path).map(drop).map_err(|error| Error::system(action())(error.error))
    }

    fn list(&mut self) -> Result<&mut ArrayOfTables, Error> {
        let place = self.path.display().to_string();
        let item = self.document.entry(LIST).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        item.as_array_of_tables_mut()
            .ok_or_else(|| Error::Usage(format!("{place}: write each host as a table: [[{LIST}]]")))
    }
}

/// A list of texts.
fn words(item: Option<&Item>) -> Option<Vec<String>> {
    item?.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

/// Sets a key, or removes it. Comments above it and behind it stay.
fn set(table: &mut Table, key: &str, text: Option<&str>) {
    let old = table.get_mut(key).and_then(Item::as_value_mut);
    match (text, old) {
        (Some(text), Some(old)) if old.as_str() == Some(text) => {}
        (Some(text), Some(old)) => {
            let decor = old.decor().clone();
            *old = text.into();
            *old.decor_mut() = decor;
        }
        (Some(text), None) => drop(table.insert(key, value(text))),
        (None, _) => {
            let above = table.key(key).map(|key| prefix(key.leaf_decor())).unwrap_or_default();
            let before = prefix(table.decor());
            if table.remove(key).is_some() && !above.trim().is_empty() {
                table.decor_mut().set_prefix(before + &above);
            }
        }
    }
}

fn prefix(decor: &Decor) -> String {
    decor.prefix().and_then(RawString::as_str).unwrap_or_default().to_owned()
}

fn position(list: &ArrayOfTables, pattern: &str) -> Option<usize> {
    let is_it = |table: &Table| {
        table.get("pattern").and_then(Item::as_str).is_some_and(|found| found.eq_ignore_ascii_case(pattern))
    };
    list.iter().position(is_it)
}

/// Locks the directory: the file itself is replaced.
fn locked(directory: &Path) -> Result<Lock, String> {
    let handle = File::open(directory).map_err(|error| error.to_string())?;
    lock(handle.into(), Deadline::after(LOCK_TIME), LOCK_POLL).map_err(|errno| match errno {
        Errno::EAGAIN => "another process is changing it".to_owned(),
        errno => errno.desc().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::super::HostRules;
    use super::super::tests::rule;
    use super::*;

    fn put(directory: &Path, rule: &HostRule) {
        let mut file = HostsFile::open(directory).unwrap();
        file.put(rule).unwrap();
        file.save().unwrap();
    }

    #[test]
    fn the_source_of_a_token_is_written_and_what_the_user_wrote_of_a_command_stays() {
        let home = tempfile::tempdir().unwrap();
        let words = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let read = || HostRules::load(Vec::new(), home.path()).unwrap().added;
        let command = HostRule { command: words(&["pass", "show", "a \"b\""]), ..rule("tb", "https://a") };
        put(home.path(), &command);
        assert_eq!(read(), std::slice::from_ref(&command));
        let path = home.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap().replace("[\"pass\", ", "[ # mine\n  \"pass\", ");
        std::fs::write(&path, text).unwrap();
        let changed = HostRule { audience: Some("https://b".into()), ..command };
        put(home.path(), &changed);
        assert_eq!(read(), [changed]);
        assert!(std::fs::read_to_string(&path).unwrap().contains("# mine"));
        let agent = HostRule { oidc_agent: Some("https://op".into()), ..rule("tb", "https://a") };
        put(home.path(), &agent);
        assert_eq!(read(), [agent]);
    }

    #[test]
    fn what_is_added_is_read_back_and_what_the_user_wrote_stays() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("a/b");
        let login = HostRule { scope: Some("openid \"x\"".into()), ..rule("login.example.org", "https://a") };
        put(&directory, &login);
        let path = directory.join(NAME);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("[[host]]", "# mine\n[[host]] # and this")).unwrap();
        let other = HostRule { send: Some(super::super::Sent::TransferCode), ..rule("*.example.net", "") };
        put(&directory, &other);
        let changed = rule("LOGIN.example.org", "https://b");
        put(&directory, &changed);
        assert_eq!(HostRules::load(Vec::new(), &directory).unwrap().added, [changed, other.clone()]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD) && text.contains("# mine\n[[host]] # and this\n"), "{text}");
        let mut file = HostsFile::open(&directory).unwrap();
        assert!(file.remove("login.example.org").unwrap() && !file.remove("login.example.org").unwrap());
        file.save().unwrap();
        assert_eq!(HostRules::load(Vec::new(), &directory).unwrap().added, [other]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD) && text.contains("# mine\n"), "{text}");
        let mut file = HostsFile::open(&directory).unwrap();
        assert!(file.remove("*.example.net").unwrap());
        file.save().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD) && !text.contains("[[host]]"), "{text}");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn comments_at_keys_stay() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(NAME);
        let text = "[[host]]\n# above pattern\npattern = \"h\" # behind pattern\n# told by the site\naudience = \"a\" # behind audience\n\
                    # above scope\nscope = \"s\"\n[[host]]\npattern = \"H\"\n";
        std::fs::write(&path, text).unwrap();
        put(home.path(), &HostRule { scope: Some("s".into()), ..rule("h", "b") });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text.replace("\"a\"", "\"b\""));
        put(home.path(), &rule("h", "b"));
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(kept.contains("# above scope\n") && !kept.contains("scope ="), "{kept}");
        let mut file = HostsFile::open(home.path()).unwrap();
        assert!(file.remove("h").unwrap());
        file.save().unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("[[host]]"), "the second one would count now");
    }

    #[test]
    fn a_link_stays_and_a_file_that_cannot_be_read_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (kept, directory) = (home.path().join("kept.toml"), home.path().join("mytoken"));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join(NAME);
        symlink(&kept, &path).unwrap();
        assert!(HostsFile::open(&directory).is_err(), "nobody knows what the target says");
        for broken in ["[[host", "host = 7", "host = {pattern = 'x'}"] {
            std::fs::write(&kept, broken).unwrap();
            let put = HostsFile::open(&directory).and_then(|mut file| file.put(&rule("x", "y")));
            assert!(put.is_err(), "{broken}");
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), broken);
        }
        std::fs::write(&kept, "").unwrap();
        put(&directory, &rule("x", "y"));
        assert!(path.is_symlink());
        let text = std::fs::read_to_string(&kept).unwrap();
        assert_eq!(text.trim_start(), "[[host]]\npattern = \"x\"\naudience = \"y\"\n");
    }

    #[test]
    fn processes_that_add_at_once_lose_nothing() {
        let home = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let directory = home.path();
                scope.spawn(move || put(directory, &rule(&format!("host{number}"), "y")));
            }
        });
        assert_eq!(HostRules::load(Vec::new(), home.path()).unwrap().added.len(), 8);
    }
}
