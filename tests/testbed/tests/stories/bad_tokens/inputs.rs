// SPDX-License-Identifier: MIT OR Apache-2.0
//! Invalid inputs, made by the provider and the mytoken server of the site.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testbed::drive::people::control;
use testbed::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER};
use testbed::{Error, Result, Site};

/// The expected return codes of PAM.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExpectedCode {
    /// The token is not accepted.
    AuthErr,
    /// The token is valid, but not for this account.
    PermDenied,
    /// The server cannot be reached.
    AuthinfoUnavail,
}

impl ExpectedCode {
    /// The value in `security/_pam_types.h`.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::AuthErr => 7,
            Self::PermDenied => 6,
            Self::AuthinfoUnavail => 9,
        }
    }
}

/// An input at the prompt: one answer, or several for a token in chunks.
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) answers: Vec<String>,
    pub(crate) expected: ExpectedCode,
}

fn refused(name: &'static str, answer: impl Into<String>) -> Input {
    chunked(name, [answer.into()])
}

fn chunked(name: &'static str, answers: impl Into<Vec<String>>) -> Input {
    Input { name, answers: answers.into(), expected: ExpectedCode::AuthErr }
}

/// A valid token of alice. It is short enough for a client without the helper.
pub(crate) fn good_access_token(site: &Site) -> Result<String> {
    mint(site, &json!({}))
}

pub(crate) fn all(site: &Site) -> Result<Vec<Input>> {
    let mut inputs = texts(site)?;
    inputs.extend(access_tokens(site)?);
    inputs.extend(of_unknown_issuers(site)?);
    inputs.extend(mytokens(site)?);
    Ok(inputs)
}

/// Texts that are no token or an incomplete token.
fn texts(site: &Site) -> Result<Vec<Input>> {
    let good = good_access_token(site)?;
    let long = mint(site, &json!({"pad": 2000}))?;
    let chunk = |index: usize, n: usize| format!("@{index}/{n}:{}", good.get(..400).unwrap_or_default());
    Ok(vec![
        refused("empty", ""),
        refused("the junk that sshd sends for unknown users", "\u{8}\n\r\u{7f}INCORRECT"),
        refused("a JWT cut by the client", long.get(..1023).unwrap_or_default()),
        refused("70 KiB", mint(site, &json!({"pad": 53_000}))?),
        refused("control characters", good.replace('.', "\u{1b}[31m.\u{1}")),
        refused("not ASCII", format!("{good}\u{e4}\u{1f511}")),
        refused("a space inside", good.replacen('.', " .", 1)),
        refused("a password", "correct horse battery staple"),
        refused("three parts that are no JWT", "aaaa.bbbb.cccc"),
        chunked("chunks out of order", [chunk(2, 3), chunk(1, 3), chunk(3, 3)]),
        chunked("chunks that change their number", [chunk(1, 2), chunk(2, 3)]),
        chunked("65 chunks", [chunk(1, 65)]),
        chunked("a second answer that is no chunk", [chunk(1, 2), good.clone()]),
        chunked("chunk zero", [chunk(0, 2), chunk(1, 2)]),
    ])
}

fn access_tokens(site: &Site) -> Result<Vec<Input>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut inputs = Vec::new();
    for (name, request) in [
        ("alg none", json!({"alg": "none"})),
        ("HS256 with the public key", json!({"alg": "HS256"})),
        ("signed by a foreign key", json!({"foreign_key": true})),
        ("a changed signature", json!({"tamper": "signature"})),
        ("changed claims", json!({"tamper": "claims"})),
        ("no signature", json!({"tamper": "cut"})),
        ("a foreign audience", json!({"claims": {"aud": "https://elsewhere.example.org"}})),
        ("no audience", json!({"claims": {"aud": null}})),
        ("an ID token", json!({"id_token": true, "claims": {"aud": AUDIENCE}})),
        ("expired", json!({"claims": {"exp": now - 120, "iat": now - 3600, "nbf": now - 3600}})),
        ("without expiry", json!({"claims": {"exp": null}})),
        ("not yet valid", json!({"claims": {"nbf": now + 600}})),
        ("issued in the future", json!({"claims": {"iat": now + 600}})),
        ("issued two days ago", json!({"claims": {"iat": now - 2 * 86_400, "nbf": now - 2 * 86_400}})),
        ("wrong kid", json!({"header": {"kid": "unknown"}})),
        ("a crit header", json!({"header": {"crit": ["b64"], "b64": false}})),
        (
            "a key in its own header",
            json!({"foreign_key": true, "header": {"jku": "https://elsewhere.example.org/jwks"}}),
        ),
        ("a logout token", json!({"header": {"typ": "logout+jwt"}})),
        ("opaque", json!({"opaque": true})),
    ] {
        inputs.push(refused(name, mint(site, &request)?));
    }
    let bobs = mint(site, &json!({"user": "bob"}))?;
    inputs.push(Input {
        name: "bob's token for alice's account",
        answers: vec![bobs],
        expected: ExpectedCode::PermDenied,
    });
    Ok(inputs)
}

/// Tokens of an unknown issuer or server.
pub(crate) fn of_unknown_issuers(site: &Site) -> Result<Vec<Input>> {
    Ok(vec![
        refused(
            "a foreign issuer",
            mint(site, &json!({"foreign_key": true, "claims": {"iss": "https://evil.example.org"}}))?,
        ),
        refused(
            "an issuer that differs by a slash",
            mint(site, &json!({"claims": {"iss": "https://op.testbed:8444//"}}))?,
        ),
        refused("no issuer", mint(site, &json!({"claims": {"iss": null}}))?),
        refused(
            "a mytoken of a foreign server",
            mint(
                site,
                &json!({"foreign_key": true, "header": {"typ": "MT+JWT"}, "claims": {"token_type": "mytoken", "iss": "https://evil.example.org"}}),
            )?,
        ),
    ])
}

fn mytokens(site: &Site) -> Result<Vec<Input>> {
    let capabilities = json!(["AT", "create_mytoken", "tokeninfo"]);
    let first = |request: Value| first_token(site, &request);
    let revoked = first(json!({"capabilities": capabilities}))?;
    api(site, "/api/v0/token/revoke", &json!({"token": revoked}))?;
    let used = transfer_code(site, &first(json!({"capabilities": capabilities}))?)?;
    api(site, "/api/v0/token/my", &json!({"grant_type": "transfer_code", "transfer_code": used}))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expired = first(json!({"capabilities": capabilities, "restrictions": [{"exp": now + 3}]}))?;
    let inputs = vec![
        refused("a used transfer code", used),
        refused("an unknown code", "abcdefgh"),
        refused("an unknown short token", "abcdefgh".repeat(8)),
        refused("a revoked mytoken", revoked),
        refused("a rotating mytoken", first(json!({"capabilities": capabilities, "rotation": {"on_AT": true}}))?),
        refused(
            "a rotating mytoken behind a transfer code",
            transfer_code(site, &first(json!({"capabilities": capabilities, "rotation": {"on_AT": true}}))?)?,
        ),
        refused("a mytoken without capability AT", first(json!({"capabilities": ["tokeninfo"]}))?),
        refused(
            "a mytoken for another host",
            first(
                json!({"capabilities": capabilities, "restrictions": [{"exp": now + 600, "hosts": ["198.51.100.1"]}]}),
            )?,
        ),
        refused(
            "a mytoken for another audience",
            first(
                json!({"capabilities": capabilities, "restrictions": [{"exp": now + 600, "audience": ["https://elsewhere.example.org"]}]}),
            )?,
        ),
        refused("an expired mytoken", expired),
    ];
    std::thread::sleep(Duration::from_secs(4));
    // The JWT of a mytoken is longer than ssh's limit, so it is sent in chunks, as by the helper.
    Ok(inputs.into_iter().map(in_chunks).collect())
}

fn in_chunks(input: Input) -> Input {
    match input.answers.as_slice() {
        [answer] if answer.len() > 1023 => Input { answers: pieces(answer), ..input },
        _ => input,
    }
}

/// The answers that carry a long token.
pub(crate) fn pieces(token: &str) -> Vec<String> {
    let pieces: Vec<&str> = token.as_bytes().chunks(900).filter_map(|piece| std::str::from_utf8(piece).ok()).collect();
    let n = pieces.len();
    pieces.iter().enumerate().map(|(index, piece)| format!("@{}/{n}:{piece}", index + 1)).collect()
}

/// An access token from the provider. Each token has one fault only, so the default audience is the site's.
pub(crate) fn mint(site: &Site, request: &Value) -> Result<String> {
    let mut request = request.clone();
    if let Some(claims) = request.as_object_mut().map(|request| request.entry("claims").or_insert_with(|| json!({}))) {
        if let Some(claims) = claims.as_object_mut() {
            claims.entry("aud").or_insert_with(|| AUDIENCE.into());
        }
    }
    text(&control(site, "/provider/mint", Some(&request.to_string()))?, "token")
}

pub(crate) fn first_token(site: &Site, request: &Value) -> Result<String> {
    let mut request = request.clone();
    if let Some(members) = request.as_object_mut() {
        members.insert("user".into(), "alice".into());
        members.insert("save".into(), "mt".into());
    }
    text(&control(site, "/mytoken/first-token", Some(&request.to_string()))?, "mytoken")
}

pub(crate) fn transfer_code(site: &Site, mytoken: &str) -> Result<String> {
    text(&api(site, "/api/v0/token/transfer", &json!({"mytoken": mytoken}))?, "transfer_code")
}

fn api(site: &Site, path: &str, body: &Value) -> Result<String> {
    let url = format!("{MYTOKEN_SERVER}{path}");
    let argv =
        ["curl", "-sS", "--fail-with-body", "--cacert", CA, "-H", "Content-Type: application/json", "-d", "@-", &url];
    Ok(site.command("root", argv).stdin(body.to_string()).run()?.ok()?.stdout)
}

fn text(answer: &str, member: &str) -> Result<String> {
    let parsed: Value = serde_json::from_str(answer).map_err(|error| Error::Refused(format!("{error}: {answer}")))?;
    parsed
        .get(member)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Error::Refused(format!("no {member} in the answer")))
}
