// SPDX-License-Identifier: MIT OR Apache-2.0
//! An OpenID provider and a mytoken server in one process, for tests.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests may end when nobody reads what it prints"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testserver::{browser, provider_faults, replay, serve};

#[derive(Parser)]
#[command(name = "testserver", version, about = "OpenID provider and mytoken server in one process, for tests")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the provider, the mytoken server, the resource server and the control API.
    Serve(Box<serve::Options>),
    /// Play captured scenarios against this server or another one.
    Replay(replay::Options),
    /// Open a link as a user's browser would: log in, accept, follow the redirects.
    Browser(browser::Options),
    /// Control the provider of a running `serve`, as `replay --provider-faults` needs it.
    ProviderFaults(provider_faults::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Browser(options) => browser::run(&options),
        Command::ProviderFaults(options) => provider_faults::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("testserver: {reason}");
            ExitCode::from(2)
        }
    }
}
