// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sub-tokens: their clauses are narrowed from the parent's clauses, and the answer is verified (MT-18).

use serde::Serialize;

use super::call::{Context, Repeat};
use super::wire::MytokenAnswer;
use super::{Grant, Granted, GrantedKind, OnRotation, Server};
use crate::InputError;
use crate::capabilities::{self, Capabilities};
use crate::http::ANSWER_LIMIT;
use crate::restrictions::{self, Clause, Uses};
use crate::server::ServerError;
use crate::token;
use crate::{Deadline, Error, Secret};

/// Longest name in characters. The server fails for names of more than 89 characters (MT-23).
const NAME_LIMIT: usize = 80;

/// A number of uses that means "unlimited". If a clause has only one of the two counters, the server fails on the second use (MT-17). So
/// the other counter gets this number.
const UNLIMITED: i64 = 1_000_000_000;

/// A request for a child. The child never rotates (MT-47).
#[derive(Debug, Clone)]
pub struct SubTokenRequest<'a> {
    /// The parent; needs `create_mytoken`.
    pub parent: &'a Secret,
    /// The parent's clauses, if the caller knows them from introspection or from the grant. `None`: they are read from the parent if it is
    /// a JWT; otherwise an introspection gets them, which needs `tokeninfo:introspect`.
    pub parent_clauses: Option<&'a [Clause]>,
    /// The child's clauses. Members that are left out are inherited. Each resulting clause needs an end.
    pub wanted: &'a [Clause],
    /// The child's capabilities; never empty.
    pub capabilities: &'a Capabilities,
    /// Name of the child in the user's lists; cut at 80 characters.
    pub name: &'a str,
    /// The form in which the child is delivered.
    pub deliver: Deliver,
}

/// The form in which a child is delivered. Short tokens are not offered, because they stop working when they rotate (MT-45).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deliver {
    /// As JWT.
    #[default]
    Token,
    /// As a one-time code, with which another program gets it.
    TransferCode,
}

impl Deliver {
    /// Its name in requests and in `response_types_supported`.
    #[must_use]
    pub const fn response_type(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TransferCode => "transfer_code",
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    grant_type: &'static str,
    mytoken: &'a Secret,
    restrictions: &'a [Clause],
    capabilities: &'a Capabilities,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    response_type: &'static str,
    /// Today's server ignores it (MT-18). Newer ones may not.
    error_on_restrictions: bool,
}

impl Server<'_> {
    /// Makes a child and compares the answer with the request. A child that is broader than requested is revoked and not returned. So is
    /// a child whose parent rotated if the parent's successor could not be stored.
    ///
    /// # Errors
    /// [`InputError::NotNarrower`], [`InputError::InvalidRequest`], [`ServerError::NotOffered`] before anything is sent;
    /// [`ServerError::Broader`] if the child is broader than requested; else the error of the server or the network.
    pub fn create(
        &self,
        request: &SubTokenRequest<'_>,
        on_rotation: OnRotation<'_>,
        deadline: Deadline,
    ) -> Result<Granted, Error> {
        super::check_not_empty(request.parent)?;
        if request.capabilities.is_empty() {
            return Err(invalid(
                "a mytoken needs at least one capability: without capabilities it would get all those of its parent",
            ));
        }
        let clauses = self.child_clauses(request, deadline)?;
        if request.deliver == Deliver::TransferCode {
            self.check_delivered(request.deliver)?;
        }
        let name = short_name(request.name);
        let body = Body {
            grant_type: Grant::Mytoken.name(),
            mytoken: request.parent,
            restrictions: &clauses,
            capabilities: request.capabilities,
            name: &name,
            response_type: request.deliver.response_type(),
            error_on_restrictions: true,
        };
        let answer = self.post(&self.discovery.mytoken_endpoint, &body, Repeat::Never, ANSWER_LIMIT, deadline)?;
        let stored = self.store_successor(&answer, on_rotation);
        if answer.status != 200 {
            return Err(stored
                .err()
                .unwrap_or_else(|| self.refusal(&answer, Context::Mytoken(capabilities::CREATE_MYTOKEN))));
        }
        let said: Result<MytokenAnswer, _> = answer.json();
        if let Err(error) = stored {
            // The caller gets an error and cannot revoke the child, so it is revoked here.
            if let Some(secret) = said.as_ref().ok().and_then(MytokenAnswer::secret) {
                let _ = self.revoke(secret, true, deadline);
            }
            return Err(error);
        }
        let said = said.map_err(|reason| self.not_understood(&answer, &reason))?;
        let Some(secret) = said.secret() else {
            return Err(self.not_understood(&answer, "neither a mytoken nor a code"));
        };
        let granted = said.granted(self.now()).map_err(|fault| fault.to_string());
        let checked =
            granted.and_then(|granted| match excess(&granted, &clauses, request.capabilities, request.deliver) {
                None => Ok(granted),
                Some(what) => Err(what),
            });
        checked.map_err(|what| {
            // Revoking the code of a new token also revokes the token (MT-35).
            let revoked = self.revoke(secret, true, deadline).is_ok();
            Error::Server(ServerError::Broader { server: self.url.to_string(), what, revoked })
        })
    }

    /// The clauses that [`create`](Self::create) would send. Nothing is made; the server is asked only when the parent's clauses are known
    /// neither to the caller nor from the parent itself.
    ///
    /// # Errors
    /// Those of `create` before anything is sent.
    pub fn child_clauses(&self, request: &SubTokenRequest<'_>, deadline: Deadline) -> Result<Vec<Clause>, Error> {
        let parent = match (request.parent_clauses, token::unverified_claims(request.parent)) {
            (Some(clauses), _) => clauses.to_vec(),
            (None, Some(claims)) => claims.unverified().restrictions.clone(),
            (None, None) => self.introspect(request.parent, deadline)?.claims.restrictions,
        };
        let now = self.now();
        let narrowed = restrictions::narrow(&parent, request.wanted, Uses::of(request.capabilities), now)?;
        let clauses: Vec<Clause> = narrowed.into_iter().map(with_both_counters).collect();
        self.check_supported(&clauses)?;
        if clauses.is_empty() || clauses.iter().any(|clause| clause.exp.is_none()) {
            return Err(invalid("a sub-token needs an end: give every restriction an exp"));
        }
        // MT-24: the server accepts an end in the past and makes a token that has already expired.
        if clauses.iter().any(|clause| clause.exp.is_some_and(|exp| exp <= now)) {
            return Err(Error::Input(InputError::NotNarrower {
                reason: "the mytoken has expired, or the requested end is in the past".to_owned(),
            }));
        }
        Ok(clauses)
    }

    /// Checks that the server enforces all members of the clauses. It silently drops those that it does not know (MT-20).
    pub(super) fn check_supported(&self, clauses: &[Clause]) -> Result<(), Error> {
        match self.discovery.unsupported(clauses.iter().flat_map(Clause::keys)) {
            None => Ok(()),
            Some(key) => {
                let key = mytoken_wire::printable(key, 40);
                Err(Error::Server(ServerError::NotOffered {
                    server: self.url.to_string(),
                    what: format!("the restriction {key}"),
                }))
            }
        }
    }

    fn check_delivered(&self, form: Deliver) -> Result<(), Error> {
        if self.discovery.delivers(form) {
            return Ok(());
        }
        Err(Error::Server(ServerError::NotOffered {
            server: self.url.to_string(),
            what: form.response_type().replace('_', " ") + "s",
        }))
    }
}

/// The part in which the child is broader than requested.
fn excess(granted: &Granted, clauses: &[Clause], capabilities: &Capabilities, deliver: Deliver) -> Option<String> {
    let form = match deliver {
        Deliver::Token => GrantedKind::Token,
        Deliver::TransferCode => GrantedKind::TransferCode,
    };
    if granted.kind != form {
        return Some("another form of token".to_owned());
    }
    if granted.rotates() {
        return Some("rotation".to_owned());
    }
    if let Some(what) = granted.broader_than(clauses, capabilities) {
        return Some(what);
    }
    // The token's own claims are checked too, because the answer may leave out some of them.
    let claims = token::unverified_claims(&granted.mytoken)?;
    let own = claims.unverified();
    let tight = own.capabilities.within(capabilities) && restrictions::within(&own.restrictions, clauses);
    (!tight || own.rotates()).then(|| "the token's own claims".to_owned())
}

fn with_both_counters(clause: Clause) -> Clause {
    if clause.usages_at.is_none() && clause.usages_other.is_none() {
        return clause;
    }
    Clause {
        usages_at: clause.usages_at.or(Some(UNLIMITED)),
        usages_other: clause.usages_other.or(Some(UNLIMITED)),
        ..clause
    }
}

/// A name for the server's lists and pages of consent. A person reads it there: without characters that hide or turn text.
pub(super) fn short_name(name: &str) -> String {
    name.chars().filter(|c| mytoken_wire::is_printable(*c)).take(NAME_LIMIT).collect()
}

pub(super) fn invalid(reason: &str) -> Error {
    Error::Input(InputError::InvalidRequest { reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_only_characters_that_a_person_sees() {
        assert_eq!(short_name("job 7\u{202e} ecila\n\u{200b}of Zoë"), "job 7 ecilaof Zoë");
        assert_eq!(short_name(&"é".repeat(NAME_LIMIT + 1)).chars().count(), NAME_LIMIT);
    }
}
