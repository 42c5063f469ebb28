// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users do at a site, for stories and the demo.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::drive::tokens;
use crate::error::WithContext;
use crate::site::command::CommandOutcome;
use crate::site::foreign;
use crate::site::plan::TESTSERVER_INSIDE;
use crate::site::servers::{AUDIENCE, CA, CONTROL, RESOURCE_SERVER};
use crate::{Error, Need, Result, Site};

/// The command that gets a first mytoken.
pub const LOGIN: &str = "mytoken-ssh login --server https://mytoken.testbed:8443 --ca /etc/ssl/testbed-ca.pem \
                         --audience https://testbed";

/// Runs `mytoken-ssh login` as `user` and acts as the browser: opens the link, confirms, logs in at the provider. The
/// pages of a foreign server are unknown. There alice gets the caller's mytoken, and others one by the caller's command.
///
/// # Errors
/// When no link was printed, or a page or the command failed.
pub fn first_mytoken(site: &Site, user: &str) -> Result<CommandOutcome> {
    if let Some(foreign) = &site.options().foreign {
        if user == "alice" {
            return foreign::give_mytoken(site, user, foreign);
        }
        let mytoken = tokens::mytoken(site, user, &json!({}))?;
        return foreign::store(site, user, foreign, mytoken);
    }
    log_in_by_link(site, user, LOGIN)
}

/// [`LOGIN`], or the same at a foreign server.
#[must_use]
pub fn login_command(site: &Site) -> String {
    let Some(foreign) = &site.options().foreign else { return LOGIN.to_owned() };
    let ca = if foreign.ca.is_some() { format!(" --ca {CA}") } else { String::new() };
    let (server, issuer) = (&foreign.server, &foreign.issuer);
    format!("mytoken-ssh login --server {server} --issuer {issuer}{ca} --audience {AUDIENCE}")
}

/// Names in the user's config.toml which scope the host gets, so that a login of mytoken-ssh sends an access token.
///
/// # Errors
/// When it cannot be written.
pub fn name_scope_of_host(site: &Site, user: &str) -> Result<()> {
    let rule = "[[host]]\npattern = \"testbed\"\nscope = \"openid profile storage.read\"\n";
    site.script(user, "umask 077; cat >>.config/mytoken/config.toml").stdin(rule).run()?.ok().map(drop)
}

/// Runs `command`, a `mytoken-ssh login`, as `user` and opens its link in the test's browser.
///
/// # Errors
/// When no link was printed, or a page or the command failed.
pub fn log_in_by_link(site: &Site, user: &str, command: &str) -> Result<CommandOutcome> {
    let mut child =
        site.script(user, &format!("exec 2>&1; exec {command}")).timeout(Duration::from_secs(120)).spawn()?;
    let lines = lines_of(&mut child)?;
    let mut output = String::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    let link = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                output.push_str(&line);
                if let Some(link) =
                    line.split_whitespace().find(|word| word.starts_with("http") && word.contains("/c/"))
                {
                    break link.to_owned();
                }
            }
            Err(_) => return Err(Error::Refused(format!("`{command}` printed no link:\n{output}"))),
        }
    };
    browser(site, user, &link)?;
    let status = child.wait().with_context(|| "waiting for mytoken-ssh login".into())?;
    output.extend(lines.iter());
    let outcome = CommandOutcome {
        command: command.to_owned(),
        code: status.code().unwrap_or(1),
        stdout: output,
        stderr: String::new(),
    };
    outcome.ok()
}

/// Opens a consent link like a browser: confirms it and logs in at the provider as `user`.
///
/// # Errors
/// When a page fails.
pub fn browser(site: &Site, user: &str, link: &str) -> Result<CommandOutcome> {
    if let Some(foreign) = &site.options().foreign {
        let stdout = foreign.controls.run(Need::Browser, &[link, user], "")?;
        let command = Need::Browser.option().to_owned();
        return Ok(CommandOutcome { command, code: 0, stdout, stderr: String::new() });
    }
    site.command(user, [TESTSERVER_INSIDE, "browser", link, "--user", user, "--ca", CA]).run()?.ok()
}

/// Calls the test server's control API, by POST if there is a body. With a foreign server the caller's command sets and ends faults of the
/// provider's token endpoint.
///
/// # Errors
/// When it does not answer with success, or no command can do this.
pub fn control(site: &Site, path: &str, body: Option<&str>) -> Result<String> {
    if let Some(foreign) = &site.options().foreign {
        let arguments = fault_arguments(path, body);
        let arguments = arguments.ok_or_else(|| Error::Unplayable(format!("no command can do {path}")))?;
        return foreign.controls.run(
            Need::ProviderFaults,
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            "",
        );
    }
    let mut argv = vec!["curl".to_owned(), "-sS".into(), "--fail-with-body".into(), "--max-time".into(), "20".into()];
    if let Some(body) = body {
        argv.extend([
            "-X".into(),
            "POST".into(),
            "-H".into(),
            "Content-Type: application/json".into(),
            "-d".into(),
            body.into(),
        ]);
    }
    argv.push(format!("{CONTROL}{path}"));
    Ok(site.command("root", argv).run()?.ok()?.stdout)
}

/// The arguments of `--provider-faults` for this call of the control API. `None`: it can do something else only.
fn fault_arguments(path: &str, body: Option<&str>) -> Option<Vec<String>> {
    let body: Value = serde_json::from_str(body.unwrap_or("{}")).ok()?;
    let member = |name: &str| body.get(name).and_then(Value::as_str);
    match (path, member("name")) {
        ("/clear", _) => Some(vec!["clear".to_owned()]),
        ("/provider/fault", Some(name))
            if member("endpoint").is_none_or(|endpoint| endpoint == "token") && body.get("argument").is_none() =>
        {
            Some(vec!["set".to_owned(), name.to_owned()])
        }
        _ => None,
    }
}

/// A shell command that calls the resource server with the token in `$BEARER_TOKEN_FILE`, by curl with these options.
/// It has no single quotes. curl gets the token through a pipe, because every user of the host can read a command's
/// arguments in `/proc/PID/cmdline`.
#[must_use]
pub fn call(options: &str) -> String {
    format!(
        "sed \"s/^/Authorization: Bearer /\" \"$BEARER_TOKEN_FILE\" | curl {options} --cacert {CA} -H @- {RESOURCE_SERVER}/data"
    )
}

/// An open ssh session that runs commands one after the other.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    count: u32,
}

impl Session {
    /// Starts `command` (an ssh that runs `bash -s` on the remote host) as `user` and waits until the shell answers.
    ///
    /// # Errors
    /// When the command ended, with its output.
    pub fn open(site: &Site, user: &str, command: &str) -> Result<Self> {
        let mut child =
            site.script(user, &format!("exec {command}")).stdin("").timeout(Duration::from_secs(900)).spawn()?;
        let stdin = child.stdin.take();
        let lines = lines_of(&mut child)?;
        let errors = match child.stderr.take() {
            Some(stderr) => read_lines_in_thread(stderr),
            None => channel().1,
        };
        let mut session = Self { child, stdin, lines, errors, count: 0 };
        session.run("true", Duration::from_secs(40))?;
        Ok(session)
    }

    /// Runs one command and waits for its end. Its standard error is part of the output.
    ///
    /// # Errors
    /// When the session ended or the command took longer than `limit`.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<CommandOutcome> {
        self.count += 1;
        let mark = format!("--end-of-command-{}--", self.count);
        let typed = format!("{{ {command}\n}} 2>&1 </dev/null; echo \"{mark}$?\"\n");
        if let Some(stdin) = &mut self.stdin {
            // If the session has ended, its standard error has the reason. It is read below.
            drop(stdin.write_all(typed.as_bytes()).and_then(|()| stdin.flush()));
        }
        let mut stdout = String::new();
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some((before, status)) = line.split_once(&mark) {
                        stdout.push_str(before);
                        let code = status.trim().parse().unwrap_or(1);
                        return Ok(CommandOutcome { command: command.to_owned(), code, stdout, stderr: String::new() });
                    }
                    stdout.push_str(&line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::Refused(format!("`{command}` did not end in {} s:\n{stdout}", limit.as_secs())));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let stderr: String = self.errors.iter().collect();
                    return Err(Error::Refused(format!("the session ended before `{command}`:\n{stdout}{stderr}")));
                }
            }
        }
    }

    /// Ends the session as `exit` does and waits until ssh has ended.
    ///
    /// # Errors
    /// When ssh could not be waited for.
    pub fn close(mut self) -> Result<()> {
        drop(self.stdin.take());
        self.child.wait().with_context(|| "waiting for the end of the session".into()).map(drop)
    }
}

fn lines_of(child: &mut Child) -> Result<Receiver<String>> {
    child
        .stdout
        .take()
        .map(read_lines_in_thread)
        .ok_or_else(|| Error::Refused("a command without standard output".into()))
}

fn read_lines_in_thread(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_the_token_endpoint_have_a_command() {
        let arguments = |path, body| fault_arguments(path, Some(body)).map(|arguments| arguments.join(" "));
        let set = "set 500-html".to_owned();
        assert_eq!(arguments("/provider/fault", r#"{"name": "500-html"}"#), Some(set.clone()));
        assert_eq!(arguments("/provider/fault", r#"{"name": "500-html", "endpoint": "token"}"#), Some(set));
        assert_eq!(arguments("/provider/fault", r#"{"name": "500-html", "endpoint": "userinfo"}"#), None);
        assert_eq!(arguments("/provider/fault", r#"{"name": "latency", "argument": 9}"#), None);
        assert_eq!(arguments("/clear", "{}"), Some("clear".to_owned()));
        assert_eq!(arguments("/outage", "{}"), None);
        assert_eq!(fault_arguments("/journal?service=mytoken", None), None);
    }
}
