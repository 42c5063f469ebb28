// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a submission wants: the argument of `--mytoken`, the value of `MYTOKEN_PROFILE`, and `mytoken` in a `[[default]]` of `jobs.toml`.

use std::fmt;

use crate::ProfileName;

/// The environment variable of the user that stands for `--mytoken` where a submission lacks the option.
pub const VARIABLE: &str = "MYTOKEN_PROFILE";

/// The forms that [`CredentialOption::parse`] accepts. Each has a text in `spank_mytoken(8)`.
pub const FORMS: [&str; 4] = ["PROFILE", "off", "required", "required:PROFILE"];

/// Whether a submission gets a credential, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialOption {
    /// No credential.
    Off,
    /// A credential.
    On {
        /// The profile. `None`: the one that a submission gets by default.
        profile: Option<ProfileName>,
        /// Whether the job must not run without a credential.
        required: bool,
    },
}

impl CredentialOption {
    /// Whether the job must not run without a credential.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        matches!(self, Self::On { required: true, .. })
    }

    /// Whether a job that has this also has what `other` asks for.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Off, other) => *other == Self::Off,
            (Self::On { .. }, Self::Off) => false,
            (Self::On { profile, required }, Self::On { profile: named, required: requires }) => {
                (named.is_none() || named == profile) && (*required || !requires)
            }
        }
    }

    /// Reads one of [`FORMS`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "required" => Some(Self::On { profile: None, required: true }),
            _ => {
                let (name, required) = text.strip_prefix("required:").map_or((text, false), |name| (name, true));
                ProfileName::parse(name).map(|profile| Self::On { profile: Some(profile), required })
            }
        }
    }
}

/// The form that [`CredentialOption::parse`] reads. Empty where a credential is wanted and nothing more is said.
impl fmt::Display for CredentialOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On { profile: None, required } => f.write_str(if *required { "required" } else { "" }),
            Self::On { profile: Some(profile), required } => {
                write!(f, "{}{profile}", if *required { "required:" } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_one_meaning_and_is_written_as_it_is_read() {
        let on = |profile: Option<&str>, required| {
            let profile = profile.map(|name| ProfileName::parse(name).unwrap());
            Some(CredentialOption::On { profile, required })
        };
        for (text, wanted) in [
            ("off", Some(CredentialOption::Off)),
            ("required", on(None, true)),
            ("data", on(Some("data"), false)),
            ("required:data-2.x", on(Some("data-2.x"), true)),
            ("", None),
            ("required:", None),
            ("required:off", None),
            ("required:required", None),
            ("a b", None),
            ("jobs.toml", None),
        ] {
            let read = CredentialOption::parse(text);
            assert_eq!(read, wanted, "{text}");
            if let Some(read) = read {
                assert_eq!(read.to_string(), text);
            }
        }
        for form in FORMS {
            assert!(CredentialOption::parse(form).is_some(), "{form}");
        }
    }

    #[test]
    fn a_later_option_can_say_the_same_or_less() {
        let read = |text: &str| CredentialOption::parse(text).unwrap();
        let plain = CredentialOption::On { profile: None, required: false };
        for (had, asked, included) in [
            ("data", "data", true),
            ("required:data", "data", true),
            ("required:data", "required", true),
            ("data", "required", false),
            ("data", "required:data", false),
            ("data", "other", false),
            ("required", "data", false),
            ("data", "off", false),
            ("off", "off", true),
            ("off", "data", false),
        ] {
            assert_eq!(read(had).includes(&read(asked)), included, "{had} {asked}");
        }
        assert!(read("data").includes(&plain) && plain.includes(&plain) && !read("off").includes(&plain));
    }
}
