// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers the requests of the Slurm plugin, the PAM module and `mytokenctl`.

use std::time::{Duration, Instant};

use mytoken_wire::agent::{Answer, Request};

use super::on_request::Caller;
use super::{Agent, Intervals};

/// Of the second that an epilog waits for its answer, so much is left for the disk that stores the lease when its files have taken all of
/// [`Intervals::file_patience`].
const LEFT_AT_END: Duration = Duration::from_millis(200);

/// How long an answer waits for the disk. `waited`: that to an end has waited so long already.
fn store_patience(intervals: &Intervals, waited: Option<Duration>) -> Duration {
    let both = intervals.file_patience.saturating_add(LEFT_AT_END);
    waited.map_or(intervals.answer_patience, |waited| intervals.answer_patience.min(both.saturating_sub(waited)))
}

impl Agent {
    /// Answers a request of the user `caller`. `trusted` is true for root.
    pub fn answer(&self, request: Request, caller: u32, trusted: bool) -> Answer {
        self.read_clock();
        let changes = !matches!(request, Request::Status(_) | Request::Permit(_) | Request::Register(_));
        let ends = matches!(request, Request::JobEnd(_) | Request::SessionEnd(_));
        let begin = Instant::now();
        let answer = self.answer_now(request, caller, trusted);
        if changes {
            let waited = ends.then(|| begin.elapsed());
            self.wait_until_stored(store_patience(&self.configured().intervals, waited));
        }
        answer
    }

    fn answer_now(&self, request: Request, caller: u32, trusted: bool) -> Answer {
        let by = Caller { uid: caller, trusted };
        match request {
            Request::Status(query) => self.status(&query, caller, trusted),
            Request::Renew(renew) => self.in_turn(by, || self.renew_on_request(&renew, by)),
            Request::Revoke(revoke) => self.in_turn(by, || self.revoke_on_request(&revoke, by)),
            Request::Replace(replace) => self.in_turn(by, || self.replace(&replace, by)),
            Request::Retire(retire) => self.in_turn(by, || self.retire(&retire, by)),
            Request::ReplacePending(pending) => self.in_turn(by, || self.replace_pending(&pending, caller)),
            Request::Submitted(submitted) => self.submitted(submitted, caller),
            Request::Permit(asked) if asked.login.is_none() => self.permit(&asked, caller),
            Request::Register(register) => self.register(&register, caller),
            _ if !trusted => {
                Answer::Error("only root may send this request; every user may run mytokenctl status".to_owned())
            }
            Request::JobStart(start) => Answer::Started(self.job_start(&start)),
            Request::JobEnd(end) => self.job_end(&end),
            Request::Permit(told) => self.count_login_requests(&told),
            Request::SessionStart(start) => self.session_start(start),
            Request::SessionEnd(end) => self.session_end(&end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_answered_within_the_second_of_the_epilog() {
        let intervals = Intervals::default();
        assert_eq!(store_patience(&intervals, None), intervals.answer_patience);
        for waited in [Duration::ZERO, intervals.file_patience / 2, intervals.file_patience] {
            let all = waited + store_patience(&intervals, Some(waited));
            assert!(all > waited && all <= Duration::from_millis(900), "{waited:?}: {all:?}");
        }
    }
}
