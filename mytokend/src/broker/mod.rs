// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker: the only holder of the cluster's private key. Nodes ask it for the access tokens of their jobs.
//!
//! Answers come from memory: a submission has one access token per file, however many nodes it has. Worker threads send the requests to the
//! mytoken servers, one thread asks slurmctld about all jobs. What is in memory is made again from what nodes ask and tell, so a broker that
//! starts anew, and a second one beside it, need no state of the first. What was revoked is kept, to save requests.

mod answers;
pub mod binding;
mod brought;
pub mod client;
pub mod cluster_jobs;
mod connection_threads;
mod disk_work;
pub mod ends;
pub mod entrance;
pub mod escrow;
mod expiry;
pub mod file_token;
pub mod identity;
mod kept;
mod listening;
pub mod messages;
pub mod metrics;
mod metrics_port;
mod node_connections;
mod node_ends;
mod node_questions;
pub mod opened;
pub mod permits;
mod places;
mod replaced;
pub mod replacements;
pub mod revoked;
mod server;
pub mod settings;
mod signals;
pub mod slurmctld;
pub mod startup;
pub mod status;
pub(crate) mod strangers;
pub mod submission;
pub mod submission_key;
pub mod told;
mod work;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use mytoken::ScheduleClock;

use crate::agent::budget::kept_for_next_run::KeptForNextRun;
use crate::agent::credential_service::{Admitted, CredentialService};
use crate::agent::lanes::{Lanes, Place, REVOCATIONS, TOKENS};
use crate::jobs::Conversion;
use crate::jobs::submission_time::submission_time;
use crate::log::{Level, Log};
use kept::Kept;
use node_questions::Asking;
use opened::Opened;
use permits::HostPermits;
use places::Places;
use replaced::Replaced;
use revoked::Marks;
use slurmctld::{Answered, ClusterController, Questions};
use submission::{End, Submission};
pub use submission_key::SubmissionKey;
use submission_key::name;
use told::Told;
pub use work::Threads;
use work::Work;

/// A submission that is settled is remembered for this time: nodes that tell its end get an answer without a question. Over a restart,
/// [`revoked`] does.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Most submissions that are judged before nodes get the state again. Each may take as long as its user has jobs.
const AT_ONCE: usize = 256;

struct State {
    submissions: HashMap<SubmissionKey, Submission>,
    places: Places,
    tokens: Lanes<Work>,
    revocations: Lanes<Work>,
    /// What was revoked in the last hour, also by the run before.
    revoked: Marks,
    stopping: bool,
}

/// The broker.
pub struct Broker {
    service: RwLock<Arc<dyn CredentialService>>,
    controller: Box<dyn ClusterController>,
    clock: Arc<dyn ScheduleClock>,
    log: Arc<Log>,
    told: Told,
    hosts: HostPermits,
    opened: Opened,
    kept: Kept,
    replaced: Replaced,
    /// Writes what was revoked for the next run.
    kept_revocations: KeptForNextRun,
    /// Gives a random number of [0, 1).
    draw: fn() -> f64,
    state: Mutex<State>,
    /// Notified when there is work.
    queued: Condvar,
    questions: Questions,
    /// How often nodes may cause questions.
    asking: Asking,
    counts: status::Counts,
    /// This host's clock when the broker began, Unix seconds, and the elapsed time.
    begin: (u64, Duration),
}

impl Broker {
    /// A broker without submissions.
    #[must_use]
    pub fn new(
        service: Arc<dyn CredentialService>,
        controller: Box<dyn ClusterController>,
        clock: Arc<dyn ScheduleClock>,
        log: Arc<Log>,
    ) -> Arc<Self> {
        let state = State {
            submissions: HashMap::new(),
            places: Places::default(),
            tokens: Lanes::new(TOKENS),
            revocations: Lanes::new(REVOCATIONS),
            revoked: Marks::default(),
            stopping: false,
        };
        let begin = (clock.unix_millis() / 1000, clock.elapsed());
        Arc::new(Self {
            service: RwLock::new(service),
            controller,
            clock,
            log,
            told: Told::default(),
            hosts: HostPermits::default(),
            opened: Opened::default(),
            kept: Kept::default(),
            replaced: Replaced::default(),
            kept_revocations: KeptForNextRun::default(),
            draw: rand::random::<f64>,
            state: Mutex::new(state),
            queued: Condvar::new(),
            questions: Questions::default(),
            asking: Asking::default(),
            counts: status::Counts::default(),
            begin,
        })
    }

    /// Replaces what opens credentials and obtains tokens. Submissions and tokens stay.
    pub fn configure(&self, service: Arc<dyn CredentialService>) {
        *self.service.write().unwrap_or_else(PoisonError::into_inner) = service;
        self.opened.clear();
        self.replaced.expired.clear();
    }

    /// Returns when the state is free. If it never is, the caller hangs too, and the watchdog restarts the broker.
    pub fn probe(&self) {
        drop(self.state());
    }

    fn service(&self) -> Arc<dyn CredentialService> {
        Arc::clone(&self.service.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the jobs of a credential were submitted, by slurmctld's clock.
    fn submission_time(&self, admitted: &Admitted, answered: &Answered) -> (u64, u64) {
        let submitted = admitted.submitted.unwrap_or_else(|| submission_time(admitted.made, 0));
        let now = self.clock.elapsed();
        let here = self.clock.unix_millis() / 1000;
        let slurmctld = answered.clock.and_then(|clock| now.as_secs().checked_add_signed(clock));
        let server = self.service().server_time(admitted.server());
        let conversion = match (slurmctld, server) {
            (Some(slurmctld), Some(server)) => Conversion::measured(slurmctld, server),
            _ => Conversion::unknown(slurmctld.unwrap_or(here), server.unwrap_or(here)),
        };
        conversion.convert(submitted)
    }

    /// Takes note of an answer of slurmctld: submissions that are over are to be revoked. One thread calls it, after each answer and before
    /// the next question. So what changes between the submissions goes by no later answer.
    fn note(&self, answered: &Answered) {
        let (Some(jobs), None) = (&answered.jobs, &answered.trouble) else { return };
        self.judge_given_up(answered, jobs);
        let elapsed = self.clock.elapsed();
        let here = self.clock.unix_millis() / 1000;
        let now = answered.clock.and_then(|clock| elapsed.as_secs().checked_add_signed(clock)).unwrap_or(here);
        let state = self.state();
        let in_use = self.in_use(&state);
        let mut leaders: HashMap<u32, BTreeSet<u32>> = HashMap::new();
        for (key, own) in &state.submissions {
            let of_user = leaders.entry(key.uid).or_default();
            // Each node can seal a text, and bring it for a job that has another one. That one gives no token.
            if own.proven && own.binding.has_own_job {
                of_user.extend(&own.binding.leaders);
            }
        }
        let unclaimed: HashMap<u32, bool> =
            leaders.iter().map(|(uid, leaders)| (*uid, ends::unclaimed(jobs, *uid, leaders))).collect();
        let is_due = |own: &Submission| matches!(own.end, End::Open { .. }) && elapsed >= own.judged_from;
        let due = state.submissions.iter().filter(|(_, submission)| is_due(submission));
        let due: Vec<SubmissionKey> = due.map(|(key, _)| key.clone()).collect();
        drop(state);
        let mut over = Vec::new();
        for keys in due.chunks(AT_ONCE) {
            let mut state = self.state();
            for key in keys {
                // It may have been given up meanwhile, or a job of it may have come.
                let Some(submission) = state.submissions.get_mut(key).filter(|own| is_due(own)) else { continue };
                let time = self.submission_time(&submission.admitted, answered);
                submission.binding.submitted = submission.admitted.submitted.map(|_| time);
                let replaced = in_use.leaders_beside(key, submission, jobs);
                let known = ends::Known {
                    uid: key.uid,
                    jobs: &submission.jobs,
                    binding: &submission.binding,
                    complete: submission.complete,
                    time,
                    is_told: submission.is_told(),
                    unclaimed: unclaimed.get(&key.uid).copied().unwrap_or(true),
                    replaced: &replaced,
                };
                let (standing, seen) = ends::judge(jobs, known, now);
                submission.binding.see(&seen);
                submission.complete |= submission.binding.submitted.is_some_and(|(_, end)| end < now);
                if submission.note(standing, elapsed) {
                    over.push((key.clone(), replaced.is_empty()));
                }
            }
        }
        let mut state = self.state();
        let service = self.service();
        state.forget(elapsed, |at| self.earliest_time_at(at), |server| service.server_time(server));
        self.replaced.note(jobs, |key| state.submissions.contains_key(key));
        drop(state);
        for (key, is_alone) in over {
            let name = name(&key);
            let text = if is_alone {
                format!("{name}: the submission is over")
            } else {
                format!("{name}: its jobs have a new credential")
            };
            self.log.line_of(key.uid, Level::Info, &text);
        }
        self.queue_revocations();
    }

    /// Queues the revocations that are due.
    fn queue_revocations(&self) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        let State { submissions, revocations, revoked, .. } = &mut *state;
        for (key, submission) in submissions {
            let lane = submission.admitted.server();
            if let End::Revoking { due, asked, .. } = &mut submission.end {
                // Perhaps the server has done it, and the answer is not known.
                *due = revoked.paused_until(key).unwrap_or_default().max(*due);
                if *due <= now && !*asked {
                    *asked = true;
                    revocations.push(
                        Place { lane: lane.to_owned(), uid: key.uid },
                        u64::MAX,
                        Work::Revoke(key.clone()),
                    );
                }
            }
        }
        self.queued.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread leaves the state consistent: each change is complete before anything that can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
