// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks ssh itself where it will connect (`ssh -G`).

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::arguments::Query;
use crate::askpass::prompt::RemoteAccount;
use crate::error::Error;
use crate::printable::printable;

/// A destination after ssh has read all its configuration files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedDestination {
    /// User and host as ssh shows them in front of prompts.
    pub account: RemoteAccount,
    /// The host as the user wrote it. A `[[host]]` pattern may match it.
    pub host_argument: String,
    /// Host name after `HostName` substitution. A `[[host]]` pattern may match it too.
    pub hostname: String,
    /// `BatchMode`: ssh will not ask for anything.
    pub batch_mode: bool,
    /// `StrictHostKeyChecking`
    pub host_keys: HostKeyChecking,
    /// ssh connects through another host, which may ask for a token too.
    pub has_jump_host: bool,
    /// ssh connects by a command, which may reach another network.
    pub has_proxy_command: bool,
    /// `LocalCommand`, if `PermitLocalCommand` is on.
    pub local_command: Option<String>,
}

/// What ssh does about a host whose key it does not know. Without that it refuses a key that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostKeyChecking {
    /// `no`: accepts any key, also a changed one.
    Off,
    /// `accept-new`: accepts and remembers it.
    AcceptNew,
    /// `ask`, the default.
    Ask,
    /// `yes`, and whatever a later release adds: refuses it.
    Strict,
}

/// Environment variable for every ssh that is started: `SHELL=/bin/sh`, if the user's shell is missing or runs nothing,
/// as that of a service account. ssh uses this shell for local commands (SSH-23), proxy commands and `Match exec`. Each ssh gets
/// the same value, so that `ssh -G` and the real connection evaluate the configuration alike.
pub fn shell_override() -> Option<(&'static str, &'static str)> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty())?;
    let path = Path::new(&shell);
    let runs_nothing = path.file_name().is_some_and(|name| name == "nologin" || name == "false" || name == "true");
    let is_executable = path.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
    (runs_nothing || !is_executable).then_some(("SHELL", "/bin/sh"))
}

/// The output of `ssh -G`: lines of `keyword value`, with keywords in lower case.
#[derive(Debug)]
pub struct Configuration(String);

impl Configuration {
    /// Of this output.
    #[cfg(test)]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The first value of a keyword.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        let mut values = self.0.lines().filter_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
        values.next().filter(|value| !value.is_empty())
    }

    /// The host that ssh connects to.
    pub fn destination(&self) -> Option<ResolvedDestination> {
        parse(&self.0)
    }

    /// The name of the host's key in `known_hosts`.
    pub fn name_of_key(&self) -> String {
        let hostname = self.get("hostname").unwrap_or_default();
        match (self.get("hostkeyalias"), self.get("port")) {
            (Some(alias), _) => alias.to_owned(),
            (None, Some(port)) if port != "22" => format!("[{hostname}]:{port}"),
            (None, _) => hostname.to_owned(),
        }
    }
}

/// Asks ssh for the destination of `query`. `None`: ssh does not connect with these arguments (`-V`, `-Q`).
pub fn resolve(ssh: &OsStr, query: &Query) -> Result<Option<ResolvedDestination>, Error> {
    let Some(configuration) = configuration(ssh, query)? else { return Ok(None) };
    let not_resolved = || Error::NotResolved { message: "ssh -G names no user or host".into() };
    configuration.destination().map(Some).ok_or_else(not_resolved)
}

/// Asks ssh for its configuration for `query`. `None`: ssh does not connect with these arguments.
pub fn configuration(ssh: &OsStr, query: &Query) -> Result<Option<Configuration>, Error> {
    let output = Command::new(ssh)
        .arg("-G")
        .args(query)
        .envs(shell_override())
        .stdin(Stdio::null())
        .output()
        .map_err(Error::cannot_run(ssh))?;
    if !output.status.success() {
        // SSH-22: shown only if ssh -G fails, it also warns about a missing terminal when it succeeds.
        return Err(Error::NotResolved { message: printable(String::from_utf8_lossy(&output.stderr).trim()) });
    }
    let found = Configuration(String::from_utf8_lossy(&output.stdout).into_owned());
    Ok(found.get("hostname").is_some().then_some(found))
}

/// Reads the output of `ssh -G`.
pub(crate) fn parse(text: &str) -> Option<ResolvedDestination> {
    let configuration = Configuration(text.to_owned());
    let value = |keyword: &str| configuration.get(keyword);
    let hostname = value("hostname")?.to_owned();
    // SSH-17: in its prompts ssh shows the alias if there is one, and every host name in lower case.
    let shown = value("hostkeyalias").unwrap_or(&hostname).to_ascii_lowercase();
    Some(ResolvedDestination {
        account: RemoteAccount { user: value("user")?.to_owned(), host: shown },
        host_argument: value("host").unwrap_or(&hostname).to_owned(),
        batch_mode: value("batchmode") == Some("yes"),
        host_keys: match value("stricthostkeychecking") {
            None | Some("ask") => HostKeyChecking::Ask,
            Some("accept-new") => HostKeyChecking::AcceptNew,
            Some("no" | "off" | "false") => HostKeyChecking::Off,
            Some(_) => HostKeyChecking::Strict,
        },
        has_jump_host: value("proxyjump").is_some(),
        has_proxy_command: value("proxycommand").is_some_and(|command| command != "none"),
        local_command: value("localcommand").filter(|_| value("permitlocalcommand") == Some("yes")).map(str::to_owned),
        hostname,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_command_counts_only_if_it_is_permitted() {
        let local_command = |permit: &str| {
            let text = format!("user alice\nhostname tb\npermitlocalcommand {permit}\nlocalcommand echo %h; date\n");
            parse(&text).unwrap().local_command
        };
        assert_eq!((local_command("no"), local_command("yes").as_deref()), (None, Some("echo %h; date")));
    }

    #[test]
    fn each_value_of_strict_host_key_checking_has_its_meaning() {
        // As `ssh -G` of 9.2 and 10.0 prints them.
        for (printed, meant) in [
            ("ask", HostKeyChecking::Ask),
            ("accept-new", HostKeyChecking::AcceptNew),
            ("false", HostKeyChecking::Off),
            ("true", HostKeyChecking::Strict),
            ("of-tomorrow", HostKeyChecking::Strict),
        ] {
            let text = format!("user alice\nhostname tb\nstricthostkeychecking {printed}\nproxyjump gate\n");
            let destination = parse(&text).unwrap();
            assert_eq!((destination.host_keys, destination.has_jump_host), (meant, true), "{printed}");
        }
    }

    #[test]
    fn the_account_is_the_one_that_ssh_shows_in_its_prompts() {
        let plain = parse("host TB\nuser alice\nhostname TestBed.example.org\nport 22\nbatchmode no\n").unwrap();
        assert_eq!(plain.account, RemoteAccount { user: "alice".into(), host: "testbed.example.org".into() });
        assert_eq!((plain.host_argument.as_str(), plain.batch_mode), ("TB", false));
        assert_eq!((plain.host_keys, plain.has_jump_host), (HostKeyChecking::Ask, false));
        let alias = parse(
            "host tb\nuser alice\nhostname 192.0.2.10\nhostkeyalias Cluster\nbatchmode yes\nstricthostkeychecking true\n",
        );
        let alias = alias.unwrap();
        assert_eq!(alias.account.host, "cluster");
        assert_eq!((alias.batch_mode, alias.host_keys), (true, HostKeyChecking::Strict));
        assert_eq!((plain.local_command, alias.local_command), (None, None));
        assert_eq!(parse("user alice\n"), None);
        assert_eq!(parse("hostname x\nuser \n"), None);
    }
}
