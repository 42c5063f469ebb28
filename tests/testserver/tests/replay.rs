// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test server answers as the captured original does.

use std::path::Path;

use testserver::replay::replay_own;

#[test]
fn every_capture_is_answered_as_by_the_original() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../captures");
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
