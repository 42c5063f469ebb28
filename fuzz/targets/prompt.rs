// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes how the ssh helper recognises a prompt that it may answer.
#![no_main]

#[allow(dead_code)]
#[path = "../../ssh-helper/src/askpass/prompt.rs"]
mod recognition;

use fuzz::split_input;
use libfuzzer_sys::fuzz_target;
use mytoken_wire::chunks::{Part, prompt_for};
use recognition::{RemoteAccount, recognise};

fuzz_target!(|data: &[u8]| {
    let Some([shown, text, user, host]) = split_input(data) else { return };
    let account = RemoteAccount { user: user.to_owned(), host: host.to_owned() };
    let accounts = [RemoteAccount { user: "alice".to_owned(), host: "login.example.org".to_owned() }, account];
    let prompts = [text.to_owned(), "Access Token:".to_owned()];
    if let Some(found) = recognise(shown, &accounts, &prompts) {
        assert!(found.account < accounts.len());
        assert!(shown.starts_with('('), "the prefix counts only at the start of the prompt: {shown:?}");
        if let Part::Next { index, count } = found.part {
            assert!(index >= 2 && index <= count, "{index}/{count}");
        }
    }
    // If the PAM module's prompt is `text`, both the first and the second prompt are recognised.
    let plain = |text: &str| !text.trim().is_empty() && text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if plain(text) {
        let first = format!("(alice@login.example.org) {text}");
        let next = format!("(alice@login.example.org) {}", prompt_for(text, 2, 3));
        let found = |shown: &str| recognise(shown, &accounts[..1], &prompts[..1]).map(|found| found.part);
        let is_next = matches!(found(&first), Some(Part::Next { .. }));
        assert!(is_next || found(&first) == Some(Part::First), "{first:?}");
        assert_eq!(found(&next), Some(Part::Next { index: 2, count: 3 }), "{next:?}");
    }
});
