// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which provider an opaque token is sent to. It does not say who made it, and whoever gets it can use it: so there is one candidate, or
//! none.

use mytoken::config::IssuerSettings;

use crate::oidc::Rejection;
use crate::refusal::Refusal;

/// The only issuer with opaque tokens.
///
/// # Errors
/// There is none, or there are several.
pub(crate) fn only_issuer(issuers: &[IssuerSettings]) -> Result<&IssuerSettings, Refusal> {
    let mut opaque = issuers.iter().filter(|issuer| issuer.opaque);
    match (opaque.next(), opaque.next()) {
        (None, _) => Err(Refusal::Opaque),
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(Refusal::OpaqueIssuer),
    }
}

/// The issuer of this name.
///
/// # Errors
/// There is none.
pub(crate) fn named_issuer<'a>(issuers: &'a [IssuerSettings], name: &str) -> Result<&'a IssuerSettings, Refusal> {
    issuers.iter().find(|issuer| issuer.name == name).ok_or_else(|| Rejection::IssuerUnknown.into())
}

/// The issuer of an opaque token that the mytoken server gave for a mytoken of this provider. `None`: it is not known, as for a short token.
/// Then it is not that of the only issuer here: the server may have more providers than this host.
pub(crate) fn issuer_of_exchange<'a>(
    issuers: &'a [IssuerSettings],
    provider: Option<&str>,
) -> Option<&'a IssuerSettings> {
    let provider = provider?;
    issuers.iter().find(|issuer| issuer.opaque && issuer.is(provider))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str, opaque: bool) -> IssuerSettings {
        toml::from_str(&format!("name = '{name}'\nurl = 'https://{name}.example.org'\nopaque = {opaque}")).unwrap()
    }

    #[test]
    fn an_opaque_token_has_one_candidate_or_none() {
        let (signed, one, two) = (issuer("signed", false), issuer("one", true), issuer("two", true));
        let only = |issuers: &[IssuerSettings]| only_issuer(issuers).map(|issuer| issuer.name.clone());
        assert_eq!(only(std::slice::from_ref(&signed)), Err(Refusal::Opaque));
        assert_eq!(only(&[signed.clone(), one.clone()]), Ok("one".to_owned()));
        assert_eq!(only(&[one.clone(), two.clone()]), Err(Refusal::OpaqueIssuer));
        let all = [signed, one, two];
        assert_eq!(named_issuer(&all, "two").unwrap().name, "two");
        assert_eq!(named_issuer(&all, "Two"), Err(Refusal::Token(Rejection::IssuerUnknown)));
        let of = |provider| issuer_of_exchange(&all, provider).map(|issuer| issuer.name.as_str());
        assert_eq!(of(Some("https://one.example.org/")), Some("one"));
        assert_eq!((of(Some("https://signed.example.org")), of(None)), (None, None));
        assert_eq!(
            issuer_of_exchange(&all[..2], None),
            None,
            "the token may be of a provider that is not configured here"
        );
    }
}
