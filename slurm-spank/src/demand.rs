// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the site requires a credential for a submission that says nothing. mytoken-submit answers that; if it died, was killed or never
//! started, a job must neither start without the credential that its partition requires, nor stay out because another partition requires
//! one. So the plugin then reads the `[[default]]` tables itself.
//!
//! It has no TOML parser, because each step would load it. It understands the tables as the documents write them: `[[default]]` in a line,
//! and `key = "value"` in the lines below it. What it does not understand may require a credential if it contains that word.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mytoken_wire::defaults::{DefaultSettings, Destination, first};
use mytoken_wire::{CredentialOption, limited_read};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// Most drop-ins.
const MOST_FILES: usize = 256;

/// Largest file in bytes.
const LIMIT: usize = 1024 * 1024;

/// What the site's tables say of a submission that says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// It need not have a credential.
    None,
    /// It must have one.
    Required,
    /// This file cannot be read or understood.
    Unknown(PathBuf),
}

/// What `jobs.toml` in `directory` and its drop-ins say of a submission to there.
pub fn of_site(directory: &Path, to: Destination<'_>) -> Demand {
    let mut found = Tables::default();
    let drop_ins = directory.join("jobs.d");
    let Ok(names) = names_in(&drop_ins) else { return Demand::Unknown(drop_ins) };
    let files = names.into_iter().map(|name| drop_ins.join(name));
    for file in std::iter::once(directory.join("jobs.toml")).chain(files) {
        let is_understood = match text_of(&file) {
            Ok(text) => found.read(&text).is_some(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !is_understood {
            return Demand::Unknown(file);
        }
    }
    let to = Destination { partition: to.partition.or(found.default_partition.as_deref()), ..to };
    match first(&found.tables, to) {
        Some(table) if table.mytoken.is_required() => Demand::Required,
        _ => Demand::None,
    }
}

/// The files whose tables are appended to those of `jobs.toml`, in the order of their names.
///
/// # Errors
/// When the directory cannot be read or has too many.
fn names_in(directory: &Path) -> nix::Result<Vec<OsString>> {
    let mut entries = match Dir::open(directory, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(entries) => entries,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // The code of a heap is a fifth of that of `sort`.
    let (mut names, mut count) = (BinaryHeap::new(), 0);
    for entry in entries.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        count += usize::from(name != "." && name != "..");
        if count > MOST_FILES {
            return Err(Errno::E2BIG);
        }
        if name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".") {
            names.push(name.to_owned());
        }
    }
    Ok(names.into_sorted_vec())
}

fn text_of(file: &Path) -> io::Result<String> {
    // A pipe would keep the submission waiting.
    if !fs::metadata(file)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = limited_read(&File::open(file)?, LIMIT + 1)?;
    if bytes.len() > LIMIT {
        Err(io::ErrorKind::FileTooLarge.into())
    } else {
        Ok(String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?)
    }
}

/// What was found so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tables {
    tables: Vec<DefaultSettings>,
    default_partition: Option<String>,
}

/// A `[[default]]` that is being read.
#[derive(Default)]
struct Open {
    partition: Option<String>,
    account: Option<String>,
    mytoken: Option<String>,
    /// It has something that is not understood.
    odd: bool,
    /// It contains a value that requires a credential.
    requires: bool,
}

/// The part of a file in which a line is.
enum Part {
    /// Before the first header.
    Top,
    /// `[cluster]`.
    Cluster,
    /// `[[default]]`.
    Default(Open),
    Other,
}

impl Tables {
    /// Reads one more file. `None`: it may require a credential in a way that is not understood.
    fn read(&mut self, text: &str) -> Option<()> {
        let mut part = Part::Top;
        for line in text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                self.close(part)?;
                part = match line.split('#').next().unwrap_or_default().trim_ascii() {
                    "[[default]]" => Part::Default(Open::default()),
                    "[cluster]" => Part::Cluster,
                    _ => Part::Other,
                };
                continue;
            }
            match &mut part {
                Part::Default(open) => open.read(line),
                Part::Cluster if line.starts_with("default_partition") => self.name_partition(line)?,
                Part::Top if line.starts_with("cluster.default_partition") => self.name_partition(line)?,
                Part::Top | Part::Cluster | Part::Other if requires(line) => return None,
                Part::Top | Part::Cluster | Part::Other => {}
            }
        }
        self.close(part)
    }

    fn name_partition(&mut self, line: &str) -> Option<()> {
        self.default_partition = Some(assignment(line)?.1.to_owned());
        Some(())
    }

    fn close(&mut self, part: Part) -> Option<()> {
        let Part::Default(Open { partition, account, mytoken, odd, requires }) = part else { return Some(()) };
        match mytoken.as_deref().and_then(CredentialOption::parse).filter(|_| !odd) {
            Some(mytoken) => self.tables.push(DefaultSettings { partition, account, mytoken }),
            None if requires => return None,
            None => {}
        }
        Some(())
    }
}

impl Open {
    fn read(&mut self, line: &str) {
        self.requires |= requires(line);
        let slot = match assignment(line) {
            Some(("partition", value)) => Some((&mut self.partition, value)),
            Some(("account", value)) => Some((&mut self.account, value)),
            Some(("mytoken", value)) => Some((&mut self.mytoken, value)),
            _ => None,
        };
        match slot {
            Some((slot @ None, value)) => *slot = Some(value.to_owned()),
            _ => self.odd = true,
        }
    }
}

/// Key and value of `key = "value"`, with or without a comment.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let value = value.trim_ascii_start();
    let quote = value.chars().next().filter(|first| ['"', '\''].contains(first))?;
    let (value, rest) = value.get(1..)?.split_once(quote)?;
    let rest = rest.trim_ascii_start();
    let is_plain = (rest.is_empty() || rest.starts_with('#')) && !(quote == '"' && value.contains('\\'));
    is_plain.then_some((key.trim_ascii_end(), value))
}

/// Whether a line contains a value that requires a credential.
fn requires(line: &str) -> bool {
    // The words are `"required"`, `"required:` and the same in the other quotes.
    line.as_bytes().windows("'required'".len()).any(|found| match found {
        [quote @ (b'"' | b'\''), word @ .., end] => word == b"required" && (end == quote || *end == b':'),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// The tables as TOML.
    #[derive(Deserialize)]
    struct AsToml {
        #[serde(default)]
        default: Vec<DefaultSettings>,
        cluster: Option<Cluster>,
    }

    #[derive(Deserialize)]
    struct Cluster {
        default_partition: Option<String>,
    }

    fn read(text: &str) -> Option<Tables> {
        let mut tables = Tables::default();
        tables.read(text).map(|()| tables)
    }

    #[test]
    fn tables_in_their_usual_form_are_read_like_toml() {
        let sample = include_str!("../../packaging/samples/jobs.toml");
        // Its examples without the comment signs.
        let example = |line: &str| line.strip_prefix('#').filter(|line| line.ends_with("# example")).map(str::to_owned);
        let examples: Vec<String> =
            sample.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned())).collect();
        for text in [
            sample,
            &examples.join("\n"),
            "[[default]]\npartition = \"gpu\"\naccount='bio'\nmytoken = \"required:x\" # \"why\"\n\n[[default]]\nmytoken = 'off'",
            "cluster.default_partition = \"main\"\n[[ profile ]]\nname = \"required-x\"\n[[default]] # all\n  mytoken=\"required\"",
            "[cluster]\ndefault_partition = 'main'\nname = 'c'\n[[default]]\npartition = 'main'\nmytoken = 'data'\n[submit]\nshare_for = '60s'",
            "",
        ] {
            let AsToml { default, cluster } = toml::from_str(text).unwrap();
            let default_partition = cluster.and_then(|cluster| cluster.default_partition);
            assert_eq!(read(text), Some(Tables { tables: default, default_partition }), "{text}");
        }
        assert!(read(&examples.join("\n")).is_some_and(|found| !found.tables.is_empty()));
    }

    #[test]
    fn another_form_may_require_a_credential_if_it_says_so() {
        for (text, is_understood) in [
            ("default = [{ partition = \"gpu\", mytoken = \"required:data\" }]", false),
            ("default = [{ mytoken = 'data' }]", true),
            ("[[default]]\n\"mytoken\" = \"required\"", false),
            ("[[default]]\nmytoken = \"\"\"required\"\"\"", false),
            ("[[default]]\npartition = \"a\\u0062\"\nmytoken = \"required\"", false),
            ("[[default]]\npartition = \"a\"\npartition = \"b\"\nmytoken = \"required\"", false),
            ("[[default]]\nmytoken = \"required:\"", false),
            ("[[default]]\npartition = [\n\"a\"]\nmytoken = \"data\"", true),
            ("[cluster]\ndefault_partition = main\n", false),
            ("# mytoken = \"required\"", true),
        ] {
            assert_eq!(read(text).is_some(), is_understood, "{text}");
        }
    }

    #[test]
    fn the_first_table_of_all_files_decides() {
        let dir = tempfile::tempdir().unwrap();
        let of = |partition, account| of_site(dir.path(), Destination { partition, account });
        assert_eq!(of(None, None), Demand::None, "there is no file");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("jobs.d")).unwrap();
        write("jobs.toml", "[[default]]\npartition = \"gpu\"\naccount = \"bio\"\nmytoken = \"off\"\n");
        write("jobs.d/20.toml", "[cluster]\ndefault_partition = \"main\"\n");
        write(
            "jobs.d/10.toml",
            "[[default]]\npartition = \"gpu\"\nmytoken = \"required\"\n[[default]]\npartition = \"main\"\nmytoken = \"required\"\n",
        );
        write("jobs.d/.#10.toml", "[[default]]\nmytoken = [\"required\"]");
        write("jobs.d/10.toml.bak", "[[default]]\nmytoken = [\"required\"]");
        for (partition, account, demand) in [
            (Some("gpu"), None, Demand::Required),
            (Some("cpu,gpu"), Some("chem"), Demand::Required),
            (Some("gpu"), Some("BIO"), Demand::None),
            (Some("cpu"), None, Demand::None),
            (None, None, Demand::Required),
        ] {
            assert_eq!(of(partition, account), demand, "{partition:?} {account:?}");
        }
        write("jobs.d/30.toml", "default = [{ mytoken = \"required\" }]");
        assert_eq!(of(Some("cpu"), None), Demand::Unknown(dir.path().join("jobs.d/30.toml")));
        fs::remove_file(dir.path().join("jobs.d/30.toml")).unwrap();
        fs::create_dir(dir.path().join("jobs.d/40.toml")).unwrap();
        assert_eq!(of(Some("cpu"), None), Demand::Unknown(dir.path().join("jobs.d/40.toml")));
    }
}
