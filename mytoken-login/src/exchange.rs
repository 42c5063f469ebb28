// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gets an access token for the entered text. It sends each exchange to one configured server only, and once.

use std::time::Instant;

use mytoken::config::IssuerSettings;
use mytoken::server::AccessTokenRequest;
use mytoken::token::{
    MytokenClaims, NotAToken, Presented, classify, is_for_session, may_be_mytoken, unverified_claims,
};
use mytoken::urls::same_base;
use mytoken::{Deadline, Secret};
use mytoken_wire::agent::RenewalCredential;
use mytoken_wire::issuer_mark;

use crate::checks::{CheckVerdict, Checks, Setting, Subject};
use crate::context::{Attempt, ConfiguredServer, LoginContext};
use crate::link::{Confirmed, LinkRefusal};
use crate::login_time::LoginTime;
use crate::oidc::Rejection;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::settings::{ExchangeSettings, Exchangeable};
use crate::validation::{is_signed, issuer_of_exchange, named_issuer, only_issuer};

/// An access token that is not verified yet, and the mytoken that was exchanged for it. Without one, the user entered the access token.
pub(crate) struct Obtained<'a> {
    pub access_token: Secret,
    pub renewal: Option<RenewalCredential>,
    pub delegated: bool,
    /// Whether the mytoken was made for this session alone ([`is_for_session`]).
    pub for_session: bool,
    /// The issuer, if something else than the token says who made it.
    pub issuer: Option<&'a IssuerSettings>,
}

impl<'a> Obtained<'a> {
    /// An access token that the user entered.
    fn entered(access_token: &Secret, issuer: Option<&'a IssuerSettings>) -> Self {
        Self { access_token: access_token.clone(), renewal: None, delegated: false, for_session: false, issuer }
    }
}

/// The mytoken of a transfer code or of a link, and the server that issued it.
pub(crate) struct RedeemedMytoken<'a> {
    pub mytoken: Secret,
    pub server: ConfiguredServer<'a>,
}

/// Returns the entered access token, or the access token that a configured server issues for the entered token or code. The mytoken of a
/// transfer code is put into `redeemed` before it is checked or used.
pub(crate) fn obtain_access_token<'a>(
    attempt: &Attempt,
    token: &Secret,
    context: &LoginContext<'a>,
    time: LoginTime,
    report: &mut Report,
    redeemed: &mut Option<RedeemedMytoken<'a>>,
) -> Result<Obtained<'a>, Refusal> {
    let began = Instant::now();
    if let Some((name, bare)) = issuer_mark::split(token.expose()) {
        return marked_access_token(name, &Secret::new(bare), context, report);
    }
    let obtained = match classify(token) {
        Presented::Garbage(why) => Err(Refusal::Garbage(why)),
        Presented::AccessToken(_) => {
            report.record_token("at", token, "access token (JWT)");
            return Ok(Obtained::entered(token, None));
        }
        // 128 hexadecimal digits come to here only if no rule has `otp` (`one_time_password`).
        Presented::Opaque | Presented::OneTimePassword => {
            report.record_without_fingerprint("opaque", "opaque text");
            only_issuer(context.issuers).map(|issuer| Obtained::entered(token, Some(issuer)))
        }
        Presented::Mytoken(claims) => {
            report.record_token("mt", token, "mytoken (JWT)");
            Exchange::for_mytoken(context, claims.unverified(), &mut report.checks).and_then(|exchange| {
                check_claims(claims.unverified(), exchange.server.url)?;
                if !may_be_mytoken(token, context.clock.now()) {
                    return Err(Refusal::MytokenRefused);
                }
                exchange.run(attempt, token.clone(), MytokenSource::Entered, time.for_requests())
            })
        }
        Presented::ShortToken => {
            report.record_without_fingerprint("st", "short token");
            Exchange::without_issuer(context, Exchangeable::ShortToken, &mut report.checks)
                .and_then(|exchange| exchange.run(attempt, token.clone(), MytokenSource::Entered, time.for_requests()))
                .inspect(|_| report.record_token("st", token, "accepted by the server"))
        }
        Presented::TransferCode => {
            report.record_without_fingerprint("tc", "transfer code");
            Exchange::without_issuer(context, Exchangeable::TransferCode, &mut report.checks).and_then(|exchange| {
                // The mytoken must be revoked if the login is refused, even by silence.
                let deadline = time.for_requests_before_revocation();
                let mytoken = exchange.server.tokens.redeem(token, deadline)?;
                report.record_token("tc", token, "accepted by the server");
                *redeemed = Some(RedeemedMytoken { mytoken: mytoken.clone(), server: exchange.server });
                let Presented::Mytoken(claims) = classify(&mytoken) else {
                    let reason = "the server's answer to the transfer code is not a mytoken";
                    return Err(Refusal::Unavailable(reason.to_owned()));
                };
                let claims = claims.unverified();
                check_claims(claims, exchange.server.url)?;
                let delegated = claims.capabilities.has("create_mytoken");
                let for_session = delegated && is_for_session(claims, &attempt.user, context.clock.now());
                exchange.run(attempt, mytoken, MytokenSource::Redeemed { delegated, for_session }, deadline)
            })
        }
    };
    report.durations.exchange = began.elapsed();
    obtained
}

/// The access token for the mytoken that a person has confirmed, from the server that made the link. The mytoken is put into `redeemed` before it is checked or used.
pub(crate) fn exchange_confirmed<'a>(
    attempt: &Attempt,
    confirmed: Confirmed,
    context: &LoginContext<'a>,
    time: LoginTime,
    report: &mut Report,
    redeemed: &mut Option<RedeemedMytoken<'a>>,
) -> Result<Obtained<'a>, Refusal> {
    let began = Instant::now();
    let Confirmed { granted, request } = confirmed;
    let exchange = Exchange::without_issuer(context, Exchangeable::Link, &mut report.checks)?;
    report.record_token("link", &granted.mytoken, "confirmed in a browser");
    *redeemed = Some(RedeemedMytoken { mytoken: granted.mytoken.clone(), server: exchange.server });
    request.check(&granted).inspect_err(|refusal| record_confirmation(Some(refusal), &mut report.checks))?;
    let Presented::Mytoken(claims) = classify(&granted.mytoken) else {
        return Err(Refusal::Unavailable("what the server gave for the link is not a mytoken".to_owned()));
    };
    check_claims(claims.unverified(), exchange.server.url)?;
    let source = MytokenSource::Redeemed { delegated: granted.capabilities.has("create_mytoken"), for_session: true };
    let obtained = exchange.run(attempt, granted.mytoken, source, time.for_requests_before_revocation());
    report.durations.exchange = began.elapsed();
    obtained
}

/// The entered access token of a provider that its mark names. Text that is too short for a token may be a password.
fn marked_access_token<'a>(
    name: &str,
    token: &Secret,
    context: &LoginContext<'a>,
    report: &mut Report,
) -> Result<Obtained<'a>, Refusal> {
    match classify(token) {
        Presented::Garbage(why) => return Err(Refusal::Garbage(why)),
        Presented::TransferCode => return Err(Refusal::Garbage(NotAToken::TooShort)),
        Presented::Mytoken(_) => return Err(Rejection::WrongKind("a mytoken").into()),
        Presented::AccessToken(_) => report.record_token("at", token, "access token (JWT)"),
        Presented::Opaque | Presented::ShortToken | Presented::OneTimePassword => {
            report.record_without_fingerprint("opaque", "opaque text");
        }
    }
    named_issuer(context.issuers, name).map(|issuer| Obtained::entered(token, Some(issuer)))
}

/// Records whether the person has confirmed a login with a link. A refusal replaces what was recorded before.
pub(crate) fn record_confirmation(refusal: Option<&Refusal>, checks: &mut Checks) {
    let Some(refusal) = refusal else {
        let by = Some(Setting::Login(&["link"]));
        return checks.passed(Subject::Link, "confirmed in a browser".to_owned(), by);
    };
    let by = match refusal {
        Refusal::Link(LinkRefusal::NotConfirmed) => Setting::Login(&["link", "time"]),
        _ => Setting::Login(&["link"]),
    };
    checks.failed(Subject::Link, refusal.whole_sentence(), Some(by));
}

/// Records what became of the exchange, if a server was chosen for one.
pub(crate) fn record_answer(obtained: &Result<Obtained<'_>, Refusal>, checks: &mut Checks) {
    let chosen = checks.find(Subject::Exchange).filter(|check| check.verdict == CheckVerdict::Noted);
    let Some((server, by)) = chosen.map(|check| (check.found.clone(), check.by.clone())) else { return };
    match obtained {
        Ok(_) => checks.passed(Subject::Exchange, format!("{server} gave an access token"), by),
        // The server gave a mytoken, but not the one that this host had asked for.
        Err(Refusal::Link(_)) => {}
        Err(refusal) => checks.failed(Subject::Exchange, format!("{server}: {}", refusal.whole_sentence()), by),
    }
}

/// Checks a mytoken before it is sent anywhere. Its claims are not verified: a false claim only leads to a refusal, here or by the server.
fn check_claims(claims: &MytokenClaims, server: &str) -> Result<(), Refusal> {
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

/// Where a mytoken comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MytokenSource {
    /// The user entered it and keeps it. The session does not get it.
    Entered,
    /// The server issued it for a transfer code, or for a link.
    Redeemed {
        /// Whether the mytoken may create sub-tokens. Such a mytoken is delegated to the session.
        delegated: bool,
        /// Whether it was made for this session alone.
        for_session: bool,
    },
}

/// An exchange at a configured server.
#[derive(Clone, Copy)]
struct Exchange<'a> {
    /// Its place in the list of the settings.
    index: usize,
    settings: &'a ExchangeSettings,
    server: ConfiguredServer<'a>,
    issuers: &'a [IssuerSettings],
}

impl<'a> Exchange<'a> {
    /// All that are configured.
    fn configured(context: &LoginContext<'a>) -> impl Iterator<Item = Self> + 'a {
        let (servers, issuers) = (context.servers, context.issuers);
        context.settings.exchanges.iter().enumerate().filter_map(move |(index, settings)| {
            let server = servers.iter().find(|server| server.name == settings.server)?;
            Some(Self { index, settings, server: *server, issuers })
        })
    }

    fn accepts(&self, kind: Exchangeable) -> bool {
        self.settings.accept.contains(&kind)
    }

    /// The exchange at the server that the claims of a mytoken name, if that one is configured and accepts mytokens.
    fn for_mytoken(context: &LoginContext<'a>, claims: &MytokenClaims, checks: &mut Checks) -> Result<Self, Refusal> {
        let kind = Exchangeable::Mytoken;
        let own = Self::configured(context).find(|exchange| same_base(exchange.server.url, &claims.iss));
        let chosen = match own {
            _ if !Self::configured(context).any(|exchange| exchange.accepts(kind)) => {
                Err(Refusal::KindNotAccepted(kind.phrase()))
            }
            None => Err(Refusal::ForeignServer),
            Some(own) if !own.accepts(kind) => Err(Refusal::KindNotAccepted(kind.phrase())),
            Some(own) => Ok(own),
        };
        Self::record(chosen, own, context, checks)
    }

    /// The exchange for a kind that does not tell its server. Only one may accept it: another server would learn a token that is not its
    /// own.
    fn without_issuer(context: &LoginContext<'a>, kind: Exchangeable, checks: &mut Checks) -> Result<Self, Refusal> {
        let mut accepting = Self::configured(context).filter(|exchange| exchange.accepts(kind));
        let chosen = match (accepting.next(), accepting.next()) {
            (Some(exchange), None) => Ok(exchange),
            (None, _) => Err(Refusal::KindNotAccepted(kind.phrase())),
            (Some(_), Some(_)) => {
                Err(Refusal::Configuration(format!("more than one [[exchange]] accepts {}", kind.phrase())))
            }
        };
        Self::record(chosen, None, context, checks)
    }

    /// Records the choice. `own`: the exchange at the server that made the mytoken. Without it a refusal is about the only exchange, or
    /// about all of them.
    fn record(
        chosen: Result<Self, Refusal>,
        own: Option<Self>,
        context: &LoginContext<'a>,
        checks: &mut Checks,
    ) -> Result<Self, Refusal> {
        match &chosen {
            Ok(exchange) => {
                let by = Setting::Exchange { index: exchange.index, key: "server" };
                checks.noted(Subject::Exchange, format!("mytoken server \"{}\"", exchange.settings.server), Some(by));
            }
            Err(refusal) => {
                let only = Self::configured(context).next().filter(|_| context.settings.exchanges.len() == 1);
                let by = match (refusal, own.or(only)) {
                    (Refusal::KindNotAccepted(_), Some(one)) => Setting::Exchange { index: one.index, key: "accept" },
                    (Refusal::ForeignServer, Some(one)) => Setting::Exchange { index: one.index, key: "server" },
                    _ => Setting::Login(&["exchange"]),
                };
                checks.failed(Subject::Exchange, refusal.to_string(), Some(by));
            }
        }
        chosen
    }

    /// Sends one request and never repeats it: a second request could consume a second use.
    fn run(
        &self,
        attempt: &Attempt,
        mytoken: Secret,
        source: MytokenSource,
        deadline: Deadline,
    ) -> Result<Obtained<'a>, Refusal> {
        let (redeemed, delegated, for_session) = match source {
            MytokenSource::Entered => (false, false, false),
            MytokenSource::Redeemed { delegated, for_session } => (true, delegated, for_session),
        };
        let comment = self.settings.comment.fill(attempt);
        let (scope, audience) = (&self.settings.scope, &self.settings.audience);
        let request = AccessTokenRequest { mytoken: &mytoken, scope, audience, comment: &comment };
        let access_token = self.server.tokens.exchange(&request, redeemed, deadline)?;
        // The server has accepted the mytoken, so its claims are true.
        let claims = unverified_claims(&mytoken);
        let provider = claims.as_ref().map(|claims| claims.unverified().oidc_iss.as_str());
        let issuer = issuer_of_exchange(self.issuers, provider).filter(|_| !is_signed(&access_token));
        if issuer.is_none() && !is_signed(&access_token) {
            return Err(Refusal::OpaqueExchange { provider: provider.map(str::to_owned) });
        }
        let server = self.settings.server.clone();
        let renewal = RenewalCredential { server, mytoken, scope: scope.clone(), audience: audience.clone() };
        Ok(Obtained { access_token, renewal: Some(renewal), delegated, for_session, issuer })
    }
}
