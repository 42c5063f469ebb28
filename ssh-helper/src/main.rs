// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh`: get a mytoken, log in over ssh with it. ssh runs the same program as its askpass.
#![forbid(unsafe_code)]

mod askpass;
mod command_line;
mod error;
mod login;
mod logout;
mod mint;
mod settings;
mod signals;
mod ssh;
mod status;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use command_line::{Command, Wrap};
use error::Error;
use ssh::arguments::Program;

fn main() -> ExitCode {
    // Tokens pass through this process: no core file, no debugger of the same user.
    let _ = nix::sys::prctl::set_dumpable(false);
    let mut args = std::env::args_os();
    if askpass::instance::is_called_as(args.next().as_ref()) {
        return askpass::instance::run(&args.next().unwrap_or_default());
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

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Login(options) => login::run(&options),
        Command::Ssh(options) => ssh::wrap::run(Program::Ssh, &options),
        Command::Scp(options) => ssh::wrap::run(Program::Scp, &options),
        Command::Sftp(options) => ssh::wrap::run(Program::Sftp, &options),
        Command::Host(args) => ssh::wrap::run(Program::Ssh, &Wrap::plain(host_first(args)?)),
        Command::Status => status::run(),
        Command::Logout(options) => logout::run(&options),
    }
}

/// A mistyped command would otherwise be looked up as a host.
fn host_first(args: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    match args.first().and_then(|host| host.to_str()) {
        Some(word @ ("log-in" | "logon" | "list" | "help" | "env" | "revoke" | "info")) => Err(Error::Usage(format!(
            "there is no command {word}; see mytoken-ssh --help, or use: mytoken-ssh ssh {word}"
        ))),
        _ => Ok(args),
    }
}
