// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh ssh|scp|sftp`: from the arguments to the program's exit status.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use mytoken::Secret;
use mytoken::store::Store;
use rand::Rng;
use zeroize::Zeroizing;

use super::arguments::{Program, queries};
use super::explain::End;
use super::resolution::{Resolution, check_version, options, resolve, shell, telling_of_entry};
use super::run;
use crate::askpass::message::{ASKPASS, Former, NONCE, SOCKET};
use crate::askpass::service::{Service, TokenSource};
use crate::askpass::socket::Desk;
use crate::command_line::Wrap;
use crate::error::Error;
use crate::mint::{Given, Minting, Wanted};
use crate::settings::Settings;

/// Runs the program and answers its token prompts.
pub fn run(program: Program, wrap: &Wrap) -> Result<ExitCode, Error> {
    let ssh = OsStr::new("ssh");
    let destinations = destinations(ssh, program, &wrap.args)?;
    if destinations.is_empty() {
        let mut plain = Command::new(program.name());
        plain.args(&wrap.args);
        return run::in_foreground(plain).map(|ended| ExitCode::from(ended.status));
    }
    check_version(ssh)?;
    warn_of_batch_mode(program, &destinations);
    let settings = Settings::load()?;
    let source = source(&settings, wrap, &destinations)?;
    let accounts = destinations.iter().map(|destination| destination.account.clone()).collect();
    let former = Former { program: variable("SSH_ASKPASS"), require: variable("SSH_ASKPASS_REQUIRE") };
    let nonce = nonce();
    let tell = Box::new(|line: &str| eprintln!("{line}"));
    let desk = Desk::open(Service::new(accounts, settings.prompts(), nonce.clone(), former, source, tell))?;

    let ended = run::in_foreground(command(program, wrap, &destinations, &desk, &nonce));
    let mut service = desk.service();
    if let Ok(ended) = ended {
        let (given, told) = (service.given().collect(), service.refused());
        let (entered, delegated) = (service.entered(), wrap.delegate.is_some());
        let end = End { program, ended, entered, given, told, delegated, now: Instant::now() };
        if let Some(sentence) = end.sentence() {
            eprintln!("{sentence}");
        }
        if end.login_is_over() {
            service.abandon();
        }
    } else {
        service.abandon();
    }
    drop(service);
    desk.close()?;
    ended.map(|ended| ExitCode::from(ended.status))
}

/// Where the program will connect to, each account once.
fn destinations(ssh: &OsStr, program: Program, args: &[OsString]) -> Result<Vec<Resolution>, Error> {
    let mut destinations: Vec<Resolution> = Vec::new();
    for query in queries(program, args) {
        let Some(destination) = resolve(ssh, &query)? else { continue };
        if !destinations.iter().any(|known| known.account == destination.account) {
            destinations.push(destination);
        }
    }
    Ok(destinations)
}

fn warn_of_batch_mode(program: Program, destinations: &[Resolution]) {
    if destinations.iter().any(|destination| destination.batch) {
        let mend = match program {
            Program::Sftp => "; with sftp -b say: mytoken-ssh sftp -oBatchMode=no -b FILE HOST",
            Program::Scp => "; leave out -B, or say -oBatchMode=no in front of it",
            Program::Ssh => "",
        };
        eprintln!("mytoken-ssh: BatchMode is on, so ssh will not ask for a token{mend}");
    }
}

fn source(settings: &Settings, wrap: &Wrap, destinations: &[Resolution]) -> Result<Box<dyn TokenSource>, Error> {
    if let Some(file) = &wrap.token_file {
        if destinations.len() > 1 {
            return Err(Error::Usage("--token-file is for one host: a token must not be shown to two".into()));
        }
        return Ok(Box::new(Given(token_in(file)?)));
    }
    let store: Store = settings.store()?;
    let server = settings.stored_server(wrap.server.as_deref(), &store)?;
    let wanted = destinations.iter().map(|destination| wanted(settings, wrap, destination)).collect();
    let http = settings.http(wrap.ca.as_deref());
    let ca_chosen = wrap.ca.is_some() || settings.user.ca_file.is_some();
    let mut minting = Minting::new(store, server, http, ca_chosen, wanted);
    minting.check()?;
    Ok(Box::new(minting))
}

fn wanted(settings: &Settings, wrap: &Wrap, destination: &Resolution) -> Wanted {
    let rule = settings.host_rule([&destination.written, &destination.hostname]);
    let of_rule = |value: fn(&crate::settings::HostRule) -> Option<String>| rule.and_then(value).unwrap_or_default();
    let account = &destination.account;
    Wanted {
        name: format!("ssh {}@{}", account.user, account.host),
        host: account.host.clone(),
        scope: wrap.scope.clone().unwrap_or_else(|| of_rule(|rule| rule.scope.clone())),
        audience: wrap.audience.clone().unwrap_or_else(|| of_rule(|rule| rule.audience.clone())),
        delegate: wrap.delegate.map(Into::into),
    }
}

/// The first line of a file.
fn token_in(file: &Path) -> Result<Secret, Error> {
    let told = format!("cannot read the token in {}", file.display());
    let text = std::fs::read_to_string(file).map(Zeroizing::new).map_err(Error::system(told))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

fn command(program: Program, wrap: &Wrap, destinations: &[Resolution], desk: &Desk, nonce: &Secret) -> Command {
    let ask_for_host_keys =
        std::io::stdin().is_terminal() && destinations.iter().all(|destination| destination.asks_for_host_keys);
    let chosen = wrap.args.iter().any(|arg| arg.to_string_lossy().to_lowercase().contains("preferredauthentications"));
    let mut options = options(ask_for_host_keys, chosen);
    // scp and sftp forbid local commands. A connection that others go on using would keep what was delegated for the copying; OpenSSH 10
    // says the same to its own ssh.
    if program != Program::Ssh {
        options.push("-oControlMaster=no".into());
    }
    if let (Program::Ssh, [destination]) = (program, destinations) {
        options.extend(telling_of_entry(destination.local_command.as_deref()));
    }
    let mut command = Command::new(program.name());
    command
        .args(options)
        .args(&wrap.args)
        .env("SSH_ASKPASS", desk.program())
        .env(ASKPASS, desk.program())
        .envs(shell())
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env(SOCKET, desk.socket())
        .env(NONCE, nonce.expose());
    command
}

fn nonce() -> Secret {
    let mut bytes = Zeroizing::new([0_u8; 16]);
    rand::rng().fill_bytes(bytes.as_mut());
    Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
