// SPDX-License-Identifier: MIT OR Apache-2.0
//! This program in the place of ssh, scp and sftp: links of these names to it, in a directory that comes first in PATH. So programs that
//! start ssh themselves (rsync, git, ansible), and an ssh that starts another one for a jump host, get a token for each connection.
//!
//! `mytoken-ssh run` and each run of ssh have such a directory for themselves, and hand on what their connections get ([`HandedOn`]).
//! `mytoken-ssh env` puts one into PATH for good: there only hosts with a `[[host]]` get a token, and every other connection is the
//! program's own.

pub mod env;
pub mod handed_on;
pub mod links;
pub mod run;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

use handed_on::HandedOn;

use crate::command_line::WrapperOptions;
use crate::error::Error;
use crate::output::tell;
use crate::printable::printable;
use crate::settings::HelperSettings;
use crate::ssh::arguments::Program;
use crate::ssh::installed;
use crate::ssh::resolution::ResolvedDestination;
use crate::ssh::wrapper::{self, Connection, Manner, Preferences, prepare, resolve_destinations};

/// What this program stands in for, by the name under which it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandIn {
    /// The program, with a token for its connections.
    For(Program),
    /// ssh as it is, under its plain name. scp and sftp would start it by its path.
    PlainSsh,
}

impl StandIn {
    /// `name` is the first argument of this process.
    pub fn of(name: Option<&OsString>) -> Option<Self> {
        let name = Path::new(name?).file_name()?;
        if name == links::PLAIN_SSH {
            return Some(Self::PlainSsh);
        }
        Program::ALL.into_iter().find(|program| name == OsStr::new(program.name())).map(Self::For)
    }

    /// Runs it with these arguments.
    ///
    /// # Errors
    /// The program is missing, or the token of a connection that was asked for cannot be made.
    pub fn run(self, args: &[OsString]) -> Result<ExitCode, Error> {
        let Self::For(program) = self else {
            return Err(become_program(Program::Ssh, args));
        };
        // The run above has given the script what the connection needs.
        if installed::is_below_a_script() {
            return Err(become_program(program, args));
        }
        let manner = Manner { preferences: Preferences::OfUser, when_asked: true, configured_only: true };
        let handed_on = HandedOn::from_environment()?;
        let (options, manner) = handed_on.map_or_else(
            || (WrapperOptions::without_options(args.to_vec()), manner),
            |above| above.of_connection(args.to_vec()),
        );
        if manner.configured_only {
            run_configured(program, &options, manner)
        } else {
            wrapper::run_in(program, &options, manner)
        }
    }
}

/// Gives hosts with a `[[host]]` a token. Whatever keeps a host from it, the program itself runs.
fn run_configured(program: Program, options: &WrapperOptions, manner: Manner) -> Result<ExitCode, Error> {
    let without_token = |reason: &dyn std::fmt::Display| {
        tell(&format!("mytoken-ssh: {} gets no token: {reason}", program.name()));
        Err(become_program(program, &options.args))
    };
    let ssh = installed::find("ssh")?;
    let settings = match HelperSettings::load() {
        Ok(settings) => settings,
        Err(error) => return without_token(&error),
    };
    let is_configured = |destination: &ResolvedDestination| {
        settings.hosts.rule([&destination.host_argument, &destination.hostname]).is_some()
    };
    // What is wrong with the arguments, the program itself says.
    let destinations = match settings.hosts.is_empty() {
        false => resolve_destinations(ssh.as_os_str(), program, &options.args).unwrap_or_default(),
        true => Vec::new(),
    };
    if !destinations.iter().any(is_configured) {
        return Err(become_program(program, &options.args));
    }
    // The options of the helper would be for all of them.
    if let Some(other) = destinations.iter().find(|destination| !is_configured(destination)) {
        let host = printable(&other.host_argument);
        return without_token(&format!("{host} is in no [[host]]; use: mytoken-ssh {}", program.name()));
    }
    match prepare(Connection { program, wrapper: options, ssh: &ssh, destinations, settings, manner }) {
        Ok(prepared) => prepared.run(),
        Err(error) => without_token(&error),
    }
}

/// Replaces this process. It returns only an error.
fn become_program(program: Program, args: &[OsString]) -> Error {
    let file = match installed::find(program.name()) {
        Ok(file) => file,
        Err(error) => return error,
    };
    let error = installed::command(&file).args(args).exec();
    Error::cannot_run(file.as_os_str())(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_it_stands_in_for() {
        let of = |name: &str| StandIn::of(Some(&name.into()));
        assert_eq!(of("ssh"), Some(StandIn::For(Program::Ssh)));
        assert_eq!(of("/run/user/1/mytoken-ssh-x/sftp"), Some(StandIn::For(Program::Sftp)));
        assert_eq!(of("/x/plain-ssh"), Some(StandIn::PlainSsh));
        assert_eq!((of("mytoken-ssh"), of("/usr/bin/mytoken-ssh"), of("mytoken-askpass")), (None, None, None));
        assert_eq!(StandIn::of(None), None);
    }
}
