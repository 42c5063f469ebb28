// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a node makes the broker ask slurmctld about jobs that the last answer does not show on it. A job that has just started is such a
//! job, so the first questions are free. A node that was stolen can ask for any job, and slurmctld serves the whole cluster: each answer
//! that does not show the job makes the node wait longer.
//!
//! A node may not wait for the answer: it has no patience, or closes its connection. Then the answer decides when it comes. A slow slurmctld
//! is no fault of a node whose job runs.
//!
//! A job that stays away, because its end was missed, waits longer and longer itself, and hardly counts against the node.

mod given_up;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Broker;
use super::slurmctld::Answered;
use crate::log::Level;

/// Questions in vain that a node has free.
const FREE: u32 = 10;

/// The same for jobs that have ended: a broker that starts anew hears of many ends at once.
const FREE_OF_ENDS: u32 = 60;

/// The same for jobs that wait, of each user of a host: users name wrong jobs.
const FREE_OF_USER: u32 = 20;

/// The same of a host. One that was stolen may invent users.
const FREE_OF_HOST: u32 = 240;

/// After this time one of them is forgotten.
const REFILL: Duration = Duration::from_secs(15);

/// The first pause of a node. Each further question in vain doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// Questions about one job that are free.
const FREE_OF_JOB: u32 = 3;

/// The first pause of a job.
const FIRST_OF_JOB: Duration = Duration::from_secs(5);

/// The longest pause of either.
const LONGEST: Duration = Duration::from_secs(60);

/// Questions in vain beyond the free ones that count at most: from here on, pauses grow no more.
const MOST: u32 = 7;

/// A job that nobody has asked for is forgotten after this time.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Most nodes, or users of hosts, that are remembered while others are still counted.
const NODES: usize = 20_000;

/// Most jobs of a node that are remembered, and most that it has given up.
const JOBS: usize = 256;

/// Questions of one kind, by node. A node is here while it has asked in vain.
#[derive(Debug)]
pub struct NodeQuestions {
    free: u32,
    nodes: Mutex<HashMap<String, Node>>,
}

/// The kinds of questions. Those of one kind hold up no others.
#[derive(Debug)]
pub(super) struct Asking {
    /// For the tokens of jobs that run on the node.
    pub(super) running: NodeQuestions,
    /// When they have started.
    pub(super) started: NodeQuestions,
    /// For jobs that have ended there.
    pub(super) ended: NodeQuestions,
    /// For jobs that wait and were submitted there: by [`user_on`] of the host.
    pub(super) waiting: NodeQuestions,
    /// The same of all users of a host. Its jobs are not told apart, so that no user stops the job of another one.
    pub(super) hosts: NodeQuestions,
}

/// A user of a host. Names of nodes have no blanks.
pub(super) fn user_on(host: &str, uid: u32) -> String {
    format!("{host} {uid}")
}

impl Default for Asking {
    fn default() -> Self {
        let of = NodeQuestions::with_free;
        let (ended, waiting, hosts) = (of(FREE_OF_ENDS), of(FREE_OF_USER), of(FREE_OF_HOST));
        Self { running: of(FREE), started: of(FREE), ended, waiting, hosts }
    }
}

#[derive(Debug, Default)]
struct Node {
    /// Questions in vain that still count, and since when, as elapsed time.
    vain: u32,
    since: Duration,
    /// Until then, none is asked for this node.
    until: Duration,
    /// When the last question in vain was asked. Requests that share an answer count once.
    counted: Option<Duration>,
    /// When the question of the last answer was asked as the node gave one up. Until the next answer, all that are given up count once.
    given_up: Option<Duration>,
    jobs: BTreeMap<u32, Job>,
    /// The jobs whose answers the node has not waited for, and when it first asked for each, elapsed time. Until there is an answer, it is
    /// not known whether it asked in vain.
    open: BTreeMap<u32, Duration>,
}

/// A job for which the node has asked.
#[derive(Debug, Default)]
struct Job {
    questions: u32,
    last: Duration,
    until: Duration,
}

/// What became of a question in vain.
#[derive(Clone, Copy)]
enum Vain {
    /// The answer to the question that was asked at this elapsed time does not show the job.
    Answered(Duration),
    /// The node has not waited for it. The question of the last answer before was asked at this elapsed time.
    GivenUp(Duration),
}

impl Broker {
    /// The answer to the question that was asked at the elapsed time `asked` does not show the job on `node`. It is logged when the node has
    /// to wait from now on.
    pub(super) fn asked_in_vain(&self, questions: &NodeQuestions, node: &str, job: u32, asked: Duration) {
        let now = self.clock.elapsed();
        if questions.in_vain(node, job, asked, now) {
            self.tell_pause(node, now);
        }
    }

    /// The same of a job of this user that does not wait, or was not submitted on `host`.
    pub(super) fn named_wrong_job(&self, host: &str, uid: u32, job: u32, asked: Duration) {
        let now = self.clock.elapsed();
        self.asking.waiting.in_vain(&user_on(host, uid), job, asked, now);
        if self.asking.hosts.count(host, None, Vain::Answered(asked), now) {
            self.tell_pause(host, now);
        }
    }

    /// An answer does not show the job, of this user if he is known, as one that runs on `node`. If it has ended there a moment ago, only the
    /// job itself waits longer: the node has asked for no wrong one.
    pub(super) fn not_shown(
        &self,
        questions: &NodeQuestions,
        node: &str,
        (job, uid): (u32, Option<u32>),
        answered: &Answered,
    ) {
        if was_there(answered, node, (job, uid)) {
            questions.asked(node, job, self.clock.elapsed());
        } else {
            self.asked_in_vain(questions, node, job, answered.asked);
        }
    }

    fn tell_pause(&self, node: &str, now: Duration) {
        let text = format!("node {node}: it asks for many jobs that slurmctld does not show there, and has to wait");
        if self.told.is_new_of(node, &text, now) {
            self.log.line(Level::Warning, &text);
        }
    }
}

/// Whether an answer shows the job, of this user if he is known, as one that `node` has, or had in the last run.
pub(super) fn was_there(answered: &Answered, node: &str, (job, uid): (u32, Option<u32>)) -> bool {
    let shown = answered.jobs.as_ref().and_then(|jobs| jobs.job(job));
    shown.is_some_and(|own| uid.is_none_or(|uid| own.uid == uid) && own.had(node))
}

impl NodeQuestions {
    /// So many questions in vain are free.
    #[must_use]
    pub fn with_free(free: u32) -> Self {
        Self { free, nodes: Mutex::default() }
    }

    /// Whether slurmctld is asked about this job for `node` at `now`, elapsed time.
    ///
    /// # Errors
    /// After which time it may be.
    pub fn may_ask(&self, node: &str, job: u32, now: Duration) -> Result<(), Duration> {
        let nodes = self.nodes();
        let Some(own) = nodes.get(node) else { return Ok(()) };
        let until = own.jobs.get(&job).map_or(own.until, |job| job.until.max(own.until));
        if until <= now { Ok(()) } else { Err(until.saturating_sub(now)) }
    }

    /// The answer to a question that was asked at the elapsed time `asked` does not show the job on `node`. Returns whether the node has to
    /// wait from now on, for whatever job.
    pub fn in_vain(&self, node: &str, job: u32, asked: Duration, now: Duration) -> bool {
        self.count(node, Some(job), Vain::Answered(asked), now)
    }

    /// The node has not waited for an answer to a question. The question of the last answer before was asked at the elapsed time `last`.
    /// Returns whether the node has to wait from now on, for whatever job.
    pub fn gave_up(&self, node: &str, job: Option<u32>, last: Duration, now: Duration) -> bool {
        self.count(node, job, Vain::GivenUp(last), now)
    }

    /// The node has not waited for an answer about this job, for which it asked at the elapsed time `asked`: [`Self::take_given_up`] gives
    /// it back when there is one. Beyond the jobs that are remembered it counts at once, by the time `last` of [`Self::gave_up`]. Returns
    /// whether the node has to wait from now on, for whatever job.
    pub fn leave_open(&self, node: &str, job: u32, (asked, last): (Duration, Duration), now: Duration) -> bool {
        {
            let mut nodes = self.nodes();
            let own = node_of(&mut nodes, node, now);
            if own.open.len() < JOBS || own.open.contains_key(&job) {
                own.open.entry(job).or_insert(asked);
                return false;
            }
        }
        self.gave_up(node, None, last, now)
    }

    /// Nodes and jobs whose questions were given up and have an answer now, which belongs to a question of the elapsed time `asked`.
    pub fn take_given_up(&self, asked: Duration) -> Vec<(String, u32)> {
        let mut taken = Vec::new();
        for (node, own) in self.nodes().iter_mut() {
            own.open.retain(|job, since| {
                let is_open = *since > asked;
                if !is_open {
                    taken.push((node.clone(), *job));
                }
                is_open
            });
        }
        taken
    }

    fn count(&self, node: &str, job: Option<u32>, vain: Vain, now: Duration) -> bool {
        let mut nodes = self.nodes();
        let own = node_of(&mut nodes, node, now);
        let is_first = match vain {
            Vain::Answered(asked) => own.counted.replace(asked) != Some(asked),
            Vain::GivenUp(last) => own.given_up.replace(last) != Some(last),
        };
        // Many that are given up at once are one question, and say nothing about their jobs.
        if let Some(job) = job.filter(|_| is_first || matches!(vain, Vain::Answered(_))) {
            own.note(job, now);
        }
        if !is_first {
            return false;
        }
        own.vain = own.vain.saturating_add(1).min(self.free.saturating_add(MOST));
        own.until = now.saturating_add(pause(own.vain, self.free, FIRST));
        own.until > now
    }

    /// slurmctld was asked about a job that it shows on `node`, and would be asked again by the same request.
    pub fn asked(&self, node: &str, job: u32, now: Duration) {
        node_of(&mut self.nodes(), node, now).note(job, now);
    }

    /// slurmctld shows the job on `node`.
    pub fn found(&self, node: &str, job: u32) {
        let mut nodes = self.nodes();
        let Some(own) = nodes.get_mut(node) else { return };
        own.jobs.remove(&job);
        own.open.remove(&job);
        if own.jobs.is_empty() && own.open.is_empty() && own.vain == 0 {
            nodes.remove(node);
        }
    }

    /// Questions in vain that count against a node.
    #[cfg(test)]
    pub(super) fn vain(&self, node: &str) -> u32 {
        self.nodes().get(node).map_or(0, |own| own.vain)
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a node at `now`, elapsed time.
fn node_of<'n>(nodes: &'n mut HashMap<String, Node>, node: &str, now: Duration) -> &'n mut Node {
    if nodes.len() >= NODES && !nodes.contains_key(node) {
        nodes.retain(|_, own| own.still_counts(now));
    }
    let own = nodes.entry(node.to_owned()).or_default();
    own.forget(now);
    own
}

impl Node {
    fn still_counts(&mut self, now: Duration) -> bool {
        self.forget(now);
        self.vain > 0 || !self.jobs.is_empty() || !self.open.is_empty()
    }

    /// Forgets one question in vain for each time of refill that has passed, and jobs that are long ago.
    fn forget(&mut self, now: Duration) {
        self.jobs.retain(|_, job| now.saturating_sub(job.last) < FORGOTTEN);
        self.open.retain(|_, since| now.saturating_sub(*since) < FORGOTTEN);
        let steps = now.saturating_sub(self.since).as_millis() / REFILL.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        if steps >= self.vain {
            (self.vain, self.since) = (0, now);
        } else {
            self.vain -= steps;
            self.since = self.since.saturating_add(REFILL.saturating_mul(steps));
        }
    }

    fn note(&mut self, job: u32, now: Duration) {
        if self.jobs.len() >= JOBS && !self.jobs.contains_key(&job) {
            let oldest = self.jobs.iter().min_by_key(|(_, job)| job.last).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.jobs.remove(&oldest);
            }
        }
        let own = self.jobs.entry(job).or_default();
        own.questions = own.questions.saturating_add(1);
        own.last = now;
        own.until = now.saturating_add(pause(own.questions, FREE_OF_JOB, FIRST_OF_JOB));
    }
}

/// The pause after so many questions, of which some are free.
fn pause(questions: u32, free: u32, first: Duration) -> Duration {
    match questions.saturating_sub(free) {
        0 => Duration::ZERO,
        more => first.saturating_mul(1 << (more - 1).min(6)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests;
