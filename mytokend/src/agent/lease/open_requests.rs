// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests for one access token that are queued or have no answer yet.

/// They are sent for one token at a time. When one of them has brought it, the others belong to an earlier round: one that hangs for
/// its whole deadline must not hold up the renewal of that token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenRequests {
    count: u8,
    /// When to send a further one if the last one has no answer yet, Unix milliseconds.
    pub further_due: Option<u64>,
    /// Those of this round that have failed since one was without an answer.
    failed: u8,
    round: u32,
}

impl OpenRequests {
    /// Number of requests of this round.
    #[must_use]
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// A request is queued. Returns its round.
    pub fn queue(&mut self) -> u32 {
        self.count = self.count.saturating_add(1);
        self.further_due = None;
        self.round
    }

    /// Whether a request of `round` is still for the token that is wanted.
    #[must_use]
    pub const fn is_current(&self, round: u32) -> bool {
        self.round == round
    }

    /// A request of `round` was answered, or is given up.
    pub fn end(&mut self, round: u32) {
        if self.is_current(round) {
            self.count = self.count.saturating_sub(1);
            self.failed = if self.count == 0 { 0 } else { self.failed.saturating_add(1) };
        }
    }

    /// One has brought the token. The others count no more.
    pub fn answered(&mut self) {
        *self = Self { round: self.round.wrapping_add(1), ..Self::default() };
    }

    /// How many of this round have failed while another one had no answer.
    #[must_use]
    pub const fn failed(&self) -> u8 {
        self.failed
    }

    /// A further one is to be sent at `due` at the latest.
    pub fn plan_further(&mut self, due: u64) {
        self.further_due = Some(self.further_due.map_or(due, |planned| planned.min(due)));
    }

    /// When to send the next one, if the first is due at `due`.
    #[must_use]
    pub const fn next(&self, due: u64) -> Option<u64> {
        if self.count == 0 { Some(due) } else { self.further_due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_an_earlier_round_holds_up_nothing() {
        let mut requests = OpenRequests::default();
        let (hangs, second) = (requests.queue(), requests.queue());
        assert_eq!((hangs, requests.count(), requests.next(5)), (second, 2, None));
        requests.end(second);
        requests.answered();
        assert_eq!((requests.count(), requests.next(5)), (0, Some(5)));
        let renewal = requests.queue();
        requests.end(hangs);
        assert!(requests.is_current(renewal) && !requests.is_current(hangs));
        assert_eq!((requests.count(), requests.failed()), (1, 0));
    }

    #[test]
    fn one_that_failed_beside_another_is_followed_by_a_further_one() {
        let mut requests = OpenRequests::default();
        let (hangs, second) = (requests.queue(), requests.queue());
        requests.end(second);
        assert_eq!((requests.count(), requests.failed(), requests.next(5)), (1, 1, None));
        requests.plan_further(9);
        requests.plan_further(12);
        assert_eq!(requests.next(5), Some(9));
        requests.queue();
        assert_eq!(requests.next(5), None, "it is queued once");
        requests.end(hangs);
        requests.end(second);
        assert_eq!((requests.count(), requests.failed(), requests.next(5)), (0, 0, Some(5)));
    }
}
