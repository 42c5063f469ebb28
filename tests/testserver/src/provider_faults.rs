// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testserver provider-faults`: the command for `testserver replay --provider-faults` when the foreign server is
//! another `testserver serve`.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::{Fetch, HttpClient};

/// Arguments of `testserver provider-faults`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Control API of the server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9440")]
    control: String,
    #[command(subcommand)]
    command: FaultCommand,
}

#[derive(Debug, Subcommand)]
enum FaultCommand {
    /// Set a fault of the token endpoint.
    Set {
        /// Name of the fault, as in the README of the captures.
        name: String,
    },
    /// End the fault.
    Clear,
    /// Print, as JSON, the requests to the token and revocation endpoints since the last call.
    Requests,
}

/// Sends the command to the control API.
///
/// # Errors
/// The control API does not answer, or it refuses the command.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let fault = |name: &str| json!({"name": name, "endpoint": "token"});
    match &options.command {
        FaultCommand::Set { name } => drop(ask(options, "/provider/fault", &fault(name))?),
        FaultCommand::Clear => drop(ask(options, "/provider/fault", &fault("none"))?),
        FaultCommand::Requests => println!("{}", ask(options, "/provider/requests", &json!({}))?),
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(options: &Options, path: &str, body: &Value) -> Result<Value, String> {
    let url = format!("{}{path}", options.control.trim_end_matches('/'));
    let answer = HttpClient::new(None)?.fetch("POST", &url, &[], body.to_string().as_bytes())?;
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        return Err(format!("{url} answers {}: {text}", answer.status));
    }
    serde_json::from_str(&text).map_err(|error| format!("{url}: {error}"))
}
