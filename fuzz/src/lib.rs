// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared by the targets: inputs that consist of several texts, the time, keys, and answers without a network.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::config::{FileTrust, IssuerSettings};
use mytoken::http::{AnswerHead, HttpAnswer, HttpClient, HttpSettings, LazyClient, Roots};
use mytoken::private_files::Owner;
use mytoken::{Deadline, Secret};
use mytoken_login::Refusal;
use mytoken_login::budget::{Allowance, BudgetSettings};
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable};
use mytoken_login::validation::{Introspection, PresentedToken, ProviderRequests, Userinfo, Validated, Validation};
use mytoken_wire::clock::FixedClock;
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

/// A file with the secret of a client, as root keeps it.
fn secret_file() -> PathBuf {
    let path = std::env::temp_dir().join(format!("mytoken-fuzz-{}", std::process::id()));
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    if let Ok(mut file) = made {
        file.write_all(b"secret").expect("the directory for temporary files can be written");
    }
    path
}

/// Validates a token with these claims by the answers in `mytoken::http::canned`. No key verifies it. `lines`: of `[[issuer]]`.
pub fn ask_about_token(lines: &str, claims: &str) -> Result<Validated, Refusal> {
    thread_local! {
        static SETTINGS: &'static HttpSettings = Box::leak(Box::new(HttpSettings {
            roots: Roots::File("/etc/ssl/certs/ca-certificates.crt".into()),
            ..HttpSettings::default()
        }));
        static CLIENT: LazyClient<'static> = LazyClient::new(SETTINGS.with(|settings| *settings));
        static SECRET: PathBuf = secret_file();
    }
    let client = SECRET.with(|file| format!("client_id = 'c'\nclient_secret_file = '{}'\n", file.display()));
    let issuers = [issuer_settings(&format!("{client}{lines}"))];
    let [header, claims] = [r#"{"alg":"EdDSA","typ":"JWT"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let token = Secret::new(format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 64])));
    CLIENT.with(|http| {
        let (clock, budget) = (FixedClock(NOW), BudgetSettings::default());
        let allowance = Allowance::uncounted(&budget);
        let requests = ProviderRequests::new(http, None, &clock, &allowance);
        let validation = Validation {
            issuers: &issuers,
            keys: &Keys(KeySet::default()),
            userinfo: &Userinfo(&requests),
            introspection: &Introspection::new(&requests, FileTrust::user(Owner::current().uid)),
            clock: &clock,
        };
        validation.check(PresentedToken { token: &token, entered: true, issuer: None }, short_deadline())
    })
}
