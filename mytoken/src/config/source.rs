// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads one configuration file and its drop-ins strictly. An error names the file, the line and the nearest valid key.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::merge::merge;
use super::{ConfigError, FileTrust};

mod key;
mod places;
pub use key::{KeyError, read_key};
pub use places::{ConfigPlaces, EntryPlace};

/// How often a text is read again without its mistakes. Each time is a parse of up to a mebibyte.
const MISTAKES: usize = 4;

/// A file and its text.
struct Source {
    file: PathBuf,
    text: String,
}

/// Reads `DIR/NAME.toml` and then `DIR/NAME.d/*.toml` in the order of their names. A key in a later file replaces the same key of an
/// earlier one; lists of tables (`[[rule]]`) are appended. Where one file has a table (`[exchange]`) and another one a list of such tables
/// (`[[exchange]]`), the table counts as a list of one.
///
/// # Errors
/// [`ConfigError`].
pub fn read<T: DeserializeOwned>(dir: &Path, name: &str, trust: FileTrust) -> Result<T, ConfigError> {
    parse(&sources(dir, name, trust)?)
}

fn sources(dir: &Path, name: &str, trust: FileTrust) -> Result<Vec<Source>, ConfigError> {
    let main = dir.join(format!("{name}.toml"));
    let main = Source { text: trust.read(&main)?, file: main };
    let drop_ins = drop_ins(&dir.join(format!("{name}.d")), trust)?.into_iter();
    let drop_ins = drop_ins.map(|file| Ok(Source { text: trust.read(&file)?, file }));
    std::iter::once(Ok(main)).chain(drop_ins).collect()
}

/// Reads one list of texts from the last file that has it, of `DIR/NAME.toml` and its drop-ins. Mistakes elsewhere in the files, and files
/// that cannot be read, are ignored; [`read`] reports them.
#[must_use]
pub fn read_list_leniently(dir: &Path, name: &str, trust: FileTrust, key: &str) -> Option<Vec<String>> {
    let main = dir.join(format!("{name}.toml"));
    let drop_ins = drop_ins(&dir.join(format!("{name}.d")), trust).unwrap_or_default();
    let texts = drop_ins.iter().rev().chain([&main]).filter_map(|file| trust.read(file).ok());
    // A value that is not a text shows a mistake in the list itself.
    texts.into_iter().find_map(|text| parse_key(&text, &[key])?.ok())
}

/// Reads one key of a table (or of tables in it) from the last file that has it, of `DIR/NAME.toml` and its drop-ins. `None`: no file that
/// can be read has it. Mistakes elsewhere in the files are ignored; [`read`] reports them.
///
/// # Errors
/// The value is not of this type: a sentence for the log.
pub fn read_key_leniently<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    trust: FileTrust,
    path: &[&str],
) -> Option<Result<T, String>> {
    let main = dir.join(format!("{name}.toml"));
    let drop_ins = drop_ins(&dir.join(format!("{name}.d")), trust).unwrap_or_default();
    let texts = drop_ins.iter().rev().chain([&main]).filter_map(|file| Some((file, trust.read(file).ok()?)));
    texts.into_iter().find_map(|(file, text)| {
        let read = parse_key(&text, path)?;
        Some(read.map_err(|problem| format!("{}: {problem}", file.display())))
    })
}

fn parse_key<T: DeserializeOwned>(text: &str, path: &[&str]) -> Option<Result<T, String>> {
    let (key, tables) = path.split_last()?;
    find_despite_mistakes(text, |table| {
        let mut inner = table;
        for name in tables {
            let DeValue::Table(next) = inner.get(*name)?.get_ref() else { return None };
            inner = next;
        }
        let value = inner.get(*key)?.clone();
        Some(T::deserialize(value.into_deserializer()).map_err(|error| problem(error.message())))
    })
}

/// What `find` finds in a text with mistakes. The parser takes a line without `=` and the one after it for one mistake, and the
/// second may be the header of the table. So if nothing is found, it is tried without the lines in which mistakes begin, but never
/// without a header: the keys after it would belong to another table.
fn find_despite_mistakes<T>(text: &str, find: impl Fn(&DeTable<'_>) -> Option<T>) -> Option<T> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MISTAKES {
        let (table, mistakes) = DeTable::parse_recoverable(&text);
        let found = find(table.get_ref());
        let starts: Vec<usize> = mistakes.iter().filter_map(toml::de::Error::span).map(|span| span.start).collect();
        drop(table);
        if found.is_some() {
            return found;
        }
        let mut at = 0;
        let mut kept = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let end = at + line.len();
            let is_mistake = starts.iter().any(|start| (at..end).contains(start));
            if is_mistake && !line.trim_start().starts_with('[') {
                kept.push('\n');
            } else {
                kept.push_str(line);
            }
            at = end;
        }
        if kept == text {
            return None;
        }
        text = Cow::Owned(kept);
    }
    None
}

/// The paths of the drop-ins. The directory must be as safe as the files: whoever can change it can hide a drop-in, for example one that
/// revokes access to an account.
fn drop_ins(dir: &Path, trust: FileTrust) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files: Vec<PathBuf> = trust
        .names(dir)?
        .unwrap_or_default()
        .into_iter()
        // Hidden files belong to editors. Emacs makes a dangling link like `.#10-egi.toml`, which would make every login fail.
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .map(|name| dir.join(name))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    Ok(files)
}

fn parse<T: DeserializeOwned>(sources: &[Source]) -> Result<T, ConfigError> {
    let mut merged = DeTable::new();
    let mut base = 0;
    for source in sources {
        let table = source.table()?;
        // A drop-in need not have the required keys of the main file. Every other mistake is reported here, even in a key that a later
        // file replaces.
        if sources.len() > 1 {
            if let Err(error) = deserialize::<T>(table.clone()) {
                // toml and serde give this mistake no type.
                if !error.message().starts_with("missing field") {
                    return Err(source.mistake(&error, 0));
                }
            }
        }
        merge(&mut merged, shift_table(table, base));
        base += source.length();
    }
    deserialize(merged).map_err(|error| mistake(sources, &error))
}

fn deserialize<T: DeserializeOwned>(table: DeTable<'_>) -> Result<T, toml::de::Error> {
    T::deserialize(Deserializer::from(Spanned::new(0..0, table)))
}

/// Moves all positions in the table by `by`. Positions are counted as if all files were one text, so that a mistake that shows only after
/// the merge is reported with its file and line.
fn shift_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    table.into_iter().map(|(key, value)| (shift(key, by, |key, _| key), shift(value, by, shift_value))).collect()
}

fn shift_value(value: DeValue<'_>, by: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(shift_table(table, by)),
        DeValue::Array(values) => {
            DeValue::Array(values.into_iter().map(|value| shift(value, by, shift_value)).collect())
        }
        single => single,
    }
}

fn shift<T>(spanned: Spanned<T>, by: usize, inner: impl FnOnce(T, usize) -> T) -> Spanned<T> {
    let span = spanned.span();
    Spanned::new(span.start + by..span.end + by, inner(spanned.into_inner(), by))
}

impl Source {
    fn table(&self) -> Result<DeTable<'_>, ConfigError> {
        DeTable::parse(&self.text).map(Spanned::into_inner).map_err(|error| self.mistake(&error, 0))
    }

    /// Number of positions in the file: one more than its bytes, for the position at its end.
    fn length(&self) -> usize {
        self.text.len() + 1
    }

    fn mistake(&self, error: &toml::de::Error, base: usize) -> ConfigError {
        let line = error.span().map(|span| line_of(&self.text, span.start.saturating_sub(base)));
        ConfigError::Invalid { place: place(&self.file, line), problem: problem(error.message()) }
    }
}

/// The error for a mistake in the merged table.
fn mistake(sources: &[Source], error: &toml::de::Error) -> ConfigError {
    let position = error.span().map_or(0, |span| span.start);
    let mut base = 0;
    let mut last = None;
    for source in sources {
        last = Some((source, base));
        if position < base + source.length() {
            break;
        }
        base += source.length();
    }
    let nothing = || ConfigError::Invalid { place: String::new(), problem: problem(error.message()) };
    last.map_or_else(nothing, |(source, base)| source.mistake(error, base))
}

fn place(file: &Path, line: Option<usize>) -> String {
    line.map_or_else(|| file.display().to_string(), |line| format!("{}:{line}", file.display()))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Keys that were renamed: old and new name.
const RENAMED: [(&str, &str); 1] = [("fail_floor", "fail_delay")];

/// Keys that another one has replaced, and what that can be.
const REPLACED: [(&str, &str, &str); 2] = [
    ("access_token", "store", "\"none\", \"access_token\" or \"mytoken\""),
    ("mytoken", "store", "\"none\", \"access_token\" or \"mytoken\""),
];

/// The message for the user. serde's `unknown field` message lists all valid names; this names the nearest.
fn problem(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else { return message.trim().to_owned() };
    let mut names = quoted(rest);
    let wrong = names.next().unwrap_or_default();
    if let Some((_, name)) =
        RENAMED.iter().find(|(old, name)| *old == wrong && quoted(rest).any(|valid| valid == *name))
    {
        return format!("the key \"{wrong}\" is called \"{name}\" now; its meaning is the same");
    }
    if let Some((_, name, values)) =
        REPLACED.iter().find(|(old, name, _)| *old == wrong && quoted(rest).any(|valid| valid == *name))
    {
        return format!("the key \"{wrong}\" was replaced by \"{name}\": {values}");
    }
    let nearest = names.map(|name| (strsim::damerau_levenshtein(wrong, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 1 + wrong.len() / 3 => {
            format!("unknown key \"{wrong}\"; did you mean \"{name}\"?")
        }
        _ => format!("unknown key \"{wrong}\"; valid here: {}", quoted(rest).skip(1).collect::<Vec<_>>().join(", ")),
    }
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn list(text: &str) -> Option<Vec<String>> {
        parse_key(text, &["services"])?.ok()
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        services: Vec<String>,
        #[serde(default)]
        limits: Limits,
        #[serde(default)]
        rule: Vec<Rule>,
    }
    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Limits {
        fail_floor: u32,
        body: u32,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        name: String,
    }

    fn parse_texts(texts: &[&str]) -> Result<Sample, ConfigError> {
        let sources: Vec<Source> = texts
            .iter()
            .enumerate()
            .map(|(number, text)| Source { file: PathBuf::from(format!("{number}.toml")), text: (*text).to_owned() })
            .collect();
        parse(&sources)
    }

    #[test]
    fn the_error_for_a_renamed_key_has_its_new_name() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Login {
            #[serde(rename = "fail_delay")]
            _fail_delay: String,
        }
        let source = Source { file: "/x.toml".into(), text: "\nfail_floor = \"2s\"".to_owned() };
        let error = parse::<Login>(&[source]).unwrap_err().to_string();
        assert_eq!(error, "/x.toml:2: the key \"fail_floor\" is called \"fail_delay\" now; its meaning is the same");
    }

    #[test]
    fn drop_ins_override_keys_and_append_lists_of_tables() {
        let sample = parse_texts(&[
            "services = [\"sshd\"]\n[limits]\nbody = 1\nfail_floor = 2\n[[rule]]\nname = \"a\"",
            "services = [\"sshd\", \"login\"]\n[limits]\nbody = 7",
            "[[rule]]\nname = \"b\"",
        ])
        .unwrap();
        assert_eq!(sample.services, ["sshd", "login"]);
        assert_eq!(sample.limits, Limits { fail_floor: 2, body: 7 });
        assert_eq!(sample.rule.len(), 2);
    }

    #[test]
    fn an_error_names_file_line_and_nearest_key() {
        let error = |texts: &[&str]| parse_texts(texts).unwrap_err().to_string();
        let wrong = error(&["services = []\n[limits]\nfail_flor = 2"]);
        assert!(wrong.contains("0.toml:3") && wrong.contains("did you mean \"fail_floor\"?"), "{wrong}");
        let wrong = error(&["services = []", "[limits]\n\nbudy = 2"]);
        assert!(wrong.contains("1.toml:3") && wrong.contains("\"body\""), "{wrong}");
        let wrong = error(&["services = []", "\nxyzzy = 2"]);
        assert!(wrong.contains("1.toml:2") && wrong.contains("valid here"), "{wrong}");
        let wrong = error(&["services = 5"]);
        assert!(wrong.contains("0.toml:1"), "{wrong}");
    }

    #[test]
    fn a_list_is_read_despite_mistakes_elsewhere() {
        let known = Some(vec!["sshd".to_owned(), "login".to_owned()]);
        let line = "services = ['sshd', \"login\"]";
        for text in [
            line.to_owned(),
            format!("{line}\nruel = 1"),
            format!("deadline = \"20s\n{line}"),
            format!("deadline = = 20\n{line}\n[[rule]"),
            format!("{line}\n{line}"),
            format!("# \u{1}\n{line}\nx"),
            format!("???\n{line}"),
            format!("x\ny\n{line}\nz"),
        ] {
            assert_eq!(list(&text), known, "{text}");
        }
        for text in [
            "",
            "services = \"sshd\"",
            "services = [1]",
            "services = [\"sshd\", 1]",
            "[services]",
            "[x]\nservices = ['a']",
            "[limits\nservices = ['a']",
            "[x y]\nservices = ['a']\nz = 1",
        ] {
            assert_eq!(list(text), None, "{text}");
        }
        // The deepest nesting that fits into a file.
        for brackets in ["[", "{a="] {
            let text = format!("services = {}", brackets.repeat(1024 * 1024 / brackets.len()));
            let _ = list(&text);
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_a_list_from_any_text_never_panics(
            before in "[\\PC\n\t]{0,40}", after in "[]\\[{}=\"'#.,\\\\a-z0-9 \n\t\u{0}-\u{1f}]{0,60}", cut in 0_usize..200,
        ) {
            let text = format!("{before}\nservices = ['sshd', \"su\"]\n{after}");
            let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
            for text in [text.as_str(), &text[cut..], &text[..cut]] {
                let _ = list(text);
            }
        }
    }

    #[test]
    fn the_list_is_read_from_the_last_readable_file() {
        let dir = tempfile::tempdir().unwrap();
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        let services = || read_list_leniently(dir.path(), "login", me, "services").map(|names| names.join(" "));
        assert_eq!(services(), None);
        std::fs::write(dir.path().join("login.toml"), "services = ['a']\n???").unwrap();
        assert_eq!(services().as_deref(), Some("a"));
        std::fs::create_dir(dir.path().join("login.d")).unwrap();
        std::fs::write(dir.path().join("login.d/10.toml"), "services = ['b']").unwrap();
        std::fs::write(dir.path().join("login.d/20.toml"), "[prompt]").unwrap();
        std::fs::write(dir.path().join("login.d/30.toml"), b"\xff").unwrap();
        assert_eq!(services().as_deref(), Some("b"));
    }

    #[test]
    fn one_key_is_read_whatever_else_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        let level = || read_key_leniently::<u32>(dir.path(), "login", me, &["accounts", "min_uid"]);
        assert_eq!(level(), None);
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        for text in ["", "min_uid = 5", "accounts = 5", "[accounts]\nmin = 5"] {
            write("login.toml", text);
            assert_eq!(level(), None, "{text}");
        }
        write("login.toml", "???\nx = \n[accounts]\nmin_uid = 5\n[[rule");
        assert_eq!(level(), Some(Ok(5)));
        std::fs::create_dir(dir.path().join("login.d")).unwrap();
        write("login.d/10.toml", "[accounts]\nmin_uid = 7");
        write("login.d/20.toml", "[accounts]\ndeny = []");
        assert_eq!(level(), Some(Ok(7)), "the last file that has it");
        write("login.d/10.toml", "[accounts]\nmin_uid = 'x'");
        let problem = level().unwrap().unwrap_err();
        assert!(problem.contains("login.d/10.toml: "), "{problem}");
    }

    #[test]
    fn lock_and_backup_files_of_editors_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("login.d")).unwrap();
        std::fs::write(dir.path().join("login.toml"), "services = []").unwrap();
        std::fs::write(dir.path().join("login.d/10-a.toml"), "[limits]\nbody = 7").unwrap();
        for lock in [".#10-a.toml", "10-a.toml~"] {
            std::os::unix::fs::symlink("root@host.4711:1", dir.path().join("login.d").join(lock)).unwrap();
        }
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        assert_eq!(read::<Sample>(dir.path(), "login", me).unwrap().limits.body, 7);
    }

    #[test]
    fn drop_ins_in_a_directory_that_others_can_write_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("login.d")).unwrap();
        std::fs::write(dir.path().join("login.toml"), "services = []").unwrap();
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        assert!(read::<Sample>(dir.path(), "login", me).is_ok(), "an empty directory");
        std::fs::set_permissions(dir.path().join("login.d"), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(read::<Sample>(dir.path(), "login", me), Err(ConfigError::Unsafe { .. })));
    }

    #[test]
    fn a_main_file_without_a_required_key_is_refused_even_with_drop_ins() {
        let wrong = parse_texts(&["[limits]\nbody = 1", "[limits]\nbody = 2"]).unwrap_err().to_string();
        assert!(wrong.contains("services") && wrong.contains("0.toml:1"), "{wrong}");
    }

    #[test]
    fn a_mistake_found_after_the_merge_is_reported_with_its_file() {
        let texts = ["services = []\n[[rule]]\nname = \"a\"\n", "[limits]\nbody = 1", "\n# name = 1\n\n[[rule]]\n"];
        let wrong = parse_texts(&texts).unwrap_err().to_string();
        assert!(wrong.contains("2.toml:4") && wrong.contains("`name`"), "{wrong}");
    }

    #[test]
    fn a_mistake_in_a_replaced_key_is_reported() {
        let wrong =
            parse_texts(&["services = []\n[limits]\nbody = \"x\"", "[limits]\nbody = 2"]).unwrap_err().to_string();
        assert!(wrong.contains("0.toml:3"), "{wrong}");
    }
}
