// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the host lists in squeue's output.
#![no_main]

use fuzz::split_input;
use libfuzzer_sys::fuzz_target;
use mytokend::jobs::host_list::{contains, first, position};

fuzz_target!(|data: &[u8]| {
    let Some([list, node, other]) = split_input(data) else { return };
    assert_eq!(contains(list, node), position(list, node).is_some());
    if let Some(name) = first(list) {
        assert_eq!(position(list, &name), Some(0));
        assert!(position(list, node) != Some(0) || name == node);
        // Further elements come after the ones that are there.
        let longer = format!("{},{other}", list.trim());
        assert!(first(&longer).is_none_or(|first| first == name));
    }
});
