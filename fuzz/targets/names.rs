// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes names and URLs of servers, issuers, accounts and profiles, durations, and remote addresses.
#![no_main]

#[allow(dead_code)]
#[path = "../../slurm-spank/src/credential_option.rs"]
mod credential_option;

use credential_option::CredentialOption;
use fuzz::split_input;
use libfuzzer_sys::fuzz_target;
use mytoken::config::Duration;
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken_login::{AccountName, Remote, escape_field};
use mytoken_wire::ProfileName;
use mytokend::jobs::settings::JobsSettings;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let Some([text, other]) = split_input(data) else { return };
    for loopback in [false, true] {
        if let Ok(url) = ServerUrl::parse(text, loopback) {
            assert!(url.matches(url.as_str()) && !url.as_str().ends_with('/'));
            assert_eq!(ServerUrl::parse(url.as_str(), loopback).as_ref(), Ok(&url));
        }
        if let Ok(url) = IssuerUrl::parse(text, loopback) {
            assert!(url.matches(url.as_str()), "{url}");
        }
    }
    if let Ok(name) = AccountName::parse(text) {
        assert!(!name.as_str().is_empty() && !name.as_str().contains(['/', ':', '\n', '\0']));
    }
    if let Ok(duration) = text.parse::<Duration>() {
        assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
    }
    if let Ok(CredentialOption::On { profile: Some(profile), .. }) = credential_option::parse(Some(text)) {
        assert!(ProfileName::parse(profile.as_str()).is_some());
    }
    let profile = ProfileName::parse(text);
    let profile_table = json!({"name": text, "server": "s", "scope": "a", "audience": "x"});
    let jobs = json!({"cluster": {"name": "c"}, "profile": [profile_table]});
    let jobs: JobsSettings = serde_json::from_value(jobs).expect("settings");
    assert_eq!(jobs.check(&["s"]).is_ok(), profile.is_some(), "jobs.toml and the plugin differ about {text:?}");
    let remote = Remote::of(Some(text), Some(other));
    assert!(!remote.as_str().is_empty());
    let shown = escape_field(text);
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown:?}");
});
