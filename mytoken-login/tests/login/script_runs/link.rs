// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken server of the scripts for logins with a link.

use std::cell::Cell;
use std::time::Duration;

use mytoken::capabilities::Capabilities;
use mytoken::http::HttpError;
use mytoken::restrictions::Clause;
use mytoken::server::{Granted, GrantedKind};
use mytoken::{Deadline, Error, Secret};
use mytoken_login::link::{Busy, LinkOwner, LinkRefusal, LinkRequest, LinkService, PollAnswer, StartedLink};
use mytoken_login::{ExchangeSettings, Refusal};

use super::ScriptRun;
use crate::script::Case;
use crate::support::NOW;
use crate::texts::{SERVER, mytoken};

/// What a person takes for an answer.
pub const PERSON: Duration = Duration::from_secs(20);

/// A login with a link.
#[derive(Default)]
pub struct State {
    time: Cell<Duration>,
    polls: Cell<usize>,
    is_left: Cell<bool>,
}

impl State {
    pub fn of(case: &Case) -> Self {
        let state = Self::default();
        if case.link.as_ref().is_some_and(|link| link.late) {
            state.pass(PERSON * 4);
        }
        state
    }

    pub fn pass(&self, time: Duration) {
        self.time.set(self.time.get() + time);
    }

    /// Whether the agent would find something to revoke.
    pub fn is_left(&self) -> bool {
        self.is_left.get()
    }
}

impl LinkService for ScriptRun {
    fn start(
        &self,
        request: &LinkRequest,
        exchange: &ExchangeSettings,
        owner: &LinkOwner<'_>,
        _: Deadline,
    ) -> Result<StartedLink, Refusal> {
        let options = &self.case.options;
        assert_eq!((owner.account, owner.service), (options.user.as_str(), options.service.as_str()));
        assert_eq!(request.name, format!("ssh session {}@login01 from 198.51.100.7", options.user));
        assert_eq!((request.clause.exp, exchange.server.as_str()), (Some(NOW + 3_600), "testbed"));
        match self.case.link.as_ref().unwrap().refused.as_deref() {
            Some("the account") => return Err(LinkRefusal::Busy(Busy::Account).into()),
            Some("the address") => return Err(LinkRefusal::Busy(Busy::Address).into()),
            other => assert!(matches!(other, None | Some("no answer")), "{other:?}"),
        }
        self.requests.borrow_mut().push("POST mytoken_endpoint oidc_flow".into());
        if self.case.link.as_ref().unwrap().refused.is_some() {
            return Err(Error::Http(HttpError::TooLate { host: SERVER.into() }).into());
        }
        self.link.is_left.set(true);
        let (expires_in, interval) = (Duration::from_secs(300), Duration::from_secs(5));
        Ok(StartedLink { link: Secret::new("https://mt.example.org/c/LinkCode"), expires_in, interval })
    }

    fn poll(&self, _: Deadline) -> Result<PollAnswer, Refusal> {
        self.requests.borrow_mut().push("POST mytoken_endpoint polling_code".into());
        let script = self.case.link.as_ref().unwrap();
        let number = self.link.polls.replace(self.link.polls.get() + 1);
        Ok(match script.polls.get(number).or(script.polls.last()).unwrap().as_str() {
            "pending" => PollAnswer::Pending,
            "declined" => PollAnswer::Declined,
            "over" => PollAnswer::Over,
            "confirmed" => {
                self.code_used.replace(true);
                let clause = Clause {
                    exp: Some(NOW + 3_600),
                    scope: "openid profile".into(),
                    audience: vec!["https://testbed".into()],
                    hosts: script.hosts.clone(),
                    ..Clause::default()
                };
                PollAnswer::Granted(Box::new(Granted {
                    mytoken: Secret::new(mytoken(&self.case.server.mytoken)),
                    kind: GrantedKind::Token,
                    restrictions: vec![clause],
                    capabilities: Capabilities::new(script.capabilities.clone()).unwrap(),
                    rotation: None,
                    expires_at: None,
                    code_expires_at: None,
                    mom_id: String::new(),
                }))
            }
            other => panic!("unknown answer {other}"),
        })
    }

    fn abandon(&self, _: Deadline) {
        self.requests.borrow_mut().push("POST revocation_endpoint polling_code".into());
        self.link.is_left.set(false);
    }

    fn forget(&self) {
        self.link.is_left.set(false);
    }

    fn elapsed(&self) -> Duration {
        self.link.time.get()
    }

    fn sleep(&self, pause: Duration) {
        self.link.pass(pause);
    }

    fn origin(&self) -> String {
        "198.51.100.7".into()
    }
}
