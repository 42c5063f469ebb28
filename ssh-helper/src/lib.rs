// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh`: gets a mytoken and logs in over ssh with it. ssh runs the same program as its askpass.
//!
//! A library, so that the manual page and the completions can be made of its command line.
#![deny(unsafe_code)]

mod askpass;
pub mod command_line;
mod describe;
mod differences;
mod error;
mod login;
mod login_token;
mod logout;
mod output;
mod printable;
mod privacy;
#[cfg(test)]
#[path = "../../tests/sample.rs"]
mod sample;
mod settings;
mod signals;
mod ssh;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use command_line::{Invocation, WrapperOptions};
use error::Error;
use ssh::arguments::Program;

/// Runs `mytoken-ssh` with the arguments of this process, or its askpass if ssh started it by that name.
pub fn main() -> ExitCode {
    privacy::protect();
    let mut args = std::env::args_os();
    if askpass::client::is_askpass_name(args.next().as_ref()) {
        return askpass::client::run(&args.next().unwrap_or_default());
    }
    let args = std::env::args_os().collect();
    match run(command_line::parse(args).unwrap_or_else(|error| error.exit())) {
        Ok(code) => code,
        Err(Error::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("mytoken-ssh: {error}");
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
        Invocation::Host(args) => ssh::wrapper::run(Program::Ssh, &WrapperOptions::without_options(check_host(args)?)),
        Invocation::Status => status::run(),
        Invocation::Logout(options) => logout::run(&options),
    }
}

/// Refuses words that look like a mistyped command. ssh would take them for a host.
fn check_host(args: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    match args.first().and_then(|host| host.to_str()) {
        Some(word @ ("log-in" | "logon" | "list" | "help" | "env" | "revoke" | "info")) => Err(Error::Usage(format!(
            "{word} is not a command; see mytoken-ssh --help. If it is a host, use: mytoken-ssh ssh {word}"
        ))),
        _ => Ok(args),
    }
}
