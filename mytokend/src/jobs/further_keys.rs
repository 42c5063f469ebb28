// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cluster's private keys beside the one in `private_key_file`: the next one and earlier ones. Each is in a file with its id as name, so
//! a rotation loses no job that waits, and a restart of the agent forgets none.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use mytoken::Error;
use mytoken::config::{FileTrust, is_missing};
use mytoken::private_files::FileError;

use super::SealError;
use super::keys::PrivateKey;

/// The directory of the keys, beside `private_key_file`.
pub const DIRECTORY: &str = "private.d";

/// How the file of a key ends.
pub const KEY: &str = ".key";

/// How the file of a key ends that was retired. It is empty: it says why the jobs of this key get no token.
pub const RETIRED: &str = ".retired";

/// Most files in the directory.
const MOST: usize = 128;

/// What is in the directory.
#[derive(Debug, Default)]
pub struct FurtherKeys {
    /// The keys with their files, in the order of the ids.
    pub keys: Vec<(PathBuf, PrivateKey)>,
    /// The ids of retired keys.
    pub retired: BTreeSet<String>,
    /// Files that cannot be used.
    pub problems: Vec<Problem>,
}

/// A file that cannot be used, or the directory.
#[derive(Debug)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Why, with the path.
    pub error: SealError,
    /// The name that the file should have, if only its name is wrong.
    pub right_name: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// The directory beside `private_key_file`.
#[must_use]
pub fn directory(private_key_file: &Path) -> PathBuf {
    private_key_file.with_file_name(DIRECTORY)
}

/// The files with private keys of this host: `private_key_file` and those in the directory, as far as they exist and can be seen.
#[must_use]
pub fn all_files(private_key_file: &Path) -> Vec<PathBuf> {
    let is_key = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(KEY));
    let further = std::fs::read_dir(directory(private_key_file)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = further.map(|entry| entry.path()).filter(is_key).collect();
    files.sort();
    files.extend(private_key_file.symlink_metadata().is_ok().then(|| private_key_file.to_owned()));
    files
}

/// Reads the directory. A file that cannot be used costs the other keys nothing.
#[must_use]
pub fn load(private_key_file: &Path, trust: FileTrust) -> FurtherKeys {
    let mut found = FurtherKeys::default();
    let directory = directory(private_key_file);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        // A link to nothing is no empty directory: the keys that it stands for are missed.
        Err(_) if is_missing(&directory) => return found,
        Err(error) => {
            found.problems.push(unusable(&directory, &error.to_string()));
            return found;
        }
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).take(MOST + 1).collect();
    if names.len() > MOST {
        found.problems.push(unusable(&directory, &format!("it has more than {MOST} files; the others are not read")));
        names.truncate(MOST);
    }
    names.sort_unstable();
    for name in names {
        let path = directory.join(&name);
        if let Some(id) = name.strip_suffix(RETIRED) {
            found.retired.insert(id.to_owned());
        } else if let Some(id) = name.strip_suffix(KEY) {
            match PrivateKey::load(&path, trust) {
                Ok(key) if key.id() == id => found.keys.push((path, key)),
                Ok(key) => {
                    let problem = unusable(&path, &format!("it is the key {}; rename it", key.id()));
                    found.problems.push(Problem { right_name: Some(format!("{}{KEY}", key.id())), ..problem });
                }
                Err(error) => found.problems.push(Problem { path, error, right_name: None }),
            }
        }
    }
    found
}

fn unusable(path: &Path, reason: &str) -> Problem {
    let error = FileError::Unusable { path: path.display().to_string(), reason: reason.to_owned() };
    Problem { path: path.to_owned(), error: Error::File(error).into(), right_name: None }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use mytoken::private_files::Owner;

    use super::super::keys::generate;
    use super::*;

    #[test]
    fn each_key_has_its_id_as_name_and_a_wrong_file_costs_no_other_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.key");
        let load = || load(&file, FileTrust::user(Owner::current().uid));
        assert!(load().keys.is_empty() && load().problems.is_empty(), "there is no directory");
        fs::create_dir(directory(&file)).unwrap();
        let put = |name: &str, text: &str, mode: u32| {
            let path = directory(&file).join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let (one, two) = (generate().1, generate().1);
        put(&format!("{}.key", one.id()), &one.to_text(), 0o600);
        put(&format!("{}.key", two.id()), &two.to_text(), 0o644);
        put("0123abcd.key", &two.to_text(), 0o600);
        put("4567abcd.retired", "", 0o600);
        put(".hidden.key", "", 0o600);
        put("README", "", 0o600);
        let found = load();
        assert_eq!(found.keys.iter().map(|(_, key)| key.id()).collect::<Vec<_>>(), [one.id()]);
        assert_eq!(found.retired, BTreeSet::from(["4567abcd".to_owned()]));
        let told: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        assert!(
            told.iter().any(|line| line.ends_with(&format!("0123abcd.key: it is the key {}; rename it", two.id())))
        );
        assert!(told.len() == 2 && told.iter().any(|line| line.contains("0644")), "{told:?}");
    }

    #[test]
    fn a_link_to_nothing_is_not_a_directory_without_keys() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.key");
        std::os::unix::fs::symlink("gone", directory(&file)).unwrap();
        let found = load(&file, FileTrust::user(Owner::current().uid));
        assert_eq!(found.problems.len(), 1);
        assert!(found.problems[0].to_string().contains("private.d"), "{}", found.problems[0]);
    }
}
