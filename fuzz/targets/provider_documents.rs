// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes a provider's discovery document and the keys that it names.
#![no_main]

use fuzz::{NOW, issuer_settings, make_answer, read_number, short_deadline, split_input};
use libfuzzer_sys::fuzz_target;
use mytoken::http::{HttpSettings, LazyClient, Roots, canned};
use mytoken_login::oidc::{KeyFreshness, KeySource, ProviderKeys};
use mytoken_wire::clock::FixedClock;

thread_local! {
    static SETTINGS: &'static HttpSettings = Box::leak(Box::new(HttpSettings {
        roots: Roots::File("/etc/ssl/certs/ca-certificates.crt".into()),
        ..HttpSettings::default()
    }));
    static CLIENT: LazyClient<'static> = LazyClient::new(SETTINGS.with(|settings| *settings));
}

fuzz_target!(|data: &[u8]| {
    let Some([statuses, discovery, keys]) = split_input(data) else { return };
    // The last three digits are the status of the discovery document. The three before them are the status of the keys.
    let status = |divisor| u16::try_from(read_number(statuses) / divisor % 1_000).unwrap_or_default();
    canned::answer_with([make_answer(status(1), discovery), make_answer(status(1_000), keys)]);
    let settings = issuer_settings("");
    let result = CLIENT.with(|client| {
        ProviderKeys::new(client, None, &FixedClock(NOW)).keys(&settings, KeyFreshness::Configured, short_deadline())
    });
    match result {
        Ok(keys) => assert!(!keys.is_empty()),
        Err(error) => assert!(!error.reason.is_empty()),
    }
});
