// SPDX-License-Identifier: MIT OR Apache-2.0
//! `packaging/samples/mytoken.toml` has every key with its default. The check that tests this finds incomplete samples.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../tests/sample.rs"]
mod sample;

use std::collections::BTreeMap;

use mytoken::config::Shared;
use serde::Deserialize;

#[test]
fn the_sample_of_mytoken_toml_has_every_key_with_its_default() {
    sample::check("mytoken.toml", |shared: Shared| {
        shared.issuers.iter().for_each(|issuer| issuer.validate().unwrap());
        shared
    });
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    size: u32,
    colour: Option<String>,
    #[serde(rename = "wheel")]
    wheels: Vec<Wheel>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { size: 7, colour: None, wheels: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read by `Debug`")]
struct Wheel {
    name: String,
    #[serde(default)]
    spokes: u32,
    #[serde(default)]
    labels: BTreeMap<String, bool>,
}

const GOOD: &str = r#"# A cart.
# How large it is.
#size = 7
# Its colour.
#colour = "red" # example
# A wheel.
[[wheel]]
# Its name.
name = "left"
#[[wheel]] # example
#name = "right" # example
# How many spokes it has.
#spokes = 0
# Labels by name.
#labels = {}
"#;

#[test]
fn missing_and_wrong_parts_of_a_sample_are_found() {
    for (from, to, expected) in [
        ("", "", ""),
        ("#size = 7", "#size = 8", "is not the default"),
        ("# How large it is.\n#size = 7\n", "", "no key size in []"),
        ("# Its colour.\n#colour = \"red\" # example\n", "", "no key colour in []"),
        ("# How many spokes it has.\n#spokes = 0\n", "", "no key spokes in [wheel]"),
        ("# Labels by name.\n#labels = {}\n", "", "no key labels in [wheel]"),
        ("# Its colour.\n", "", "no explanation above: colour"),
        ("#size", "#sise", "unknown field `sise`"),
        ("\"red\"", "3", "expected a string"),
        (" # example\n# A wheel", "\n# A wheel", "is not the default"),
    ] {
        let faults = sample::faults(&GOOD.replace(from, to), |settings: Settings| settings);
        let found = faults.len() == 1 && faults.iter().all(|fault| fault.contains(expected));
        assert!(if expected.is_empty() { faults.is_empty() } else { found }, "{expected}: {faults:?}");
    }
}

#[derive(Debug, Deserialize)]
struct Lax {}

#[test]
fn settings_that_accept_any_key_are_found() {
    let faults = sample::faults("", |lax: Lax| lax);
    assert!(faults.iter().any(|fault| fault.contains("must refuse unknown keys")), "{faults:?}");
}
