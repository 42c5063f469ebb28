// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer of `mytoken-submit`, which the Slurm plugin spawns: one JSON line on standard output.

use serde::Serialize;

use crate::members::{self, Document, Json as _, flag, list, short_number, text};
use crate::tools::Tool;
use crate::{CredentialOption, Malformed};

/// Version of the line.
pub const VERSION: u32 = 1;

/// The content of the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubmitAnswer {
    /// [`VERSION`] of the writer.
    pub v: u32,
    /// The sealed credential, for `SLURM_MYTOKEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// The handle of the submission, for `MYTOKEN_H`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// Why there is no credential: a sentence for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Nobody wants a credential for this submission: the defaults say `off`, or say nothing.
    #[serde(skip_serializing_if = "is_false")]
    pub off: bool,
    /// What the defaults said of this submission: the profile, and whether the job must not run without a credential, as
    /// [`CredentialOption`] reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// What the user must know about the credential: sentences. Plugins of earlier releases ignore them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Names of tools for which the job's environment names the token file, as in [`crate::tools`]. Plugins of earlier releases ignore them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// The brokers keep the sealed credential, and the job brings only the handle. There is no `sealed` then.
    #[serde(skip_serializing_if = "is_false")]
    pub registered: bool,
    /// Whether the job has several token files. Plugins of earlier releases ignore it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub several_files: bool,
}

impl SubmitAnswer {
    /// The answer with a credential.
    #[must_use]
    pub fn made(sealed: String, handle: String) -> Self {
        Self { sealed: Some(sealed), handle: Some(handle), ..Self::empty() }
    }

    /// The answer with a credential that the brokers keep.
    #[must_use]
    pub fn registered(handle: String) -> Self {
        Self { handle: Some(handle), registered: true, ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            v: VERSION,
            sealed: None,
            handle: None,
            error: None,
            off: false,
            chosen: None,
            notes: Vec::new(),
            tools: Vec::new(),
            registered: false,
            several_files: false,
        }
    }

    /// The same answer with notes.
    #[must_use]
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// The same answer with tools.
    #[must_use]
    pub fn with_tools(self, tools: &[Tool]) -> Self {
        Self { tools: tools.iter().map(|tool| tool.name().to_owned()).collect(), ..self }
    }

    /// The answer without a credential; `sentence` says why.
    #[must_use]
    pub fn failed(sentence: String) -> Self {
        Self { error: Some(sentence), ..Self::empty() }
    }

    /// The answer to a submission for which nobody wants a credential.
    #[must_use]
    pub fn off() -> Self {
        Self { off: true, ..Self::empty() }
    }

    /// The same answer with what the defaults chose, if the caller has left the choice to them.
    #[must_use]
    pub fn with_choice(self, chosen: Option<&CredentialOption>) -> Self {
        Self { chosen: chosen.map(ToString::to_string), ..self }
    }

    /// Reads the line.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        Self::read(&members::parse(line).ok()?).ok()
    }

    fn read(value: &Document<'_>) -> Result<Self, Malformed> {
        let texts = |name| {
            let texts = list(value, name)?.iter().map(|text| text.as_text().map(str::to_owned).ok_or(Malformed));
            texts.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            v: short_number(value, "v")?.ok_or(Malformed)?,
            sealed: text(value, "sealed")?,
            handle: text(value, "handle")?,
            error: text(value, "error")?,
            off: flag(value, "off")?,
            chosen: text(value, "chosen")?,
            notes: texts("notes")?,
            tools: texts("tools")?,
            registered: flag(value, "registered")?,
            several_files: flag(value, "several_files")?,
        })
    }

    /// The line, without its newline.
    #[must_use]
    pub fn line(&self) -> String {
        // Serialising strings and a number cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_a_round_trip() {
        let made = SubmitAnswer::made("mt1.x".into(), "00".into());
        let noted = made.clone().with_notes(vec!["it ends soon".into()]);
        let with_tools = made.clone().with_tools(&crate::tools::ALL);
        assert!(with_tools.line().ends_with(r#","tools":["rclone"]}"#), "{}", with_tools.line());
        let chosen = made.clone().with_choice(CredentialOption::parse("required:data").as_ref());
        assert!(chosen.line().ends_with(r#","chosen":"required:data"}"#), "{}", chosen.line());
        let several = SubmitAnswer { several_files: true, ..made.clone() };
        assert!(several.line().ends_with(r#","several_files":true}"#), "{}", several.line());
        let made_ones = [made, noted, with_tools, chosen, several];
        let registered = SubmitAnswer::registered("00".into());
        assert_eq!(registered.line(), r#"{"v":1,"handle":"00","registered":true}"#);
        for answer in made_ones.into_iter().chain([registered, SubmitAnswer::failed("no".into()), SubmitAnswer::off()])
        {
            assert_eq!(SubmitAnswer::parse(answer.line().as_bytes()), Some(answer));
        }
        assert_eq!(SubmitAnswer::failed("no".into()).line(), r#"{"v":1,"error":"no"}"#);
        assert_eq!(SubmitAnswer::off().line(), r#"{"v":1,"off":true}"#);
        assert_eq!(SubmitAnswer::parse(b"mt1.x"), None);
        // A member of a later release is no reason to refuse the credential.
        let later = br#"{"v":1,"sealed":"mt1.x","handle":"00","later":true}"#;
        assert_eq!(SubmitAnswer::parse(later), Some(SubmitAnswer::made("mt1.x".into(), "00".into())));
    }
}
