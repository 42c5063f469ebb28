// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-submit`, started as the plugin does it.

use std::fs;
use std::time::Duration;

use mytoken::private_files::Owner;
use mytoken::time_format::TimeFormat;
use mytoken::token_store::Trouble;
use mytoken::{Deadline, Secret};
use mytoken_wire::clock::FixedClock;
use mytokend::submit::patience::Patience;
use mytokend::submit::{JobTime, SubmitConfig, SubmitRequest, UserEnvironment, submit};
use serde_json::json;

use crate::harness::{AUDIENCE, SCOPE, TestSite, unix_time};

#[test]
fn a_submission_seals_a_sub_token_with_the_rights_of_its_profile_only() {
    let site = TestSite::new(60);
    site.log_in();
    let (sealed, handle) = site.submit();
    let credential = site.open(&sealed);
    assert_eq!(
        (credential.uid, credential.id.as_str(), credential.cluster.as_str()),
        (Owner::current().uid, handle.as_str(), "site")
    );
    assert_eq!((credential.scope.as_str(), credential.audience.as_str()), (SCOPE, AUDIENCE));
    assert!(!credential.required);
    assert!((unix_time() - 60..=unix_time()).contains(&credential.made), "{}", credential.made);
    assert_eq!(credential.shared_for, 0);
    // The parent expires in a day, before the nine days of the longest wait and job.
    assert!(credential.exp <= unix_time() + 86_400);
    let claims = mytoken::token::unverified_claims(&credential.sub_token).unwrap();
    let own = claims.unverified();
    assert_eq!(own.name, format!("site:{handle}"));
    assert_eq!(own.capabilities.to_string(), "AT");
    assert!(!own.rotates());
    assert_eq!((own.restrictions.len(), own.restrictions[0].scope.as_str()), (1, SCOPE));
    assert!(site.access_token(&credential.sub_token).is_ok());
}

#[test]
fn the_second_submission_sends_one_request() {
    let site = TestSite::new(60);
    site.log_in();
    site.submit();
    let before = site.journal().len();
    site.submit();
    assert_eq!(site.journal().len() - before, 1, "{:?}", site.journal());
}

#[test]
fn the_sealed_credential_contains_required() {
    let site = TestSite::new(60);
    site.log_in();
    let printed = site.submit_with(&["--profile", "default", "--required"]);
    assert!(site.open(printed.line["sealed"].as_str().unwrap()).required);
}

#[test]
fn without_a_mytoken_the_error_says_what_to_do() {
    let site = TestSite::new(60);
    let printed = site.submit_with(&["--profile", "default"]);
    assert_eq!(printed.status.code(), Some(1));
    let error = printed.line["error"].as_str().unwrap();
    assert!(error.starts_with("the mytoken of your session") && error.ends_with("Run: mytoken-ssh login"), "{error}");
    assert!(printed.stderr.is_empty());
    assert!(site.journal().is_empty(), "no request is sent");
}

#[test]
fn the_error_about_an_unknown_profile_names_the_known_ones() {
    let site = TestSite::new(60);
    site.log_in();
    let error = site.submit_with(&["--profile", "no\x1bsuch"]).line["error"].as_str().unwrap().to_owned();
    assert!(error.contains("this cluster has: default") && !error.contains('\x1b'), "{error}");
}

#[test]
fn a_rotating_mytoken_is_used_from_the_store_and_its_successor_stored() {
    let site = TestSite::new(60);
    let granted = site.mytoken(&json!({"rotation": {"on_AT": true, "on_other": true}}));
    let first = Secret::new(granted["mytoken"].as_str().unwrap());
    // It is not used from the session's file.
    fs::write(site.dir.path().join("mt"), first.expose()).unwrap();
    let error = site.submit_with(&["--profile", "default"]).line["error"].as_str().unwrap().to_owned();
    assert!(error.contains("replaced at each use"), "{error}");
    site.store(&granted);
    site.submit();
    let second = site.stored();
    assert_ne!(second, first, "the successor is stored");
    site.submit();
    assert_ne!(site.stored(), second, "and the next submission uses it");
}

#[test]
fn what_the_server_says_of_a_stored_mytoken_is_noted_there() {
    let site = TestSite::new(60);
    // One that may be used twice at once, and one that may not.
    for more in [json!({}), json!({"rotation": {"on_AT": true, "on_other": true}})] {
        let granted = site.mytoken(&more);
        site.store(&granted);
        site.submit();
        assert_eq!(site.entry().trouble, None);
        site.revoke(&site.stored());
        let error = site.submit_with(&["--profile", "default"]).line["error"].as_str().unwrap().to_owned();
        assert!(error.contains("expired, revoked"), "{error}");
        assert_eq!(site.entry().trouble, Some(Trouble::Refused), "{more}");
        site.store(&site.mytoken(&more));
        site.submit();
        assert_eq!(site.entry().trouble, None);
    }
}

#[test]
fn two_submissions_at_once_do_not_lose_a_rotating_mytoken() {
    let site = TestSite::new(60);
    site.store(&site.mytoken(&json!({"rotation": {"on_AT": true, "on_other": true}})));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| site.submit());
        }
    });
    site.submit();
}

#[test]
fn a_sub_token_with_too_many_rights_is_revoked_and_not_used() {
    let site = TestSite::new(60);
    site.log_in();
    site.control("/mytoken/fault", &json!({"name": "broader-child"}));
    let error = site.submit_with(&["--profile", "default"]).line["error"].as_str().unwrap().to_owned();
    assert!(error.contains("more rights than asked for") && error.contains("revoked"), "{error}");
    assert_eq!(site.requests("revocation"), 1, "{:?}", site.journal());
}

#[test]
fn a_scope_that_the_mytoken_lacks_is_an_error_without_a_request() {
    let site = TestSite::new(60);
    let restrictions = json!([{"scope": "openid compute.read", "audience": [AUDIENCE], "exp": unix_time() + 3600}]);
    let granted = site.mytoken(&json!({"restrictions": restrictions}));
    fs::write(site.dir.path().join("mt"), granted["mytoken"].as_str().unwrap()).unwrap();
    let before = site.requests("mytoken");
    let error = site.submit_with(&["--profile", "default"]).line["error"].as_str().unwrap().to_owned();
    assert!(error.contains("storage.read"), "{error}");
    assert_eq!(site.requests("mytoken"), before);
}

#[test]
fn every_server_fault_ends_within_the_deadline() {
    let site = TestSite::new(60);
    site.log_in();
    for fault in [
        json!({"name": "latency", "ms": 20_000}),
        json!({"name": "drip", "ms": 500}),
        json!({"name": "gigantic-body"}),
        json!({"name": "500-html"}),
        json!({"name": "429", "retry_after": 600}),
        json!({"name": "redirect-308", "location": "https://evil.example/"}),
    ] {
        let _ = fs::remove_dir_all(site.home().join(".cache"));
        site.control("/mytoken/fault", &fault);
        let printed = site.submit_with(&["--profile", "default"]);
        assert!(printed.took < Duration::from_millis(4500), "{fault}: {:?}", printed.took);
        assert!(printed.line["error"].is_string() && printed.stderr.is_empty(), "{fault}: {printed:?}");
        site.control("/clear", &json!({}));
    }
    site.control("/outage", &json!({"service": "mytoken", "on": true}));
    let printed = site.submit_with(&["--profile", "default"]);
    assert!(printed.took < Duration::from_secs(4), "{printed:?}");
    assert!(printed.line["error"].as_str().unwrap().contains("try again later"), "{printed:?}");
}

#[test]
fn an_unusable_mytoken_is_refused_with_a_reason() {
    let site = TestSite::new(60);
    site.log_in();
    let (sealed, _) = site.submit();
    let refusal = |text: &str| {
        fs::write(site.dir.path().join("mt"), text).unwrap();
        site.submit_with(&["--profile", "default"]).line["error"].as_str().unwrap().to_owned()
    };
    let child = site.open(&sealed).sub_token;
    assert!(refusal("").contains("not a mytoken"));
    assert!(refusal(child.expose()).contains("may not make sub-tokens"));
    let revoked = site.mytoken(&json!({}));
    let revoked = Secret::new(revoked["mytoken"].as_str().unwrap());
    site.revoke(&revoked);
    let error = refusal(revoked.expose());
    assert!(error.contains("expired, revoked, replaced") && !error.contains("eyJ"), "{error}");
}

/// The answer to a submission with a mytoken that has these restrictions.
fn answer_with(site: &TestSite, change: &serde_json::Value) -> serde_json::Value {
    let granted = site.mytoken(change);
    fs::write(site.dir.path().join("mt"), granted["mytoken"].as_str().unwrap()).unwrap();
    site.submit_with(&["--profile", "default"]).line
}

#[test]
fn the_user_is_told_what_the_credential_lacks() {
    let site = TestSite::new(60);
    let now = unix_time();
    let clause = json!({"scope": "openid storage.read", "audience": [AUDIENCE], "exp": now + 3600, "usages_AT": 7});
    let told = answer_with(&site, &json!({"restrictions": [clause]}));
    let notes: Vec<&str> = told["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    assert!(
        notes.len() == 2
            && notes[0].contains("because your session's mytoken does")
            && notes[0].ends_with("mytoken-ssh ssh --delegate=9d")
            && notes[1].contains("at most 7 access tokens"),
        "{notes:?}"
    );
    let long = json!({"scope": "openid storage.read", "audience": [AUDIENCE], "exp": now + 9 * 86_400});
    let told = answer_with(&site, &json!({"restrictions": [long]}));
    assert!(told["sealed"].is_string() && told["notes"].is_null(), "{told}");
}

#[test]
fn a_refusal_names_dimension_and_value() {
    let site = TestSite::new(60);
    let base = json!({"scope": "openid storage.read", "audience": [AUDIENCE], "exp": unix_time() + 3600});
    let with = |key: &str, value: serde_json::Value| {
        let mut clause = base.clone();
        clause[key] = value;
        json!({"restrictions": [clause]})
    };
    for (change, words) in [
        (with("audience", json!(["https://other"])), &["audience", AUDIENCE][..]),
        (with("scope", json!("openid compute.read")), &["scope", SCOPE]),
        (with("hosts", json!(["198.51.100.0/24"])), &["hosts 198.51.100.0/24"]),
        (with("usages_other", json!(0)), &["0 times for other requests", "usages_other"]),
        (with("nbf", json!(unix_time() + 1800)), &["is not valid before", "UTC"]),
        (json!({"capabilities": ["AT"]}), &["capability create_mytoken"]),
        (json!({"capabilities": ["create_mytoken"]}), &["capability AT"]),
    ] {
        let told = answer_with(&site, &change);
        let error = told["error"].as_str().unwrap_or_default();
        assert!(words.iter().all(|word| error.contains(word)), "{change}: {told}");
    }
}

#[test]
fn a_wrong_clock_of_this_host_costs_no_credential() {
    let site = TestSite::new(60);
    site.log_in();
    let config = SubmitConfig::load(&site.config()).unwrap();
    let environment = UserEnvironment { home: Some(site.home()), mytoken_file: Some(site.dir.path().join("mt")) };
    let request = SubmitRequest {
        profile: "default".into(),
        required: true,
        clusters: None,
        command: "sbatch".into(),
        job: JobTime::Before,
        export_file: false,
        command_pid: None,
        times: TimeFormat::utc(0),
    };
    let year = 366 * 86_400;
    for (here, difference) in
        [(unix_time() + year, " s ahead of"), (unix_time() - year, " s behind"), (unix_time(), "")]
    {
        let deadline = Deadline::after(Duration::from_secs(20));
        let patience = Patience { deadline, waits: &|| true, threads: None };
        let made = submit(&config, &request, &environment, &FixedClock(here), &patience).unwrap();
        let credential = site.open(&made.submission.sealed);
        assert!((unix_time() + 3_600..unix_time() + 86_500).contains(&credential.exp), "{}", credential.exp);
        assert!(site.access_token(&credential.sub_token).is_ok());
        let told = made.notes.iter().any(|note| note.contains("this host's clock is") && note.contains(difference));
        assert_eq!(told, !difference.is_empty(), "{:?}", made.notes);
    }
}
