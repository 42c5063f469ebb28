// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys and tables of the configuration that the guides name exist.

use std::collections::BTreeSet;
use std::fs;

use super::markdown::Page;
use super::{documents, root};

/// Names of the same form that are not keys: claims and capabilities of tokens, arguments and modules of PAM, values of keys, and names
/// of Slurm and `SELinux`.
const OTHERS: &[&str] = &[
    "at_hash",
    "authorized_keys",
    "budget_address",
    "create_mytoken",
    "eduperson_assurance",
    "eduperson_entitlement",
    "email_verified",
    "http_port_t",
    "http_proxy",
    "https_proxy",
    "mt_u",
    "mytoken_runtime_t",
    "mytoken_var_lib_t",
    "nis_enabled",
    "no_certificate",
    "not_decided",
    "not_enrolled",
    "offline_access",
    "other_address",
    "other_node",
    "pam_env",
    "pam_mytoken",
    "pam_systemd",
    "preferred_username",
    "response_types_supported",
    "restriction_claims_supported",
    "root_squash",
    "to_revoke",
    "transfer_code",
    "unconfined_service_t",
    "used_by_account",
    "used_on_host",
    "user_readenv",
    "voperson_id",
];

/// The tables (`[name]`, `[[name]]`) and keys of a sample, also of keys that are commented out.
fn names(sample: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in sample.lines() {
        let line = line.trim_start_matches("#").trim_start();
        if line.starts_with('[') {
            names.insert(line.split(" #").next().unwrap_or_default().trim().to_owned());
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_name(key)) {
            names.insert(key.to_owned());
        }
    }
    names
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The spans of a page that name a table or, with an underscore, a key: alone, with its value, or behind its table.
fn named(page: &Page) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for span in &page.spans {
        let (table, key) = match span.split_once("] ") {
            Some((table, key)) if table.starts_with('[') => (Some(format!("{table}]")), key),
            _ if span.starts_with('[') && span.ends_with(']') && is_name(span.trim_matches(['[', ']'])) => {
                (Some(span.clone()), "")
            }
            _ => (None, span.as_str()),
        };
        found.extend(table);
        let key = key.split(" = ").next().unwrap_or_default();
        found.extend((is_name(key) && key.contains('_')).then(|| key.to_owned()));
    }
    found
}

#[test]
fn keys_and_tables_that_guides_name_are_in_the_samples() {
    let samples = root().join("packaging/samples");
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(samples).unwrap() {
        known.extend(names(&fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    assert!(known.len() > 40, "{known:?}");
    let (mut seen, mut others, mut missing) = (0, BTreeSet::new(), Vec::new());
    for (place, text) in documents() {
        // The words behind `reason=` have a test of their own.
        let is_guide = ["docs/admin", "docs/providers", "docs/user"].iter().any(|folder| place.starts_with(folder));
        if !is_guide || place.ends_with("logs.md") {
            continue;
        }
        // The test of the metrics knows their names, and `make bench` prints those of its figures.
        let is_key = |name: &String| !name.starts_with("mytoken_broker_") && !name.ends_with("_nodes");
        for name in named(&Page::parse(&text)).into_iter().filter(is_key) {
            if OTHERS.contains(&name.as_str()) {
                others.insert(name);
            } else {
                seen += 1;
                if !known.contains(&name) {
                    missing.push((place.clone(), name));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no sample has {missing:?}");
    assert!(seen > 20, "only {seen} names were found");
    let unused: Vec<_> = OTHERS.iter().filter(|name| !others.contains(**name)).collect();
    assert!(unused.is_empty(), "no page names {unused:?}");
}

#[test]
fn names_are_recognised() {
    let sample = "# A: x.\n[http]   # y\nproxy = \"\"\n#ca_file = \"z\"   # w\n[[rule]]\n";
    assert_eq!(names(sample).into_iter().collect::<Vec<_>>(), ["[[rule]]", "[http]", "ca_file", "proxy"]);
    let page =
        Page::parse("`ca_file` `[http]` `[exchange] audience = \"\"` `a b_c` `proxy` `max_age = \"0s\"` `[JOB]` `A_B`");
    assert_eq!(named(&page).into_iter().collect::<Vec<_>>(), ["[exchange]", "[http]", "ca_file", "max_age"]);
}

/// The lines of a file that are neither empty nor comments, with single blanks.
fn lines(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn packaging(file: &str) -> String {
    fs::read_to_string(root().join("packaging").join(file)).unwrap()
}

#[test]
fn settings_of_sshd_on_the_page_are_those_of_the_drop_in() {
    let page = fs::read_to_string(root().join("docs/admin/ssh.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned);
    // The names of keys of login.toml have no value there.
    let rows = rows.filter(|row| row.contains(' '));
    assert_eq!(rows.collect::<Vec<_>>(), lines(&packaging("sshd.conf")));
}

#[test]
fn the_pam_stack_in_the_manual_is_that_of_the_example() {
    let page = packaging("man/pam_mytoken.8");
    let stack = page.split_once(".Sh EXAMPLES").unwrap().1.split_once(".Bd -literal").unwrap().1;
    let stack = stack.split_once('\n').unwrap().1.split_once(".Ed").unwrap().0.replace("\\e\n", "");
    let stack = lines(&stack);
    assert_eq!(stack.len(), 4, "{stack:?}");
    for example in ["pam-sshd.example", "rpm/pam-sshd.example"] {
        let known = lines(&packaging(example));
        for line in &stack {
            assert!(known.contains(line), "{example} has no line: {line}");
        }
    }
}
