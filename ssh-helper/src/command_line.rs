// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands and options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use mytoken::config::Duration;

/// Get a mytoken, and log in over ssh with it.
#[derive(Debug, Parser)]
#[command(
    name = "mytoken-ssh",
    version,
    after_help = "mytoken-ssh HOST [COMMAND] is short for mytoken-ssh ssh HOST [COMMAND]."
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Get a mytoken: confirm in the browser, it is stored for the other commands
    Login(Login),
    /// Run ssh and answer its token prompt
    Ssh(Wrap),
    /// Run scp and answer its token prompts
    Scp(Wrap),
    /// Run sftp and answer its token prompt
    Sftp(Wrap),
    /// Show the stored mytokens
    Status,
    /// Revoke a stored mytoken with everything made from it, and remove it
    Logout(Logout),
    /// A host: short for `ssh HOST`
    #[command(external_subcommand)]
    Host(Vec<OsString>),
}

/// Options of `login`.
#[derive(Debug, Args)]
pub struct Login {
    /// URL of the mytoken server
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// URL of the OpenID provider at which you log in
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// Name of the mytoken in the server's lists [default: this machine's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Scopes that access tokens may have (repeat, or separate by blanks)
    #[arg(long)]
    pub scope: Vec<String>,
    /// Audience that access tokens may have; one per login
    #[arg(long)]
    pub audience: Option<String>,
    /// Capabilities in the place of the usual ones (repeat)
    #[arg(long, value_name = "NAME")]
    pub capability: Vec<String>,
    /// How long it is valid [default: 30d]
    #[arg(long, value_name = "DURATION")]
    pub lifetime: Option<Duration>,
    /// PEM file of the certificates to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Options of `ssh`, `scp` and `sftp`; they stand in front of the program's own arguments.
#[derive(Debug, Args)]
// `-h` is the program's own.
#[command(disable_help_flag = true)]
pub struct Wrap {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// Leave a mytoken of its own in the session [default lifetime: 24h]
    #[arg(long, value_name = "LIFETIME", num_args = 0..=1, require_equals = true, default_missing_value = "24h")]
    pub delegate: Option<Duration>,
    /// URL of the mytoken server
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Scopes of the login's token [default: all of yours]
    #[arg(long)]
    pub scope: Option<String>,
    /// Audience of the login's token [default: yours]
    #[arg(long)]
    pub audience: Option<String>,
    /// PEM file of the certificates to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Hand over the token in this file as it is, to one host
    #[arg(long, value_name = "FILE", conflicts_with_all = ["delegate", "scope", "audience", "server"])]
    pub token_file: Option<PathBuf>,
    /// The program's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

impl Wrap {
    /// `mytoken-ssh HOST ...`
    pub fn plain(args: Vec<OsString>) -> Self {
        Self { help: None, delegate: None, server: None, scope: None, audience: None, ca: None, token_file: None, args }
    }
}

/// Options of `logout`.
#[derive(Debug, Args)]
pub struct Logout {
    /// URL of the mytoken server [default: the only one you have a mytoken for]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Remove it here even when the server cannot be asked to revoke it
    #[arg(long)]
    pub forget: bool,
    /// PEM file of the certificates to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(args: &str) -> (Wrap, String) {
        let line = CommandLine::try_parse_from(format!("mytoken-ssh {args}").split(' ')).unwrap();
        let (Command::Ssh(wrap) | Command::Scp(wrap) | Command::Sftp(wrap)) = line.command else { panic!("{args}") };
        let own = wrap.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        (wrap, own)
    }

    #[test]
    fn arguments_of_ssh_reach_ssh_unchanged() {
        for args in [
            "testbed",
            "-p 22 alice@testbed ls -l --delegate",
            "-oUser=x -v testbed",
            "-h testbed",
            "-- testbed",
            "-V testbed",
        ] {
            assert_eq!(wrap(&format!("ssh {args}")).1, args.trim_start_matches("-- "), "{args}");
        }
        assert_eq!(wrap("scp -r -P 22 a b:c").1, "-r -P 22 a b:c");
    }

    #[test]
    fn delegation_takes_a_lifetime_or_none() {
        assert_eq!(wrap("ssh --delegate testbed").0.delegate, Some(Duration::seconds(86_400)));
        assert_eq!(wrap("ssh --delegate=2h testbed").0.delegate, Some(Duration::seconds(7_200)));
        assert_eq!(wrap("ssh testbed").0.delegate, None);
        assert_eq!(wrap("ssh --delegate testbed").1, "testbed");
    }

    #[test]
    fn a_host_alone_is_ssh() {
        let line = CommandLine::try_parse_from(["mytoken-ssh", "alice@testbed", "ls", "-l"]).unwrap();
        assert!(matches!(line.command, Command::Host(args) if args == ["alice@testbed", "ls", "-l"]));
    }
}
