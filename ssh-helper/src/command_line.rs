// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands and options.
//!
//! clap does not parse the arguments of ssh, scp and sftp. It removes `--`, and then ssh would take a host that begins
//! with `-` for an option.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use mytoken::config::Duration;

use crate::hosts::Sent;

/// Get a mytoken and log in over ssh with it
#[derive(Debug, Parser)]
#[command(
    name = "mytoken-ssh",
    version,
    after_help = "mytoken-ssh HOST [COMMAND] is short for mytoken-ssh ssh HOST [COMMAND]."
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Invocation,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Invocation {
    /// Get a mytoken: confirm in the browser, and it is stored for the other commands
    Login(LoginOptions),
    /// Run ssh and answer its token prompt
    #[command(override_usage = "mytoken-ssh ssh [OPTIONS] [SSH'S OPTIONS] HOST [COMMAND]")]
    Ssh(WrapperOptions),
    /// Run scp and answer its token prompts
    #[command(override_usage = "mytoken-ssh scp [OPTIONS] [SCP'S OPTIONS] SOURCE... TARGET")]
    Scp(WrapperOptions),
    /// Run sftp and answer its token prompt
    #[command(override_usage = "mytoken-ssh sftp [OPTIONS] [SFTP'S OPTIONS] HOST")]
    Sftp(WrapperOptions),
    /// Run git: each of its connections gets a token
    #[command(override_usage = "mytoken-ssh git [GIT'S ARGUMENTS]")]
    Git(StarterOptions),
    /// Run rsync: its connection gets a token
    #[command(override_usage = "mytoken-ssh rsync [RSYNC'S ARGUMENTS]")]
    Rsync(StarterOptions),
    /// Run mosh: its connection gets a token
    #[command(override_usage = "mytoken-ssh mosh [MOSH'S ARGUMENTS]")]
    Mosh(StarterOptions),
    /// Run ansible: each of its connections gets a token
    #[command(override_usage = "mytoken-ssh ansible [ANSIBLE'S ARGUMENTS]")]
    Ansible(StarterOptions),
    /// Run ansible-playbook: each of its connections gets a token
    #[command(override_usage = "mytoken-ssh ansible-playbook [ANSIBLE'S ARGUMENTS]")]
    AnsiblePlaybook(StarterOptions),
    /// Run any program: each ssh, scp and sftp that it starts gets a token
    #[command(override_usage = "mytoken-ssh run [OPTIONS] PROGRAM [ARGUMENT...]")]
    Run(RunOptions),
    /// Write down which token a host gets at each login: the one that you name, or that the host asks for
    Add(AddOptions),
    /// Show which hosts get a token of their own, in the order in which the entries count
    Hosts(HostsOptions),
    /// Print a line for your shell: then plain ssh, and all that starts it, gets a token for configured hosts
    Env(EnvOptions),
    /// Show the stored mytokens
    Status(StatusOptions),
    /// Print an access token, for a script
    Token(TokenOptions),
    /// Print a code for one login, to type into any ssh client
    Code(CodeOptions),
    /// Store a mytoken, short token or transfer code that you give on standard input
    Import(ImportOptions),
    /// Print a stored mytoken, for `mytoken-ssh import` on another machine
    Export(ExportOptions),
    /// Revoke a stored mytoken with every mytoken made from it, and remove it
    Logout(LogoutOptions),
    /// Look for what keeps logins from working
    Doctor(DoctorOptions),
    /// `mytoken-ssh HOST`, short for `mytoken-ssh ssh HOST`
    #[command(skip)]
    Host(Vec<OsString>),
}

/// Options of `login`.
#[derive(Debug, Default, Args)]
pub struct LoginOptions {
    /// Host name or URL of the mytoken server [default: that of your last login]
    #[arg(value_name = "SERVER", value_hint = ValueHint::Hostname)]
    pub server_argument: Option<String>,
    /// The same as SERVER
    #[arg(long, value_name = "URL", conflicts_with = "server_argument")]
    pub server: Option<String>,
    /// URL of your OpenID provider
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// Name of the mytoken in the server's lists [default: as at your last login, else this machine's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Scopes that access tokens may have (repeat the option, or separate them by blanks) [default: as at your last login]
    #[arg(long)]
    pub scope: Vec<String>,
    /// Audience that access tokens may have [default: as at your last login]
    #[arg(long)]
    pub audience: Option<String>,
    /// Capability of the mytoken, instead of the default ones or those of your last login (repeat the option for more)
    #[arg(long, value_name = "NAME")]
    pub capability: Vec<String>,
    /// Lifetime of the mytoken [default: 30d]
    #[arg(long, value_name = "DURATION")]
    pub lifetime: Option<Duration>,
    /// Open no browser: show the link only
    #[arg(long)]
    pub no_browser: bool,
    /// PEM file with the CA certificates to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// The token of a login, for `ssh`, `scp`, `sftp`, `code`, and for programs that start ssh.
#[derive(Debug, Default, Clone, Args)]
pub struct LoginTokenOptions {
    /// Give the session its own mytoken [default lifetime: 24h]
    #[arg(long, value_name = "LIFETIME", num_args = 0..=1, require_equals = true, default_missing_value = "24h")]
    pub delegate: Option<Duration>,
    /// URL of the mytoken server [default: the only server that you have a mytoken for]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Scopes of the login's token [default: the scopes of your mytoken]
    #[arg(long)]
    pub scope: Option<String>,
    /// Audience of the login's token [default: the audience of your mytoken]
    #[arg(long)]
    pub audience: Option<String>,
    /// PEM file with the CA certificates to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Options of `ssh`, `scp` and `sftp`. They come before the program's own arguments.
#[derive(Debug, Args)]
// `-h` belongs to the program.
#[command(disable_help_flag = true)]
pub struct WrapperOptions {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// The login's token.
    #[command(flatten)]
    pub token: LoginTokenOptions,
    /// Send the token in this file unchanged, to one host only
    #[arg(long, value_name = "FILE", conflicts_with_all = ["delegate", "scope", "audience", "server"])]
    pub token_file: Option<PathBuf>,
    /// The program's own arguments
    #[arg(skip)]
    pub args: Vec<OsString>,
}

impl WrapperOptions {
    /// No options, as in `mytoken-ssh HOST ...`.
    pub fn without_options(args: Vec<OsString>) -> Self {
        Self { help: None, token: LoginTokenOptions::default(), token_file: None, args }
    }
}

/// Arguments of a program that starts ssh itself. All of them are the program's: it may have options of the same names as the helper's.
#[derive(Debug, Default, Args)]
// `-h` belongs to the program.
#[command(disable_help_flag = true)]
pub struct StarterOptions {
    /// Print help, as the only argument. Options for the token: see mytoken-ssh run --help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// The program's own arguments
    #[arg(skip)]
    pub args: Vec<OsString>,
}

/// Options of `run`. They come before the program.
#[derive(Debug, Args)]
// `-h` belongs to the program.
#[command(disable_help_flag = true)]
pub struct RunOptions {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// The token of each connection.
    #[command(flatten)]
    pub token: LoginTokenOptions,
    /// The program's own arguments
    #[arg(skip)]
    pub args: Vec<OsString>,
}

/// Options of `add`.
#[derive(Debug, Default, Args)]
pub struct AddOptions {
    /// The host, as for ssh, or a pattern with `*` and `?` for several hosts
    #[arg(value_name = "HOST", value_hint = ValueHint::Hostname)]
    pub host: String,
    /// Audience of the host's tokens [default: as before; the host is asked, if neither this, a scope nor a form is named]
    #[arg(long)]
    pub audience: Option<String>,
    /// Scopes of the host's tokens (repeat the option, or separate them by blanks) [default: as before]
    #[arg(long)]
    pub scope: Vec<String>,
    /// What the host gets [default: as before]
    #[arg(long, value_name = "FORM")]
    pub send: Option<Sent>,
    /// Account of oidc-agent that gives the host's access tokens, or the URL of its provider [default: as before]
    #[arg(long, value_name = "ACCOUNT")]
    pub oidc_agent: Option<String>,
    /// URL of the host's motley_cue [default: the HOST's port 443, then 8443]
    #[arg(long, value_name = "URL", conflicts_with_all = ["audience", "scope", "send", "oidc_agent"])]
    pub info: Option<String>,
    /// URL of your OpenID provider, if the host takes tokens of several [default: that of your mytoken]
    #[arg(long, value_name = "URL", conflicts_with_all = ["audience", "scope", "send", "oidc_agent"])]
    pub issuer: Option<String>,
    /// Take what the host says without a question
    #[arg(long, conflicts_with_all = ["audience", "scope", "send", "oidc_agent"])]
    pub yes: bool,
    /// URL of the mytoken server of your mytoken [default: the only server that you have a mytoken for]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// PEM file with the CA certificates to trust
    #[arg(long, value_name = "FILE", conflicts_with_all = ["audience", "scope", "send", "oidc_agent"])]
    pub ca: Option<PathBuf>,
}

/// Options of `hosts`.
#[derive(Debug, Default, Args)]
pub struct HostsOptions {
    /// Print a JSON list: pattern, scope, audience, send, where the token comes from, and the file
    #[arg(long)]
    pub json: bool,
    /// Remove this entry from hosts.toml
    #[arg(long, value_name = "HOST", conflicts_with = "json")]
    pub remove: Option<String>,
}

/// Options of `env`.
#[derive(Debug, Default, Args)]
pub struct EnvOptions {
    /// Your shell [default: that of $SHELL]
    #[arg(long, value_name = "SHELL")]
    pub shell: Option<Shell>,
}

/// The language of a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// sh, bash, zsh and the like
    #[value(alias = "bash", alias = "zsh", alias = "dash", alias = "ksh")]
    Sh,
    /// fish
    Fish,
    /// csh and tcsh
    #[value(alias = "tcsh")]
    Csh,
}

/// Parses `args`. The first of them is the name of this program.
///
/// The helper's own options begin with two dashes and a letter. No option of ssh, scp and sftp does. The first other
/// argument, and all arguments after it, belong to the program and are passed on unchanged. Other programs have such options: all of
/// theirs are passed on.
///
/// # Errors
/// Wrong arguments, or a request for help.
pub fn parse(mut args: Vec<OsString>) -> Result<Invocation, clap::Error> {
    let mut commands = CommandLine::command();
    commands.build();
    let first = args.get(1).cloned().unwrap_or_default();
    if let Some(misplaced) = misplaced_option(&commands, &first) {
        return Err(commands.error(ErrorKind::UnknownArgument, misplaced));
    }
    let known = commands.find_subcommand(&first);
    if first == "--" || known.is_none() && !first.is_empty() && !first.as_bytes().starts_with(b"-") {
        return Ok(Invocation::Host(args.split_off(1)));
    }
    let takes_arguments =
        |first: &OsStr| PROGRAMS.iter().chain(&STARTERS).chain([&RUN]).any(|program| first == *program);
    let mut program_args = match known.filter(|_| takes_arguments(&first)) {
        Some(program) => args.split_off(2 + count_own_options(program, args.get(2..).unwrap_or_default())),
        None => Vec::new(),
    };
    if program_args == ["-h"] {
        args.push("--help".into());
        program_args.clear();
    }
    let word_after = |option: &str| {
        let given = args.iter().position(|arg| arg == option)?;
        args.get(given + 1).or(program_args.first()).and_then(as_lifetime)
    };
    if let Some(lifetime) = word_after("--delegate") {
        let missing = format!("--delegate {lifetime} would log in to a host {lifetime}; write --delegate={lifetime}");
        return Err(commands.error(ErrorKind::InvalidValue, missing));
    }
    let mut command =
        CommandLine::try_parse_from(args).map_err(|error| without_secret(&commands, &first, error))?.command;
    if let Invocation::Ssh(options) | Invocation::Scp(options) | Invocation::Sftp(options) = &mut command {
        if program_args.is_empty() {
            let missing = format!("no destination is given; see mytoken-ssh {} --help", first.to_string_lossy());
            return Err(commands.error(ErrorKind::MissingRequiredArgument, missing));
        }
        options.args = program_args;
    } else if let Invocation::Git(options)
    | Invocation::Rsync(options)
    | Invocation::Mosh(options)
    | Invocation::Ansible(options)
    | Invocation::AnsiblePlaybook(options) = &mut command
    {
        options.args = program_args;
    } else if let Invocation::Run(options) = &mut command {
        options.args = program_args;
    }
    Ok(command)
}

/// The programs that the helper runs.
const PROGRAMS: [&str; 3] = ["ssh", "scp", "sftp"];

/// The programs that start ssh.
const STARTERS: [&str; 5] = ["git", "rsync", "mosh", "ansible", "ansible-playbook"];

/// The command that runs any program.
const RUN: &str = "run";

/// What to write instead of an option that stands before the command.
fn misplaced_option(commands: &clap::Command, first: &OsStr) -> Option<String> {
    let word = first.to_str().filter(|word| word.len() > 1 && word.starts_with('-'))?;
    if ["-h", "--help", "-V", "--version", "--"].contains(&word) {
        return None;
    }
    let Some(option) = word.strip_prefix("--") else {
        return Some(format!("{word} comes after the command: mytoken-ssh ssh {word} ..."));
    };
    let name = option.split('=').next().unwrap_or(option);
    let has = |command: &&clap::Command| command.get_arguments().any(|arg| arg.get_long() == Some(name));
    let owners: Vec<&str> = commands.get_subcommands().filter(has).map(clap::Command::get_name).collect();
    let first = owners.iter().find(|owner| PROGRAMS.contains(*owner)).or(owners.first())?;
    Some(format!("--{name} is an option of {} and comes after it: mytoken-ssh {first} {word} ...", owners.join(", ")))
}

/// The word, if it can be nothing but a lifetime.
fn as_lifetime(word: &OsString) -> Option<&str> {
    word.to_str().filter(|word| word.parse::<Duration>().is_ok())
}

/// The error without the word that it quotes, if that is what `import` reads: the screen would show a token.
fn without_secret(commands: &clap::Command, first: &OsStr, error: clap::Error) -> clap::Error {
    let is_option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.starts_with('-'),
        _ => true,
    };
    if first != "import" || error.kind() != ErrorKind::UnknownArgument || is_option {
        return error;
    }
    let advice = "a token is given on standard input, because all users can see arguments: mytoken-ssh import < FILE";
    commands.clone().error(ErrorKind::UnknownArgument, advice)
}

/// The command that is misspelt in `word`. Few hosts have such a name.
pub fn meant_command(word: &str) -> Option<String> {
    const OTHER_WORDS: [(&str, &str); 6] = [
        ("log-in", "login"),
        ("logon", "login"),
        ("list", "status"),
        ("info", "status"),
        ("log-out", "logout"),
        ("revoke", "logout"),
    ];
    if let Some((_, command)) = OTHER_WORDS.iter().find(|(other, _)| *other == word) {
        return Some((*command).to_owned());
    }
    // Of short commands many words are near: only swapped letters count.
    let is_near = |command: &&str| {
        strsim::damerau_levenshtein(word, command) == 1 && (command.len() > 4 || letters(word) == letters(command))
    };
    let commands = CommandLine::command();
    let mut names = commands.get_subcommands().map(clap::Command::get_name);
    names.find(is_near).filter(|_| word.bytes().all(|byte| byte.is_ascii_lowercase())).map(str::to_owned)
}

fn letters(word: &str) -> Vec<u8> {
    let mut letters: Vec<u8> = word.bytes().collect();
    letters.sort_unstable();
    letters
}

/// The command line for the manual page and the completions: with the arguments that [`parse`] passes on without reading them.
pub fn documented() -> clap::Command {
    CommandLine::command().mut_subcommands(|command| {
        let (name, hint, help) = match command.get_name() {
            "ssh" => ("HOST", ValueHint::Hostname, "Arguments of ssh(1): its options, the host, and a command"),
            "scp" => ("SOURCE", ValueHint::AnyPath, "Arguments of scp(1): its options, the sources and the target"),
            "sftp" => ("HOST", ValueHint::Hostname, "Arguments of sftp(1): its options and the host"),
            "run" => ("PROGRAM", ValueHint::CommandName, "The program and its arguments"),
            starter if STARTERS.contains(&starter) => ("ARGUMENT", ValueHint::AnyPath, "Arguments of the program"),
            _ => return command,
        };
        command.arg(clap::Arg::new(name).value_hint(hint).num_args(1..).trailing_var_arg(true).help(help))
    })
}

/// How many of `args` are options of the helper, or their values.
fn count_own_options(program: &clap::Command, args: &[OsString]) -> usize {
    if STARTERS.contains(&program.get_name()) {
        return usize::from(matches!(args, [only] if only == "--help"));
    }
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

/// Options of `status`.
#[derive(Debug, Default, Args)]
pub struct StatusOptions {
    /// Print a JSON list
    #[arg(long)]
    pub json: bool,
    /// Ask each mytoken's server whether it accepts it
    #[arg(long)]
    pub check: bool,
}

/// Options of `doctor`.
#[derive(Debug, Default, Args)]
pub struct DoctorOptions {
    /// A host that you want to log in to, as for ssh
    #[arg(value_name = "HOST", value_hint = ValueHint::Hostname)]
    pub host: Option<String>,
    /// Print a JSON list: part, level, text and fix
    #[arg(long)]
    pub json: bool,
}

/// Options of `token`.
#[derive(Debug, Default, Args)]
pub struct TokenOptions {
    /// URL of the mytoken server [default: the only server that you have a mytoken for]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Scopes of the access token (repeat the option, or separate them by blanks) [default: those of your mytoken]
    #[arg(long)]
    pub scope: Vec<String>,
    /// Audience of the access token (repeat the option for more) [default: the audience of your mytoken]
    #[arg(long)]
    pub audience: Vec<String>,
    /// Print a JSON object: the token, its expiry, scope and audience
    #[arg(long)]
    pub json: bool,
    /// Write the token to this file instead, which only you can read
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// PEM file with the CA certificates to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Options of `code`.
#[derive(Debug, Args)]
pub struct CodeOptions {
    /// The host of the login, as for ssh
    #[arg(value_name = "HOST", value_hint = ValueHint::Hostname)]
    pub host: String,
    /// The login's token.
    #[command(flatten)]
    pub token: LoginTokenOptions,
    /// Print a JSON object: the code, its expiry and the host
    #[arg(long)]
    pub json: bool,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct ImportOptions {
    /// Host name or URL of the mytoken server [default: the one in the mytoken; of a short token or code, that of your last login]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// PEM file with the CA certificates to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    /// URL of the mytoken server [default: the only server that you have a mytoken for]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// Options of `logout`.
#[derive(Debug, Args)]
pub struct LogoutOptions {
    /// URL of the mytoken server [default: the only server that you have a mytoken for]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Remove the stored mytoken even if it cannot be revoked
    #[arg(long)]
    pub forget: bool,
    /// PEM file with the CA certificates to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
