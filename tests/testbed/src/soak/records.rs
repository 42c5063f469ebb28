// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of tasks, from the users' home directories.

use std::time::Duration;

use super::task::{self, Line, RECORDS, Seen};
use crate::site::services::syslog::LOG;
use crate::{Result, Site};

/// The record of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name that the submission gave it.
    pub tag: String,
    /// The id of the job.
    pub job: String,
    /// The node.
    pub node: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

impl Record {
    /// What the task saw, with the times in Unix milliseconds.
    #[must_use]
    pub fn readings(&self) -> Vec<(u64, Seen)> {
        let reading = |line: &Line| if let Line::Read(time, seen) = line { Some((*time, *seen)) } else { None };
        self.lines.iter().filter_map(reading).collect()
    }

    /// Whether the task has reached its end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lines.contains(&Line::End)
    }

    /// Whether the task saw a valid token whenever it looked, and it looked. The first one may be so late.
    #[must_use]
    pub fn always_has_token(&self, late: Duration) -> bool {
        let readings = self.readings();
        let begin = readings.first().map_or(0, |(time, _)| *time);
        let is_late = |(time, seen): &&(u64, Seen)| {
            *seen == Seen::Missing && u128::from(time.saturating_sub(begin)) < late.as_millis()
        };
        let mut rest = readings.iter().skip_while(is_late).peekable();
        rest.peek().is_some() && rest.all(|(_, seen)| *seen == Seen::Valid)
    }
}

/// The records of all tasks of all users.
///
/// # Errors
/// When they cannot be read.
pub fn read(site: &Site) -> Result<Vec<Record>> {
    let print = format!(
        "cd /home && for file in */{RECORDS}/*.*.*.*; do test -e $file && echo \"file $file\" && cat $file; done; true"
    );
    Ok(parse(&site.sh("root", &print)?.ok()?.stdout))
}

/// What is known of a submission that was lost: the last lines of its tasks, what Slurm's programs printed, and its jobs in the logs of
/// slurmctld and the nodes.
///
/// # Errors
/// When it cannot be read.
pub(super) fn of_lost(site: &Site, tag: &str) -> Result<String> {
    let print = format!(
        "cd /home && tail -n 3 */{RECORDS}/{tag}.*.*.* && tail -n 80 */{RECORDS}/{tag}.*.out;
         for job in $(ls */{RECORDS} | sed -n 's/^{tag}\\.\\([0-9]*\\)\\..*/\\1/p' | sort -u); do
             scontrol show job $job | grep -E 'JobState|Reason|ExitCode|EndTime';
             grep -E \"[=(]$job\\b\" /var/log/slurmctld.log;
             grep -E \"[=([]$job\\b\" /var/log/slurm/slurmd.*.log;
         done 2>&1; true"
    );
    Ok(site.sh("root", &print)?.stdout)
}

/// What the agents logged from half a minute before a time until some seconds after it, Unix milliseconds. All of them: a component of a
/// heterogeneous job has the id of its leader in its environment, and another one in the log.
///
/// # Errors
/// When it cannot be read.
pub(super) fn logged(site: &Site, (from, to): (u64, u64)) -> Result<String> {
    let (from, to) = ((from / 1000).saturating_sub(30), to / 1000 + 5);
    let print = format!(
        "awk -v from=$(date -d @{from} +%T) -v to=$(date -d @{to} +%T) '/mytokend/ && $4 >= from && $4 <= to' {LOG}"
    );
    Ok(site.sh("root", &print)?.stdout)
}

/// What the batch jobs printed.
///
/// # Errors
/// When it cannot be read.
pub(super) fn printed(site: &Site) -> Result<String> {
    Ok(site.sh("root", &format!("cat /home/*/{RECORDS}/*.out; true"))?.stdout)
}

fn parse(printed: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for line in printed.lines() {
        if let Some(path) = line.strip_prefix("file ") {
            records.extend(of_file(path));
        } else if let Some(record) = records.last_mut() {
            record.lines.extend(task::parse(line));
        }
    }
    records
}

/// The name of a file is that of the submission, the job's id, the node and the process id.
fn of_file(path: &str) -> Option<Record> {
    let mut parts = path.rsplit('/').next()?.split('.').map(str::to_owned);
    Some(Record { tag: parts.next()?, job: parts.next()?, node: parts.next()?, lines: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_token_may_be_late() {
        let has = |seen: &[(u64, Seen)]| {
            let lines = seen.iter().map(|(time, seen)| Line::Read(*time, *seen)).collect();
            let name = String::new;
            Record { tag: name(), job: name(), node: name(), lines }.always_has_token(Duration::from_secs(2))
        };
        let (missing, valid) = (Seen::Missing, Seen::Valid);
        assert!(has(&[(5_000, valid), (6_000, valid)]));
        assert!(has(&[(5_000, missing), (6_000, missing), (6_500, valid)]));
        for wrong in [
            &[][..],
            &[(5_000, missing)],
            &[(5_000, missing), (7_000, missing), (7_500, valid)],
            &[(5_000, valid), (6_000, missing), (6_500, valid)],
            &[(5_000, valid), (6_000, Seen::Expired)],
            &[(5_000, Seen::NoCredential)],
        ] {
            assert!(!has(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn records_are_read_with_their_names() {
        let records = parse("file alice/soak/a.7.n1.99\n1000 valid\nend\nfile bob/soak/b.8.n2.1\n2000 missing\n20");
        let shown: Vec<_> = records
            .iter()
            .map(|record| (&*record.tag, &*record.job, &*record.node, record.readings(), record.has_ended()))
            .collect();
        assert_eq!(
            shown,
            [("a", "7", "n1", vec![(1000, Seen::Valid)], true), ("b", "8", "n2", vec![(2000, Seen::Missing)], false)]
        );
    }
}
