// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a token claims to be an access token, and not another kind of token that the issuer makes.

use mytoken::config::IssuerSettings;
use serde_json::{Map, Value};

use super::Rejection;
use super::jws::Jws;

/// Checks header and payload of a JWT.
pub(crate) fn check_kind(jws: &Jws<'_>, issuer: &IssuerSettings) -> Result<(), Rejection> {
    match jws.kind.as_deref() {
        Some("mt+jwt") => return Err(Rejection::WrongKind("a mytoken")),
        Some("logout+jwt") => return Err(Rejection::WrongKind("a logout token")),
        kind if issuer.accepts_typ(kind) => {}
        _ => return Err(Rejection::WrongKind("a token of another kind")),
    }
    check_claimed_kind(&jws.claims, jws.kind.as_deref() == Some("at+jwt"))
}

/// Checks the claims of a token. `by_header`: its header says that it is an access token.
///
/// `nonce` marks ID tokens, but Keycloak before 24 puts it into access tokens too (MT-57). It is accepted if `typ` says that the token is
/// an access token.
pub(crate) fn check_claimed_kind(claims: &Map<String, Value>, by_header: bool) -> Result<(), Rejection> {
    let is = |name: &str, expected: &str| {
        claims.get(name).and_then(Value::as_str).is_some_and(|value| value.eq_ignore_ascii_case(expected))
    };
    let has = |name: &str| claims.contains_key(name);
    if is("token_type", "mytoken") {
        return Err(Rejection::WrongKind("a mytoken"));
    }
    // Providers introspect refresh tokens too, and some name the kind here.
    if ["token_type", "token_use"].into_iter().any(|name| is(name, "refresh_token") || is(name, "refresh")) {
        return Err(Rejection::WrongKind("a refresh token"));
    }
    // Only the client that holds the key may use it (RFC 9449, RFC 8705), and it proves that to the service, which this one cannot ask for.
    if has("cnf") || is("token_type", "DPoP") {
        return Err(Rejection::WrongKind("a token that only its own client may use"));
    }
    if has("events") {
        return Err(Rejection::WrongKind("a logout token"));
    }
    // Keycloak puts the kind into the payload.
    if has("typ") && !is("typ", "Bearer") && !is("typ", "at+jwt") && !is("typ", "JWT") {
        return Err(Rejection::WrongKind(if is("typ", "ID") { "an ID token" } else { "a token of another kind" }));
    }
    let bearer = is("typ", "Bearer");
    let nonce_allowed = bearer || by_header || is("typ", "at+jwt");
    if is("token_use", "id") || ((has("at_hash") || has("c_hash")) && !bearer) || (has("nonce") && !nonce_allowed) {
        return Err(Rejection::WrongKind("an ID token"));
    }
    Ok(())
}
