// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks an annotated sample of `packaging/samples` against the type that reads it. Each crate with such a type
//! includes this file.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A key that no settings have.
const UNKNOWN: &str = "no_such_key";

/// Fails unless the sample has every key of `Settings`, each with an explanation, and every commented value is the
/// default. `complete` fills in defaults that the type itself does not have.
pub fn check<Settings: DeserializeOwned + Debug>(name: &str, complete: impl Fn(Settings) -> Settings) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/samples").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let faults = faults(&text, complete);
    assert!(faults.is_empty(), "{}:\n{}", path.display(), faults.join("\n"));
}

/// Everything that is wrong in a sample.
pub fn faults<Settings: DeserializeOwned + Debug>(text: &str, complete: impl Fn(Settings) -> Settings) -> Vec<String> {
    let mut faults = unexplained(text);
    let everything = uncommented(text, |_| true);
    let defaults = uncommented(text, |line| !is_example(line));
    // As text, so that settings need no comparison only for this.
    let shown = |text: &str| toml::from_str(text).map(|settings| format!("{:#?}", complete(settings)));
    match (shown(text), shown(&defaults), shown(&everything)) {
        (Ok(written), Ok(defaults), Ok(_)) => {
            let differing = written.lines().zip(defaults.lines()).find(|(written, default)| written != default);
            if written != defaults {
                faults.push(format!("a commented value is not the default (default, comment): {differing:?}"));
            }
            let table = toml::from_str(&everything).unwrap();
            faults.extend(missing_keys::<Settings>(&table));
        }
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => faults.push(error.to_string()),
    }
    faults
}

/// The text with its commented settings switched on, those that `is_wanted`.
fn uncommented(text: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    let switch = |line: &str| {
        let setting = setting(line).filter(|_| is_wanted(line));
        setting.unwrap_or(line).to_owned() + "\n"
    };
    text.lines().map(switch).collect()
}

/// A line's setting, without the comment sign in front. Explanations have a blank behind theirs.
fn setting(line: &str) -> Option<&str> {
    let setting = line.strip_prefix('#').unwrap_or(line);
    setting.starts_with(|first: char| first.is_ascii_lowercase() || first == '[').then_some(setting)
}

/// Whether the value is a possible one of a key that has no default.
fn is_example(line: &str) -> bool {
    line.ends_with(" # example")
}

/// Keys without a comment above them. In a second table of a list, keys that the first explains need none.
fn unexplained(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut explained = BTreeSet::new();
    let mut table = "";
    let mut found = Vec::new();
    for (above, line) in lines.iter().zip(lines.iter().skip(1)) {
        let Some(setting) = setting(line) else { continue };
        if setting.starts_with('[') {
            table = setting.trim_end_matches(" # example");
            continue;
        }
        let key = (table, setting.split(' ').next().unwrap_or_default());
        if above.starts_with("# ") {
            explained.insert(key);
        } else if !explained.contains(&key) {
            found.push(format!("no explanation above: {setting}"));
        }
    }
    found
}

/// Keys of `Settings` that the table lacks, by the names that serde lists when it meets an unknown one.
fn missing_keys<Settings: DeserializeOwned>(whole: &Table) -> Vec<String> {
    let mut missing = Vec::new();
    for path in tables(whole) {
        let mut probe = whole.clone();
        let mut present = BTreeSet::new();
        {
            let mut found = vec![&mut probe];
            for name in &path {
                found = found.into_iter().filter_map(|table| table.get_mut(name)).flat_map(inner_mut).collect();
            }
            present.extend(found.iter().flat_map(|table| table.keys().cloned()));
            found.swap_remove(0).insert(UNKNOWN.to_owned(), Value::Boolean(true));
        }
        let place = path.join(".");
        let message = probe.try_into::<Settings>().err().map(|error| error.message().to_owned()).unwrap_or_default();
        // An empty table of the sample whose keys the administrator chooses.
        if message.is_empty() && present.is_empty() && !path.is_empty() {
            continue;
        }
        let mut names = message.split('`').skip(1).step_by(2);
        if names.next() != Some(UNKNOWN) {
            missing.push(format!("[{place}] must refuse unknown keys: {message}"));
        }
        missing.extend(names.filter(|name| !present.contains(*name)).map(|name| format!("no key {name} in [{place}]")));
    }
    missing
}

/// The paths of all tables: the whole itself, `http`, `rule`.
fn tables(whole: &Table) -> BTreeSet<Vec<String>> {
    let mut paths = BTreeSet::from([Vec::new()]);
    for (name, value) in whole {
        for table in inner(value) {
            paths.extend(tables(table).into_iter().map(|path| [vec![name.clone()], path].concat()));
        }
    }
    paths
}

/// The table that a value is, or the tables of a list.
fn inner(value: &Value) -> Vec<&Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(values) => values.iter().filter_map(Value::as_table).collect(),
        _ => Vec::new(),
    }
}

fn inner_mut(value: &mut Value) -> Vec<&mut Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(values) => values.iter_mut().filter_map(Value::as_table_mut).collect(),
        _ => Vec::new(),
    }
}
