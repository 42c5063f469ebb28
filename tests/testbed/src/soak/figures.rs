// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts what a soak has shown. Pure: records, journal and lists come in as parameters.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::agents::Growth;
use super::records::Record;
use super::task::Seen;
use crate::drive::journal::SubToken;

/// The numbers of a soak.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Whether clocks jumped.
    pub clock_jumped: bool,
    /// Number of submissions.
    pub submissions: usize,
    /// Submissions of which a task did not reach its end.
    pub lost: Vec<String>,
    /// Number of tasks that ran.
    pub tasks: usize,
    /// Tasks without `BEARER_TOKEN_FILE`.
    pub tasks_without_credential: usize,
    /// Submissions with such a task.
    pub without_credential: BTreeSet<String>,
    /// Why submissions had no credential, in the words of the plugin, each with its number.
    pub reasons: BTreeMap<String, usize>,
    /// Number of readings of the token file.
    pub readings: usize,
    /// Readings that found an expired token.
    pub expired: usize,
    /// Tasks of submissions that the outage did not meet.
    pub tasks_outside: usize,
    /// Those of them without `BEARER_TOKEN_FILE`.
    pub without_outside: usize,
    /// The longest time without a valid token after a first one, in seconds, without what lies in the outage or goes over its end.
    pub longest_gap: f64,
    /// The same from the begin of a task to its first token.
    pub latest_first: f64,
    /// The tasks that had these.
    pub longest_waits: BTreeMap<&'static str, Waited>,
    /// The longest time without a valid token after the end of the outage, of gaps that began before it, in seconds.
    pub longest_after_outage: f64,
    /// Files that were left in the directories of jobs.
    pub files_left: usize,
    /// Sub-tokens that were made.
    pub sub_tokens: usize,
    /// Sub-tokens that the server lists at the end and that have given an access token.
    pub alive: usize,
    /// Those that have given none, although somebody got them: their job has not begun, or its submission gave up.
    pub alive_unused: usize,
    /// Those whose answer was lost: the outage, a killed program or one that gave up closed the connection. Nobody can revoke them.
    pub alive_unknown: usize,
    /// The largest number of revocations of one sub-token that were answered in time.
    pub most_revocations: usize,
    /// The same with those that hung. Whoever sent one does not know whether it has arrived, and sends it again.
    pub most_with_late: usize,
    /// Sub-tokens that were revoked more than once.
    pub revoked_again: usize,
    /// Nodes that Slurm has drained or lost.
    pub nodes_out: usize,
    /// Growth of the agents that were not killed.
    pub growth: Growth,
}

/// What the plugin says of a submission when the server is in trouble, and of a step whose job has no credential.
const TROUBLE: [&str; 2] = ["try again later", "steps only use the credential of their job"];

/// A time without a valid token: begin and end, Unix milliseconds.
type Gap = (u64, u64);

/// A task that was without a valid token for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The name of its submission.
    pub tag: String,
    /// The id of its job.
    pub job: String,
    /// Its node.
    pub node: String,
    /// Begin and end, Unix milliseconds.
    pub from_to: (u64, u64),
}

/// What is known of a submission before its tasks run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub tag: String,
    /// Number of tasks that must reach their end.
    pub tasks: usize,
    /// The server was away when it was made, or soon after.
    pub meets_outage: bool,
}

impl Figures {
    /// Adds the records of the tasks. `outage` is its begin and end.
    pub(super) fn add_records(&mut self, records: &[Record], expected: &[Expected], outage: Option<Gap>) {
        let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
        let met: BTreeSet<&str> = expected.iter().filter(|one| one.meets_outage).map(|one| &*one.tag).collect();
        for record in records {
            let is_outside = usize::from(!met.contains(&*record.tag));
            self.tasks += 1;
            self.tasks_outside += is_outside;
            let seen = record.readings();
            *ends.entry(&record.tag).or_default() += usize::from(record.has_ended());
            if seen.iter().any(|(_, seen)| *seen == Seen::NoCredential) {
                self.tasks_without_credential += 1;
                self.without_outside += is_outside;
                self.without_credential.insert(record.tag.clone());
                continue;
            }
            self.readings += seen.len();
            self.expired += seen.iter().filter(|(_, seen)| *seen == Seen::Expired).count();
            for (is_first, gap) in gaps(&seen) {
                if self.add_gap(is_first, gap, outage) {
                    let (tag, job, node) = (record.tag.clone(), record.job.clone(), record.node.clone());
                    let kind = if is_first { "a first token" } else { "a further token" };
                    self.longest_waits.insert(kind, Waited { tag, job, node, from_to: gap });
                }
            }
        }
        let is_lost = |one: &&Expected| ends.get(&*one.tag).copied().unwrap_or_default() < one.tasks;
        self.lost = expected.iter().filter(is_lost).map(|one| one.tag.clone()).collect();
        self.submissions = expected.len();
    }

    /// `is_first`: until the first token. Returns whether this is the longest gap of its kind until now.
    fn add_gap(&mut self, is_first: bool, (begin, end): Gap, outage: Option<Gap>) -> bool {
        let outside = match outage {
            Some((from, to)) if begin < to && end > from => {
                self.longest_after_outage = self.longest_after_outage.max(seconds(end.saturating_sub(to)));
                seconds(from.saturating_sub(begin))
            }
            _ => seconds(end.saturating_sub(begin)),
        };
        let longest = if is_first { &mut self.latest_first } else { &mut self.longest_gap };
        let is_longer = outside > *longest;
        *longest = longest.max(outside);
        is_longer
    }

    /// Adds the reasons that the programs of Slurm have printed.
    pub(super) fn add_reasons<'t>(&mut self, printed: impl Iterator<Item = &'t String>) {
        for line in printed.flat_map(|text| text.lines()) {
            if let Some((_, reason)) = line.split_once("no credential: ") {
                *self.reasons.entry(reason.to_owned()).or_default() += 1;
            }
        }
    }

    /// Submissions without a credential of which the plugin did not say that the server was in trouble.
    #[must_use]
    pub fn unexplained(&self) -> usize {
        let count = |trouble: bool| -> usize {
            let is_meant = |reason: &str| TROUBLE.iter().any(|text| reason.contains(text)) == trouble;
            self.reasons.iter().filter(|(reason, _)| is_meant(reason)).map(|(_, count)| count).sum()
        };
        self.without_credential.len().saturating_sub(count(true)).max(count(false))
    }

    /// Adds the sub-tokens of the journal, and the `mom_id` of those that the server lists at the end.
    pub(super) fn add_sub_tokens(&mut self, made: &[SubToken], alive: &[String]) {
        let revocations = || made.iter().map(|token| token.revocations);
        let in_time = |token: &SubToken| token.revocations.saturating_sub(token.late_revocations);
        self.sub_tokens = made.len();
        self.most_revocations = made.iter().map(in_time).max().unwrap_or_default();
        self.most_with_late = revocations().max().unwrap_or_default();
        self.revoked_again = revocations().filter(|count| *count > 1).count();
        let alive: HashSet<&String> = alive.iter().collect();
        for mom_id in alive {
            let known = made.iter().find(|token| token.mom_id == *mom_id);
            if known.is_some_and(|token| token.access_tokens > 0) {
                self.alive += 1;
            } else if known.is_none_or(|token| token.sent) {
                self.alive_unused += 1;
            } else {
                self.alive_unknown += 1;
            }
        }
    }
}

/// The times without a valid token: from the first reading without one to the next reading with one, or to the last reading. The first value:
/// no reading before had one.
fn gaps(seen: &[(u64, Seen)]) -> Vec<(bool, Gap)> {
    let mut found = Vec::new();
    let (mut begin, mut is_first) = (None, true);
    for (time, seen) in seen {
        match (seen, begin) {
            (Seen::Valid, Some(from)) => {
                found.push((is_first, (from, *time)));
                (begin, is_first) = (None, false);
            }
            (Seen::Valid, None) => is_first = false,
            (_, None) => begin = Some(*time),
            (_, Some(_)) => {}
        }
    }
    if let (Some(from), Some((last, _))) = (begin, seen.last()) {
        found.push((is_first, (from, *last)));
    }
    found
}

/// Exact below 2^53 ms.
#[allow(clippy::cast_precision_loss)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::task::Line;
    use super::*;

    fn record(tag: &str, lines: &[(u64, Seen)], ends: bool) -> Record {
        let read = lines.iter().map(|(time, seen)| Line::Read(*time, *seen));
        Record {
            tag: tag.into(),
            job: "1".into(),
            node: "n1".into(),
            lines: read.chain(ends.then_some(Line::End)).collect(),
        }
    }

    #[test]
    fn a_gap_lasts_until_the_next_valid_token() {
        let seen = [
            (1, Seen::Missing),
            (5, Seen::Expired),
            (9, Seen::Valid),
            (12, Seen::Valid),
            (20, Seen::Expired),
            (31, Seen::Missing),
        ];
        assert_eq!(gaps(&seen), [(true, (1, 9)), (false, (20, 31))]);
        assert_eq!(gaps(&[(1, Seen::Valid), (2, Seen::Missing), (5, Seen::Valid)]), [(false, (2, 5))]);
        assert_eq!(gaps(&[(1, Seen::Missing), (4, Seen::Missing)]), [(true, (1, 4))]);
        assert_eq!(gaps(&[]), []);
    }

    #[test]
    fn gaps_in_the_outage_count_only_outside_of_it() {
        let mut figures = Figures::default();
        for gap in [(1_000, 4_000), (9_000, 13_000), (15_000, 26_000), (22_000, 23_500)] {
            figures.add_gap(false, gap, Some((10_000, 20_000)));
        }
        assert_eq!((figures.longest_gap, figures.longest_after_outage), (3.0, 6.0));
        assert!(figures.add_gap(false, (9_000, 13_000), None) && figures.add_gap(true, (9_000, 12_000), None));
        assert!(!figures.add_gap(false, (9_000, 12_500), None));
        assert_eq!((figures.longest_gap, figures.latest_first), (4.0, 3.0));
    }

    #[test]
    fn a_submission_is_lost_when_a_task_of_it_has_no_end() {
        let records = [
            record("one", &[(1, Seen::Valid), (2, Seen::Expired)], true),
            record("two", &[(1, Seen::Valid)], true),
            record("two", &[(1, Seen::Valid)], false),
            record("four", &[(1, Seen::NoCredential)], true),
            record("five", &[(1, Seen::NoCredential)], true),
        ];
        let expected = [("one", 1), ("two", 2), ("three", 1), ("four", 1), ("five", 1)].map(|(tag, tasks)| Expected {
            tag: tag.to_owned(),
            tasks,
            meets_outage: tag == "four",
        });
        let mut figures = Figures::default();
        figures.add_records(&records, &expected, None);
        assert_eq!((figures.submissions, figures.tasks, figures.readings, figures.expired), (5, 5, 4, 1));
        assert_eq!((figures.tasks_outside, figures.without_outside), (4, 1));
        assert_eq!((figures.lost, figures.tasks_without_credential), (vec!["two".to_owned(), "three".to_owned()], 2));
    }

    #[test]
    fn a_submission_without_a_credential_has_a_reason() {
        let mut figures = Figures::default();
        let records = ["one", "one", "two"].map(|tag| record(tag, &[(1, Seen::NoCredential)], true));
        figures.add_records(&records, &[], None);
        assert_eq!(figures.unexplained(), 2);
        let line =
            |reason: &str| format!("sbatch: error: mytoken: no credential: {reason} (submitting without)\nother");
        figures.add_reasons([line("the server did not answer within 10 s; try again later")].iter());
        assert_eq!(figures.unexplained(), 1);
        figures.add_reasons([line("the server cannot be reached; try again later")].iter());
        assert_eq!(figures.unexplained(), 0);
        figures.add_reasons([line("mytoken-submit was ended by signal 9")].iter());
        assert_eq!(figures.unexplained(), 1);
    }

    #[test]
    fn revocations_are_counted_for_each_sub_token() {
        let token = |revocations| SubToken {
            fingerprint: String::new(),
            mom_id: String::new(),
            parent: String::new(),
            access_tokens: 1,
            refused: 0,
            revocations,
            late_revocations: 0,
            sent: true,
        };
        let count = |made: &[SubToken], alive: &[&str]| {
            let mut figures = Figures::default();
            figures.add_sub_tokens(made, &alive.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            figures
        };
        let repeated = SubToken { late_revocations: 2, ..token(5) };
        let figures = count(&[token(0), token(1), repeated, token(2)], &["m", "m"]);
        assert_eq!((figures.sub_tokens, figures.alive, figures.alive_unused, figures.alive_unknown), (4, 0, 1, 0));
        assert_eq!((figures.most_revocations, figures.most_with_late, figures.revoked_again), (3, 5, 2));
        let named = |name: &str| SubToken { mom_id: name.to_owned(), ..token(0) };
        let unused = SubToken { access_tokens: 0, ..named("u") };
        let lost = SubToken { access_tokens: 0, sent: false, ..named("l") };
        let figures = count(&[named("m"), unused, lost], &["m", "u", "l", "k"]);
        assert_eq!((figures.alive, figures.alive_unused, figures.alive_unknown), (1, 2, 1));
    }
}
