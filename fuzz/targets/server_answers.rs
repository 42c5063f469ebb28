// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the answers of the mytoken server to all requests of the client.
#![no_main]

use std::ops::ControlFlow;
use std::sync::OnceLock;

use fuzz::{ISSUER, NOW, SERVER, make_answer, read_number, short_deadline, split_input, with_client};
use libfuzzer_sys::fuzz_target;
use mytoken::Secret;
use mytoken::capabilities::Capabilities;
use mytoken::http::canned;
use mytoken::restrictions::Clause;
use mytoken::server::{AccessTokenRequest, Deliver, Discovery, LoginRequest, Server, SubTokenRequest};
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken_wire::clock::FixedClock;

fn discovery() -> Discovery {
    static DISCOVERY: OnceLock<Discovery> = OnceLock::new();
    DISCOVERY
        .get_or_init(|| {
            let text = format!(
                r#"{{"issuer":"{SERVER}","access_token_endpoint":"{SERVER}/a","mytoken_endpoint":"{SERVER}/m","tokeninfo_endpoint":"{SERVER}/i",
                "revocation_endpoint":"{SERVER}/r","token_transfer_endpoint":"{SERVER}/t","providers_supported":[{{"issuer":"{ISSUER}"}}],
                "restriction_claims_supported":["nbf","exp","scope","audience","hosts","usages_AT","usages_other"]}}"#
            );
            serde_json::from_str(&text).expect("a document")
        })
        .clone()
}

fuzz_target!(|data: &[u8]| {
    let Some([choice, first, second]) = split_input(data) else { return };
    let choice = read_number(choice);
    let status = |text: &str| match u16::try_from(choice / 10 % 1_000).unwrap_or_default() {
        // A success more often than other statuses, because its body has the most fields.
        0..200 => make_answer(200, text),
        status => make_answer(status, text),
    };
    canned::answer_with([status(first), make_answer(200, second)]);
    let url = ServerUrl::parse(SERVER, false).expect("a url");
    let token = Secret::new("mytoken");
    let clock = FixedClock(NOW);
    let mut successors = Vec::new();
    let mut store_successor = |successor: &Secret| {
        successors.push(successor.clone());
        Ok(())
    };
    with_client(|http| {
        let server = Server::from_discovery(http, &url, discovery()).expect("a server").with_clock(&clock).once();
        match choice % 10 {
            0 => {
                let request =
                    AccessTokenRequest { mytoken: &token, scope: "openid", audience: "https://testbed", comment: "" };
                if let Ok(got) = server.access_token(&request, &mut store_successor, short_deadline()) {
                    assert!(!got.token.is_empty());
                    assert!(got.scope.split(' ').any(|scope| scope == "openid"), "{got:?}");
                    assert!(got.exp.is_none_or(|exp| exp.saturating_sub(NOW) == got.expires_in.unwrap_or_default()));
                }
            }
            1 => {
                let capabilities = Capabilities::parse("AT").expect("one");
                let wanted = [Clause {
                    exp: Some(NOW + 60),
                    scope: "openid".to_owned(),
                    hosts: vec!["10.0.0.0/8".to_owned()],
                    ..Clause::default()
                }];
                let deliver = if choice / 10_000 % 2 == 0 { Deliver::Token } else { Deliver::TransferCode };
                let request = SubTokenRequest {
                    parent: &token,
                    parent_clauses: Some(&wanted),
                    wanted: &wanted,
                    capabilities: &capabilities,
                    name: "n",
                    deliver,
                };
                if let Ok(got) = server.create(&request, &mut store_successor, short_deadline()) {
                    assert!(!got.mytoken.is_empty() && got.capabilities.within(&capabilities));
                    assert!(mytoken::restrictions::within(&got.restrictions, &wanted), "{got:?}");
                }
            }
            2 => {
                if let Ok(got) = server.redeem(&token, short_deadline()) {
                    assert!(!got.mytoken.is_empty());
                }
            }
            3 => drop(server.transfer_code(&token, short_deadline())),
            4 => drop(server.revoke(&token, true, short_deadline())),
            5 => {
                if let Ok(got) = server.introspect(&token, short_deadline()) {
                    assert!(got.valid && url.matches(&got.claims.iss));
                }
            }
            6 => drop(server.history(&token, &mut store_successor, short_deadline())),
            7 => drop(server.revoke_other(&token, "m==", true, &mut store_successor, short_deadline())),
            _ => {
                let issuer = IssuerUrl::parse(ISSUER, false).expect("a url");
                let capabilities = Capabilities::parse("AT").expect("one");
                let request = LoginRequest {
                    issuer: &issuer,
                    capabilities: &capabilities,
                    restrictions: &[],
                    rotation: None,
                    name: "n",
                    application_name: "a",
                };
                if let Ok(pending) = server.start_login(&request, short_deadline()) {
                    assert!(pending.consent_uri.expose().bytes().all(|byte| byte.is_ascii_graphic()));
                    assert!((1..=60).contains(&pending.interval.as_secs()) && pending.expires_in.as_secs() > 0);
                    let _ = server.wait(&pending, short_deadline(), &mut |_| ControlFlow::Continue(()), &mut |_| ());
                }
            }
        }
    });
    assert!(successors.iter().all(|successor| !successor.is_empty()));
});
