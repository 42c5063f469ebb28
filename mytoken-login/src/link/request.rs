// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked for by a login with a link: a mytoken for one session, with few rights, and with a name that tells the person what is
//! confirmed. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mytoken::capabilities::{AT, CREATE_MYTOKEN, Capabilities};
use mytoken::restrictions::Clause;
use mytoken::server::{Granted, GrantedKind};
use mytoken::token::session_mytoken_name;

use super::refusal::LinkRefusal;
use crate::context::Attempt;
use crate::refusal::Refusal;
use crate::settings::LinkSettings;

/// Longest name that is sent (MT-23). The address at its end must not be cut.
const NAME_LIMIT: usize = 80;

/// Longest account and address in the name. An IPv6 address has at most 39 characters.
const ACCOUNT_LIMIT: usize = 16;
const ADDRESS_LIMIT: usize = 39;

/// A request for a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRequest {
    /// URL of the provider.
    pub issuer: String,
    /// What the mytoken may do.
    pub capabilities: Capabilities,
    /// Its only clause.
    pub clause: Clause,
    /// Its name on the consent page: host, account and address.
    pub name: String,
    /// Name of the program on the consent page.
    pub application_name: String,
}

impl LinkRequest {
    /// The request of `attempt`, which comes from the address `origin`, at `now` (Unix seconds). `scope` and `audience` are those of the
    /// exchange.
    pub(super) fn new(
        settings: &LinkSettings,
        (issuer, scope, audience): (&str, &str, &str),
        attempt: &Attempt,
        origin: &str,
        now: u64,
    ) -> Self {
        let names = if settings.create_mytoken { vec![AT, CREATE_MYTOKEN] } else { vec![AT] };
        let clause = Clause {
            exp: Some(now.saturating_add(settings.lifetime.as_secs())),
            scope: scope.to_owned(),
            audience: audience.split_ascii_whitespace().map(str::to_owned).collect(),
            hosts: settings.hosts.clone(),
            ..Clause::default()
        };
        Self {
            issuer: issuer.to_owned(),
            // The names are constants of the right form.
            capabilities: Capabilities::new(names).unwrap_or_default(),
            clause,
            name: name(&attempt.user, &attempt.host, origin),
            application_name: format!("ssh login at {}", plain(&attempt.host, NAME_LIMIT)),
        }
    }

    /// Checks what the server granted: the person can change all of it on the consent page (MT-27), and the server drops bounds (MT-28).
    /// Less is accepted.
    ///
    /// # Errors
    /// The refusal of the login.
    pub(crate) fn check(&self, granted: &Granted) -> Result<(), Refusal> {
        let broader = granted.broader_than(std::slice::from_ref(&self.clause), &self.capabilities);
        if let Some(what) = broader.or_else(|| self.further_places(&granted.restrictions)) {
            return Err(LinkRefusal::Broader(what).into());
        }
        if granted.rotates() {
            return Err(Refusal::Rotating);
        }
        if granted.kind != GrantedKind::Token {
            return Err(Refusal::Unavailable("the server gave a code instead of a mytoken".to_owned()));
        }
        Ok(())
    }

    /// What of clauses that are each within [`Self::clause`] admits more places than this host. Any single address is within `this`, so
    /// whoever has the link could add one on the consent page, also in a clause of its own. If the only address is not this host's, the
    /// exchange from here fails.
    fn further_places(&self, granted: &[Clause]) -> Option<String> {
        let [clause] = granted else { return Some("more than one clause".to_owned()) };
        let mut named = self.clause.clone();
        named.hosts.retain(|host| !host.eq_ignore_ascii_case("this"));
        let is_named = |host: &String| {
            let alone = Clause { hosts: vec![host.clone()], ..clause.clone() };
            !named.hosts.is_empty() && alone.is_within(&named)
        };
        let addresses: BTreeSet<String> =
            clause.hosts.iter().filter(|host| !is_named(host)).map(|host| one_spelling(host)).collect();
        (addresses.len() > 1).then(|| "restriction hosts".to_owned())
    }
}

/// An address in one spelling.
fn one_spelling(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |address| address.to_canonical().to_string())
}

/// `ssh session alice@login.example.org from 192.0.2.7`. Whoever gets a link from somebody else sees here that it is not the own login.
fn name(user: &str, host: &str, origin: &str) -> String {
    let from = format!(" from {}", plain(origin, ADDRESS_LIMIT));
    let user = plain(user, ACCOUNT_LIMIT);
    let taken = session_mytoken_name(&user, "").chars().count() + from.chars().count();
    format!("{}{from}", session_mytoken_name(&user, &plain(host, NAME_LIMIT.saturating_sub(taken))))
}

/// The text with the characters of names and addresses only, so that an account's name, which anybody can choose, cannot add words. A
/// text that is too long ends with `~`.
fn plain(text: &str, limit: usize) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let shown = |c: char| if is_plain(c) { c } else { '?' };
    if text.chars().count() <= limit {
        return text.chars().map(shown).collect();
    }
    let mut cut: String = text.chars().take(limit.saturating_sub(1)).map(shown).collect();
    cut.push('~');
    cut
}

#[cfg(test)]
mod tests {
    use mytoken::Secret;
    use mytoken::token::Rotation;

    use super::*;
    use mytoken::token::is_name_of_link;

    fn attempt(user: &str, host: &str) -> Attempt {
        Attempt { service: "sshd".into(), user: user.into(), rhost: None, host: host.into() }
    }

    fn request(settings: &LinkSettings) -> LinkRequest {
        let exchange = ("https://op", "openid profile", "https://testbed");
        LinkRequest::new(settings, exchange, &attempt("alice", "login.example.org"), "192.0.2.7", 1_000)
    }

    #[test]
    fn the_name_has_host_account_and_address_whatever_their_length() {
        assert_eq!(
            name("alice", "login.example.org", "192.0.2.7"),
            "ssh session alice@login.example.org from 192.0.2.7"
        );
        for user in ["alice", "x y from z", ""] {
            // sbatch sees by it how to get a longer one.
            assert!(is_name_of_link(&name(user, "login", "2001:db8::7")), "{user}");
        }
        assert!(!is_name_of_link(&session_mytoken_name("alice", "login")), "mytoken-ssh made it");
        let v6 = "2001:0db8:1234:5678:9abc:def0:1234:5678";
        for (user, host) in [("a", "h"), ("alice", &*"long.".repeat(50)), (&*"u".repeat(300), &*"h".repeat(300))] {
            let name = name(user, host, v6);
            assert!(name.chars().count() <= NAME_LIMIT && name.ends_with(&format!(" from {v6}")), "{name}");
        }
        assert!(name(&"u".repeat(300), "login.example.org", v6).contains("@login"), "some of the host is left");
    }

    #[test]
    fn an_account_cannot_add_words_to_the_name() {
        let name = name("x@your.laptop from 127.0.0.1 ", "login\u{202e}.org", "192.0.2.7\n");
        assert_eq!(name, "ssh session x?your.laptop?f~@login?.org from 192.0.2.7?");
    }

    #[test]
    fn the_mytoken_is_narrow() {
        let asked = request(&LinkSettings::default());
        assert_eq!(asked.capabilities, Capabilities::new(["AT"]).unwrap());
        assert_eq!(
            (asked.clause.exp, asked.clause.hosts.as_slice()),
            (Some(1_000 + 8 * 3_600), &["this".to_owned()][..])
        );
        assert_eq!((asked.clause.scope.as_str(), asked.clause.audience.len()), ("openid profile", 1));
        let more = request(&LinkSettings { create_mytoken: true, ..LinkSettings::default() });
        assert!(more.capabilities.has("create_mytoken") && !more.capabilities.has("tokeninfo"));
    }

    fn granted(capabilities: &str) -> Granted {
        Granted {
            mytoken: Secret::new("x"),
            kind: GrantedKind::Token,
            restrictions: Vec::new(),
            capabilities: Capabilities::parse(capabilities).unwrap(),
            rotation: None,
            expires_at: None,
            code_expires_at: None,
            mom_id: String::new(),
        }
    }

    #[test]
    fn this_host_is_one_address() {
        let two_networks = LinkSettings {
            hosts: vec!["this".into(), "198.51.100.0/24".into(), "2001:db8::/32".into()],
            ..LinkSettings::default()
        };
        let (narrow, wide) = (request(&LinkSettings::default()), request(&two_networks));
        let check = |asked: &LinkRequest, clauses: &[&[&str]]| {
            let clause = |hosts: &&[&str]| Clause {
                hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
                ..asked.clause.clone()
            };
            asked.check(&Granted { restrictions: clauses.iter().map(clause).collect(), ..granted("AT") })
        };
        for hosts in [&["192.0.2.1"][..], &["192.0.2.1", "192.0.2.1"], &["192.0.2.1", "::ffff:192.0.2.1"]] {
            assert_eq!(check(&narrow, &[hosts]), Ok(()), "{hosts:?}");
        }
        let named = &["192.0.2.1", "198.51.100.0/24", "198.51.100.7", "2001:db8::/48"][..];
        assert_eq!(check(&wide, &[named]), Ok(()));
        let broader: [(&LinkRequest, &[&[&str]]); 4] = [
            (&narrow, &[&["192.0.2.1", "203.0.113.9"]]),
            (&narrow, &[&["192.0.2.1"], &["203.0.113.9"]]),
            (&wide, &[&["192.0.2.1", "203.0.113.9", "198.51.100.7"]]),
            (&wide, &[&["192.0.2.1"], &["203.0.113.9"]]),
        ];
        for (asked, clauses) in broader {
            let checked = check(asked, clauses);
            assert!(matches!(checked, Err(Refusal::Link(LinkRefusal::Broader(_)))), "{clauses:?}: {checked:?}");
        }
    }

    #[test]
    fn only_what_was_asked_for_or_less_is_taken() {
        let asked = request(&LinkSettings::default());
        let clause = Clause { hosts: vec!["192.0.2.1".into()], ..asked.clause.clone() };
        let given = |clause: Option<Clause>, capabilities: &str| Granted {
            restrictions: clause.into_iter().collect(),
            ..granted(capabilities)
        };
        assert_eq!(asked.check(&given(Some(clause.clone()), "AT")), Ok(()), "the server puts the address for `this`");
        let shorter = Clause { exp: Some(2_000), ..clause.clone() };
        assert_eq!(asked.check(&given(Some(shorter), "AT")), Ok(()));
        let longer = Clause { exp: Some(1_000 + 8 * 3_600 + 1), ..clause.clone() };
        let everywhere = Clause { hosts: Vec::new(), ..clause.clone() };
        let network = Clause { hosts: vec!["0.0.0.0/1".into()], ..clause.clone() };
        for (clauses, capabilities) in [
            (None, "AT"),
            (Some(clause.clone()), "AT create_mytoken"),
            (Some(clause.clone()), "AT tokeninfo"),
            (Some(longer), "AT"),
            (Some(everywhere), "AT"),
            (Some(network), "AT"),
            (Some(Clause { audience: Vec::new(), ..clause.clone() }), "AT"),
        ] {
            let checked = asked.check(&given(clauses.clone(), capabilities));
            assert!(matches!(checked, Err(Refusal::Link(LinkRefusal::Broader(_)))), "{clauses:?} {capabilities:?}");
        }
        let on_at: Rotation = serde_json::from_str(r#"{"on_AT":true}"#).unwrap();
        let rotating = Granted { rotation: Some(on_at), ..given(Some(clause.clone()), "AT") };
        assert_eq!(asked.check(&rotating), Err(Refusal::Rotating));
        let code = Granted { kind: GrantedKind::TransferCode, ..given(Some(clause), "AT") };
        assert!(matches!(asked.check(&code), Err(Refusal::Unavailable(_))));
    }
}
