// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads one key on which a decision about people depends: what hides it is an error, and not the same as its absence.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::DeTable;

use super::places::find;
use super::{drop_ins, line_of, parse_key, place};
use crate::config::{ConfigError, FileTrust};

/// Why a key cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A file that can have it cannot be read, or others could have written it.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// Its value is not of the type, or a mistake hides it.
    #[error(transparent)]
    Value(ConfigError),
}

/// Reads one key of a table (or of tables in it) from the last file that has it, of `DIR/NAME.toml` and its drop-ins.
/// `None`: no file has it. Mistakes elsewhere in the files are ignored; [`super::read`] reports them.
///
/// # Errors
/// [`KeyError`]. A file that cannot be read is one, unless a later file has the key.
pub fn read_key<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    trust: FileTrust,
    path: &[&str],
) -> Result<Option<T>, KeyError> {
    let mut files = vec![dir.join(format!("{name}.toml"))];
    files.extend(drop_ins(&dir.join(format!("{name}.d")), trust)?);
    for file in files.iter().rev() {
        let Some(text) = trust.read_optional(file)? else { continue };
        let of_file =
            |problem| KeyError::Value(ConfigError::Invalid { place: place(file, line_of_key(&text, path)), problem });
        match parse_key(&text, path) {
            // The parser puts something in the place of a value that it cannot read.
            Some(_) if is_spoiled(&text, path) => {
                return Err(of_file(format!("the value of {} cannot be read", path.join("."))));
            }
            Some(read) => return read.map(Some).map_err(of_file),
            None if is_hidden(&text, path) => {
                return Err(of_file(format!("a mistake in the file hides {}", path.join("."))));
            }
            None => {}
        }
    }
    Ok(None)
}

/// The line of the key. Where a mistake hides it, the first line that names it.
fn line_of_key(text: &str, path: &[&str]) -> Option<usize> {
    let found = find(DeTable::parse_recoverable(text).0.get_ref(), path).map(|position| line_of(text, position));
    found.or_else(|| text.lines().position(|line| is_named(line, path)).map(|before| before + 1))
}

/// Whether a mistake is in a line that names the key.
fn is_spoiled(text: &str, path: &[&str]) -> bool {
    let mistakes = DeTable::parse_recoverable(text).1;
    let starts = mistakes.iter().filter_map(toml::de::Error::span).map(|span| span.start);
    starts.filter_map(|start| line_at(text, start)).any(|line| is_named(line, path))
}

/// The line with this position.
fn line_at(text: &str, position: usize) -> Option<&str> {
    let begin = text.get(..position)?.rfind('\n').map_or(0, |end| end + 1);
    text.get(begin..)?.lines().next()
}

/// Whether a text with mistakes names the key, for example below the header `[account` without its bracket.
fn is_hidden(text: &str, path: &[&str]) -> bool {
    text.lines().any(|line| is_named(line, path)) && !DeTable::parse_recoverable(text).1.is_empty()
}

/// Whether a line names the key outside of its comment.
fn is_named(line: &str, path: &[&str]) -> bool {
    path.last().is_some_and(|key| without_comment(line).contains(key))
}

/// A line up to its comment. `#` in quotes begins none. Quotes without their end can be such a mistake, so all after them belongs to the
/// line.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (None, '#') => return line.get(..at).unwrap_or(line),
            (None, '"' | '\'') => quote = Some(character),
            (Some('"'), '\\') => drop(characters.next()),
            (Some(opening), closing) if opening == closing => quote = None,
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_not_a_file_without_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        let level = || read_key::<u32>(dir.path(), "login", me, &["account", "level"]);
        let path = |name: &str| dir.path().join(name);
        let mode = |name: &str, mode| {
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let is_file_error = |name: &str| match level() {
            Err(KeyError::File(error)) => error.to_string().contains(name),
            _ => false,
        };
        assert_eq!(level(), Ok(None), "there is no file");
        std::fs::write(path("login.toml"), "[account]\nlevel = 5\n???").unwrap();
        assert_eq!(level(), Ok(Some(5)));
        mode("login.toml", 0o664);
        assert!(is_file_error("login.toml"), "others can write it: {:?}", level());
        std::fs::create_dir(path("login.d")).unwrap();
        std::fs::write(path("login.d/10.toml"), "[account]\nlevel = 7").unwrap();
        assert_eq!(level(), Ok(Some(7)), "a later file has it");
        std::fs::write(path("login.d/20.toml"), b"\xff").unwrap();
        assert!(is_file_error("20.toml"), "{:?}", level());
        std::fs::remove_file(path("login.d/20.toml")).unwrap();
        symlink("nowhere", path("login.d/20.toml")).unwrap();
        assert!(is_file_error("20.toml"), "a link without a target: {:?}", level());
        std::fs::remove_file(path("login.d/20.toml")).unwrap();
        mode("login.d", 0o775);
        assert!(is_file_error("login.d"), "{:?}", level());
        std::fs::remove_dir_all(path("login.d")).unwrap();
        mode("login.toml", 0o644);
        symlink("nowhere", path("login.d")).unwrap();
        assert!(is_file_error("login.d"), "a directory that is a link without a target: {:?}", level());
        let site = dir.path().join("site");
        symlink("nowhere", &site).unwrap();
        let read = read_key::<u32>(&site, "login", me, &["account", "level"]);
        assert!(matches!(read, Err(KeyError::File(_))), "{read:?}");
    }

    #[test]
    fn a_mistake_that_hides_the_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        let level = |text: &str| {
            std::fs::write(dir.path().join("login.toml"), text).unwrap();
            read_key::<u32>(dir.path(), "login", me, &["account", "level"])
        };
        for text in [
            "[account\nlevel = 5",
            "[account]\nlevel = = 5",
            "[account]\nlevel = 'x'",
            "[[rule]\n[account\nlevel = 5",
            "???\naccount = { note = \"#1\", level = = 5 }",
            "???\naccount = { note = '#1', level = = 5 }",
            "???\naccount = { note = \"\\\"#1\", level = = 5 }",
            "???\naccount = { note = 'no end #1, level = 5 }",
        ] {
            let Err(KeyError::Value(error)) = level(text) else { panic!("{text}: {:?}", level(text)) };
            let line = text.lines().position(|line| line.contains("level")).unwrap() + 1;
            assert!(error.to_string().contains(&format!("login.toml:{line}: ")), "{text}: {error}");
        }
        for text in [
            "",
            "???",
            "[account\n# level = 5",
            "[account\nother = '#' # level",
            "[account\nother = 5",
            "[account]\nlev = 5",
        ] {
            assert_eq!(level(text), Ok(None), "{text}");
        }
    }
}
