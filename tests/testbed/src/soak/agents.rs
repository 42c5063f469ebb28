// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory, descriptors and threads the agents use.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::site::plan::STATE_DIR;
use crate::{Result, Site};

/// What one agent uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    pid: u32,
    /// Resident memory in KiB.
    rss: i64,
    threads: i64,
    /// Number of open descriptors of each kind: the target of the link in /proc, without its numbers.
    descriptors: BTreeMap<String, i64>,
}

/// The largest growth of an agent that was not killed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    /// Number of agents that were compared.
    pub agents: usize,
    /// Resident memory in KiB.
    pub rss: i64,
    /// Open descriptors.
    pub descriptors: i64,
    /// Of the agent with the most new descriptors: their kinds, each with its growth.
    pub kinds: BTreeMap<String, i64>,
    /// Threads.
    pub threads: i64,
}

/// Readings of one sample. A request under way has a thread, a connection and the descriptors of its client, which are gone with it; what
/// leaks is there at each reading.
const READINGS: u32 = 4;

/// Time between readings.
const PAUSE: Duration = Duration::from_secs(1);

/// What each agent uses when it uses least in some seconds, by its name.
pub(super) fn sample(site: &Site) -> Result<BTreeMap<String, Use>> {
    let mut least = read(site)?;
    for _ in 1..READINGS {
        thread::sleep(PAUSE);
        for (name, used) in read(site)? {
            match least.get_mut(&name) {
                Some(known) => known.lower(used),
                None => _ = least.insert(name, used),
            }
        }
    }
    Ok(least)
}

impl Use {
    /// Takes over what is less in another reading of the same process.
    fn lower(&mut self, other: Self) {
        if other.pid != self.pid {
            *self = other;
            return;
        }
        self.rss = self.rss.min(other.rss);
        self.threads = self.threads.min(other.threads);
        if other.open() < self.open() {
            self.descriptors = other.descriptors;
        }
    }

    /// Number of open descriptors.
    fn open(&self) -> i64 {
        self.descriptors.values().sum()
    }
}

/// What each agent uses at present.
fn read(site: &Site) -> Result<BTreeMap<String, Use>> {
    let script = format!(
        "cd {STATE_DIR}/pid; for name in agent agent.*; do pid=$(cat $name) || continue; \
         echo $name $pid $(awk '/^VmRSS:|^Threads:/ {{print $2}}' /proc/$pid/status) \
         $(cd /proc/$pid/fd && for fd in *; do readlink $fd | tr -d '0-9 '; done); done"
    );
    Ok(parse(&site.sh("root", &script)?.stdout))
}

fn parse(lines: &str) -> BTreeMap<String, Use> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let mut number = || words.next()?.parse::<i64>().ok();
        let (pid, rss, threads) = (number()?, number()?, number()?);
        let mut descriptors = BTreeMap::new();
        for kind in words {
            *descriptors.entry(kind.to_owned()).or_default() += 1;
        }
        Some((name, Use { pid: u32::try_from(pid).ok()?, rss, threads, descriptors }))
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
        growth.threads = growth.threads.max(after.threads - before.threads);
        let more = after.open() - before.open();
        if more > growth.descriptors {
            growth.descriptors = more;
            growth.kinds = difference(&before.descriptors, &after.descriptors);
        }
    }
    growth
}

/// The kinds of which the number changed, each with the change.
fn difference(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let number = |of: &BTreeMap<String, i64>, kind: &str| of.get(kind).copied().unwrap_or_default();
    let kinds = before.keys().chain(after.keys());
    kinds
        .map(|kind| (kind.clone(), number(after, kind) - number(before, kind)))
        .filter(|(_, change)| *change != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_growth_of_agents_that_live_on_counts() {
        let before = parse(
            "agent.n1 10 5000 8 a b\nagent.n2 11 5000 8 socket:[] /dev/null\nagent.n3 12 5000 8 a\nagent.n4 broken\n",
        );
        let after = parse(
            "agent.n1 10 5100 8 a\nagent.n2 11 4000 9 socket:[] socket:[] socket:[] pipe:[]\nagent.n3 99 9000 50 a a a a a\n",
        );
        let kinds = [("/dev/null", -1), ("pipe:[]", 1), ("socket:[]", 2)].map(|(kind, more)| (kind.to_owned(), more));
        assert_eq!(
            growth(&before, &after),
            Growth { agents: 2, rss: 100, descriptors: 2, threads: 1, kinds: kinds.into() }
        );
    }

    #[test]
    fn what_is_gone_at_another_reading_is_no_growth_and_another_process_is_another_agent() {
        let one = |line: &str| parse(line).remove("agent.n1").unwrap();
        let mut used = one("agent.n1 10 5000 9 a a a");
        used.lower(one("agent.n1 10 5100 8 a b"));
        assert_eq!(used, one("agent.n1 10 5000 8 a b"));
        used.lower(one("agent.n1 10 5000 8 a b c d"));
        assert_eq!(used, one("agent.n1 10 5000 8 a b"));
        used.lower(one("agent.n1 11 9000 9 a b c d"));
        assert_eq!(used, one("agent.n1 11 9000 9 a b c d"));
    }
}
