// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about issuers: the same requests that a login sends.

use mytoken::Deadline;
use mytoken::config::{IssuerSettings, Shared, ValidationMode};
use mytoken::http::HttpClient;
use mytoken_login::oidc::{ProviderError, ProviderMetadata};
use mytoken_login::{LoginSettings, Mapping, Requirement, Rule};

use super::kinds::{self, Kind};
use super::servers::{NETWORK, curl};
use super::validation;
use super::{Findings, Severity};

const PART: &str = "issuer";

impl Findings {
    /// Asks an issuer for its discovery document and its keys.
    pub(super) fn issuer(
        &mut self,
        http: &HttpClient,
        shared: &Shared,
        issuer: &IssuerSettings,
        login: Option<&LoginSettings>,
    ) {
        let before = self.findings.len();
        let deadline = Deadline::after(NETWORK);
        let url = format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        let curl = || curl(shared, &url);
        let who = format!("{}: ", issuer.name);
        let document = match ProviderMetadata::fetch(http, issuer, deadline) {
            Ok(document) => document,
            Err(ProviderError::Http(error)) => {
                let kinds = (kinds::ISSUER_UNAVAILABLE, kinds::ISSUER_CERTIFICATE);
                return self.no_answer(kinds, &who, &error, &issuer.url, curl());
            }
            Err(error) => {
                let (kind, more) = match &error {
                    ProviderError::ForeignIssuer { .. } => (kinds::ISSUER_FOREIGN, ""),
                    ProviderError::Status { status, .. } if *status >= 500 || *status == 429 => {
                        (kinds::ISSUER_UNAVAILABLE, "; try again later")
                    }
                    _ => (kinds::ISSUER_ADDRESS, "; is the url of the [[issuer]] right, path included?"),
                };
                return self.add_fixed(kind, format!("{who}{error}{more}"), curl());
            }
        };
        self.clock(&issuer.url, document.head, issuer.leeway.as_secs());
        let foreign = document.foreign_hosts(issuer);
        if !foreign.is_empty() {
            let (text, fix) = foreign_hosts(issuer, &foreign);
            return self.add_fixed(kinds::ISSUER_ENDPOINT_HOST, format!("{who}{text}"), fix);
        }
        let keys = match document.keys(http, issuer, deadline) {
            Ok(keys) => keys,
            Err(error) => {
                let text = format!("{who}its keys cannot be fetched: {error}");
                return self.add_fixed(kinds::ISSUER_KEYS, text, curl());
            }
        };
        if !keys.has_key_for(&issuer.algorithms) {
            let names: Vec<String> = issuer.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
            let text = format!("{who}none of its keys is for an accepted algorithm ({})", names.join(" "));
            self.add_fixed(kinds::ISSUER_ALGORITHMS, text, curl());
        }
        if let Some(problem) = validation::problem(http, issuer, &document) {
            let fix = if problem.fix.is_empty() { curl() } else { problem.fix };
            self.add_fixed(kinds::ISSUER_VALIDATION, format!("{who}{}", problem.text), fix);
        }
        if let (Some(login), Some(supported)) = (login, &document.claims_supported) {
            let rules = login.rules.iter().filter(|rule| rule.issuer == issuer.name);
            for (rule, claim) in rules.flat_map(|rule| lacking(rule, supported).map(move |claim| (&rule.name, claim))) {
                let text =
                    format!("{who}the rule \"{rule}\" needs the claim {claim}, which is not in its claims_supported");
                self.add_fixed(kinds::ISSUER_CLAIM, text, curl());
            }
        }
        if let Some((scope, near)) = unknown_scope(issuer, document.scopes_supported.as_deref()) {
            // The list may be incomplete (RFC 8414), and is at providers where a site defines scopes itself.
            let level = if near.is_some() { Severity::Warning } else { Severity::Ok };
            let meant = near.map(|near| format!("; is {near} meant?")).unwrap_or_default();
            let text = format!(
                "{who}required_scopes has {scope}, which is not in its scopes_supported: perhaps no token has it{meant}"
            );
            self.add_fixed(Kind { level, ..kinds::ISSUER_SCOPE }, text, curl());
        }
        if self.findings.len() == before {
            let plural = if keys.len() == 1 { "" } else { "s" };
            self.ok(PART, format!("{who}{}, {} key{plural}", issuer.url, keys.len()));
        }
    }

    /// Finds providers whose ID tokens a rule would accept as access tokens.
    pub(super) fn id_tokens(&mut self, shared: &Shared, login: &LoginSettings) {
        let has_scope = |rule: &Rule| rule.requirements.iter().any(|one| matches!(one, Requirement::Scope(_)));
        let open = |name: &str| login.rules.iter().any(|rule| rule.issuer == name && !has_scope(rule));
        // Userinfo accepts access tokens alone (OpenID Connect Core 5.3.1).
        let accepts = |issuer: &&IssuerSettings| {
            !issuer.refuses_id_tokens() && !issuer.validates_by(ValidationMode::Userinfo) && open(&issuer.name)
        };
        for issuer in shared.issuers.iter().filter(accepts) {
            let audience = if issuer.require_audience { "an accepted audience" } else { "any audience" };
            let text = format!(
                "{}: an ID token for {audience}, without nonce and at_hash, would be taken for an access token",
                issuer.name
            );
            self.add_kind(kinds::ISSUER_ID_TOKENS, text);
        }
    }
}

/// The finding about endpoints at other hosts, and the line that permits them.
fn foreign_hosts(issuer: &IssuerSettings, foreign: &[String]) -> (String, String) {
    let all: Vec<String> = issuer.endpoint_hosts.iter().chain(foreign).map(|host| format!("\"{host}\"")).collect();
    let text = format!(
        "its discovery document has endpoints at {}, which is not its own host: whoever answers there decides who logs in",
        foreign.join(" and ")
    );
    let line = format!(
        "${{EDITOR:-vi}} /etc/mytoken/mytoken.toml   # [[issuer]] {}: endpoint_hosts = [{}], if these hosts are the provider's",
        issuer.name,
        all.join(", ")
    );
    (text, line)
}

/// A required scope that the provider does not list, if it lists any, and the listed one that it is nearly: with such a one, if there is.
fn unknown_scope<'a>(
    issuer: &'a IssuerSettings,
    supported: Option<&'a [String]>,
) -> Option<(&'a str, Option<&'a str>)> {
    let supported = supported.filter(|supported| !supported.is_empty())?;
    let near = |scope: &str| {
        // One letter, not a number: compute.read1 and compute.read2 are two scopes.
        let letters = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
        let is_near = |listed: &&String| {
            scope.len() > 3 && strsim::damerau_levenshtein(listed, scope) == 1 && letters(listed) != letters(scope)
        };
        supported.iter().find(is_near).map(String::as_str)
    };
    let unknown = issuer.required_scopes.iter().filter(|scope| !supported.contains(scope));
    let unknown: Vec<_> = unknown.map(|scope| (scope.as_str(), near(scope))).collect();
    unknown.iter().find(|(_, near)| near.is_some()).or(unknown.first()).copied()
}

/// The claims that a rule needs and that are not supported. Each access token has `sub`.
fn lacking<'a>(rule: &'a Rule, supported: &'a [String]) -> impl Iterator<Item = &'a str> {
    let has = |claim: &str| claim == "sub" || supported.iter().any(|known| known == claim);
    let of_template: Vec<&str> = match &rule.mapping {
        Mapping::Template(template) => template.claims().collect(),
        Mapping::File(_) | Mapping::Asked(_) => Vec::new(),
    };
    let mut lacking: Vec<&str> = of_template.into_iter().filter(|claim| !has(claim)).collect();
    for requirement in &rule.requirements {
        // One of the claims is enough.
        let claims = requirement.claims();
        let Some(first) = claims.first() else { continue };
        if !claims.iter().any(|claim| has(claim)) && !lacking.contains(first) {
            lacking.push(first);
        }
    }
    lacking.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_that_a_provider_does_not_list_is_found() {
        let issuer: IssuerSettings =
            toml::from_str("name = 'op'\nurl = 'https://op.example.org'\nrequired_scopes = ['openid', 'hpc.read']")
                .unwrap();
        let found = |supported: Option<&[&str]>| {
            let supported: Option<Vec<String>> = supported.map(|list| list.iter().map(ToString::to_string).collect());
            unknown_scope(&issuer, supported.as_deref())
                .map(|(scope, near)| (scope.to_owned(), near.map(str::to_owned)))
        };
        assert_eq!(found(Some(&["openid", "profile"])), Some(("hpc.read".to_owned(), None)));
        let near = Some(("hpc.read".to_owned(), Some("hpc.raed".to_owned())));
        assert_eq!(found(Some(&["openid", "hpc.raed"])), near);
        assert_eq!(found(Some(&["openid", "hpc.reap.x", "hpc.read1"])), Some(("hpc.read".to_owned(), None)));
        assert_eq!(found(Some(&["hpc.read", "openid"])), None);
        assert_eq!((found(None), found(Some(&[]))), (None, None), "it does not say");
    }

    #[test]
    fn claims_that_a_provider_does_not_list_are_found() {
        let rule = |more: &str| -> Rule { toml::from_str(&format!("name = 'r'\nissuer = 'op'\n{more}")).unwrap() };
        let supported: Vec<String> = ["preferred_username", "eduperson_entitlement"].map(str::to_owned).to_vec();
        for (more, expected) in [
            ("template = '{preferred_username}'", &[][..]),
            ("template = 'u{sub}'", &[]),
            ("template = '{uid}_{org}'", &["uid", "org"]),
            ("map_file = '/x'\nrequire_groups = ['g', 'h']", &["groups"]),
            ("map_file = '/x'\nrequire_groups = ['g']\ngroup_claims = ['/realm/roles', 'x']", &["realm"]),
            ("map_file = '/x'\nrequire_groups = ['g']\ngroup_claims = ['x', 'eduperson_entitlement']", &[]),
            ("map_file = '/x'\nrequire_entitlements = ['g']", &[]),
            ("map_file = '/x'\nrequire_scopes = ['openid']\nrequire_acr = ['1', '2']", &["acr"]),
        ] {
            assert_eq!(lacking(&rule(more), &supported).collect::<Vec<_>>(), expected, "{more}");
        }
        let entitled = rule("map_file = '/x'\nrequire_entitlements = ['g']");
        assert_eq!(lacking(&entitled, &[]).collect::<Vec<_>>(), ["entitlements"]);
    }

    #[test]
    fn the_line_that_permits_a_host_keeps_those_that_are_permitted() {
        let text =
            "name = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']\nendpoint_hosts = ['old.example.net']";
        let issuer: IssuerSettings = toml::from_str(text).unwrap();
        let (text, fix) = foreign_hosts(&issuer, &["keys.example.net".to_owned()]);
        assert!(text.contains("endpoints at keys.example.net,"), "{text}");
        assert!(fix.contains(r#"op: endpoint_hosts = ["old.example.net", "keys.example.net"]"#), "{fix}");
    }

    #[test]
    fn providers_whose_id_tokens_could_log_in_are_found() {
        let issuer = "[[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']\n";
        let rule = "[[rule]]\nname = 'r'\nissuer = 'op'\ntemplate = '{sub}'\n";
        for (more, of_rule, found) in [
            ("", "", true),
            ("required_scopes = ['openid']", "", false),
            ("accept_typ = ['application/AT+JWT']", "", false),
            ("accept_typ = ['at+jwt', 'JWT']", "", true),
            ("", "require_scopes = ['openid']", false),
            ("validation = ['local', 'introspection']", "", true),
            ("validation = ['local', 'userinfo']", "", false),
            ("validation = ['userinfo']\nrequire_audience = false", "", false),
        ] {
            let (shared, login) = (format!("{issuer}{more}\n"), format!("{rule}{of_rule}\n"));
            let mut findings = Findings::default();
            findings.id_tokens(&toml::from_str(&shared).unwrap(), &toml::from_str(&login).unwrap());
            assert_eq!(findings.has(kinds::ISSUER_ID_TOKENS), found, "{more} {of_rule}: {}", findings.render());
        }
    }
}
