// SPDX-License-Identifier: MIT OR Apache-2.0
//! The option `--mytoken`.

use mytoken_wire::ProfileName;

/// The value of the option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialOption {
    /// No credential, even if the site has a default profile.
    Off,
    /// A credential.
    On {
        /// The profile. `None`: the site's default.
        profile: Option<ProfileName>,
        /// Whether the job must not run without a credential.
        required: bool,
    },
}

/// The forms of the argument. Each has a text in `spank_mytoken(8)`.
const FORMS: [&str; 4] = ["PROFILE", "off", "required", "required:PROFILE"];

/// Reads the argument: none, `off`, `PROFILE`, `required` or `required:PROFILE`.
///
/// # Errors
/// A sentence for the user.
///
/// Slurm passes an absent argument as NULL, and after an import from the environment as the text `(null)` (SLURM-16).
pub fn parse(argument: Option<&str>) -> Result<CredentialOption, String> {
    match argument {
        None | Some("" | "(null)") => Ok(CredentialOption::On { profile: None, required: false }),
        Some("off") => Ok(CredentialOption::Off),
        Some("required") => Ok(CredentialOption::On { profile: None, required: true }),
        Some(text) => {
            let (name, required) = text.strip_prefix("required:").map_or((text, false), |name| (name, true));
            let on = |profile| CredentialOption::On { profile: Some(profile), required };
            ProfileName::parse(name).map(on).ok_or_else(|| {
                let [profile, off, required, both] = FORMS;
                format!("--mytoken={text:?} is not valid; use {profile}, {off}, {required} or {both}")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manual_page;

    fn on(profile: Option<&str>, required: bool) -> Result<CredentialOption, String> {
        Ok(CredentialOption::On { profile: profile.map(|name| ProfileName::parse(name).unwrap()), required })
    }

    #[test]
    fn each_form_of_the_option_has_one_meaning() {
        for (argument, wanted) in [
            (None, on(None, false)),
            (Some(""), on(None, false)),
            (Some("(null)"), on(None, false)),
            (Some("off"), Ok(CredentialOption::Off)),
            (Some("required"), on(None, true)),
            (Some("data"), on(Some("data"), false)),
            (Some("required:data-2.x"), on(Some("data-2.x"), true)),
        ] {
            assert_eq!(parse(argument), wanted, "{argument:?}");
        }
    }

    #[test]
    fn the_manual_page_has_every_form_and_no_other() {
        let documented = manual_page::entries("spank_mytoken.8", "OPTIONS");
        let heads: Vec<&str> = documented.iter().map(|(head, _)| head.as_str()).collect();
        let forms = FORMS.map(|form| format!("--mytoken={form}"));
        assert_eq!(heads, [&["--mytoken".to_owned()][..], &forms].concat());
        for form in FORMS {
            assert!(parse(Some(form)).is_ok(), "{form}");
        }
    }

    #[test]
    fn an_invalid_argument_is_quoted_in_the_error() {
        for wrong in [
            "a b",
            "-x",
            "--required",
            "required:",
            "required:off",
            "required:required",
            "../x",
            "é",
            "a,b",
            &"x".repeat(65),
        ] {
            let sentence = parse(Some(wrong)).unwrap_err();
            assert!(sentence.contains(&format!("{wrong:?}")), "{sentence}");
        }
    }
}
