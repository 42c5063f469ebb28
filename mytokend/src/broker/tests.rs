// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker with a credential service and a slurmctld that a test plays.

use std::sync::atomic::{AtomicUsize, Ordering};

use mytoken::{Deadline, Secret, SystemClock};
use mytoken_wire::FileName;
use mytoken_wire::agent::{JobStart, RenewalCredential};

use super::messages::{EndAnswer, EndRequest, TokenAnswer, TokenOutcome, TokenRequest};
use super::*;
use crate::agent::credential_service::{Charge, Denied, IssuedToken, RequestFailure};
use crate::agent::lease::LeaseCredential;
use crate::agent::slurm::SqueueError;

mod connections;
mod day;
mod disk;
mod entrance;
mod expiry;
mod files;
mod foreign;
mod hanging_request;
mod kept;
mod leaders;
mod node_questions;
mod other_nodes;
mod places;
mod replaced;
mod revoked;
mod same_handle;
mod sizing;
mod slurmctld_away;
mod status;
mod stolen_certificates;
mod versions;

/// Sealed texts have the form `user:handle`, or `mt1.00000000.user-handle` where they must have that of real ones, with `@` and a number
/// behind it if the time counts at which they were made.
#[derive(Default)]
struct Fakes {
    /// Life of access tokens in seconds.
    life: u64,
    /// Time that the server takes for one.
    delay: Duration,
    /// Time that it takes for the first one beside that.
    hang: Duration,
    /// Time that slurmctld takes for an answer.
    thinking: Duration,
    opened: AtomicUsize,
    tokens: AtomicUsize,
    revocations: AtomicUsize,
    questions: AtomicUsize,
    squeue: Mutex<Option<String>>,
    /// The hosts on which all jobs were submitted.
    hosts: Mutex<BTreeSet<String>>,
    /// The sealed texts with which tokens were requested, and those that were revoked.
    asked: Mutex<Vec<String>>,
    revoked: Mutex<Vec<String>>,
    panics: std::sync::atomic::AtomicBool,
    /// The time of day at the mytoken server, Unix seconds.
    server_time: Mutex<Option<u64>>,
    /// Whether texts whose handles begin with "foreign" can be opened.
    has_key: std::sync::atomic::AtomicBool,
}

struct Of(Arc<Fakes>);

impl CredentialService for Of {
    fn admit(&self, start: &JobStart, sealed: &str) -> Result<Admitted, Denied> {
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        let body = sealed.rsplit('.').next().unwrap_or_default();
        let (user, handle) = body.split_once([':', '-']).unwrap_or_default();
        let denied = |reason: &str, is_final, has_retired_key| {
            Err(Denied { reason: reason.to_owned(), required: false, is_final, has_retired_key })
        };
        if user != start.uid.to_string() {
            return denied(&format!("made for user {user}"), true, false);
        }
        if handle.starts_with("expired") {
            return denied("the credential expired", true, false);
        }
        if handle.starts_with("retired") {
            return denied("its key was retired", false, true);
        }
        if handle.starts_with("foreign") && !self.0.has_key.load(Ordering::Relaxed) {
            return denied("sealed to another key", false, false);
        }
        Ok(Admitted {
            profile: "data".into(),
            handle: handle.into(),
            required: handle.starts_with("required"),
            made: handle.split_once('@').map_or(0, |(_, made)| made.parse().unwrap()),
            exp: u64::MAX,
            windows: Vec::new(),
            start_windows: Vec::new(),
            submitted: handle.starts_with("shared").then_some((990, 1_010)),
            followed: false,
            lane: "https://mytoken https://provider".into(),
            limited_uses: false,
            description: String::new(),
            files: files::of(handle),
            is_provisional: false,
        })
    }

    fn admit_expired(&self, start: &JobStart, sealed: &str) -> Option<Admitted> {
        let admitted = self.admit(start, &sealed.replacen("expired", "past", 1)).ok()?;
        Some(Admitted { handle: admitted.handle.replacen("past", "expired", 1), ..admitted })
    }

    fn access_token(
        &self,
        credential: &LeaseCredential,
        _file: Option<&FileName>,
        _comment: &str,
        _charge: Charge,
        _deadline: Deadline,
    ) -> Result<IssuedToken, RequestFailure> {
        let number = self.0.tokens.fetch_add(1, Ordering::Relaxed);
        self.0.asked.lock().unwrap().push(text_of(credential));
        std::thread::sleep(self.0.delay + if number == 0 { self.0.hang } else { Duration::ZERO });
        let life = self.0.life;
        Ok(IssuedToken {
            token: Secret::new(format!("token-{number}")),
            left: Duration::from_secs(life),
            lifetime: life,
        })
    }

    fn lane_of(&self, _renewal: &RenewalCredential) -> String {
        String::new()
    }

    fn knows_server(&self, _name: &str) -> bool {
        true
    }

    fn revoke(&self, credential: &LeaseCredential, _charge: Charge, _deadline: Deadline) -> Result<(), RequestFailure> {
        self.0.revocations.fetch_add(1, Ordering::Relaxed);
        self.0.revoked.lock().unwrap().push(text_of(credential));
        Ok(())
    }

    fn server_time(&self, server: &str) -> Option<u64> {
        self.0.server_time.lock().unwrap().filter(|_| server == "https://mytoken")
    }

    fn earliest_server_time(&self) -> Option<u64> {
        *self.0.server_time.lock().unwrap()
    }

    fn key_ids(&self) -> Vec<String> {
        vec!["0a1b2c3d".to_owned()]
    }
}

impl ClusterController for Of {
    fn all_jobs(&self) -> Result<String, SqueueError> {
        assert!(!self.0.panics.swap(false, Ordering::Relaxed), "a test wants it");
        self.0.questions.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.0.thinking);
        let printed = self.0.squeue.lock().unwrap().clone();
        printed.ok_or_else(|| SqueueError::Failed("slurmctld is away".into()))
    }

    fn time_of_day(&self) -> Option<u64> {
        None
    }

    fn submit_hosts(&self, _job: u32) -> Result<BTreeSet<String>, SqueueError> {
        Ok(self.0.hosts.lock().unwrap().clone())
    }
}

fn text_of(credential: &LeaseCredential) -> String {
    if let LeaseCredential::Sealed(text) = credential { text.clone() } else { String::new() }
}

struct TestBroker {
    fakes: Arc<Fakes>,
    broker: Arc<Broker>,
    threads: Option<Threads>,
    runtime: tokio::runtime::Runtime,
}

impl TestBroker {
    fn new(squeue: &str) -> Self {
        let fakes = Fakes { life: 100, delay: Duration::from_millis(50), ..Fakes::default() };
        Self::with(Fakes { squeue: Mutex::new(Some(squeue.to_owned())), ..fakes }, Arc::new(SystemClock))
    }

    fn with(fakes: Fakes, clock: Arc<dyn ScheduleClock>) -> Self {
        Self::with_log(fakes, clock, Log::stderr("broker"))
    }

    fn with_log(fakes: Fakes, clock: Arc<dyn ScheduleClock>, log: Log) -> Self {
        let fakes = Arc::new(fakes);
        let (service, controller) = (Arc::new(Of(Arc::clone(&fakes))), Box::new(Of(Arc::clone(&fakes))));
        let broker = Broker::new(service, controller, clock, Arc::new(log));
        let threads = Some(Threads::start(&broker).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { fakes, broker, threads, runtime }
    }

    fn prints(&self, squeue: Option<&str>) {
        *self.fakes.squeue.lock().unwrap() = squeue.map(str::to_owned);
    }

    /// The token of a job, or the reason why there is none.
    fn token(&self, node: &str, job: u32, uid: u32, sealed: &str) -> Result<String, String> {
        let request = TokenRequest { job, uid, sealed: sealed.to_owned(), file: None, patience: 20_000 };
        said(self.runtime.block_on(self.broker.token(node, &request))?)
    }

    /// An answer of slurmctld to a question from now on.
    fn ask_slurmctld(&self) {
        self.runtime.block_on(self.broker.questions.after(self.broker.clock.elapsed()));
    }

    fn end(&self, job: u32, sealed: &str) -> EndAnswer {
        self.try_to_end(job, sealed).unwrap()
    }

    fn try_to_end(&self, job: u32, sealed: &str) -> Result<EndAnswer, String> {
        self.runtime.block_on(self.broker.end("n1", &EndRequest { job, uid: 7, sealed: sealed.to_owned() }))
    }

    fn counts(&self) -> (usize, usize) {
        (self.fakes.tokens.load(Ordering::Relaxed), self.fakes.revocations.load(Ordering::Relaxed))
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: {:?}", self.counts());
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
    }
}

fn said(answer: TokenAnswer) -> Result<String, String> {
    match answer.outcome {
        TokenOutcome::Token { token, .. } => Ok(token.expose().to_owned()),
        TokenOutcome::Later { reason, .. } => Err(format!("later: {reason}")),
        TokenOutcome::Refused { reason, .. } => Err(format!("refused: {reason}")),
    }
}

const RUNNING: &str = "7|1000|1|1|RUNNING|1000|N/A|n[1-9]|n1\n7|1000|2|2|RUNNING|1000|N/A|n1|n1\n";
const ENDED: &str = "7|1000|1|1|COMPLETED|1000|1100|n[1-9]|n1\n7|1000|2|2|RUNNING|1000|N/A|n1|n1\n";
/// The same without job 2, which may have any credential that no node has asked for.
const ALL_ENDED: &str = "7|1000|1|1|COMPLETED|1000|1100|n[1-9]|n1\n";

#[test]
fn all_nodes_of_a_submission_get_one_token_with_one_request() {
    let test = TestBroker::new(RUNNING);
    let request = |_| TokenRequest { job: 1, uid: 7, sealed: "7:a".into(), file: None, patience: 20_000 };
    let requests: Vec<TokenRequest> = (1..10).map(request).collect();
    let nodes: Vec<String> = (1..10).map(|number| format!("n{number}")).collect();
    let answers = test.runtime.block_on(async {
        let mut asked = Vec::new();
        for (node, request) in nodes.iter().zip(&requests) {
            let (broker, node, request) = (Arc::clone(&test.broker), node.clone(), request.clone());
            asked.push(tokio::spawn(async move { said(broker.token(&node, &request).await.unwrap()) }));
        }
        let mut answers = Vec::new();
        for answer in asked {
            answers.push(answer.await.unwrap());
        }
        answers
    });
    assert_eq!(answers, vec![Ok("token-0".to_owned()); 9]);
    assert_eq!(test.counts(), (1, 0));
    let opened = || test.fakes.opened.load(Ordering::Relaxed);
    assert_eq!(opened(), 1, "all bring the same text");
    test.broker.configure(Arc::new(Of(Arc::clone(&test.fakes))));
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()));
    assert_eq!(opened(), 2, "the keys may be others");
    // Who comes while slurmctld is being asked shares the next answer.
    assert!(test.fakes.questions.load(Ordering::Relaxed) <= 2, "slurmctld is asked for several at once");
}

#[test]
fn who_comes_while_slurmctld_is_asked_shares_that_answer() {
    let fakes = Fakes { life: 100, thinking: Duration::from_millis(800), ..Fakes::default() };
    let fakes = Fakes { squeue: Mutex::new(Some(RUNNING.to_owned())), ..fakes };
    let test = TestBroker::with(fakes, Arc::new(SystemClock));
    let ask = |node: &'static str| {
        let broker = Arc::clone(&test.broker);
        let request = TokenRequest { job: 1, uid: 7, sealed: "7:a".into(), file: None, patience: 20_000 };
        test.runtime.spawn(async move { said(broker.token(node, &request).await.unwrap()) })
    };
    let first = ask("n1");
    test.runtime.block_on(async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let second = ask("n2");
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok("token-0".into()), Ok("token-0".into())));
    });
    assert_eq!(test.fakes.questions.load(Ordering::Relaxed), 1);
}

#[test]
fn a_copy_another_node_and_another_user_get_nothing() {
    let test = TestBroker::new(RUNNING);
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()));
    let refused = |node: &str, job, uid, sealed: &str| test.token(node, job, uid, sealed).unwrap_err();
    assert!(refused("n1", 2, 7, "7:a").starts_with("refused: the credential belongs to job 1"));
    assert!(refused("x1", 1, 7, "7:a").starts_with("later: slurmctld says that job 1 does not run on x1"));
    assert!(refused("n1", 1, 8, "7:a").starts_with("refused: made for user 7"));
    assert!(refused("n1", 1, 8, "8:a").starts_with("refused: job 1 belongs to another user"));
    assert!(refused("n1", 99, 7, "7:b").starts_with("later: slurmctld knows no job 99"));
    assert_eq!(test.counts().0, 1);
    assert_eq!(test.broker.state().submissions.len(), 1, "who is refused leaves nothing");
}

#[test]
fn the_sub_token_is_revoked_once_after_the_last_job() {
    let test = TestBroker::new(RUNNING);
    test.token("n1", 1, 7, "7:a").unwrap();
    assert!(matches!(test.end(1, "7:a"), EndAnswer::Waits { .. }));
    test.ask_slurmctld();
    assert_eq!(test.counts(), (1, 0));
    test.prints(Some(ENDED));
    test.ask_slurmctld();
    test.until("a revocation", || test.counts() == (1, 1));
    test.until("the end", || test.end(1, "7:a") == EndAnswer::Settled {});
    test.ask_slurmctld();
    assert_eq!(test.counts(), (1, 1));
    assert!(
        test.token("n1", 1, 7, "7:a")
            .is_err_and(|reason| reason.starts_with("later: slurmctld says that job 1 does not run"))
    );
}

#[test]
fn a_broker_that_starts_anew_learns_of_an_end_from_a_node() {
    let test = TestBroker::new(RUNNING);
    test.ask_slurmctld();
    assert!(matches!(test.end(1, "7:a"), EndAnswer::Waits { .. }));
    test.prints(Some(ALL_ENDED));
    test.ask_slurmctld();
    test.until("a revocation", || test.counts() == (0, 1));
}

#[test]
fn an_internal_error_in_a_question_ends_no_thread() {
    let test = TestBroker::new(RUNNING);
    test.fakes.panics.store(true, Ordering::Relaxed);
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()));
    assert!(!test.fakes.panics.load(Ordering::Relaxed));
}

#[test]
fn the_start_of_a_run_is_not_that_of_the_run_before() {
    let test = TestBroker::new(RUNNING);
    let start = |node: &str| test.runtime.block_on(test.broker.start(node, 1)).map(|answer| answer.started);
    assert_eq!(start("n1"), Ok(Some(1000)));
    test.prints(Some(&RUNNING.replace("7|1000|1|1|", "7|1700|1|1|")));
    assert_eq!(start("n1"), Ok(Some(1700)), "it was requeued");
    assert_eq!(start("x1"), Ok(None), "a node that does not have it is not told");
    test.prints(None);
    assert_eq!(start("n1"), Err("slurmctld does not answer the broker".to_owned()));
}

#[test]
fn a_broker_that_starts_after_the_end_revokes_after_one_question() {
    let test = TestBroker::new(ALL_ENDED);
    assert!(matches!(test.end(1, "7:a"), EndAnswer::Waits { .. }));
    assert_eq!(test.fakes.questions.load(Ordering::Relaxed), 1, "the node's word is not enough");
    test.ask_slurmctld();
    test.until("a revocation", || test.counts() == (0, 1));
    // Job 2 was not on this node.
    test.prints(Some(ENDED));
    let other = test.runtime.block_on(test.broker.end("n9", &EndRequest { job: 2, uid: 7, sealed: "7:b".to_owned() }));
    assert!(matches!(other, Ok(EndAnswer::Waits { .. })));
    let key = SubmissionKey::new(7, "b", "7:b");
    assert!(test.broker.state().submissions[&key].binding.leaders.is_empty());
}
