// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl`: status of jobs and sessions, key generation, check of a host, explanation of a login.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mytoken::config::DIRECTORY;
use mytoken::{Clock, Deadline, Secret, SystemClock};
use mytoken_wire::agent::{StatusQuery, ask};
use mytoken_wire::paths::AGENT_SOCKET;
use mytokend::control::{check, explain, keygen, logins::Logins, moment::Moments, status};
use mytokend::privacy;
use zeroize::Zeroizing;

#[derive(Parser)]
#[command(version, about = "Shows and checks what the suite does on this host")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// What happened to the credentials of your jobs and sessions on this node
    Status {
        /// Only this job
        #[arg(conflicts_with = "login")]
        job: Option<u32>,
        /// Instead: what logins on this host have asked of the mytoken server, and which servers are left alone (root)
        #[arg(long)]
        login: bool,
        /// As JSON
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
        /// Where the two files are put
        #[arg(long, value_name = "DIR", default_value = "/etc/mytoken/keys")]
        dir: PathBuf,
    },
    /// Checks this host; ends with 1 when something does not work
    Check {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// The agent's socket
        #[arg(long, value_name = "PATH", default_value = AGENT_SOCKET)]
        socket: PathBuf,
    },
    /// Explains the login that the token on standard input would give; a mytoken loses one use by it, a transfer code is used up
    Explain {
        /// The account that is asked for
        #[arg(long, value_name = "NAME")]
        user: String,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    // The local zone is found out while there is one thread.
    let moments = Moments::local(SystemClock.now());
    let result = match Arguments::parse().task {
        Task::Status { login: true, json, config, .. } => show_logins(&config, json),
        Task::Status { job, json, socket, .. } => show_status(&socket, job, json, moments),
        Task::Keygen { dir } => make_keys(&dir),
        Task::Check { config, json, socket } => show_check(&config, json, &socket),
        Task::Explain { user, config } => show_explanation(&user, &config),
    };
    result.unwrap_or_else(|error| {
        eprintln!("mytokenctl: {error}");
        ExitCode::FAILURE
    })
}

fn show_status(socket: &std::path::Path, job: Option<u32>, json: bool, moments: Moments) -> Result<ExitCode, String> {
    let found = ask(socket, &StatusQuery { job }, Deadline::after(Duration::from_secs(5)))
        .map_err(|error| error.to_string())?;
    if json {
        say(&serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?);
        return Ok(ExitCode::SUCCESS);
    }
    if found.jobs.is_empty() {
        let what = job.map_or_else(|| "no job or session".to_owned(), |job| format!("no job {job}"));
        return Err(format!("the agent on {} knows {what} of yours with a credential", found.node));
    }
    say(status::render(&found, moments, &status::account).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn show_logins(config: &std::path::Path, json: bool) -> Result<ExitCode, String> {
    let logins = Logins::look(config).map_err(|error| error.to_string())?;
    if json {
        say(&serde_json::to_string_pretty(&logins).map_err(|error| error.to_string())?);
    } else {
        say(logins.render().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn make_keys(dir: &std::path::Path) -> Result<ExitCode, String> {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let id = keygen::keygen(dir, &host).map_err(|error| error.to_string())?;
    let (public, private) = (dir.join(keygen::PUBLIC), dir.join(keygen::PRIVATE));
    say(&format!("key pair {id}"));
    say(&format!("  {}   for every host that submits or runs jobs (mode 0644)", public.display()));
    say(&format!(
        "  {}   for the nodes only (root, mode 0600): whoever has it can open every job credential",
        private.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn show_check(config: &std::path::Path, json: bool, socket: &std::path::Path) -> Result<ExitCode, String> {
    let findings = check::check(config, socket);
    if json {
        say(&serde_json::to_string_pretty(&findings).map_err(|error| error.to_string())?);
    } else {
        say(findings.render().trim_end());
    }
    Ok(if findings.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show_explanation(user: &str, config: &std::path::Path) -> Result<ExitCode, String> {
    privacy::protect();
    let mut text = Zeroizing::new(String::with_capacity(128 * 1024));
    std::io::stdin().take(128 * 1024).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let token = Secret::new(text.as_str());
    let (explanation, accepted) = explain::explain(config, user, &token).map_err(|error| error.to_string())?;
    say(explanation.trim_end());
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints; nobody is told when nobody reads (`| head`).
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
