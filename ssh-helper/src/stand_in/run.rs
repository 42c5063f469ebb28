// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh run`, and `git`, `rsync`, `ansible` and the like: runs a program whose ssh connections get a token each.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use super::handed_on::{HandedOn, VARIABLE};
use super::links;
use crate::askpass::directory::PrivateDirectory;
use crate::askpass::server::own_executable;
use crate::command_line::RunOptions;
use crate::error::Error;
use crate::output::tell;
use crate::ssh::foreground;

/// Status of a shell for a program that is not there.
const NOT_FOUND: u8 = 127;

/// Runs `program` and exits with its status.
pub fn run(program: &OsStr, options: &RunOptions) -> Result<ExitCode, Error> {
    let directory = PrivateDirectory::create()?;
    links::make(directory.path(), &own_executable()?)?;
    let mut command = Command::new(program);
    command.args(&options.args).env(VARIABLE, HandedOn::to_program(&options.token).to_variable()?);
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
pub fn split(mut options: RunOptions) -> Result<(OsString, RunOptions), Error> {
    let separator = options.args.first().is_some_and(|first| first == "--");
    let mut args = options.args.split_off(usize::from(separator)).into_iter();
    let program = args.next().ok_or_else(|| Error::Usage("no program is given; see mytoken-ssh run --help".into()))?;
    options.args = args.collect();
    Ok((program, options))
}

fn put_in_front(command: &mut Command, directory: &Path) -> Result<(), Error> {
    let path = links::path_with(directory).ok_or_else(|| {
        Error::Usage(format!("{} cannot be put into PATH; set XDG_RUNTIME_DIR or TMPDIR", directory.display()))
    })?;
    command.env("PATH", path);
    Ok(())
}
