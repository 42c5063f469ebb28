// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of what hosts get of the site's budget.

use std::sync::Arc;

use mytoken::SystemClock;
use mytoken::config::Shared;

use super::*;

/// Budgets with one server, and its URL.
fn budgets(limit: &str) -> (Budgets, String) {
    let text = format!("[[server]]\nname = 'm'\nurl = 'https://mytoken.example'\n{limit}\n");
    let shared = toml::from_str::<Shared>(&text).unwrap();
    let budgets = Budgets::new(Arc::new(SystemClock));
    budgets.configure(&shared).unwrap();
    (budgets, shared.server_url("m").unwrap().to_string())
}

#[test]
fn hosts_share_the_budget_and_none_gets_all_of_it() {
    let (budgets, server) = budgets("request_limit = 40\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let ask = |host: &str, purpose, uid, now| permits.give(&budgets, host, (&server, purpose, uid), now);
    let had = (0..40).filter(|_| ask("login1", Purpose::Token, 7, 1) == SitePermit::Granted {}).count();
    assert_eq!(had, 36, "nine tenths of the limit");
    let wait = SitePermit::wait(300_000, UsedUp::Host);
    assert_eq!(ask("login1", Purpose::Token, 7, 1), wait, "it waits for the end of the period");
    assert_eq!(ask("n1", Purpose::Token, 8, 2), SitePermit::Granted {});
}

#[test]
fn a_loop_on_the_only_submit_host_stops_neither_other_users_nor_sessions() {
    const ALICE: u32 = 2001;
    const BOB: u32 = 2002;
    const CAROL: u32 = 2003;
    const DAVE: u32 = 2004;
    let (budgets, server) = budgets("request_limit = 100\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let ask = |host: &str, purpose, uid, now| permits.give(&budgets, host, (&server, purpose, uid), now);
    let submits = |host: &str, uid, now| {
        (0..100).filter(|_| ask(host, Purpose::Submission, uid, now) == SitePermit::Granted {}).count()
    };
    assert_eq!(submits("login1", ALICE, 1), 47, "her share");
    for _ in 0..3 {
        let _ = permits.note_login(&budgets, "login1", (&server, ALICE, 0), 2);
    }
    // The host has had half of the limit.
    let of_bob = submits("login1", BOB, 3);
    assert!(of_bob >= 10, "{of_bob}");
    assert!(matches!(ask("login1", Purpose::Submission, BOB, 3), SitePermit::Wait { only_his: true, .. }));
    assert_eq!(ask("login1", Purpose::Token, CAROL, 4), SitePermit::Granted {}, "her session is renewed");
    assert_eq!(ask("login1", Purpose::Revocation, CAROL, 4), SitePermit::Granted {});

    // Another host wants to submit. What is left is its, and sessions go on.
    assert_eq!(ask("login2", Purpose::Submission, DAVE, 5), SitePermit::Granted {});
    let SitePermit::Wait { wait, only_his, this_host } = ask("login1", Purpose::Submission, CAROL, 5) else {
        panic!("it has had its half")
    };
    assert_eq!((wait, only_his, this_host), (299_996, false, true));
    assert_eq!(ask("login1", Purpose::Token, CAROL, 5), SitePermit::Granted {});
    assert_eq!(ask("login2", Purpose::Submission, DAVE, 5), SitePermit::Granted {});
}

#[test]
fn what_is_used_up_for_all_is_not_called_the_users_or_the_hosts() {
    let (budgets, server) = budgets("request_limit = 20\nrequest_period = '300s'");
    let permits = HostPermits::default();
    for host in ["n1", "n2", "n3"] {
        for _ in 0..9 {
            let _ = permits.note_login(&budgets, host, (&server, 9, 0), 1);
        }
    }
    let wait = permits.give(&budgets, "n4", (&server, Purpose::Token, 7), 2);
    assert!(matches!(wait, SitePermit::Wait { only_his: false, this_host: false, .. }), "{wait:?}");
}

#[test]
fn logins_that_a_host_tells_of_take_no_more_than_its_part() {
    let (budgets, server) = budgets("request_limit = 40\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let login = |host: &str, now| permits.note_login(&budgets, host, (&server, 9, 0), now);
    let token = |host: &str, now| permits.give(&budgets, host, (&server, Purpose::Token, 7), now);
    let noted: Vec<_> = (0..100).map(|_| login("n1", 1)).collect();
    assert!(noted.iter().all(|(permit, _)| *permit == SitePermit::Granted {}), "a login never waits");
    let told: Vec<usize> = (0..100).filter(|at| noted[*at].1).collect();
    assert_eq!(told, [20], "the first one beyond its part is logged");
    assert_eq!(token("n1", 2), SitePermit::Granted {}, "its sessions go on");
    let had = (0..40).filter(|_| token("n2", 2) == SitePermit::Granted {}).count();
    assert!(had >= 17, "{had}: one user gets all but the last twentieth of what the others have");
    assert_eq!(login("n1", 300_000), (SitePermit::Granted {}, false), "once in a period");
    assert_eq!((0..100).filter(|_| login("n1", 300_001).1).count(), 1, "in the next one again");
}

#[test]
fn a_login_counts_for_the_site_and_for_its_host() {
    let (budgets, server) = budgets("request_limit = 40\nrequest_period = '300s'");
    let permits = HostPermits::default();
    assert_eq!(permits.note_login(&budgets, "n1", (&server, 9, 0), 1), (SitePermit::Granted {}, false));
    assert_eq!(budgets.status(None)[0].left, 39);
    let token = || permits.give(&budgets, "n1", (&server, Purpose::Token, 7), 1);
    assert_eq!((0..40).filter(|_| token() == SitePermit::Granted {}).count(), 35, "it is one of its requests");
}

#[test]
fn a_server_with_a_short_period_shortens_no_other_one() {
    let text = "[[server]]\nname = 'a'\nurl = 'https://a.example'\nrequest_limit = 4\nrequest_period = '300s'\n\
        [[server]]\nname = 'b'\nurl = 'https://b.example'\nrequest_limit = 4\nrequest_period = '1s'\n";
    let shared = toml::from_str::<Shared>(text).unwrap();
    let budgets = Budgets::new(Arc::new(SystemClock));
    budgets.configure(&shared).unwrap();
    let url = |name: &str| shared.server_url(name).unwrap().to_string();
    let permits = HostPermits::default();
    let ask = |name: &str, now| permits.give(&budgets, "n1", (&url(name), Purpose::Token, 7), now);
    assert_eq!([ask("a", 1), ask("a", 1), ask("a", 1), ask("b", 1)], [SitePermit::Granted {}; 4]);
    assert_eq!(ask("b", 2000), SitePermit::Granted {});
    assert_eq!(ask("a", 2000), SitePermit::wait(298_001, UsedUp::Host), "it has had its part");
}

#[test]
fn before_a_server_has_answered_hosts_share_the_usual_limit() {
    let shared = toml::from_str::<Shared>("[[server]]\nname = 'm'\nurl = 'https://mytoken.example'\n").unwrap();
    let budgets = Budgets::new(Arc::new(SystemClock)).assuming();
    budgets.configure(&shared).unwrap();
    let server = shared.server_url("m").unwrap().to_string();
    let permits = HostPermits::default();
    let ask = |host: &str, uid| permits.give(&budgets, host, (&server, Purpose::Submission, uid), 1);
    assert_eq!(ask("login2", 100), SitePermit::Granted {});
    let had = (0..80).filter(|uid| ask("login1", *uid) == SitePermit::Granted {}).count();
    assert_eq!(had, 50, "half of it");
    assert_eq!(ask("login1", 99), SitePermit::wait(ASSUMED_WAIT, UsedUp::Host));
    assert_eq!(ask("login2", 101), SitePermit::Granted {});
    assert!(budgets.must_ask(&server) && !budgets.must_ask(&server), "it is asked once");
    assert!(budgets.status(None).is_empty(), "a limit that is assumed is not told as a fact");
    budgets.has_answered(&server);
    assert_eq!(ask("login1", 99), SitePermit::Unlimited {}, "it has none");
    assert!(!budgets.must_ask(&server));
}

#[test]
fn a_server_without_a_limit_is_told_as_such() {
    let (budgets, server) = budgets("request_limit = 0");
    let permits = HostPermits::default();
    assert_eq!(permits.give(&budgets, "n1", (&server, Purpose::Token, 7), 1), SitePermit::Unlimited {});
    assert_eq!(permits.give(&budgets, "n1", ("https://unknown/", Purpose::Token, 7), 1), SitePermit::Unlimited {});
}

/// A report of requests for tokens beyond permits.
fn sent(requests: u32) -> HostReport {
    HostReport { sent: vec![ReportedUse { purpose: Purpose::Token, uid: Some(7), requests }], told: None }
}

/// A report that the server has told what is left.
fn told(left: u32, ends: u64) -> HostReport {
    HostReport { told: Some(ReportedRest { left, of: 100, ends }), ..HostReport::default() }
}

fn left(budgets: &Budgets) -> u32 {
    budgets.status(None)[0].left
}

#[test]
fn what_a_host_has_sent_beyond_its_permits_counts_for_it_and_for_the_site() {
    let (budgets, server) = budgets("request_limit = 100\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let hear = |host: &str, report: &HostReport| permits.hear(&budgets, (host, &server), report, 1);
    assert_eq!(hear("n1", &HostReport::default()), Heard::default());
    assert_eq!(hear("n1", &sent(30)), Heard::default());
    assert_eq!(left(&budgets), 70);
    // A host that was taken over takes no more than it would get by permits.
    assert_eq!(hear("n1", &sent(u32::MAX)), Heard { is_to_tell: true, is_to_verify: false });
    assert_eq!(hear("n1", &sent(1)), Heard::default(), "the log is told once in a period");
    assert_eq!(left(&budgets), 10);
    let token = |host: &str| permits.give(&budgets, host, (&server, Purpose::Token, 8), 2);
    assert_eq!(token("n1"), SitePermit::wait(299_999, UsedUp::Host));
    assert_eq!(token("n2"), SitePermit::Granted {});
}

/// Budgets with a limit of 100 after two hosts have told of 90 requests of the user 7 for this, and what each report led to.
fn after_reports_of(purpose: Purpose) -> (Budgets, HostPermits, String, [Heard; 2]) {
    let (budgets, server) = budgets("request_limit = 100\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let sent = vec![ReportedUse { purpose, uid: Some(7), requests: 90 }];
    let report = HostReport { sent, told: None };
    let heard = ["n1", "n2"].map(|host| permits.hear(&budgets, (host, &server), &report, 1));
    (budgets, permits, server, heard)
}

#[test]
fn what_a_user_makes_many_hosts_tell_takes_no_more_than_his_share() {
    use Purpose::{
        Asked, FirstToken, LastRevocation, RefusedToken, Revocation, Submission, Token, UnverifiedRevocation,
    };
    for (purpose, rest) in [
        (Submission, 53),
        (Asked, 53),
        (UnverifiedRevocation, 53),
        (LastRevocation, 66),
        (RefusedToken, 53),
        (FirstToken, 5),
    ] {
        let (budgets, permits, server, heard) = after_reports_of(purpose);
        assert_eq!(left(&budgets), rest, "{purpose:?}");
        assert_eq!(heard, [Heard::default(); 2], "{purpose:?}: no host is blamed for it");
        let ask = |uid, purpose| permits.give(&budgets, "n3", (&server, purpose, uid), 2);
        for wanted in [Submission, Token, Revocation] {
            let is_left = rest > 5 || wanted != Revocation;
            assert_eq!(ask(8, wanted) == SitePermit::Granted {}, is_left, "{purpose:?}: {wanted:?}");
        }
    }
    // What only a host tells is limited by its part.
    assert_eq!(left(&after_reports_of(Token).0), 0);
}

#[test]
fn what_the_server_has_told_a_host_is_believed_within_its_share_until_the_server_is_asked() {
    let (budgets, server) = budgets("request_limit = 100\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let hear = |host: &str, report: &HostReport| permits.hear(&budgets, (host, &server), report, 1);
    let verify = Heard { is_to_tell: false, is_to_verify: true };
    assert_eq!(hear("n1", &told(80, 60_000)), verify);
    assert_eq!(left(&budgets), 80, "somebody at this address has sent 20");
    assert_eq!(hear("n1", &told(80, 60_000)), Heard::default(), "that is known");
    assert_eq!(hear("n1", &told(90, 60_000)), Heard::default(), "a host gets nothing by its report");
    assert_eq!(left(&budgets), 80);
    assert_eq!(hear("n1", &told(0, u64::MAX)), verify);
    assert_eq!(left(&budgets), 50, "half of the limit is for the others, whatever one host says");
    assert_eq!(hear("n1", &told(0, u64::MAX)), Heard::default());
    let had = |host: &str| {
        let token = || permits.give(&budgets, host, (&server, Purpose::Token, 8), 2);
        (0..100).filter(|_| token() == SitePermit::Granted {}).count()
    };
    assert_eq!(had("n1"), 40, "what was withheld is of its own part");
    assert_eq!(had("n2"), 5);
    assert!(budgets.must_verify(&server) && !budgets.must_verify(&server), "the server is asked once in a period");
}

#[test]
fn a_report_about_a_server_without_a_limit_changes_nothing() {
    let (budgets, server) = budgets("request_limit = 0");
    let permits = HostPermits::default();
    assert_eq!(permits.hear(&budgets, ("n1", &server), &told(0, 60_000), 1), Heard::default());
    assert_eq!(permits.give(&budgets, "n1", (&server, Purpose::Token, 7), 1), SitePermit::Unlimited {});
}

/// The logins that a budget shows, by user.
fn logins(budgets: &Budgets) -> Vec<(Option<u32>, u32)> {
    let uses = budgets.status(None).remove(0).uses.into_iter().filter(|used| used.kind == "login");
    uses.map(|used| (used.uid, used.requests)).collect()
}

#[test]
fn guesses_at_the_prompts_of_all_hosts_take_a_quarter_and_no_more() {
    let (budgets, server) = budgets("request_limit = 100\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let note = |host: &str, uid, accepted| permits.note_login(&budgets, host, (&server, uid, accepted), 1);
    let guesses = |host: &str| (0..40).filter(|_| note(host, NOBODY, 0).1).count();
    assert_eq!([guesses("login1"), guesses("login2")], [1, 1], "the log is told once of each host");
    let later = HostPermits::default();
    let _ = later.note_login(&budgets, "login2", (&server, NOBODY, 0), 1);
    let _ = later.note_login(&budgets, "login3", (&server, NOBODY, 0), 300_001);
    assert_eq!(later.hosts().len(), 1, "what was told is forgotten with its period");
    assert_eq!((left(&budgets), logins(&budgets)), (75, vec![(None, 25)]));
    // A host tells them later, because no broker has answered.
    let sent = vec![ReportedUse { purpose: Purpose::Login, uid: None, requests: 40 }];
    let report = HostReport { sent, told: None };
    assert!(permits.hear(&budgets, ("login3", &server), &report, 1).is_to_tell);
    assert_eq!(left(&budgets), 75);
    // A login that was accepted counts in any case.
    assert_eq!(note("login3", 7, 2), (SitePermit::Granted {}, false));
    assert_eq!((left(&budgets), logins(&budgets)), (73, vec![(None, 25), (Some(7), 2)]));
}

#[test]
fn the_requests_of_a_login_are_its_users_once_it_was_accepted() {
    let (budgets, server) = budgets("request_limit = 100\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let note = |host: &str, uid, accepted| permits.note_login(&budgets, host, (&server, uid, accepted), 1);
    for (uid, accepted) in [(NOBODY, 0), (NOBODY, 0), (NOBODY, 0), (7, 2)] {
        assert_eq!(note("login1", uid, accepted), (SitePermit::Granted {}, false));
    }
    assert_eq!((left(&budgets), logins(&budgets)), (97, vec![(Some(7), 2), (None, 1)]));
    // An agent of an earlier version tells one request, after the login.
    assert_eq!(note("login2", 8, 0), (SitePermit::Granted {}, false));
    assert_eq!((left(&budgets), logins(&budgets)), (96, vec![(Some(7), 2), (None, 1), (Some(8), 1)]));
    assert!(note("login1", 9, u32::MAX).1, "a host takes no more than its part by what it calls accepted");
    assert_eq!(left(&budgets), 49);
}

#[test]
fn a_login_is_counted_before_its_host_is_believed_about_the_rest() {
    let (budgets, server) = budgets("request_limit = 100\nrequest_period = '300s'");
    let permits = HostPermits::default();
    let login =
        |left| PermitRequest { report: told(left, 60_000), ..PermitRequest::new(&server, Purpose::Login, NOBODY) };
    for left in [99, 98, 97] {
        assert_eq!(permits.answer(&budgets, "n1", &login(left), 1), (SitePermit::Granted {}, Heard::default()));
    }
    let verify = Heard { is_to_tell: false, is_to_verify: true };
    let token = PermitRequest { report: told(90, 60_000), ..PermitRequest::new(&server, Purpose::Token, 7) };
    assert_eq!(permits.answer(&budgets, "n1", &token, 1), (SitePermit::Granted {}, verify));
    assert_eq!(left(&budgets), 89);
}

#[test]
fn what_is_left_of_another_limit_is_of_another_address() {
    let (budgets, server) = budgets("request_limit = 1000\nrequest_period = '300s'");
    let permits = HostPermits::default();
    assert_eq!(permits.hear(&budgets, ("n1", &server), &told(40, 60_000), 1), Heard::default());
    assert_eq!(left(&budgets), 1000);
    let refused = HostReport { told: Some(ReportedRest { left: 0, of: 0, ends: 60_000 }), ..HostReport::default() };
    assert!(permits.hear(&budgets, ("n1", &server), &refused, 1).is_to_verify);
    assert_eq!(left(&budgets), 500);
}
