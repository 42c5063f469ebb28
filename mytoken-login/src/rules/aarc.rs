// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entitlements of the AARC guidelines G002 and G069:
//! `urn:NID:NAMESPACE[:SUB...]:group:GROUP[:SUBGROUP...][:role=ROLE][#AUTHORITY]`.

use serde::Deserialize;

/// A guideline for the form of entitlements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AarcForm {
    /// AARC-G002: each part is decoded after the text was taken apart, so that a sign in the name of a group stays a sign of its name, and
    /// case counts everywhere.
    G002,
    /// AARC-G069: nothing is decoded. Case does not count in `urn`, namespaces and percent-encoding. The r- and
    /// q-components of a URN (RFC 8141) are ignored.
    #[default]
    G069,
}

/// An entitlement. The authority is not kept: no comparison uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AarcEntitlement {
    /// Namespace id, delegated namespace and sub-namespaces.
    namespaces: Vec<String>,
    /// The group and its subgroups.
    groups: Vec<String>,
    role: Option<String>,
}

/// Why a text is not an AARC entitlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AarcFault {
    /// The scheme is missing.
    #[error("it does not begin with \"urn:\"")]
    Scheme,
    /// There is no group behind two namespaces.
    #[error("it has no \":group:\" with a group, behind a namespace id and a namespace")]
    Group,
    /// Two readings are possible.
    #[error("it has the part \":group:\" twice")]
    Ambiguous,
    /// Nothing is between two colons, or behind the last one.
    #[error("it has an empty part")]
    Empty,
    /// A part follows the role, or the role has no name.
    #[error("its role is empty, or not the last part")]
    Role,
    /// Nothing follows the `#`.
    #[error("it has no authority behind \"#\"")]
    Authority,
    /// A percent sign is not followed by two hexadecimal digits, or the result is not UTF-8.
    #[error("its percent-encoding is wrong")]
    Encoding,
    /// A question mark that begins no component of a URN.
    #[error("it has a question mark")]
    QuestionMark,
}

impl AarcForm {
    fn as_str(self) -> &'static str {
        match self {
            Self::G002 => "AARC-G002",
            Self::G069 => "AARC-G069",
        }
    }
}

impl std::fmt::Display for AarcForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AarcEntitlement {
    /// Takes an entitlement apart.
    ///
    /// # Errors
    /// [`AarcFault`] when the text has another form, or can be read in two ways.
    pub fn parse(text: &str, form: AarcForm) -> Result<Self, AarcFault> {
        match form {
            AarcForm::G002 => {
                decoded(text)?;
                Self::of_parts(text, form)
            }
            AarcForm::G069 => Self::of_parts(&normalised(text)?, form),
        }
    }

    fn of_parts(text: &str, form: AarcForm) -> Result<Self, AarcFault> {
        let text = match text.split_once('#') {
            Some((_, "")) => return Err(AarcFault::Authority),
            Some((text, _)) => text,
            None => text,
        };
        let text = match (form, text.find('?')) {
            (AarcForm::G069, Some(at)) => text
                .split_at_checked(at)
                .filter(|(_, components)| components.starts_with("?+") || components.starts_with("?="))
                .map(|(text, _)| text)
                .ok_or(AarcFault::QuestionMark)?,
            _ => text,
        };
        let (scheme, rest) = text.split_once(':').ok_or(AarcFault::Scheme)?;
        if !(scheme == "urn" || (form == AarcForm::G069 && scheme.eq_ignore_ascii_case("urn"))) {
            return Err(AarcFault::Scheme);
        }
        let mut parts: Vec<&str> = rest.split(':').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(AarcFault::Empty);
        }
        let role = parts.iter().position(|part| part.starts_with("role=")).map(|at| parts.split_off(at));
        let role = match role.as_deref() {
            None => None,
            Some(["role="] | [_, _, ..]) => return Err(AarcFault::Role),
            Some(last) => last.first().and_then(|last| last.strip_prefix("role=")).map(str::to_owned),
        };
        // A namespace id and a delegated namespace are in front, and the group behind.
        let mut places =
            parts.iter().enumerate().skip(2).filter(|(at, part)| **part == "group" && at + 1 < parts.len());
        let at = places.next().ok_or(AarcFault::Group)?.0;
        if places.next().is_some() {
            return Err(AarcFault::Ambiguous);
        }
        let name = |part: &str| match form {
            AarcForm::G002 => decoded(part),
            AarcForm::G069 => Ok(part.to_owned()),
        };
        let names = |parts: Option<&[&str]>| -> Result<Vec<String>, AarcFault> {
            parts.unwrap_or_default().iter().map(|part| name(part)).collect()
        };
        let role = role.as_deref().map(name).transpose()?;
        let groups = names(parts.get(at + 1..))?;
        let mut namespaces = names(parts.get(..at))?;
        if form == AarcForm::G069 {
            namespaces.iter_mut().for_each(|part| part.make_ascii_lowercase());
        }
        Ok(Self { namespaces, groups, role })
    }

    /// Whether somebody with this entitlement meets a requirement for `required`: the namespaces are equal, and the
    /// group is that of `required` or a subgroup of it. A required role must be held in exactly the required group.
    #[must_use]
    pub fn satisfies(&self, required: &Self) -> bool {
        let role = match &required.role {
            None => true,
            Some(role) => self.role.as_ref() == Some(role) && self.groups.len() == required.groups.len(),
        };
        role && self.namespaces == required.namespaces && self.groups.starts_with(&required.groups)
    }
}

/// The text without percent-encoding.
fn decoded(text: &str) -> Result<String, AarcFault> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = triplet(part)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| AarcFault::Encoding)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| AarcFault::Encoding)
}

/// The text with percent-encoding in upper case (RFC 8141 3.1).
fn normalised(text: &str) -> Result<String, AarcFault> {
    let mut parts = text.split('%');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = triplet(part)?;
        result.push('%');
        result.push_str(&digits.to_ascii_uppercase());
        result.push_str(rest);
    }
    Ok(result)
}

/// The two hexadecimal digits behind a percent sign, and the rest.
fn triplet(text: &str) -> Result<(&str, &str), AarcFault> {
    let (digits, rest) = text.split_at_checked(2).ok_or(AarcFault::Encoding)?;
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) { Ok((digits, rest)) } else { Err(AarcFault::Encoding) }
}

#[cfg(test)]
mod tests;
