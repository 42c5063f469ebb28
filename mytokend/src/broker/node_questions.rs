// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a node makes the broker ask slurmctld about jobs that the last answer does not show on it. A job that has just started is such a
//! job, so the first questions are free. A node that was stolen can ask for any job, and slurmctld serves the whole cluster: each answer
//! that does not show the job makes the node wait longer.
//!
//! A job that stays away, because its end was missed, waits longer and longer itself, and hardly counts against the node.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Broker;
use crate::log::Level;

/// Questions in vain that a node has free.
const FREE: u32 = 10;

/// The same for jobs that have ended, or wait: a broker that starts anew hears of many ends at once, and users name wrong jobs.
const MANY_FREE: u32 = 60;

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

/// Most jobs of a node that are remembered.
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
    /// For jobs that wait and were submitted there.
    pub(super) waiting: NodeQuestions,
}

impl Default for Asking {
    fn default() -> Self {
        let of = NodeQuestions::with_free;
        Self { running: of(FREE), started: of(FREE), ended: of(MANY_FREE), waiting: of(MANY_FREE) }
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
    jobs: BTreeMap<u32, Job>,
}

/// A job for which the node has asked.
#[derive(Debug, Default)]
struct Job {
    questions: u32,
    last: Duration,
    until: Duration,
}

impl Broker {
    /// The answer to the question that was asked at the elapsed time `asked` does not show the job on `node`. It is logged when the node has
    /// to wait from now on.
    pub(super) fn asked_in_vain(&self, questions: &NodeQuestions, node: &str, job: u32, asked: Duration) {
        let now = self.clock.elapsed();
        if !questions.in_vain(node, job, asked, now) {
            return;
        }
        let text = format!("node {node}: it asks for many jobs that slurmctld does not show there, and has to wait");
        if self.told.is_new(&text, now) {
            self.log.line(Level::Warning, &text);
        }
    }
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
        let mut nodes = self.nodes();
        let own = nodes.entry(node.to_owned()).or_default();
        own.forget(now);
        own.note(job, now);
        if own.counted == Some(asked) {
            return false;
        }
        own.counted = Some(asked);
        own.vain = own.vain.saturating_add(1).min(self.free.saturating_add(MOST));
        own.until = now.saturating_add(pause(own.vain, self.free, FIRST));
        own.until > now
    }

    /// slurmctld was asked about a job that it shows on `node`, and would be asked again by the same request.
    pub fn asked(&self, node: &str, job: u32, now: Duration) {
        let mut nodes = self.nodes();
        let own = nodes.entry(node.to_owned()).or_default();
        own.forget(now);
        own.note(job, now);
    }

    /// slurmctld shows the job on `node`.
    pub fn found(&self, node: &str, job: u32) {
        let mut nodes = self.nodes();
        let Some(own) = nodes.get_mut(node) else { return };
        own.jobs.remove(&job);
        if own.jobs.is_empty() && own.vain == 0 {
            nodes.remove(node);
        }
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Forgets one question in vain for each time of refill that has passed, and jobs that are long ago.
    fn forget(&mut self, now: Duration) {
        self.jobs.retain(|_, job| now.saturating_sub(job.last) < FORGOTTEN);
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
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many questions a node causes in this time that asks each second for the job that `job` names, and never has it.
    fn questions(seconds: u64, job: impl Fn(u64) -> u32) -> usize {
        let questions = NodeQuestions::with_free(FREE);
        let asks = |second: &u64| {
            let (job, now) = (job(*second), at(*second));
            let may = questions.may_ask("n1", job, now).is_ok();
            if may {
                questions.in_vain("n1", job, now, now);
            }
            may
        };
        (1..=seconds).filter(asks).count()
    }

    #[test]
    fn a_stolen_node_causes_few_questions_whatever_it_asks_for() {
        for (what, count) in [
            ("another job each time", questions(3600, |second| u32::try_from(second).unwrap())),
            ("some jobs in turn", questions(3600, |second| u32::try_from(second % 60).unwrap())),
            ("one job", questions(3600, |_| 7)),
        ] {
            // Four in a minute, where each request would cause one.
            assert!((20..=280).contains(&count), "{what}: {count}");
        }
    }

    #[test]
    fn a_job_that_has_just_started_waits_for_nobody() {
        let questions = NodeQuestions::with_free(FREE);
        // slurmctld shows it on the node with the fourth answer. Agents ask again after five seconds.
        for second in [0, 5, 10] {
            assert_eq!(questions.may_ask("n1", 7, at(second)), Ok(()));
            assert!(!questions.in_vain("n1", 7, at(second), at(second)));
        }
        assert_eq!(questions.may_ask("n1", 7, at(15)), Ok(()));
        questions.found("n1", 7);
        // 200 jobs start at once, and share the answers.
        for answer in [20, 21] {
            for job in 100..300 {
                assert_eq!(questions.may_ask("n1", job, at(answer)), Ok(()), "{job}");
                questions.in_vain("n1", job, at(answer), at(answer));
            }
        }
        assert_eq!(questions.may_ask("n1", 99, at(22)), Ok(()));
    }

    #[test]
    fn a_job_that_stays_away_holds_up_itself_and_no_other_one() {
        let questions = NodeQuestions::with_free(FREE);
        let mut asked = Vec::new();
        for second in (0..1200).step_by(5) {
            if questions.may_ask("n1", 7, at(second)).is_ok() {
                assert!(!questions.in_vain("n1", 7, at(second), at(second)), "{second}");
                asked.push(second);
            }
            assert_eq!(questions.may_ask("n1", 8, at(second)), Ok(()), "{second}");
        }
        assert_eq!(asked.get(..8), Some(&[0, 5, 10, 15, 20, 30, 50, 90][..]));
        assert!(asked.len() < 30, "{asked:?}");
    }

    #[test]
    fn other_nodes_do_not_wait_and_the_node_does_not_wait_for_ever() {
        let questions = NodeQuestions::with_free(FREE);
        let waits = (1..=FREE + MOST)
            .filter(|number| questions.in_vain("n1", *number, at(u64::from(*number)), at(100)))
            .count();
        assert_eq!(waits, 7);
        assert_eq!(questions.may_ask("n1", 999, at(100)), Err(LONGEST));
        assert_eq!(questions.may_ask("n2", 999, at(100)), Ok(()));
        assert_eq!(questions.may_ask("n1", 999, at(160)), Ok(()));
        assert!(!questions.in_vain("n1", 999, at(400), at(400)), "what is long ago is forgotten");
    }

    #[test]
    fn a_question_that_each_request_needs_is_asked_seldom_for_the_same_job() {
        let questions = NodeQuestions::with_free(FREE);
        let asks = |second: &u64| {
            let may = questions.may_ask("n1", 7, at(*second)).is_ok();
            if may {
                questions.asked("n1", 7, at(*second));
            }
            may
        };
        assert_eq!((1..=60).filter(asks).count(), 7);
        assert_eq!(questions.may_ask("n1", 8, at(60)), Ok(()), "another job");
    }
}
