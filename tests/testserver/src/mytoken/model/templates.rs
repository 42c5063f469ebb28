// SPDX-License-Identifier: MIT OR Apache-2.0
//! Profiles and templates (MT-53), which a request can name.

use serde_json::{Map, Value, json};

use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body;
use crate::mytoken::model::clauses::Clause;
use crate::mytoken::model::rotation::Rotation;
use crate::mytoken::model::{capabilities, clause_json};

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateKind {
    /// A partial request.
    Profiles,
    /// Names of capabilities.
    Capabilities,
    /// Clauses.
    Restrictions,
    /// Rotation settings.
    Rotation,
}

impl TemplateKind {
    /// The kind of a path segment.
    #[must_use]
    pub fn of(segment: &str) -> Option<Self> {
        match segment.to_ascii_lowercase().as_str() {
            "profiles" => Some(Self::Profiles),
            "capabilities" => Some(Self::Capabilities),
            "restrictions" => Some(Self::Restrictions),
            "rotation" => Some(Self::Rotation),
            _ => None,
        }
    }
}

/// One stored template.
#[derive(Debug, Clone)]
pub struct StoredTemplate {
    pub id: String,
    pub group: String,
    pub kind: TemplateKind,
    pub name: String,
    pub payload: Value,
}

/// All templates of the server.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    /// In the order of their creation.
    pub all: Vec<StoredTemplate>,
}

/// A profile with its includes resolved.
#[derive(Debug, Clone, Default)]
pub struct ExpandedProfile {
    pub capabilities: Vec<String>,
    pub restrictions: Vec<Clause>,
    pub rotation: Option<Rotation>,
}

/// Maximum depth of includes: templates can include each other.
const MAX_DEPTH: usize = 8;

impl Templates {
    fn payload(&self, kind: TemplateKind, name: &str) -> ApiResult<&Value> {
        let (group, short) = name.split_once('/').unwrap_or(("_", name));
        self.all
            .iter()
            .find(|template| template.kind == kind && template.group == group && template.name == short)
            .map(|template| &template.payload)
            .ok_or_else(|| ApiError::invalid_request(format!("unknown include name: '{name}'")))
    }

    /// The names in a member that is a string of names or an array.
    fn names(value: Option<&Value>) -> Vec<String> {
        capabilities::names(value)
    }

    /// Capabilities with the templates among them expanded, each once.
    ///
    /// # Errors
    /// A name is unknown.
    pub fn capabilities(&self, value: Option<&Value>) -> ApiResult<Vec<String>> {
        let mut given = Vec::new();
        self.add_capabilities(value, MAX_DEPTH, &mut given)?;
        Ok(given)
    }

    fn add_capabilities(&self, value: Option<&Value>, depth: usize, given: &mut Vec<String>) -> ApiResult<()> {
        for word in capabilities::names(value) {
            match word.strip_prefix('@') {
                Some(name) if depth > 0 => {
                    let payload = self.payload(TemplateKind::Capabilities, name)?;
                    self.add_capabilities(Some(payload), depth - 1, given)?;
                }
                _ if given.contains(&word) => {}
                _ => given.push(word),
            }
        }
        Ok(())
    }

    /// Clauses with their includes resolved and times made absolute.
    ///
    /// # Errors
    /// A name is unknown or a member has the wrong type.
    pub fn restrictions(&self, value: Option<&Value>, now: i64) -> ApiResult<Vec<Clause>> {
        self.clauses(value, now, MAX_DEPTH)
    }

    fn clauses(&self, value: Option<&Value>, now: i64, depth: usize) -> ApiResult<Vec<Clause>> {
        let by_name = |value: &Value| {
            let mut clauses = Vec::new();
            for name in Self::names(Some(value)) {
                if depth > 0 {
                    clauses.extend(self.clauses(
                        Some(self.payload(TemplateKind::Restrictions, &name)?),
                        now,
                        depth - 1,
                    )?);
                }
            }
            Ok(clauses)
        };
        let mut clauses = Vec::new();
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Object(members)) => clauses.extend(self.clause(members, now, &by_name)?),
            Some(Value::Array(list)) => {
                for item in list {
                    match item {
                        Value::Object(members) => clauses.extend(self.clause(members, now, &by_name)?),
                        Value::String(_) => clauses.extend(by_name(item)?),
                        Value::Null => {}
                        other => return Err(body::type_mismatch(other, "Go value of type restrictions.Restriction")),
                    }
                }
            }
            Some(names) => clauses.extend(by_name(names)?),
        }
        clauses.retain(|clause| !clause.is_empty());
        Ok(clauses)
    }

    /// A clause with includes. Its keys are added to the first included clause if that has none of them. Otherwise they
    /// become a separate clause before it, which widens the token as in the original (MT-53).
    fn clause(
        &self,
        members: &Map<String, Value>,
        now: i64,
        by_name: &impl Fn(&Value) -> ApiResult<Vec<Clause>>,
    ) -> ApiResult<Vec<Clause>> {
        let own = clause_json::clause(members, Some(now))?;
        let mut included = match members.get("include") {
            None | Some(Value::Null) => Vec::new(),
            Some(names) => by_name(names)?,
        };
        if let Some(first) = included.first_mut() {
            if let Some(joined) = join_clauses(&own, first) {
                *first = joined;
                return Ok(included);
            }
        }
        included.insert(0, own);
        Ok(included)
    }

    /// Rotation settings.
    ///
    /// # Errors
    /// A name is unknown or a member has the wrong type.
    pub fn rotation(&self, value: Option<&Value>) -> ApiResult<Option<Rotation>> {
        self.rotation_to_depth(value, MAX_DEPTH)
    }

    fn rotation_to_depth(&self, value: Option<&Value>, depth: usize) -> ApiResult<Option<Rotation>> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(members)) => {
                let mut settings = Map::new();
                for name in Self::names(members.get("include")) {
                    if let (true, Some(included)) = (
                        depth > 0,
                        self.rotation_to_depth(Some(self.payload(TemplateKind::Rotation, &name)?), depth - 1)?,
                    ) {
                        if let Value::Object(included) = json!(included) {
                            settings.extend(included);
                        }
                    }
                }
                settings.extend(members.clone());
                settings.retain(|_, value| !value.is_null());
                serde_json::from_value(Value::Object(settings))
                    .map(Some)
                    .map_err(|error| ApiError::invalid_request(format!("json: cannot unmarshal rotation: {error}")))
            }
            Some(names) => {
                let mut found = None;
                for name in Self::names(Some(names)) {
                    if depth > 0 {
                        found = self
                            .rotation_to_depth(Some(self.payload(TemplateKind::Rotation, &name)?), depth - 1)?
                            .or(found);
                    }
                }
                Ok(found)
            }
        }
    }

    /// A profile by its name.
    ///
    /// # Errors
    /// The profile, or a template that it names, is unknown.
    pub fn profile(&self, name: &str, now: i64) -> ApiResult<ExpandedProfile> {
        self.profile_of(self.payload(TemplateKind::Profiles, name)?, now)
    }

    fn profile_of(&self, payload: &Value, now: i64) -> ApiResult<ExpandedProfile> {
        Ok(ExpandedProfile {
            capabilities: self.capabilities(payload.get("capabilities"))?,
            restrictions: self.restrictions(payload.get("restrictions"), now)?,
            rotation: self.rotation(payload.get("rotation"))?,
        })
    }

    /// The payload for readers: includes expanded, times absolute.
    ///
    /// # Errors
    /// It names an unknown template.
    pub fn expanded(&self, template: &StoredTemplate, now: i64) -> ApiResult<Value> {
        let payload = Some(&template.payload);
        Ok(match template.kind {
            TemplateKind::Capabilities => json!(self.capabilities(payload)?),
            TemplateKind::Restrictions => json!(self.restrictions(payload, now)?),
            TemplateKind::Rotation => json!(self.rotation(payload)?),
            TemplateKind::Profiles => {
                let profile = self.profile_of(&template.payload, now)?;
                let mut members = Map::new();
                if !profile.capabilities.is_empty() {
                    members.insert("capabilities".into(), json!(profile.capabilities));
                }
                if !profile.restrictions.is_empty() {
                    members.insert("restrictions".into(), json!(profile.restrictions));
                }
                if let Some(rotation) = profile.rotation {
                    members.insert("rotation".into(), json!(rotation));
                }
                Value::Object(members)
            }
        })
    }
}

/// Joins two clauses that have no key in common.
fn join_clauses(own: &Clause, included: &Clause) -> Option<Clause> {
    let (Value::Object(own), Value::Object(mut keys)) = (json!(own), json!(included)) else {
        return None;
    };
    if own.keys().any(|key| keys.contains_key(key)) {
        return None;
    }
    keys.extend(own);
    serde_json::from_value(Value::Object(keys)).ok()
}
