// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides from squeue's output whether a submission is final, and whether this node revokes its sub-token.
//!
//! The command is `squeue --noheader --states=all --user=UID --format=...` ([`FORMAT`]): all jobs of the user, because slurmctld answers
//! about a job's id alone with that job, and an array or a heterogeneous job has several. `scontrol show job` is not used, because its
//! output begins with the job's name, which the user chooses (SLURM-25).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::host_list;
use super::known_nodes::{KnownNodes, RANKS};
use super::submission_time::SubmissionTime;

/// The format for `squeue`: job id, id as Slurm prints it, state, times of submission and end, nodes, host of the batch script. Users can choose
/// the text of the last field only: for a job of salloc or srun it is the name that the command gave for its own host (SLURM-26).
pub const FORMAT: &str = "%A|%i|%T|%V|%e|%N|%B";

/// The format of the times in [`FORMAT`], for `SLURM_TIME_FORMAT`: Unix seconds.
pub const TIME_FORMAT: &str = "%s";

/// What an agent knows of a submission that had jobs on its node.
#[derive(Debug, Clone, Default)]
pub struct HeldSubmission {
    /// Jobs that ran here.
    pub jobs: BTreeSet<u32>,
    /// Ids under which slurmctld lists the jobs: of an array the array job, of a heterogeneous job the leader.
    pub leaders: BTreeSet<u32>,
    /// Begin and end of the time in which further jobs with the same credential may have been submitted, Unix seconds of slurmctld's
    /// clock.
    pub submitted: Option<(u64, u64)>,
    /// slurmctld was asked after that time. [`Self::leaders`] has all jobs that share the credential.
    pub complete: bool,
    /// The agent of the host of the submission follows it, too.
    pub followed: bool,
    /// This node is the host of the submission: there is no agent that follows it besides this one.
    pub made_here: bool,
    /// Nodes of its jobs.
    pub known: KnownNodes,
    /// The credential has replaced another one while its job ran: only the nodes of that run have it.
    pub replaces: bool,
}

/// What the agent of the host of a submission has seen of its jobs. It does not know their ids: they were submitted in a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// No job so far.
    Nothing,
    /// Jobs that have not started.
    Waiting,
    /// Jobs that got nodes. Whether their programs have begun is not seen: a prolog may still run, or fail (SLURM-75).
    Assigned,
    /// Jobs whose programs have run on nodes. The agents there that could open the credential revoke it.
    Started,
    /// Jobs that got nodes, and it is not sure that an agent holds the credential: they may have been ended during the prolog, the command
    /// of salloc may start no step, a node was lost, or jobs without this credential were submitted at the same time.
    Unsure,
}

/// What to do with a submission at the host where it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowDecision {
    /// No job can start with it any more, and no agent of a node is sure to hold it: revoke the sub-token at once.
    Revoke,
    /// The jobs have ended, and perhaps no agent held the credential: revoke it after the nodes had the time to do so.
    RevokeLast,
    /// Its jobs have run on nodes. A broker that they asked revokes it. Without brokers it is revoked as with [`Self::RevokeLast`]: a node
    /// may lack the key or the server of the credential, or has lost what it had to revoke, and can tell that to no other host.
    HasRun,
    /// Ask again.
    Wait,
}

/// Decides about a submission on its own host. `submitted` is the time in which its jobs were submitted, and `now` the time of day, both by
/// slurmctld's clock. `leaders` are those seen so far, `before` what was seen so far. The last value is the set of leaders with those of
/// this answer.
#[must_use]
pub fn follow(
    output: &str,
    submitted: SubmissionTime,
    leaders: &BTreeSet<u32>,
    before: Progress,
    now: u64,
) -> (FollowDecision, Progress, BTreeSet<u32>) {
    let Some(rows) = rows(output) else { return (FollowDecision::Wait, before, leaders.clone()) };
    let SubmissionTime { made, begin, end, single } = submitted;
    let within = |from: u64, to: u64| -> Vec<&JobRow<'_>> {
        let in_time = |row: &JobRow<'_>| row.submitted.is_none_or(|time| (from..=to).contains(&time));
        // A requeue gives a job a new time of submission (SLURM-28).
        rows.iter().filter(|row| in_time(row) || leaders.contains(&row.leader)).collect()
    };
    // One call of sbatch makes one job, mostly in the seconds after its credential was made. Whether one of them still lives is asked of
    // all jobs that may be it.
    let (soon, in_time) = (within(made.saturating_sub(EARLY), made.saturating_add(SOON)), within(begin, end));
    let seen = if single && !soon.is_empty() { &soon } else { &in_time };
    // Before the first answer that shows any, its job may have been requeued. Later jobs count from then on as if they were its own.
    let all = if leaders.is_empty() { within(begin, end.max(now)) } else { in_time.clone() };
    let before = if seen.is_empty() && !all.is_empty() { before.max(Progress::Unsure) } else { before };
    let several = seen.iter().map(|row| row.leader).collect::<BTreeSet<u32>>().len() > 1;
    let progress = seen.iter().map(|row| progress(row)).max().unwrap_or(Progress::Nothing).max(before);
    let progress = if progress == Progress::Started && several { Progress::Unsure } else { progress };
    let live = all.iter().any(|row| row.phase != JobPhase::Final);
    let decision = match progress {
        _ if live || now <= end => FollowDecision::Wait,
        Progress::Nothing | Progress::Waiting => FollowDecision::Revoke,
        Progress::Started => FollowDecision::HasRun,
        Progress::Assigned | Progress::Unsure => FollowDecision::RevokeLast,
    };
    (decision, progress, leaders.iter().copied().chain(all.iter().map(|row| row.leader)).collect())
}

/// How many seconds before its credential a job may seem to be submitted: slurmctld's clock is measured to some seconds.
const EARLY: u64 = 5;

/// Seconds in which the job of a submission is submitted, if slurmctld is not slow.
const SOON: u64 = 20;

fn progress(row: &JobRow<'_>) -> Progress {
    match row.phase {
        JobPhase::Queued => Progress::Waiting,
        JobPhase::Final if row.nodes.is_empty() => Progress::Waiting,
        JobPhase::Active | JobPhase::Completing => Progress::Assigned,
        JobPhase::Final if row.has_run && (row.runs_batch_script() || row.is_component) => Progress::Started,
        JobPhase::Final => Progress::Unsure,
    }
}

/// What to do with the sub-token of a submission that has no job on this node any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndDecision {
    /// No job of the submission can run any more. This node revokes the sub-token; with a rank above zero only after other nodes had
    /// the time to do so. A second revocation does no harm, a missing one does.
    Revoke {
        /// 0: at once.
        rank: u32,
    },
    /// No job of the submission can run any more, and other nodes revoke the sub-token.
    Leave,
    /// A job that ran here is back in the queue.
    Requeued,
    /// Other jobs of the submission wait or run.
    Continues,
    /// Ask again soon. While the epilog runs, the state is COMPLETING (SLURM-27), also for a job that is requeued afterwards: the flag hides
    /// the state below it.
    Undecided,
}

/// A line of squeue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobRow<'a> {
    pub(crate) job: u32,
    pub(crate) leader: u32,
    pub(crate) phase: JobPhase,
    pub(crate) submitted: Option<u64>,
    ended: Option<u64>,
    pub(crate) nodes: &'a str,
    batch_host: &'a str,
    /// Not the first component of a heterogeneous job: its batch script runs elsewhere.
    is_component: bool,
    /// Its program has ended, with whatever result. A job that was ended from outside, or whose node failed, may have had none.
    has_run: bool,
}

/// Decides about a submission on the node `node`. `output` is squeue's output about all jobs of its user, `now` the time of day by slurmctld's
/// clock. The second value is the set of leaders that the output shows.
#[must_use]
pub fn decide_end(output: &str, held: &HeldSubmission, node: &str, now: u64) -> (EndDecision, BTreeSet<u32>) {
    let mut leaders = held.leaders.clone();
    let Some(rows) = rows(output) else { return (EndDecision::Undecided, leaders) };
    // The first component of a heterogeneous job leads the others (SLURM-32).
    leaders.extend(rows.iter().filter(|row| held.jobs.contains(&row.job)).map(|row| row.leader));
    // Until the first question after that time, a job of it may have been requeued, and have a later time of submission (SLURM-28).
    let submitted = held.submitted.map(|(from, to)| (from, if held.complete { to } else { to.max(now) }));
    let in_time = |row: &JobRow<'_>| {
        submitted.is_some_and(|(from, to)| row.submitted.is_none_or(|time| (from..=to).contains(&time)))
    };
    let between = numbers_of(&rows, &held.leaders, submitted);
    let is_own = |row: &&JobRow<'_>| leaders.contains(&row.leader) || leaders.contains(&row.job) || in_time(row);
    let own: Vec<&JobRow<'_>> = rows.iter().filter(|row| is_own(row) || between.contains(&row.leader)).collect();
    // A requeue gives a job a new time of submission (SLURM-28), so its leader is kept.
    leaders.extend(own.iter().map(|row| row.leader));
    let any = |phase| own.iter().any(|row| row.phase == phase);
    let may_come = held.submitted.is_some_and(|(_, to)| now <= to);
    let requeued = own.iter().any(|row| row.phase == JobPhase::Queued && held.jobs.contains(&row.job));
    let decision = if requeued {
        EndDecision::Requeued
    } else if any(JobPhase::Active) || any(JobPhase::Queued) || may_come {
        EndDecision::Continues
    } else if any(JobPhase::Completing) {
        EndDecision::Undecided
    } else {
        who_revokes(&own, held, node)
    };
    (decision, leaders)
}

/// The numbers of the jobs that share the credential: a job between them was submitted between them, whatever its time of submission says
/// (a requeue changes it). Empty if nothing is shared. Tasks of an array have numbers of the time when they start, so leaders count.
fn numbers_of(rows: &[JobRow<'_>], leaders: &BTreeSet<u32>, submitted: Option<(u64, u64)>) -> RangeInclusive<u32> {
    let Some((from, to)) = submitted else { return RangeInclusive::new(1, 0) };
    let in_time = |row: &&JobRow<'_>| row.submitted.is_some_and(|time| (from..=to).contains(&time));
    let shown = rows.iter().filter(in_time).map(|row| row.leader);
    let (low, high) = shown
        .chain(leaders.iter().copied())
        .fold((u32::MAX, 0), |(low, high), leader| (leader.min(low), leader.max(high)));
    low..=high
}

/// What a node knows of the submission's nodes, with those that the output shows. A job that ran here tells its nodes when it ends, and a
/// completing one only some of them.
#[must_use]
pub fn learn(output: &str, held: &HeldSubmission) -> KnownNodes {
    let mut known = held.known.clone();
    let is_new =
        |row: &JobRow<'_>| held.leaders.contains(&row.leader) && !(held.jobs.contains(&row.job) && known.has(row.job));
    let rows = rows(output).unwrap_or_default();
    let told: Vec<&JobRow<'_>> = rows.iter().filter(|row| row.phase != JobPhase::Completing && is_new(row)).collect();
    for row in told {
        known.remember(row.job, row.nodes, row.runs_batch_script().then_some(row.batch_host));
    }
    known
}

/// Whether squeue's output shows a job of the submission. slurmctld forgets a job some minutes after its end (`MinJobAge`).
#[must_use]
pub fn shows(output: &str, held: &HeldSubmission) -> bool {
    let own = |row: &JobRow<'_>| held.jobs.contains(&row.job) || held.leaders.contains(&row.leader);
    rows(output).is_some_and(|rows| rows.iter().any(own))
}

/// The jobs of `jobs` that have left all nodes: they are final or queued, or slurmctld has forgotten them.
#[must_use]
pub fn gone(output: &str, jobs: &BTreeSet<u32>) -> Vec<u32> {
    let Some(rows) = rows(output) else { return Vec::new() };
    let phases: BTreeMap<u32, JobPhase> = rows.iter().map(|row| (row.job, row.phase)).collect();
    let here = |job: &u32| matches!(phases.get(job), Some(JobPhase::Active | JobPhase::Completing));
    jobs.iter().copied().filter(|job| !here(job)).collect()
}

/// The nodes of the final jobs are ranked: hosts of batch scripts first, of the job that ended last before the others, because the agents
/// there ask at once; then the other nodes in the order of their job's nodes; then those that are known from before. A node that is not
/// among the nodes of a job that ran on it (agent and slurmd have different names) takes the last rank. So does the host of the submission
/// if it is one of the later nodes.
fn who_revokes(own: &[&JobRow<'_>], held: &HeldSubmission, node: &str) -> EndDecision {
    match by_place(own, held, node) {
        EndDecision::Leave if held.made_here => rank(RANKS - 1),
        decision => decision,
    }
}

fn rank(rank: usize) -> EndDecision {
    EndDecision::Revoke { rank: u32::try_from(rank).unwrap_or(u32::MAX) }
}

/// What [`who_revokes`] says of a node that did not make the submission.
fn by_place(own: &[&JobRow<'_>], held: &HeldSubmission, node: &str) -> EndDecision {
    // The host that made the credential follows it, and revokes it after the first nodes.
    let is_followed = held.followed || held.replaces;
    let is_among_first = |place: usize| place < if is_followed { RANKS - 1 } else { RANKS };
    let ranked = |place: usize| if is_among_first(place) { rank(place) } else { EndDecision::Leave };
    if held.replaces && !held.known.is_empty() {
        return match held.known.rank_after(&[], node) {
            Some(known) => ranked(known),
            None if held.known.is_named() => EndDecision::Leave,
            None => rank(RANKS - 1),
        };
    }
    let mut own = own.to_vec();
    own.sort_by_key(|row| (Reverse(row.ended), row.job));
    let is_batch = |row: &&&JobRow<'_>| row.runs_batch_script();
    let mut batch_hosts: Vec<&str> = Vec::new();
    for row in own.iter().filter(is_batch) {
        if !batch_hosts.contains(&row.batch_host) {
            batch_hosts.push(row.batch_host);
        }
    }
    if let Some(position) = batch_hosts.iter().position(|host| *host == node) {
        return if is_followed { ranked(position) } else { rank(position) };
    }
    let place = |row: &&JobRow<'_>| {
        let position = host_list::position(row.nodes, node)?;
        let before = batch_hosts.iter().filter_map(|host| host_list::position(row.nodes, host));
        Some(batch_hosts.len() + position - before.filter(|before| *before < position).count())
    };
    let ran_here = |row: &&JobRow<'_>| held.jobs.contains(&row.job);
    let Some(place) = own.iter().filter_map(place).min() else {
        let is_shown = own.iter().any(|row| !row.nodes.is_empty());
        // Of a shared credential nobody knows whether the jobs that are shown have it.
        let is_doubtful = held.submitted.is_some() && !held.followed;
        if is_shown && !own.iter().any(ran_here) && !is_doubtful {
            return EndDecision::Leave;
        }
        let shown = own.iter().flat_map(|row| host_list::first_names(row.nodes, RANKS));
        let shown: Vec<String> = batch_hosts.iter().map(|host| (*host).to_owned()).chain(shown).collect();
        return match held.known.rank_after(&shown, node) {
            Some(known) => ranked(known),
            // Nobody knows who else held the credential.
            None if !is_shown && held.known.is_empty() => rank(0),
            None if held.known.is_named() => EndDecision::Leave,
            None => rank(RANKS - 1),
        };
    };
    let place = first_places(&own, &batch_hosts).iter().position(|first| first == node).unwrap_or(place.max(RANKS));
    // The command of salloc or srun runs on a host outside the allocation, and its only step may have run on this node.
    // If the host of the submission has promised to follow it, it revokes after the first nodes.
    // With a batch script, the first component of a heterogeneous job holds it, too.
    let is_led = |row: &JobRow<'_>| {
        row.is_component && own.iter().any(|other| other.leader == row.leader && other.runs_batch_script())
    };
    let alone = own.iter().any(|row| ran_here(row) && !is_batch(&row) && !is_led(row)) && !held.followed;
    if alone { rank(place) } else { ranked(place) }
}

/// The nodes that revoke first, at least [`RANKS`] of them if there are so many: those with batch scripts, then those of one job after the
/// other. All components of a heterogeneous job have nodes of their own.
fn first_places(own: &[&JobRow<'_>], batch_hosts: &[&str]) -> Vec<String> {
    let mut first: Vec<String> = batch_hosts.iter().map(|host| (*host).to_owned()).collect();
    for row in own {
        if first.len() >= RANKS {
            break;
        }
        for name in host_list::first_names(row.nodes, RANKS) {
            if !first.contains(&name) {
                first.push(name);
            }
        }
    }
    first
}

/// The lines of squeue. `None` when one is not of [`FORMAT`].
fn rows(output: &str) -> Option<Vec<JobRow<'_>>> {
    output.lines().map(str::trim).filter(|line| !line.is_empty()).map(row).collect()
}

/// One line of [`FORMAT`].
pub(crate) fn row(line: &str) -> Option<JobRow<'_>> {
    let mut fields = line.splitn(7, '|').map(str::trim);
    let (job, shown, state) = (fields.next()?.parse().ok()?, fields.next()?, fields.next()?);
    // `8_3` and `8_[1-5%2]` are tasks of the array job 8, `8+1` is a component of the heterogeneous job 8.
    let leader = shown.split(['_', '+']).next()?.parse().ok()?;
    let (submitted, ended) = (fields.next()?.parse().ok(), fields.next()?.parse().ok());
    let is_component = shown.split_once('+').is_some_and(|(_, offset)| offset != "0");
    let nodes =
        Some(fields.next()?).filter(|nodes| !["(null)", "n/a", "None assigned"].contains(nodes)).unwrap_or_default();
    // A job that ended during its prolog, or because of it, is CANCELLED or waits again, like one whose program ran (SLURM-75).
    let has_run = matches!(state, "COMPLETED" | "FAILED" | "OUT_OF_MEMORY");
    let batch_host = fields.next()?;
    Some(JobRow { job, leader, phase: phase(state), submitted, ended, nodes, batch_host, is_component, has_run })
}

impl JobRow<'_> {
    /// Whether a batch script ran on one of the nodes. salloc and srun run their command outside the allocation.
    fn runs_batch_script(&self) -> bool {
        !self.is_component && host_list::contains(self.nodes, self.batch_host)
    }
}

/// What a job's state means for its credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobPhase {
    /// It waits, perhaps after an earlier run.
    Queued,
    /// It runs, or its state is unknown.
    Active,
    /// It leaves its nodes.
    Completing,
    /// It will not run any more.
    Final,
}

/// The phase of a job in one of Slurm's states (SLURM-27). An unknown state keeps the credential: a wrong revocation cannot be undone.
fn phase(state: &str) -> JobPhase {
    match state {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => JobPhase::Queued,
        "COMPLETING" | "STAGE_OUT" => JobPhase::Completing,
        "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "LAUNCH_FAILED" | "NODE_FAIL"
        | "OUT_OF_MEMORY" | "PREEMPTED" | "RECONFIG_FAIL" | "REVOKED" | "TIMEOUT" => JobPhase::Final,
        _ => JobPhase::Active,
    }
}

#[cfg(test)]
mod tests;
