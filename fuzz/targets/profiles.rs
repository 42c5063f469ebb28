// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the profiles of jobs: what the configuration may say, a submission can seal and a node opens.
#![no_main]

use std::sync::OnceLock;

use fuzz::NOW;
use libfuzzer_sys::fuzz_target;
use mytoken::restrictions::hosts::{HostEntry, read};
use mytokend::jobs::StartWindow;
use mytokend::jobs::keys::{PrivateKey, PublicKey, generate};
use mytokend::jobs::request::wanted;
use mytokend::jobs::sealed::{JobCredential, open, seal};
use mytokend::jobs::settings::JobsSettings;
use serde_json::json;

fuzz_target!(|text: &str| {
    static KEYS: OnceLock<(PublicKey, PrivateKey)> = OnceLock::new();
    let (public, private) = KEYS.get_or_init(generate);
    let Ok(jobs) = toml::from_str::<JobsSettings>(text) else { return };
    if jobs.check(&["s"]).is_err() {
        return;
    }
    for profile in &jobs.profile {
        assert!(profile.hosts.iter().all(|host| matches!(read(host), HostEntry::Network(_))), "{:?}", profile.hosts);
        let clauses = wanted(profile, &jobs.cluster, NOW);
        assert!(!clauses.is_empty() && clauses.iter().all(|clause| clause.exp.is_some_and(|exp| exp >= NOW)));
        // The sub-token is a JWT: claims of a kilobyte at most, these restrictions, a signature.
        let length = 1024 + serde_json::to_string(&clauses).expect("clauses").len();
        let sub_token = format!("a.{}.c", "b".repeat(length * 4 / 3));
        // By its stored form, so that a new field needs no change here.
        let credential: JobCredential = serde_json::from_value(json!({
            "server": "https://mt.example.org", "sub_token": sub_token, "uid": 2001, "cluster": jobs.cluster.name, "id": "0".repeat(32),
            "exp": NOW, "profile": profile.name, "scope": profile.scope, "audience": profile.audience,
            "start_windows": profile.start_windows.iter().map(StartWindow::from).collect::<Vec<_>>(),
        }))
        .expect("a credential");
        let sealed = seal(&credential, public).expect("what was checked can be sealed");
        assert_eq!(open(&sealed, private).as_ref(), Ok(&credential));
    }
});
