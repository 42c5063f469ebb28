// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settles submissions that have no job on this node any more: slurmctld says whether the whole submission is final, then its sub-token is
//! revoked or left to other nodes. The mytoken of an ended session is revoked in the same way, without a question. The lease table is not
//! locked during a query or a revocation. Revocations have worker threads of their own: a server that hangs delays neither the
//! queries nor the revocations at other servers.

mod revocation;

use std::collections::BTreeSet;
use std::time::Duration;

use mytoken_wire::agent::EventKind;

use super::credential_service::RequestFailure;
use super::file_queue::FilePlace;
use super::lease::{Action, Ends, Lease, LeaseCredential, LeaseKey, NamedFile, Phase, Submitter};
use super::lease_table::Task;
use super::slurm::SqueueError;
use super::slurmctld_time::{DRIFTING, LeaseTimes};
use super::user_jobs::{FRESH, USABLE};
use super::{Agent, millis};
use crate::jobs::submission_end::{gone, learn, shows};
use crate::jobs::{EndDecision, FollowDecision, HeldSubmission, KnownNodes, Progress, decide_end, follow};
use crate::log::Level;

/// Longest pause between two questions about a submission. Shorter than the five minutes after which slurmctld forgets a job (`MinJobAge`).
const LONGEST_PAUSE: Duration = Duration::from_secs(240);

/// Longest pause between two attempts to revoke.
const LONGEST_REVOCATION_PAUSE: Duration = Duration::from_secs(3_600);

/// Why the revocation of a mytoken that does not say when it expires is given up.
const NEVER_REVOKED: &str = "could not be revoked for a day, and does not say when it expires";

/// How much later than the node before it a node revokes.
const RANK_DELAY: Duration = Duration::from_secs(600);

/// After so many questions with the same answer, more than a minute passes between two of them, and an older answer will do.
const SLOW: u32 = 5;

/// How long the lease of a followed submission is kept after its end. Meanwhile it counts as one of its user's.
const FOLLOWED_RETENTION: Duration = Duration::from_secs(600);

/// How often an answer without the jobs that just ran here is doubted. slurmctld forgets a job after minutes, not seconds.
const DOUBTS: u32 = 3;

/// How often the revocation of a session's mytoken waits for the removal of its files: about a minute.
const FILES_FIRST: u32 = 5;

/// The result of one try.
enum Settlement {
    /// The lease is finished. The event says why.
    Finished(EventKind, String),
    /// The submission is final, and its sub-token is to be revoked now.
    Revoke,
    /// The submission is final. The sub-token is revoked after this time, unless a job comes back.
    RevokeLater(Duration),
    /// Jobs of the submission wait or run elsewhere.
    Continues(&'static str),
    /// slurmctld gave no answer, or none that decides.
    AskAgain,
    /// The revocation failed for this reason.
    RevokeAgain(String),
    /// The revocation has to wait for this time, for this reason.
    Waits(Duration, String),
}

/// What slurmctld's answer means for a submission.
enum Judgement {
    /// For one whose jobs ran here, with the leaders that the answer shows, and the nodes that are known now.
    End(EndDecision, BTreeSet<u32>, KnownNodes),
    /// For one that was made here, with the leaders that were seen so far.
    Follow(FollowDecision, Progress, BTreeSet<u32>),
}

impl Judgement {
    /// Whether no job of the submission can run any more.
    fn is_over(&self) -> bool {
        match self {
            Self::End(decision, ..) => matches!(decision, EndDecision::Revoke { .. } | EndDecision::Leave),
            Self::Follow(decision, ..) => *decision != FollowDecision::Wait,
        }
    }
}

/// What this node knows of the submission of a lease.
pub(super) fn held(lease: &Lease) -> HeldSubmission {
    HeldSubmission {
        jobs: lease.jobs.keys().copied().collect(),
        leaders: lease.leaders.clone(),
        submitted: lease.submitted,
        complete: lease.known.was_asked(),
        followed: lease.followed,
        made_here: lease.made_here,
        known: lease.known.clone(),
        replaces: lease.stands_for.is_some(),
    }
}

fn carry_out(decision: EndDecision, waited: bool) -> Settlement {
    match decision {
        EndDecision::Revoke { rank } if rank > 0 && !waited => Settlement::RevokeLater(RANK_DELAY.saturating_mul(rank)),
        EndDecision::Revoke { .. } => Settlement::Revoke,
        EndDecision::Leave => Settlement::Finished(
            EventKind::Left,
            "the submission is over; the nodes of its last jobs revoke the sub-token".to_owned(),
        ),
        EndDecision::Requeued => Settlement::Continues("the job is back in the queue and keeps its credential"),
        EndDecision::Continues => Settlement::Continues(
            "other jobs of the submission wait or run; the sub-token is revoked after the last one",
        ),
        EndDecision::Undecided => Settlement::AskAgain,
    }
}

fn carry_out_follow(decision: FollowDecision, waited: bool, has_brokers: bool) -> Settlement {
    match decision {
        FollowDecision::HasRun if has_brokers => {
            Settlement::Finished(EventKind::Left, "its jobs have run; the nodes revoke the sub-token".to_owned())
        }
        FollowDecision::HasRun | FollowDecision::RevokeLast if !waited => {
            Settlement::RevokeLater(RANK_DELAY.saturating_mul(2))
        }
        FollowDecision::Revoke | FollowDecision::HasRun | FollowDecision::RevokeLast => Settlement::Revoke,
        FollowDecision::Wait => Settlement::AskAgain,
    }
}

impl Agent {
    /// Asks slurmctld about an ended submission and acts on the answer.
    pub(super) fn settle(&self, task: &Task) {
        self.see_submitter(task);
        let copied = self.leases().begin(task, |lease| {
            // A job may have come back while this waited for a worker thread.
            let Phase::Ended { due, tries, revoke } = lease.phase else { return None };
            let (held, times) = (held(lease), self.times(lease));
            let progress = lease.progress.filter(|_| lease.is_followed_here());
            let expired = self.is_expired(lease);
            let about = (lease.credential.clone(), lease.ends, (lease.uid, lease.removing && tries < FILES_FIRST));
            let ended = expired.then_some("has expired");
            let ended = ended.or_else(|| lease.is_never_revoked(self.now()).then_some(NEVER_REVOKED));
            Some((about, ended, ((held, times), progress), (due, tries, revoke)))
        });
        let Some(((credential, ends, (uid, has_files)), over, (held, before), (ended, tries, revoke))) = copied else {
            return;
        };
        let now = self.now();
        let (mut leaders, mut progress, mut known) = (None, None, None);
        let settlement = match credential {
            Some(credential) if over.is_some() => {
                let text = format!("the {} {}", revocation::word(&credential), over.unwrap_or_default());
                Settlement::Finished(EventKind::Kept, text)
            }
            // The user can make the removal hang (KERN-01), and the revocation must not wait for ever.
            Some(LeaseCredential::Mytoken(_)) if has_files => Settlement::AskAgain,
            Some(LeaseCredential::Mytoken(_)) => Settlement::Revoke,
            None => Settlement::Finished(EventKind::Kept, "there is no sub-token to revoke".to_owned()),
            Some(LeaseCredential::Sealed(_) | LeaseCredential::Registered { .. })
                if self.configured().service.decides_ends() =>
            {
                Settlement::Revoke
            }
            Some(_) if ends != Ends::Submission => Settlement::Revoke,
            Some(_) => match self.judge(uid, &held, before, tries < SLOW || revoke.is_some()) {
                Ok((Judgement::Follow(decision, seen, all), _)) => {
                    (progress, leaders) = (Some(seen), Some(all));
                    let has_brokers = self.configured().service.decides_ends();
                    carry_out_follow(decision, revoke.is_some_and(|revoke| revoke <= now), has_brokers)
                }
                Ok((Judgement::End(decision, seen, nodes), shown)) => {
                    (leaders, known) = (Some(seen), Some(nodes));
                    if tries < DOUBTS && revoke.is_none() && !shown && matches!(decision, EndDecision::Revoke { .. }) {
                        Settlement::AskAgain
                    } else {
                        carry_out(decision, revoke.is_some_and(|revoke| revoke <= now))
                    }
                }
                Err(error) => {
                    let text = format!("{}: slurmctld cannot be asked: {error}", self.name_of(task));
                    self.log.line_of(uid, Level::Warning, &text);
                    Settlement::AskAgain
                }
            },
        };
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        // What slurmctld said before a job came back and ended again does not count.
        if matches!(lease.phase, Phase::Ended { due, .. } if due == ended) {
            lease.leaders.extend(leaders.unwrap_or_default());
            // A job may have failed to open the credential here during the question.
            lease.progress = progress.max(lease.progress);
            lease.known = known.unwrap_or_else(|| lease.known.clone());
            let revokes = matches!(settlement, Settlement::Revoke);
            self.apply(lease, settlement, tries.saturating_add(1), revoke);
            if revokes {
                table.enqueue(&task.key, Action::Revoke);
                self.queued.notify_all();
            }
        }
        self.lease_changed(&mut table, &task.key);
    }

    /// What slurmctld's answer means, and whether it shows the submission. An older answer can say that a submission goes on, never that
    /// it is over.
    fn judge(
        &self,
        uid: u32,
        (held, times): &(HeldSubmission, LeaseTimes),
        before: Option<Progress>,
        fresh: bool,
    ) -> Result<(Judgement, bool), SqueueError> {
        let of = |output: &str, clock: Duration| match before {
            Some(before) => {
                let (submitted, now) = self.submission_time(*times, clock);
                let (decision, seen, leaders) = follow(output, submitted, &held.leaders, before, now);
                Judgement::Follow(decision, seen, leaders)
            }
            None => {
                let (held, now) = self.by_slurmctld(held.clone(), *times, clock);
                let (decision, leaders) = decide_end(output, &held, &self.node, now);
                let mut known = learn(output, &held);
                known.asked_at(self.submitted_within(*times), times.now());
                Judgement::End(decision, leaders, known)
            }
        };
        let (mut output, is_fresh) = self.jobs_of(uid, if fresh { FRESH } else { USABLE })?;
        let judgement = of(&output, DRIFTING);
        if !judgement.is_over() {
            return Ok((judgement, shows(&output, held)));
        }
        if !is_fresh {
            (output, _) = self.jobs_of(uid, FRESH)?;
        }
        Ok((of(&output, FRESH), shows(&output, held)))
    }

    /// Looks whether the command that submits still lives.
    fn see_submitter(&self, task: &Task) {
        let submitter = self.leases().current(task).and_then(|lease| lease.submitter);
        let Some(Submitter { process: (pid, start), .. }) = submitter else { return };
        let (lives, now) = (!self.processes.has_ended(pid, start), self.now() / 1000);
        if let Some(lease) = self.leases().current(task) {
            lease.submitter = lease.submitter.map(|command| command.seen(lives, now));
        }
    }

    fn name_of(&self, task: &Task) -> String {
        self.leases().get(&task.key).map(super::name).unwrap_or_default()
    }

    fn apply(&self, lease: &mut Lease, settlement: Settlement, tries: u32, revoke: Option<u64>) {
        let now = self.now();
        let settle_delay = self.configured().intervals.settle_delay;
        let pause =
            |tries: u32, longest: Duration| millis(settle_delay.saturating_mul(1 << tries.min(12)).min(longest));
        // The first attempt: what does not say when it ends is not tried for ever.
        let first = |revoke: Option<u64>| Some(revoke.map_or(now, |first| first.min(now)));
        let after = |pause: u64, tries, revoke| Phase::Ended { due: now.saturating_add(pause), tries, revoke };
        match settlement {
            Settlement::Finished(kind, text) => {
                self.record(lease, Level::Info, kind, text);
                self.forget_at_brokers(lease);
                lease.credential = None;
                // The token of an ended submission is in no file any more.
                (lease.token, lease.token_text) = (None, None);
                lease.files.iter_mut().for_each(NamedFile::clear);
                // Nobody asks about a submission of this host whose jobs were elsewhere.
                let retention = self.configured().intervals.retention;
                let is_followed = lease.jobs.is_empty() && !matches!(lease.key, LeaseKey::Session(_));
                let kept = if is_followed { retention.min(FOLLOWED_RETENTION) } else { retention };
                lease.phase = Phase::Finished { due: now.saturating_add(millis(kept)) };
            }
            Settlement::RevokeLater(delay) => {
                let first = revoke.unwrap_or_else(|| now.saturating_add(millis(delay)));
                if revoke.is_none() {
                    let minutes = delay.as_secs() / 60;
                    let text = format!(
                        "the submission is over; another node revokes the sub-token, this one in {minutes} min"
                    );
                    self.record(lease, Level::Info, EventKind::Left, text);
                }
                lease.phase = after(first.saturating_sub(now).max(1_000), 0, Some(first));
            }
            Settlement::Continues(text) => {
                if lease.reason.as_deref() != Some(text) {
                    self.record(lease, Level::Info, EventKind::Requeued, text);
                    lease.reason = Some(text.to_owned());
                }
                lease.phase = after(pause(tries, LONGEST_PAUSE), tries, None);
            }
            // Settled again if the agent ends before the revocation. Before its first attempt, `tries` counts questions, perhaps of days.
            Settlement::Revoke => lease.phase = after(0, revoke.map_or(0, |_| tries), revoke),
            Settlement::AskAgain => lease.phase = after(pause(tries, LONGEST_PAUSE), tries, revoke),
            Settlement::RevokeAgain(reason) => {
                let word = lease.credential.as_ref().map_or("sub-token", revocation::word);
                let text = format!("the {word} was not revoked: {reason}; the agent tries again");
                self.record(lease, Level::Warning, EventKind::Retry, text);
                lease.phase = after(pause(tries, LONGEST_REVOCATION_PAUSE), tries, first(revoke));
            }
            Settlement::Waits(wait, text) => {
                if lease.reason.as_deref() != Some(&text) {
                    self.record(lease, Level::Info, EventKind::Retry, text.clone());
                    lease.reason = Some(text);
                }
                lease.phase = after(millis(wait).max(millis(settle_delay)), tries, first(revoke));
            }
        }
    }

    /// Ends jobs that have no process here, if slurmctld says that they have left all nodes. Their epilogs did not run or did not reach
    /// the agent.
    pub(super) fn query_jobs(&self, task: &Task) {
        let copied = self.leases().current(task).map(|lease| {
            let shared = lease.submitted.is_some().then(|| (held(lease), self.times(lease)));
            (lease.uid, lease.running_jobs().collect::<BTreeSet<u32>>(), shared)
        });
        let Some((uid, jobs, shared)) = copied else { return };
        let Ok((output, _)) = self.jobs_of(uid, FRESH) else { return };
        let gone = gone(&output, &jobs);
        let shared = shared.map(|(held, times)| (self.by_slurmctld(held, times, DRIFTING), times));
        let now = self.now();
        let delay = millis(self.configured().intervals.missing_job_delay);
        let mut table = self.leases();
        if let (Some(((held, at), times)), Some(lease)) = (shared, table.current(task)) {
            lease.leaders.extend(decide_end(&output, &held, &self.node, at).1);
            lease.known.asked_at(self.submitted_within(times), times.now());
            self.lease_changed(&mut table, &task.key);
        }
        for job in gone {
            let Some(lease) = table.current(task) else { return };
            // A job that shows a process again after the question has been requeued to this node.
            if lease.jobs.get(&job).is_none_or(|own| !own.running || now.saturating_add(delay) > own.last_seen) {
                continue;
            }
            self.record(
                lease,
                Level::Warning,
                EventKind::Missed,
                format!("job {job} ended, but no epilog called the agent"),
            );
            table.files.end(uid, &FilePlace::Job(job));
            self.files_queued.notify_all();
            self.end_job(&mut table, job);
        }
    }

    /// Treats a panic of the worker thread as a temporary failure of its task.
    pub(super) fn task_panicked(&self, task: &Task) {
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        let reason = "an internal error of the agent";
        let is_late = lease.requests_of(task.action).is_some_and(|requests| !requests.is_current(task.round));
        match (lease.phase, task.action) {
            _ if is_late => {}
            (_, Action::RenewFile(index)) => {
                if let Some(file) = lease.file_mut(index) {
                    file.asked = None;
                }
                self.file_request_failed(lease, index, &RequestFailure::temporary(reason));
            }
            (_, Action::AskStart) => self.take_unknown_starts(lease),
            (Phase::Active { .. }, _) => {
                lease.asked = None;
                self.request_failed(lease, &RequestFailure::temporary(reason));
            }
            (Phase::Ended { tries, revoke, .. }, _) => {
                self.apply(lease, Settlement::AskAgain, tries.saturating_add(1), revoke);
            }
            (Phase::Refused | Phase::Finished { .. }, _) => {}
        }
        self.lease_changed(&mut table, &task.key);
    }
}
