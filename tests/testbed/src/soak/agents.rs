// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory, descriptors and threads the agents use.

use std::collections::BTreeMap;

use crate::site::plan::STATE_DIR;
use crate::{Result, Site};

/// What one agent uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    pid: u32,
    /// Resident memory in KiB.
    rss: i64,
    descriptors: i64,
    threads: i64,
}

/// The largest growth of an agent that was not killed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// Number of agents that were compared.
    pub agents: usize,
    /// Resident memory in KiB.
    pub rss: i64,
    /// Open descriptors.
    pub descriptors: i64,
    /// Threads.
    pub threads: i64,
}

/// What each agent uses at present, by its name.
pub(super) fn sample(site: &Site) -> Result<BTreeMap<String, Use>> {
    let script = format!(
        "cd {STATE_DIR}/pid; for name in agent agent.*; do pid=$(cat $name) || continue; \
         echo $name $pid $(awk '/^VmRSS:|^Threads:/ {{print $2}}' /proc/$pid/status) $(ls /proc/$pid/fd | wc -l); done"
    );
    Ok(parse(&site.sh("root", &script)?.stdout))
}

fn parse(lines: &str) -> BTreeMap<String, Use> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let mut number = || words.next()?.parse::<i64>().ok();
        let (pid, rss, threads, descriptors) = (number()?, number()?, number()?, number()?);
        Some((name, Use { pid: u32::try_from(pid).ok()?, rss, descriptors, threads }))
    };
    lines.lines().filter_map(line).collect()
}

/// Compares two samples. Agents that were started in between are left out.
pub(super) fn growth(before: &BTreeMap<String, Use>, after: &BTreeMap<String, Use>) -> Growth {
    let mut growth = Growth::default();
    for (name, before) in before {
        let Some(after) = after.get(name).filter(|after| after.pid == before.pid) else { continue };
        growth.agents += 1;
        growth.rss = growth.rss.max(after.rss - before.rss);
        growth.descriptors = growth.descriptors.max(after.descriptors - before.descriptors);
        growth.threads = growth.threads.max(after.threads - before.threads);
    }
    growth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_growth_of_agents_that_live_on_counts() {
        let before = parse("agent.n1 10 5000 8 20\nagent.n2 11 5000 8 20\nagent.n3 12 5000 8 20\nagent.n4 broken\n");
        let after = parse("agent.n1 10 5100 8 19\nagent.n2 11 4000 9 25\nagent.n3 99 9000 50 90\n");
        assert_eq!(growth(&before, &after), Growth { agents: 2, rss: 100, descriptors: 5, threads: 1 });
    }
}
