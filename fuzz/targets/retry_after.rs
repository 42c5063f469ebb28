// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the header `Retry-After`.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use fuzz::NOW;
use libfuzzer_sys::fuzz_target;
use mytoken::Deadline;
use mytoken::http::retry_after;

fuzz_target!(|text: &str| {
    for date in [None, Some(UNIX_EPOCH), Some(UNIX_EPOCH + Duration::from_secs(NOW))] {
        if let Some(wait) = retry_after(text, date) {
            assert!(wait.is_zero() || Deadline::after(wait).remaining().is_some());
            let _ = mytokend::jobs::renewal::backoff(1, 3_600, None, Some(wait), 0.5);
        }
    }
});
