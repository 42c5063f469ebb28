// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a host says about the tokens that it takes: the answer of its motley_cue to `/info`. A host can say anything, so a person decides.

use std::collections::BTreeMap;
use std::time::Duration;

use mytoken::Deadline;
use mytoken::http::{HttpClient, HttpError};
use mytoken::urls::IssuerUrl;
use serde::Deserialize;

use crate::error::Error;
use crate::printable::printable;

/// Time limit for one address.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer in bytes.
const LIMIT: usize = 256 * 1024;

/// Longest scope or audience in bytes.
const LONGEST: usize = 400;

/// What a host asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// The address that answered.
    pub url: String,
    /// The provider whose tokens this is about.
    pub issuer: String,
    /// Scopes, separated by blanks. Empty: it names none.
    pub scope: String,
    /// Audiences. Empty: it names none.
    pub audience: Vec<String>,
}

/// The answer of motley_cue. It has more members.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(rename = "supported_OPs")]
    providers: Vec<String>,
    #[serde(default)]
    ops_info: BTreeMap<String, OfProvider>,
}

#[derive(Debug, Default, Deserialize)]
struct OfProvider {
    scopes: Option<Vec<String>>,
    audience: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Where a host's motley_cue usually is.
pub(super) fn usual_addresses(hostname: &str) -> [String; 2] {
    let host = if hostname.contains(':') { format!("[{hostname}]") } else { hostname.to_owned() };
    [format!("https://{host}"), format!("https://{host}:8443")]
}

/// Asks the addresses in their order, each by each client, until one answers. `issuer`: the provider of the user's mytoken.
///
/// # Errors
/// None answers, or the answer names no such provider, or nothing that can be used.
pub(super) fn ask(clients: &[HttpClient], addresses: &[String], issuer: Option<&IssuerUrl>) -> Result<Offer, Error> {
    let mut failures = Vec::new();
    for (url, http) in addresses.iter().flat_map(|url| clients.iter().map(move |http| (url, http))) {
        match info(http, url) {
            Ok(info) => return choose(url, info, issuer),
            Err(reason) if failures.contains(&reason) => {}
            Err(reason) => failures.push(reason),
        }
    }
    Err(Error::Usage(format!(
        "nobody there says which token the host takes ({}); ask its administrators, and name it: --audience URL --scope SCOPES",
        failures.join("; ")
    )))
}

fn info(http: &HttpClient, url: &str) -> Result<Info, String> {
    let address = format!("{}/info", url.trim_end_matches('/'));
    let answer = http
        .get(&address, None, Deadline::after(TIMEOUT), LIMIT)
        .map_err(|error: HttpError| printable(&error.to_string()))?;
    if answer.status != 200 {
        return Err(format!("{address} answers with status {}", answer.status));
    }
    answer.json().map_err(|error| format!("{address}: {error}"))
}

fn choose(url: &str, info: Info, issuer: Option<&IssuerUrl>) -> Result<Offer, Error> {
    let shown = || some_of(&info.providers);
    let issuer = match (issuer, info.providers.as_slice()) {
        (Some(own), providers) => providers.iter().find(|url| own.matches(url)).ok_or_else(|| {
            Error::Usage(format!("the host takes tokens of {}, and your mytoken is of {own}; see --issuer", shown()))
        })?,
        (None, [only]) => only,
        (None, []) => return Err(Error::Usage(format!("{url} names no provider whose tokens the host takes"))),
        (None, _) => {
            return Err(Error::Usage(format!("the host takes tokens of {}: choose with --issuer", shown())));
        }
    }
    .clone();
    // motley_cue repeats the name, other programs may write it without its slash.
    let same = |other: &str| other.trim_end_matches('/') == issuer.trim_end_matches('/');
    let Some((_, of_provider)) = info.ops_info.into_iter().find(|(name, _)| same(name)) else {
        return Err(Error::Usage(format!(
            "{} says nothing about the tokens of {}",
            printable(url),
            printable(&issuer)
        )));
    };
    let audience = match of_provider.audience {
        None => Vec::new(),
        Some(OneOrMany::One(audience)) => vec![audience],
        Some(OneOrMany::Many(audiences)) => audiences,
    };
    let audience: Vec<String> = audience.into_iter().filter(|audience| !audience.is_empty()).collect();
    let scopes = of_provider.scopes.unwrap_or_default();
    let mut wrong = scopes.iter().chain(&audience).filter(|word| !is_word(word));
    if let Some(wrong) = wrong.next() {
        return Err(Error::Usage(format!("{url} names \"{}\", which is no scope or audience", printable(wrong))));
    }
    let scope = scopes.join(" ");
    if scope.len() > LONGEST {
        return Err(Error::Usage(format!("{url} names scopes of more than {LONGEST} bytes")));
    }
    Ok(Offer { url: url.to_owned(), issuer: printable(&issuer), scope, audience })
}

/// The first five, in one line.
pub(super) fn some_of(texts: &[String]) -> String {
    const SHOWN: usize = 5;
    let first: Vec<String> = texts.iter().take(SHOWN).map(|text| printable(text)).collect();
    match texts.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Whether it can be a scope (RFC 6749 3.3), or an audience of such letters.
pub(super) fn is_word(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use mytoken::urls::IssuerUrl;

    use super::*;

    const TWO: &str = r#"{"login_info": {"ssh_host": "x"}, "supported_OPs": ["https://op.example.org/", "https://b.example.org"],
        "ops_info": {"https://op.example.org/": {"scopes": ["openid", "profile"], "audience": "https://cluster"},
                     "https://b.example.org": {"scopes": null, "audience": ["x", "y"]}}}"#;

    fn chosen(text: &str, issuer: Option<&str>) -> Result<Offer, String> {
        let issuer = issuer.map(|url| IssuerUrl::parse(url, false).unwrap());
        choose("https://h", serde_json::from_str(text).unwrap(), issuer.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_part_of_the_users_provider_counts() {
        let offer = chosen(TWO, Some("https://op.example.org")).unwrap();
        assert_eq!((offer.scope.as_str(), offer.audience), ("openid profile", vec!["https://cluster".to_owned()]));
        let offer = chosen(TWO, Some("https://b.example.org")).unwrap();
        assert_eq!((offer.scope.as_str(), offer.audience.len()), ("", 2));
        let other = chosen(TWO, Some("https://other.example.org")).unwrap_err();
        assert!(other.contains("tokens of https://op.example.org/, https://b.example.org, and your"), "{other}");
        assert!(chosen(TWO, None).unwrap_err().ends_with("choose with --issuer"));
    }

    #[test]
    fn what_an_answer_leaves_out_is_empty_and_what_is_wrong_is_refused() {
        let of = |part: &str| {
            chosen(&format!(r#"{{"supported_OPs": ["https://a"], "ops_info": {{"https://a": {part}}}}}"#), None)
        };
        let empty =
            Offer { url: "https://h".into(), issuer: "https://a".into(), scope: String::new(), audience: vec![] };
        for part in ["{}", r#"{"audience": ""}"#, r#"{"audience": [], "scopes": [], "more": 1}"#] {
            assert_eq!(of(part).as_ref(), Ok(&empty), "{part}");
        }
        let slash = r#"{"supported_OPs": ["https://a/"], "ops_info": {"https://a": {"scopes": ["x"]}}}"#;
        assert_eq!(chosen(slash, None).unwrap().scope, "x");
        for silent in [
            r#"{"supported_OPs": ["https://a"]}"#,
            r#"{"supported_OPs": ["https://a"], "ops_info": {"https://b": {}}}"#,
        ] {
            assert!(chosen(silent, None).unwrap_err().ends_with("says nothing about the tokens of https://a"));
        }
        assert!(chosen(r#"{"supported_OPs": []}"#, None).unwrap_err().contains("no provider"));
        for part in [r#"{"audience": "two words"}"#, r#"{"scopes": ["\u001b[2J"]}"#, r#"{"audience": ["ä"]}"#] {
            let refused = of(part).unwrap_err();
            assert!(refused.contains("no scope or audience") && !refused.contains('\u{1b}'), "{refused}");
        }
        let long = "x".repeat(LONGEST);
        assert!(of(&format!(r#"{{"scopes": ["{long}", "y"]}}"#)).unwrap_err().contains("more than 400 bytes"));
    }

    #[test]
    fn the_addresses_have_the_hosts_name() {
        assert_eq!(usual_addresses("a.example"), ["https://a.example", "https://a.example:8443"]);
        assert_eq!(usual_addresses("2001:db8::1")[0], "https://[2001:db8::1]");
    }
}
