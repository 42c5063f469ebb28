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
use crate::settings::HelperSettings;
use crate::ssh::arguments::Program;
use crate::ssh::installed;
use crate::ssh::resolution::ResolvedDestination;
use crate::ssh::wrapper::{Connection, Manner, Preferences, resolve_destinations, run_connection};

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
    pub fn run(self, args: Vec<OsString>) -> Result<ExitCode, Error> {
        let Self::For(program) = self else {
            return Err(become_program(Program::Ssh, &args));
        };
        match HandedOn::from_environment()? {
            Some(handed_on) => {
                let (options, manner) = handed_on.of_connection(args);
                crate::ssh::wrapper::run_in(program, &options, manner)
            }
            None => run_configured(program, args),
        }
    }
}

/// Gives hosts with a `[[host]]` a token. Whatever keeps a host from it, the program itself runs.
fn run_configured(program: Program, args: Vec<OsString>) -> Result<ExitCode, Error> {
    let ssh = installed::find("ssh")?;
    let settings = match HelperSettings::load() {
        Ok(settings) => settings,
        Err(error) => {
            tell(&format!("mytoken-ssh: {} gets no token: {error}", program.name()));
            return Err(become_program(program, &args));
        }
    };
    let is_configured = |destination: &ResolvedDestination| {
        settings.host_rule([&destination.host_argument, &destination.hostname]).is_some()
    };
    let destinations = match settings.has_hosts() {
        true => resolve_destinations(ssh.as_os_str(), program, &args).unwrap_or_default(),
        false => Vec::new(),
    };
    let destinations: Vec<_> = destinations.into_iter().filter(is_configured).collect();
    if destinations.is_empty() {
        return Err(become_program(program, &args));
    }
    let options = WrapperOptions::without_options(args);
    let manner = Manner { preferences: Preferences::OfUser, when_asked: true };
    run_connection(Connection { program, wrapper: &options, ssh: &ssh, destinations, settings, manner })
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
