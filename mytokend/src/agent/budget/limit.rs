// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known about the request limit of a mytoken server: from the configuration, from the server's answers, or from its refusals.
//! Pure: times are milliseconds of elapsed time and come as parameters.

use std::time::Duration;

use mytoken::http::RequestLimit;
use serde::{Deserialize, Serialize};

/// Most requests that are remembered; no limit is larger.
pub const MOST: u32 = mytoken::config::ServerSettings::MOST_REQUESTS;

/// The mytoken server's default period (MT-07). Its answers do not tell the period, only when it ends.
const PERIOD: u64 = 300_000;

/// The mytoken server's default limit (MT-07).
const USUAL: Limit = Limit { requests: 100, period: PERIOD, guessed: true };

/// How long a limit is believed after the server told it.
const AGE: u64 = 3_600_000;

/// How much the server's end of a period may differ from the one that was computed: it counts whole seconds.
const MARGIN: u64 = 2_000;

/// Longest wait after a refusal.
const LONGEST_WAIT: u64 = 900_000;

/// First and longest wait after a refusal without `Retry-After`. The mytoken server's own refusal has one (MT-07), so this one is of a proxy
/// or of a provider, whose periods are seconds.
const FIRST_UNTIMED: u64 = 2_000;
const LONGEST_UNTIMED: u64 = 60_000;

/// A limit that follows from a refusal is not lower.
const LEAST_GUESS: u32 = 10;

/// How many requests a server accepts in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Requests in a period.
    pub requests: u32,
    /// The period in milliseconds.
    pub period: u64,
    /// It follows from a refusal only, or is assumed.
    pub guessed: bool,
}

/// What the server's last answer said about its present period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// How many requests are left, less those that were sent since.
    pub left: u32,
    /// When the period ends.
    pub until: u64,
}

/// What is known.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Known {
    /// By the configuration: `Some(None)` for a server without a limit.
    #[serde(skip)]
    pub configured: Option<Option<Limit>>,
    /// A server that has not answered is taken to have the usual limit.
    #[serde(skip)]
    pub assumes: bool,
    /// When it has answered last, with or without a limit.
    #[serde(skip)]
    answered: Option<u64>,
    /// From an answer or a refusal, and when.
    learned: Option<(Limit, u64)>,
    told: Option<Told>,
    /// The wait after the last refusal without `Retry-After`, and its end.
    #[serde(skip)]
    untimed: Option<(u64, u64)>,
}

impl Known {
    /// The limit. `None`: there is none, or none is known.
    pub fn limit(&self, now: u64) -> Option<Limit> {
        let assumed = || self.is_assumed(now).then_some(USUAL);
        self.configured.unwrap_or_else(|| self.believed(now).or_else(assumed))
    }

    /// Whether the limit is assumed: nobody has told it, and the server has not answered in the last hour.
    pub fn is_assumed(&self, now: u64) -> bool {
        let is_silent = self.answered.is_none_or(|at| now.saturating_sub(at) >= AGE);
        self.assumes && self.configured.is_none() && self.believed(now).is_none() && is_silent
    }

    /// The limit that the server told, or that follows from its refusal.
    fn believed(&self, now: u64) -> Option<Limit> {
        self.learned.filter(|(_, at)| now.saturating_sub(*at) < AGE).map(|(limit, _)| limit)
    }

    /// The server has answered.
    pub fn answer(&mut self, now: u64) {
        self.answered = Some(now);
    }

    /// The server has granted a request. The wait after the next refusal is as short as the first one: a proxy that refuses one request in
    /// a hundred must not stop a host for a minute. A grant that comes during a wait changes nothing, because its request may have been
    /// sent before the refusal.
    pub fn granted(&mut self, now: u64) {
        self.untimed = self.untimed.filter(|(_, end)| now < *end);
    }

    /// The period in which requests are counted.
    pub fn period(&self) -> u64 {
        let learned = || self.learned.map(|(limit, _)| limit);
        self.configured.unwrap_or_else(learned).map_or(PERIOD, |limit| limit.period)
    }

    /// What the server said about its present period, unless that is over.
    pub fn told(&self, now: u64) -> Option<Told> {
        self.told.filter(|told| now < told.until)
    }

    /// How many requests in a period the server has said that it accepts from this host. Zero: it has not said it.
    pub fn said(&self) -> u32 {
        self.learned.filter(|(limit, _)| !limit.guessed).map_or(0, |(limit, _)| limit.requests)
    }

    /// From when on requests count. A server that told the end of its period counts from there on.
    pub fn counts_from(&self, limit: Limit, now: u64) -> u64 {
        let period = now.saturating_sub(limit.period);
        match self.told {
            Some(told) if self.configured.is_none() && told.until <= now => {
                period.max(told.until.saturating_sub(2 * MARGIN))
            }
            _ => period,
        }
    }

    /// A request was counted.
    pub fn spend(&mut self, now: u64) {
        if let Some(told) = self.told.as_mut().filter(|told| now < told.until) {
            told.left = told.left.saturating_sub(1);
        }
    }

    /// A request that was counted was not sent.
    pub fn refund(&mut self, now: u64) {
        if let Some(told) = self.told.as_mut().filter(|told| now < told.until) {
            told.left = told.left.saturating_add(1);
        }
    }

    /// The same with all times changed by `present`.
    #[must_use]
    pub fn moved(self, present: impl Fn(u64) -> u64) -> Self {
        let told = self.told.map(|told| Told { until: present(told.until), ..told });
        Self { learned: self.learned.map(|(limit, at)| (limit, present(at))), told, ..self }
    }

    /// An answer told the limit.
    pub fn learn(&mut self, answer: RequestLimit, now: u64) {
        let Some(requests) = u32::try_from(answer.requests).ok().filter(|count| (1..=MOST).contains(count)) else {
            (self.learned, self.told) = (None, None);
            return;
        };
        let reset = answer.reset.map(|reset| u64::try_from(reset.as_millis()).unwrap_or(u64::MAX).min(86_400_000));
        let before = self.learned.filter(|(limit, _)| !limit.guessed).map(|(limit, _)| limit.period);
        let period = match reset {
            // The first request of a period.
            Some(reset) if answer.left.saturating_add(1) == answer.requests && reset > 0 => reset,
            reset => before.unwrap_or(PERIOD).max(reset.unwrap_or(0)),
        };
        self.learned = Some((Limit { requests, period, guessed: false }, now));
        let until = now.saturating_add(reset.unwrap_or(period)).saturating_add(MARGIN);
        let left = u32::try_from(answer.left).unwrap_or(u32::MAX).min(requests);
        self.tell(Told { left, until }, now);
    }

    /// The server refused a request because of its limit. `count`: how many this host has sent in the last period. Without `Retry-After`
    /// nothing is known about a limit: requests wait, longer each time, and are then tried.
    pub fn refused(&mut self, retry_after: Option<Duration>, count: u32, now: u64) {
        let Some(wait) = retry_after else {
            let again = self.untimed.filter(|(_, end)| now <= end.saturating_add(LONGEST_UNTIMED));
            // Several requests may be refused at the same time.
            let wait = match again {
                Some((_, end)) if now < end => return,
                Some((wait, _)) => wait.saturating_mul(2).min(LONGEST_UNTIMED),
                None => FIRST_UNTIMED,
            };
            let until = now.saturating_add(wait);
            self.untimed = Some((wait, until));
            return self.tell(Told { left: 0, until }, now);
        };
        if self.limit(now).is_none() || self.is_assumed(now) {
            let requests = count.max(LEAST_GUESS);
            self.learned = Some((Limit { requests, period: PERIOD, guessed: true }, now));
        }
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let until = now.saturating_add(wait.min(LONGEST_WAIT)).saturating_add(MARGIN);
        self.tell(Told { left: 0, until }, now);
    }

    /// Answers of the same period may arrive in any order, and meanwhile permits were given: the lowest number counts.
    fn tell(&mut self, new: Told, now: u64) {
        let same = self.told(now).filter(|old| old.until.abs_diff(new.until) <= 2 * MARGIN);
        self.told =
            Some(same.map_or(new, |old| Told { left: old.left.min(new.left), until: old.until.max(new.until) }));
    }
}
