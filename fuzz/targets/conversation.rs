// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answers at the prompt, whole and in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mytoken::Secret;
use mytoken_login::{Conversation, ConversationEnded, ask};
use mytoken_wire::chunks::{TOTAL_LIMIT, answers, part_asked_for};
use zeroize::Zeroizing;

/// Answers in order, and what was asked.
struct Person(Vec<Vec<u8>>, Vec<String>);

impl Conversation for Person {
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
        self.1.push(prompt.to_owned());
        if self.0.is_empty() { Err(ConversationEnded) } else { Ok(Zeroizing::new(self.0.remove(0))) }
    }

    fn tell(&mut self, _: &str) {}
}

fuzz_target!(|data: &[u8]| {
    let given: Vec<Vec<u8>> = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut person = Person(given, Vec::new());
    if let Ok(whole) = ask(&mut person, "Access Token:", true) {
        assert!(person.1.len() == 1 || whole.len() <= TOTAL_LIMIT);
    }
    // A helper recognises each prompt that the module asks.
    for prompt in &person.1 {
        assert!(part_asked_for(prompt, "Access Token:", str::to_owned).is_some(), "{prompt}");
    }
    // What the helper cuts, the module puts together.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let token = Secret::new(text);
    if let Ok(pieces) = answers(&token) {
        let pieces = pieces.iter().map(|piece| piece.expose().as_bytes().to_vec()).collect();
        let mut person = Person(pieces, Vec::new());
        match ask(&mut person, "Access Token:", true) {
            Ok(whole) => assert_eq!(whole.as_slice(), token.expose().as_bytes()),
            other => panic!("{other:?}"),
        }
    }
});
