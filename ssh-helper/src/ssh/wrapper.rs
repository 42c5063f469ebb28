// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh ssh|scp|sftp`: runs the program and answers its token prompts.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use mytoken::Secret;
use mytoken::random::random;
use mytoken::token::session_mytoken_name;
use mytoken::words::single_blanks;
use zeroize::Zeroizing;

use super::arguments::{Program, destination_queries, most_connections};
use super::foreground::{self, ProgramExit};
use super::installed;
use super::options::helper_options;
use super::outcome::RunOutcome;
use super::resolution::{HostKeyChecking, ResolvedDestination, resolve, shell_override};
use super::version::check_version;
use crate::askpass::message::{ASKPASS_VARIABLE, NONCE_VARIABLE, SOCKET_VARIABLE};
use crate::askpass::responder::{LoginTokenSource, Responder};
use crate::askpass::server::{AskpassServer, own_executable};
use crate::command_line::{LoginTokenOptions, WrapperOptions};
use crate::error::Error;
use crate::hosts::{HostRule, Sent};
use crate::login_token::by_account::ByAccount;
use crate::login_token::{LoginTokenRequest, TokenFromFile};
use crate::other_programs::{TokenSource, waiting};
use crate::output::tell;
use crate::printable::printable;
use crate::settings::HelperSettings;
use crate::stand_in::handed_on::{HandedOn, VARIABLE, askpass_of_user};
use crate::stand_in::links;

/// In which order ssh tries to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preferences {
    /// Tokens first, unless the user's arguments name an order.
    OfUser,
    /// Tokens first, whatever the arguments say: a program chose them.
    TokenFirst,
    /// As ssh is configured: a session on a jump host needs no token.
    OfSsh,
}

/// How a connection is made.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Tokens or keys.
    pub preferences: Preferences,
    /// The token is looked for when the host asks. Otherwise a missing mytoken is an error before the connection.
    pub when_asked: bool,
    /// Only hosts with a `[[host]]` get a token.
    pub configured_only: bool,
}

impl Manner {
    /// The user runs `mytoken-ssh ssh`.
    const TYPED: Self = Self { preferences: Preferences::OfUser, when_asked: false, configured_only: false };
}

/// A run of a program.
pub struct Connection<'a> {
    /// Which program.
    pub program: Program,
    /// Its arguments, and the options for its token.
    pub wrapper: &'a WrapperOptions,
    /// The real ssh.
    pub ssh: &'a Path,
    /// Where it connects. Only these get a token.
    pub destinations: Vec<ResolvedDestination>,
    /// Configuration.
    pub settings: HelperSettings,
    /// How.
    pub manner: Manner,
}

/// Runs `program` and exits with its status.
pub fn run(program: Program, wrapper: &WrapperOptions) -> Result<ExitCode, Error> {
    run_in(program, wrapper, Manner::TYPED)
}

/// Runs `program` in this manner, and exits with its status.
pub fn run_in(program: Program, wrapper: &WrapperOptions, manner: Manner) -> Result<ExitCode, Error> {
    let ssh = installed::find("ssh")?;
    let destinations = match resolve_destinations(ssh.as_os_str(), program, &wrapper.args) {
        // The program says itself what is wrong.
        Err(Error::NotResolved { message }) => {
            let exit = run_alone(program, &wrapper.args)?;
            if exit.status == 0 {
                tell(&format!("mytoken-ssh: {} got no token: {}", program.name(), Error::NotResolved { message }));
            }
            return Ok(ExitCode::from(exit.status));
        }
        destinations => destinations?,
    };
    if destinations.is_empty() {
        return run_alone(program, &wrapper.args).map(|exit| ExitCode::from(exit.status));
    }
    let settings = HelperSettings::load()?;
    prepare(Connection { program, wrapper, ssh: &ssh, destinations, settings, manner })?.run()
}

/// A run that can begin.
pub struct Prepared<'a> {
    program: Program,
    wrapper: &'a WrapperOptions,
    server: AskpassServer,
    command: Command,
}

impl Prepared<'_> {
    /// Runs the program, and exits with its status.
    pub fn run(self) -> Result<ExitCode, Error> {
        let exit = foreground::run(self.command);
        // A token that is still being made is for nobody.
        waiting::end();
        finish(self.program, self.wrapper, exit.as_ref().ok(), &mut self.server.responder());
        self.server.close()?;
        exit.map(|exit| ExitCode::from(exit.status))
    }
}

/// Makes all that a connection needs.
///
/// # Errors
/// It cannot be made. Nothing has been started.
pub fn prepare(connection: Connection<'_>) -> Result<Prepared<'_>, Error> {
    let Connection { program, wrapper, ssh, mut destinations, settings, manner } = connection;
    check_version(ssh.as_os_str())?;
    warn_about_batch_mode(program, &destinations);
    warn_about_host_keys(&destinations);
    let source = token_source(&settings, wrapper, &mut destinations, manner)?;
    let accounts = destinations.iter().map(|destination| destination.account.clone()).collect();
    let nonce = Secret::new(format!("{:032x}", random::<u128>()));
    let show = Box::new(|line: &str| tell(line));
    let connections = most_connections(program, &wrapper.args);
    let prompts = settings.token_prompts();
    let responder = Responder::new(accounts, connections, prompts, nonce.clone(), askpass_of_user(), source, show);
    let server = AskpassServer::start(responder)?;

    let mut command = build_command(program, wrapper, &destinations, manner, &server)?;
    command.env(NONCE_VARIABLE, nonce.expose());
    Ok(Prepared { program, wrapper, server, command })
}

/// Tells the user what went wrong, and revokes the tokens of a failed login. `exit` is `None` if the program could not
/// be run.
fn finish(program: Program, wrapper: &WrapperOptions, exit: Option<&ProgramExit>, responder: &mut Responder) {
    let Some(exit) = exit else { return responder.revoke_tokens() };
    let outcome = RunOutcome {
        program,
        exit: *exit,
        authenticated: responder.authenticated(),
        last_answers: responder.last_answers().collect(),
        reason_shown: responder.has_refused(),
        delegated: wrapper.token.delegate.is_some(),
        now: Instant::now(),
    };
    let (message, must_revoke) = (outcome.message(), outcome.must_revoke());
    let failed = must_revoke || message.is_some();
    if let Some(message) = message {
        tell(&message);
    }
    if let Some(account) = responder.with_first_piece_only().filter(|_| failed) {
        tell(&format!(
            "{}: it did not ask for the rest of the token; if it takes no token in pieces, write send = \"transfer_code\" into a \
             [[host]] of config.toml or hosts.toml for it",
            account.host
        ));
    }
    if must_revoke {
        responder.revoke_tokens();
    }
}

/// Runs the program without the helper.
fn run_alone(program: Program, args: &[OsString]) -> Result<ProgramExit, Error> {
    let mut command = installed::command(&installed::find(program.name())?);
    command.args(args);
    foreground::run(command)
}

/// The hosts to which the program connects, by ssh's own configuration. Each appears once.
pub fn resolve_destinations(
    ssh: &OsStr,
    program: Program,
    args: &[OsString],
) -> Result<Vec<ResolvedDestination>, Error> {
    let mut destinations: Vec<ResolvedDestination> = Vec::new();
    for query in destination_queries(program, args) {
        let Some(destination) = resolve(ssh, &query)? else { continue };
        if !destinations.contains(&destination) {
            destinations.push(destination);
        }
    }
    Ok(destinations)
}

fn warn_about_batch_mode(program: Program, destinations: &[ResolvedDestination]) {
    if destinations.iter().any(|destination| destination.batch_mode) {
        let fix = match program {
            Program::Sftp => ". With sftp -b, use: mytoken-ssh sftp -oBatchMode=no -b FILE HOST",
            Program::Scp => ". Leave out -B, or put -oBatchMode=no before it",
            Program::Ssh => "",
        };
        tell(&format!("mytoken-ssh: BatchMode is on, so ssh will not ask for a token{fix}"));
    }
}

/// A rule of the helper that is stricter than the user's.
fn warn_about_host_keys(destinations: &[ResolvedDestination]) {
    for destination in destinations.iter().filter(|destination| destination.host_keys == HostKeyChecking::Off) {
        tell(&format!(
            "{}: StrictHostKeyChecking=no counts as accept-new: a host whose key has changed gets no token",
            printable(&destination.account.host)
        ));
    }
}

fn token_source(
    settings: &HelperSettings,
    wrapper: &WrapperOptions,
    destinations: &mut Vec<ResolvedDestination>,
    manner: Manner,
) -> Result<Box<dyn LoginTokenSource>, Error> {
    let requests = distinct(destinations, |destination| token_request(settings, &wrapper.token, destination));
    if let Some(file) = &wrapper.token_file {
        if destinations.len() > 1 {
            return Err(Error::Usage(
                "--token-file is for one host only: two hosts must not get the same token".into(),
            ));
        }
        return Ok(Box::new(TokenFromFile(read_token(file)?)));
    }
    let mut source = ByAccount::new(settings.clone(), wrapper.token.clone(), requests);
    if !manner.when_asked {
        source.check()?;
    }
    Ok(Box::new(source))
}

/// Leaves one destination for each account, and its request. ssh shows only the account in its prompts (SSH-17): where hosts with one name
/// in `known_hosts` would get different tokens, nobody can tell which of them asks, and none gets one.
fn distinct(
    destinations: &mut Vec<ResolvedDestination>,
    request: impl Fn(&ResolvedDestination) -> LoginTokenRequest,
) -> Vec<LoginTokenRequest> {
    let mut requests: Vec<LoginTokenRequest> = Vec::new();
    let mut kept: Vec<ResolvedDestination> = Vec::new();
    for destination in destinations.drain(..) {
        let wanted = request(&destination);
        match kept.iter().zip(&mut requests).find(|(known, _)| known.account == destination.account) {
            None => {
                kept.push(destination);
                requests.push(wanted);
            }
            Some((_, known)) if *known == wanted => {}
            Some((known, first)) => {
                first.ambiguous = Some(format!(
                    "ssh shows {}@{} for both {} and {}, which get different tokens: use one of them at a time",
                    printable(&destination.account.user),
                    printable(&destination.account.host),
                    printable(&known.host_argument),
                    printable(&destination.host_argument)
                ));
            }
        }
    }
    *destinations = kept;
    requests
}

/// The token for a host.
pub fn token_request(
    settings: &HelperSettings,
    options: &LoginTokenOptions,
    destination: &ResolvedDestination,
) -> LoginTokenRequest {
    let rule = settings.hosts.rule([&destination.host_argument, &destination.hostname]);
    let of_rule = |value: fn(&HostRule) -> Option<String>| rule.and_then(value).unwrap_or_default();
    let account = &destination.account;
    let name = match options.delegate {
        // The host may revoke it at logout: by this name it knows that nobody else has it.
        Some(_) => session_mytoken_name(&account.user, &account.host),
        None => format!("ssh {}@{}", account.user, account.host),
    };
    LoginTokenRequest {
        name,
        host: account.host.clone(),
        scope: single_blanks(&options.scope.clone().unwrap_or_else(|| of_rule(|rule| rule.scope.clone()))),
        audience: single_blanks(&options.audience.clone().unwrap_or_else(|| of_rule(|rule| rule.audience.clone()))),
        delegate: options.delegate.map(Into::into),
        code: rule.and_then(|rule| rule.send) == Some(Sent::TransferCode),
        ambiguous: None,
        source: rule.map_or(TokenSource::Mytoken, HostRule::source),
    }
}

/// Reads the first line of a file.
fn read_token(file: &Path) -> Result<Secret, Error> {
    let action = format!("cannot read the token file {}", file.display());
    let text = std::fs::read_to_string(file).map(Zeroizing::new).map_err(Error::system(action))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

fn build_command(
    program: Program,
    wrapper: &WrapperOptions,
    destinations: &[ResolvedDestination],
    manner: Manner,
    server: &AskpassServer,
) -> Result<Command, Error> {
    // ssh asks there, whatever its input is.
    let has_terminal = File::options().read(true).write(true).open("/dev/tty").is_ok();
    let mut command = installed::command(&installed::find(program.name())?);
    command.args(helper_options(program, &wrapper.args, destinations, manner.preferences, has_terminal));
    // A given token is for one host, and none is left for a jump host.
    if wrapper.token_file.is_none() {
        links::make(server.directory(), &own_executable()?)?;
        let path = links::path_with(server.directory());
        if path.is_none() {
            let directory = server.directory().display();
            tell(&format!("mytoken-ssh: jump hosts get no token: {directory} cannot be put into PATH"));
        }
        if let Some(path) = path {
            let handed_on = HandedOn::to_jump_hosts(&wrapper.token, manner, server.directory());
            command.env("PATH", path).env(VARIABLE, handed_on.to_variable()?);
            if program != Program::Ssh && destinations.iter().any(|destination| destination.has_jump_host) {
                command.arg("-S").arg(server.directory().join(links::PLAIN_SSH));
            }
        }
    }
    command
        .args(&wrapper.args)
        .env("SSH_ASKPASS", server.program())
        .env(ASKPASS_VARIABLE, server.program())
        .envs(shell_override())
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env(SOCKET_VARIABLE, server.socket());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::resolution::Configuration;

    #[test]
    fn hosts_with_one_name_get_the_same_token_or_none() {
        let destination = |host: &str, alias: &str| {
            let text = format!("host {host}\nuser alice\nhostname {host}.example.org\nhostkeyalias {alias}\n");
            Configuration::new(text).destination().unwrap()
        };
        let request = |audiences: bool| {
            move |destination: &ResolvedDestination| LoginTokenRequest {
                name: "ssh alice@cluster".into(),
                host: "cluster".into(),
                scope: String::new(),
                audience: if audiences { destination.host_argument.clone() } else { "https://cluster".into() },
                delegate: None,
                code: false,
                ambiguous: None,
                source: TokenSource::Mytoken,
            }
        };
        let both = [destination("login1", "cluster"), destination("login2", "cluster")];
        let mut destinations = both.to_vec();
        let same = distinct(&mut destinations, request(false));
        assert_eq!((same.len(), destinations.len(), &same[0].ambiguous), (1, 1, &None));
        let different = distinct(&mut both.to_vec(), request(true));
        let [LoginTokenRequest { ambiguous: Some(told), .. }] = &different[..] else { panic!("{different:?}") };
        assert!(told.starts_with("ssh shows alice@cluster for both login1 and login2"), "{told}");
        let mut others = vec![destination("login1", "cluster"), destination("login2", "other")];
        let others_requests = distinct(&mut others, request(true));
        assert!(others.len() == 2 && others_requests.iter().all(|request| request.ambiguous.is_none()));
    }
}
