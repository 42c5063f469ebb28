// SPDX-License-Identifier: MIT OR Apache-2.0
//! The budget of requests: submissions and the agent share the limit that a host has at a mytoken server.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::Owner;
use mytoken::server::{AccessTokenRequest, Server, refuse_rotation};
use mytoken::{ScheduleClock, Secret};
use mytoken_wire::agent::{JobState, LoginNote, Permit, RenewalCredential, SessionPlace, SessionStart, StatusQuery};
use serde_json::json;

use mytokend::agent::budget::Budgets;
use mytokend::agent::budget::ledger::Purpose;
use mytokend::jobs::keys::PublicKey;
use mytokend::jobs::sealed::{JobCredential, seal};

use crate::harness::{AUDIENCE, SCOPE, TestSite, soon, unix_time};

/// A site with an agent and this limit in mytoken.toml.
fn limited(requests: u32, period: &str) -> TestSite {
    let mut site = TestSite::new(60);
    let file = site.config().join("mytoken.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}request_limit = {requests}\nrequest_period = '{period}'\n")).unwrap();
    site.log_in();
    site.begin_agent();
    // The discovery document is in the user's cache after the first one, which costs two requests.
    site.submit();
    site
}

#[test]
fn a_loop_ends_at_its_share_and_the_jobs_get_their_tokens() {
    let site = limited(20, "1h");
    let mut sealed = Vec::new();
    let refused = loop {
        let printed = site.submit_with(&["--profile", "default"]);
        match printed.line["sealed"].as_str() {
            Some(text) => sealed.push(text.to_owned()),
            None => break printed,
        }
    };
    // Of 20 requests 6 are kept, and two thirds of the others are a single user's.
    assert_eq!(sealed.len(), 8, "and the first one");
    let error = refused.line["error"].as_str().unwrap();
    assert!(
        error.starts_with("the site's budget of requests to the mytoken server \"t\" is used up for you until ")
            && error.ends_with("; submit again then, or put the loop into an array"),
        "{error}"
    );
    assert!(refused.took.as_secs() < 2, "nobody waits for an hour: {refused:?}");
    let requests = site.journal().len();
    assert!(!site.submit_with(&["--profile", "default", "--required"]).status.success());
    assert_eq!(site.journal().len(), requests, "without a permit nothing is sent");
    for (job, text) in (1..).zip(&sealed) {
        assert_eq!(site.start(job, Owner::current().uid, text).state, JobState::Ready, "job {job}");
    }
    let status = site.ask(&StatusQuery { job: None, all: true }).unwrap();
    let [budget] = &status.budgets[..] else { panic!("{status:?}") };
    let of = |kind: &str| budget.uses.iter().filter(|used| used.kind == kind).map(|used| used.requests).sum::<u32>();
    // The agent has asked for the discovery document, too.
    assert_eq!((budget.requests, budget.left, of("submission"), of("token")), (20, 1, 10, 9), "{budget:?}");
    // What a user tells beside his permits takes nothing that is kept for jobs.
    site.ask(&Permit { server: "t".into(), sent: 1_000, login: None }).unwrap();
    let (shown, _) = site.ctl(&["status", "--socket", site.socket().to_str().unwrap()]);
    assert!(shown.contains("1 left of 20 in 3600 s"), "{shown}");
}

#[test]
fn a_submission_waits_within_its_patience() {
    // Of three requests two are for a user alone, and the first submission has sent both. The deadline is 3 s.
    let site = limited(3, "1s");
    for _ in 0..4 {
        site.submit();
    }
    assert_eq!(site.ask(&Permit { server: "other".into(), sent: 0, login: None }).unwrap().wait, None);
}

#[test]
fn a_second_request_is_counted() {
    let site = limited(20, "1h");
    let sent = || {
        let budgets = site.ask(&StatusQuery { job: None, all: true }).unwrap().budgets;
        let uses = budgets[0].uses.iter().filter(|used| used.kind == "submission");
        uses.map(|used| used.requests).sum::<u32>()
    };
    let before = sent();
    // The deadline is 3 s.
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 2500, "endpoint": "mytoken", "times": 1}));
    site.submit();
    assert_eq!(sent() - before, 2);
}

/// A credential whose sub-token nobody has made.
fn forged(site: &TestSite, sealed: &str, number: u128) -> String {
    let id = format!("{number:032x}");
    let credential = JobCredential { sub_token: Secret::new("not.a.mytoken"), id, ..site.open(sealed) };
    let key = PublicKey::load(&site.config().join("keys/cluster.pub"), FileTrust::current()).unwrap();
    seal(&credential, &key).unwrap()
}

#[test]
fn forged_credentials_cost_their_users_share_also_over_a_restart() {
    let mut site = limited(30, "1h");
    let sealed = site.submit_with(&["--profile", "default"]).line["sealed"].as_str().unwrap().to_owned();
    let uid = Owner::current().uid;
    let left = |site: &TestSite| site.ask(&StatusQuery { job: None, all: true }).unwrap().budgets[0].left;
    for job in 1..=40 {
        let started = site.start(job, uid, &forged(&site, &sealed, u128::from(job)));
        assert_ne!(started.state, JobState::Ready);
        site.end(job);
    }
    let before = left(&site);
    assert!((9..20).contains(&before), "three tenths are kept, and {before} are left");
    // Killed, not ended.
    site.kill_agent();
    site.begin_agent();
    assert_eq!(left(&site), before);
    let requests = site.requests("access_token");
    let reason = site.start(41, uid, &forged(&site, &sealed, 41)).reason.unwrap();
    assert!(reason.starts_with("your share of this host's requests to "), "{reason}");
    assert_eq!(site.requests("access_token"), requests);
}

#[test]
fn the_requests_of_logins_are_counted_once() {
    let site = limited(20, "1h");
    let uid = Owner::current().uid;
    let logins = || {
        let uses = site.ask(&StatusQuery { job: None, all: true }).unwrap().budgets.remove(0).uses;
        let of_logins = uses.into_iter().filter(|used| used.kind == "login");
        of_logins.map(|used| (used.uid, used.requests)).collect::<Vec<_>>()
    };
    let note = |login, sent| site.ask(&Permit { server: "t".into(), sent, login: Some(login) }).unwrap();
    (0..8).for_each(|_| assert_eq!(note(LoginNote::Unverified {}, 1).wait, None));
    assert_eq!(logins(), [(None, 5)], "guesses take a quarter of the limit");
    note(LoginNote::Accepted { uid }, 2);
    assert_eq!(logins(), [(None, 3), (Some(uid), 2)]);

    let session = |session: &str, told| SessionStart {
        session: session.repeat(32),
        uid,
        gid: Owner::current().gid,
        pid: std::process::id(),
        renewal: Some(RenewalCredential {
            server: "t".into(),
            mytoken: Secret::new("a.b.c"),
            scope: "a".into(),
            audience: "b".into(),
        }),
        exp: unix_time() + 3_600,
        lifetime: 3_600,
        told,
        revoke_at_end: false,
        linger: false,
        retain: false,
        place: SessionPlace::Run,
    };
    site.ask(&session("a", true)).unwrap();
    assert_eq!(logins(), [(None, 3), (Some(uid), 2)], "its login has told it");
    // The module of an earlier release.
    site.ask(&session("b", false)).unwrap();
    assert_eq!(logins(), [(None, 3), (Some(uid), 3)]);
}

/// A clock that a test sets, in seconds.
#[derive(Default)]
struct SetClock(AtomicU64);

impl ScheduleClock for SetClock {
    fn unix_millis(&self) -> u64 {
        1_800_000_000_000
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

#[test]
fn after_a_granted_request_a_refusal_without_a_time_stops_the_host_for_two_seconds_again() {
    let site = TestSite::new(60);
    let mytoken = Secret::new(site.mytoken(&json!({}))["mytoken"].as_str().unwrap());
    let shared = Shared::load(&site.config(), FileTrust::current()).unwrap();
    let (url, clock) = (shared.server_url("t").unwrap(), Arc::new(SetClock::default()));
    let budgets = Budgets::new(Arc::clone(&clock) as Arc<dyn ScheduleClock>);
    budgets.configure(&shared).unwrap();
    let send = || {
        budgets.send((&url.to_string(), Purpose::Token, Some(7)), &shared.http_settings(), |http| {
            let request = AccessTokenRequest { mytoken: &mytoken, scope: SCOPE, audience: AUDIENCE, comment: "" };
            Server::discover(http, &url, soon())?.access_token(&request, &mut refuse_rotation, soon())
        })
    };
    // For how many seconds a refusal at this time stops the host.
    let refused = |at: u64| {
        clock.0.store(at, Ordering::SeqCst);
        site.control("/mytoken/fault", &json!({"name": "429", "endpoint": "access_token"}));
        assert!(send().is_err());
        site.control("/clear", &json!({}));
        budgets.wait("t", Purpose::Token, 7).unwrap_or_default().as_secs()
    };
    assert_eq!([refused(100), refused(103)], [2, 4]);
    clock.0.store(108, Ordering::SeqCst);
    send().unwrap();
    assert_eq!(refused(109), 2);
}
