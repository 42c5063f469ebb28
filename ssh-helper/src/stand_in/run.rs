// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh run`, and `git`, `rsync`, `ansible` and the like: runs a program whose ssh connections get a token each.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use super::handed_on::{HandedOn, VARIABLE};
use super::links;
use crate::askpass::directory::PrivateDirectory;
use crate::askpass::server::own_executable;
use crate::command_line::LoginTokenOptions;
use crate::error::Error;
use crate::output::tell;
use crate::ssh::foreground;

/// Status of a shell for a program that is not there.
const NOT_FOUND: u8 = 127;

/// Runs `program` and exits with its status.
pub fn run(program: &OsStr, token: &LoginTokenOptions, args: &[OsString]) -> Result<ExitCode, Error> {
    let directory = PrivateDirectory::create()?;
    links::make(directory.path(), &own_executable()?)?;
    let mut command = Command::new(program);
    command.args(args).env(VARIABLE, HandedOn::to_program(token, directory.path()).to_variable()?);
    put_in_front(&mut command, directory.path())?;
    let exit = match foreground::run(command) {
        Ok(exit) => exit.status,
        Err(error) => {
            tell(&format!("mytoken-ssh: {error}"));
            NOT_FOUND
        }
    };
    directory.close()?;
    Ok(ExitCode::from(exit))
}

/// Splits off the program of `mytoken-ssh run PROGRAM ARGUMENT...`.
///
/// # Errors
/// There is none.
pub fn split(args: &[OsString]) -> Result<(&OsStr, &[OsString]), Error> {
    let args = args.strip_prefix(&[OsString::from("--")]).unwrap_or(args);
    let (program, args) =
        args.split_first().ok_or_else(|| Error::Usage("no program is given; see mytoken-ssh run --help".into()))?;
    Ok((program, args))
}

fn put_in_front(command: &mut Command, directory: &Path) -> Result<(), Error> {
    let path = links::path_with(directory).ok_or_else(|| {
        Error::Usage(format!("{} cannot be put into PATH; set XDG_RUNTIME_DIR or TMPDIR", directory.display()))
    })?;
    command.env("PATH", path);
    Ok(())
}
