// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about what mytoken servers offer, compared with what jobs, logins and mytoken-ssh need of them. The discovery document tells
//! it; no further request is sent.

use mytoken::config::{ServerSettings, Shared};
use mytoken::restrictions::Clause;
use mytoken::server::{Deliver, Discovery, Grant, Provider, Server, ServerError};
use mytoken::{Deadline, Error, Secret};
use mytoken_login::{ExchangeSettings, Exchangeable, LoginSettings};

use super::kinds::{self, Kind};
use super::servers::{NETWORK, issuers_of_rules};
use super::{Findings, Severity};
use crate::jobs::profile::ProfileSettings;
use crate::jobs::settings::JobsSettings;
use crate::submit::{SubmitError, plan};

/// What is configured here for one mytoken server.
#[derive(Clone, Copy)]
pub(super) struct Configured<'a> {
    pub server: &'a ServerSettings,
    pub shared: &'a Shared,
    /// The settings of logins, if they use this server.
    pub login: Option<&'a LoginSettings>,
    /// The settings of jobs, whose profiles may name other servers.
    pub jobs: Option<&'a JobsSettings>,
}

impl<'a> Configured<'a> {
    fn profiles(self) -> impl Iterator<Item = &'a ProfileSettings> {
        let name = self.server.name.as_str();
        let all = self.jobs.into_iter().flat_map(|jobs| jobs.profile.iter());
        all.filter(move |profile| profile.server == name)
    }

    /// The clauses of the sub-token of a submission now.
    fn clauses(self, profile: &ProfileSettings, server: &Server<'_>) -> Vec<Clause> {
        profile.clauses(self.jobs.map_or(0, |jobs| jobs.cluster.longest()), server.now())
    }

    /// The exchange of logins at this server.
    fn exchange(self) -> Option<&'a ExchangeSettings> {
        self.login?.exchanges.iter().find(|exchange| exchange.server == self.server.name)
    }

    /// The exchange, if it accepts transfer codes. mytoken-ssh logs in by them.
    fn redeeming(self) -> Option<&'a ExchangeSettings> {
        self.exchange().filter(|exchange| exchange.accept.contains(&Exchangeable::TransferCode))
    }

    /// Whether people log in with a link of this server.
    fn gives_links(self) -> bool {
        self.exchange().is_some_and(|exchange| exchange.accept.contains(&Exchangeable::Link))
    }
}

/// Something that is needed here, and that the server does not offer.
struct Missing {
    kind: Kind,
    /// What follows the server's URL in the sentence.
    text: String,
    /// What the administrator can do.
    advice: &'static str,
}

impl Findings {
    /// Compares what the server offers with what is configured. `curl` is the command that shows its document.
    pub(super) fn offers(&mut self, server: &Server<'_>, configured: Configured<'_>, curl: &str) {
        let document = server.discovery();
        let single = [
            revocation(document, configured),
            codes(document, configured),
            tokeninfo(document, configured),
            login_flow(document, configured),
            sub_tokens(document, configured),
        ];
        let several = restrictions(server, configured).into_iter().chain(scopes(server, configured));
        for Missing { kind, text, advice } in single.into_iter().flatten().chain(several) {
            self.add_fixed(kind, format!("{} {text}", configured.server.url), format!("{curl}   # {advice}"));
        }
    }
}

/// Of these members of the document those that are not there, as words of a sentence.
fn lacking(members: &[(&'static str, bool)]) -> Option<String> {
    let names: Vec<&str> = members.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Agents revoke the sub-tokens of jobs, and logins the mytoken of a transfer code or of a link that no session gets.
fn revocation(document: &Discovery, configured: Configured<'_>) -> Option<Missing> {
    if document.revocation_endpoint.is_some() {
        return None;
    }
    let jobs = configured.profiles().next().map(|_| "the sub-tokens of ended jobs stay valid until they expire");
    let logins = (configured.redeeming().is_some() || configured.gives_links())
        .then_some("the mytokens of refused logins stay valid until they expire");
    let harm: Vec<&str> = jobs.into_iter().chain(logins).collect();
    let (level, harm) = if harm.is_empty() {
        (Severity::Warning, "mytoken-ssh logout cannot revoke a mytoken".to_owned())
    } else {
        (kinds::SERVER_REVOCATION.level, harm.join(", "))
    };
    Some(Missing {
        kind: Kind { level, ..kinds::SERVER_REVOCATION },
        text: format!("has no revocation_endpoint: {harm}"),
        advice: "ask the server's operator to switch the revocation of mytokens on",
    })
}

/// mytoken-ssh makes a sub-token for each login and gets it as a transfer code, which the login redeems. The server has the endpoint only
/// while transfer codes are switched on (MT-01).
fn codes(document: &Discovery, configured: Configured<'_>) -> Option<Missing> {
    configured.redeeming()?;
    let lacking = lacking(&[
        ("token_transfer_endpoint", document.token_transfer_endpoint.is_some()),
        ("transfer_code in response_types_supported", document.delivers(Deliver::TransferCode)),
        ("transfer_code in mytoken_endpoint_grant_types_supported", document.grants(Grant::TransferCode)),
        ("mytoken in mytoken_endpoint_grant_types_supported", document.grants(Grant::Mytoken)),
    ])?;
    Some(Missing {
        kind: kinds::SERVER_CODES,
        text: format!(
            "gives no transfer codes, and [[exchange]] of login.toml accepts them: mytoken-ssh cannot log in here (its document lacks {lacking})"
        ),
        advice: "ask the server's operator to switch transfer codes on, or leave transfer_code out of accept in login.toml",
    })
}

/// After a refused login mytoken-ssh revokes its mytoken. If the host has done so before, only an introspection of the parent tells that.
fn tokeninfo(document: &Discovery, configured: Configured<'_>) -> Option<Missing> {
    configured.redeeming().filter(|_| document.tokeninfo_endpoint.is_none())?;
    Some(Missing {
        kind: kinds::SERVER_TOKENINFO,
        text:
            "has no tokeninfo_endpoint: after a refused login mytoken-ssh warns of a mytoken that this host has revoked"
                .to_owned(),
        advice: "ask the server's operator to switch the introspection of mytokens on",
    })
}

/// Users get their first mytoken by `mytoken-ssh login`, and a login with a link uses the same flow.
fn login_flow(document: &Discovery, configured: Configured<'_>) -> Option<Missing> {
    let lacking = lacking(&[
        ("the grant oidc_flow with authorization_code", document.grants(Grant::OidcFlow)),
        ("the grant polling_code", document.grants(Grant::PollingCode)),
        ("the response type token", delivers_tokens(document)),
    ])?;
    if configured.gives_links() {
        return Some(Missing {
            kind: Kind { level: Severity::Error, ..kinds::SERVER_LOGIN_FLOW },
            text: format!(
                "does not list {lacking}: nobody can log in with a link, and mytoken-ssh login gets no mytoken there"
            ),
            advice: "ask the server's operator to switch it on, or leave link out of accept in login.toml",
        });
    }
    Some(Missing {
        kind: kinds::SERVER_LOGIN_FLOW,
        text: format!("does not list {lacking}: mytoken-ssh login gets no mytoken there"),
        advice: "ask the server's operator to switch it on, or tell users how they get a mytoken",
    })
}

/// A submission makes a sub-token of the user's mytoken.
fn sub_tokens(document: &Discovery, configured: Configured<'_>) -> Option<Missing> {
    configured.profiles().next()?;
    let lacking = lacking(&[
        ("the grant mytoken", document.grants(Grant::Mytoken)),
        ("the response type token", delivers_tokens(document)),
    ])?;
    Some(Missing {
        kind: kinds::SERVER_SUB_TOKENS,
        text: format!("does not list {lacking}: submissions get no credential"),
        advice: "ask the server's operator to switch it on",
    })
}

/// Without a list the document says nothing: the client asks for this form in any case.
fn delivers_tokens(document: &Discovery) -> bool {
    document.response_types_supported.is_empty() || document.delivers(Deliver::Token)
}

fn restrictions(server: &Server<'_>, configured: Configured<'_>) -> Vec<Missing> {
    let mut needed: Vec<(String, Vec<String>)> = Vec::new();
    for profile in configured.profiles() {
        let Some(what) = not_enforced(server, &configured.clauses(profile, server)) else { continue };
        let name = format!("\"{}\"", profile.name);
        match needed.iter_mut().find(|(known, _)| *known == what) {
            Some((_, names)) => names.push(name),
            None => needed.push((what, vec![name])),
        }
    }
    let of_jobs = |(what, names): (String, Vec<String>)| {
        let (plural, names) = (if names.len() == 1 { "" } else { "s" }, names.join(", "));
        Missing {
            kind: kinds::SERVER_RESTRICTION,
            text: format!("does not offer {what}: submissions get no credential with the profile{plural} {names}"),
            advice: "restriction_claims_supported: ask the server's operator to switch it on, or do without it in jobs.toml",
        }
    };
    let of_logins = configured.redeeming().and_then(|exchange| {
        // The limits that a user's mytoken needs in any case, for this host to accept it.
        let audience = exchange.audience.split_ascii_whitespace().map(str::to_owned).collect();
        let limits = Clause { scope: exchange.scope.clone(), audience, ..Clause::default() };
        let what = not_enforced(server, &[Clause::of_one_login(limits, server.now())])?;
        Some(Missing {
            kind: Kind { level: Severity::Warning, ..kinds::SERVER_RESTRICTION },
            text: format!("does not offer {what}: mytoken-ssh gets no mytoken for a login here"),
            advice: "restriction_claims_supported: ask the server's operator to switch it on",
        })
    });
    needed.into_iter().map(of_jobs).chain(of_logins).collect()
}

/// The restriction because of which the client makes no sub-token: the server would drop it silently (MT-20). Computed for a parent without
/// limits of its own; those of a user's mytoken only the submission knows.
fn not_enforced(server: &Server<'_>, wanted: &[Clause]) -> Option<String> {
    let open: &[Clause] = &[];
    match plan::narrowed(server, (&Secret::new(""), Some(open)), wanted, Deadline::after(NETWORK)) {
        Err(SubmitError::Client(Error::Server(ServerError::NotOffered { what, .. }))) => Some(what),
        _ => None,
    }
}

fn scopes(server: &Server<'_>, configured: Configured<'_>) -> Vec<Missing> {
    let all: Vec<&Provider> = server.discovery().providers_supported.iter().collect();
    let missing = |who: &str, mut scopes: Vec<&str>| {
        scopes.sort_unstable();
        scopes.dedup();
        (!scopes.is_empty()).then(|| Missing {
            kind: kinds::SERVER_SCOPE,
            text: format!(
                "has no provider that lists all scopes of {who} (missing: {}): a mytoken gives them only if its login asked for them by name, and its provider granted them",
                scopes.join(" ")
            ),
            advice: "scopes_supported: ask the server's operator to add them, or correct the scope in login.toml or jobs.toml",
        })
    };
    let of_profile = |profile: &ProfileSettings| {
        let clauses = configured.clauses(profile, server);
        let scopes = clauses.iter().flat_map(|clause| unlisted(&all, &clause.scope)).collect();
        missing(&format!("the profile \"{}\"", profile.name), scopes)
    };
    let of_login = configured.login.and_then(|login| {
        let issuers = issuers_of_rules(configured.shared, login);
        let is_known = |provider: &&Provider| issuers.iter().any(|issuer| issuer.is(&provider.issuer));
        let known: Vec<&Provider> = all.iter().copied().filter(is_known).collect();
        missing("[[exchange]]", unlisted(&known, &configured.exchange()?.scope))
    });
    configured.profiles().filter_map(of_profile).chain(of_login).collect()
}

/// The scopes that are not in the list of the provider that has most of them. Without a provider: none.
fn unlisted<'s>(providers: &[&Provider], scopes: &'s str) -> Vec<&'s str> {
    let of_one = |provider: &&Provider| -> Vec<&'s str> {
        scopes.split_ascii_whitespace().filter(|scope| !provider.offers(scope)).collect()
    };
    providers.iter().map(of_one).min_by_key(Vec::len).unwrap_or_default()
}

#[cfg(test)]
mod tests;
