// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the answers at the prompt, whole and in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mytoken::Secret;
use mytoken_login::{Conversation, ConversationEnded, ask};
use mytoken_wire::chunks::{TOTAL_LIMIT, answers, part_asked_for};
use zeroize::Zeroizing;

/// A user who gives these answers in order, and the prompts so far.
struct FakeUser {
    answers: Vec<Vec<u8>>,
    prompts: Vec<String>,
}

impl Conversation for FakeUser {
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
        self.prompts.push(prompt.to_owned());
        if self.answers.is_empty() { Err(ConversationEnded) } else { Ok(Zeroizing::new(self.answers.remove(0))) }
    }

    fn show(&mut self, _: &str) {}
}

fuzz_target!(|data: &[u8]| {
    let answers_in_input: Vec<Vec<u8>> = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut user = FakeUser { answers: answers_in_input, prompts: Vec::new() };
    if let Ok(whole) = ask(&mut user, "Access Token:", true) {
        assert!(user.prompts.len() == 1 || whole.len() <= TOTAL_LIMIT);
    }
    // The ssh helper recognises each prompt of the module.
    for prompt in &user.prompts {
        assert!(part_asked_for(prompt, "Access Token:", str::to_owned).is_some(), "{prompt}");
    }
    // The module joins the pieces that the helper sends.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let token = Secret::new(text);
    if let Ok(pieces) = answers(&token) {
        let pieces = pieces.iter().map(|piece| piece.expose().as_bytes().to_vec()).collect();
        let mut user = FakeUser { answers: pieces, prompts: Vec::new() };
        match ask(&mut user, "Access Token:", true) {
            Ok(whole) => assert_eq!(whole.as_slice(), token.expose().as_bytes()),
            other => panic!("{other:?}"),
        }
    }
});
