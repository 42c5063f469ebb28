// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins with a link at the configured mytoken server. What a login leaves when sshd ends it is in a root-only record: the agent revokes
//! it as soon as the login's process is gone.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use mytoken::private_files::FileError;
use mytoken::server::{LoginRequest, PendingLogin, Poll, ServerError};
use mytoken::{Clock, Deadline, Error, Process, Secret};
use mytoken_wire::agent::RenewalCredential;
use serde_json::Map;

use super::{LinkOwner, LinkRequest, LinkService, PollAnswer, StartedLink};
use crate::accounts::LocalAccount;
use crate::budget::{Allowance, LinkPlace};
use crate::credential::SessionCredential;
use crate::handover::{Handover, Record};
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::report::Accepted;
use crate::server_tokens::ServerTokens;
use crate::service::TokenService;
use crate::settings::ExchangeSettings;

/// The records of logins with a link.
#[derive(Clone, Copy)]
pub struct LinkRecords<'a> {
    /// Where they are. `None`: nothing is kept.
    pub records: Option<&'a Handover>,
    /// The time of day.
    pub clock: &'a dyn Clock,
}

/// One login with a link.
pub struct LinkServer<'a> {
    tokens: &'a ServerTokens<'a>,
    allowance: &'a Allowance<'a>,
    records: LinkRecords<'a>,
    origin: String,
    began: Instant,
    /// This process. `None`: that cannot be known.
    process: Option<Process>,
    state: RefCell<State<'a>>,
}

/// What a login has begun.
#[derive(Default)]
struct State<'a> {
    pending: Option<PendingLogin>,
    /// What the record says, with the handle of the record.
    kept: Option<(Accepted, String, Option<String>)>,
    place: Option<LinkPlace<'a>>,
}

impl<'a> LinkServer<'a> {
    /// For a login whose time began at `began` and that comes from the address `origin`.
    #[must_use]
    pub fn new(
        tokens: &'a ServerTokens<'a>,
        allowance: &'a Allowance<'a>,
        records: LinkRecords<'a>,
        origin: String,
        began: Instant,
    ) -> Self {
        Self { tokens, allowance, records, origin, began, process: Process::own(), state: RefCell::default() }
    }

    /// Keeps `secret`, the polling code or the mytoken of this login, for revocation. The record of what was kept before is removed after
    /// that.
    fn keep(&self, secret: &Secret) -> Result<(), FileError> {
        let Some(records) = self.records.records else { return Ok(()) };
        let mut state = self.state.borrow_mut();
        let Some((accepted, service, handle)) = &mut state.kept else { return Ok(()) };
        if let Some(renewal) = accepted.credential.as_mut().and_then(|credential| credential.renewal.as_mut()) {
            renewal.mytoken = secret.clone();
        }
        let process = self.process.into_iter().collect();
        let Some(record) = Record::new(accepted, service, process, self.records.clock) else { return Ok(()) };
        let stored = records.store_for_login(&record)?;
        if let Some(earlier) = handle.replace(stored) {
            records.discard(&earlier);
        }
        Ok(())
    }
}

impl Drop for LinkServer<'_> {
    /// The login is over. What it could not revoke is the agent's at once: the process of a login can last, in other programs than sshd.
    fn drop(&mut self) {
        let kept = self.state.borrow_mut().kept.take();
        let (Some(records), Some((accepted, service, Some(handle)))) = (self.records.records, kept) else { return };
        let record = Record::new(&accepted, &service, Vec::new(), self.records.clock);
        // If it cannot be stored, the earlier record stays, and the end of the process makes it the agent's.
        if record.is_some_and(|record| records.store_for_revocation(&record).is_ok()) {
            records.discard(&handle);
        }
    }
}

/// What a record says about a login whose person is not known yet.
fn unfinished(owner: &LinkOwner<'_>, exchange: &ExchangeSettings) -> Accepted {
    let renewal = RenewalCredential {
        server: exchange.server.clone(),
        mytoken: Secret::new(""),
        scope: exchange.scope.clone(),
        audience: exchange.audience.clone(),
    };
    let credential = SessionCredential {
        access_token: Secret::new(""),
        exp: 0,
        good_until: 0,
        lifetime: 0,
        renewal: Some(renewal),
        delegated: false,
        for_session: true,
    };
    let nobody = String::new;
    let identity =
        Identity { issuer: nobody(), iss: nobody(), sub: nobody(), scopes: Vec::new(), claims: Map::default() };
    // The account's own budget at the agent must not pay for what strangers begin.
    let account = LocalAccount::missing(owner.account);
    Accepted { account, identity: Some(identity), rule: "link".to_owned(), credential: Some(credential) }
}

impl LinkService for LinkServer<'_> {
    fn start(
        &self,
        request: &LinkRequest,
        exchange: &ExchangeSettings,
        owner: &LinkOwner<'_>,
        deadline: Deadline,
    ) -> Result<StartedLink, Refusal> {
        let place = self.allowance.take_link_place(owner.account, self.process, deadline)?;
        let pending = self.tokens.start_link(request, deadline)?;
        let started = StartedLink {
            link: pending.consent_uri.clone(),
            expires_in: pending.expires_in,
            interval: pending.interval,
        };
        let code = pending.polling_code.clone();
        let kept = Some((unfinished(owner, exchange), owner.service.to_owned(), None));
        *self.state.borrow_mut() = State { pending: Some(pending), kept, place };
        // Without a record nobody would revoke the mytoken of somebody who confirms later.
        self.keep(&code).map_err(|error| {
            self.abandon(deadline);
            Refusal::System(error.to_string())
        })?;
        Ok(started)
    }

    fn poll(&self, deadline: Deadline) -> Result<PollAnswer, Refusal> {
        let pending = self.state.borrow().pending.clone().ok_or_else(|| Refusal::System("no link".to_owned()))?;
        let answer = self.tokens.poll_link(&pending, deadline)?;
        if let PollAnswer::Granted(granted) = &answer {
            let mut state = self.state.borrow_mut();
            (state.pending, state.place) = (None, None);
            drop(state);
            // The code is used up. If this fails, only an end of the process before the decision leaves the mytoken.
            let _ = self.keep(&granted.mytoken);
        }
        Ok(answer)
    }

    fn abandon(&self, deadline: Deadline) {
        let (pending, place) = {
            let mut state = self.state.borrow_mut();
            (state.pending.take(), state.place.take())
        };
        drop(place);
        if let Some(pending) = pending {
            if self.tokens.revoke(&pending.polling_code, deadline).is_ok() {
                self.forget();
            }
        }
    }

    fn forget(&self) {
        let kept = self.state.borrow_mut().kept.take();
        if let (Some(records), Some((.., Some(handle)))) = (self.records.records, kept) {
            records.discard(&handle);
        }
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }
}

impl ServerTokens<'_> {
    /// Begins a login with a link.
    fn start_link(&self, asked: &LinkRequest, deadline: Deadline) -> Result<PendingLogin, Refusal> {
        self.check_before_link(deadline)?;
        let server = self.discover(deadline)?;
        let issuer = self.issuer_url(&asked.issuer)?;
        let request = LoginRequest {
            issuer: &issuer,
            capabilities: &asked.capabilities,
            restrictions: std::slice::from_ref(&asked.clause),
            rotation: None,
            name: &asked.name,
            application_name: &asked.application_name,
        };
        self.send_for_link(deadline, |deadline| server.start_login(&request, deadline))
    }

    /// Asks once whether the person has confirmed.
    fn poll_link(&self, pending: &PendingLogin, deadline: Deadline) -> Result<PollAnswer, Refusal> {
        let server = self.discover(deadline)?;
        self.send_for_link(deadline, |deadline| match server.poll(pending, deadline) {
            Ok(Poll::Pending) => Ok(PollAnswer::Pending),
            Ok(Poll::Granted(granted)) => Ok(PollAnswer::Granted(granted)),
            Err(Error::Server(ServerError::Declined)) => Ok(PollAnswer::Declined),
            Err(Error::Server(ServerError::CodeRefused { .. })) => Ok(PollAnswer::Over),
            Err(error) => Err(error),
        })
    }
}
