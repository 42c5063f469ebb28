// SPDX-License-Identifier: MIT OR Apache-2.0
//! For whom an access token was made, and whether that is this site.

use mytoken::config::{ANY_AUDIENCE, AudienceClaim, IssuerSettings};
use serde_json::{Map, Value};

use super::claims::string_list;

/// The values of the claims that the issuer's `audience_claims` name.
pub(super) fn audiences(claims: &Map<String, Value>, issuer: &IssuerSettings) -> Vec<String> {
    let values = issuer.audience_claims.iter().flat_map(|claim| string_list(claims, claim.name()));
    values.map(str::to_owned).collect()
}

/// Whether the claims name this site.
pub(super) fn is_accepted(claims: &Map<String, Value>, issuer: &IssuerSettings) -> bool {
    let any = || issuer.accept_any_audience && string_list(claims, AudienceClaim::Aud.name()).contains(&ANY_AUDIENCE);
    !issuer.require_audience || audiences(claims, issuer).iter().any(|one| issuer.audiences.contains(one)) || any()
}
