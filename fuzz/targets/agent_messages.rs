// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the requests to the agent and its answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mytoken_wire::agent::{Answer, Envelope, Request, is_answer};

fuzz_target!(|line: &[u8]| {
    assert!(mytoken_wire::is_read_alike(line), "the plugin and the agent must read the same");
    if let Ok(request) = serde_json::from_slice::<Envelope<Request>>(line) {
        let written = serde_json::to_vec(&request).expect("JSON");
        let read = serde_json::from_slice::<Envelope<Request>>(&written).expect("its own form");
        assert_eq!(serde_json::to_vec(&read).expect("JSON"), written);
    }
    let _ = is_answer(line);
    if let Ok(answer) = serde_json::from_slice::<Envelope<Answer>>(line) {
        let written = serde_json::to_vec(&answer).expect("JSON");
        assert!(is_answer(&written), "an answer that was written must be readable");
    }
});
