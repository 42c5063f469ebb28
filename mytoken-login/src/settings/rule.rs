// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[[rule]]` of `login.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mytoken::config::Duration;
use mytoken::urls::ServerUrl;
use serde::Deserialize;
use serde_json::Value;

use super::mapper::{CommandSettings, MapperSettings, UserFileSettings};
use super::motley_cue::{self, OnOutage};
use crate::rules::{AarcEntitlement, AarcForm, AssuranceExpression, ClaimPath, Requirement};
use crate::template::AccountTemplate;

/// `[[rule]]`: which identities of an issuer may use which account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RuleTable")]
pub struct Rule {
    /// Its name, for the log and `explain`.
    pub name: String,
    /// Name of an `[[issuer]]`.
    pub issuer: String,
    /// How it maps an identity to an account.
    pub mapping: Mapping,
    /// What the identity must have besides, all of it.
    pub requirements: Vec<Requirement>,
}

/// The error about a rule with no mapping or several.
const ONE_MAPPING: &str = "it needs exactly one of template, map_file, user_file, command and motley_cue";

/// What makes a rule open system accounts, for sentences.
pub(crate) const STRONG_KEYS: &str = "require_acr, or require_claims with acr or amr";

impl Rule {
    /// Whether it opens root and other system accounts, if its map file and `allow_system` name them: it must ask for
    /// more than the account.
    #[must_use]
    pub fn opens_system_accounts(&self) -> bool {
        matches!(self.mapping, Mapping::File(_)) && self.requirements.iter().any(Requirement::is_strong)
    }
}

/// How a rule maps an identity to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// A template that is filled with claims.
    Template(AccountTemplate),
    /// A map file, see [`crate::MapFile`].
    File(PathBuf),
    /// A mapper, see [`crate::mapper`].
    Asked(MapperSettings),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: String,
    issuer: String,
    template: Option<AccountTemplate>,
    map_file: Option<PathBuf>,
    user_file: Option<PathBuf>,
    command: Option<Vec<String>>,
    run_as: Option<String>,
    timeout: Option<Duration>,
    motley_cue: Option<ServerUrl>,
    otp: Option<bool>,
    on_outage: Option<OnOutage>,
    #[serde(default)]
    require_groups: Vec<String>,
    #[serde(default = "usual_group_claims")]
    group_claims: Vec<String>,
    #[serde(default)]
    require_entitlements: Vec<String>,
    #[serde(default)]
    entitlement_form: AarcForm,
    #[serde(default)]
    require_scopes: Vec<String>,
    #[serde(default)]
    require_acr: Vec<String>,
    #[serde(default)]
    require_claims: BTreeMap<String, Value>,
    require_assurance: Option<String>,
    #[serde(default = "usual_assurance_claims")]
    assurance_claims: Vec<String>,
}

impl std::fmt::Display for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Template(template) => write!(f, "account template {template}"),
            Self::File(path) => write!(f, "map file {}", path.display()),
            Self::Asked(mapper) => mapper.fmt(f),
        }
    }
}

impl TryFrom<RuleTable> for Rule {
    type Error = String;

    fn try_from(table: RuleTable) -> Result<Self, String> {
        let requirements = table.requirements().map_err(|fault| format!("rule \"{}\": {fault}", table.name))?;
        let (name, issuer) = (table.name.clone(), table.issuer.clone());
        let has_requirements = !requirements.is_empty();
        let mapping = table.mapping(has_requirements).map_err(|fault| format!("rule \"{name}\": {fault}"))?;
        Ok(Self { name, issuer, mapping, requirements })
    }
}

impl RuleTable {
    /// How the rule maps.
    fn mapping(self, has_requirements: bool) -> Result<Mapping, String> {
        if self.command.is_none() && (self.run_as.is_some() || self.timeout.is_some()) {
            return Err("run_as and timeout belong to command".to_owned());
        }
        if self.motley_cue.is_none() && (self.otp.is_some() || self.on_outage.is_some()) {
            return Err("otp and on_outage belong to motley_cue".to_owned());
        }
        let only = match (self.template, self.map_file, self.user_file, self.command) {
            (Some(template), None, None, None) => Some(Mapping::Template(template)),
            (None, Some(path), None, None) if path.is_absolute() => Some(Mapping::File(path)),
            (None, Some(path), None, None) => {
                return Err(format!("map_file \"{}\" is not an absolute path", path.display()));
            }
            (None, None, Some(path), None) => {
                Some(Mapping::Asked(MapperSettings::UserFile(UserFileSettings::new(path)?)))
            }
            (None, None, None, Some(words)) => {
                let command = CommandSettings::new(words, self.run_as, self.timeout)?;
                Some(Mapping::Asked(MapperSettings::Command(command)))
            }
            (None, None, None, None) => None,
            _ => return Err(ONE_MAPPING.to_owned()),
        };
        match (only, self.motley_cue) {
            (Some(mapping), None) => Ok(mapping),
            (None, Some(url)) => {
                let (otp, on_outage) = (self.otp.unwrap_or(false), self.on_outage.unwrap_or_default());
                let settings = motley_cue::of_rule(url, otp, on_outage, has_requirements)?;
                Ok(Mapping::Asked(MapperSettings::MotleyCue(settings)))
            }
            _ => Err(ONE_MAPPING.to_owned()),
        }
    }

    /// The requirements, in the order in which they are checked.
    fn requirements(&self) -> Result<Vec<Requirement>, String> {
        let claims = paths("group_claims", &self.group_claims)?;
        let group = |name: &String| Requirement::Group { name: name.clone(), claims: claims.clone() };
        let mut all: Vec<Requirement> = self.require_groups.iter().map(group).collect();
        for text in &self.require_entitlements {
            all.push(entitlement(text, self.entitlement_form)?);
        }
        all.extend(self.require_scopes.iter().cloned().map(Requirement::Scope));
        if self.require_acr.iter().any(String::is_empty) {
            return Err("require_acr has an empty text".to_owned());
        }
        if !self.require_acr.is_empty() {
            all.push(Requirement::Acr(self.require_acr.clone()));
        }
        for (path, value) in &self.require_claims {
            let path = ClaimPath::parse(path).map_err(|fault| format!("require_claims: {fault}"))?;
            let allowed = match value {
                Value::String(text) => !text.is_empty(),
                Value::Number(number) => !number.is_f64(),
                other => other.is_boolean(),
            };
            if !allowed {
                return Err(format!("require_claims: the value of {path} must be text, a whole number, true or false"));
            }
            all.push(Requirement::Claim { path, value: value.clone() });
        }
        let claims = paths("assurance_claims", &self.assurance_claims)?;
        if let Some(text) = &self.require_assurance {
            let expression =
                AssuranceExpression::parse(text).map_err(|fault| format!("require_assurance \"{text}\": {fault}"))?;
            all.push(Requirement::Assurance { expression, claims });
        }
        Ok(all)
    }
}

/// An entitlement of the AARC guidelines is compared by their rule, any other text byte for byte. A mistake in the
/// former must not make it the latter.
fn entitlement(text: &str, form: AarcForm) -> Result<Requirement, String> {
    let plain = text.to_ascii_lowercase();
    match AarcEntitlement::parse(text, form) {
        Ok(required) => Ok(Requirement::AarcEntitlement { text: text.to_owned(), form, required }),
        Err(fault) if plain.starts_with("urn:") && plain.contains(":group:") => {
            Err(format!("require_entitlements: \"{text}\" is not of the form {form}: {fault}"))
        }
        Err(_) => Ok(Requirement::Entitlement(text.to_owned())),
    }
}

fn usual_group_claims() -> Vec<String> {
    vec!["groups".to_owned()]
}

fn usual_assurance_claims() -> Vec<String> {
    vec!["eduperson_assurance".to_owned()]
}

/// The claims of a key, at least one.
fn paths(key: &str, claims: &[String]) -> Result<Vec<ClaimPath>, String> {
    if claims.is_empty() {
        return Err(format!("{key} names no claim"));
    }
    claims.iter().map(|claim| ClaimPath::parse(claim).map_err(|fault| format!("{key}: {fault}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_either_a_template_or_a_map_file() {
        let rule = |lines: &str| toml::from_str::<Rule>(&format!("name = 'a'\nissuer = 'op'\n{lines}"));
        assert!(rule("template = '{sub}'").is_ok());
        assert!(rule("map_file = '/etc/mytoken/users.map'").is_ok());
        for lines in [
            "",
            "template = '{sub}'\nmap_file = '/x'",
            "map_file = 'x'",
            "template = 'alice'",
            "template = '{sub}'\nrequire_group = []",
            "template = '{sub}'\ngroup_claims = []",
            "template = '{sub}'\ngroup_claims = ['groups', '/']",
            "template = '{sub}'\nrequire_entitlements = ['urn:n:group:a']",
            "template = '{sub}'\nrequire_entitlements = ['URN:n:e.org:group:a']\nentitlement_form = 'g002'",
            "template = '{sub}'\nentitlement_form = 'G069'",
            "template = '{sub}'\nrequire_assurance = ''",
            "template = '{sub}'\nrequire_assurance = 'a & (b'",
            "template = '{sub}'\nassurance_claims = []",
            "template = '{sub}'\nrequire_acr = ['']",
            "template = '{sub}'\nrequire_claims = { '/' = 'x' }",
            "template = '{sub}'\nrequire_claims = { '/a~b' = 'x' }",
            "template = '{sub}'\nrequire_claims = { a = '' }",
            "template = '{sub}'\nrequire_claims = { a = 1.0 }",
            "template = '{sub}'\nrequire_claims = { a = ['x'] }",
            "template = '{sub}'\nrequire_claims = { a = { b = 'x' } }",
            "template = '{sub}'\nrequire_claims = { a = 2026-01-01 }",
        ] {
            assert!(rule(lines).is_err(), "{lines}");
        }
    }
}
