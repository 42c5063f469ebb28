// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login, from the prompt to the decision.
//!
//! The order is part of its security: what does not concern this module is left alone without a
//! prompt; everybody else sees the same prompt; what is not of the form of a token is sent nowhere; what has to be exchanged is
//! exchanged once, at the configured server; the access token is verified like any other; then the rules decide.

use std::time::{Duration, Instant};

use mytoken::config::IssuerSettings;
use mytoken::names::same_base;
use mytoken::token::{MytokenClaims, Presented, Why, classify, may_be_mytoken};
use mytoken::{Clock, Deadline, Secret};
use mytoken_wire::agent::RenewalCredential;

use super::conversation::{self, Asked, Conversation};
use super::decision::{Decision, Step, Verdict, decide};
use super::service::{TokenService, Wanted};
use super::{
    Account, Accounts, ExchangeSettings, Exchangeable, Identity, LoginSettings, Maps, Refusal, SessionCredential,
};
use crate::oidc::{KeySource, verify};

/// Time for taking back what a refused login redeemed; its own may be over.
const REVOCATION: Duration = Duration::from_secs(3);

/// Who wants to log in, in the host's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// PAM service.
    pub service: String,
    /// Account asked for. PAM's user is never changed (SSH-14).
    pub user: String,
    /// Where they come from.
    pub rhost: Option<String>,
    /// This host's name, for the server's log.
    pub host: String,
}

/// Everything outside that a login depends on.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// `login.toml`.
    pub settings: &'a LoginSettings,
    /// Providers whose access tokens are accepted.
    pub issuers: &'a [IssuerSettings],
    /// The mytoken server of `[exchange]`.
    pub server: Option<ConfiguredServer<'a>>,
    /// The accounts of this machine.
    pub accounts: &'a dyn Accounts,
    /// The map files.
    pub maps: &'a Maps,
    /// The providers' keys.
    pub keys: &'a dyn KeySource,
    /// The time of day.
    pub clock: &'a dyn Clock,
}

/// The mytoken server that mytokens are exchanged at.
#[derive(Clone, Copy)]
pub struct ConfiguredServer<'a> {
    /// Its URL.
    pub url: &'a str,
    /// What it does.
    pub tokens: &'a dyn TokenService,
}

/// How a login went: everything that log, person, session and `explain` need.
#[derive(Debug, Clone)]
pub struct Report {
    /// Let in, or not.
    pub outcome: Result<Box<Accepted>, Refusal>,
    /// User id, once the account is known.
    pub uid: Option<u32>,
    /// Name of the provider and subject, once verified.
    pub identity: Option<(String, String)>,
    /// What was presented: `at`, `mt`, `st`, `tc`, `opaque`; with a fingerprint when it is a token beyond doubt. What may be a password
    /// has none: 32 bits of its hash would be enough to find a weak one.
    pub token: Option<String>,
    /// What was found about the token before the rules, for `explain`.
    pub facts: Vec<Fact>,
    /// What each rule said.
    pub steps: Vec<Step>,
    /// What became of the mytoken that was redeemed for this login, when the login was refused then.
    pub taken_back: Option<TakenBack>,
    /// When the answer was there; `fail_delay` counts from here.
    pub answered: Option<Instant>,
    /// Where the time went.
    pub times: Times,
}

/// Something that was found out about a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What about: `token`, `exchange`, `signature`, `audience`.
    pub about: &'static str,
    /// What was found.
    pub found: String,
}

/// What became of a mytoken that was redeemed for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenBack {
    /// It was revoked.
    Revoked,
    /// It could not be revoked and lives on until it expires.
    Alive {
        /// Why, for the log.
        reason: String,
    },
}

/// Where the time of a login went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Redeeming and exchanging.
    pub exchange: Duration,
    /// Verifying, keys included.
    pub verify: Duration,
    /// The rules.
    pub map: Duration,
}

/// A login that is let in.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The account.
    pub account: Account,
    /// Whose it is.
    pub identity: Identity,
    /// The rule that said so.
    pub rule: String,
    /// What it leaves for the session.
    pub credential: SessionCredential,
}

/// Asks the person, decides, and tells them when they are not let in.
pub fn authenticate(attempt: &Attempt, world: &World<'_>, conversation: &mut dyn Conversation) -> Report {
    let mut report = Report::new();
    let mut redeemed = None;
    let accepted = ours(attempt, world).and_then(|account| {
        report.uid = account.as_ref().map(|account| account.uid);
        let token = prompt(world, conversation, &mut report)?;
        judge(attempt, account, &token, world, &mut report, &mut redeemed)
    });
    if accepted.is_err() {
        report.take_back(redeemed, world);
    }
    if let Some(refusal) = accepted.as_ref().err().filter(|refusal| refusal.is_told()) {
        conversation.tell(&format!("{refusal}{}", report.taken_back.as_ref().map_or("", TakenBack::sentence)));
    }
    report.outcome = accepted.map(Box::new);
    report
}

/// Decides about a token that is already there: for `mytokenctl explain`.
#[must_use]
pub fn examine(attempt: &Attempt, token: &Secret, world: &World<'_>) -> Report {
    let mut report = Report::new();
    report.answered = Some(Instant::now());
    let mut redeemed = None;
    let accepted = ours(attempt, world).and_then(|account| {
        report.uid = account.as_ref().map(|account| account.uid);
        if token.is_empty() {
            return Err(Refusal::Empty);
        }
        judge(attempt, account, token, world, &mut report, &mut redeemed)
    });
    // There is no session that would get it.
    report.take_back(redeemed, world);
    report.outcome = accepted.map(Box::new);
    report
}

/// Whether service and account concern this module. `None`: no such account, which is told to nobody.
fn ours(attempt: &Attempt, world: &World<'_>) -> Result<Option<Account>, Refusal> {
    let settings = world.settings;
    if !settings.services.contains(&attempt.service) {
        return Err(Refusal::NotOurs("the service is not listed"));
    }
    if settings.accounts.deny.contains(&attempt.user) {
        return Err(Refusal::NotOurs("the account is denied"));
    }
    let Some((uid, gid)) = world.accounts.find(&attempt.user).map_err(Refusal::System)? else { return Ok(None) };
    let account = Account::new(&attempt.user, uid, gid, &settings.accounts);
    if account.system && !settings.accounts.allow_system.contains(&attempt.user) {
        return Err(Refusal::NotOurs("the account is one of the system's"));
    }
    Ok(Some(account))
}

fn prompt(world: &World<'_>, conversation: &mut dyn Conversation, report: &mut Report) -> Result<Secret, Refusal> {
    let prompt = &world.settings.prompt;
    let asked = conversation::ask(conversation, &prompt.text, prompt.chunks);
    report.answered = Some(Instant::now());
    match asked {
        Err(conversation::Gone) => Err(Refusal::Conversation),
        Ok(Asked::Broken(fault)) => Err(Refusal::Chunks(fault)),
        Ok(Asked::Answer(answer)) if answer.is_empty() => Err(Refusal::Empty),
        Ok(Asked::Answer(answer)) => match std::str::from_utf8(&answer) {
            Ok(text) => Ok(Secret::new(text)),
            Err(_) => Err(Refusal::Garbage(Why::ForeignCharacters)),
        },
    }
}

fn judge(
    attempt: &Attempt,
    account: Option<Account>,
    token: &Secret,
    world: &World<'_>,
    report: &mut Report,
    redeemed: &mut Option<Secret>,
) -> Result<Accepted, Refusal> {
    let account = account.ok_or(Refusal::UserUnknown)?;
    // The time for a login begins when the person has answered; how long they may take is sshd's affair (SSH-10).
    let deadline = Deadline::after(world.settings.deadline.get());
    let obtained = obtain(attempt, token, world, deadline, report, redeemed)?;
    admit(account, obtained, world, deadline, report)
}

/// An access token that is not verified yet, and the mytoken that it was exchanged for.
struct Obtained {
    access_token: Secret,
    renewal: Option<RenewalCredential>,
    delegated: bool,
}

/// Verifies the access token and asks the rules.
fn admit(
    account: Account,
    obtained: Obtained,
    world: &World<'_>,
    deadline: Deadline,
    report: &mut Report,
) -> Result<Accepted, Refusal> {
    let began = Instant::now();
    let Obtained { access_token, renewal, delegated } = obtained;
    let verified = verify(&access_token, world.issuers, world.keys, world.clock, deadline);
    report.times.verify = began.elapsed();
    let claims = verified?;
    report.identity = Some((claims.issuer.clone(), claims.sub.clone()));
    report.fact("signature", claims.signed.clone());
    report.fact("audience", crate::oidc::list(&claims.all, "aud").join(" "));

    let (exp, good_until) = (claims.exp, claims.good_until);
    let lifetime = exp.saturating_sub(world.clock.now());
    let identity = Identity::from(claims);
    let began = Instant::now();
    let settings = world.settings;
    let Decision { verdict, steps } = decide(&identity, &account, &settings.rules, settings.accounts.names, world.maps);
    report.times.map = began.elapsed();
    report.steps = steps;
    match verdict {
        Verdict::Accept { rule } => {
            let credential = SessionCredential { access_token, exp, good_until, lifetime, renewal, delegated };
            Ok(Accepted { account, identity, rule, credential })
        }
        Verdict::Refuse(refusal) => Err(refusal),
    }
}

/// The access token: the presented one, or what the configured server gives for it. A mytoken that came for a code is left in
/// `redeemed` before anything else is done with it.
fn obtain(
    attempt: &Attempt,
    token: &Secret,
    world: &World<'_>,
    deadline: Deadline,
    report: &mut Report,
    redeemed: &mut Option<Secret>,
) -> Result<Obtained, Refusal> {
    let began = Instant::now();
    let obtained = match classify(token) {
        Presented::Garbage(why) => Err(Refusal::Garbage(why)),
        Presented::AccessToken(_) => {
            report.presented("at", token, "access token (JWT)");
            return Ok(Obtained { access_token: token.clone(), renewal: None, delegated: false });
        }
        Presented::Opaque => {
            report.unclear("opaque", "opaque text");
            Err(Refusal::Opaque)
        }
        Presented::Mytoken(claims) => {
            report.presented("mt", token, "mytoken (JWT)");
            Exchange::of(world, Exchangeable::Mytoken).and_then(|exchange| {
                fit(claims.unverified(), exchange.server.url)?;
                if !may_be_mytoken(token, world.clock.now()) {
                    return Err(Refusal::MytokenRefused);
                }
                exchange.run(attempt, token.clone(), Source::Typed, deadline)
            })
        }
        Presented::ShortToken => {
            report.unclear("st", "short token");
            Exchange::of(world, Exchangeable::ShortToken)
                .and_then(|exchange| exchange.run(attempt, token.clone(), Source::Typed, deadline))
                .inspect(|_| report.presented("st", token, "accepted by the server"))
        }
        Presented::TransferCode => {
            report.unclear("tc", "transfer code");
            Exchange::of(world, Exchangeable::TransferCode).and_then(|exchange| {
                let mytoken = exchange.server.tokens.redeem(token, deadline)?;
                report.presented("tc", token, "accepted by the server");
                *redeemed = Some(mytoken.clone());
                let Presented::Mytoken(claims) = classify(&mytoken) else {
                    return Err(Refusal::Unavailable("the server gave no mytoken for the transfer code".to_owned()));
                };
                let claims = claims.unverified();
                fit(claims, exchange.server.url)?;
                let delegated = claims.capabilities.has("create_mytoken");
                exchange.run(attempt, mytoken, Source::Redeemed { delegated }, deadline)
            })
        }
    };
    report.times.exchange = began.elapsed();
    obtained
}

/// What can be seen before a mytoken is sent anywhere. Its claims are not verified, but a lie only leads to a refusal, here or by
/// the server.
fn fit(claims: &MytokenClaims, server: &str) -> Result<(), Refusal> {
    if !same_base(server, &claims.iss) {
        return Err(Refusal::ForeignServer);
    }
    if claims.rotates() {
        return Err(Refusal::Rotating);
    }
    if !claims.capabilities.has("AT") {
        return Err(Refusal::NoAccessTokens);
    }
    Ok(())
}

/// How a mytoken came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Somebody typed it: only its holder vouches for it, and it is theirs, so the session does not get it.
    Typed,
    /// The server gave it for a code.
    Redeemed {
        /// Whether it may create sub-tokens: then it was meant for the session.
        delegated: bool,
    },
}

/// An exchange that the configuration accepts.
struct Exchange<'a> {
    settings: &'a ExchangeSettings,
    server: ConfiguredServer<'a>,
}

impl<'a> Exchange<'a> {
    fn of(world: &World<'a>, kind: Exchangeable) -> Result<Self, Refusal> {
        let name = match kind {
            Exchangeable::Mytoken => "a mytoken",
            Exchangeable::ShortToken => "a short token",
            Exchangeable::TransferCode => "a transfer code",
        };
        match (&world.settings.exchange, world.server) {
            (Some(settings), Some(server)) if settings.accept.contains(&kind) => Ok(Self { settings, server }),
            _ => Err(Refusal::KindNotAccepted(name)),
        }
    }

    /// Exchanges, once: a second try could count a second use.
    fn run(&self, attempt: &Attempt, mytoken: Secret, source: Source, deadline: Deadline) -> Result<Obtained, Refusal> {
        let (vouched, delegated) = match source {
            Source::Typed => (false, false),
            Source::Redeemed { delegated } => (true, delegated),
        };
        let comment = format!("{} {}@{}", attempt.service, attempt.user, attempt.host);
        let (scope, audience) = (&self.settings.scope, &self.settings.audience);
        let wanted = Wanted { scope, audience, comment: &comment };
        let access_token = self.server.tokens.exchange(&mytoken, vouched, &wanted, deadline)?.token;
        let server = self.settings.server.clone();
        let renewal = RenewalCredential { server, mytoken, scope: scope.clone(), audience: audience.clone() };
        Ok(Obtained { access_token, renewal: Some(renewal), delegated })
    }
}

impl TakenBack {
    /// What the person is told after the refusal.
    fn sentence(&self) -> &'static str {
        match self {
            Self::Revoked => ". Your code is used up, and the mytoken behind it was revoked",
            Self::Alive { .. } => {
                ". Your code is used up, and the mytoken behind it could not be revoked: do it at your mytoken server"
            }
        }
    }
}

impl Report {
    fn new() -> Self {
        Self {
            outcome: Err(Refusal::Conversation),
            uid: None,
            identity: None,
            token: None,
            facts: Vec::new(),
            steps: Vec::new(),
            taken_back: None,
            answered: None,
            times: Times::default(),
        }
    }

    /// Revokes what was redeemed for nothing: nobody else has it, and it would live on for hours. The login's own time may be over.
    fn take_back(&mut self, redeemed: Option<Secret>, world: &World<'_>) {
        if let (Some(mytoken), Some(server)) = (redeemed, world.server) {
            self.taken_back = Some(match server.tokens.revoke(&mytoken, Deadline::after(REVOCATION)) {
                Ok(()) => TakenBack::Revoked,
                Err(refusal) => TakenBack::Alive { reason: refusal.detail().unwrap_or_else(|| refusal.to_string()) },
            });
        }
    }

    /// A token beyond doubt.
    fn presented(&mut self, kind: &str, token: &Secret, found: &str) {
        self.token = Some(format!("{kind}:{}", mytoken::token::fingerprint(token)));
        self.fact("token", found.to_owned());
    }

    /// What may be a password, for all that is known yet.
    fn unclear(&mut self, kind: &str, found: &str) {
        self.token = Some(kind.to_owned());
        self.fact("token", found.to_owned());
    }

    fn fact(&mut self, about: &'static str, found: String) {
        self.facts.push(Fact { about, found });
    }
}
