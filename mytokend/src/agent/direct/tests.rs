// SPDX-License-Identifier: MIT OR Apache-2.0
use std::time::Duration;

use mytoken::SystemClock;
use mytoken::http::ServerClock;

use crate::jobs::keys::{self, PrivateKey};
use crate::jobs::sealed;

use super::*;

fn direct(key: PrivateKey) -> DirectMode {
    let shared: Shared = toml::from_str("[[server]]\nname = 't'\nurl = 'https://mytoken.testbed:8443'").unwrap();
    let keys = ClusterKeys::single("testbed".into(), Arc::new(key));
    DirectMode::new(&shared, Ok(keys), Arc::new(SystemClock)).unwrap()
}

fn credential() -> JobCredential {
    JobCredential {
        server: "https://mytoken.testbed:8443".into(),
        sub_token: Secret::new("a.b.c"),
        uid: 2001,
        cluster: "testbed".into(),
        id: "0".repeat(32),
        exp: 1000,
        profile: "data".into(),
        scope: "storage.read".into(),
        audience: "https://testbed".into(),
        required: true,
        made: 0,
        shared_for: 0,
        followed: false,
        files: Vec::new(),
        start_windows: Vec::new(),
    }
}

fn start(uid: u32) -> JobStart {
    JobStart { job: 1, uid, gid: uid, ..JobStart::default() }
}

#[test]
fn the_owner_is_admitted_and_another_user_gets_a_reason() {
    let (public, private) = keys::generate();
    let direct = direct(private);
    let text = sealed::seal(&credential(), &public).unwrap();
    let admitted = direct.admit(&start(2001), &text).unwrap();
    assert_eq!((admitted.profile.as_str(), admitted.required, admitted.exp), ("data", true, 1000));
    let denied = direct.admit(&start(2002), &text).unwrap_err();
    assert!(denied.reason.contains("made for user 2001") && !denied.required, "{denied:?}");
    assert!(direct.admit(&start(2001), "mt1.nonsense").is_err());
}

#[test]
fn what_another_host_may_open_is_not_refused_for_good() {
    let ((public, private), (foreign, _)) = (keys::generate(), keys::generate());
    let direct = direct(private);
    let is_final = |uid, credential: &JobCredential, key| {
        direct.admit(&start(uid), &sealed::seal(credential, key).unwrap()).unwrap_err().is_final
    };
    let of_another_server = JobCredential { server: "https://new.example".into(), ..credential() };
    let of_another_cluster = JobCredential { cluster: "other".into(), ..credential() };
    assert!(!is_final(2001, &credential(), &foreign) && !is_final(2001, &of_another_server, &public));
    assert!(is_final(2002, &credential(), &public) && is_final(2001, &of_another_cluster, &public));
    assert!(direct.admit(&start(2001), "mt1.nonsense").unwrap_err().is_final);
}

#[test]
fn only_the_servers_clock_says_that_a_credential_has_expired() {
    let (public, private) = keys::generate();
    let (direct, url) = (direct(private), "https://mytoken.testbed:8443");
    let text = sealed::seal(&credential(), &public).unwrap();
    assert_eq!(direct.server_time(url), None);
    assert!(direct.admit(&start(2001), &text).is_ok(), "the server decides");
    let elapsed = SystemClock.elapsed();
    let date = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let clock = ServerClock::measure(date, elapsed, elapsed).unwrap();
    direct.clocks.note(url, clock);
    for server in [url, "t"] {
        assert!(direct.server_time(server).is_some_and(|time| time.abs_diff(1_700_000_000) < 60), "{server}");
    }
    let denied = direct.admit(&start(2001), &text).unwrap_err();
    assert!(denied.reason.contains("expired") && denied.required, "{denied:?}");
    // What it says is known all the same, to its user.
    assert_eq!(direct.admit_expired(&start(2001), &text).map(|admitted| admitted.exp), Some(1000));
    assert_eq!(direct.admit_expired(&start(2002), &text), None);
    // By this host's clock this one has expired.
    let valid = JobCredential { exp: 1_700_001_000, ..credential() };
    assert!(direct.admit(&start(2001), &sealed::seal(&valid, &public).unwrap()).is_ok());
}

#[test]
fn jobs_sealed_to_a_replaced_key_are_still_opened() {
    let ((old_public, old), (new_public, new), (foreign, _)) = (keys::generate(), keys::generate(), keys::generate());
    let ((next_public, next), (gone, _)) = (keys::generate(), keys::generate());
    let shared: Shared = toml::from_str("[[server]]\nname = 't'\nurl = 'https://mytoken.testbed:8443'").unwrap();
    let keys = ClusterKeys {
        further: vec![Arc::new(next)],
        earlier: vec![Arc::new(old)],
        retired: [gone.id().to_owned()].into(),
        ..ClusterKeys::single("testbed".into(), Arc::new(new))
    };
    let direct = DirectMode::new(&shared, Ok(keys), Arc::new(SystemClock)).unwrap();
    assert_eq!(direct.key_ids(), [new_public.id(), next_public.id(), old_public.id()]);
    let retired =
        format!("the job credential is sealed to the key {}, which was retired; submit the job again", gone.id());
    let other = format!("the job credential is sealed to the key {}, but this node has the key ", foreign.id());
    for (public, refusal) in [
        (&old_public, None),
        (&new_public, None),
        (&next_public, None),
        (&gone, Some(&retired)),
        (&foreign, Some(&other)),
    ] {
        let text = sealed::seal(&credential(), public).unwrap();
        let reason = direct.admit(&start(2001), &text).err().map(|denied| denied.reason);
        assert_eq!(reason.is_some(), refusal.is_some(), "{reason:?}");
        assert!(reason.is_none_or(|reason| refusal.is_some_and(|refusal| reason.starts_with(refusal))));
    }
}

#[test]
fn nothing_is_sent_to_a_server_that_is_not_configured() {
    let (public, private) = keys::generate();
    let direct = direct(private);
    let text = sealed::seal(&JobCredential { server: "https://evil.example".into(), ..credential() }, &public).unwrap();
    assert!(direct.admit(&start(2001), &text).unwrap_err().reason.contains("does not name"));
    let charge = Charge { uid: 2001, purpose: Purpose::Token, job: None };
    let deadline = Deadline::after(Duration::from_secs(1));
    let failure = direct.access_token(&LeaseCredential::Sealed(text), None, "", charge, deadline).unwrap_err();
    assert!(!failure.temporary && failure.reason.contains("does not name"), "{failure:?}");
}

#[test]
fn only_a_refusal_of_the_token_ends_the_renewal() {
    let server = || "https://mt.example".to_owned();
    for (error, temporary) in [
        (Error::Server(ServerError::EmptyAccessToken { server: server() }), true),
        (Error::Server(ServerError::Rejected { server: server(), status: 404, code: "not found".into() }), true),
        (Error::Server(ServerError::Failed { server: server(), status: 500 }), true),
        (Error::Server(ServerError::TokenRefused { server: server() }), false),
        (Error::Server(ServerError::UsageRestricted { server: server() }), false),
        (Error::Server(ServerError::ProviderRefused { server: server(), code: "invalid_grant".into() }), false),
        (Error::Server(ServerError::OtherAccessToken { server: server(), what: "scope".into() }), false),
    ] {
        assert_eq!(failure(&error).temporary, temporary, "{error}");
    }
    let seven = Some(Duration::from_secs(7));
    assert_eq!(
        failure(&Error::Server(ServerError::TooManyRequests { server: server(), retry_after: seven })).retry_after,
        seven
    );
}

#[test]
fn a_token_lives_as_long_as_both_the_answer_and_its_text_say() {
    for (expires_in, exp, expected) in [
        (Some(600), Some(1_600), (599_750, 600)),
        (Some(600), Some(1_400), (399_750, 600)),
        (Some(600), Some(9_999), (600_000, 600)),
        (Some(600), None, (600_000, 600)),
        (Some(0), Some(1_600), (599_750, 600)),
        (None, Some(1_600), (599_750, 600)),
        (None, Some(900), (0, 0)),
        (Some(0), None, (UNKNOWN_LIFETIME * 1_000, UNKNOWN_LIFETIME)),
        (None, None, (UNKNOWN_LIFETIME * 1_000, UNKNOWN_LIFETIME)),
    ] {
        let (left, lifetime) = life(expires_in, exp, 1_000_250);
        assert_eq!((left, lifetime), (Duration::from_millis(expected.0), expected.1), "{expires_in:?} {exp:?}");
    }
}
