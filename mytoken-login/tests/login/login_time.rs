// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login has one deadline for all that it does.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::fake::Reply;
use crate::fake::mytoken_server::MytokenServer;
use crate::support::{MYTOKEN_HEADER, NOW, NotAsked, TestKeys, issuer, mytoken};
use mytoken::cache::DiskCache;
use mytoken::http::{HttpSettings, LazyClient};
use mytoken::private_files::{Lock, Owner, lock};
use mytoken::server::AccessTokenRequest;
use mytoken::{Deadline, Secret, SystemClock};
use mytoken_login::budget::{Allowance, BudgetSettings, LedgerFile};
use mytoken_login::{
    AccountDatabase, AccountLookupFailed, Attempt, ConfiguredServer, Conversation, ConversationEnded, LoginContext,
    LoginSettings, Maps, Refusal, Remote, Report, ServerTokens, TokenService, authenticate,
};
use mytoken_wire::clock::FixedClock;
use serde_json::json;
use zeroize::Zeroizing;

const SERVER: &str = "https://mytoken.testbed";

/// A name service that takes some time.
struct SlowAccounts(Duration);

impl AccountDatabase for SlowAccounts {
    fn find(&self, _: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        std::thread::sleep(self.0);
        Ok(Some((2_001, 2_001)))
    }
}

/// A server that refuses each mytoken, and records the time of each request.
#[derive(Default)]
struct Times(RefCell<Vec<(&'static str, Duration)>>);

impl Times {
    fn add(&self, request: &'static str, deadline: Deadline) {
        self.0.borrow_mut().push((request, deadline.remaining().unwrap_or_default()));
    }
}

impl TokenService for Times {
    fn redeem(&self, _: &Secret, deadline: Deadline) -> Result<Secret, Refusal> {
        self.add("redeem", deadline);
        Ok(Secret::new(mytoken(MYTOKEN_HEADER, SERVER, &json!({}))))
    }

    fn exchange(&self, _: &AccessTokenRequest<'_>, _: bool, deadline: Deadline) -> Result<Secret, Refusal> {
        self.add("exchange", deadline);
        Err(Refusal::MytokenRefused)
    }

    fn revoke(&self, _: &Secret, deadline: Deadline) -> Result<(), Refusal> {
        self.add("revoke", deadline);
        Ok(())
    }
}

/// Somebody with this answer. It counts the prompts.
struct User(String, usize);

impl Conversation for User {
    fn ask(&mut self, _: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
        self.1 += 1;
        Ok(Zeroizing::new(self.0.clone().into_bytes()))
    }

    fn show(&mut self, _: &str) {}
}

/// A login with this answer and deadline: its report, the times of its requests, and the number of prompts.
fn log_in(answer: &str, deadline: &str, look_up: Duration) -> (Report, Vec<(&'static str, Duration)>, usize) {
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/login/settings/one-issuer.toml");
    let settings = format!("deadline = \"{deadline}\"\n{}", std::fs::read_to_string(settings).unwrap());
    let settings: LoginSettings = toml::from_str(&settings).unwrap();
    let (times, mut user) = (Times::default(), User(answer.to_owned(), 0));
    let context = LoginContext {
        settings: &settings,
        issuers: &[issuer("")],
        servers: &[ConfiguredServer { name: "testbed", url: SERVER, tokens: &times }],
        accounts: &SlowAccounts(look_up),
        maps: &Maps::default(),
        mappers: &NotAsked,
        keys: &TestKeys::default(),
        userinfo: &NotAsked,
        introspection: &NotAsked,
        used_tokens: None,
        link: None,
        clock: &FixedClock(NOW),
        began: Instant::now(),
    };
    let attempt = Attempt { service: "sshd".into(), user: "alice".into(), rhost: None, host: "login".into() };
    let report = authenticate(&attempt, &context, &mut user);
    (report, times.0.into_inner(), user.1)
}

#[test]
fn the_revocation_of_a_redeemed_mytoken_is_within_the_deadline() {
    let (report, times, _) = log_in("AbCdEfGh", "3000s", Duration::ZERO);
    assert!(report.revocation.is_some(), "{report:?}");
    let [("redeem", redeem), ("exchange", exchange), ("revoke", revoke)] = times[..] else { panic!("{times:?}") };
    let kept = Duration::from_secs(3_000 - 3);
    assert!(redeem < kept && exchange < kept, "the time of the revocation is reserved: {times:?}");
    assert!(redeem > kept - Duration::from_secs(60), "and not more: {times:?}");
    assert!(revoke <= Duration::from_secs(3), "{times:?}");
}

#[test]
fn a_short_deadline_leaves_most_of_its_time_to_the_requests() {
    let (_, times, _) = log_in("AbCdEfGh", "4s", Duration::ZERO);
    let [("redeem", redeem), _, ("revoke", revoke)] = times[..] else { panic!("{times:?}") };
    assert!(redeem > Duration::from_secs(1) && redeem <= Duration::from_secs(3), "{times:?}");
    assert!(revoke <= Duration::from_secs(3), "{times:?}");
}

#[test]
fn a_slow_look_up_counts_for_the_deadline() {
    let mytoken = mytoken(MYTOKEN_HEADER, SERVER, &json!({}));
    let (_, times, prompts) = log_in(&mytoken, "3000s", Duration::from_millis(1_500));
    let [("exchange", exchange)] = times[..] else { panic!("{times:?}") };
    assert!(exchange < Duration::from_millis(3_000_000 - 1_500), "{times:?}");
    assert_eq!(prompts, 1);
    let (report, times, prompts) = log_in(&mytoken, "1s", Duration::from_millis(1_100));
    assert_eq!((report.outcome.unwrap_err().reason(), times.len(), prompts), ("late", 0, 0), "not even a prompt");
}

/// Holds the lock of a directory, as a login does for a moment.
fn hold(directory: &Path) -> Lock {
    let handle = std::fs::File::open(directory).unwrap();
    lock(handle.into(), Deadline::after(Duration::from_secs(60)), Duration::from_millis(1)).unwrap()
}

/// Whoever holds the locks of ledger and cache for long delays no login beyond its deadline.
#[test]
fn locks_that_nobody_releases_delay_no_login_beyond_its_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let (cache_path, ledger_path) = (directory.path().join("cache"), directory.path().join("mytoken/login"));
    let silent = Reply { silence: Duration::from_secs(30), ..Reply::json(200, &json!({})) };
    let server = MytokenServer::always(silent);
    let http =
        HttpSettings { roots: crate::fake::mytoken_server::roots(), loopback_http: true, ..HttpSettings::default() };
    let settings = BudgetSettings::default();
    let (cache, ledger) =
        (DiskCache::new(&cache_path, Owner::current()), LedgerFile::new(&ledger_path, Owner::current()));
    let soon = || Deadline::after(Duration::from_secs(60));
    ledger.change(&settings, soon(), &mut |ledger, now| ledger.count(&Remote::of(None, None), now)).unwrap();
    cache.write("other", b"x").unwrap();
    // Held after the attempt for the discovery document is recorded.
    let (http, from) = (LazyClient::new(&http), Remote::of(None, Some("192.0.2.1")));
    let allowance = Allowance::new(Some(&ledger), &settings, from, Some("a 1"));
    let tokens = ServerTokens::new(server.url(), &http, Some(&cache), &SystemClock, &allowance);
    let begun = Instant::now();
    let took = std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            while !std::fs::read_dir(&cache_path)
                .unwrap()
                .any(|file| file.unwrap().file_name().to_str().is_some_and(|name| name.starts_with("server-")))
            {
                assert!(begun.elapsed() < Duration::from_secs(60), "no attempt");
                std::thread::sleep(Duration::from_millis(5));
            }
            let held = (hold(&cache_path), hold(&ledger_path));
            std::thread::sleep(Duration::from_secs(12));
            drop(held);
        });
        let deadline = Deadline::after(Duration::from_secs(4));
        let refusal = tokens.redeem(&Secret::new("AbCdEfGh"), deadline).unwrap_err();
        allowance.record_refusal(&refusal, deadline);
        let took = begun.elapsed();
        holder.join().unwrap();
        took
    });
    assert!(took >= Duration::from_secs(3), "it waited for the server: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}
