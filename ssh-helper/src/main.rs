// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ssh_helper::main()
}
