// SPDX-License-Identifier: MIT OR Apache-2.0
//! Permits for the requests that other hosts send to the mytoken servers. They come out of the same budget as the broker's own requests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::agent::budget::Budgets;
use crate::agent::budget::ledger::Purpose;
use crate::agent::budget::limit::Limit;
use crate::agent::budget::site::SitePermit;

/// A host gets at most this part of a server's limit, so that one that was taken over does not stop the others.
const PART_OF_A_HOST: (u64, u64) = (1, 2);

/// Longest wait, in milliseconds, for a permit of a server whose limit is only assumed: it is being asked.
const ASSUMED_WAIT: u64 = 5_000;

/// What each host has had, by host and server.
#[derive(Default)]
pub struct HostPermits(Mutex<HashMap<(String, String), OfHost>>);

/// What a host has had of a server. Times are milliseconds of elapsed time.
#[derive(Default)]
struct OfHost {
    /// Its permits of the last period, and its logins.
    given: VecDeque<u64>,
    /// When the log was told that logins are not counted.
    told: Option<u64>,
}

impl HostPermits {
    /// A permit for a request of `host` at `now`.
    #[must_use]
    pub fn give(
        &self,
        budgets: &Budgets,
        host: &str,
        (server, purpose, uid): (&str, Purpose, u32),
        now: u64,
    ) -> SitePermit {
        let Some(limit) = budgets.limit(server) else { return SitePermit::Unlimited {} };
        let longest = if budgets.is_assumed(server) { ASSUMED_WAIT } else { u64::MAX };
        let mut hosts = self.hosts();
        let OfHost { given, .. } = of_host(&mut hosts, (host, server), limit, now);
        if let (true, Some(first)) = (given.len() >= part_of_a_host(limit), given.front()) {
            let wait = first.saturating_add(limit.period).saturating_sub(now);
            return SitePermit::Wait { wait: wait.min(longest), only_his: false };
        }
        match budgets.permit(server, purpose, uid) {
            Ok(()) => {
                given.push_back(now);
                SitePermit::Granted {}
            }
            Err((wait, only_his)) => SitePermit::Wait { wait: wait.min(longest), only_his },
        }
    }

    /// The note of `host` that a login of this user has sent a request at `now`. The login does not wait, so it is always granted. Nobody but
    /// the host says that there was one: beyond the part of a host, the others do not pay for it. Returns whether the log is to tell that.
    #[must_use]
    pub fn note_login(
        &self,
        budgets: &Budgets,
        host: &str,
        (server, uid): (&str, u32),
        now: u64,
    ) -> (SitePermit, bool) {
        let Some(limit) = budgets.limit(server) else { return (SitePermit::Unlimited {}, false) };
        let mut hosts = self.hosts();
        let OfHost { given, told } = of_host(&mut hosts, (host, server), limit, now);
        if given.len() < part_of_a_host(limit) {
            given.push_back(now);
            budgets.count(server, Purpose::Login, uid);
            return (SitePermit::Granted {}, false);
        }
        let is_new = told.is_none_or(|at| at.saturating_add(limit.period) <= now);
        if is_new {
            *told = Some(now);
        }
        (SitePermit::Granted {}, is_new)
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<(String, String), OfHost>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this host has had of this server in the period before `now`.
fn of_host<'h>(
    hosts: &'h mut HashMap<(String, String), OfHost>,
    (host, server): (&str, &str),
    limit: Limit,
    now: u64,
) -> &'h mut OfHost {
    hosts.retain(|(_, of), OfHost { given, .. }| {
        // Other servers have other periods.
        while of == server && given.front().is_some_and(|at| at.saturating_add(limit.period) <= now) {
            given.pop_front();
        }
        !given.is_empty()
    });
    hosts.entry((host.to_owned(), server.to_owned())).or_default()
}

/// How many requests a host gets of this limit.
fn part_of_a_host(limit: Limit) -> usize {
    let most = u64::from(limit.requests) * PART_OF_A_HOST.0 / PART_OF_A_HOST.1;
    usize::try_from(most.max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(had, 20, "half of the limit");
        let SitePermit::Wait { wait: 300_000, only_his: false } = ask("login1", Purpose::Token, 7, 1) else {
            panic!("it waits for the end of the period")
        };
        assert_eq!(ask("n1", Purpose::Token, 8, 2), SitePermit::Granted {});
    }

    #[test]
    fn logins_that_a_host_tells_of_take_no_more_than_its_part() {
        let (budgets, server) = budgets("request_limit = 40\nrequest_period = '300s'");
        let permits = HostPermits::default();
        let login = |host: &str, now| permits.note_login(&budgets, host, (&server, 9), now);
        let token = |host: &str, now| permits.give(&budgets, host, (&server, Purpose::Token, 7), now);
        let noted: Vec<_> = (0..100).map(|_| login("n1", 1)).collect();
        assert!(noted.iter().all(|(permit, _)| *permit == SitePermit::Granted {}), "a login never waits");
        let told: Vec<usize> = (0..100).filter(|at| noted[*at].1).collect();
        assert_eq!(told, [20], "the first one beyond its part is logged");
        assert!(matches!(token("n1", 2), SitePermit::Wait { only_his: false, .. }), "its part is used up");
        let had = (0..40).filter(|_| token("n2", 2) == SitePermit::Granted {}).count();
        assert!(had >= 18, "{had}: one user gets all but the last twentieth of what the others have");
        assert_eq!(login("n1", 300_000), (SitePermit::Granted {}, false), "once in a period");
        assert_eq!((0..100).filter(|_| login("n1", 300_001).1).count(), 1, "in the next one again");
    }

    #[test]
    fn a_login_counts_for_the_site_and_for_its_host() {
        let (budgets, server) = budgets("request_limit = 40\nrequest_period = '300s'");
        let permits = HostPermits::default();
        assert_eq!(permits.note_login(&budgets, "n1", (&server, 9), 1), (SitePermit::Granted {}, false));
        assert_eq!(budgets.status(None)[0].left, 39);
        let token = || permits.give(&budgets, "n1", (&server, Purpose::Token, 7), 1);
        assert_eq!((0..40).filter(|_| token() == SitePermit::Granted {}).count(), 19, "it is one of its requests");
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
        assert_eq!([ask("a", 1), ask("a", 1), ask("b", 1)], [SitePermit::Granted {}; 3]);
        assert_eq!(ask("b", 2000), SitePermit::Granted {});
        assert_eq!(ask("a", 2000), SitePermit::Wait { wait: 298_001, only_his: false }, "it has had its half");
    }

    #[test]
    fn before_a_server_has_answered_hosts_share_the_usual_limit() {
        let shared = toml::from_str::<Shared>("[[server]]\nname = 'm'\nurl = 'https://mytoken.example'\n").unwrap();
        let budgets = Budgets::new(Arc::new(SystemClock)).assuming();
        budgets.configure(&shared).unwrap();
        let server = shared.server_url("m").unwrap().to_string();
        let permits = HostPermits::default();
        let ask = |host: &str, uid| permits.give(&budgets, host, (&server, Purpose::Submission, uid), 1);
        let had = (0..80).filter(|uid| ask("login1", *uid) == SitePermit::Granted {}).count();
        assert_eq!(had, 50, "half of it");
        assert_eq!(ask("login1", 99), SitePermit::Wait { wait: ASSUMED_WAIT, only_his: false });
        assert_eq!(ask("login2", 100), SitePermit::Granted {});
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
}
