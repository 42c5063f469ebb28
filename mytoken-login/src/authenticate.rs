// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login, from the prompt to the decision.
//!
//! The order is part of its security. A service or account that does not accept tokens is left to other modules without a prompt. All
//! others get the same prompt. Text that does not have the form of a token is sent nowhere. A mytoken, short token or transfer code is
//! exchanged once, at one configured server. A one-time password goes to motley_cue and nowhere else. The access token is verified, and
//! then the rules decide.

use std::time::{Duration, Instant};

use mytoken::token::NotAToken;
use mytoken::{Deadline, Secret};

use crate::accounts::LocalAccount;
use crate::checks::{Checks, Setting, Subject};
use crate::context::{Attempt, LoginContext};
use crate::conversation::{self, AskError, Conversation};
use crate::credential::SessionCredential;
use crate::exchange::{
    Obtained, RedeemedMytoken, exchange_confirmed, obtain_access_token, record_answer, record_confirmation,
};
use crate::identity::Identity;
use crate::link;
use crate::login_time::LoginTime;
use crate::mapper::{Asked, Given};
use crate::one_time_password;
use crate::refusal::Refusal;
use crate::replay::{Noted, TokenName, TokenUse};
use crate::report::{Accepted, Report, RevocationResult};
use crate::rules::decide;
use crate::settings::{MapperSettings, Replay};
use crate::validation::{PresentedToken, Validated, is_signed};

/// How long a token without an end is remembered after its use, in seconds.
const UNKNOWN_END: u64 = 86_400;

/// Asks the user for a token and decides. Shows the user why a login is refused.
pub fn authenticate(attempt: &Attempt, context: &LoginContext<'_>, conversation: &mut dyn Conversation) -> Report {
    let mut report = Report::new();
    let mut redeemed = None;
    let outcome = find_account(attempt, context, &mut report.checks).and_then(|account| {
        report.uid = account.as_ref().map(|account| account.uid);
        let spent = context.began.elapsed();
        // After such a long look-up the answer would come too late in any case.
        if spent >= context.settings.deadline.get() {
            return Err(Refusal::DeadlinePassed);
        }
        let token = match ask_for_token(context, conversation, &mut report) {
            Err(Refusal::Empty) if link::is_offered(context) => {
                return log_in_with_link(attempt, account, context, conversation, &mut report, &mut redeemed);
            }
            answer => answer?,
        };
        let time = LoginTime::after_answer(context.settings.deadline.get(), spent);
        check_token(attempt, account, &token, time, context, &mut report, &mut redeemed)
    });
    if outcome.is_err() {
        report.revocation = revoke(redeemed);
        if let (Some(link), Some(RevocationResult::Revoked)) = (context.link, &report.revocation) {
            link.forget();
        }
    }
    if let Some(refusal) = outcome.as_ref().err().filter(|refusal| refusal.is_shown_to_user()) {
        let fate = report.revocation.as_ref().map_or("", |result| result.sentence(report.by_link));
        conversation.show(&format!("{}{fate}", refusal.sentence(report.by_link)));
    }
    finish(report, outcome)
}

/// Decides about `token` without a conversation, for `mytokenctl explain`.
#[must_use]
pub fn examine(attempt: &Attempt, token: &Secret, context: &LoginContext<'_>) -> Report {
    let mut report = Report::new();
    report.answered = Some(Instant::now());
    let mut redeemed = None;
    let outcome = find_account(attempt, context, &mut report.checks).and_then(|account| {
        report.uid = account.as_ref().map(|account| account.uid);
        if token.is_empty() {
            return Err(Refusal::Empty);
        }
        let time = LoginTime::after_answer(context.settings.deadline.get(), context.began.elapsed());
        check_token(attempt, account, token, time, context, &mut report, &mut redeemed)
    });
    // No session follows, so a redeemed mytoken is revoked even when the token is accepted.
    report.revocation = revoke(redeemed);
    finish(report, outcome)
}

fn finish(mut report: Report, outcome: Result<Accepted, Refusal>) -> Report {
    if let Some(refusal) = outcome.as_ref().err().filter(|_| report.rules.is_empty()) {
        report.checks.close(refusal);
    }
    report.outcome = outcome.map(Box::new);
    report
}

/// Finds the account, if service and account accept tokens. `None`: it does not exist. The login goes on, so that the user does not
/// learn that.
pub(crate) fn find_account(
    attempt: &Attempt,
    context: &LoginContext<'_>,
    checks: &mut Checks,
) -> Result<Option<LocalAccount>, Refusal> {
    let settings = context.settings;
    let mut not_handled = |subject, why: &'static str, key| {
        checks.failed(subject, why.to_owned(), Some(Setting::Login(key)));
        Err(Refusal::NotHandled(why))
    };
    if !settings.services.contains(&attempt.service) {
        return not_handled(Subject::Service, "the service is not listed", &["services"]);
    }
    if settings.accounts.deny.contains(&attempt.user) {
        return not_handled(Subject::Account, "the account is denied", &["accounts", "deny"]);
    }
    let found = context.accounts.find(&attempt.user).map_err(|error| Refusal::System(error.to_string()))?;
    let Some((uid, gid)) = found else {
        checks.failed(Subject::Account, "this host has no such account".to_owned(), None);
        return Ok(None);
    };
    let account = LocalAccount::new(&attempt.user, uid, gid, &settings.accounts);
    if account.system && !settings.accounts.allow_system.contains(&attempt.user) {
        let key = &["accounts", "allow_system"];
        return not_handled(Subject::Account, "the account is a system account", key);
    }
    let key: &[&str] = if account.system { &["accounts", "allow_system"] } else { &["accounts", "min_uid"] };
    let kind = if account.system { ", a system account" } else { "" };
    checks.passed(Subject::Account, format!("uid {uid}{kind}"), Some(Setting::Login(key)));
    Ok(Some(account))
}

fn ask_for_token(
    context: &LoginContext<'_>,
    conversation: &mut dyn Conversation,
    report: &mut Report,
) -> Result<Secret, Refusal> {
    let prompt = &context.settings.prompt;
    if link::is_offered(context) {
        conversation.inform(link::HINT);
    }
    let answer = conversation::ask(conversation, &prompt.text, prompt.chunks);
    report.answered = Some(Instant::now());
    match answer {
        Err(AskError::Ended) => Err(Refusal::Conversation),
        Err(AskError::Chunks(fault)) => Err(Refusal::Chunks(fault)),
        Ok(answer) if answer.is_empty() => Err(Refusal::Empty),
        Ok(answer) => match std::str::from_utf8(&answer) {
            Ok(text) => Ok(Secret::new(text)),
            Err(_) => Err(Refusal::Garbage(NotAToken::ForeignCharacters)),
        },
    }
}

fn check_token<'a>(
    attempt: &Attempt,
    account: Option<LocalAccount>,
    token: &Secret,
    time: LoginTime,
    context: &LoginContext<'a>,
    report: &mut Report,
    redeemed: &mut Option<Redeemed<'a>>,
) -> Result<Accepted, Refusal> {
    // The deadline counts from the answer. sshd limits how long the user may take for it (SSH-10).
    report.deadline = Some(time.end());
    let account = account.ok_or(Refusal::UserUnknown)?;
    if let Some(receiver) = one_time_password::receiver(token, context.settings) {
        return one_time_password::log_in(account, token, receiver, context, time.for_requests(), report);
    }
    let mut mytoken = None;
    let obtained = obtain_access_token(attempt, token, context, time, report, &mut mytoken);
    *redeemed = mytoken.map(|mytoken| Redeemed { mytoken, time });
    record_answer(&obtained, &mut report.checks);
    let deadline = if redeemed.is_some() { time.for_requests_before_revocation() } else { time.for_requests() };
    authorize(attempt, Requested::Existing(account), obtained?, context, deadline, report)
}

/// A login with a link. An account that does not exist is treated like any other until the end: otherwise a person with an identity of this
/// site would learn which accounts exist.
fn log_in_with_link<'a>(
    attempt: &Attempt,
    account: Option<LocalAccount>,
    context: &LoginContext<'a>,
    conversation: &mut dyn Conversation,
    report: &mut Report,
    redeemed: &mut Option<Redeemed<'a>>,
) -> Result<Accepted, Refusal> {
    let exists = account.is_some();
    let account = account.map_or_else(|| Requested::missing(&attempt.user), Requested::Existing);
    for subject in [Subject::Link, Subject::Exchange] {
        report.checks.plan(subject);
    }
    let confirmed = link::wait_for_person(attempt, context, conversation, report);
    record_confirmation(confirmed.as_ref().err(), &mut report.checks);
    // The time in which the person confirmed does not count.
    let time = LoginTime::after_answer(context.settings.deadline.get(), Duration::ZERO);
    report.deadline = Some(time.end());
    let mut mytoken = None;
    let obtained = exchange_confirmed(attempt, confirmed?, context, time, report, &mut mytoken);
    record_answer(&obtained, &mut report.checks);
    *redeemed = mytoken.map(|mytoken| Redeemed { mytoken, time });
    let accepted = authorize(attempt, account, obtained?, context, time.for_requests_before_revocation(), report)?;
    if exists { Ok(accepted) } else { Err(Refusal::UserUnknown) }
}

/// The mytoken of a transfer code or of a link, and the time of the login that redeemed it.
struct Redeemed<'a> {
    mytoken: RedeemedMytoken<'a>,
    time: LoginTime,
}

/// The requested account.
enum Requested {
    /// It exists on this host.
    Existing(LocalAccount),
    /// It does not, and the login is refused at the end. The rules see an account like that of a person, and no mapper is asked.
    Missing(LocalAccount),
}

impl Requested {
    fn missing(name: &str) -> Self {
        Self::Missing(LocalAccount::missing(name))
    }
}

/// Verifies the access token and applies the rules.
fn authorize(
    attempt: &Attempt,
    requested: Requested,
    obtained: Obtained<'_>,
    context: &LoginContext<'_>,
    deadline: Deadline,
    report: &mut Report,
) -> Result<Accepted, Refusal> {
    let Obtained { access_token, renewal, delegated, for_session, issuer } = obtained;
    if renewal.is_none() && context.settings.login.replay != Replay::Off {
        report.checks.plan(Subject::Replay);
    }
    let began = Instant::now();
    let presented = PresentedToken { token: &access_token, entered: renewal.is_none(), issuer };
    let validated = context.validation().check_and_record(presented, deadline, &mut report.checks);
    report.durations.verify = began.elapsed();
    let Validated { claims, .. } = validated?;
    if renewal.is_none() && !is_signed(&access_token) {
        report.record_token("at", &access_token, "opaque access token, accepted by the provider");
    }
    report.identity = Some((claims.issuer.clone(), claims.sub.clone()));
    report.skew = claims.skew;

    let (exp, good_until) = (claims.exp, claims.good_until);
    let now = context.clock.now();
    let lifetime = exp.saturating_sub(now);
    let identity = Identity::from(claims);
    let began = Instant::now();
    let settings = context.settings;
    let (Requested::Existing(account) | Requested::Missing(account)) = &requested;
    let asked = Asked {
        identity: &identity,
        account,
        access_token: &access_token,
        entered: renewal.is_none(),
        service: &attempt.service,
        rhost: attempt.rhost.as_deref(),
    };
    let ask = |mapper: &MapperSettings| match requested {
        Requested::Existing(_) => context.mappers.mapper(mapper).gives(&asked, deadline),
        Requested::Missing(_) => Ok(Given::Nothing("is not asked: there is no such account".to_owned())),
    };
    let decision = decide(&identity, account, &settings.rules, settings.accounts.names, context.maps, &ask);
    report.durations.map = began.elapsed();
    report.rules = decision.rules;
    let rule = decision.verdict?;
    if renewal.is_none() {
        let token = TokenUse {
            name: TokenName::of(&access_token, &identity),
            uid: account.uid,
            // Of a token without an end it is not known for how long the provider accepts it.
            until: if identity.claims.contains_key("exp") {
                good_until
            } else {
                good_until.max(now.saturating_add(UNKNOWN_END))
            },
        };
        use_once(token, context, deadline, report)?;
    }
    let credential = SessionCredential { access_token, exp, good_until, lifetime, renewal, delegated, for_session };
    let (Requested::Existing(account) | Requested::Missing(account)) = requested;
    Ok(Accepted { account, identity: Some(identity), rule, credential: Some(credential) })
}

/// Records the use of an entered access token, if it can log in once only. This is the last step: a refused login uses no token.
fn use_once(
    token: TokenUse<'_>,
    context: &LoginContext<'_>,
    deadline: Deadline,
    report: &mut Report,
) -> Result<(), Refusal> {
    if context.settings.login.replay == Replay::Off {
        return Ok(());
    }
    let without = || Refusal::System("only root can record which access tokens have logged in".to_owned());
    let memory = context.used_tokens.ok_or_else(without);
    let noted = memory.and_then(|memory| memory.use_once(token, context.clock.now(), deadline));
    let by = Some(Setting::Login(&["login", "replay"]));
    match noted {
        Ok(noted @ Noted::NotChecked) => report.checks.warned(Subject::Replay, noted.sentence().to_owned(), by),
        Ok(noted) => report.checks.passed(Subject::Replay, noted.sentence().to_owned(), by),
        Err(refusal) => {
            report.checks.failed(Subject::Replay, refusal.whole_sentence(), by);
            return Err(refusal);
        }
    }
    Ok(())
}

/// Revokes a redeemed mytoken that no session gets. It exists only here and would stay valid for hours.
fn revoke(redeemed: Option<Redeemed<'_>>) -> Option<RevocationResult> {
    let Redeemed { mytoken: RedeemedMytoken { mytoken, server }, time } = redeemed?;
    Some(match server.tokens.revoke(&mytoken, time.for_revocation()) {
        Ok(()) => RevocationResult::Revoked,
        Err(refusal) => RevocationResult::Failed { reason: refusal.detail().unwrap_or_else(|| refusal.to_string()) },
    })
}
