// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh env`: lines for a shell, after which plain ssh, scp, sftp, and all programs that start them, get a token for configured
//! hosts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::links;
use crate::askpass::server::own_executable;
use crate::command_line::{EnvOptions, Shell};
use crate::error::Error;
use crate::output::{print_for_program, tell};
use crate::settings::HelperSettings;

/// Makes the links, and prints the line that puts them into PATH.
pub fn run(options: &EnvOptions) -> Result<ExitCode, Error> {
    let settings = HelperSettings::load()?;
    let directory = settings.data_directory().join("bin");
    let shell = options.shell.unwrap_or_else(|| of_name(std::env::var("SHELL").ok().as_deref()));
    let line = line(shell, &directory)?;
    links::keep(&directory, &lasting_path(own_executable()?))?;
    if settings.hosts.is_empty() {
        tell("mytoken-ssh: no host gets a token yet; name each: mytoken-ssh add HOST");
    }
    print_for_program(&line)?;
    Ok(ExitCode::SUCCESS)
}

/// The path by which the shell finds this program, if there is one: an upgrade may move the file that it leads to.
fn lasting_path(executable: PathBuf) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("mytoken-ssh"));
    found.find(|file| file.canonicalize().is_ok_and(|real| real == executable)).unwrap_or(executable)
}

fn of_name(shell: Option<&str>) -> Shell {
    match shell.and_then(|shell| Path::new(shell).file_name()?.to_str()) {
        Some("fish") => Shell::Fish,
        Some("csh" | "tcsh") => Shell::Csh,
        _ => Shell::Sh,
    }
}

/// The line. In csh it adds the directory each time; in the others only if it is not the first in PATH.
fn line(shell: Shell, directory: &Path) -> Result<String, Error> {
    let text = directory.to_str().filter(|text| !text.contains([':', '\n']));
    let text = text.ok_or_else(|| Error::Usage(format!("{} cannot be put into PATH", directory.display())))?;
    let quoted = format!("'{}'", text.replace('\'', r"'\''"));
    Ok(match shell {
        Shell::Sh => format!("case \"$PATH\" in {quoted}:*) ;; *) export PATH={quoted}\"${{PATH:+:$PATH}}\" ;; esac\n"),
        Shell::Fish => format!("test \"$PATH[1]\" = {quoted}; or set -gx PATH {quoted} $PATH\n"),
        Shell::Csh => format!("setenv PATH {quoted}:\"$PATH\"\n"),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_line_puts_the_directory_in_front_once() {
        let directory = Path::new("/home/o'neil/a b/bin");
        let line = line(Shell::Sh, directory).unwrap();
        let shown = Command::new("/bin/sh")
            .args(["-c", &format!("{line}{line}printf %s \"$PATH\"")])
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stdout), "/home/o'neil/a b/bin:/usr/bin:/bin");
        assert!(super::line(Shell::Sh, Path::new("/a:b")).is_err());
        let empty =
            Command::new("/bin/sh").args(["-c", &format!("{line}printf %s \"$PATH\"")]).env("PATH", "").output();
        assert_eq!(String::from_utf8_lossy(&empty.unwrap().stdout), "/home/o'neil/a b/bin");
    }

    #[test]
    fn the_shell_is_the_users() {
        let table = [
            (Some("/usr/bin/fish"), Shell::Fish),
            (Some("/bin/tcsh"), Shell::Csh),
            (Some("/bin/zsh"), Shell::Sh),
            (None, Shell::Sh),
        ];
        for (name, shell) in table {
            assert_eq!(of_name(name), shell, "{name:?}");
        }
    }
}
