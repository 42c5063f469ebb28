// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test server answers as the captured original does.

use std::path::{Path, PathBuf};

use testserver::replay::replay_own;

/// The captures: in the repository, else beside it.
fn captures() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    [root.join("tests/captures"), root.join("../shared/captures")].into_iter().find(|folder| folder.is_dir())
}

#[test]
fn every_capture_is_answered_as_by_the_original() {
    let Some(folder) = captures() else {
        println!("skipped: there are no captures in tests/captures nor beside the repository");
        return;
    };
    let mut different = Vec::new();
    let tally = replay_own(vec![folder], &mut |line| {
        if !line.starts_with("ok ") {
            different.push(line.to_owned());
        }
    })
    .unwrap();
    assert_eq!((tally.failed, tally.skipped), (0, 0), "{}", different.join("\n"));
    assert!(tally.passed > 0);
}
