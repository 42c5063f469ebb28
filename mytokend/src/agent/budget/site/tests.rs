// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of hosts that ask brokers for permits.

use std::sync::atomic::{AtomicUsize, Ordering};

use mytoken::config::Shared;
use mytoken::http::RequestLimit;

use super::super::Budgets;
use super::super::ledger::Purpose;
use super::super::report::{HostReport, ReportedUse};
use super::*;
use crate::broker::messages::NOBODY;

/// Gives the same answer to all, and counts them.
struct Brokers(Option<SitePermit>, AtomicUsize);

impl SitePermits for Arc<Brokers> {
    fn permit(&self, _request: &PermitRequest) -> Option<SitePermit> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0
    }
}

fn request(server: &str) -> PermitRequest {
    PermitRequest::new(server, Purpose::Submission, 7)
}

fn budget(answer: Option<SitePermit>) -> (SiteBudget, Arc<Brokers>) {
    let (budget, brokers) = (SiteBudget::default(), Arc::new(Brokers(answer, AtomicUsize::new(0))));
    budget.set(Some(Arc::new(Arc::clone(&brokers))));
    (budget, brokers)
}

fn ask(budget: &SiteBudget, second: u64) -> Option<SitePermit> {
    budget.ask(&request("https://mytoken"), || Duration::from_secs(second))
}

#[test]
fn each_request_asks_for_a_permit() {
    let wait = SitePermit::wait(5000, UsedUp::User);
    for answer in [SitePermit::Granted {}, wait] {
        let (budget, brokers) = budget(Some(answer));
        assert_eq!([ask(&budget, 1), ask(&budget, 1)], [Some(answer); 2]);
        assert_eq!(brokers.1.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn brokers_that_are_away_are_asked_again_after_a_pause() {
    let (budget, brokers) = budget(None);
    assert_eq!([1, 2, 30].map(|second| ask(&budget, second)), [None; 3]);
    assert_eq!(brokers.1.load(Ordering::Relaxed), 1);
    ask(&budget, 31);
    assert_eq!(brokers.1.load(Ordering::Relaxed), 2);
}

#[test]
fn a_server_without_a_limit_needs_no_permits() {
    let (budget, brokers) = budget(Some(SitePermit::Unlimited {}));
    assert_eq!([1, 2, 60].map(|second| ask(&budget, second)), [None; 3]);
    assert_eq!(brokers.1.load(Ordering::Relaxed), 1);
    ask(&budget, 61);
    assert_eq!(brokers.1.load(Ordering::Relaxed), 2);
    budget.ask(&request("https://other"), || Duration::from_secs(61));
    assert_eq!(brokers.1.load(Ordering::Relaxed), 3);
}

/// Budgets of a host with one server, and its URL.
fn host() -> (Arc<Budgets>, String) {
    let shared = "[[server]]\nname = 'm'\nurl = 'https://mytoken.example'\nrequest_limit = 100\n";
    let shared: Shared = toml::from_str(shared).unwrap();
    let budgets = Arc::new(Budgets::new(Arc::new(mytoken::SystemClock)));
    budgets.configure(&shared).unwrap();
    (budgets, shared.server_url("m").unwrap().to_string())
}

/// The server refuses a request of this host for 200 s.
fn refuse(budgets: &Budgets, url: &str) {
    budgets.with(url, |found, now| found.ledger.refused(Some(Duration::from_secs(200)), now));
}

#[test]
fn a_permit_of_the_brokers_sends_nothing_to_a_server_that_refuses_this_host() {
    let (budgets, url) = host();
    let (_, brokers) = budget(Some(SitePermit::Granted {}));
    budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
    budgets.submission("m", 7).unwrap();
    refuse(&budgets, &url);
    let (wait, used_up) = budgets.submission("m", 7).unwrap_err();
    assert!((190..=300).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(used_up, UsedUp::Host);
    assert_eq!(brokers.1.load(Ordering::Relaxed), 1, "no permit is taken for what is not sent");
}

#[test]
fn a_permit_of_the_brokers_is_not_used_when_the_server_has_told_that_little_is_left() {
    let (budgets, url) = host();
    let (_, brokers) = budget(Some(SitePermit::Granted {}));
    budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
    // Of the last three tenths, submissions are assured of a tenth of the limit.
    (0..10).for_each(|uid| budgets.count(&url, Purpose::Submission, Some(uid)));
    let told = RequestLimit { requests: 100, left: 20, reset: Some(Duration::from_secs(200)) };
    budgets.with(&url, |found, now| found.ledger.learn(told, now));
    assert!(budgets.submission("m", 77).is_err(), "they are for running jobs");
    assert_eq!(brokers.1.load(Ordering::Relaxed), 0);
    let of_job = budgets.with(&url, |found, now| found.refused_by_server(Purpose::Token, Some(77), now));
    assert_eq!(of_job, Some(None), "which get it");
}

/// Grants everything. Meanwhile the server refuses a request of this host.
struct RefusedMeanwhile(Arc<Budgets>, String);

impl SitePermits for RefusedMeanwhile {
    fn permit(&self, _request: &PermitRequest) -> Option<SitePermit> {
        refuse(&self.0, &self.1);
        Some(SitePermit::Granted {})
    }
}

#[test]
fn a_refusal_that_comes_during_the_question_counts() {
    let (budgets, url) = host();
    budgets.set_site(Some(Arc::new(RefusedMeanwhile(Arc::clone(&budgets), url))));
    let (wait, _) = budgets.submission("m", 7).unwrap_err();
    assert!((190..=300).contains(&wait.as_secs()), "{wait:?}");
}

/// Keeps what it is told, and answers so.
struct Hearing(Mutex<Option<SitePermit>>, Mutex<Vec<PermitRequest>>);

impl Hearing {
    /// What it was told since the last question.
    fn heard(&self) -> Vec<PermitRequest> {
        std::mem::take(&mut *self.1.lock().unwrap())
    }
}

impl SitePermits for Arc<Hearing> {
    fn permit(&self, request: &PermitRequest) -> Option<SitePermit> {
        self.1.lock().unwrap().push(request.clone());
        *self.0.lock().unwrap()
    }
}

#[test]
fn what_is_sent_without_a_permit_is_told_with_the_next_question_until_it_is_answered() {
    let (budgets, url) = host();
    let brokers = Arc::new(Hearing(Mutex::new(None), Mutex::default()));
    budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
    let reports = || brokers.heard().into_iter().map(|request| request.report).collect::<Vec<_>>();
    // No broker answers: it goes by its own budget, and asks none for a while.
    budgets.submission("m", 7).unwrap();
    budgets.submission("m", 7).unwrap();
    budgets.submission("m", 8).unwrap();
    budgets.submission_sent("m", 8, 1);
    assert_eq!(reports(), [HostReport::default()]);
    *brokers.0.lock().unwrap() = Some(SitePermit::Granted {});
    budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
    let told = RequestLimit { requests: 100, left: 60, reset: Some(Duration::from_secs(200)) };
    budgets.with(&url, |found, now| found.ledger.learn(told, now));
    budgets.submission("m", 7).unwrap();
    let [report] = &reports()[..] else { panic!("one question") };
    let used = |uid, requests| ReportedUse { purpose: Purpose::Submission, uid: Some(uid), requests };
    assert_eq!(report.sent, [used(7, 2), used(8, 2)]);
    let rest = report.told.unwrap();
    assert!((rest.left, rest.of) == (60, 100) && (190_000..=202_000).contains(&rest.ends), "{rest:?}");
    budgets.submission("m", 7).unwrap();
    assert!(reports()[0].sent.is_empty(), "they are told once");
}

/// It is one server with one limit, whatever it is called.
#[test]
fn a_url_that_is_there_twice_keeps_its_counts_over_a_reload() {
    let server =
        |name: &str| format!("[[server]]\nname = '{name}'\nurl = 'https://mytoken.example'\nrequest_limit = 100\n");
    let shared = toml::from_str::<Shared>(&(server("a") + &server("b"))).unwrap();
    let budgets = Budgets::new(Arc::new(mytoken::SystemClock));
    budgets.configure(&shared).unwrap();
    let left = || budgets.status(None).iter().map(|status| status.left).collect::<Vec<_>>();
    (0..5).for_each(|_| budgets.submission("b", 7).unwrap());
    let before = left();
    assert_eq!(before.len(), 1);
    budgets.configure(&shared).unwrap();
    assert_eq!(left(), before);
}

#[test]
fn a_user_who_says_that_he_has_sent_requests_is_heard_once_for_each_permit_and_within_his_share() {
    for limit in ["request_limit = 100\nrequest_period = '300s'", ""] {
        let shared = format!("[[server]]\nname = 'm'\nurl = 'https://mytoken.example'\n{limit}\n");
        let budgets = Budgets::new(Arc::new(mytoken::SystemClock));
        budgets.configure(&toml::from_str::<Shared>(&shared).unwrap()).unwrap();
        let brokers = Arc::new(Hearing(Mutex::new(Some(SitePermit::Granted {})), Mutex::default()));
        budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
        let sent = || {
            let sent = |used: ReportedUse| (used.uid == Some(7)).then_some(used.requests);
            budgets.submission("m", 8).unwrap();
            let [request] = &brokers.heard()[..] else { panic!("one question") };
            request.report.sent.iter().copied().filter_map(sent).sum::<u32>()
        };
        (0..12).for_each(|_| budgets.submission_sent("m", 7, 8));
        assert_eq!(sent(), 0, "he had no permit");
        budgets.submission("m", 7).unwrap();
        brokers.heard();
        (0..12).for_each(|_| budgets.submission_sent("m", 7, 8));
        assert_eq!(sent(), 8, "he is heard once");
        budgets.submission_sent("m", 7, 8);
        assert_eq!(sent(), 0, "the permit of another user is not his");
    }
    let (budgets, _) = host();
    (0..8).for_each(|_| budgets.submission("m", 7).unwrap());
    (0..8).for_each(|_| budgets.submission_sent("m", 7, 8));
    assert_eq!(budgets.status(None)[0].left, 53, "his share");
    budgets.submission("m", 8).unwrap();
}

#[test]
fn each_request_of_a_login_is_told_before_anybody_is_verified() {
    let (budgets, url) = host();
    let brokers = Arc::new(Hearing(Mutex::new(Some(SitePermit::Granted {})), Mutex::default()));
    budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
    let login = |uid| PermitRequest::new(&url, Purpose::Login, uid);
    budgets.login_sends(&url, 1);
    budgets.login_sends("m", 1);
    assert_eq!(brokers.heard(), [login(NOBODY), login(NOBODY)]);
    budgets.login_accepted(&url, 7, 2);
    assert_eq!(brokers.heard(), [PermitRequest { accepted: 2, ..login(7) }]);
    budgets.login_sends("unknown", 1);
    assert_eq!(brokers.heard(), []);
    let logins = || {
        let uses = budgets.status(None).remove(0).uses;
        uses.into_iter().map(|used| (used.kind, used.uid, used.requests)).collect::<Vec<_>>()
    };
    assert_eq!(logins(), [("login".to_owned(), Some(7), 2)]);

    // No broker answers. Both are told later, for their user.
    *brokers.0.lock().unwrap() = None;
    budgets.login_sends(&url, 2);
    budgets.login_accepted(&url, 8, 2);
    *brokers.0.lock().unwrap() = Some(SitePermit::Granted {});
    brokers.heard();
    budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
    budgets.submission("m", 9).unwrap();
    let used = ReportedUse { purpose: Purpose::Login, uid: Some(8), requests: 2 };
    assert_eq!(brokers.heard()[0].report.sent, [used]);
}

#[test]
fn what_has_no_room_in_a_report_is_told_in_the_next_one() {
    let (budgets, url) = host();
    let brokers = Arc::new(Hearing(Mutex::new(Some(SitePermit::Granted {})), Mutex::default()));
    budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
    budgets.with(&url, |found, now| {
        (1..=150).chain(1..=150).for_each(|uid| found.sent_beyond(Purpose::Token, Some(uid), now));
    });
    let report = || {
        budgets.submission("m", 7).unwrap();
        brokers.heard().remove(0).report.sent
    };
    let (first, second) = (report(), report());
    assert_eq!((first.len(), second.len()), (HostReport::MOST_USES, 50));
    assert!(first.iter().chain(&second).all(|used| used.requests == 2), "{first:?} {second:?}");
    assert_eq!(report(), []);
}

#[test]
fn the_requests_of_an_accepted_login_are_told_once_also_when_brokers_come_back_meanwhile() {
    let (budgets, url) = host();
    let brokers = Arc::new(Hearing(Mutex::new(Some(SitePermit::Granted {})), Mutex::default()));
    let set = |answer| {
        *brokers.0.lock().unwrap() = answer;
        budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
    };
    let used = |uid, requests| ReportedUse { purpose: Purpose::Login, uid: Some(uid), requests };
    for (heard, unheard) in [(1, 1), (0, 2)] {
        set(Some(SitePermit::Granted {}));
        budgets.login_sends(&url, heard);
        set(None);
        budgets.login_sends(&url, unheard);
        set(Some(SitePermit::Granted {}));
        brokers.heard();
        budgets.login_accepted(&url, 7, 2);
        budgets.submission("m", 9).unwrap();
        let told = brokers.heard();
        let accepted: Vec<_> = told.iter().map(|request| request.accepted).filter(|count| *count > 0).collect();
        assert_eq!(accepted, if heard > 0 { vec![heard] } else { Vec::new() }, "{told:?}");
        let reported: Vec<_> = told.into_iter().flat_map(|request| request.report.sent).collect();
        assert_eq!(reported, [used(7, unheard)]);
    }
}

#[test]
fn without_brokers_nobody_is_asked() {
    let (budget, brokers) = budget(Some(SitePermit::Granted {}));
    budget.set(None);
    assert_eq!(ask(&budget, 1), None);
    assert_eq!(brokers.1.load(Ordering::Relaxed), 0);
}
