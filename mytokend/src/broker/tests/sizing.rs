// SPDX-License-Identifier: MIT OR Apache-2.0
//! The figures on the page about sizing are those of the program.

use super::super::escrow::MOST_TEXTS;
use super::super::node_connections::MOST as MOST_CONNECTIONS;
use super::super::places::MOST as MOST_SUBMISSIONS;
use super::super::slurmctld::{DEADLINE, INTERVAL, OUTPUT_LIMIT, SHORTEST_PAUSE};
use super::*;

const PAGE: &str = include_str!("../../../../docs/admin/broker-operation.md");

fn thousands(number: usize) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

#[test]
fn the_page_about_sizing_has_the_limits_of_the_program() {
    let sizing = PAGE.split("## Sizing").nth(1).unwrap().split("\n## ").next().unwrap();
    let times = Duration::from_secs(1).as_millis() / SHORTEST_PAUSE.as_millis();
    assert_eq!((times, MOST_TEXTS), (4, MOST_SUBMISSIONS), "up to four times in a second, and the same number of both");
    for said in [
        format!("one for each node; at most {}", thousands(MOST_CONNECTIONS)),
        format!("at most {}, of {} KiB at most each", thousands(MOST_SUBMISSIONS), mytoken_wire::sealed::LIMIT / 1024),
        format!("for {}, which is the most", thousands(MOST_TEXTS)),
        format!("all jobs once in {} s", INTERVAL.as_secs()),
        format!("may take {} s and have {} MiB", DEADLINE.as_secs(), OUTPUT_LIMIT / (1024 * 1024)),
        format!(
            "{} requests for access tokens at a time, {} of them to one provider, {} of one user to it",
            TOKENS.all, TOKENS.lane, TOKENS.user_in_lane
        ),
    ] {
        assert!(sizing.contains(&said), "{said}");
    }
}
