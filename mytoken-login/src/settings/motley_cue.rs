// SPDX-License-Identifier: MIT OR Apache-2.0
//! `motley_cue` and `otp` of `[[rule]]`.

use mytoken::config::Mistake;
use mytoken::urls::{ServerUrl, is_plain_http, is_served_by_root};
use serde::Deserialize;

use super::rule::{Mapping, Rule};
use super::{LoginSettings, MapperSettings};

/// motley_cue, as a rule asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MotleyCueSettings {
    /// Its URL, without a path of its interface: https, or http to this host (see [`LoginSettings::load`]).
    pub url: ServerUrl,
    /// Whether it also gets the one-time passwords that mccli sends instead of long tokens.
    pub otp: bool,
    /// What becomes of the rules after this one while it does not answer.
    pub on_outage: OnOutage,
}

/// `on_outage` of a rule by motley_cue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOutage {
    /// The login is refused: nobody knows whether motley_cue has suspended the person.
    #[default]
    Refuse,
    /// The next rule is tried. It can open the account of a suspended person.
    Next,
}

impl LoginSettings {
    /// Where a one-time password is sent to: the rule, and its motley_cue. `None`: nowhere.
    #[must_use]
    pub fn one_time_passwords(&self) -> Option<(&Rule, &MotleyCueSettings)> {
        self.motley_cues().find(|(_, settings)| settings.otp)
    }

    /// The rules that ask motley_cue.
    pub fn motley_cues(&self) -> impl Iterator<Item = (&Rule, &MotleyCueSettings)> {
        self.rules.iter().filter_map(|rule| match &rule.mapping {
            Mapping::Asked(MapperSettings::MotleyCue(settings)) => Some((rule, settings)),
            _ => None,
        })
    }

    /// What is wrong with the rules that ask motley_cue. `allow_loopback_http`: that of mytoken.toml.
    pub(super) fn motley_cue_problem(&self, allow_loopback_http: bool) -> Option<Mistake> {
        self.http_problem(allow_loopback_http).or_else(|| self.otp_problem())
    }

    /// Whoever has the port of motley_cue decides about accounts and gets access tokens. Any user of this host can take a port from 1024 on
    /// while motley_cue is down, and the other address of `localhost` at any time.
    fn http_problem(&self, allow_loopback_http: bool) -> Option<Mistake> {
        let is_refused = |url: &str| is_plain_http(url) && !is_served_by_root(url);
        let (rule, settings) = self
            .motley_cues()
            .find(|(_, settings)| is_refused(settings.url.as_str()))
            .filter(|_| !allow_loopback_http)?;
        let problem = format!(
            "rule \"{}\": any user of this host can take the place of {}: write https, or http to 127.0.0.1 or [::1] \
             with a port below 1024 (allow_loopback_http = true of mytoken.toml permits others, for tests)",
            rule.name, settings.url
        );
        Some(self.mistake_of(rule, &["motley_cue"], problem))
    }

    fn mistake_of(&self, rule: &Rule, keys: &'static [&'static str], problem: String) -> Mistake {
        let index = self.rules.iter().position(|other| std::ptr::eq(other, rule)).unwrap_or_default();
        Mistake::of_entry("rule", index, keys, problem)
    }

    /// What is wrong with the rules that get one-time passwords.
    fn otp_problem(&self) -> Option<Mistake> {
        let (first, settings) = self.one_time_passwords()?;
        if self.session.required {
            let problem = format!(
                "rule \"{}\": otp = true lets people in without an access token, and session.required asks for the \
                 files of one: choose one of them",
                first.name
            );
            return Some(self.mistake_of(first, &["otp"], problem));
        }
        let mut others = self.motley_cues().filter(|(_, other)| other.otp && other.url != settings.url);
        others.next().map(|(other, _)| {
            let problem = format!(
                "the rules \"{}\" and \"{}\" have otp = true and different motley_cue: a one-time password does not say \
                 whose it is, and must be sent to one place only",
                first.name, other.name
            );
            self.mistake_of(other, &["motley_cue"], problem)
        })
    }
}

/// The settings of a rule with these keys.
///
/// # Errors
/// What is wrong, for the administrator.
pub(super) fn of_rule(
    url: ServerUrl,
    otp: bool,
    on_outage: OnOutage,
    has_requirements: bool,
) -> Result<MotleyCueSettings, String> {
    if otp && is_plain_http(url.as_str()) {
        return Err(format!(
            "otp = true lets people in by the word of {url} alone: write its URL with https, or leave otp out"
        ));
    }
    if otp && has_requirements {
        return Err(
            "otp = true cannot be used with require_groups, require_entitlements, require_scopes, require_acr, \
                    require_claims or require_assurance: a one-time password has no claims. Give the rule with \
                    otp = true no requirement, or leave otp out"
                .to_owned(),
        );
    }
    Ok(MotleyCueSettings { url, otp, on_outage })
}

#[cfg(test)]
mod tests {
    use mytoken::config::{FileTrust, Shared};

    use super::*;

    /// Loads a login.toml with this text, as a login does.
    fn load(text: &str) -> Result<LoginSettings, String> {
        load_with("", text)
    }

    fn load_with(http: &str, text: &str) -> Result<LoginSettings, String> {
        let dir = tempfile::tempdir().unwrap();
        let shared = format!("{http}\n[[issuer]]\nname = 'op'\nurl = 'https://op.e.org'\naudiences = ['https://a']\n");
        for (name, text) in [("mytoken.toml", shared.as_str()), ("login.toml", text)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        let shared = Shared::load(dir.path(), me).unwrap();
        LoginSettings::load(dir.path(), me, &shared).map_err(|error| error.to_string())
    }

    fn rule(lines: &str) -> String {
        format!("[[rule]]\nname = 'mc'\nissuer = 'op'\n{lines}\n")
    }

    #[test]
    fn a_rule_names_motley_cue_by_https_or_on_this_host() {
        for (url, kept) in [
            ("https://mc.example.org", Some("https://mc.example.org")),
            ("https://mc.example.org:8443/", Some("https://mc.example.org:8443")),
            ("http://127.0.0.1", Some("http://127.0.0.1")),
            ("http://127.0.0.1:81", Some("http://127.0.0.1:81")),
            ("http://[::1]:1023", Some("http://[::1]:1023")),
            ("http://127.0.0.1:8080", None),
            ("http://[::1]:1024", None),
            ("http://localhost", None),
            ("http://localhost:8080", None),
            ("http://mc.example.org", None),
            ("mc.example.org", None),
            ("https://mc.example.org?x", None),
            ("https://user@mc.example.org", None),
        ] {
            let settings = load(&rule(&format!("motley_cue = '{url}'")));
            let found = settings.as_ref().ok().and_then(|settings| settings.motley_cues().next());
            assert_eq!(found.map(|(_, settings)| settings.url.as_str()), kept, "{url}: {settings:?}");
            assert!(found.is_none_or(|(_, settings)| !settings.otp));
        }
        for wrong in
            ["motley_cue = 'https://e.org'\ntemplate = '{sub}'", "template = '{sub}'\notp = true", "otp = false"]
        {
            assert!(load(&rule(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_that_users_can_take_needs_the_setting_for_plain_http() {
        let allow = "[http]\nallow_loopback_http = true";
        for url in ["http://127.0.0.1:8080", "http://localhost:8080", "http://localhost"] {
            let lines = rule(&format!("motley_cue = '{url}'"));
            let error = load(&lines).unwrap_err();
            assert!(error.contains("any user of this host") && error.contains("write https"), "{error}");
            assert!(load_with(allow, &lines).is_ok(), "{url}");
        }
        for url in ["http://127.0.0.1", "http://127.0.0.1:81", "http://127.0.0.1:8080", "http://localhost:8080"] {
            let lines = rule(&format!("motley_cue = '{url}'\notp = true"));
            for error in [load(&lines).unwrap_err(), load_with(allow, &lines).unwrap_err()] {
                assert!(error.contains("write its URL with https"), "{url}: {error}");
            }
        }
    }

    #[test]
    fn an_outage_refuses_unless_the_rule_says_otherwise() {
        let on_outage = |lines: &str| {
            let settings = load(&rule(&format!("motley_cue = 'https://mc.example.org'\n{lines}")))?;
            Ok::<_, String>(settings.motley_cues().next().unwrap().1.on_outage)
        };
        assert_eq!(on_outage(""), Ok(OnOutage::Refuse));
        assert_eq!(on_outage("on_outage = 'refuse'"), Ok(OnOutage::Refuse));
        assert_eq!(on_outage("on_outage = 'next'"), Ok(OnOutage::Next));
        assert!(on_outage("on_outage = 'Next'").is_err() && on_outage("on_outage = true").is_err());
        assert!(load(&rule("template = '{sub}'\non_outage = 'next'")).unwrap_err().contains("belong to motley_cue"));
    }

    #[test]
    fn a_one_time_password_has_one_place_and_no_claims() {
        let (one, two) = ("motley_cue = 'https://one.org'\notp = true", "motley_cue = 'https://two.org'\notp = true");
        let settings = load(&format!("{}{}", rule("motley_cue = 'https://zero.org'"), rule(one))).unwrap();
        assert_eq!(settings.one_time_passwords().unwrap().1.url.as_str(), "https://one.org");
        assert!(load(&format!("{}{}", rule(one), rule(one))).is_ok(), "the same place for two issuers");
        let error = |text: &str| load(text).unwrap_err();
        assert!(error(&format!("{}{}", rule(one), rule(two))).contains("one place only"));
        assert!(error(&rule(&format!("{one}\nrequire_groups = ['hpc']"))).contains("has no claims"));
        assert!(error(&format!("[session]\nrequired = true\n{}", rule(one))).contains("choose one of them"));
        assert!(load(&rule("template = '{sub}'")).unwrap().one_time_passwords().is_none());
    }
}
