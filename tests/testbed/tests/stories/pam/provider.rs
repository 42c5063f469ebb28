// SPDX-License-Identifier: MIT OR Apache-2.0
//! The module's requests for the provider's keys.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::drive::people::control;
use testbed::{Error, Options, Result, Site, story_with_own_servers};

use super::{login_with_answers, one_node};
use crate::bad_tokens::inputs;

/// A site whose sshd does not block addresses after refusals.
fn without_penalties() -> Result<Options> {
    Ok(Options { penalties: false, ..one_node()? })
}

/// The number of the module's requests for the provider's discovery document or keys.
fn requests(site: &Site) -> Result<usize> {
    let text = control(site, "/journal?service=provider", None)?;
    let journal: Vec<Value> =
        serde_json::from_str(&text).map_err(|error| Error::Refused(format!("{error}: {text}")))?;
    let member = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_of_module = |entry: &&Value| {
        let path = member(entry, "path");
        member(entry, "user_agent").starts_with("mytoken-suite/")
            && (path.starts_with("/.well-known/") || path.contains("jwks"))
    };
    Ok(journal.iter().filter(is_of_module).count())
}

fn set_fault(site: &Site, fault: &Value) -> Result<()> {
    control(site, "/provider/fault", Some(&fault.to_string())).map(drop)
}

/// Runs six simultaneous logins with invented key ids and returns the time that they took.
fn log_in_with_invented_keys(site: &Site) -> Result<Duration> {
    let tokens = (0..6)
        .map(|n| inputs::mint(site, &json!({"header": {"kid": format!("invented-{n}")}})))
        .collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let outcomes = std::thread::scope(|scope| {
        let running: Vec<_> = tokens
            .iter()
            .map(|token| scope.spawn(|| login_with_answers(site, std::slice::from_ref(token), "true")))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| Error::Refused("a panic".into()))?)
            .collect::<Result<Vec<_>>>()
    })?;
    assert!(outcomes.iter().all(|outcome| !outcome.success()), "{outcomes:?}");
    Ok(began.elapsed())
}

#[test]
fn invented_key_ids_cost_a_failing_provider_one_request_a_minute() -> Result<()> {
    story_with_own_servers(without_penalties()?, |site| {
        let good = inputs::mint(site, &json!({}))?;
        let before = requests(site)?;
        set_fault(site, &json!({"name": "500-html", "endpoint": "discovery"}))?;
        log_in_with_invented_keys(site)?;
        assert_eq!(requests(site)? - before, 1, "a host without keys");

        // If the cache directory cannot be used, the module uses one below /run.
        let block = "rm -rf /var/cache/mytoken && touch /var/cache/mytoken";
        site.sh("root", block)?.ok()?;
        log_in_with_invented_keys(site)?;
        assert_eq!(requests(site)? - before, 2, "a cache that cannot be used");
        site.sh("root", "test -d /run/mytoken/cache && stat -c %a:%u /run/mytoken/cache")?.ok()?;

        site.sh("root", "rm -rf /run/mytoken/cache && touch /run/mytoken/cache")?.ok()?;
        log_in_with_invented_keys(site)?;
        assert_eq!(requests(site)? - before, 2, "without a cache no request is sent");

        set_fault(site, &json!({"name": "none", "endpoint": "discovery"}))?;
        site.sh("root", "rm -f /var/cache/mytoken /run/mytoken/cache")?.ok()?;
        login_with_answers(site, &[good], "true")?.ok()?;
        assert_eq!(requests(site)? - before, 4);
        log_in_with_invented_keys(site)?;
        assert_eq!(requests(site)? - before, 4, "fresh keys");
        Ok(())
    })
}

/// On a full disk the cached keys can be read, and new ones cannot be written.
#[test]
fn a_full_disk_keeps_the_cached_keys() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let good = [inputs::mint(site, &json!({}))?];
        let disk = "mkdir -p /var/cache/mytoken && mount -t tmpfs -o size=16k,mode=700 cache /var/cache/mytoken";
        site.sh("root", disk)?.ok()?;
        login_with_answers(site, &good, "true")?.ok()?;
        let before = requests(site)?;
        site.sh("root", "head -c 64k /dev/zero >/var/cache/mytoken/full; test -s /var/cache/mytoken/full")?.ok()?;
        // Keys older than a minute, so that an invented key id causes a request.
        let age =
            "cd /var/cache/mytoken && jq -c '.document.at -= 70' jwks-* >/tmp/older && cat /tmp/older >$(echo jwks-*)";
        site.sh("root", age)?.ok()?;
        set_fault(site, &json!({"name": "500-html", "endpoint": "discovery"}))?;
        for _ in 0..2 {
            log_in_with_invented_keys(site)?;
            assert_eq!(requests(site)? - before, 1);
        }
        login_with_answers(site, &good, "true")?.ok()?;
        Ok(())
    })
}

/// Only the first login waits for the slow provider.
#[test]
fn a_hanging_provider_delays_one_login_only() -> Result<()> {
    story_with_own_servers(without_penalties()?, |site| {
        let good = inputs::mint(site, &json!({}))?;
        set_fault(site, &json!({"name": "latency", "endpoint": "discovery", "argument": 60_000}))?;
        let first = log_in_with_invented_keys(site)?;
        assert!(first < Duration::from_secs(12), "{first:?}");
        let later = log_in_with_invented_keys(site)?;
        assert!(later < Duration::from_secs(5), "{later:?}");
        let outcome = login_with_answers(site, &[good], "true")?;
        assert!(!outcome.success() && outcome.stderr.contains("cannot be fetched at the moment"), "{}", outcome.stderr);
        Ok(())
    })
}

/// Adds a line to `[[issuer]]` of the site.
pub(crate) fn configure(site: &Site, line: &str) -> Result<()> {
    let script = format!(
        "cd /etc/mytoken && cp -n mytoken.toml /root/first.toml; cp /root/first.toml mytoken.toml && echo '{line}' >>mytoken.toml"
    );
    site.sh("root", &script)?.ok().map(drop)
}

/// An ID token of the code flow can lack `nonce` and `at_hash`. docs/security.md says when the module accepts it.
#[test]
fn an_id_token_is_accepted_only_in_the_documented_cases() -> Result<()> {
    story_with_own_servers(without_penalties()?, |site| {
        let access_token = inputs::mint(site, &json!({"header": {"typ": "at+jwt"}}))?;
        let keycloak =
            inputs::mint(site, &json!({"header": {"typ": "JWT"}, "claims": {"typ": "Bearer", "nonce": "n"}}))?;
        let bare = json!({"preferred_username": "alice", "nonce": null, "at_hash": null});
        let id_token = |claims: &Value| {
            let mut all = bare.clone();
            if let (Some(all), Some(claims)) = (all.as_object_mut(), claims.as_object()) {
                all.extend(claims.clone());
            }
            inputs::mint(site, &json!({"id_token": true, "claims": all}))
        };
        let unmarked = id_token(&json!({}))?;
        let marked =
            [id_token(&json!({"nonce": "n"}))?, id_token(&json!({"at_hash": "h"}))?, id_token(&json!({"typ": "ID"}))?];
        let for_a_client = id_token(&json!({"aud": "some-client"}))?;

        let accepts =
            |token: &String| Ok::<_, Error>(login_with_answers(site, std::slice::from_ref(token), "true")?.success());
        for token in marked.iter().chain([&for_a_client]) {
            assert!(!accepts(token)?, "an ID token that can be recognised was accepted");
        }
        assert!(accepts(&access_token)? && accepts(&keycloak)?);
        assert!(accepts(&unmarked)?, "docs/security.md says that it is accepted");
        let found = site.sh("root", "mytokenctl check")?;
        assert!(found.stdout.contains("would be taken for an access token"), "{found:?}");

        for (line, message) in [
            ("required_scopes = [\"openid\"]", "lacks the scope openid"),
            ("accept_typ = [\"at+jwt\"]", "not an access token"),
        ] {
            configure(site, line)?;
            let outcome = login_with_answers(site, std::slice::from_ref(&unmarked), "true")?;
            assert!(!outcome.success() && outcome.stderr.contains(message), "{line}: {}", outcome.stderr);
            assert!(accepts(&access_token)?, "{line}");
            let found = site.sh("root", "mytokenctl check")?;
            assert!(!found.stdout.contains("would be taken"), "{line}: {found:?}");
        }
        Ok(())
    })
}
