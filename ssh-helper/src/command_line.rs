// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands and options.
//!
//! No parser sees the arguments of ssh, scp and sftp: one that took a `--` away would make an option of the host behind it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
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
    #[command(override_usage = "mytoken-ssh ssh [OPTIONS] [SSH'S OPTIONS] HOST [COMMAND]")]
    Ssh(Wrap),
    /// Run scp and answer its token prompts
    #[command(override_usage = "mytoken-ssh scp [OPTIONS] [SCP'S OPTIONS] SOURCE... TARGET")]
    Scp(Wrap),
    /// Run sftp and answer its token prompt
    #[command(override_usage = "mytoken-ssh sftp [OPTIONS] [SFTP'S OPTIONS] HOST")]
    Sftp(Wrap),
    /// Show the stored mytokens
    Status,
    /// Revoke a stored mytoken with everything made from it, and remove it
    Logout(Logout),
    /// A host: short for `ssh HOST`
    #[command(skip)]
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
    #[arg(skip)]
    pub args: Vec<OsString>,
}

impl Wrap {
    /// `mytoken-ssh HOST ...`
    pub fn plain(args: Vec<OsString>) -> Self {
        Self { help: None, delegate: None, server: None, scope: None, audience: None, ca: None, token_file: None, args }
    }
}

/// Reads `args`, the first of which is this program's name.
///
/// Our own options begin with two dashes and a letter, which no option of ssh, scp and sftp does. Everything from the first other
/// argument on is the program's, as it is written.
pub fn parse(mut args: Vec<OsString>) -> Result<Command, clap::Error> {
    let mut commands = CommandLine::command();
    commands.build();
    let first = args.get(1).cloned().unwrap_or_default();
    let known = commands.find_subcommand(&first);
    if first == "--" || known.is_none() && !first.is_empty() && !first.as_bytes().starts_with(b"-") {
        return Ok(Command::Host(args.split_off(1)));
    }
    let of_program = match known.filter(|_| ["ssh", "scp", "sftp"].iter().any(|program| first == *program)) {
        Some(program) => args.split_off(2 + own_options(program, args.get(2..).unwrap_or_default())),
        None => Vec::new(),
    };
    let mut command = CommandLine::try_parse_from(args)?.command;
    if let Command::Ssh(wrap) | Command::Scp(wrap) | Command::Sftp(wrap) = &mut command {
        if of_program.is_empty() {
            let missing = format!("say where to; see mytoken-ssh {} --help", first.to_string_lossy());
            return Err(commands.error(ErrorKind::MissingRequiredArgument, missing));
        }
        wrap.args = of_program;
    }
    Ok(command)
}

/// How many of `args` are our own options and their values.
fn own_options(program: &clap::Command, args: &[OsString]) -> usize {
    let mut count = 0;
    while let Some(option) =
        args.get(count).and_then(|arg| arg.as_bytes().strip_prefix(b"--")).filter(|o| !o.is_empty())
    {
        let takes_next = |arg: &clap::Arg| {
            arg.get_long().is_some_and(|long| long.as_bytes() == option)
                && arg.get_action().takes_values()
                && !arg.is_require_equals_set()
        };
        count += if program.get_arguments().any(takes_next) { 2 } else { 1 };
    }
    count.min(args.len())
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

    /// getopt strings of OpenSSH 9.2 and 10.0, as they stand in the programs.
    const SSH: [&str; 2] = [
        "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:PQ:R:S:TVw:W:XYy",
        "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy",
    ];
    const SCP: [&str; 1] = ["12346ABCTdfOpqRrstvD:F:J:M:P:S:c:i:l:o:X:"];
    const SFTP: [&str; 1] = ["1246AafhNpqrvCc:D:i:l:o:s:S:b:B:F:J:P:R:X:"];

    fn parsed(args: &[&str]) -> Result<Command, clap::Error> {
        parse(std::iter::once("mytoken-ssh").chain(args.iter().copied()).map(OsString::from).collect())
    }

    fn wrap(args: &[&str]) -> Wrap {
        match parsed(args) {
            Ok(Command::Ssh(wrap) | Command::Scp(wrap) | Command::Sftp(wrap)) => wrap,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    /// An option in each of its spellings.
    fn spellings(options: &str) -> Vec<Vec<String>> {
        let letters: Vec<char> = options.chars().collect();
        let mut all = Vec::new();
        for (index, letter) in letters.iter().enumerate().filter(|(_, letter)| **letter != ':') {
            if letters.get(index + 1) != Some(&':') {
                all.push(vec![format!("-{letter}")]);
                continue;
            }
            all.extend(["--", "--delegate", "-oProxyCommand=x"].map(|value| vec![format!("-{letter}"), value.into()]));
            all.push(vec![format!("-{letter}x")]);
        }
        all
    }

    #[test]
    fn every_option_of_the_programs_reaches_them_as_written() {
        let owns: [&[&str]; 3] =
            [&[], &["--delegate", "--server", "https://a"], &["--token-file", "token", "--ca=ca.pem"]];
        let mut tried = 0;
        for (program, strings) in [("ssh", &SSH[..]), ("scp", &SCP), ("sftp", &SFTP)] {
            for option in strings.iter().flat_map(|options| spellings(options)) {
                let mut line: Vec<&str> = option.iter().map(String::as_str).collect();
                line.extend(["alice@testbed", "--scope", "-v"]);
                for place in 0..=line.len() + 1 {
                    let mut written = line.clone();
                    if place <= line.len() {
                        written.insert(place, "--");
                    }
                    for own in owns {
                        let args: Vec<&str> = [program].iter().chain(own).chain(&written).copied().collect();
                        assert_eq!(wrap(&args).args, written, "{args:?}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 5_000, "{tried}");
    }

    #[test]
    fn a_double_dash_ends_our_own_options() {
        let got = wrap(&["ssh", "--", "--delegate", "--server"]);
        assert_eq!((got.delegate, got.args), (None, ["--", "--delegate", "--server"].map(OsString::from).to_vec()));
        // It is nobody's value.
        assert!(parsed(&["ssh", "--server", "--", "testbed"]).is_err());
    }

    #[test]
    fn our_own_options_are_read_in_front_of_the_program_s() {
        let got = wrap(&["ssh", "--server", "https://a", "--delegate", "--scope=b", "testbed", "--scope", "c"]);
        assert_eq!((got.server.as_deref(), got.scope.as_deref()), (Some("https://a"), Some("b")));
        assert_eq!(got.args, ["testbed", "--scope", "c"]);
        for wrong in
            [&["ssh", "--no-such", "testbed"][..], &["ssh"], &["scp", "--delegate"], &["sftp", "--server", "x"]]
        {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn delegation_takes_a_lifetime_or_none() {
        assert_eq!(wrap(&["ssh", "--delegate", "testbed"]).delegate, Some(Duration::seconds(86_400)));
        assert_eq!(wrap(&["ssh", "--delegate=2h", "testbed"]).delegate, Some(Duration::seconds(7_200)));
        assert_eq!(wrap(&["ssh", "testbed"]).delegate, None);
        assert_eq!(wrap(&["ssh", "--delegate", "testbed"]).args, ["testbed"]);
    }

    #[test]
    fn a_host_alone_is_ssh() {
        for line in [
            &["alice@testbed", "ls", "-l"][..],
            &["testbed", "--", "ls", "--help"],
            &["--", "-oProxyCommand=x", "testbed"],
            &["--", "login"],
        ] {
            assert!(matches!(parsed(line), Ok(Command::Host(args)) if args == line), "{line:?}");
        }
        assert!(matches!(parsed(&["status"]), Ok(Command::Status)));
        for line in [&["-p", "22", "testbed"][..], &["--delegate", "testbed"], &["help"], &["--help"], &[]] {
            assert!(parsed(line).is_err(), "{line:?}");
        }
    }
}
