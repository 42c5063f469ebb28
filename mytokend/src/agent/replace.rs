// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out `mytokenctl replace`: a running job gets a new credential. The old one stays in place until the new one has given an access
//! token on each node of the job; then one node revokes it, or with
//! brokers the broker, when its submission is over.

use mytoken::Deadline;
use mytoken_wire::JobName;
use mytoken_wire::agent::{Answer, EventKind, JobStart, OldCredential, Replace, Retire};

use super::budget::ledger::Purpose;
use super::credential_service::Charge;
use super::file_queue::FilePlace;
use super::lease::{Action, Ends, Lease, LeaseCredential, LeaseKey, Phase, StandsFor};
use super::named_files::take_files;
use super::on_request::{Caller, PATIENCE, PAUSE, job_name, none_here, runs};
use super::settle::held;
use super::user_jobs::FRESH;
use super::{Agent, millis};
use crate::jobs::submission_end::decide_end;
use crate::jobs::{EndDecision, Validity, validity};
use crate::log::Level;

/// Most new credentials of a job. Each is a lease until the job ends, and every one that follows remembers them all.
const MOST_OF_JOB: usize = 16;

impl Agent {
    pub(super) fn replace(&self, request: &Replace, caller: Caller) -> Answer {
        match self.try_to_replace(request, caller) {
            Ok(job) => {
                self.wait_for_files(&FilePlace::Job(job), PATIENCE);
                Answer::Status(self.list(|lease, own| own == Some(job) && lease.runs(job)))
            }
            Err(reason) => Answer::Error(reason),
        }
    }

    /// Returns the job.
    fn try_to_replace(&self, request: &Replace, caller: Caller) -> Result<u32, String> {
        let (key, generation, job, owner) = {
            let table = self.leases();
            let jobs_of = |lease: &Lease| lease.running_jobs().collect::<Vec<u32>>();
            let all = table
                .leases()
                .filter(|lease| caller.may(lease))
                .flat_map(|lease| jobs_of(lease).into_iter().map(move |job| (lease, job)));
            let means = |(lease, job): &(&Lease, u32)| request.job.means(*job, job_name(lease, *job));
            let mut meant: Vec<(&Lease, u32)> = all.filter(means).collect();
            // The number of an array's last task, and of the first component, is that of the whole.
            if let Some(exact) = meant.iter().find(|(_, job)| request.job == JobName::Job(*job)).copied() {
                meant = vec![exact];
            }
            match meant[..] {
                [] => return Err(none_here(Some(request.job), &self.node)),
                [(lease, job)] if matches!(lease.key, LeaseKey::Submission { .. }) => {
                    (lease.key.clone(), lease.generation, job, lease.owner(Some(job)))
                }
                [_] => return Err(format!("job {} has no credential that could be replaced", request.job)),
                [..] => return Err(format!("{} means several jobs; name one", request.job)),
            }
        };
        let start = JobStart { job, uid: owner.uid, gid: owner.gid, ..JobStart::default() };
        let configured = self.configured();
        let now = self.now() / 1000;
        let admitted = configured.service.admit(&start, &request.sealed).map_err(|denied| denied.reason)?;
        let new_key = LeaseKey::Submission { uid: owner.uid, handle: admitted.handle.clone() };
        // Where it was made, the agent follows it.
        if let Some(known) = self.leases().get(&new_key).filter(|known| !known.is_followed_here()) {
            let is_done = known.runs(job) && known.replaced.is_some();
            return if is_done { Ok(job) } else { Err("this credential is in use already".to_owned()) };
        }
        if let Some(reason) = self.leases().get(&key).and_then(|lease| lease.window_of(job).reason()) {
            return Err(format!("the new credential cannot be tried now, and the old one stays: {reason}"));
        }
        if let Validity::From(_) = validity(&admitted.windows, now) {
            return Err("the new credential is not valid yet, and the old one stays".to_owned());
        }
        // Anybody can seal a text that the server refuses, and each one costs a request.
        let is_recent =
            |lease: &Lease| lease.requested.is_some_and(|last| last.saturating_add(millis(PAUSE)) > self.now());
        if self.leases().get(&key).is_some_and(is_recent) {
            return Err(format!("the last request for this job was a moment ago; wait {} s", PAUSE.as_secs()));
        }
        let had = |lease: &Lease| lease.stands_for.as_ref().map_or(0, |earlier| earlier.handles.len());
        if self.leases().get(&key).is_some_and(|lease| had(lease) >= MOST_OF_JOB) {
            return Err(format!("job {job} has had {MOST_OF_JOB} new credentials; submit it again"));
        }
        let begin = self.clock.elapsed();
        let credential = LeaseCredential::Sealed(request.sealed.clone());
        let answered = configured.service.access_token(
            &credential,
            None,
            &format!("job {job} on {}", self.node),
            // A broker gives tokens to jobs only.
            Charge { uid: owner.uid, purpose: Purpose::Asked, job: Some(job) },
            Deadline::after(configured.intervals.request_deadline),
        );
        // Of what only a broker can open, its answer tells the content.
        let learned = configured.service.learned(&credential);
        let issued = answered.map_err(|failure| {
            if let Some(lease) = self.leases().get_mut(&key) {
                lease.requested = Some(self.now());
            }
            format!("the new credential gives no access token, and the old one stays: {}", failure.reason)
        })?;
        let admitted = learned.unwrap_or(admitted);
        let took = self.clock.elapsed().saturating_sub(begin);

        let now = self.now();
        let mut table = self.leases();
        let here = table.get_mut(&key).filter(|lease| lease.generation == generation);
        let Some((old, local)) = here.and_then(|lease| {
            let mut local = lease.jobs.get(&job).filter(|job| job.running).cloned()?;
            // The first token of the old credential may be written at this moment.
            local.is_stale |= local.file.is_none();
            // What is found there would be of the old credential.
            local.is_doubtful = false;
            Some((lease, local))
        }) else {
            return Err(format!("job {job} ended in the meantime"));
        };
        old.jobs.remove(&job);
        let files = take_files(old, job);
        let mut new = Lease::new(new_key.clone(), owner, "-", now);
        // Which nodes have the new credential is known at the end of this run.
        (new.history, new.leaders) = (old.history.clone(), old.leaders.clone());
        let LeaseKey::Submission { handle, .. } = &key else {
            return Err("internal error: not a submission".to_owned());
        };
        new.replaced = Some(handle.clone());
        let earlier = old.stands_for.iter().flat_map(|earlier| earlier.handles.iter().cloned());
        new.stands_for = Some(StandsFor { job, handles: earlier.chain([handle.clone()]).collect() });
        new.requested = Some(now);
        let required = old.required;
        if old.is_running() && old.running_jobs().next().is_none() {
            old.phase = if old.credential.is_some() {
                let due = now.saturating_add(millis(configured.intervals.settle_delay));
                Phase::Ended { due, tries: 0, revoke: None }
            } else {
                Phase::Finished { due: now.saturating_add(millis(configured.intervals.retention)) }
            };
        }
        new.jobs.insert(job, local);
        self.record(&mut new, Level::Info, EventKind::Replaced, "the job has a new credential");
        self.begin_lease(&mut new, Ok((admitted, credential)), now);
        let unwanted = Self::take_over_files(&mut new, job, files);
        new.required = required;
        // Until it is known that every node has it, no other one revokes it.
        new.ends = Ends::JobsHere;
        self.install(&mut new, &issued, took, true);
        // Also if that has installed nothing: a thread is to remove the files of the old credential.
        new.files_due = true;
        table.insert(new);
        table.files.remove_further(owner.uid, job, unwanted);
        self.lease_changed(&mut table, &key);
        self.lease_changed(&mut table, &new_key);
        Ok(job)
    }

    /// All nodes of the job have the new credential: it ends as that of a submission does, and the old one is revoked by one node, or by the
    /// broker when its submission is over, unless other jobs need it.
    pub(super) fn retire(&self, request: &Retire, caller: Caller) -> Answer {
        let begin = self.clock.elapsed();
        let (key, old_key) = {
            let mut table = self.leases();
            let replaced = |lease: &&Lease| caller.may(lease) && lease.replaced.is_some() && runs(lease, request.job);
            let exact = |lease: &&Lease| lease.running_jobs().any(|job| request.job == JobName::Job(job));
            let found = table.leases().filter(replaced).max_by_key(exact).map(|lease| lease.key.clone());
            let Some((key, new)) = found.and_then(|key| Some((key.clone(), table.get_mut(&key)?))) else {
                return Answer::Error(format!("no credential of job {} was replaced here", request.job));
            };
            new.ends = Ends::Submission;
            let old_key = LeaseKey::Submission { uid: new.uid, handle: new.replaced.take().unwrap_or_default() };
            self.lease_changed(&mut table, &key);
            (key, old_key)
        };
        let kept = request.old == OldCredential::Revoke && self.others_need(&old_key, &key);
        let now = self.now();
        let retention = millis(self.configured().intervals.retention);
        let mut table = self.leases();
        if let Some(old) = table.get_mut(&old_key).filter(|old| matches!(old.phase, Phase::Ended { .. }) && !kept) {
            match request.old {
                // That of an earlier replacement is perhaps not on the node that revokes: settled at the end of the job.
                OldCredential::Leave if old.stands_for.is_some() => {}
                OldCredential::Leave => {
                    self.record(old, Level::Info, EventKind::Left, "another node revokes the replaced sub-token");
                    old.credential = None;
                    old.phase = Phase::Finished { due: now.saturating_add(retention) };
                }
                // Jobs that run under it here keep it.
                OldCredential::Revoke if old.running_jobs().next().is_some() || old.credential.is_none() => {}
                OldCredential::Revoke => {
                    old.ends = Ends::OnRequest;
                    old.phase = Phase::Ended { due: now, tries: 0, revoke: None };
                    table.enqueue(&old_key, Action::Revoke);
                    self.queued.notify_all();
                }
            }
            self.lease_changed(&mut table, &old_key);
        }
        drop(table);
        if kept {
            return Answer::Error("other jobs that were submitted with the old credential may need it".to_owned());
        }
        self.wait_until(std::slice::from_ref(&old_key), begin, |lease| !lease.revoking);
        let is_left = |old: &Lease| matches!(old.phase, Phase::Ended { .. });
        if request.old == OldCredential::Revoke
            && self.configured().service.decides_ends()
            && self.leases().get(&old_key).is_some_and(is_left)
        {
            return Answer::Error("the broker revokes it when its submission is over".to_owned());
        }
        Answer::Status(self.list(|lease, job| lease.key == key && job.is_some_and(|job| lease.runs(job))))
    }

    /// Whether jobs beside those of the lease `new` may run with the credential of `old`: submissions of a loop share one, and only
    /// slurmctld knows the jobs on other nodes and in the queue.
    fn others_need(&self, old: &LeaseKey, new: &LeaseKey) -> bool {
        let (uid, held, times, replaced) = {
            let table = self.leases();
            let Some(lease) = table.get(old).filter(|lease| lease.credential.is_some()) else { return false };
            let replaced: Vec<u32> = table.get(new).map(|new| new.running_jobs().collect()).unwrap_or_default();
            (lease.uid, held(lease), self.times(lease), replaced)
        };
        let Ok((output, _)) = self.jobs_of(uid, FRESH) else { return true };
        let id = |line: &str| line.split('|').next().and_then(|id| id.trim().parse::<u32>().ok());
        let others: Vec<&str> =
            output.lines().filter(|line| id(line).is_none_or(|id| !replaced.contains(&id))).collect();
        let (held, now) = self.by_slurmctld(held, times, FRESH);
        let (decision, _) = decide_end(&others.join("\n"), &held, &self.node, now);
        !matches!(decision, EndDecision::Revoke { .. } | EndDecision::Leave)
    }
}
