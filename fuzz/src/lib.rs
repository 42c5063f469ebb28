// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared by the targets: inputs that consist of several texts, the time, keys, and answers without a network.

use std::time::Duration;

use mytoken::Deadline;
use mytoken::config::IssuerSettings;
use mytoken::http::{AnswerHead, HttpAnswer, HttpClient, HttpSettings, Roots};
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable};
use zeroize::Zeroizing;

/// The time of all targets, Unix seconds.
pub const NOW: u64 = 1_800_000_000;

/// The mytoken server of all targets.
pub const SERVER: &str = "https://mt.example.org";

/// The provider of all targets.
pub const ISSUER: &str = "https://op.example.org";

/// The first `COUNT` texts of an input, separated by lines of `---`, which mean nothing to the parsers. Missing texts are empty. `None`: the
/// input is not UTF-8.
pub fn split_input<const COUNT: usize>(data: &[u8]) -> Option<[&str; COUNT]> {
    let mut parts = std::str::from_utf8(data).ok()?.split("\n---\n");
    Some(std::array::from_fn(|_| parts.next().unwrap_or_default()))
}

/// A deadline that is long enough for work in memory, and shorter than every pause before a second request.
pub fn short_deadline() -> Deadline {
    Deadline::after(Duration::from_millis(100))
}

/// Calls `work` with a client whose requests get the answers in `mytoken::http::canned`.
pub fn with_client<T>(work: impl FnOnce(&HttpClient) -> T) -> T {
    thread_local! {
        static CLIENT: HttpClient = {
            let settings = HttpSettings { roots: Roots::File("/etc/ssl/certs/ca-certificates.crt".into()), ..HttpSettings::default() };
            HttpClient::new(&settings).expect("cannot make a client; is ca-certificates installed?")
        };
    }
    CLIENT.with(work)
}

/// An answer with this status and body. Its content type is JSON, or HTML (as of a proxy) if the body begins with `<`.
pub fn make_answer(status: u16, body: &str) -> HttpAnswer {
    let html = body.starts_with('<');
    HttpAnswer {
        status,
        content_type: Some(if html { "text/html" } else { "application/json" }.to_owned()),
        retry_after: Some(Duration::from_secs(7)),
        head: AnswerHead::default(),
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

/// The number that the first 20 digits of a text form.
pub fn read_number(text: &str) -> u64 {
    let digits: String = text.chars().filter(char::is_ascii_digit).take(20).collect();
    digits.parse().unwrap_or_default()
}

/// `[[issuer]]` of the provider, with additional lines.
pub fn issuer_settings(lines: &str) -> IssuerSettings {
    let text = format!(
        "name = 'op'\nurl = '{ISSUER}'\naudiences = ['https://testbed']\nalgorithms = ['RS256', 'ES256', 'ES384', 'PS256', 'EdDSA']\n{lines}"
    );
    toml::from_str(&text).expect("settings")
}

/// A source that always gives these keys.
pub struct Keys(pub KeySet);

impl KeySource for Keys {
    fn keys(&self, _: &IssuerSettings, _: KeyFreshness, _: Deadline) -> Result<KeySet, KeysUnavailable> {
        Ok(self.0.clone())
    }
}
