// SPDX-License-Identifier: MIT OR Apache-2.0
//! mytoken.toml, login.toml and jobs.toml with their drop-ins, and the sentences about what is wrong in them.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use fuzz::texts;
use libfuzzer_sys::fuzz_target;
use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::Owner;
use mytoken_login::LoginSettings;
use mytokend::jobs::settings::JobsSettings;

fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let memory = std::path::Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let path = made.expect("a directory").keep();
        std::fs::create_dir(path.join("login.d")).expect("a directory");
        path
    })
}

/// A mistake names its file.
fn names_its_file(error: impl std::fmt::Display) {
    assert!(error.to_string().contains(".toml"), "{error}");
}

fuzz_target!(|data: &[u8]| {
    let Some([shared, login, more, jobs]) = texts(data) else { return };
    let directory = directory();
    for (name, text) in
        [("mytoken.toml", shared), ("login.toml", login), ("login.d/10.toml", more), ("jobs.toml", jobs)]
    {
        std::fs::write(directory.join(name), text).expect("a file");
    }
    let trust = FileTrust::user(Owner::current().uid);
    // A file that is wrong stops only its own readers.
    let usual = || {
        toml::from_str::<Shared>(
            "[[server]]\nname='testbed'\nurl='https://mt.example.org'\n[[issuer]]\nname='op'\nurl='https://op.example.org'\naudiences=['x']",
        )
        .expect("settings")
    };
    let shared = Shared::load(directory, trust).map_err(names_its_file).unwrap_or_else(|()| usual());
    if let Err(error) = LoginSettings::load(directory, trust, &shared) {
        assert!(!error.to_string().is_empty());
    }
    let _ = JobsSettings::load(directory, trust, &shared).map_err(names_its_file);
});
