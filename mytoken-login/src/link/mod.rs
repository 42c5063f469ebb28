// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins with a link, for somebody who has no token and no program but ssh: an empty answer at the prompt shows a link, the person
//! confirms it in a browser, presses Enter and is in. The mytoken that is made so is the session's.
//!
//! `flow` says what happens when, `request` what is asked for, `texts` what is shown. [`LinkService`] is everything outside.

mod flow;
mod refusal;
mod request;
mod server;
mod texts;

use std::time::{Duration, Instant};

use mytoken::server::Granted;
use mytoken::{Deadline, Secret};

use crate::context::{Attempt, LoginContext};
use crate::conversation::Conversation;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::settings::{ExchangeSettings, Exchangeable, LinkQr, LoginSettings};

use flow::{Ask, Event, Flow, Step};
pub use refusal::{Busy, LinkRefusal};
pub use request::LinkRequest;
pub use server::{LinkRecords, LinkServer};
pub(crate) use texts::HINT;

/// Longest time for one request. The last one can begin when the person's time ends.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);

/// With less time than this nobody can confirm a link.
const LEAST_TIME: Duration = Duration::from_secs(5);

/// Longest time for the revocation of a link that was not confirmed. If it fails, the agent does it.
const ABANDON_TIME: Duration = Duration::from_secs(3);

/// What a login with a link needs from outside. One value serves one login.
pub trait LinkService {
    /// Begins a login to `owner`'s account at the mytoken server, and makes sure that it costs nothing if it is abandoned. `exchange` says
    /// which access tokens the mytoken is for.
    ///
    /// # Errors
    /// The refusal of the login.
    fn start(
        &self,
        request: &LinkRequest,
        exchange: &ExchangeSettings,
        owner: &LinkOwner<'_>,
        deadline: Deadline,
    ) -> Result<StartedLink, Refusal>;

    /// Asks the server once. A mytoken that it gives is kept for revocation until [`Self::forget`].
    ///
    /// # Errors
    /// The refusal of the login. The login may go on after [`Refusal::TooManyRequests`] and [`Refusal::Unavailable`].
    fn poll(&self, deadline: Deadline) -> Result<PollAnswer, Refusal>;

    /// The login is over without a mytoken: revokes its link.
    fn abandon(&self, deadline: Deadline);

    /// Nothing is left to revoke: the mytoken is revoked, or its session has it.
    fn forget(&self);

    /// Time since the begin of the login: over ssh, of its connection.
    fn elapsed(&self) -> Duration;

    /// Waits.
    fn sleep(&self, pause: Duration);

    /// The address that the login comes from, for the consent page.
    fn origin(&self) -> String;
}

/// The login for which a link is made.
#[derive(Debug, Clone, Copy)]
pub struct LinkOwner<'a> {
    /// PAM service.
    pub service: &'a str,
    /// The name of the account.
    pub account: &'a str,
}

/// A login that the server has begun.
#[derive(Debug, Clone)]
pub struct StartedLink {
    /// The link. It is secret: whoever sees it can compute the polling code (MT-31).
    pub link: Secret,
    /// How long it is valid.
    pub expires_in: Duration,
    /// Least time between two polls.
    pub interval: Duration,
}

/// The answer to a poll.
#[derive(Debug, Clone)]
pub enum PollAnswer {
    /// The person has not confirmed yet.
    Pending,
    /// The person declined.
    Declined,
    /// The link is not valid any more, or the provider refused.
    Over,
    /// The mytoken.
    Granted(Box<Granted>),
}

/// The exchange whose server makes links: the only one that accepts them ([`LoginSettings::load`] takes no more).
pub(crate) fn exchange_for_links(settings: &LoginSettings) -> Option<&ExchangeSettings> {
    let mut accepting = settings.exchanges.iter().filter(|exchange| exchange.accept.contains(&Exchangeable::Link));
    accepting.next().filter(|_| accepting.next().is_none())
}

/// Whether a login with a link is offered.
pub(crate) fn is_offered(context: &LoginContext<'_>) -> bool {
    context.link.is_some() && exchange_for_links(context.settings).is_some()
}

/// A mytoken that a person has confirmed. It is not compared with the request yet.
pub(crate) struct Confirmed {
    pub granted: Granted,
    pub request: LinkRequest,
}

/// Shows a link and waits until the person has confirmed it. An account that does not exist gets a link, too, so that the prompt does not
/// show which accounts exist.
pub(crate) fn wait_for_person(
    attempt: &Attempt,
    context: &LoginContext<'_>,
    conversation: &mut dyn Conversation,
    report: &mut Report,
) -> Result<Confirmed, Refusal> {
    let settings = &context.settings.link;
    let (Some(service), Some(exchange), Some(issuer)) =
        (context.link, exchange_for_links(context.settings), settings.issuer(context.issuers))
    else {
        return Err(Refusal::Empty);
    };
    let asked_for = (issuer.url.as_str(), exchange.scope.as_str(), exchange.audience.as_str());
    let request = LinkRequest::new(settings, asked_for, attempt, &service.origin(), context.clock.now());
    report.by_link = true;
    report.record_without_fingerprint("link", "login with a link");
    if service.elapsed().saturating_add(LEAST_TIME) > settings.time.get() {
        return Err(LinkRefusal::NotConfirmed.into());
    }
    let owner = LinkOwner { service: &attempt.service, account: &attempt.user };
    let outcome = service.start(&request, exchange, &owner, Deadline::after(REQUEST_TIME)).and_then(|started| {
        let outcome = run(&started, settings.time.get(), settings.qr, service, conversation);
        if outcome.is_err() {
            service.abandon(Deadline::after(ABANDON_TIME));
        }
        outcome
    });
    report.answered = Some(Instant::now());
    outcome.map(|granted| Confirmed { granted, request })
}

/// Runs the flow of a link. `time` counts from the begin of the login, over ssh from that of its connection.
fn run(
    started: &StartedLink,
    time: Duration,
    qr: LinkQr,
    service: &dyn LinkService,
    conversation: &mut dyn Conversation,
) -> Result<Granted, Refusal> {
    let link = started.link.expose();
    if link.len() > texts::LINK_LIMIT {
        return Err(Refusal::Unavailable("the server's link is too long to be shown".to_owned()));
    }
    let now = service.elapsed();
    let end = time.min(now.saturating_add(started.expires_in));
    let limit = conversation.prompt_limit();
    let first = Ask::Link { qr: qr == LinkQr::Always };
    let mut flow = Flow::new(started.interval, end, first, qr == LinkQr::OnRequest, now);
    let mut step = Step::Ask(first);
    let mut was_silent = false;
    loop {
        let event = match step {
            Step::Ask(ask) => {
                let text = texts::prompt(ask, link, qr == LinkQr::OnRequest, limit);
                let answer = conversation.ask(&text).map_err(|_| Refusal::Conversation)?;
                Event::Answered { typed: !answer.is_empty() }
            }
            Step::Wait(pause) => {
                service.sleep(pause);
                Event::Waited
            }
            Step::Poll => match service.poll(Deadline::after(REQUEST_TIME)) {
                Ok(PollAnswer::Pending) => Event::Pending,
                Ok(PollAnswer::Granted(granted)) => return Ok(*granted),
                Ok(PollAnswer::Declined) => return Err(LinkRefusal::Declined.into()),
                Ok(PollAnswer::Over) if was_silent => return Err(LinkRefusal::AnswerLost.into()),
                Ok(PollAnswer::Over) => return Err(LinkRefusal::NotConfirmed.into()),
                Err(refusal @ Refusal::TooManyRequests { wait, .. }) => {
                    Event::TooMany { wait: Duration::from_secs(wait), refusal }
                }
                Err(refusal @ Refusal::Unavailable(_)) => {
                    was_silent = true;
                    Event::Silent(refusal)
                }
                Err(refusal) => return Err(refusal),
            },
            Step::End(refusal) => return Err(refusal),
        };
        step = flow.step(event, service.elapsed());
    }
}

#[cfg(test)]
mod tests;
