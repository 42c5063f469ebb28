// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the parsers of mytoken.toml, login.toml and jobs.toml with their drop-ins, and their error messages.
#![no_main]

use std::path::Path;

use fuzz::split_input;
use libfuzzer_sys::fuzz_target;
use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::Owner;
use mytoken_login::LoginSettings;
use mytokend::jobs::settings::JobsSettings;
use tempfile::TempDir;

/// A directory for one input, in memory if possible.
fn temporary_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let created = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = created.expect("a directory");
    std::fs::create_dir(directory.path().join("login.d")).expect("a directory");
    directory
}

/// The error message must name the file.
fn check_names_file(error: impl std::fmt::Display) {
    assert!(error.to_string().contains(".toml"), "{error}");
}

fuzz_target!(|data: &[u8]| {
    let Some([shared, login, more, jobs]) = split_input(data) else { return };
    // Not one directory for all inputs: nothing would remove it, because libFuzzer exits without dropping statics.
    let temporary = temporary_directory();
    let directory = temporary.path();
    for (name, text) in
        [("mytoken.toml", shared), ("login.toml", login), ("login.d/10.toml", more), ("jobs.toml", jobs)]
    {
        std::fs::write(directory.join(name), text).expect("a file");
    }
    let trust = FileTrust::user(Owner::current().uid);
    // If mytoken.toml is wrong, the other files are still checked, with valid settings in its place.
    let valid = || {
        toml::from_str::<Shared>(
            "[[server]]\nname='testbed'\nurl='https://mt.example.org'\n[[issuer]]\nname='op'\nurl='https://op.example.org'\naudiences=['x']",
        )
        .expect("settings")
    };
    let shared = Shared::load(directory, trust).map_err(check_names_file).unwrap_or_else(|()| valid());
    if let Err(error) = LoginSettings::load(directory, trust, &shared) {
        assert!(!error.to_string().is_empty());
    }
    let _ = JobsSettings::load(directory, trust, &shared).map_err(check_names_file);
});
