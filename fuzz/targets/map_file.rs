// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes map files.
#![no_main]

use fuzz::issuer_settings;
use libfuzzer_sys::fuzz_target;
use mytoken_login::MapFile;

fuzz_target!(|data: &[u8]| {
    let file = MapFile::parse(data);
    let count = data.split(|byte| *byte == b'\n').count();
    assert!(file.lines() + file.wrong_lines() <= count);
    assert!(file.mistakes().iter().all(|mistake| mistake.line <= count && !mistake.problem.is_empty()));
    assert!(file.mistakes().iter().all(|mistake| !mistake.to_string().chars().any(char::is_control)));
    assert!(file.foreign_lines(&[issuer_settings("")]).all(|line| line <= count));
    assert_eq!(file.named_accounts().count(), file.lines());
});
