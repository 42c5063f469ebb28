// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user wants: the argument of `--mytoken`.

/// Longest name of a profile in bytes.
const PROFILE_LIMIT: usize = 64;

/// Name of a profile: letters, digits, `_`, `-`, `.`; it goes into a command line and into messages, and Slurm shows it to others (SLURM-19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile(String);

impl Profile {
    /// The profile of a submission that names none, unless the site's default is another.
    pub fn standard() -> Self {
        Self("default".to_owned())
    }

    /// Accepts a name that is none of the option's words.
    pub fn parse(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let starts = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        let reserved = matches!(name, "off" | "required");
        (starts && name.len() <= PROFILE_LIMIT && name.bytes().all(plain) && !reserved).then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The user's wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// No credential, whatever the site's default says.
    Off,
    /// A credential.
    On {
        /// Of this profile; `None`: the site's default one.
        profile: Option<Profile>,
        /// No job without it.
        required: bool,
    },
}

/// Reads the argument: none, `off`, `PROFILE`, `required`, `required:PROFILE`.
///
/// Slurm hands out an absent argument as NULL, and re-imports it from the environment as the text `(null)` (SLURM-16).
pub fn parse(argument: Option<&str>) -> Result<Wish, String> {
    match argument {
        None | Some("" | "(null)") => Ok(Wish::On { profile: None, required: false }),
        Some("off") => Ok(Wish::Off),
        Some("required") => Ok(Wish::On { profile: None, required: true }),
        Some(text) => {
            let (name, required) = text.strip_prefix("required:").map_or((text, false), |name| (name, true));
            let wish = |profile| Wish::On { profile: Some(profile), required };
            Profile::parse(name).map(wish).ok_or_else(|| {
                format!("--mytoken={text:?} is not understood; it takes PROFILE, off, required or required:PROFILE")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(profile: Option<&str>, required: bool) -> Result<Wish, String> {
        Ok(Wish::On { profile: profile.map(|name| Profile::parse(name).unwrap()), required })
    }

    #[test]
    fn each_form_of_the_option_has_one_meaning() {
        for (argument, wanted) in [
            (None, on(None, false)),
            (Some(""), on(None, false)),
            (Some("(null)"), on(None, false)),
            (Some("off"), Ok(Wish::Off)),
            (Some("required"), on(None, true)),
            (Some("data"), on(Some("data"), false)),
            (Some("required:data-2.x"), on(Some("data-2.x"), true)),
        ] {
            assert_eq!(parse(argument), wanted, "{argument:?}");
        }
    }

    #[test]
    fn other_arguments_are_quoted_in_the_refusal() {
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
