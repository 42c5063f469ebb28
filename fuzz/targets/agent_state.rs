// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the stored leases that the agent reads at its start, and what it plans for them.
#![no_main]

use fuzz::{NOW, split_input};
use libfuzzer_sys::fuzz_target;
use mytokend::agent::lease_table::LeaseTable;
use mytokend::agent::runtime_dir::parse_record;

fuzz_target!(|data: &[u8]| {
    let Some([name, record, other]) = split_input(data) else { return };
    let mut table = LeaseTable::default();
    for text in [record, other] {
        let lease = match parse_record(name, text.as_bytes()) {
            Ok(lease) => lease,
            Err(reason) => {
                let shown = reason.split(" (line").next().unwrap_or_default();
                assert!(!shown.chars().any(|character| character.is_ascii_digit()), "it quotes the record: {reason}");
                continue;
            }
        };
        let written = serde_json::to_vec(&lease).expect("JSON");
        let read = parse_record(name, &written).expect("its own form");
        assert_eq!(serde_json::to_vec(&read).expect("JSON"), written);
        assert!(lease.next_action().is_none_or(|(due, _)| due < u64::MAX));
        // The agent takes it up, perhaps after the clock was set.
        let mut lease = lease.in_present_form(NOW * 1000);
        if let Some(stored) = lease.clock_offset {
            lease.follow_jump(0_i64.saturating_sub(stored), 0, u64::MAX);
        }
        let _ = (lease.state(None), lease.running_jobs().count());
        let key = lease.key.clone();
        table.insert(lease);
        assert!(table.get(&key).is_some());
    }
    // Each lease is due once at most, whatever its times are.
    for now in [0, NOW * 1000, u64::MAX] {
        let mut taken = 0;
        while table.take_due(now).is_some() {
            taken += 1;
            assert!(taken <= 2);
        }
    }
    let _ = (table.is_idle(NOW * 1000), table.surplus());
});
