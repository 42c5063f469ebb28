// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh`: gets a mytoken and logs in over ssh with it. ssh runs the same program as its askpass.
//!
//! A library, so that the manual page and the completions can be made of its command line.
#![deny(unsafe_code)]

mod access_token;
mod askpass;
mod code;
pub mod command_line;
mod describe;
mod differences;
mod doctor;
mod error;
mod hosts;
mod import;
mod login;
mod login_token;
mod logout;
mod mytoken_sources;
mod other_programs;
mod output;
mod printable;
mod privacy;
#[cfg(test)]
#[path = "../../tests/sample.rs"]
mod sample;
mod scope_and_audience;
mod settings;
mod signals;
mod ssh;
mod stand_in;
mod status;
mod unix_socket;

use std::ffi::OsString;
use std::process::ExitCode;

use command_line::{Invocation, LoginTokenOptions, StarterOptions, WrapperOptions};
use error::Error;
use ssh::arguments::Program;
use stand_in::StandIn;

/// Runs `mytoken-ssh` with the arguments of this process, or its askpass if ssh started it by that name.
pub fn main() -> ExitCode {
    privacy::protect();
    let mut args = std::env::args_os();
    let name = args.next();
    if askpass::client::is_askpass_name(name.as_ref()) {
        return askpass::client::run(&args.next().unwrap_or_default());
    }
    let result = match StandIn::of(name.as_ref()) {
        Some(stand_in) => stand_in.run(&args.collect::<Vec<_>>()),
        None => run(command_line::parse(std::env::args_os().collect()).unwrap_or_else(|error| error.exit())),
    };
    match result {
        Ok(code) => code,
        Err(Error::Interrupted) => ExitCode::from(130),
        Err(error) => {
            output::tell(&format!("mytoken-ssh: {error}"));
            ExitCode::from(1)
        }
    }
}

fn run(invocation: Invocation) -> Result<ExitCode, Error> {
    match invocation {
        Invocation::Login(options) => login::run(&options),
        Invocation::Ssh(options) => ssh::wrapper::run(Program::Ssh, &options),
        Invocation::Scp(options) => ssh::wrapper::run(Program::Scp, &options),
        Invocation::Sftp(options) => ssh::wrapper::run(Program::Sftp, &options),
        Invocation::Run(options) => {
            let (program, args) = stand_in::run::split(&options.args)?;
            stand_in::run::run(program, &options.token, args)
        }
        Invocation::Git(options) => run_starter("git", &options),
        Invocation::Rsync(options) => run_starter("rsync", &options),
        Invocation::Mosh(options) => run_starter("mosh", &options),
        Invocation::Ansible(options) => run_starter("ansible", &options),
        Invocation::AnsiblePlaybook(options) => run_starter("ansible-playbook", &options),
        Invocation::Add(options) => hosts::add::run(&options),
        Invocation::Hosts(options) => hosts::list(&options),
        Invocation::Env(options) => stand_in::env::run(&options),
        Invocation::Host(args) => {
            check_host(args.first())?;
            ssh::wrapper::run(Program::Ssh, &WrapperOptions::without_options(args))
        }
        Invocation::Status(options) => status::run(&options),
        Invocation::Token(options) => access_token::run(&options),
        Invocation::Code(options) => code::run(&options),
        Invocation::Import(options) => import::run(&options),
        Invocation::Export(options) => import::export(&options),
        Invocation::Logout(options) => logout::run(&options),
        Invocation::Doctor(options) => doctor::run(&options),
    }
}

/// Runs a program that starts ssh. Its options are its own.
fn run_starter(program: &str, options: &StarterOptions) -> Result<ExitCode, Error> {
    stand_in::run::run(program.as_ref(), &LoginTokenOptions::default(), &options.args)
}

/// Refuses a word that looks like a misspelt command, unless it is an alias in the user's ssh configuration.
fn check_host(word: Option<&OsString>) -> Result<(), Error> {
    let Some(word) = word.and_then(|word| word.to_str()) else { return Ok(()) };
    let Some(command) = command_line::meant_command(word) else { return Ok(()) };
    if ssh::is_alias(word) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{word} is not a command; did you mean: mytoken-ssh {command}? If it is a host: mytoken-ssh ssh {word}"
    )))
}
