// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trouble of a soak: faults and an outage of the mytoken server, killed agents and brokers, a jump of the clock.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::clock;
use super::plan::Plan;
use crate::drive::people::control;
use crate::site::services::{agent, broker};
use crate::{Result, Site};

/// The first nodes are never killed: their agents show whether an agent grows.
const SPARED: u8 = 2;

/// How long a killed agent is away, as with systemd's `RestartSec`.
const AWAY: Duration = Duration::from_secs(1);

/// How long a request hangs. The agent's own limit is 30 s.
const HANG_MS: u64 = 45_000;

/// Trouble at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    OutageBegins,
    OutageEnds,
    /// The agent of this node is killed and started again, and a broker if the site has any.
    Kill(String),
    /// The clock of this node's agent jumps.
    ClockJumps(String, i64),
}

/// The nodes whose agents get a clock that can be set.
pub(super) fn with_clock(plan: &Plan) -> Vec<String> {
    let last = plan.nodes;
    if plan.clock_jump == 0 { Vec::new() } else { vec![format!("n{}", last - 1), format!("n{last}")] }
}

/// All trouble, in the order of its times.
pub(super) fn of(plan: &Plan) -> Vec<(Duration, Trouble)> {
    let at = |seconds: u32| Duration::from_secs(seconds.into());
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut all = Vec::new();
    if let Some((begin, end)) = plan.outage_window() {
        all.extend([(at(begin), Trouble::OutageBegins), (at(end), Trouble::OutageEnds)]);
    }
    if plan.kill_every > 0 && plan.nodes > SPARED {
        for number in 1..plan.seconds / plan.kill_every {
            let node = random.random_range(SPARED + 1..=plan.nodes);
            all.push((at(number * plan.kill_every), Trouble::Kill(format!("n{node}"))));
        }
    }
    let jump = |node| (at(plan.seconds / 3 * 2), Trouble::ClockJumps(node, plan.clock_jump));
    all.extend(with_clock(plan).into_iter().map(jump));
    all.sort_by_key(|(at, _)| *at);
    all
}

impl Trouble {
    pub(super) fn make(&self, site: &Site) -> Result<()> {
        match self {
            Self::OutageBegins => set_outage(site, true),
            Self::OutageEnds => set_outage(site, false),
            Self::Kill(node) => {
                let daemons: Vec<String> =
                    [agent::name(node)].into_iter().chain(broker_beside(&site.brokers(), node)).collect();
                daemons.iter().try_for_each(|daemon| site.stop(daemon, "KILL"))?;
                std::thread::sleep(AWAY);
                daemons.iter().try_for_each(|daemon| site.restart(daemon))
            }
            Self::ClockJumps(node, seconds) => clock::set(site, node, *seconds),
        }
    }
}

/// The broker that is killed together with the agent of `node`: the nodes are random, so the broker is.
fn broker_beside(brokers: &[String], node: &str) -> Option<String> {
    let number: usize = node.trim_start_matches('n').parse().unwrap_or_default();
    brokers.get(number % brokers.len().max(1)).map(|broker| broker::name(broker))
}

/// Sets the faults of the mytoken server.
pub(super) fn set_faults(site: &Site, plan: &Plan) -> Result<()> {
    for fault in [
        json!({"name": "429", "percent": plan.refusals / 2.0}),
        json!({"name": "500-html", "percent": plan.refusals / 2.0}),
        json!({"name": "latency", "ms": HANG_MS, "percent": plan.hangs}),
    ] {
        control(site, "/mytoken/fault", Some(&fault.to_string()))?;
    }
    Ok(())
}

/// Ends all faults and the outage.
pub(super) fn end_faults(site: &Site) -> Result<()> {
    control(site, "/clear", Some("{}")).map(drop)
}

fn set_outage(site: &Site, on: bool) -> Result<()> {
    control(site, "/outage", Some(&json!({"service": "mytoken", "on": on}).to_string())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broker_is_killed_with_some_nodes() {
        let brokers = ["b1".to_owned(), "b2".to_owned()];
        assert_eq!(broker_beside(&brokers, "n3").as_deref(), Some("broker.b2"));
        assert_eq!(broker_beside(&brokers, "n4").as_deref(), Some("broker.b1"));
        assert_eq!(broker_beside(&[], "n4"), None);
    }

    #[test]
    fn trouble_comes_in_order_and_spares_two_agents() {
        let plan = Plan { clock_jump: -3600, ..Plan::short() };
        let all = of(&plan);
        assert!(all.is_sorted_by_key(|(at, _)| *at));
        let kills = all.iter().filter(|(_, trouble)| matches!(trouble, Trouble::Kill(_))).count();
        let jumps = all.iter().filter(|(_, trouble)| matches!(trouble, Trouble::ClockJumps(..))).count();
        assert_eq!((kills, jumps, all.len()), (5, 2, 9));
        assert!(!all.iter().any(|(_, trouble)| *trouble == Trouble::Kill("n1".into())));
        assert_eq!(of(&Plan { outage: 0, kill_every: 0, ..Plan::short() }), []);
    }
}
