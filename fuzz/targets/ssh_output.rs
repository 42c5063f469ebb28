// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the parsers of ssh's output (`-G`, `-V`) and of the user's arguments for ssh, scp and sftp.
#![no_main]
#![allow(dead_code)]

#[path = "../../ssh-helper/src/error.rs"]
mod error;

#[path = "../../ssh-helper/src/printable.rs"]
mod printable;

#[path = "../../ssh-helper/src/askpass"]
mod askpass {
    pub mod message;
    pub mod prompt;
}

#[path = "../../ssh-helper/src/ssh"]
mod ssh {
    pub mod arguments;
    pub mod resolution;
    pub mod version;
}

use std::ffi::OsString;

use fuzz::split_input;
use libfuzzer_sys::fuzz_target;
use printable::printable;
use ssh::arguments::{Program, destination_queries};
use ssh::resolution::parse;
use ssh::version::parse_version;

fuzz_target!(|data: &[u8]| {
    let Some([settings, output, arguments]) = split_input(data) else { return };
    if let Some(found) = parse(settings) {
        assert!(!found.hostname.is_empty() && !found.account.user.is_empty());
        assert!(!found.account.host.contains('\n') && !found.account.user.contains('\n'));
    }
    let _ = parse_version(output);
    assert!(!printable(output).chars().any(|c| !mytoken_wire::is_printable(c)));
    let arguments: Vec<OsString> = arguments.split('\n').map(OsString::from).collect();
    for program in [Program::Ssh, Program::Scp, Program::Sftp] {
        let _ = destination_queries(program, &arguments);
    }
});
