// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about motley_cue, which rules ask.

use std::collections::BTreeSet;
use std::fs;

use mytoken::Deadline;
use mytoken::config::Shared;
use mytoken::http::{ANSWER_LIMIT, HttpAnswer, HttpClient, HttpSettings};
use mytoken::urls::{is_plain_http, is_served_by_root, port_of};
use mytoken_login::LoginSettings;
use serde_json::Value;

use super::servers::{NETWORK, curl};
use super::{Findings, kinds};

const PART: &str = "mapper";

impl Findings {
    /// Asks each motley_cue of the rules for its providers.
    pub(super) fn motley_cues(&mut self, shared: &Shared, login: &LoginSettings) {
        let urls: BTreeSet<&str> = login.motley_cues().map(|(_, settings)| settings.url.as_str()).collect();
        // As in a login. That the settings cannot be used is a finding of its own.
        let settings = HttpSettings { loopback_http: true, ..shared.http_settings() };
        let Some(http) = (!urls.is_empty()).then(|| HttpClient::new(&settings).ok()).flatten() else { return };
        let first_free = first_unprivileged_port();
        for url in urls {
            self.plain_http(url, first_free);
            let info = format!("{url}/info");
            let fix = curl(shared, &info);
            match http.get(&info, None, Deadline::after(NETWORK), ANSWER_LIMIT).map(|answer| providers(&answer)) {
                Err(error) => self.no_answer((kinds::MOTLEY_CUE, kinds::MOTLEY_CUE), "", &error, url, fix),
                Ok(Err(problem)) => self.add_fixed(kinds::MOTLEY_CUE, format!("{url} {problem}"), fix),
                Ok(Ok(providers)) => self.trusted(shared, login, url, &providers, fix),
            }
        }
    }

    /// Warns of a motley_cue whose place somebody else can take. `first_free`: the lowest port that any user can listen at.
    fn plain_http(&mut self, url: &str, first_free: u16) {
        if !is_plain_http(url) {
            return;
        }
        let text = if is_served_by_root(url) && port_of(url).is_some_and(|port| port < first_free) {
            format!(
                "{url} is plain http: root alone can take this port only while net.ipv4.ip_unprivileged_port_start \
                 ({first_free}) is above it. Whoever has the port decides about accounts and gets access tokens. Use \
                 https"
            )
        } else {
            format!(
                "{url} is plain http, and any user of this host can take this port while motley_cue is down. Whoever \
                 has the port decides about accounts and gets access tokens. Use https"
            )
        };
        self.add_kind(kinds::MOTLEY_CUE_HTTP, text);
    }

    /// Compares the providers that a motley_cue trusts with the issuers of its rules.
    fn trusted(&mut self, shared: &Shared, login: &LoginSettings, url: &str, providers: &[String], fix: String) {
        let is_trusted = |name: &str| {
            let mut issuers = shared.issuers.iter().filter(|issuer| issuer.name == name);
            issuers.any(|issuer| providers.iter().any(|provider| issuer.is(provider)))
        };
        let rules = login.motley_cues().filter(|(_, settings)| settings.url.as_str() == url);
        let unknown: Vec<String> = rules
            .filter(|(rule, _)| !is_trusted(&rule.issuer))
            .map(|(rule, _)| format!("rule \"{}\" (issuer \"{}\")", rule.name, rule.issuer))
            .collect();
        if unknown.is_empty() {
            self.ok(PART, format!("{url} trusts {}", providers.join(" ")));
        } else {
            let text = format!("{url} does not trust the provider of {}: it gives no account", unknown.join(", "));
            self.add_fixed(kinds::MOTLEY_CUE_ISSUER, text, fix);
        }
    }
}

/// The kernel's default if this cannot be read.
fn first_unprivileged_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1_024)
}

/// The providers that motley_cue names.
///
/// # Errors
/// What is wrong with the answer: a clause without subject.
fn providers(answer: &HttpAnswer) -> Result<Vec<String>, String> {
    if answer.status != 200 {
        return Err(format!("answered with status {}; is it the URL of motley_cue?", answer.status));
    }
    let info = answer.json::<Value>().map_err(|_| "did not answer with a JSON object".to_owned())?;
    let named = info.get("supported_OPs").and_then(Value::as_array);
    let named = named.ok_or("did not answer as motley_cue does: supported_OPs is missing")?;
    let text = |provider: &Value| provider.as_str().map(|text| mytoken_wire::printable(text, 200));
    Ok(named.iter().filter_map(text).collect())
}

#[cfg(test)]
mod tests {
    use mytoken::config::FileTrust;
    use mytoken::private_files::Owner;

    use super::*;

    fn answer(status: u16, body: &str) -> HttpAnswer {
        HttpAnswer {
            status,
            content_type: Some("application/json".to_owned()),
            retry_after: None,
            head: mytoken::http::AnswerHead::default(),
            body: body.as_bytes().to_vec().into(),
        }
    }

    #[test]
    fn the_answer_must_be_that_of_motley_cue() {
        let good = r#"{"login_info":{},"supported_OPs":["https://op.example.org",7],"ops_info":{}}"#;
        assert_eq!(providers(&answer(200, good)), Ok(vec!["https://op.example.org".to_owned()]));
        for (answer, part) in [
            (answer(404, good), "status 404"),
            (answer(200, "<html>"), "JSON"),
            (answer(200, "{}"), "supported_OPs"),
            (answer(200, r#"{"supported_OPs":"x"}"#), "supported_OPs"),
        ] {
            let problem = providers(&answer).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn plain_http_is_found() {
        let found = |url: &str, first_free| {
            let mut findings = Findings::default();
            findings.plain_http(url, first_free);
            findings.findings.into_iter().map(|finding| (finding.id.unwrap_or_default(), finding.text)).next()
        };
        assert_eq!(found("https://mc.example.org", 0), None);
        for (url, first_free, part) in [
            ("http://127.0.0.1:81", 1_024, "ip_unprivileged_port_start (1024)"),
            ("http://127.0.0.1:81", 82, "ip_unprivileged_port_start (82)"),
            ("http://127.0.0.1:81", 81, "any user"),
            ("http://127.0.0.1", 80, "any user"),
            ("http://127.0.0.1:8080", 1_024, "any user"),
        ] {
            let (id, text) = found(url, first_free).unwrap();
            assert!(id == "motley-cue-http" && text.contains(part) && text.contains("Use https"), "{id} {text}");
        }
    }

    #[test]
    fn a_provider_that_motley_cue_does_not_trust_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let shared = "[[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['https://a']\n\
                      [[issuer]]\nname = 'egi'\nurl = 'https://egi.example.org'\naudiences = ['https://a']\n";
        let rule =
            |name: &str| format!("[[rule]]\nname = 'by-{name}'\nissuer = '{name}'\nmotley_cue = 'https://mc.org'\n");
        fs::write(dir.path().join("mytoken.toml"), shared).unwrap();
        fs::write(dir.path().join("login.toml"), rule("op") + &rule("egi")).unwrap();
        let me = FileTrust::user(Owner::current().uid);
        let shared = Shared::load(dir.path(), me).unwrap();
        let login = LoginSettings::load(dir.path(), me, &shared).unwrap();
        let found = |trusted: &[&str]| {
            let trusted: Vec<String> = trusted.iter().map(|url| (*url).to_owned()).collect();
            let mut findings = Findings::default();
            findings.trusted(&shared, &login, "https://mc.org", &trusted, String::new());
            let [finding] = &findings.findings[..] else { panic!("{:?}", findings.findings.len()) };
            (finding.id.clone().unwrap_or_default(), finding.text.clone())
        };
        assert_eq!(found(&["https://egi.example.org/", "https://op.example.org"]).0, "mapper-ok");
        let (id, text) = found(&["https://op.example.org"]);
        assert!(id == "motley-cue-issuer" && text.contains("by-egi") && !text.contains("by-op"), "{id} {text}");
    }
}
