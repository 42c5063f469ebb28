// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the rules of the captures' provider through its HTTP handler.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::keys::Algorithm;
use super::link::TokenEndpoint;
use super::policy::{Client, Policy, Setup};
use super::server::Provider;
use super::users::Users;
use crate::form::{decode, encode, first};
use crate::http::{Handler, Reply, Request, Response};

pub(crate) const ISSUER: &str = "https://op.test/x";
const REDIRECT: &str = "https://mt.test/redirect";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// A provider with ES256 keys: making an RSA key would take a second.
pub(crate) fn provider(change: &Value) -> Provider {
    let users = json!({"alice": {"email": "alice@example.org", "eduperson_entitlement": ["urn:geant:x:group:hpc"]}});
    let policy = Policy { algorithm: Algorithm::Es256, ..Policy::default() }.with_changes(change).unwrap();
    let client = |id: &str, secret: Option<&str>| Client {
        id: id.into(),
        secret: secret.map(str::to_owned),
        jwks: None,
        redirect_uris: vec![REDIRECT.into()],
    };
    Provider::new(Setup {
        issuer: ISSUER.into(),
        folder: None,
        clients: vec![client("mytoken", Some("s%:e")), client("public", None), client("other", Some("o"))],
        users: Users::from_json(users).unwrap(),
        policy,
    })
    .unwrap()
}

pub(crate) fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

pub(crate) fn call(
    provider: &Provider,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    form: &[(&str, &str)],
) -> Reply {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
    provider.handle(&Request {
        method: method.into(),
        path: format!("/x{path}"),
        query,
        headers: pairs(headers),
        body: encode(&pairs(form)).into_bytes(),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
    })
}

pub(crate) fn answer(reply: Reply) -> Response {
    match reply {
        Reply::Answer(response) => response,
        other => panic!("no answer: {other:?}"),
    }
}

fn authorization(scope: &str, resources: &[&str]) -> String {
    let mut query = pairs(&[
        ("client_id", "mytoken"),
        ("redirect_uri", REDIRECT),
        ("response_type", "code"),
        ("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))),
        ("code_challenge_method", "S256"),
        ("state", "st&te"),
        ("scope", scope),
    ]);
    query.extend(resources.iter().map(|resource| ("resource".to_owned(), (*resource).to_owned())));
    format!("{ISSUER}/authorize?{}", encode(&query))
}

/// Logs in and returns the query of the redirect to the client.
fn log_in_for_code(provider: &Provider, scope: &str, resources: &[&str]) -> Vec<(String, String)> {
    let redirect = provider.log_in_at(&authorization(scope, resources), "alice").unwrap();
    let (uri, query) = redirect.split_once('?').unwrap();
    assert_eq!(uri, REDIRECT);
    let query = decode(query.as_bytes());
    assert_eq!(first(&query, "state"), Some("st&te"));
    query
}

fn exchange(provider: &Provider, code: &str, verifier: &str) -> Response {
    let form =
        [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT), ("code_verifier", verifier)];
    provider.token(&pairs(&form)).unwrap()
}

pub(crate) fn log_in(provider: &Provider, scope: &str, resources: &[&str]) -> Value {
    let query = log_in_for_code(provider, scope, resources);
    let response = exchange(provider, first(&query, "code").unwrap(), VERIFIER);
    assert_eq!(response.status, 200);
    body(&response)
}

fn refresh(provider: &Provider, token: &Value, more: &[(&str, &str)]) -> (u16, Value) {
    let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token["refresh_token"].as_str().unwrap())];
    form.extend(more);
    let response = provider.token(&pairs(&form)).unwrap();
    (response.status, body(&response))
}

pub(crate) fn claims(token: &Value) -> Value {
    let part = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_login_gives_tokens_of_the_granted_scopes() {
    let provider = provider(&json!({}));
    let tokens = log_in(&provider, "no.such.scope offline_access openid email", &[]);
    assert_eq!(tokens["scope"], "openid email");
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 3600);
    let access = claims(&tokens["access_token"]);
    assert_eq!(access["aud"], "https://default.example.org");
    assert_eq!(access["email"], "alice@example.org");
    assert_eq!(access.get("eduperson_entitlement"), None);
    assert_eq!(claims(&tokens["id_token"])["aud"], "mytoken");
    assert!(crate::jwks::verify(tokens["access_token"].as_str().unwrap(), &provider.jwks()).is_ok());
}

#[test]
fn a_code_works_once_with_its_verifier() {
    let provider = provider(&json!({}));
    let query = log_in_for_code(&provider, "openid", &[]);
    let code = first(&query, "code").unwrap();
    assert_eq!(exchange(&provider, "bad", VERIFIER).status, 400);
    assert_eq!(exchange(&provider, code, VERIFIER).status, 200);
    assert_eq!(body(&exchange(&provider, code, VERIFIER))["error"], "invalid_grant");
    let query = log_in_for_code(&provider, "openid", &[]);
    let code = first(&query, "code").unwrap();
    assert_eq!(body(&exchange(&provider, code, "another verifier"))["error"], "invalid_grant");
    assert_eq!(exchange(&provider, code, VERIFIER).status, 400, "a failed attempt uses the code up");
}

/// Resources of the login, form of the refresh, and its audience or error.
type Row = (&'static [&'static str], &'static [(&'static str, &'static str)], Result<&'static str, &'static str>);

#[test]
fn resources_and_scopes_of_a_refresh_follow_the_login() {
    const A: &str = "https://api.example.org";
    let table: &[Row] = &[
        (&[], &[], Ok("https://default.example.org")),
        (&[], &[("resource", A)], Err("invalid_target: resource indicator is missing, or unknown")),
        (&[A], &[], Ok(A)),
        (&[A], &[("resource", A)], Ok(A)),
        (
            &[A],
            &[("resource", A), ("resource", "https://b.example.org")],
            Err("invalid_target: resource indicator is missing, or unknown"),
        ),
        (&[], &[("scope", "compute.read offline_access")], Ok("https://default.example.org")),
        (&[], &[("scope", "compute.read  openid")], Err("invalid_scope: scope contains invalid characters")),
        (&[], &[("scope", "storage.read")], Err("invalid_scope: refresh token missing requested scope")),
        (&[], &[("scope", "storage.read storage.write")], Err("invalid_scope: refresh token missing requested scopes")),
    ];
    let provider = provider(&json!({}));
    for (login, asked, expected) in table {
        let tokens = log_in(&provider, "openid compute.read offline_access", login);
        let (status, answer) = refresh(&provider, &tokens, asked);
        match expected {
            Ok(audience) => {
                assert_eq!((status, &claims(&answer["access_token"])["aud"]), (200, &json!(audience)), "{asked:?}");
                let scope =
                    asked.iter().find(|(key, _)| *key == "scope").map_or("openid compute.read", |_| "compute.read");
                assert_eq!(answer["scope"], scope);
                assert_eq!(answer["refresh_token"], tokens["refresh_token"], "refresh tokens do not rotate");
            }
            Err(error) => {
                let got =
                    format!("{}: {}", answer["error"].as_str().unwrap(), answer["error_description"].as_str().unwrap());
                assert_eq!((status, got.as_str()), (400, *error), "{asked:?}");
            }
        }
    }
}

#[test]
fn extra_resources_are_allowed_at_a_refresh() {
    let provider = provider(&json!({"extra_resources": ["https://se.test"]}));
    let tokens = log_in(&provider, "openid", &["https://a.test"]);
    let (_, answer) = refresh(&provider, &tokens, &[("resource", "https://se.test")]);
    assert_eq!(claims(&answer["access_token"])["aud"], "https://se.test");
    assert_eq!(refresh(&provider, &tokens, &[("resource", "https://b.test")]).0, 400);
}

#[test]
fn only_its_client_can_revoke_a_refresh_token() {
    let provider = provider(&json!({}));
    let tokens = log_in(&provider, "openid", &[]);
    let token = tokens["refresh_token"].as_str().unwrap();
    let others = [("token", token), ("client_id", "other"), ("client_secret", "o")];
    assert_eq!(answer(call(&provider, "POST", "/revoke", &[], &others)).status, 200);
    assert_eq!(refresh(&provider, &tokens, &[]).0, 200);
    assert_eq!(provider.revoke(&pairs(&[("token", token)])).unwrap().status, 200);
    assert_eq!(refresh(&provider, &tokens, &[]).1["error"], "invalid_grant");
}

#[test]
fn clients_must_authenticate() {
    let provider = provider(&json!({}));
    let tokens = log_in(&provider, "openid", &[]);
    let token = tokens["refresh_token"].as_str().unwrap();
    let form = |more: &[(&'static str, &'static str)]| {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        form.extend(more.iter().copied());
        answer(call(&provider, "POST", "/token", &[], &form))
    };
    assert_eq!(form(&[]).status, 401);
    assert_eq!(form(&[("client_id", "mytoken")]).status, 401);
    assert_eq!(form(&[("client_id", "mytoken"), ("client_secret", "wrong")]).status, 401);
    assert_eq!(form(&[("client_id", "mytoken"), ("client_secret", "s%:e")]).status, 200);
    assert_eq!(body(&form(&[("client_id", "public")]))["error"], "invalid_grant", "the grant is another client's");
}

#[test]
fn browsers_are_redirected_only_to_registered_uris() {
    let provider = provider(&json!({}));
    let foreign = authorization("openid", &[]).replace("mt.test", "evil.test");
    assert!(provider.log_in_at(&foreign, "alice").unwrap_err().contains("400"));
    let query = log_in_for_code(&provider, "openid", &["not absolute"]);
    assert_eq!(first(&query, "error"), Some("invalid_target"));
    let plain = authorization("openid", &[]).replace("S256", "plain");
    assert!(provider.log_in_at(&plain, "alice").unwrap().contains("error=invalid_request"));
}

#[test]
fn old_keys_stay_valid_until_they_are_dropped() {
    let provider = provider(&json!({}));
    let ids = || {
        let jwks = provider.jwks();
        jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = log_in(&provider, "openid", &[]);
    let second = provider.rotate_keys(false).unwrap();
    assert_eq!(ids().len(), 2);
    let valid = |token: &Value| crate::jwks::verify(token["access_token"].as_str().unwrap(), &provider.jwks()).is_ok();
    let between = log_in(&provider, "openid", &[]);
    assert!(valid(&before) && valid(&between));
    let third = provider.rotate_keys(true).unwrap();
    assert_eq!(ids(), [third.as_str()]);
    assert_ne!(second, third);
    assert!(!valid(&before) && !valid(&between) && valid(&log_in(&provider, "openid", &[])));
    provider.change_policy(&json!({"algorithm": "EdDSA"})).unwrap();
    assert!(valid(&log_in(&provider, "openid", &[])));
}

#[test]
fn keys_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = |algorithm| super::keyring::Keyring::open(Some(folder.path()), algorithm).unwrap();
    let first = open(Algorithm::Rs256).jwks();
    assert_eq!(open(Algorithm::Rs256).jwks(), first);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.path().join("provider-keys.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(open(Algorithm::EdDsa).jwks()["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn userinfo_and_introspection_accept_jwts_and_opaque_tokens() {
    for opaque in [false, true] {
        let provider = provider(&json!({"opaque": opaque}));
        let tokens = log_in(&provider, "openid email offline_access", &[]);
        let token = tokens["access_token"].as_str().unwrap();
        assert_eq!(token.contains('.'), !opaque);
        let header = format!("Bearer {token}");
        let userinfo = answer(call(&provider, "GET", "/userinfo", &[("Authorization", &header)], &[]));
        assert_eq!((userinfo.status, body(&userinfo)), (200, json!({"sub": "alice", "email": "alice@example.org"})));
        let ask = |token: &str| {
            let form = [("token", token), ("client_id", "other"), ("client_secret", "o")];
            body(&answer(call(&provider, "POST", "/introspect", &[], &form)))
        };
        assert_eq!(ask(token)["active"], true);
        assert_eq!(ask(token)["scope"], "openid email");
        assert_eq!(ask("unknown"), json!({"active": false}));
        assert_eq!(ask(tokens["id_token"].as_str().unwrap()), json!({"active": false}));
        provider.revoke(&pairs(&[("token", token)])).unwrap();
        assert_eq!(ask(token), json!({"active": false}));
        assert_eq!(answer(call(&provider, "GET", "/userinfo", &[("Authorization", &header)], &[])).status, 401);
        let narrow = refresh(&provider, &tokens, &[("scope", "email")]).1;
        let header = format!("Bearer {}", narrow["access_token"].as_str().unwrap());
        assert_eq!(answer(call(&provider, "GET", "/userinfo", &[("Authorization", &header)], &[])).status, 403);
    }
}

#[test]
fn an_outage_is_a_refused_connection() {
    let provider = provider(&json!({}));
    let tokens = log_in(&provider, "openid", &[]);
    let form = pairs(&[("grant_type", "refresh_token"), ("refresh_token", tokens["refresh_token"].as_str().unwrap())]);
    for name in ["close", "refused"] {
        provider.set_token_fault(Some(name)).unwrap();
        assert!(provider.token(&form).is_err(), "{name}");
        provider.set_token_fault(None).unwrap();
        assert_eq!(provider.token(&form).unwrap().status, 200);
    }
    provider.set_outage(true);
    assert!(provider.token(&form).is_err());
    provider.set_outage(false);
    assert!(provider.token(&form).is_ok());
}

#[test]
fn logged_requests_have_the_form_of_the_captures() {
    let provider = provider(&json!({}));
    let tokens = log_in(&provider, "openid", &[]);
    provider.take_requests();
    provider.set_token_fault(Some("500-html")).unwrap();
    refresh_raw(&provider, &tokens);
    provider.revoke(&pairs(&[("token", "t"), ("token_type_hint", "refresh_token")])).unwrap();
    assert_eq!(
        provider.take_requests(),
        [
            json!({"endpoint": "token", "authorization": "Basic", "form":
                {"grant_type": ["refresh_token"], "refresh_token": [tokens["refresh_token"]], "resource": ["a:b", "c:d"]}}),
            json!({"endpoint": "revocation", "authorization": "Basic", "form":
                {"token": ["t"], "token_type_hint": ["refresh_token"]}}),
        ]
    );
    assert!(provider.take_requests().is_empty());
}

fn refresh_raw(provider: &Provider, tokens: &Value) {
    let form = pairs(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ("resource", "a:b"),
        ("resource", "c:d"),
    ]);
    assert_eq!(provider.token(&form).unwrap().status, 500);
}
