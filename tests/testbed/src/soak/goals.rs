// SPDX-License-Identifier: MIT OR Apache-2.0
//! The goals of a soak, as a table: what is wanted, and what holds today.

use std::fmt;

use super::figures::Figures;

/// One goal: a number that a figure must not exceed.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// The name of the figure.
    pub name: &'static str,
    figure: fn(&Figures) -> f64,
    /// The baseline, from before a lease belonged to a submission: eight nodes, five minutes, without a jump of the clock.
    before: Option<f64>,
    /// What the product must hold.
    wanted: f64,
    /// What it holds today, with room for a busy machine: without a jump of the clock, and with one. A soak fails when a
    /// figure exceeds it. It becomes smaller with the product, until it is what is wanted.
    today: [f64; 2],
}

/// The goals. Times are in seconds. What is not as wanted: a submission that is made during the outage, or both of whose requests fail, runs
/// without a credential unless it requires one. A sub-token whose answer was lost stays until it expires, because nobody knows it: how many
/// there are depends on the faults alone, so they are told and have no goal.
///
/// Up to three hosts revoke a sub-token. A request without an answer, because it hung or its agent was killed, may not have arrived, so it
/// is sent again: it does not count here, and no rule can limit it without losing a revocation.
///
/// Without a jump of the clock, a soak is short: an agent's first sample comes before all of its 24 threads for tokens have had work, and
/// each of them takes some 300 KiB for good with its first request.
#[rustfmt::skip]
pub const GOALS: &[Goal] = &[
    Goal { name: "jobs lost", figure: |f| count(f.lost.len()), before: Some(0.0), wanted: 0.0, today: [0.0, 0.0] },
    Goal { name: "readings of an expired token", figure: |f| count(f.expired), before: Some(70.0), wanted: 0.0, today: [0.0, 0.0] },
    Goal { name: "longest wait for a further token, s", figure: |f| f.longest_gap, before: Some(57.8), wanted: 5.0, today: [5.0, 5.0] },
    Goal { name: "longest wait for a first token, s", figure: |f| f.latest_first, before: None, wanted: 5.0, today: [5.0, 5.0] },
    Goal { name: "the same after the outage, s", figure: |f| f.longest_after_outage, before: None, wanted: 10.0, today: [10.0, 10.0] },
    Goal { name: "tasks without a credential, %", figure: share_without, before: Some(22.7), wanted: 0.0, today: [40.0, 20.0] },
    Goal { name: "those that no outage met, %", figure: share_outside, before: None, wanted: 0.0, today: [20.0, 5.0] },
    Goal { name: "those without a reason", figure: |f| count(f.unexplained()), before: None, wanted: 0.0, today: [0.0, 0.0] },
    Goal { name: "files left", figure: |f| count(f.files_left), before: None, wanted: 0.0, today: [0.0, 0.0] },
    Goal { name: "used sub-tokens alive at the end", figure: |f| count(f.alive), before: Some(1.0), wanted: 0.0, today: [0.0, 0.0] },
    Goal { name: "unused sub-tokens alive at the end", figure: |f| count(f.alive_unused), before: None, wanted: 0.0, today: [0.0, 0.0] },
    Goal { name: "most answered revocations of one", figure: |f| count(f.most_revocations), before: None, wanted: 3.0, today: [3.0, 3.0] },
    Goal { name: "nodes drained or lost", figure: |f| count(f.nodes_out), before: None, wanted: 0.0, today: [0.0, 0.0] },
    Goal { name: "growth of an agent, KiB", figure: |f| signed(f.growth.rss), before: None, wanted: 4096.0, today: [12288.0, 4096.0] },
    Goal { name: "growth of an agent, descriptors", figure: |f| signed(f.growth.descriptors), before: None, wanted: 4.0, today: [4.0, 4.0] },
    Goal { name: "growth of an agent, threads", figure: |f| signed(f.growth.threads), before: None, wanted: 2.0, today: [2.0, 2.0] },
];

#[allow(clippy::cast_precision_loss)]
fn count(number: usize) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss)]
fn signed(number: i64) -> f64 {
    number as f64
}

fn share_without(figures: &Figures) -> f64 {
    100.0 * count(figures.tasks_without_credential) / count(figures.tasks.max(1))
}

fn share_outside(figures: &Figures) -> f64 {
    100.0 * count(figures.without_outside) / count(figures.tasks_outside.max(1))
}

impl Goal {
    /// The figure.
    #[must_use]
    pub fn measured(&self, figures: &Figures) -> f64 {
        (self.figure)(figures)
    }

    /// Whether the figure is worse than it is today.
    #[must_use]
    pub fn is_missed(&self, figures: &Figures) -> bool {
        self.measured(figures) > self.today(figures)
    }

    fn today(&self, figures: &Figures) -> f64 {
        let [without_jump, with_jump] = self.today;
        if figures.clock_jumped { with_jump } else { without_jump }
    }
}

/// The names of the figures that are worse than they are today.
#[must_use]
pub fn missed(figures: &Figures) -> Vec<&'static str> {
    GOALS.iter().filter(|goal| goal.is_missed(figures)).map(|goal| goal.name).collect()
}

/// The figures beside their goals, for a terminal.
#[derive(Debug)]
pub struct Table<'f>(pub &'f Figures);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.0;
        writeln!(f, "{:<36}{:>10}{:>10}{:>10}{:>10}", "", "measured", "before", "wanted", "at most")?;
        for goal in GOALS {
            let measured = goal.measured(figures);
            let before = goal.before.map_or_else(|| "-".to_owned(), |before| format!("{before:.1}"));
            let note = if goal.is_missed(figures) {
                "  MISSED"
            } else if measured > goal.wanted {
                "  not yet as wanted"
            } else {
                ""
            };
            let (name, wanted, today) = (goal.name, goal.wanted, goal.today(figures));
            writeln!(f, "{name:<36}{measured:>10.1}{before:>10}{wanted:>10.1}{today:>10.1}{note}")?;
        }
        writeln!(
            f,
            "{} submissions (before: 148), {} tasks, {} of them without a credential (before: 45 of 198), {} readings",
            figures.submissions, figures.tasks, figures.tasks_without_credential, figures.readings
        )?;
        write!(
            f,
            "{} sub-tokens, {} revoked more than once, one {} times with the requests that hung; {} whose answer was lost are \
             alive; {} agents were not killed, new descriptors of the one with most: {:?}; lost: {:?}; no credential, \
             because: {:?}",
            figures.sub_tokens,
            figures.revoked_again,
            figures.most_with_late,
            figures.alive_unknown,
            figures.growth.agents,
            figures.growth.kinds,
            figures.lost,
            figures.reasons
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_worse_than_today_is_missed() {
        assert_eq!(missed(&Figures::default()), [""; 0]);
        let bad = Figures { lost: vec!["short3".into()], nodes_out: 1, ..Figures::default() };
        assert_eq!(missed(&bad), ["jobs lost", "nodes drained or lost"]);
        let table = Table(&bad).to_string();
        assert!(table.contains("MISSED") && table.contains("[\"short3\"]"), "{table}");
    }

    #[test]
    fn no_goal_of_today_is_stricter_than_what_is_wanted() {
        for goal in GOALS {
            assert!(goal.today.iter().all(|today| *today >= goal.wanted), "{}", goal.name);
        }
    }
}
