// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes map files.
#![no_main]

use fuzz::issuer_settings;
use libfuzzer_sys::fuzz_target;
use mytoken_login::MapFile;

fuzz_target!(|data: &[u8]| {
    let file = MapFile::parse(data);
    let count = data.split(|byte| *byte == b'\n').count();
    assert!(file.used_lines() + file.ignored_lines() <= count);
    assert!(file.errors().iter().all(|error| error.line <= count && !error.problem.is_empty()));
    assert!(file.errors().iter().all(|error| !error.to_string().chars().any(char::is_control)));
    assert!(file.unknown_issuer_lines(&[issuer_settings("")]).all(|line| line <= count));
    assert_eq!(file.named_accounts().count(), file.used_lines());
});
