// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins whose provider is asked about the token, and a provider that changes its keys.

use serde_json::{Value, json};
use testbed::drive::people::control;
use testbed::{Error, Result, Site, story_with_own_servers};

use super::provider::configure;
use super::{login_with_answers, mytoken, one_node};
use crate::bad_tokens::inputs;

/// Lets the module ask for an introspection, as a client with a secret.
const WITH_SECRET: &str = "client_id = \"site\"\nclient_secret_file = \"/root/secret\"";

/// The same client with a key.
const WITH_KEY: &str = "client_id = \"site\"\nclient_auth = \"private_key_jwt\"\nclient_key_file = \"/root/key.pem\"\nclient_key_id = \"k\"";

/// Makes the client's key, and prints both coordinates of its public part in base64url.
const MAKE_KEY: &str = "umask 077; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /root/key.pem && \
                        openssl pkey -in /root/key.pem -pubout -outform DER | tail -c 64 >/root/point && \
                        for part in head tail; do $part -c 32 /root/point | base64 -w0 | tr +/ -_ | tr -d =; echo; done";

fn settings(modes: &str, client: &str) -> String {
    format!("validation = [{modes}]\n{client}")
}

/// The reason of the last refusal of alice; `accepted` if the last login was accepted.
fn last_reason(site: &Site) -> Result<String> {
    let log = site.system_log()?;
    let mut lines = log.lines().filter(|line| line.contains("pam_mytoken") && line.contains(" user=alice "));
    let last = lines.rfind(|line| line.contains(": accept ") || line.contains(": refuse "));
    let last = last.ok_or_else(|| Error::Refused("no login is logged".into()))?;
    let reason = last.split_once(" reason=").and_then(|(_, rest)| rest.split(' ').next());
    Ok(reason.unwrap_or("accepted").to_owned())
}

/// Logs in with a token, and returns what the log says.
fn outcome(site: &Site, token: &str) -> Result<String> {
    // ssh cuts longer answers.
    let answers = if token.len() > 1_000 { inputs::pieces(token) } else { vec![token.to_owned()] };
    let login = login_with_answers(site, &answers, "true")?;
    let reason = last_reason(site)?;
    assert_eq!(login.success(), reason == "accepted", "{reason}: {login:?}");
    Ok(reason)
}

fn register(site: &Site, client: &Value) -> Result<()> {
    control(site, "/provider/client", Some(&client.to_string())).map(drop)
}

#[test]
fn a_revoked_access_token_is_refused_by_introspection() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        register(site, &json!({"id": "site", "secret": "s"}))?;
        site.sh("root", "umask 077; echo s >/root/secret")?.ok()?;
        let [first, second] = [inputs::mint(site, &json!({}))?, inputs::mint(site, &json!({}))?];
        configure(site, &settings("\"local\", \"introspection\"", WITH_SECRET))?;
        assert_eq!(outcome(site, &first)?, "accepted");
        let revoke = format!(
            "curl -sf --cacert /etc/ssl/testbed-ca.pem -u site:s -d token={first} https://op.testbed:8444/revoke"
        );
        site.sh("root", &revoke)?.ok()?;
        assert_eq!(outcome(site, &first)?, "inactive");
        assert_eq!(outcome(site, &second)?, "accepted");
        configure(site, "")?;
        assert_eq!(outcome(site, &first)?, "accepted", "the signature alone cannot show it");

        // A client with a key.
        let made = site.sh("root", MAKE_KEY)?.ok()?.stdout;
        let (x, y) = made.trim().split_once('\n').ok_or_else(|| Error::Refused(made.clone()))?;
        let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", "x": x, "y": y});
        register(site, &json!({"id": "site", "jwks": {"keys": [key]}}))?;
        configure(site, &settings("\"introspection\"", WITH_KEY))?;
        assert_eq!(outcome(site, &second)?, "accepted");
        assert_eq!(outcome(site, &first)?, "inactive");
        configure(site, &settings("\"introspection\"", WITH_SECRET))?;
        assert_eq!(outcome(site, &second)?, "validation_unavailable", "the secret is not the client's any more");
        Ok(())
    })
}

#[test]
fn claims_that_only_userinfo_has_open_an_account() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = || inputs::mint(site, &json!({"claims": {"preferred_username": null}}));
        assert_eq!(outcome(site, &token()?)?, "not_mapped");
        configure(site, &settings("\"local\", \"userinfo\"", ""))?;
        assert_eq!(outcome(site, &token()?)?, "accepted");
        let fault = |name: &str| json!({"name": name, "endpoint": "userinfo"}).to_string();
        control(site, "/provider/fault", Some(&fault("foreign-subject")))?;
        assert_eq!(outcome(site, &token()?)?, "claims_differ");
        control(site, "/provider/fault", Some(&fault("500-html")))?;
        assert_eq!(outcome(site, &token()?)?, "validation_unavailable");
        control(site, "/provider/fault", Some(&fault("none")))?;
        assert_eq!(outcome(site, &token()?)?, "accepted");
        Ok(())
    })
}

#[test]
fn a_token_with_a_new_key_of_the_provider_is_accepted() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let old = inputs::mint(site, &json!({}))?;
        assert_eq!(outcome(site, &old)?, "accepted");
        control(site, "/provider/rotate", Some(r#"{"drop_old": true}"#))?;
        let new = inputs::mint(site, &json!({}))?;
        assert_eq!(outcome(site, &new)?, "key_unknown", "within a minute of the last look");
        assert_eq!(outcome(site, &old)?, "accepted");
        // A minute later.
        let age = "sed -i \"s/\\\"document\\\":{\\\"at\\\":[0-9]*/\\\"document\\\":{\\\"at\\\":$(($(date +%s) - 61))/\" \
                   /var/cache/mytoken/jwks-*";
        site.sh("root", age)?.ok()?;
        assert_eq!(outcome(site, &new)?, "accepted");
        assert_eq!(outcome(site, &old)?, "key_unknown", "the old key is not published any more");
        Ok(())
    })
}

#[test]
fn an_opaque_access_token_logs_in_by_introspection() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        register(site, &json!({"id": "site", "secret": "s"}))?;
        site.sh("root", "umask 077; echo s >/root/secret")?.ok()?;
        let opaque = |claims: Value| inputs::mint(site, &json!({"opaque": true, "claims": claims}));
        assert_eq!(outcome(site, &opaque(json!({}))?)?, "opaque");
        let with_opaque = format!("opaque = true\n{WITH_SECRET}");
        configure(site, &settings("\"local\", \"introspection\"", &with_opaque))?;
        let token = opaque(json!({}))?;
        assert_eq!(outcome(site, &token)?, "accepted");
        assert_eq!(outcome(site, &format!("@at:op:{token}"))?, "accepted");
        assert_eq!(outcome(site, &format!("@at:other:{token}"))?, "issuer_unknown");
        assert_eq!(outcome(site, &opaque(json!({"aud": "https://elsewhere"}))?)?, "audience");
        assert_eq!(outcome(site, &format!("{token}x"))?, "inactive");
        assert_eq!(outcome(site, &inputs::mint(site, &json!({}))?)?, "accepted", "a JWT");
        // The mytoken server passes on what the provider gives it.
        control(site, "/provider/policy", Some(r#"{"opaque": true}"#))?;
        assert_eq!(outcome(site, &mytoken(site, &["AT"])?)?, "accepted");
        configure(site, "")?;
        assert_eq!(outcome(site, &mytoken(site, &["AT"])?)?, "opaque_exchange", "nobody can be asked");
        Ok(())
    })
}
