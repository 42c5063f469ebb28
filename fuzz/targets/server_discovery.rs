// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the mytoken server's discovery document.
#![no_main]

use fuzz::{SERVER, make_answer, short_deadline, with_client};
use libfuzzer_sys::fuzz_target;
use mytoken::http::canned;
use mytoken::server::{Discovery, Server};
use mytoken::urls::ServerUrl;

fuzz_target!(|document: &str| {
    canned::answer_with([make_answer(200, document)]);
    let url = ServerUrl::parse(SERVER, false).expect("a url");
    with_client(|http| {
        if let Ok(server) = Server::discover_once(http, &url, short_deadline()) {
            let found = server.discovery();
            assert!(found.access_token_endpoint.trim_start().to_ascii_lowercase().starts_with("https:"), "{found:?}");
            let written = serde_json::to_string(found).expect("JSON");
            assert_eq!(&serde_json::from_str::<Discovery>(&written).expect("its JSON is readable"), found);
        }
    });
});
