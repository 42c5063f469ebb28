// SPDX-License-Identifier: MIT OR Apache-2.0
//! The flow of a login with a link, as a state machine. Pure: each event comes with the time, and the answer says what to do next.
//!
//! The person sees the link, confirms in a browser and presses Enter. Only then the server is asked, at most once per `interval`. A person
//! who presses Enter too early is waited for, and after a while asked again: this shows whether somebody is still there.

use std::time::Duration;

use super::refusal::LinkRefusal;
use crate::refusal::Refusal;

/// An answer that comes sooner than this after its prompt is no person's: ssh without a terminal answers at once (SSH-21).
const QUICK: Duration = Duration::from_secs(1);

/// So many quick answers in a row end the login. A person may press Enter twice.
const QUICK_LIMIT: u32 = 3;

/// How long the server is asked after one Enter.
const ROUND: Duration = Duration::from_secs(30);

/// After so many questions in a round the pauses are twice as long: each question counts for the server's limit (MT-07).
const EAGER: u32 = 3;

/// Pause after a question without an answer: as long as a silent server gets no request from this address.
const SILENCE: Duration = Duration::from_secs(15);

/// What has happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The person answered the prompt. `typed`: with more than Enter.
    Answered {
        /// Whether the answer had a character.
        typed: bool,
    },
    /// The pause is over.
    Waited,
    /// The person has not confirmed yet.
    Pending,
    /// The question was not sent: too many requests. It can be sent after `wait`.
    TooMany {
        /// How long the limit lasts.
        wait: Duration,
        /// The refusal, if it lasts too long.
        refusal: Refusal,
    },
    /// There was no answer.
    Silent(Refusal),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Show this prompt, and wait for Enter.
    Ask(Ask),
    /// Wait that long.
    Wait(Duration),
    /// Ask the server.
    Poll,
    /// The login is refused.
    End(Refusal),
}

/// The prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The link.
    Link {
        /// Whether with its QR code.
        qr: bool,
    },
    /// Not confirmed yet.
    Again,
}

/// The flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// Least time between two requests.
    interval: Duration,
    /// When the login must have been confirmed.
    end: Duration,
    /// The earliest time of the next question.
    next: Duration,
    /// The last prompt, and when it was shown.
    asked: (Ask, Duration),
    /// Whether a QR code is shown on request.
    qr_on_request: bool,
    quick: u32,
    /// When the questions after this Enter end.
    round_end: Duration,
    questions: u32,
    /// Whether the last question had no answer.
    silent: bool,
    /// Why the last question was not sent.
    held: Option<Refusal>,
}

impl Flow {
    /// The flow of a link that the server has just made, at `now`. It ends at `end`. `first` is its first prompt.
    pub(super) fn new(interval: Duration, end: Duration, first: Ask, qr_on_request: bool, now: Duration) -> Self {
        Self {
            interval: interval.max(QUICK),
            end,
            next: now + interval.max(QUICK),
            asked: (first, now),
            qr_on_request,
            quick: 0,
            round_end: end,
            questions: 0,
            silent: false,
            held: None,
        }
    }

    /// What is to be done after `event`.
    pub(super) fn step(&mut self, event: Event, now: Duration) -> Step {
        match event {
            Event::Answered { typed } => self.answered(typed, now),
            Event::Waited => self.question(now),
            Event::Pending => {
                (self.silent, self.held) = (false, None);
                self.questions += 1;
                let pause = if self.questions < EAGER { self.interval } else { self.interval * 2 };
                self.pause(pause, now)
            }
            Event::TooMany { wait, refusal } => {
                self.held = Some(refusal);
                self.pause(wait.max(self.interval), now)
            }
            Event::Silent(refusal) if self.silent => Step::End(refusal),
            Event::Silent(refusal) => {
                self.silent = true;
                self.held = Some(refusal);
                self.next = now + SILENCE.max(self.interval);
                self.question(now)
            }
        }
    }

    /// Shows a prompt.
    fn ask(&mut self, ask: Ask, now: Duration) -> Step {
        self.asked = (ask, now);
        Step::Ask(ask)
    }

    fn answered(&mut self, typed: bool, now: Duration) -> Step {
        let (asked, since) = self.asked;
        if typed && self.qr_on_request {
            self.qr_on_request = false;
            return self.ask(Ask::Link { qr: true }, now);
        }
        if now.saturating_sub(since) < QUICK {
            self.quick += 1;
            return if self.quick < QUICK_LIMIT { self.ask(asked, now) } else { Step::End(Refusal::Empty) };
        }
        self.quick = 0;
        self.round_end = (now + ROUND).min(self.end);
        self.questions = 0;
        self.question(now)
    }

    /// Waits before the next question, or asks the person again if the round is over by then.
    fn pause(&mut self, pause: Duration, now: Duration) -> Step {
        self.next = now + pause;
        if self.next >= self.end {
            return self.out_of_time();
        }
        if self.next > self.round_end { self.ask(Ask::Again, now) } else { self.question(now) }
    }

    /// Asks the server, as soon as that is possible.
    fn question(&mut self, now: Duration) -> Step {
        if now >= self.end || self.next >= self.end {
            return self.out_of_time();
        }
        if self.next > now { Step::Wait(self.next.saturating_sub(now)) } else { Step::Poll }
    }

    fn out_of_time(&mut self) -> Step {
        Step::End(self.held.take().unwrap_or_else(|| LinkRefusal::NotConfirmed.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Limit;

    const FIRST: Ask = Ask::Link { qr: false };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn flow() -> Flow {
        Flow::new(s(5), s(100), FIRST, false, s(0))
    }

    fn enter(flow: &mut Flow, at: u64) -> Step {
        flow.step(Event::Answered { typed: false }, s(at))
    }

    fn not_confirmed() -> Step {
        Step::End(LinkRefusal::NotConfirmed.into())
    }

    #[test]
    fn after_enter_the_server_is_asked_at_once_but_never_within_the_interval() {
        assert_eq!(enter(&mut flow(), 20), Step::Poll);
        let mut early = flow();
        assert_eq!(enter(&mut early, 2), Step::Wait(s(3)), "the start was a request, too");
        assert_eq!(early.step(Event::Waited, s(5)), Step::Poll);
        assert_eq!(early.step(Event::Pending, s(6)), Step::Wait(s(5)));
    }

    #[test]
    fn somebody_who_presses_enter_too_early_is_waited_for_and_asked_again() {
        let mut flow = flow();
        let (mut at, mut polls, mut step) = (s(10), 0, enter(&mut flow, 10));
        loop {
            step = match step {
                Step::Poll => {
                    polls += 1;
                    flow.step(Event::Pending, at)
                }
                Step::Wait(pause) => {
                    assert!(pause >= s(5), "{pause:?}");
                    at += pause;
                    flow.step(Event::Waited, at)
                }
                other => {
                    assert_eq!(other, Step::Ask(Ask::Again));
                    break;
                }
            };
        }
        assert!((3..=5).contains(&polls) && at <= s(40), "{polls} until {at:?}");
    }

    #[test]
    fn many_enters_cause_one_question_per_interval_and_none_after_the_end() {
        let mut flow = flow();
        let (mut at, mut polls) = (s(2), Vec::new());
        let mut step = enter(&mut flow, 2);
        let end = loop {
            step = match step {
                Step::Poll => {
                    polls.push(at);
                    flow.step(Event::Pending, at)
                }
                Step::Wait(pause) => {
                    at += pause;
                    flow.step(Event::Waited, at)
                }
                Step::Ask(_) => {
                    at += QUICK;
                    flow.step(Event::Answered { typed: false }, at)
                }
                Step::End(refusal) => break refusal,
            };
        };
        assert_eq!(Step::End(end), not_confirmed());
        assert!(polls.windows(2).all(|pair| pair[1] - pair[0] >= s(5)), "{polls:?}");
        assert!(polls.iter().all(|at| *at < s(100)) && polls.len() <= 14, "{polls:?}");
    }

    #[test]
    fn an_enter_after_the_end_asks_nobody() {
        assert_eq!(enter(&mut flow(), 100), not_confirmed());
        assert_eq!(enter(&mut flow(), 5_000), not_confirmed());
        let mut late = flow();
        assert_eq!(enter(&mut late, 97), Step::Poll);
        assert_eq!(late.step(Event::Pending, s(97)), not_confirmed());
    }

    #[test]
    fn an_ssh_without_a_person_is_refused_at_once_and_asks_nothing() {
        let mut flow = flow();
        assert_eq!(enter(&mut flow, 0), Step::Ask(FIRST));
        assert_eq!(enter(&mut flow, 0), Step::Ask(FIRST));
        assert_eq!(enter(&mut flow, 0), Step::End(Refusal::Empty));
    }

    #[test]
    fn the_qr_code_is_shown_once_on_request() {
        let mut flow = Flow::new(s(5), s(100), FIRST, true, s(0));
        assert_eq!(flow.step(Event::Answered { typed: true }, s(3)), Step::Ask(Ask::Link { qr: true }));
        assert_eq!(flow.step(Event::Answered { typed: true }, s(30)), Step::Poll);
    }

    #[test]
    fn a_limit_of_requests_is_waited_for_if_it_ends_in_time() {
        let refusal = |wait| Refusal::TooManyRequests { wait, limit: Limit::Address };
        let held = |wait| Event::TooMany { wait: s(wait), refusal: refusal(wait) };
        let mut short = flow();
        enter(&mut short, 10);
        assert_eq!(short.step(held(8), s(10)), Step::Wait(s(8)));
        assert_eq!(short.step(Event::Waited, s(18)), Step::Poll);
        let mut longer = flow();
        enter(&mut longer, 10);
        assert_eq!(longer.step(held(60), s(10)), Step::Ask(Ask::Again));
        assert_eq!(enter(&mut longer, 20), Step::Wait(s(50)));
        let mut long = flow();
        enter(&mut long, 10);
        assert_eq!(long.step(held(200), s(10)), Step::End(refusal(200)));
    }

    #[test]
    fn a_silent_server_is_asked_once_more() {
        let silence = || Refusal::Unavailable("x".into());
        let mut flow = flow();
        enter(&mut flow, 10);
        assert_eq!(flow.step(Event::Silent(silence()), s(12)), Step::Wait(SILENCE));
        assert_eq!(flow.step(Event::Waited, s(27)), Step::Poll);
        assert_eq!(flow.step(Event::Silent(silence()), s(30)), Step::End(silence()));
        let mut again = super::tests::flow();
        enter(&mut again, 10);
        again.step(Event::Silent(silence()), s(12));
        again.step(Event::Waited, s(27));
        assert_eq!(again.step(Event::Pending, s(28)), Step::Wait(s(5)), "it answers again");
        again.step(Event::Waited, s(33));
        assert_eq!(again.step(Event::Silent(silence()), s(34)), Step::Wait(SILENCE));
        let mut late = super::tests::flow();
        enter(&mut late, 90);
        assert_eq!(late.step(Event::Silent(silence()), s(92)), Step::End(silence()), "no time for another");
    }
}
