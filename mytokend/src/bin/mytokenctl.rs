// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl`: shows credentials and logins, makes keys, checks a host, explains the decision about a login.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mytoken::config::DIRECTORY;
use mytoken::time_format::TimeFormat;
use mytoken::{Clock, Deadline, Secret, SystemClock};
use mytoken_wire::agent::{StatusQuery, ask};
use mytoken_wire::paths::AGENT_SOCKET;
use mytokend::control::{check, explain, keygen, logins::Logins, status};
use mytokend::privacy;
use zeroize::Zeroizing;

#[derive(Parser)]
#[command(version, about = "Shows and checks mytokens for ssh and Slurm on this host")]
struct Arguments {
    #[command(subcommand)]
    command: ControlCommand,
}

#[derive(Subcommand)]
enum ControlCommand {
    /// Shows the credentials of your jobs and sessions on this node, and what happened to them
    Status {
        /// Only this job
        #[arg(conflicts_with = "login")]
        job: Option<u32>,
        /// Shows instead the requests that logins on this host sent to the mytoken server, and the servers that are paused (root)
        #[arg(long)]
        login: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Directory of the configuration, for --login
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// The agent's socket
        #[arg(long, value_name = "PATH", default_value = AGENT_SOCKET)]
        socket: PathBuf,
    },
    /// Makes the cluster's key pair
    Keygen {
        /// Directory for the two files
        #[arg(long, value_name = "DIR", default_value = "/etc/mytoken/keys")]
        dir: PathBuf,
    },
    /// Checks this host. Exit status: 0 all is well, 1 warnings, 2 something does not work
    Check {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// Checks what sshd does for logins of this account
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The agent's socket
        #[arg(long, value_name = "PATH", default_value = AGENT_SOCKET)]
        socket: PathBuf,
    },
    /// Explains the decision about a login with the token on standard input. This costs a mytoken one use, and a transfer code is used up
    Explain {
        /// The account
        #[arg(long, value_name = "NAME")]
        user: String,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    // The local time zone can only be determined while the process has a single thread.
    let times = TimeFormat::local(SystemClock.now());
    let result = match Arguments::parse().command {
        ControlCommand::Status { login: true, json, config, .. } => show_logins(&config, json),
        ControlCommand::Status { job, json, socket, .. } => show_status(&socket, job, json, times),
        ControlCommand::Keygen { dir } => make_keys(&dir),
        ControlCommand::Check { config, user, json, socket } => show_check(&config, user.as_deref(), json, &socket),
        ControlCommand::Explain { user, config } => show_explanation(&user, &config),
    };
    result.unwrap_or_else(|error| {
        eprintln!("mytokenctl: {error}");
        ExitCode::FAILURE
    })
}

fn show_status(socket: &std::path::Path, job: Option<u32>, json: bool, times: TimeFormat) -> Result<ExitCode, String> {
    let found = ask(socket, &StatusQuery { job }, Deadline::after(Duration::from_secs(5)))
        .map_err(|error| error.to_string())?;
    if json {
        print(&serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?);
        return Ok(ExitCode::SUCCESS);
    }
    if found.jobs.is_empty() {
        let what = job.map_or_else(|| "no job or session".to_owned(), |job| format!("no job {job}"));
        return Err(format!("the agent on {} has {what} of yours with a credential", found.node));
    }
    print(status::render(&found, times, &status::account).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn show_logins(config: &std::path::Path, json: bool) -> Result<ExitCode, String> {
    let logins = Logins::read(config).map_err(|error| error.to_string())?;
    if json {
        print(&serde_json::to_string_pretty(&logins).map_err(|error| error.to_string())?);
    } else {
        print(logins.render().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn make_keys(dir: &std::path::Path) -> Result<ExitCode, String> {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let id = keygen::keygen(dir, &host).map_err(|error| error.to_string())?;
    let (public, private) = (dir.join(keygen::PUBLIC), dir.join(keygen::PRIVATE));
    print(&format!("key pair {id}"));
    print(&format!("  {}   for all hosts that submit or run jobs (mode 0644)", public.display()));
    print(&format!("  {}   for the nodes only (root, mode 0600): it opens every job credential", private.display()));
    Ok(ExitCode::SUCCESS)
}

fn show_check(
    config: &std::path::Path,
    user: Option<&str>,
    json: bool,
    socket: &std::path::Path,
) -> Result<ExitCode, String> {
    let findings = check::check(config, socket, user);
    if json {
        print(&serde_json::to_string_pretty(&findings).map_err(|error| error.to_string())?);
    } else {
        print(findings.render().trim_end());
    }
    Ok(ExitCode::from(findings.exit_status()))
}

fn show_explanation(user: &str, config: &std::path::Path) -> Result<ExitCode, String> {
    privacy::protect();
    let mut text = Zeroizing::new(String::with_capacity(128 * 1024));
    std::io::stdin().take(128 * 1024).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let token = Secret::new(text.as_str());
    let (explanation, accepted) = explain::explain(config, user, &token).map_err(|error| error.to_string())?;
    print(explanation.trim_end());
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a line. A closed pipe (`| head`) is not an error.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
