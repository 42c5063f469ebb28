// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user and the site say of a submission: the option `--mytoken`, the variable `MYTOKEN_PROFILE`, and the site's default.

pub use mytoken_wire::CredentialOption;
use mytoken_wire::credential_option::{FORMS, VARIABLE};

/// A credential, and nothing more is said.
const PLAIN: CredentialOption = CredentialOption::On { profile: None, required: false };

/// Reads the argument of the option: none, `off`, `PROFILE`, `required` or `required:PROFILE`.
///
/// # Errors
/// A sentence for the user.
///
/// Slurm passes an absent argument as NULL, and after an import from the environment as the text `(null)` (SLURM-16).
pub fn parse(argument: Option<&str>) -> Result<CredentialOption, String> {
    match argument {
        None | Some("" | "(null)") => Ok(PLAIN),
        Some(text) => {
            CredentialOption::parse(text).ok_or_else(|| format!("--mytoken={text:?} is not valid; use {}", forms()))
        }
    }
}

/// Reads the value of the variable. Empty: the user says nothing.
///
/// # Errors
/// A sentence for the user.
pub fn parse_variable(value: Option<&str>) -> Result<Option<CredentialOption>, String> {
    match value {
        None | Some("") => Ok(None),
        Some(text) => CredentialOption::parse(text)
            .map(Some)
            .ok_or_else(|| format!("the variable {VARIABLE}={text:?} is not valid; use {}", forms())),
    }
}

fn forms() -> String {
    let [profile, off, required, both] = FORMS;
    format!("{profile}, {off}, {required} or {both}")
}

/// What a submission wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The option, in a form in which it is not `Off`.
    pub option: CredentialOption,
    /// Only because the site gives credentials by default: its tables or those of the user may still say `off`.
    pub by_default: bool,
}

impl Wish {
    /// The user says nothing, and the site gives credentials by default.
    pub const fn by_default() -> Self {
        Self { option: PLAIN, by_default: true }
    }

    /// Whether the job must not run without a credential.
    pub fn is_required(&self) -> bool {
        self.option.is_required()
    }
}

/// What a submission wants: the option says it, or else the variable, or else the site's default. `None`: no credential.
///
/// # Errors
/// The sentence about a variable that is not valid and would count.
pub fn wish(
    option: Option<CredentialOption>,
    variable: impl FnOnce() -> Result<Option<CredentialOption>, String>,
    has_default: bool,
) -> Result<Option<Wish>, String> {
    let said = if option.is_some() { option } else { variable()? };
    Ok(match said {
        Some(CredentialOption::Off) => None,
        Some(option) => Some(Wish { option, by_default: false }),
        None => has_default.then_some(Wish::by_default()),
    })
}

#[cfg(test)]
mod tests {
    use mytoken_wire::ProfileName;

    use super::*;
    use crate::manual_page;

    fn on(profile: Option<&str>, required: bool) -> CredentialOption {
        CredentialOption::On { profile: profile.map(|name| ProfileName::parse(name).unwrap()), required }
    }

    #[test]
    fn each_form_of_the_option_has_one_meaning() {
        for (argument, wanted) in [
            (None, on(None, false)),
            (Some(""), on(None, false)),
            (Some("(null)"), on(None, false)),
            (Some("off"), CredentialOption::Off),
            (Some("required"), on(None, true)),
            (Some("data"), on(Some("data"), false)),
            (Some("required:data-2.x"), on(Some("data-2.x"), true)),
        ] {
            assert_eq!(parse(argument), Ok(wanted.clone()), "{argument:?}");
            if let Some(value) = argument.filter(|text| !["", "(null)"].contains(text)) {
                assert_eq!(parse_variable(Some(value)), Ok(Some(wanted)), "{argument:?}");
            }
        }
        assert_eq!((parse_variable(None), parse_variable(Some(""))), (Ok(None), Ok(None)));
    }

    #[test]
    fn the_option_counts_before_the_variable_and_this_before_the_sites_default() {
        let (data, off) = (Some(on(Some("data"), false)), Some(CredentialOption::Off));
        let wrong = || Err("wrong".to_owned());
        let said = |option| Ok(Some(Wish { option, by_default: false }));
        for (option, variable, has_default, wanted) in [
            (None, Ok(None), false, Ok(None)),
            (None, Ok(None), true, Ok(Some(Wish { option: on(None, false), by_default: true }))),
            (None, Ok(data.clone()), false, said(on(Some("data"), false))),
            (None, Ok(data.clone()), true, said(on(Some("data"), false))),
            (None, Ok(off.clone()), true, Ok(None)),
            (None, wrong(), true, Err("wrong".to_owned())),
            (Some(on(None, true)), Ok(data.clone()), true, said(on(None, true))),
            (Some(on(None, false)), Ok(off.clone()), false, said(on(None, false))),
            (Some(on(None, false)), wrong(), false, said(on(None, false))),
            (off, Ok(data), true, Ok(None)),
        ] {
            let text = format!("{option:?} {variable:?} {has_default}");
            assert_eq!(wish(option, || variable, has_default), wanted, "{text}");
        }
    }

    #[test]
    fn the_manual_page_has_every_form_and_no_other() {
        let documented = manual_page::entries("spank_mytoken.8", "OPTIONS");
        let heads: Vec<&str> = documented.iter().map(|(head, _)| head.as_str()).collect();
        let forms = FORMS.map(|form| format!("--mytoken={form}"));
        assert_eq!(heads, [&["--mytoken".to_owned()][..], &forms].concat());
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
            assert!(sentence.contains(&format!("--mytoken={wrong:?}")), "{sentence}");
            let sentence = parse_variable(Some(wrong)).unwrap_err();
            assert!(sentence.contains(&format!("MYTOKEN_PROFILE={wrong:?}")), "{sentence}");
        }
    }
}
