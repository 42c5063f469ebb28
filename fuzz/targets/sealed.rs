// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes sealed job credentials and keys. Users can write both.
#![no_main]

use std::sync::OnceLock;

use fuzz::{read_number, split_input};
use libfuzzer_sys::fuzz_target;
use mytoken::Secret;
use mytokend::jobs::StartWindow;
use mytokend::jobs::keys::{PrivateKey, PublicKey, generate};
use mytokend::jobs::sealed::{JobCredential, key_id, open, seal};

fuzz_target!(|data: &[u8]| {
    static KEYS: OnceLock<(PublicKey, PrivateKey)> = OnceLock::new();
    let (public, private) = KEYS.get_or_init(generate);
    let Some([text, one, other]) = split_input(data) else { return };
    let _ = key_id(text);
    assert!(open(text, private).is_err(), "a text that was not sealed must not open");
    assert!(open(&format!("mt1.{}.{text}", public.id()), private).is_err(), "a text that was not sealed must not open");
    let _ = (PublicKey::parse(text), PrivateKey::parse(text));
    let window = StartWindow { from: read_number(one), until: read_number(other) };
    let credential = JobCredential {
        server: one.to_owned(),
        sub_token: Secret::new(other),
        uid: u32::try_from(read_number(one) % 70_000).unwrap_or_default(),
        cluster: other.to_owned(),
        id: "0".repeat(32),
        exp: read_number(other),
        profile: one.to_owned(),
        scope: one.to_owned(),
        audience: other.to_owned(),
        required: true,
        made: read_number(one),
        shared_for: read_number(other),
        followed: false,
        files: Vec::new(),
        start_windows: Some(window).filter(|window| window.from < window.until).into_iter().collect(),
    };
    if let Ok(sealed) = seal(&credential, public) {
        assert_eq!(open(&sealed, private).as_ref(), Ok(&credential), "what a submission seals, a node opens");
        let changed = sealed.replace('A', "B");
        assert!(changed == sealed || open(&changed, private).is_err());
    }
});
