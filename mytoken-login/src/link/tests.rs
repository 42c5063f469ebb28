// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins with a link from the first prompt to the mytoken, with a server, a clock and a person of the test. Whole logins are in
//! `tests/login/link.toml`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use mytoken::capabilities::Capabilities;
use mytoken::server::GrantedKind;
use zeroize::Zeroizing;

use super::*;
use crate::conversation::ConversationEnded;
use crate::refusal::Limit;

const LINK: &str = "https://mytoken.example.org/c/AbCdEfGh";

/// A server that gives these answers, the last one again and again, and a clock that only its waits and its person move.
struct World {
    answers: RefCell<VecDeque<Result<PollAnswer, Refusal>>>,
    time: Cell<Duration>,
    polled: RefCell<Vec<u64>>,
    abandoned: Cell<bool>,
}

impl World {
    fn new(answers: Vec<Result<PollAnswer, Refusal>>) -> Self {
        Self {
            answers: RefCell::new(answers.into()),
            time: Cell::new(Duration::ZERO),
            polled: RefCell::default(),
            abandoned: Cell::new(false),
        }
    }

    fn pass(&self, time: Duration) {
        self.time.set(self.time.get() + time);
    }
}

impl LinkService for World {
    fn start(
        &self,
        _: &LinkRequest,
        _: &ExchangeSettings,
        _: &LinkOwner<'_>,
        _: Deadline,
    ) -> Result<StartedLink, Refusal> {
        Ok(started())
    }

    fn poll(&self, _: Deadline) -> Result<PollAnswer, Refusal> {
        self.polled.borrow_mut().push(self.time.get().as_secs());
        let mut answers = self.answers.borrow_mut();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers.front().unwrap().clone() }
    }

    fn abandon(&self, _: Deadline) {
        self.abandoned.set(true);
    }

    fn forget(&self) {}

    fn elapsed(&self) -> Duration {
        self.time.get()
    }

    fn sleep(&self, pause: Duration) {
        self.pass(pause);
    }

    fn origin(&self) -> String {
        "192.0.2.7".to_owned()
    }
}

/// A person who takes so many seconds for each answer; `None`: who goes away.
struct Person<'a> {
    world: &'a World,
    answers: VecDeque<Option<(u64, &'static str)>>,
    prompts: Vec<String>,
}

impl Conversation for Person<'_> {
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
        self.prompts.push(prompt.to_owned());
        let (seconds, answer) = self.answers.pop_front().flatten().ok_or(ConversationEnded)?;
        self.world.pass(Duration::from_secs(seconds));
        Ok(Zeroizing::new(answer.as_bytes().to_vec()))
    }

    fn show(&mut self, _: &str) {}

    fn prompt_limit(&self) -> usize {
        8_192
    }
}

fn started() -> StartedLink {
    let (expires_in, interval) = (Duration::from_secs(300), Duration::from_secs(5));
    StartedLink { link: Secret::new(LINK), expires_in, interval }
}

fn granted() -> Granted {
    Granted {
        mytoken: Secret::new("mytoken"),
        kind: GrantedKind::Token,
        restrictions: Vec::new(),
        capabilities: Capabilities::default(),
        rotation: None,
        expires_at: None,
        code_expires_at: None,
        mom_id: String::new(),
    }
}

fn confirmed() -> Result<PollAnswer, Refusal> {
    Ok(PollAnswer::Granted(Box::new(granted())))
}

fn pending() -> Result<PollAnswer, Refusal> {
    Ok(PollAnswer::Pending)
}

/// The outcome, the prompts, and the times of the polls.
type Outcome = (Result<Granted, Refusal>, Vec<String>, Vec<u64>);

fn play(
    server: Vec<Result<PollAnswer, Refusal>>,
    person: Vec<Option<(u64, &'static str)>>,
    qr: LinkQr,
    link: &StartedLink,
) -> Outcome {
    let world = World::new(server);
    let mut person = Person { world: &world, answers: person.into(), prompts: Vec::new() };
    let outcome = run(link, Duration::from_secs(100), qr, &world, &mut person);
    let prompts = person.prompts;
    (outcome, prompts, world.polled.into_inner())
}

fn log_in(server: Vec<Result<PollAnswer, Refusal>>, person: Vec<Option<(u64, &'static str)>>) -> Outcome {
    play(server, person, LinkQr::Always, &started())
}

#[test]
fn a_person_who_has_confirmed_presses_enter_once_and_is_in() {
    let (outcome, prompts, polled) = log_in(vec![confirmed()], vec![Some((30, ""))]);
    assert_eq!((outcome, polled), (Ok(granted()), vec![30]));
    let [prompt] = &prompts[..] else { panic!("{prompts:?}") };
    assert!(prompt.contains(LINK) && prompt.contains('\u{2588}'), "{prompt}");
}

#[test]
fn a_person_who_declines_is_told_so() {
    let (outcome, _, polled) = log_in(vec![Ok(PollAnswer::Declined)], vec![Some((30, ""))]);
    assert_eq!((outcome, polled.len()), (Err(LinkRefusal::Declined.into()), 1));
    let (outcome, ..) = log_in(vec![Ok(PollAnswer::Over)], vec![Some((30, ""))]);
    assert_eq!(outcome, Err(LinkRefusal::NotConfirmed.into()));
}

#[test]
fn without_a_confirmation_the_login_ends_in_time() {
    let (outcome, prompts, polled) = log_in(vec![pending()], vec![Some((10, "")); 9]);
    assert_eq!(outcome, Err(LinkRefusal::NotConfirmed.into()));
    assert!(prompts.len() > 1 && prompts[1].starts_with("Not confirmed yet"), "{prompts:?}");
    assert!(polled.last() < Some(&100) && polled.windows(2).all(|pair| pair[1] >= pair[0] + 5), "{polled:?}");
    // The link is valid for a shorter time.
    let short = StartedLink { expires_in: Duration::from_secs(20), ..started() };
    let (outcome, _, polled) = play(vec![pending()], vec![Some((10, "")); 9], LinkQr::Always, &short);
    assert_eq!(outcome, Err(LinkRefusal::NotConfirmed.into()));
    assert!(polled.last() < Some(&20), "{polled:?}");
}

#[test]
fn a_server_that_is_silent_twice_ends_the_login() {
    let silent = || Err(Refusal::Unavailable("x".into()));
    let (outcome, _, polled) = log_in(vec![silent()], vec![Some((10, ""))]);
    assert_eq!((outcome, polled), (Err(Refusal::Unavailable("x".into())), vec![10, 25]));
    let (outcome, ..) = log_in(vec![silent(), confirmed()], vec![Some((10, ""))]);
    assert_eq!(outcome, Ok(granted()));
    // A mytoken that was in the lost answer is known to nobody here.
    let (outcome, ..) = log_in(vec![silent(), Ok(PollAnswer::Over)], vec![Some((10, ""))]);
    assert_eq!(outcome, Err(LinkRefusal::AnswerLost.into()));
    let (outcome, ..) = log_in(vec![Err(Refusal::Configuration("x".into()))], vec![Some((10, ""))]);
    assert_eq!(outcome, Err(Refusal::Configuration("x".into())), "nothing to wait for");
}

#[test]
fn a_limit_of_requests_delays_the_question() {
    let limit = Err(Refusal::TooManyRequests { wait: 12, limit: Limit::Address });
    let (outcome, _, polled) = log_in(vec![limit, confirmed()], vec![Some((10, ""))]);
    assert_eq!((outcome, polled), (Ok(granted()), vec![10, 22]));
}

#[test]
fn a_client_that_goes_away_ends_the_login_without_a_question() {
    let (outcome, _, polled) = log_in(vec![confirmed()], vec![None]);
    assert_eq!((outcome, polled), (Err(Refusal::Conversation), Vec::new()));
}

#[test]
fn an_ssh_without_a_person_ends_the_login_without_a_question() {
    let (outcome, _, polled) = log_in(vec![confirmed()], vec![Some((0, "")); 9]);
    assert_eq!((outcome, polled), (Err(Refusal::Empty), Vec::new()));
}

#[test]
fn the_code_is_shown_as_configured() {
    let shown = |qr, answers| {
        let (outcome, prompts, _) = play(vec![confirmed()], answers, qr, &started());
        assert!(outcome.is_ok(), "{outcome:?}");
        prompts.iter().map(|prompt| prompt.contains('\u{2588}')).collect::<Vec<_>>()
    };
    assert_eq!(shown(LinkQr::Never, vec![Some((9, ""))]), [false]);
    assert_eq!(shown(LinkQr::Never, vec![Some((9, "q"))]), [false], "any answer is Enter");
    assert_eq!(shown(LinkQr::OnRequest, vec![Some((9, ""))]), [false]);
    // For an account that does not exist sshd makes junk of the letter.
    for typed in ["q", "\u{8}"] {
        assert_eq!(shown(LinkQr::OnRequest, vec![Some((9, typed)), Some((9, ""))]), [false, true]);
    }
}

#[test]
fn a_link_that_no_prompt_can_show_ends_the_login() {
    let long = StartedLink { link: Secret::new(format!("{LINK}{}", "x".repeat(400))), ..started() };
    let (outcome, prompts, _) = play(vec![confirmed()], vec![Some((9, ""))], LinkQr::Always, &long);
    assert!(matches!(outcome, Err(Refusal::Unavailable(_))) && prompts.is_empty(), "{outcome:?}");
}
