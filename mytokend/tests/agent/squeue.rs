// SPDX-License-Identifier: MIT OR Apache-2.0
//! The output of a fake squeue.

use mytokend::jobs::host_list;

use crate::harness::NOW;

/// Every job of these tests runs on this node.
pub const ALL_RUNNING: [(u32, &str, &str, &str); 3] =
    [(7, "7", "RUNNING", "n1"), (8, "8", "RUNNING", "n1"), (20, "20", "RUNNING", "n1")];

/// Lines of squeue: `job shown state nodes`. The script runs on the first node.
pub fn squeue(lines: &[(u32, &str, &str, &str)]) -> String {
    let line = |(job, shown, state, nodes): &(u32, &str, &str, &str)| {
        let first = host_list::first(nodes).unwrap_or_else(|| "n/a".to_owned());
        format!("{job}|{shown}|{state}|{NOW}|{NOW}|{nodes}|{first}\n")
    };
    lines.iter().map(line).collect()
}
