// SPDX-License-Identifier: MIT OR Apache-2.0
//! What ssh itself says where it will connect (`ssh -G`), and whether it is new enough.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::arguments::Query;
use crate::askpass::message::{ASKPASS, ENTERED};
use crate::askpass::prompt::Account;
use crate::error::Error;

/// First release that puts `(user@host) ` in front of keyboard-interactive prompts.
const OLDEST: (u32, u32) = (8, 5);

/// A destination as ssh resolved it with all its configuration files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// What ssh will show in front of prompts.
    pub account: Account,
    /// The host as it was written: what the user calls it, and what `[[host]]` patterns may name.
    pub written: String,
    /// Host name after `HostName` substitution.
    pub hostname: String,
    /// `BatchMode`: ssh will not ask for anything.
    pub batch: bool,
    /// `StrictHostKeyChecking` is the default, "ask".
    pub asks_for_host_keys: bool,
    /// `LocalCommand`, when `PermitLocalCommand` lets it run.
    pub local_command: Option<String>,
}

/// Refuses an ssh that does not name the destination in its prompts: with it the token could go to any host.
pub fn check_version(ssh: &OsStr) -> Result<(), Error> {
    let output = Command::new(ssh).arg("-V").stdin(Stdio::null()).output().map_err(|error| cannot_run(ssh, &error))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match version(&text) {
        Some(found) if found >= OLDEST => Ok(()),
        Some((major, minor)) => Err(Error::OldSsh { found: format!("OpenSSH {major}.{minor}") }),
        None => Err(Error::OldSsh { found: printable(text.lines().next().unwrap_or("an unknown program")) }),
    }
}

/// `OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL 3.0.19`
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let rest = text.strip_prefix("OpenSSH_")?;
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The variable that makes ssh find a shell where the person's own runs nothing, as that of a service's account, or is not there: ssh
/// runs local and proxy commands and `Match exec` by it. It is the same for each ssh that is run, so that they read the configuration
/// alike.
pub fn shell() -> Option<(&'static str, &'static str)> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty())?;
    let path = Path::new(&shell);
    let silent = path.file_name().is_some_and(|name| name == "nologin" || name == "false" || name == "true");
    let runs = path.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
    (silent || !runs).then_some(("SHELL", "/bin/sh"))
}

/// Asks ssh where `query` leads. `None`: nowhere, it asks for something that needs no host (`-V`, `-Q`).
pub fn resolve(ssh: &OsStr, query: &Query) -> Result<Option<Resolution>, Error> {
    let output = Command::new(ssh)
        .arg("-G")
        .args(query)
        .envs(shell())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_run(ssh, &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // Shown on failure only: ssh -G warns about a missing terminal when all is well.
    let not_resolved = || Error::NotResolved { said: printable(String::from_utf8_lossy(&output.stderr).trim()) };
    if !output.status.success() {
        return Err(not_resolved());
    }
    if !text.lines().any(|line| line.starts_with("hostname ")) {
        return Ok(None);
    }
    parse(&text).map(Some).ok_or_else(not_resolved)
}

/// The lines are `keyword value`; keywords are lower case.
pub(crate) fn parse(text: &str) -> Option<Resolution> {
    let value = |keyword: &str| {
        text.lines().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' ')).filter(|value| !value.is_empty())
    };
    let hostname = value("hostname")?.to_owned();
    // ssh shows the alias when there is one, lower-cased like every host name.
    let shown = value("hostkeyalias").unwrap_or(&hostname).to_ascii_lowercase();
    Some(Resolution {
        account: Account { user: value("user")?.to_owned(), host: shown },
        written: value("host").unwrap_or(&hostname).to_owned(),
        batch: value("batchmode") == Some("yes"),
        asks_for_host_keys: matches!(value("stricthostkeychecking"), None | Some("ask")),
        local_command: value("localcommand").filter(|_| value("permitlocalcommand") == Some("yes")).map(str::to_owned),
        hostname,
    })
}

fn cannot_run(program: &OsStr, error: &std::io::Error) -> Error {
    Error::CannotRun { program: program.to_string_lossy().into_owned(), reason: error.to_string() }
}

/// Text of others, fit for a terminal.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(400).collect()
}

/// Options that make a connection safe to give a token to. They come first, because ssh takes the first value of an option.
pub fn options(ask_for_host_keys: bool, user_chose_methods: bool) -> Vec<OsString> {
    let checking = if ask_for_host_keys { "ask" } else { "yes" };
    let mut options = vec![
        // A failing askpass makes ssh send an empty answer, three times by default.
        "-oNumberOfPasswordPrompts=1".into(),
        format!("-oStrictHostKeyChecking={checking}").into(),
        "-oKbdInteractiveAuthentication=yes".into(),
    ];
    if !user_chose_methods {
        // Not `password`: after a refused token ssh would go on to ask for one. Not keys first: the session would have no token.
        options.push("-oPreferredAuthentications=keyboard-interactive,gssapi-with-mic,hostbased,publickey".into());
    }
    options
}

/// Options by which ssh tells that it was let in: `LocalCommand` is run by the person's shell after the login and before the session.
/// A status of 255 does not tell: it is that of a refused login, and that of a session whose connection broke.
pub fn telling_of_entry(local_command: Option<&str>) -> Vec<OsString> {
    let mut command = format!("-oLocalCommand=env \"${ASKPASS}\" {ENTERED}");
    if let Some(own) = local_command {
        command.push_str("; ");
        command.push_str(own);
    }
    vec!["-oPermitLocalCommand=yes".into(), command.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let table = [
            ("OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL 3.0.19 27 Jan 2026\n", Some((9, 2))),
            ("OpenSSH_8.4p1 Debian-5+deb11u3", Some((8, 4))),
            ("OpenSSH_10.0p2, OpenSSL 3", Some((10, 0))),
            ("OpenSSH_8.9p1 Ubuntu-3", Some((8, 9))),
            ("Sun_SSH_1.1", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(version(text), expected, "{text}");
        }
        assert!(version("OpenSSH_8.4p1") < Some(OLDEST) && version("OpenSSH_10.0p2") >= Some(OLDEST));
    }

    #[test]
    fn a_local_command_of_the_person_runs_behind_ours() {
        let resolved = |permit: &str| {
            let text = format!("user alice\nhostname tb\npermitlocalcommand {permit}\nlocalcommand echo %h; date\n");
            parse(&text).unwrap().local_command
        };
        assert_eq!((resolved("no"), resolved("yes").as_deref()), (None, Some("echo %h; date")));
        let options = telling_of_entry(resolved("yes").as_deref());
        assert_eq!(options[1], "-oLocalCommand=env \"$MYTOKEN_SSH_ASKPASS\" --entered; echo %h; date");
    }

    #[test]
    fn the_resolution_names_what_ssh_will_show() {
        let plain = parse("host TB\nuser alice\nhostname TestBed.example.org\nport 22\nbatchmode no\n").unwrap();
        assert_eq!(plain.account, Account { user: "alice".into(), host: "testbed.example.org".into() });
        assert_eq!((plain.written.as_str(), plain.batch, plain.asks_for_host_keys), ("TB", false, true));
        let alias = parse(
            "host tb\nuser alice\nhostname 192.0.2.10\nhostkeyalias Cluster\nbatchmode yes\nstricthostkeychecking true\n",
        );
        let alias = alias.unwrap();
        assert_eq!((alias.account.host.as_str(), alias.batch, alias.asks_for_host_keys), ("cluster", true, false));
        assert_eq!((plain.local_command, alias.local_command), (None, None));
        assert_eq!(parse("user alice\n"), None);
        assert_eq!(parse("hostname x\nuser \n"), None);
    }
}
