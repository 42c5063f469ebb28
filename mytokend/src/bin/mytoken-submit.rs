// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-submit`: the Slurm plugin starts it at submission. It prints one JSON line to standard output and nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mytokend::privacy;
use mytokend::submit::arguments::SubmitArguments;
use mytokend::submit::{relay, worker};

fn main() -> ExitCode {
    let begin = Instant::now();
    privacy::protect();
    // Standard error is the user's terminal, and the message of a panic could contain a secret.
    std::panic::set_hook(Box::new(|_| {}));
    match SubmitArguments::try_parse() {
        Ok(arguments) if arguments.worker => worker::work(arguments, begin),
        Ok(_) => relay::front(),
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        Err(_) => {
            relay::fail("mytoken-submit got unknown arguments; are the plugin and mytoken-submit of the same version?")
        }
    }
}
