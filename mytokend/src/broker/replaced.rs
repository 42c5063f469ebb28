// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes new credentials for jobs that wait (`mytokenctl replace`), and revokes them and those that they have replaced.
//!
//! A sealed text is no proof: anybody can make one for any user. So a host may bring one for the jobs only that were submitted there, as
//! slurmctld says. A node that was taken over cannot give jobs of other hosts a credential of its own.

mod limits;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mytoken::Error;
use mytoken_wire::printable;
use tokio::time::timeout;

use super::Broker;
use super::cluster_jobs::ClusterJobs;
use super::ends::Standing;
use super::identity::StateDir;
use super::messages::{ReplaceAnswer, ReplaceRequest};
use super::node_questions::user_on;
use super::opened::Opened;
use super::places::submission;
use super::replacements::{Leader, Replacement, Replacements};
use super::settings::BrokerSettings;
use super::submission_key::SubmissionKey;
use crate::agent::credential_service::Admitted;
use crate::log::Level;
use turns::Turns;

/// Longest wait for slurmctld's answer about all jobs, and as long for the turn. An agent waits longer than both.
const PATIENCE: Duration = Duration::from_secs(6);

/// Between two questions about the host of a submission. slurmctld serves the whole cluster.
const PAUSE: Duration = Duration::from_millis(250);

/// What a user is told of a job for which slurmctld is not asked.
const ASKED_OFTEN: &str =
    "slurmctld was asked too often about this job, or about wrong jobs of this host; try again in a minute";

/// Between two times at which the files are brought in line with memory.
const TURN: Duration = Duration::from_secs(2);

/// Turns between two looks for those that have expired, or could not be read.
const EXPIRY: u32 = 30;

/// The new credentials, and whose turn it is to bring one.
#[derive(Default)]
pub(super) struct Replaced {
    store: OnceLock<Replacements>,
    turns: Turns,
    /// Jobs that got a new credential not long ago, and when, elapsed time.
    pub recent: Mutex<BTreeMap<Leader, Duration>>,
    /// Credentials that have expired, opened in the last seconds.
    pub expired: Opened,
}

impl Replaced {
    /// Whether a job of this user has a new credential.
    pub(super) fn has_any(&self, uid: u32) -> bool {
        self.store.get().is_some_and(|store| store.has_any(uid))
    }

    pub(super) fn get(&self, leader: Leader) -> Option<Arc<Replacement>> {
        self.store.get()?.get(leader)
    }

    pub(super) fn of_user(&self, uid: u32) -> Vec<(Leader, Arc<Replacement>)> {
        self.store.get().map(|store| store.of_user(uid)).unwrap_or_default()
    }

    pub(super) fn all(&self) -> Vec<(Leader, Arc<Replacement>)> {
        self.store.get().map(Replacements::all).unwrap_or_default()
    }

    /// Whether a submission with this handle has replaced another one.
    pub(super) fn has(&self, key: &SubmissionKey) -> bool {
        self.of_user(key.uid).iter().any(|(_, own)| own.handle == key.handle)
    }

    /// Whether there is any whose jobs have not ended.
    pub(super) fn is_used(&self) -> bool {
        self.store.get().is_some_and(Replacements::is_used)
    }

    /// Takes note of an answer of slurmctld about those without a submission that is remembered, and forgets the ones that are over. Another
    /// broker revokes their sub-tokens.
    pub(super) fn note(&self, jobs: &ClusterJobs, is_remembered: impl Fn(&SubmissionKey) -> bool) {
        let Some(store) = self.store.get() else { return };
        let has_submission = |leader: Leader, own: &Replacement| is_remembered(&own.key(leader.uid));
        store.note(|leader, own| {
            let standing = || match jobs.is_live(leader.uid, leader.job) {
                Some(true) => Standing::GoesOn,
                Some(false) => Standing::Over,
                None => Standing::NotShown,
            };
            (!has_submission(leader, own)).then(standing)
        });
        store.prune(has_submission);
    }
}

impl Broker {
    /// Uses what `broker.state_dir` keeps: new credentials of jobs that wait, and the texts of escrow.
    ///
    /// # Errors
    /// When a directory cannot be used.
    pub fn open_stores(&self, settings: &BrokerSettings) -> Result<(), Error> {
        if self.replaced.store.get().is_none() {
            let (store, unreadable) = StateDir::open_or_make(&settings.state_dir)?.replacements()?;
            for problem in unreadable {
                let text = format!("a new credential of a job that waits cannot be read: {problem}");
                self.log.line(Level::Error, &text);
            }
            self.use_replacements(store);
        }
        self.configure_escrow(settings)
    }

    /// Those that an earlier run has left. From now on jobs get their tokens.
    pub(super) fn use_replacements(&self, store: Replacements) {
        for (leader, own) in store.all() {
            // The last run ended before it removed the file.
            if self.has_revoked(&own.key(leader.uid)) {
                store.forget(leader, &own.handle);
            }
        }
        self.follow_those_read(store.all());
        let _ = self.replaced.store.set(store);
    }

    fn follow_those_read(&self, read: Vec<(Leader, Arc<Replacement>)>) {
        for (leader, own) in read.into_iter().filter(|(_, own)| own.follows) {
            match self.admit(leader.job, leader.uid, &own.sealed) {
                Ok(admitted) => self.follow_replacement("", leader, &own.sealed, &admitted),
                Err(denied) => self.tell_unopened(leader, &denied.reason),
            }
        }
    }

    /// Keeps a new credential for a job that waits, which was submitted on `host`.
    pub async fn replace(self: &Arc<Self>, host: &str, request: &ReplaceRequest) -> ReplaceAnswer {
        match self.try_to_replace(host, request).await {
            Ok(()) => ReplaceAnswer::Replaced {},
            Err(reason) => {
                let ReplaceRequest { uid, job, .. } = request;
                let text = format!("host {host}, job {job} uid {uid}: its credential is not replaced: {reason}");
                if self.told.is_new_of(host, &text, self.clock.elapsed()) {
                    self.log.line_of(*uid, Level::Warning, &text);
                }
                ReplaceAnswer::Refused { reason }
            }
        }
    }

    async fn try_to_replace(self: &Arc<Self>, host: &str, request: &ReplaceRequest) -> Result<(), String> {
        let opened = self.admit(request.job, request.uid, &request.sealed);
        let admitted = opened.map_err(|denied| denied.reason)?;
        if admitted.submitted.is_some() {
            return Err("a credential that the submissions of a loop share replaces none".to_owned());
        }
        if self.check_replacement(host, request, &admitted)? {
            return Ok(());
        }
        let busy = "the broker is busy with other jobs of this host; try again in a minute";
        let entered = self.replaced.turns.enter(host).ok_or(busy)?;
        let now = self.clock.elapsed();
        if self.asking.waiting.may_ask(&user_on(host, request.uid), request.job, now).is_err() {
            return Err(ASKED_OFTEN.to_owned());
        }
        if self.asking.hosts.may_ask(host, request.job, now).is_err() {
            return Err("this host has asked for too many wrong jobs; try again in a minute".to_owned());
        }
        self.is_live(host, request.uid, request.job).await?;
        let turn = self.replaced.turns.take().await;
        let mut turn = turn.ok_or("the broker is busy with other jobs; try again in a minute")?;
        let (broker, host, request) = (Arc::clone(self), host.to_owned(), request.clone());
        // It waits for slurmctld and for the disk. The turn goes with it: a caller who gives up starts no second one beside it.
        let work = move || -> Result<(), String> {
            let _entered = entered;
            broker.was_submitted_on(&host, (request.uid, request.job), &mut turn)?;
            broker.take_replacement(&host, &request, &admitted)?;
            broker.asking.waiting.found(&user_on(&host, request.uid), request.job);
            Ok(())
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| "internal error of the broker".to_owned())?
    }

    /// Refuses a job that slurmctld does not show as one of this user that leads its submission and has not ended.
    async fn is_live(&self, host: &str, uid: u32, job: u32) -> Result<(), String> {
        let unanswered = self.unanswered_waiting(host, uid, job);
        let answered = timeout(PATIENCE, self.questions.after(self.clock.elapsed())).await;
        unanswered.answered();
        let answered = answered.map_err(|_| "slurmctld does not answer the broker".to_owned())?;
        if let Some(trouble) = answered.trouble {
            return Err(format!("the broker cannot ask slurmctld about the job: {trouble}"));
        }
        let jobs = answered.jobs.ok_or("slurmctld does not answer the broker")?;
        if jobs.live_leaders(uid).any(|leader| leader == job) {
            // The user can ask for it again and again, and perhaps nothing comes of it.
            self.asking.waiting.asked(&user_on(host, uid), job, self.clock.elapsed());
            return Ok(());
        }
        self.named_wrong_job(host, uid, job, answered.asked);
        Err(match jobs.job(job) {
            Some(known) if known.uid != uid => format!("job {job} belongs to another user"),
            Some(known) if known.leader != job => format!("job {job} belongs to job {}", known.leader),
            Some(_) => format!("job {job} has ended"),
            None => format!("slurmctld knows no job {job} of this user that waits"),
        })
    }

    /// Refuses a job that was submitted on another host, or of which slurmctld does not tell the host. It waits for slurmctld.
    fn was_submitted_on(&self, host: &str, (uid, job): (u32, u32), last: &mut Duration) -> Result<(), String> {
        std::thread::sleep(last.saturating_add(PAUSE).saturating_sub(self.clock.elapsed()).min(PAUSE));
        let hosts = self.controller.submit_hosts(job);
        *last = self.clock.elapsed();
        let hosts = hosts.map_err(|error| format!("the broker cannot ask slurmctld about the job: {error}"))?;
        if hosts.is_empty() {
            return Err(format!("slurmctld does not tell on which host job {job} was submitted"));
        }
        match hosts.iter().find(|other| !is_host(host, other)) {
            Some(other) => {
                self.named_wrong_job(host, uid, job, *last);
                let other = printable(other, 64);
                Err(format!("job {job} was submitted on {other}, and only there its credential can be replaced"))
            }
            None => Ok(()),
        }
    }

    /// Keeps the credential. It waits for the disk.
    fn take_replacement(&self, host: &str, request: &ReplaceRequest, admitted: &Admitted) -> Result<(), String> {
        // Meanwhile another request may have brought one.
        if self.check_replacement(host, request, admitted)? {
            return Ok(());
        }
        let ReplaceRequest { uid, job, sealed, follows } = request;
        let store = self.replaced.store.get().ok_or("this broker has no directory for new credentials")?;
        let leader = Leader { uid: *uid, job: *job };
        let key = SubmissionKey::new(*uid, &admitted.handle, sealed);
        let new = Replacement {
            sealed: sealed.clone(),
            text: key.text,
            handle: key.handle,
            made: admitted.made,
            exp: admitted.exp,
            server: admitted.server().to_owned(),
            follows: *follows,
            retired: Vec::new(),
        };
        let before = store.put(leader, new).map_err(|error| error.to_string())?;
        self.replaced.keep_pause(leader, self.clock.elapsed());
        if *follows {
            self.follow_replacement(host, leader, sealed, admitted);
        }
        if let Some(before) = before {
            let key = before.key(*uid);
            // One that serves jobs is needed until the new one has given a token, as that of the submission is.
            if let Some(earlier) = self.state().submissions.get_mut(&key).filter(|earlier| !earlier.proven) {
                earlier.give_up(self.clock.elapsed());
            }
            self.queue_revocations();
        }
        let text = format!("job {job} uid {uid}: host {host} has brought a new credential for it");
        self.log.line_of(*uid, Level::Info, &text);
        Ok(())
    }

    /// Revokes the sub-token when the jobs of the leader have ended, also if none of them has ever asked for a token.
    fn follow_replacement(&self, host: &str, leader: Leader, sealed: &str, admitted: &Admitted) {
        let key = SubmissionKey::new(leader.uid, &admitted.handle, sealed);
        let mut state = self.state();
        if let Some(own) = submission(&mut state, &key, sealed, admitted, host) {
            own.binding.learn(leader.job, true);
        }
    }

    /// The sub-token of a submission with these leaders, made at `made`, is revoked, or need not be. It does not wait for the disk.
    pub(super) fn retire_replaced(&self, key: &SubmissionKey, made: u64, leaders: &BTreeSet<u32>) {
        let Some(store) = self.replaced.store.get() else { return };
        for (leader, own) in store.of_user(key.uid) {
            if own.key(leader.uid) == *key {
                store.forget(leader, &key.handle);
            } else if leaders.contains(&leader.job) && own.replaces(key, made) {
                store.retire(leader, key);
            }
        }
    }

    /// Brings the files in line with memory, in a thread of its own: a disk that hangs holds up nothing else.
    pub(super) fn run_replacements(&self) {
        let mut turns = 0_u32;
        loop {
            std::thread::sleep(TURN);
            if self.state().stopping {
                return;
            }
            turns = turns.wrapping_add(1);
            let _ = catch_unwind(AssertUnwindSafe(|| self.sweep_replacements(turns % EXPIRY == 0)));
        }
    }

    /// Writes and removes files; with `looks`, also those that have expired, and it reads again what could not be read.
    pub(super) fn sweep_replacements(&self, looks: bool) {
        let Some(store) = self.replaced.store.get() else { return };
        if looks {
            let times = self.expiry_times();
            store.expire(|server| times.at(server));
            self.follow_those_read(store.read_again());
        }
        if let Err(error) = store.sweep() {
            let text = format!("the file of a new credential could not be written or removed: {error}");
            if self.told.is_new(&text, self.clock.elapsed()) {
                self.log.line(Level::Error, &text);
            }
        }
    }
}

/// Whether the host with this name in its certificate is the one that slurmctld shows. Slurm may show it with its domain. The name of the
/// certificate is not cut: who owns a domain may have one for `login1.evil.org`, and that is not `login1`.
fn is_host(certificate: &str, shown: &str) -> bool {
    certificate == shown || shown.split_once('.').is_some_and(|(short, _)| certificate == short)
}
