// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sub-tokens: the request, and the reaction to a child that is broader than requested.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod fake;

use fake::Reply;
use fake::mytoken_server::{MytokenServer, NOW, client, mytoken, no_rotation, soon};
use mytoken::capabilities::Capabilities;
use mytoken::restrictions::Clause;
use mytoken::server::ServerError;
use mytoken::server::{Deliver, Granted, GrantedKind, SubTokenRequest};
use mytoken::token_store::StoreError;
use mytoken::{Error, Kind, Secret};
use serde_json::{Value, json};

fn clauses(value: Value) -> Vec<Clause> {
    serde_json::from_value(value).unwrap()
}

fn create(
    server: &MytokenServer,
    parent: &Secret,
    wanted: &[Clause],
    capabilities: &str,
    deliver: Deliver,
) -> Result<Granted, Error> {
    let http = client();
    let capabilities = Capabilities::parse(capabilities).unwrap();
    let name = format!("job\n7 {}", "ä".repeat(100));
    let request =
        SubTokenRequest { parent, parent_clauses: None, wanted, capabilities: &capabilities, name: &name, deliver };
    server.server(&http).create(&request, &mut no_rotation, soon())
}

fn parent() -> Secret {
    mytoken(json!({"capabilities": ["AT", "create_mytoken"],
        "restrictions": [{"exp": NOW + 1000, "scope": "a b", "audience": ["x"], "usages_other": 9}]}))
}

/// The answer of a correct server to the requests of these tests.
fn answer(token: &Secret) -> Value {
    json!({"mytoken": token, "mytoken_type": "token", "mom_id": "m==", "expires_in": 600, "capabilities": ["AT"],
        "restrictions": [{"exp": NOW + 600, "scope": "a", "audience": ["x"], "usages_AT": 1_000_000_000, "usages_other": 9}]})
}

fn wanted() -> Vec<Clause> {
    clauses(json!([{"exp": NOW + 600, "scope": "a"}]))
}

#[test]
fn the_childs_clauses_are_narrowed_from_the_parents() {
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer(&mytoken(json!({}))))]);
    // This child's own claims have no restrictions, so it is refused as broader.
    create(&server, &parent(), &wanted(), "AT", Deliver::Token).unwrap_err();
    let body = server.requests()[0].json();
    assert_eq!(body["restrictions"], answer(&parent())["restrictions"], "inherited, and both counters when one is set");
    assert_eq!(body["capabilities"], json!(["AT"]));
    assert_eq!(body["response_type"], "token");
    assert_eq!(body["grant_type"], "mytoken");
    assert!(body.get("rotation").is_none());
    let name = body["name"].as_str().unwrap();
    assert!(name.chars().count() == 80 && name.starts_with("job7 ä"), "{name}");
}

#[test]
fn a_child_that_matches_the_request_is_returned() {
    let child = mytoken(json!({"capabilities": ["AT"], "restrictions": answer(&parent())["restrictions"]}));
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer(&child))]);
    let granted = create(&server, &parent(), &wanted(), "AT", Deliver::Token).unwrap();
    assert_eq!(granted.mytoken, child);
    assert_eq!((granted.kind, granted.expires_at), (GrantedKind::Token, Some(NOW + 600)));
    assert_eq!(granted.mom_id, "m==");
    assert!(!granted.rotates());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_broader_child_is_revoked_and_not_used() {
    let good = json!({"capabilities": ["AT"], "restrictions": answer(&parent())["restrictions"]});
    let honest = mytoken(good.clone());
    let mut cases: Vec<(&str, Value)> = Vec::new();
    let mut case = |what, change: &dyn Fn(&mut Value)| {
        let mut changed = answer(&honest);
        change(&mut changed);
        cases.push((what, changed));
    };
    case("no restrictions", &|a| a["restrictions"] = json!(null));
    case("empty restrictions", &|a| a["restrictions"] = json!([]));
    case("an open clause", &|a| a["restrictions"] = json!([{}]));
    case("the parent's end", &|a| a["restrictions"][0]["exp"] = json!(NOW + 1000));
    case("no end", &|a| a["restrictions"][0]["exp"] = json!(0));
    case("the parent's scope", &|a| a["restrictions"][0]["scope"] = json!("a b"));
    case("no scope", &|a| a["restrictions"][0]["scope"] = json!(""));
    case("no audience", &|a| a["restrictions"][0]["audience"] = json!([]));
    case("a second clause", &|a| a["restrictions"].as_array_mut().unwrap().push(json!({"exp": NOW + 600})));
    case("unreadable clauses", &|a| a["restrictions"] = json!("x"));
    case("more capabilities", &|a| a["capabilities"] = json!(["AT", "create_mytoken"]));
    case("unreadable capabilities", &|a| a["capabilities"] = json!(7));
    case("rotation", &|a| a["rotation"] = json!({"on_AT": true}));
    case("another form", &|a| a["mytoken_type"] = json!("short_token"));
    case("its own claims have more scope", &|a| {
        let mut claims = good.clone();
        claims["restrictions"][0]["scope"] = json!("a b");
        a["mytoken"] = json!(mytoken(claims));
    });
    case("its own claims have more capabilities", &|a| {
        let mut claims = good.clone();
        claims["capabilities"] = json!(["AT", "settings"]);
        a["mytoken"] = json!(mytoken(claims));
    });
    case("its own claims rotate", &|a| {
        let mut claims = good.clone();
        claims["rotation"] = json!({"on_other": true});
        a["mytoken"] = json!(mytoken(claims));
    });
    case("its own claims rotate although the answer denies it", &|a| {
        let mut claims = good.clone();
        claims["rotation"] = json!({"on_AT": true});
        a["mytoken"] = json!(mytoken(claims));
        a["rotation"] = json!({"on_AT": false});
    });
    for (what, answer) in cases {
        let server = MytokenServer::with_replies(vec![Reply::json(200, &answer), Reply::new(204, "text/plain", "")]);
        let result = create(&server, &parent(), &wanted(), "AT", Deliver::Token);
        assert!(matches!(result, Err(Error::Server(ServerError::Broader { revoked: true, .. }))), "{what}: {result:?}");
        let requests = server.requests();
        assert_eq!(requests[1].path, "/revoke", "{what}");
        assert_eq!(requests[1].json(), json!({"token": answer["mytoken"], "recursive": true}), "{what}");
    }
}

#[test]
fn a_broader_child_that_came_as_a_code_is_revoked_by_the_code() {
    let answer = json!({"transfer_code": "abcdefgh", "mytoken_type": "transfer_code", "expires_in": 300, "mom_id": "m==",
        "capabilities": ["AT"], "restrictions": [{"exp": NOW + 1000}]});
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer), Reply::new(500, "text/html", "")]);
    let result = create(&server, &parent(), &wanted(), "AT", Deliver::TransferCode);
    assert!(
        matches!(&result, Err(error @ Error::Server(ServerError::Broader { revoked: false, .. })) if error.kind() == Kind::Untrusted),
        "{result:?}"
    );
    assert_eq!(server.requests()[1].json()["token"], "abcdefgh");
}

#[test]
fn a_child_is_revoked_if_the_parents_successor_cannot_be_stored() {
    let mut answer = answer(&parent());
    answer["token_update"] = json!({"mytoken": mytoken(json!({"seq_no": 2}))});
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer), Reply::new(204, "text/plain", "")]);
    let http = client();
    let capabilities = Capabilities::parse("AT").unwrap();
    let request = SubTokenRequest {
        parent: &parent(),
        parent_clauses: None,
        wanted: &wanted(),
        capabilities: &capabilities,
        name: "job",
        deliver: Deliver::Token,
    };
    let mut full =
        |_: &Secret| Err(Error::Store(StoreError::Unusable { path: "/store".into(), reason: "disk full".into() }));
    let result = server.server(&http).create(&request, &mut full, soon());
    assert!(matches!(result, Err(Error::Server(ServerError::RotatedTokenNotStored { .. }))), "{result:?}");
    let requests = server.requests();
    assert_eq!(requests[1].json(), json!({"token": answer["mytoken"], "recursive": true}));
}

#[test]
fn a_child_that_came_as_a_code_has_the_expiry_of_token_and_code() {
    let mut answer = answer(&parent());
    answer.as_object_mut().unwrap().remove("mytoken");
    answer["transfer_code"] = json!("abcdefgh");
    answer["mytoken_type"] = json!("transfer_code");
    answer["expires_in"] = json!(300);
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
    let granted = create(&server, &parent(), &wanted(), "AT", Deliver::TransferCode).unwrap();
    assert_eq!(granted.kind, GrantedKind::TransferCode);
    assert_eq!((granted.expires_at, granted.code_expires_at), (Some(NOW + 600), Some(NOW + 300)));
    assert_eq!(server.requests()[0].json()["response_type"], "transfer_code");
}

#[test]
fn a_code_is_not_requested_from_a_server_without_codes() {
    let child = mytoken(json!({"capabilities": ["AT"], "restrictions": answer(&parent())["restrictions"]}));
    for offered in [json!([]), json!(["token"]), json!(["token", "short_token", "transfer_codes"])] {
        let more = json!({"response_types_supported": offered});
        let server = MytokenServer::with_discovery(more, vec![Reply::json(200, &answer(&child))]);
        let error = create(&server, &parent(), &wanted(), "AT", Deliver::TransferCode).unwrap_err();
        assert!(
            matches!(error, Error::Server(ServerError::NotOffered { .. }))
                && error.to_string().contains("transfer codes"),
            "{error}"
        );
        assert!(server.requests().is_empty(), "{offered}");
        create(&server, &parent(), &wanted(), "AT", Deliver::Token).unwrap();
    }
}

#[test]
fn an_invalid_request_for_a_child_is_not_sent() {
    let open = mytoken(json!({}));
    let table: Vec<(&Secret, Value, &str, &str)> = vec![
        (&open, json!([{"exp": NOW + 9}]), "", "at least one capability"),
        (&open, json!([]), "AT", "needs an end"),
        (&open, json!([{"scope": "a"}]), "AT", "needs an end"),
        (&open, json!([{"exp": NOW + 9}, {"scope": "a"}]), "AT", "needs an end"),
        (&open, json!([{"exp": NOW - 1}]), "AT", "has expired"),
        (&open, json!([{"exp": NOW}]), "AT", "has expired"),
        (&open, json!([{"exp": NOW + 9, "geoip_allow": ["DE"]}]), "AT", "geoip_allow"),
        (&open, json!([{"exp": NOW + 9, "ip": ["192.0.2.1"]}]), "AT", "restriction ip"),
    ];
    let limited = parent();
    let more: Vec<(&Secret, Value, &str, &str)> = vec![
        (&limited, json!([{"exp": NOW + 9, "scope": "c"}]), "AT", "scope c is not in any clause"),
        (&limited, json!([{"exp": NOW + 9, "audience": ["y"]}]), "AT", "audience y is not in any clause"),
    ];
    for (parent, wanted, capabilities, words) in table.into_iter().chain(more) {
        let server = MytokenServer::with_replies(vec![Reply::json(200, &answer(parent))]);
        let error = create(&server, parent, &clauses(wanted.clone()), capabilities, Deliver::Token).unwrap_err();
        assert!(error.to_string().contains(words), "{wanted}: {error}");
        assert!(server.requests().is_empty(), "{wanted}");
    }
}

#[test]
fn the_clauses_of_a_short_token_are_read_by_introspection() {
    let short = Secret::new("abcdefghjkmnopqrstuvwxyzABCDEFGHJKLMNOPQRSTUVWXYZabcdefghjkmnopq");
    let mut clauses = answer(&parent())["restrictions"].clone();
    clauses[0]["usages_other"] = 6.into(); // 9 less the 3 that are done
    let child = mytoken(json!({"capabilities": ["AT"], "restrictions": clauses}));
    let mut granted = answer(&child);
    granted["restrictions"] = clauses.clone();
    let server = MytokenServer::with_handler(move |request| match request.path.as_str() {
        "/info" => {
            let iss = format!("http://{}", request.header("host").unwrap());
            Reply::json(
                200,
                &json!({"valid": true, "token_type": "short_token", "mom_id": "p==", "token": {"iss": iss, "restrictions":
                    [{"exp": NOW + 1000, "scope": "a b", "audience": ["x"], "usages_other": 9, "usages_AT_done": 1, "usages_other_done": 3}]}}),
            )
        }
        _ => Reply::json(200, &granted),
    });
    create(&server, &short, &wanted(), "AT", Deliver::Token).unwrap();
    let requests = server.requests();
    assert_eq!(requests[0].json(), json!({"action": "introspect", "mytoken": short}));
    assert_eq!(requests[1].json()["restrictions"], clauses, "no counters are sent");
}

#[test]
fn a_request_for_a_child_is_not_repeated() {
    for failure in [Reply::hang_up(), Reply::new(500, "text/html", "")] {
        let server = MytokenServer::with_replies(vec![failure]);
        let error = create(&server, &parent(), &wanted(), "AT", Deliver::Token).unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn the_parents_successor_is_stored_before_the_child_is_checked() {
    let successor = mytoken(json!({"seq_no": 2}));
    let mut broad = answer(&mytoken(json!({})));
    broad["token_update"] = json!({"mytoken": successor});
    let server = MytokenServer::with_replies(vec![Reply::json(200, &broad), Reply::new(204, "text/plain", "")]);
    let (http, capabilities, mut kept) = (client(), Capabilities::parse("AT").unwrap(), Vec::new());
    let (parent, wanted) = (parent(), wanted());
    let request = SubTokenRequest {
        parent: &parent,
        parent_clauses: Some(&[]),
        wanted: &wanted,
        capabilities: &capabilities,
        name: "",
        deliver: Deliver::Token,
    };
    let mut keep = |new: &Secret| {
        kept.push(new.clone());
        Ok(())
    };
    let error = server.server(&http).create(&request, &mut keep, soon()).unwrap_err();
    assert!(matches!(error, Error::Server(ServerError::Broader { .. })), "{error}");
    assert_eq!(kept, [successor]);
}
