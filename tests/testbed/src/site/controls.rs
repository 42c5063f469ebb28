// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands of the caller that do at a foreign server what the control API does at the test server. They run outside the site.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::error::WithContext;
use crate::{Error, Result};

/// Exit status of a command that cannot do what is asked; the story is skipped. `testserver replay` has the same rule.
const SKIP_STATUS: i32 = 77;

/// What a story needs of the control API, and a command can do at a foreign server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Opens the link of `mytoken-ssh login` as a user's browser. The arguments are the link and the user.
    Browser,
    /// Sets a fault of the provider's token endpoint (`set NAME`) and ends it (`clear`).
    ProviderFaults,
    /// Gets a mytoken of a user: reads the request as JSON and prints the mytoken.
    FirstToken,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Browser, Self::ProviderFaults, Self::FirstToken];

    /// The option of `testbed test` with the command.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::Browser => "--browser",
            Self::ProviderFaults => "--provider-faults",
            Self::FirstToken => "--first-token",
        }
    }

    /// The environment variable with the command.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Browser => "TESTBED_BROWSER",
            Self::ProviderFaults => "TESTBED_PROVIDER_FAULTS",
            Self::FirstToken => "TESTBED_FIRST_TOKEN",
        }
    }
}

/// The commands that the caller gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controls(Vec<(Need, String)>);

impl Controls {
    /// Those for which `command` has a text.
    pub fn new(command: impl Fn(Need) -> Option<String>) -> Self {
        Self(Need::ALL.into_iter().filter_map(|need| Some((need, command(need)?))).collect())
    }

    /// The shell command for this need.
    #[must_use]
    pub fn command(&self, need: Need) -> Option<&str> {
        self.0.iter().find(|(of, _)| *of == need).map(|(_, command)| command.as_str())
    }

    /// The first of these needs without a command.
    #[must_use]
    pub fn lack(&self, needs: &[Need]) -> Option<Need> {
        needs.iter().copied().find(|need| self.command(*need).is_none())
    }

    /// The environment variables with the commands.
    pub fn as_environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().map(|(need, command)| (need.variable(), command.clone()))
    }

    /// Runs the command for this need with these arguments and this input, and returns its trimmed output.
    ///
    /// # Errors
    /// [`Error::Unplayable`] if there is no command, or if it ends with status 77; the end of its standard error if it fails.
    pub fn run(&self, need: Need, arguments: &[&str], input: &str) -> Result<String> {
        let option = need.option();
        let Some(command) = self.command(need) else {
            return Err(Error::Unplayable(format!("with a foreign mytoken server this needs {option}")));
        };
        let mut child = Command::new("sh")
            .args(["-c", &format!("{command} \"$@\""), "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting the command of {option}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A command that does not read its input may have ended already.
            drop(pipe.write_all(input.as_bytes()));
        }
        let output = child.wait_with_output().with_context(|| format!("running the command of {option}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let reason = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        if output.status.code() == Some(SKIP_STATUS) {
            return Err(Error::Unplayable(format!("the command of {option} cannot do this: {reason}")));
        }
        Err(Error::Refused(format!("the command of {option} ended with {}: {reason}", output.status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(command: &str) -> Controls {
        Controls::new(|need| (need == Need::Browser).then(|| command.to_owned()))
    }

    #[test]
    fn a_command_gets_arguments_and_input() {
        assert_eq!(with("printf '%s,' a").run(Need::Browser, &["b c", "$d"], "").unwrap(), "a,b c,$d,");
        assert_eq!(with("cat").run(Need::Browser, &[], " {\"user\": \"bob\"}\n").unwrap(), "{\"user\": \"bob\"}");
    }

    #[test]
    fn a_command_that_is_missing_or_cannot_do_it_skips_the_story_and_a_failing_one_does_not() {
        let run = |command: &str| with(command).run(Need::Browser, &[], "");
        let cannot = run("f() { echo 'there is no user carol' >&2; exit 77; }; f").unwrap_err();
        assert!(matches!(&cannot, Error::Unplayable(reason) if reason.ends_with("no user carol")), "{cannot}");
        let failed = run("f() { echo first >&2; echo last >&2; exit 3; }; f").unwrap_err();
        assert!(matches!(&failed, Error::Refused(reason) if reason.ends_with("3: last")), "{failed}");
        let missing = with("true").run(Need::FirstToken, &[], "").unwrap_err();
        assert!(matches!(&missing, Error::Unplayable(reason) if reason.ends_with("--first-token")), "{missing}");
    }

    #[test]
    fn the_needs_without_a_command_are_known_and_commands_reach_the_stories() {
        let browser = with("open");
        assert_eq!(browser.lack(&[]), None);
        assert_eq!(browser.lack(&[Need::Browser, Need::ProviderFaults]), Some(Need::ProviderFaults));
        let all = Controls::new(|need| Some(format!("my{}", need.option())));
        assert_eq!((all.command(Need::Browser), all.lack(&Need::ALL)), (Some("my--browser"), None));
        let environment: Vec<_> = all.as_environment().collect();
        let read = |need: Need| environment.iter().find(|(name, _)| *name == need.variable()).map(|one| one.1.clone());
        assert_eq!(Controls::new(read), all);
    }
}
