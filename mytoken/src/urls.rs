// SPDX-License-Identifier: MIT OR Apache-2.0
//! URLs of mytoken servers and OpenID providers. They are parsed once, and are well formed from then on.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Host, Url};

use mytoken_wire::printable;

/// A URL that must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the URL {url} cannot be used: {reason}")]
pub struct UrlError {
    /// The URL without credentials; only its origin when it came from a server.
    pub url: String,
    /// Why.
    pub reason: String,
}

/// The URL of a mytoken server, without trailing slash. Compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl(String);

/// The URL of an OpenID provider, without trailing slash. Compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerUrl(String);

/// Parses a base URL: https, or http if `loopback_http` is set and the host is this machine. Returns it without its trailing slash.
///
/// Only the normal form is accepted, so that each server has one spelling: lower-case host, no default port, no credentials, no query, no
/// fragment, no dot segments.
fn parse_base(text: &str, loopback_http: bool) -> Result<String, UrlError> {
    let wrong = |reason: &str| UrlError { url: without_credentials(text), reason: reason.to_owned() };
    let url = parse_url(text).map_err(|error| wrong(&error.to_string()))?;
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it must not contain a user or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must not contain a query or fragment"));
    }
    check_scheme(&url, loopback_http)?;
    let normal = url.as_str().strip_suffix('/').unwrap_or(url.as_str());
    if normal != trimmed {
        return Err(wrong(&format!("write it as {normal}")));
    }
    if trimmed.ends_with('/') || url.path().contains("//") {
        return Err(wrong("it has an empty path segment"));
    }
    Ok(trimmed.to_owned())
}

/// Why a text is not a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlSyntaxError {
    #[error("it must begin with https://")]
    Scheme,
    #[error("it has characters that no URL has; write a host name beyond ASCII as xn--")]
    Characters,
    #[error("it has no host name, or one with percent signs")]
    Host,
    #[error("{0}")]
    Other(#[from] url::ParseError),
}

/// Parses an http or https URL as RFC 3986 defines it: visible ASCII only, and a host name without percent signs. The `url` crate also
/// accepts what people type into browsers. Its support for host names beyond ASCII is switched off (`idna_adapter` 1.0.0): such a name
/// with a capital letter makes it panic in builds with debug assertions.
pub(crate) fn parse_url(text: &str) -> Result<Url, UrlSyntaxError> {
    let begins = |scheme: &str| text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    let scheme = ["https://", "http://"].into_iter().find(|scheme| begins(scheme));
    let rest = scheme.and_then(|scheme| text.get(scheme.len()..)).ok_or(UrlSyntaxError::Scheme)?;
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UrlSyntaxError::Characters);
    }
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('%') {
        return Err(UrlSyntaxError::Host);
    }
    Ok(Url::parse(text)?)
}

/// Whether two base URLs are equal byte for byte, except for one trailing slash. Issuers are normalised in no other way.
#[must_use]
pub fn same_base(one: &str, other: &str) -> bool {
    let bare = |url| str::strip_suffix(url, '/').unwrap_or(url);
    bare(one) == bare(other)
}

/// Checks that secrets may be sent to a URL: it uses https, or http to this machine if the configuration allows that.
pub(crate) fn check_scheme(url: &Url, loopback_http: bool) -> Result<(), UrlError> {
    let wrong = |reason: &str| UrlError { url: origin(url), reason: reason.to_owned() };
    match url.scheme() {
        "https" if url.has_host() => Ok(()),
        "http" if loopback_http && is_loopback(url) => Ok(()),
        "http" if is_loopback(url) => Err(wrong("plain http needs allow_loopback_http = true")),
        "http" => Err(wrong("plain http is accepted for this machine only; write https")),
        _ => Err(wrong("it must begin with https://")),
    }
}

/// Whether the URL's host is this machine: 127.0.0.0/8, `::1`, `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Whether a base URL is plain http.
#[must_use]
pub fn is_plain_http(url: &str) -> bool {
    parse_url(url).is_ok_and(|url| url.scheme() == "http")
}

/// Whether a base URL is plain http to a server of this machine that only root can have started: at a numeric loopback address and a port
/// below 1024. `localhost` has two addresses, and any user can take a port from 1024 on while its usual server is down.
#[must_use]
pub fn is_served_by_root(url: &str) -> bool {
    parse_url(url).is_ok_and(|url| {
        url.scheme() == "http"
            && !matches!(url.host(), Some(Host::Domain(_)))
            && is_loopback(&url)
            && url.port_or_known_default().is_some_and(|port| port < 1_024)
    })
}

/// The port of an https or http URL, also that of its scheme. `None`: it is no such URL.
#[must_use]
pub fn port_of(url: &str) -> Option<u16> {
    parse_url(url).ok()?.port_or_known_default()
}

/// The host of an https or http URL, in its normal form: in lower case, IPv6 addresses in brackets. `None`: it is no such URL.
#[must_use]
pub fn host_of(url: &str) -> Option<String> {
    parse_url(url).ok()?.host_str().map(str::to_owned)
}

/// Scheme, host and port. Error texts show nothing else of a URL, because paths and queries may contain codes.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The text as the person wrote it, for an error text, without the part that may be a password.
fn without_credentials(text: &str) -> String {
    let shown = match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://...{}", text.get(..scheme).unwrap_or_default(), text.get(at..).unwrap_or_default())
        }
        _ => text.to_owned(),
    };
    printable(&shown, 200)
}

macro_rules! base_url {
    ($name:ident, $what:literal) => {
        impl $name {
            #[doc = concat!("Parses the URL of ", $what, ": https, or http if `loopback_http` is set and the host is this machine.")]
            ///
            /// # Errors
            /// [`UrlError`]. Only the normal form is accepted; one trailing slash is removed.
            pub fn parse(text: &str, loopback_http: bool) -> Result<Self, UrlError> {
                parse_base(text, loopback_http).map(Self)
            }

            /// The URL without trailing slash.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether `text`, an `issuer` member or an `iss` claim, is this URL: byte for byte, except for one trailing slash.
            #[must_use]
            pub fn matches(&self, text: &str) -> bool {
                same_base(text, &self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        /// Accepts http to this machine, because the configuration is not known here. The HTTP client checks it again.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?, true).map_err(serde::de::Error::custom)
            }
        }
    };
}

base_url!(ServerUrl, "a mytoken server");
base_url!(IssuerUrl, "an OpenID provider");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_root_serves_a_low_port_of_a_numeric_loopback_address() {
        for (url, is_http, is_roots) in [
            ("http://127.0.0.1", true, true),
            ("http://127.0.0.1:1023", true, true),
            ("http://127.7.7.7:81", true, true),
            ("http://[::1]:443", true, true),
            ("http://127.0.0.1:1024", true, false),
            ("http://[::1]:8080", true, false),
            ("http://localhost", true, false),
            ("http://192.0.2.1", true, false),
            ("https://127.0.0.1", false, false),
            ("127.0.0.1", false, false),
        ] {
            assert_eq!((is_plain_http(url), is_served_by_root(url)), (is_http, is_roots), "{url}");
        }
    }

    #[test]
    fn only_the_normal_form_of_a_base_url_is_accepted() {
        // (text, loopback http allowed, result)
        let table: &[(&str, bool, Option<&str>)] = &[
            ("https://mt.example.org", false, Some("https://mt.example.org")),
            ("https://mt.example.org/", false, Some("https://mt.example.org")),
            ("https://mt.example.org:8443/realms/a/", false, Some("https://mt.example.org:8443/realms/a")),
            ("https://[2001:db8::1]:8443", false, Some("https://[2001:db8::1]:8443")),
            ("http://127.0.0.1:8080", true, Some("http://127.0.0.1:8080")),
            ("http://127.9.9.9", true, Some("http://127.9.9.9")),
            ("http://[::1]:80", true, None), // default port
            ("http://[::1]", true, Some("http://[::1]")),
            ("http://localhost:1", true, Some("http://localhost:1")),
            ("http://127.0.0.1:8080", false, None),
            ("http://mt.example.org", true, None),
            ("http://127.0.0.1.example.org", true, None),
            ("http://localhost.example.org", true, None),
            ("http://2130706433", true, None), // 127.0.0.1 in disguise: not the normal form
            ("https://MT.example.org", false, None),
            ("https://mt.example.org:443", false, None),
            ("https://mt.example.org//", false, None),
            ("https://mt.example.org/a//b", false, None),
            ("https://mt.example.org/a/../b", false, None),
            ("https://mt.example.org?x=1", false, None),
            ("https://mt.example.org/#x", false, None),
            ("https://user:pw@mt.example.org", false, None),
            (" https://mt.example.org", false, None),
            ("https://mt.exa\tmple.org", false, None),
            ("ftp://mt.example.org", false, None),
            ("mt.example.org", false, None),
            ("https://", false, None),
            ("", false, None),
            ("https://M\u{d5}.example.org", false, None),
            ("https://M%C3%95.example.org", false, None),
            ("https://\tM\u{d5}.example.org", false, None),
            ("https:///M%C3%95.example.org", false, None),
            ("https:M%C3%95.example.org", false, None),
            ("wss://M\u{d5}.example.org", false, None),
        ];
        for (text, loopback, expected) in table {
            let server = ServerUrl::parse(text, *loopback);
            assert_eq!(server.as_ref().ok().map(ServerUrl::as_str), *expected, "{text:?}: {server:?}");
            assert_eq!(IssuerUrl::parse(text, *loopback).is_ok(), expected.is_some(), "{text:?}");
        }
    }

    #[test]
    fn the_host_of_a_url_has_one_spelling() {
        for (url, host) in [
            ("https://OP.example.org:8444/jwks?x#y", Some("op.example.org")),
            ("https://user@op.example.org", Some("op.example.org")),
            ("https://op.example.org@evil.example/", Some("evil.example")),
            ("https://op.example.org\\.evil.example/", Some("op.example.org")),
            ("https://[2001:DB8::1]/", Some("[2001:db8::1]")),
            ("https://2130706433", Some("127.0.0.1")),
            ("op.example.org", None),
            ("file:///etc/passwd", None),
            ("https://", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn an_error_does_not_show_the_password_of_a_url() {
        let error = ServerUrl::parse("https://user:hunter2@mt.example.org", false).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn an_issuer_matches_with_and_without_one_trailing_slash() {
        let issuer = IssuerUrl::parse("https://op.example.org/", false).unwrap();
        assert!(issuer.matches("https://op.example.org") && issuer.matches("https://op.example.org/"));
        assert!(!issuer.matches("https://op.example.org//") && !issuer.matches("https://op.example.org.evil"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_a_parsed_url_parses_to_itself(text in "\\PC{0,60}") {
            if let Ok(url) = ServerUrl::parse(&text, true) {
                prop_assert_eq!(ServerUrl::parse(url.as_str(), true).unwrap(), url);
            }
        }

        #[test]
        fn a_url_survives_a_round_trip(host in "[a-z]{1,8}\\.org", path in "(/[a-z]{1,5}){0,2}") {
            let url = ServerUrl::parse(&format!("https://{host}{path}"), false).unwrap();
            let text = serde_json::to_string(&url).unwrap();
            prop_assert_eq!(serde_json::from_str::<ServerUrl>(&text).unwrap(), url);
        }
    }
}
