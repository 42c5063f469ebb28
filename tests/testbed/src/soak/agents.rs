// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory, descriptors and threads the agents use.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

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

/// What agents use, by their names.
pub(super) type Reading = BTreeMap<String, Use>;

/// Readings of one sample. A request under way has a thread, a connection, memory and the descriptors of its client.
const READINGS: u32 = 4;

/// Time between readings.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a request of an agent takes at most, with some seconds to spare.
const LONGEST_REQUEST: Duration = Duration::from_secs(35);

/// What each agent uses in some seconds.
pub(super) fn sample(site: &Site) -> Result<Vec<Reading>> {
    (0..READINGS)
        .map(|_| {
            thread::sleep(PAUSE);
            read(site)
        })
        .collect()
}

/// What each agent uses at present.
pub(super) fn read(site: &Site) -> Result<Reading> {
    let script = format!(
        "cd {STATE_DIR}/pid; for name in agent agent.*; do pid=$(cat $name) || continue; \
         echo $name $pid $(awk '/^VmRSS:|^Threads:/ {{print $2}}' /proc/$pid/status) \
         $(cd /proc/$pid/fd && for fd in *; do readlink $fd | tr -d '0-9 '; done); done"
    );
    Ok(parse(&site.sh("root", &script)?.stdout))
}

fn parse(lines: &str) -> Reading {
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

/// The growth since the readings in `before`, when nothing is to be done. A request that the server does not answer keeps its thread, its
/// connection and the descriptors of its client until the agent gives up: while there is growth, it is measured again. What leaks stays.
///
/// # Errors
/// When the agents cannot be looked at.
pub(super) fn growth_after(before: &[Reading], site: &Site) -> Result<Growth> {
    let last = Instant::now() + LONGEST_REQUEST;
    loop {
        let growth = growth(before, &sample(site)?);
        if (growth.threads == 0 && growth.descriptors == 0) || Instant::now() > last {
            return Ok(growth);
        }
    }
}

/// Compares two samples: the least of a later reading with the most of an earlier one, because what leaks is there at each reading. Agents
/// that were started after the first reading are left out: one without work uses less, and that is no measure for its growth.
fn growth(before: &[Reading], after: &[Reading]) -> Growth {
    let mut growth = Growth::default();
    for (name, known) in before.first().into_iter().flatten() {
        let of = |readings: &[Reading]| -> Vec<Use> {
            readings.iter().filter_map(|reading| reading.get(name)).cloned().collect()
        };
        let (before, after) = (of(before), of(after));
        if before.iter().chain(&after).any(|used| used.pid != known.pid) {
            continue;
        }
        let (Some(open_before), Some(open_after)) =
            (before.iter().max_by_key(|used| used.open()), after.iter().min_by_key(|used| used.open()))
        else {
            continue;
        };
        let more = |figure: fn(&Use) -> i64| {
            let most = before.iter().map(figure).max().unwrap_or_default();
            after.iter().map(figure).min().unwrap_or_default() - most
        };
        growth.agents += 1;
        growth.rss = growth.rss.max(more(|used| used.rss));
        growth.threads = growth.threads.max(more(|used| used.threads));
        if more(Use::open) > growth.descriptors {
            growth.descriptors = more(Use::open);
            growth.kinds = difference(&open_before.descriptors, &open_after.descriptors);
        }
    }
    growth
}

impl Use {
    /// Number of open descriptors.
    fn open(&self) -> i64 {
        self.descriptors.values().sum()
    }
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
            growth(&[before], &[after]),
            Growth { agents: 2, rss: 100, descriptors: 2, threads: 1, kinds: kinds.into() }
        );
    }

    #[test]
    fn what_is_there_at_some_readings_only_is_no_growth() {
        let agent = |used: &str| parse(&format!("agent.n1 {used}"));
        let before = [agent("10 5000 8 a"), agent("10 5300 9 a a a"), agent("10 5000 8 a")];
        let after = [agent("10 9000 9 a a a a a"), agent("10 5400 9 a a a b"), agent("10 9000 12 a a a a a a")];
        let kinds = [("b".to_owned(), 1)].into();
        assert_eq!(growth(&before, &after), Growth { agents: 1, rss: 100, descriptors: 1, threads: 0, kinds });
        // The process of the first reading was another one.
        let before = [agent("9 5000 8 a"), agent("10 5000 8 a")];
        assert_eq!(growth(&before, &after), Growth::default());
    }
}
