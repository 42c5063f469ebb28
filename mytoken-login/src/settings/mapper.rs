// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mappers of `[[rule]]`: see [`crate::mapper`].

use std::path::{Component, Path, PathBuf};

use mytoken::config::Duration;

use super::motley_cue::MotleyCueSettings;

/// A mapper of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapperSettings {
    /// A file of the account's owner.
    UserFile(UserFileSettings),
    /// A command of the administrator.
    Command(CommandSettings),
    /// motley_cue.
    MotleyCue(MotleyCueSettings),
}

/// `user_file` of `[[rule]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFileSettings {
    /// The file below the home directory.
    pub path: PathBuf,
}

/// `command`, `run_as` and `timeout` of `[[rule]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// Its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The account as which it runs. It is not root.
    pub run_as: String,
    /// Its time. The login's deadline may end it earlier.
    pub timeout: Duration,
}

/// The time of a command whose rule has no `timeout`.
const USUAL_TIMEOUT: Duration = Duration::seconds(5);

impl UserFileSettings {
    /// A path below a home directory.
    ///
    /// # Errors
    /// What is wrong, for the administrator.
    pub fn new(path: PathBuf) -> Result<Self, String> {
        let mut parts = path.components();
        let below = parts.all(|part| matches!(part, Component::Normal(_)));
        let named = path.file_name().is_some() && !path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if below && named && !has_nul(&path) {
            return Ok(Self { path });
        }
        Err(format!(
            "user_file \"{}\" is not a file below the home directory: write it without a slash at its start and its end \
             and without \"..\", for example \".config/mytoken/authorized_identities\"",
            path.display()
        ))
    }
}

impl CommandSettings {
    /// A command with its arguments.
    ///
    /// # Errors
    /// What is wrong, for the administrator.
    pub fn new(words: Vec<String>, run_as: Option<String>, timeout: Option<Duration>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let Some(program) = words.next() else {
            return Err("command is empty: write the absolute path of a program, and its arguments".to_owned());
        };
        let (program, arguments) = (PathBuf::from(program), words.collect::<Vec<_>>());
        if !program.is_absolute() {
            return Err(format!(
                "command: \"{}\" is not an absolute path; there is no shell and no PATH",
                program.display()
            ));
        }
        if has_nul(&program) || arguments.iter().any(|argument| argument.contains('\0')) {
            return Err("command has a NUL character".to_owned());
        }
        let run_as = run_as.filter(|name| !name.is_empty()).ok_or(
            "command needs run_as: the account as which it runs, for example \"nobody\" or one that only it uses",
        )?;
        if run_as == "root" {
            return Err("run_as is root: a command runs as another account, for example \"nobody\"".to_owned());
        }
        let timeout = timeout.unwrap_or(USUAL_TIMEOUT);
        if !(1..=60).contains(&timeout.as_secs()) {
            return Err(format!("timeout = \"{timeout}\" is not between \"1s\" and \"60s\""));
        }
        Ok(Self { program, arguments, run_as, timeout })
    }
}

fn has_nul(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&0)
}

impl std::fmt::Display for MapperSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UserFile(file) => write!(f, "user file {}", file.path.display()),
            Self::Command(command) => write!(f, "command {}", command.program.display()),
            Self::MotleyCue(settings) => write!(f, "motley_cue {}", settings.url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Mapping, Rule};

    fn mapper(lines: &str) -> Result<MapperSettings, String> {
        let rule = toml::from_str::<Rule>(&format!("name = 'a'\nissuer = 'op'\n{lines}"));
        match rule.map_err(|error| error.message().to_owned())?.mapping {
            Mapping::Asked(mapper) => Ok(mapper),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_user_file_is_below_the_home_directory() {
        let path = PathBuf::from(".config/mytoken/authorized_identities");
        let line = format!("user_file = '{}'", path.display());
        assert_eq!(mapper(&line), Ok(MapperSettings::UserFile(UserFileSettings { path })));
        for wrong in ["", "/etc/x", "..", "../x", "a/../../x", "./x", "a/", "a\\u0000"] {
            let error = mapper(&format!("user_file = \"{wrong}\"")).unwrap_err();
            assert!(error.contains("below the home directory"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_command_has_its_keys() {
        let line = "command = ['/usr/libexec/mapper', '--strict']\nrun_as = 'nobody'";
        let Ok(MapperSettings::Command(command)) = mapper(line) else { panic!("{:?}", mapper(line)) };
        assert_eq!((command.program.to_str(), command.run_as.as_str()), (Some("/usr/libexec/mapper"), "nobody"));
        assert_eq!((command.arguments, command.timeout.as_secs()), (vec!["--strict".to_owned()], 5));
        assert!(mapper(&format!("{line}\ntimeout = '60s'")).is_ok());
        let nobody = "run_as = 'nobody'";
        for (lines, part) in [
            (format!("command = []\n{nobody}"), "command is empty"),
            (format!("command = ['mapper']\n{nobody}"), "not an absolute path"),
            (format!("command = ['']\n{nobody}"), "not an absolute path"),
            (format!("command = [\"/a\", \"b\\u0000\"]\n{nobody}"), "NUL"),
            ("command = ['/a']".to_owned(), "needs run_as"),
            ("command = ['/a']\nrun_as = ''".to_owned(), "needs run_as"),
            ("command = ['/a']\nrun_as = 'root'".to_owned(), "run_as is root"),
            (format!("command = ['/a']\n{nobody}\ntimeout = '0s'"), "timeout"),
            (format!("command = ['/a']\n{nobody}\ntimeout = '61s'"), "timeout"),
            (format!("template = '{{sub}}'\n{nobody}"), "run_as and timeout"),
            ("user_file = 'a'\ntimeout = '5s'".to_owned(), "run_as and timeout"),
            (format!("user_file = 'a'\ncommand = ['/a']\n{nobody}"), "exactly one of"),
            (format!("map_file = '/a'\ncommand = ['/a']\n{nobody}"), "exactly one of"),
        ] {
            let error = mapper(&lines).unwrap_err();
            assert!(error.contains(part) && error.contains("rule \"a\""), "{lines}: {error}");
        }
        assert!(mapper("command = '/a'\nrun_as = 'nobody'").is_err(), "a line for a shell was accepted");
    }
}
