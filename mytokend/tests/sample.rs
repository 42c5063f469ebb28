// SPDX-License-Identifier: MIT OR Apache-2.0
//! `packaging/samples/jobs.toml` has every key with its default, and all samples can be loaded together.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../tests/sample.rs"]
mod sample;

use std::fs;
use std::path::Path;

use mytoken::config::{FileTrust, Shared};
use mytoken_login::LoginSettings;
use mytokend::jobs::settings::JobsSettings;

#[test]
fn the_sample_of_jobs_toml_has_every_key_with_its_default() {
    sample::check("jobs.toml", |jobs: JobsSettings| jobs);
}

/// Loads three files of `/etc/mytoken`, including the names by which they refer to each other.
fn load_all(folder: &Path) {
    let trust = FileTrust::user(nix::unistd::geteuid().as_raw());
    let shared = Shared::load(folder, trust).unwrap();
    LoginSettings::load(folder, trust, &shared).unwrap();
    JobsSettings::load(folder, trust, &shared).unwrap();
}

#[test]
fn the_samples_can_be_installed_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/samples");
    for file in ["mytoken.toml", "login.toml", "jobs.toml"] {
        fs::copy(samples.join(file), folder.path().join(file)).unwrap();
    }
    load_all(folder.path());
}

#[test]
fn the_files_of_the_readme_can_be_installed_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    for file in ["mytoken.toml", "login.toml", "jobs.toml"] {
        let start = format!("cat >/etc/mytoken/{file} <<'END'\n");
        let text = readme.split_once(&start).and_then(|(_, rest)| rest.split_once("\nEND\n")).unwrap().0;
        fs::write(folder.path().join(file), text).unwrap();
    }
    load_all(folder.path());
}
