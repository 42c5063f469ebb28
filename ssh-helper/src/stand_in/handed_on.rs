// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run hands on to the connections that other programs start below it, in a variable of their environment. Nothing of it is secret.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mytoken::config::Duration;
use serde::{Deserialize, Serialize};

use crate::askpass::message::{ASKPASS_VARIABLE, PreviousAskpass};
use crate::command_line::{LoginTokenOptions, WrapperOptions};
use crate::error::Error;
use crate::ssh::wrapper::{Manner, Preferences};

/// Environment variable with this as JSON.
pub const VARIABLE: &str = "MYTOKEN_SSH_OPTIONS";

/// What connections get.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
// A later version may add to it while programs of this one run.
#[serde(default)]
pub struct HandedOn {
    /// They lead to a jump host.
    jump: bool,
    /// Only hosts with a `[[host]]` get a token.
    configured_only: bool,
    /// The directory of the run that hands this on. A shell can outlive it.
    run: PathBuf,
    /// `--delegate`
    delegate: Option<Duration>,
    /// `--server`
    server: Option<String>,
    /// `--scope`
    scope: Option<String>,
    /// `--audience`
    audience: Option<String>,
    /// `--ca`, as an absolute path.
    ca: Option<PathBuf>,
    /// The askpass of the user, for prompts that do not ask for a token.
    askpass: PreviousAskpass,
}

impl HandedOn {
    /// For all connections of a program. `run`: the directory with its links.
    pub fn to_program(options: &LoginTokenOptions, run: &Path) -> Self {
        let LoginTokenOptions { delegate, server, scope, audience, ca } = options;
        Self {
            jump: false,
            configured_only: false,
            run: run.to_owned(),
            delegate: *delegate,
            server: server.clone(),
            scope: scope.clone(),
            audience: audience.clone(),
            ca: absolute(ca),
            askpass: askpass_of_user(),
        }
    }

    /// For the jump hosts of a connection. Delegation, scope and audience are for its destination.
    pub fn to_jump_hosts(options: &LoginTokenOptions, manner: Manner, run: &Path) -> Self {
        let configured_only = manner.configured_only;
        Self {
            jump: true,
            configured_only,
            delegate: None,
            scope: None,
            audience: None,
            ..Self::to_program(options, run)
        }
    }

    /// What the run above has handed on. `None`: there is none, or it has ended.
    ///
    /// # Errors
    /// Somebody has changed the variable.
    pub fn from_environment() -> Result<Option<Self>, Error> {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let parsed = text.to_str().and_then(|text| serde_json::from_str(text).ok());
        let of_run = |handed_on: Self| Some(handed_on).filter(|handed_on| handed_on.run.is_dir());
        parsed.map(of_run).ok_or_else(|| {
            Error::Usage(format!(
                "the variable {VARIABLE} is not what this program put there; remove it: unset {VARIABLE}"
            ))
        })
    }

    /// The options of a connection with these arguments.
    pub fn of_connection(self, args: Vec<OsString>) -> (WrapperOptions, Manner) {
        let Self { jump, configured_only, run: _, delegate, server, scope, audience, ca, askpass: _ } = self;
        let token = LoginTokenOptions { delegate, server, scope, audience, ca };
        let preferences = if jump { Preferences::OfSsh } else { Preferences::TokenFirst };
        let manner = Manner { preferences, when_asked: true, configured_only };
        (WrapperOptions { token, ..WrapperOptions::without_options(args) }, manner)
    }

    /// The value of the variable.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_variable(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(Error::system("cannot hand on the options"))
    }
}

/// The askpass of the user: that of the environment, or the one that the run above has handed on.
pub fn askpass_of_user() -> PreviousAskpass {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let program = variable("SSH_ASKPASS");
    if program.is_some() && program == variable(ASKPASS_VARIABLE) {
        return HandedOn::from_environment().ok().flatten().map(|above| above.askpass).unwrap_or_default();
    }
    PreviousAskpass { program, require: variable("SSH_ASKPASS_REQUIRE") }
}

fn absolute(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_host_gets_nothing_that_is_for_the_destination() {
        let options = LoginTokenOptions {
            delegate: Some(Duration::seconds(60)),
            server: Some("https://mt.example.org".into()),
            scope: Some("openid".into()),
            audience: Some("https://cluster".into()),
            ca: Some("ca.pem".into()),
        };
        let run = Path::new("/run/x");
        let read = |handed_on: &HandedOn| serde_json::from_str::<HandedOn>(&handed_on.to_variable().unwrap()).unwrap();
        let (program, manner) = read(&HandedOn::to_program(&options, run)).of_connection(vec!["tb".into()]);
        assert_eq!((program.args, manner.preferences), (vec![OsString::from("tb")], Preferences::TokenFirst));
        assert_eq!((program.token.delegate, program.token.scope), (options.delegate, options.scope.clone()));
        assert!(program.token.ca.is_some_and(|ca| ca.is_absolute() && ca.ends_with("ca.pem")));
        let configured = Manner { configured_only: true, ..manner };
        let (jump, manner) = read(&HandedOn::to_jump_hosts(&options, configured, run)).of_connection(Vec::new());
        assert_eq!((manner.preferences, manner.configured_only), (Preferences::OfSsh, true));
        assert_eq!((jump.token.delegate, jump.token.scope, jump.token.audience), (None, None, None));
        assert_eq!(jump.token.server, options.server);
    }
}
