// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scripts of a directory, and the texts that their answers name.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use regex_lite::Regex;
use serde_json::{Value, json};

use crate::script::{Case, File, Token};
use crate::support::{self, Algorithm, MYTOKEN_HEADER, NOW, access_token, claims, sign};

pub const SERVER: &str = "https://mt.example.org";

/// The only transfer code that the mytoken server of the scripts knows. It works once.
pub const TRANSFER_CODE: &str = "AbCdEfGh";

/// `/etc/mytoken/users.map` of the scripts.
pub const MAP: &str = "op s-1 backup\nop s-1 root\n";

/// The accounts of the scripts: name and user id, which is also the group id. The look-up of `broken` fails.
pub const ACCOUNTS: [(&str, u32); 5] = [("alice", 2_001), ("bob", 2_002), ("root", 0), ("daemon", 1), ("backup", 34)];

/// A mytoken of the server of the scripts with these changes to its claims.
pub fn mytoken(changes: &toml::Table) -> String {
    mytoken_with(MYTOKEN_HEADER, changes)
}

fn mytoken_with(header: &str, changes: &toml::Table) -> String {
    support::mytoken(header, SERVER, &serde_json::to_value(changes).unwrap())
}

impl Token {
    fn text(&self) -> String {
        if self.mytoken {
            let header = self.header.as_deref().unwrap_or(MYTOKEN_HEADER);
            let mut claims = self.claims.clone();
            if self.pad > 0 {
                claims.insert("name".into(), "x".repeat(self.pad).into());
            }
            return mytoken_with(header, &claims);
        }
        let mut changes = serde_json::to_value(&self.claims).unwrap();
        for name in &self.without {
            changes[name] = Value::Null;
        }
        // `{now+60}` and `{now-60}` are times.
        for value in changes.as_object_mut().unwrap().values_mut() {
            let offset =
                value.as_str().and_then(|text| text.strip_prefix("{now")?.strip_suffix('}')?.parse::<i64>().ok());
            if let Some(offset) = offset {
                *value = json!(NOW as i64 + offset);
            }
        }
        let Some(header) = &self.header else { return access_token(&changes) };
        let algorithm = match self.key.as_str() {
            "rsa" | "weak" => Algorithm::RS256,
            "ec" => Algorithm::ES256,
            "ed" => Algorithm::EdDSA,
            _ => Algorithm::HS256,
        };
        sign(header, &claims(&changes), &self.key, algorithm)
    }
}

/// All texts that the answers of a case can name.
pub fn texts(case: &Case) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> =
        case.tokens.iter().map(|(name, token)| (name.clone(), token.text())).collect();
    texts.insert("access_token".into(), access_token(&json!({})));
    texts.insert("transfer_code".into(), TRANSFER_CODE.into());
    texts.insert("short_token".into(), "aBcDeFgH".repeat(8));
    texts.insert("one_time_password".into(), "0123456789abcdef".repeat(8));
    texts.insert("opaque".into(), "opaque-access-token-0123456789".into());
    texts.insert("mytoken".into(), mytoken(&toml::Table::new()));
    // What sshd passes on for accounts that must not log in: text of the answer's length, never the answer (SSH-04).
    texts.insert("junk".into(), format!("\u{8}\n\r\u{7f}INCORRECT{}", "\u{8}\n\r\u{7f}INCORRECT".repeat(50)));
    texts.insert("long".into(), "x".repeat(70 * 1024));
    texts
}

/// The pieces of `texts` that must be shown nowhere and logged nowhere.
pub fn secret_parts(texts: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    texts.iter().flat_map(|(name, text)| {
        let parts = text.split(['.', '\r', '\n']).filter(|part| part.len() >= 8);
        parts.map(move |part| (name.as_str(), part))
    })
}

/// `${name}` is a token, `${name:N}` its first N bytes, `${name:N:}` the rest, `${name:N:M}` the first M bytes of the rest.
pub fn fill(texts: &BTreeMap<String, String>, answer: &str) -> String {
    let marks = Regex::new(r"\$\{([a-z_0-9]+)(?::(\d+)(?:(:)(\d*))?)?\}").unwrap();
    marks
        .replace_all(answer, |found: &regex_lite::Captures<'_>| {
            let text = texts.get(&found[1]).unwrap_or_else(|| panic!("no token {}", &found[1]));
            let number = |group| found.get(group).and_then(|found| found.as_str().parse::<usize>().ok());
            let at = number(2).unwrap_or(text.len()).min(text.len());
            match found.get(3) {
                None => text[..at].to_owned(),
                Some(_) => text[at..].chars().take(number(4).unwrap_or(usize::MAX)).collect(),
            }
        })
        .into_owned()
}

/// All cases of the directory.
pub fn cases(directory: &Path) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut all = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let text = std::fs::read_to_string(path).unwrap();
        all.extend(match toml::from_str::<File>(&text) {
            Ok(file) => file.case,
            Err(_) => vec![toml::from_str::<Case>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))],
        });
    }
    assert!(all.len() >= 50, "only {} scripts were found", all.len());
    all
}
