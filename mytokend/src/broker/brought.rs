// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which credential serves a job: the one that it has brought, or the one that has replaced that while the job waited. Nodes go on sending
//! the text of the submission, and to them the credential has its handle.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mytoken_wire::FileName;
use mytoken_wire::agent::JobStart;

use super::answers::NOT_ASKED;
use super::cluster_jobs::ClusterJobs;
use super::messages::{EndRequest, ReplacedAnswer, ReplacedRequest};
use super::replacements::{Leader, Replacement};
use super::submission::Submission;
use super::submission_key::SubmissionKey;
use super::{Broker, State};
use crate::agent::credential_service::{Admitted, Denied};
use crate::log::Level;

/// How long a node waits at most for slurmctld.
const PATIENCE: Duration = Duration::from_secs(10);

/// The credential that a job has brought.
pub(super) struct Brought {
    /// What it says.
    pub admitted: Admitted,
    /// Why it gives the job no token, if it has expired. Another one may have replaced it.
    pub expired: Option<Denied>,
}

/// The credential that serves a job.
pub(super) struct Served {
    /// Its submission.
    pub key: SubmissionKey,
    /// What the node is told of it. `None` while another one may be found.
    pub told: Option<Admitted>,
    /// slurmctld shows the job on the node that asks. Without that the node gets no token.
    pub runs_here: bool,
}

impl Served {
    /// Whether the credential has a further file with this name.
    pub(super) fn has_file(&self, name: &FileName) -> bool {
        self.told.as_ref().is_some_and(|told| told.files.iter().any(|own| own.name == *name))
    }
}

/// A credential that has replaced the one that a job has brought.
pub(super) struct Replacing {
    /// Its own submission.
    pub key: SubmissionKey,
    /// The job that leads those that it serves.
    pub leader: u32,
    /// What is kept of it.
    pub replacement: Arc<Replacement>,
    /// What it says.
    pub admitted: Admitted,
}

impl Replacing {
    /// What nodes are told of it: what they know the submission by stays as it was.
    pub(super) fn told(&self, brought: &Admitted) -> Admitted {
        Admitted {
            handle: brought.handle.clone(),
            required: brought.required,
            submitted: brought.submitted,
            followed: brought.followed,
            ..self.admitted.clone()
        }
    }
}

/// What serves jobs in place of the credentials of their submissions.
pub(super) struct InUse {
    /// By user and by leader: those that have given an access token.
    proven: HashMap<u32, HashMap<u32, Arc<Replacement>>>,
}

impl InUse {
    /// Those leaders of a submission whose jobs do not need its credential any more. Only its own leaders are looked at, and those of its
    /// jobs: a user may have new credentials for a thousand jobs, and each of the user's submissions is judged at each answer. Which jobs
    /// share a credential, only the time decides, so there all leaders are.
    pub(super) fn leaders_beside(
        &self,
        key: &SubmissionKey,
        submission: &Submission,
        jobs: &ClusterJobs,
    ) -> BTreeSet<u32> {
        let Some(of_user) = self.proven.get(&key.uid) else { return BTreeSet::new() };
        let made = submission.admitted.made;
        let is_replaced = |leader: &u32| of_user.get(leader).is_some_and(|other| other.replaces(key, made));
        if submission.binding.submitted.is_some() {
            return of_user.keys().copied().filter(is_replaced).collect();
        }
        let shown = jobs.shown(key.uid, &submission.jobs);
        let of_jobs = shown.iter().filter_map(|job| jobs.job(*job)).map(|job| job.leader);
        submission.binding.named().into_iter().chain(of_jobs).filter(is_replaced).collect()
    }
}

impl Broker {
    /// Opens the credential that a job has brought.
    pub(super) fn brought(&self, job: u32, uid: u32, sealed: &str) -> Result<Brought, Denied> {
        let denied = match self.admit(job, uid, sealed) {
            Ok(admitted) => return Ok(Brought { admitted, expired: None }),
            Err(denied) => denied,
        };
        match self.admit_expired(job, uid, sealed) {
            Some(admitted) => Ok(Brought { admitted, expired: Some(denied) }),
            None => Err(denied),
        }
    }

    fn admit_expired(&self, job: u32, uid: u32, sealed: &str) -> Option<Admitted> {
        if !self.replaced.has_any(uid) {
            return None;
        }
        let now = self.clock.elapsed();
        if let Some(admitted) = self.replaced.expired.get(uid, sealed, now) {
            return Some(admitted);
        }
        let start = JobStart { job, uid, ..JobStart::default() };
        let admitted = self.service().admit_expired(&start, sealed)?;
        self.replaced.expired.keep(uid, sealed, &admitted, now);
        Some(admitted)
    }

    /// What serves a job until slurmctld has told its leader.
    pub(super) fn served_at_first(&self, key: SubmissionKey, brought: &Brought) -> Served {
        let is_final = brought.expired.is_none() && !self.replaced.has_any(key.uid);
        Served { key, told: is_final.then(|| brought.admitted.clone()), runs_here: false }
    }

    /// The credential that has replaced this one for the jobs that `leader` leads. One that cannot be opened replaces none.
    pub(super) fn replacing(&self, leader: Leader, brought: &SubmissionKey, made: u64) -> Option<Replacing> {
        self.opened(leader, self.replaced.get(leader)?, (brought, made))
    }

    /// The same for a job that has ended. slurmctld may have forgotten it, and the submission may be over.
    pub(super) fn replacing_ended(
        &self,
        request: &EndRequest,
        leader: Option<u32>,
        brought: (&SubmissionKey, u64),
    ) -> Option<Replacing> {
        let EndRequest { job, uid, .. } = request;
        let candidates = self.replaced.of_user(*uid);
        if candidates.is_empty() {
            return None;
        }
        let in_answer = |jobs: &ClusterJobs| jobs.job(*job).filter(|own| own.uid == *uid).map(|own| own.leader);
        let leader = leader.or_else(|| self.questions.last().jobs.as_deref().and_then(in_answer));
        let found = {
            let state = self.state();
            let has_served = |other: &Replacement| {
                state.submissions.get(&other.key(*uid)).is_some_and(|known| known.jobs.contains(job))
            };
            candidates.into_iter().find(|(own, other)| Some(own.job) == leader || has_served(other))
        };
        let (own, replacement) = found?;
        self.opened(own, replacement, brought)
    }

    fn opened(
        &self,
        leader: Leader,
        replacement: Arc<Replacement>,
        (brought, made): (&SubmissionKey, u64),
    ) -> Option<Replacing> {
        if !replacement.replaces(brought, made) {
            return None;
        }
        match self.admit(leader.job, leader.uid, &replacement.sealed) {
            Ok(admitted) => {
                let key = replacement.key(leader.uid);
                Some(Replacing { key, leader: leader.job, replacement, admitted })
            }
            Err(denied) => {
                self.tell_unopened(leader, &denied.reason);
                None
            }
        }
    }

    /// Logs that a credential which replaces another one cannot be used.
    pub(super) fn tell_unopened(&self, leader: Leader, reason: &str) {
        let Leader { uid, job } = leader;
        let text = format!("job {job} uid {uid}: the credential that replaces its own cannot be opened: {reason}");
        if self.told.is_new(&text, self.clock.elapsed()) {
            self.log.line_of(uid, Level::Error, &text);
        }
    }

    /// The credential that has replaced the own one of a job on `node`, which has brought a handle under which nothing is kept. Only the node
    /// of the job gets it.
    ///
    /// # Errors
    /// A sentence: the node asks again.
    pub async fn replaced(&self, node: &str, request: &ReplacedRequest) -> Result<ReplacedAnswer, String> {
        let (uid, job) = (request.uid, request.job);
        if !self.replaced.has_any(uid) {
            return Ok(ReplacedAnswer::Unknown {});
        }
        let found = tokio::time::timeout(PATIENCE, self.leader_on(node, uid, job)).await;
        let leader = found.map_err(|_| "slurmctld does not answer the broker".to_owned())??;
        let replacement = self.replaced.get(Leader { uid, job: leader });
        Ok(replacement.map_or(ReplacedAnswer::Unknown {}, |own| ReplacedAnswer::Sealed(own.sealed.clone())))
    }

    /// The leader of a user's job that runs on `node`.
    async fn leader_on(&self, node: &str, uid: u32, job: u32) -> Result<u32, String> {
        let begin = self.clock.elapsed();
        let mut answered = self.questions.last();
        loop {
            let own = answered.jobs.as_ref().and_then(|jobs| jobs.job(job));
            if let Some(own) = own.filter(|own| own.uid == uid && own.is_on(node)) {
                self.asking.running.found(node, job);
                return Ok(own.leader);
            }
            // The job may have started since the answer.
            let is_new = answered.asked >= begin;
            if is_new || self.asking.running.may_ask(node, job, self.clock.elapsed()).is_err() {
                if let Some(trouble) = &answered.trouble {
                    return Err(format!("the broker cannot ask slurmctld about the job: {trouble}"));
                }
                let reason = format!("slurmctld says that job {job} does not run on {node}");
                if !is_new {
                    return Err(format!("{reason}; {NOT_ASKED}"));
                }
                self.not_shown(&self.asking.running, node, (job, Some(uid)), &answered);
                return Err(reason);
            }
            let unanswered = self.unanswered(&self.asking.running, node, job);
            answered = self.questions.newer(&answered).await;
            unanswered.answered();
        }
    }

    /// Which jobs are served by another credential than that of their submission. Until that has given a token, the one before is needed.
    pub(super) fn in_use(&self, state: &State) -> InUse {
        let mut found = InUse { proven: HashMap::new() };
        for (leader, replacement) in self.replaced.all() {
            let key = replacement.key(leader.uid);
            if state.submissions.get(&key).is_some_and(|known| known.proven) {
                found.proven.entry(leader.uid).or_default().insert(leader.job, replacement);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::super::ends::{Known, judge};
    use super::super::submission_key::TextHash;
    use super::*;

    const UID: u32 = 7;

    fn submission(handle: &str, made: u64, submitted: Option<(u64, u64)>) -> (SubmissionKey, Submission) {
        let admitted = Admitted {
            profile: "default".into(),
            handle: handle.into(),
            required: false,
            made,
            exp: 9_000,
            windows: Vec::new(),
            start_windows: Vec::new(),
            submitted: None,
            followed: false,
            lane: "lane".into(),
            limited_uses: false,
            description: String::new(),
            files: Vec::new(),
            is_provisional: false,
        };
        let mut submission = Submission::new("mt1.00000000.AA".into(), admitted);
        (submission.binding.submitted, submission.complete) = (submitted, true);
        (SubmissionKey::new(UID, handle, "mt1.00000000.AA"), submission)
    }

    fn in_use(replaced: &[(u32, u64, bool)]) -> InUse {
        let replacement = |(leader, made, has_retired): &(u32, u64, bool)| {
            let retired = if *has_retired { vec!["old".to_owned()] } else { Vec::new() };
            let (sealed, handle) = (String::new(), format!("new{leader}"));
            let text = TextHash::of(&sealed);
            let own = Replacement {
                sealed,
                text,
                handle,
                made: *made,
                exp: 9_000,
                server: String::new(),
                follows: false,
                retired,
            };
            (*leader, Arc::new(own))
        };
        let of_user: HashMap<u32, Arc<Replacement>> = replaced.iter().map(replacement).collect();
        InUse { proven: HashMap::from([(UID, of_user)]) }
    }

    #[test]
    fn only_the_leaders_of_a_submission_count_unless_several_share_its_credential() {
        let lines = "7|1000|1|1|RUNNING|1000|N/A|n1|n1\n7|1000|3|2_1|RUNNING|1000|N/A|n1|n1\n";
        let jobs = ClusterJobs::parse(lines).unwrap();
        let in_use = in_use(&[(1, 50, false), (2, 50, false), (4, 50, false), (5, 1, false), (6, 1, true)]);
        let (key, mut own) = submission("old", 10, None);
        assert_eq!(in_use.leaders_beside(&key, &own, &jobs), BTreeSet::new());
        own.binding.leaders = [1, 5, 6, 9].into();
        assert_eq!(in_use.leaders_beside(&key, &own, &jobs), BTreeSet::from([1, 6]), "5 is older, and 9 has none");
        own.jobs = [3].into();
        assert_eq!(in_use.leaders_beside(&key, &own, &jobs), BTreeSet::from([1, 2, 6]), "that of its job, too");
        own.binding.submitted = Some((1, 2));
        assert_eq!(in_use.leaders_beside(&key, &own, &jobs), BTreeSet::from([1, 2, 4, 6]));
        let (key, mut itself) = submission("new1", 10, None);
        itself.binding.leaders = [1].into();
        assert_eq!(in_use.leaders_beside(&key, &itself, &jobs), BTreeSet::new());
        let stranger = SubmissionKey { uid: UID + 1, ..key };
        assert_eq!(in_use.leaders_beside(&stranger, &own, &jobs), BTreeSet::new());
    }

    proptest! {
        /// A submission is judged as with the leaders of all new credentials of its user.
        #[test]
        fn the_leaders_of_other_submissions_change_nothing(
            rows in vec((1..9_u32, 0..3_u32, 0..4_usize), 0..12),
            own_jobs in btree_set(1..9_u32, 0..4),
            leaders in btree_set(1..9_u32, 0..3),
            replaced in vec((1..9_u32, 0..20_u64, any::<bool>()), 0..6),
            shared in any::<bool>(),
        ) {
            const STATES: [&str; 4] = ["RUNNING", "PENDING", "COMPLETED", "CANCELLED"];
            let mut lines = String::new();
            let mut seen = BTreeSet::new();
            for (job, leader, state) in rows {
                if seen.insert(job) {
                    let array = (job - job.min(leader)).max(1);
                    let id = if array == job { job.to_string() } else { format!("{array}_{job}") };
                    lines += &format!("7|1000|{job}|{id}|{}|1000|1500|n1|n1\n", STATES[state]);
                }
            }
            let jobs = ClusterJobs::parse(&lines).unwrap();
            let in_use = in_use(&replaced);
            let (key, mut own) = submission("old", 10, shared.then_some((990, 1_010)));
            (own.jobs, own.binding.leaders) = (own_jobs, leaders);
            let all: BTreeSet<u32> = in_use.proven[&UID]
                .iter()
                .filter(|(_, other)| other.replaces(&key, 10))
                .map(|(leader, _)| *leader)
                .collect();
            let known = |replaced| Known {
                uid: UID,
                jobs: &own.jobs,
                binding: &own.binding,
                complete: true,
                time: (0, 0),
                is_told: true,
                unclaimed: false,
                replaced,
            };
            let few = in_use.leaders_beside(&key, &own, &jobs);
            prop_assert!(few.is_subset(&all));
            prop_assert_eq!(judge(&jobs, known(&few), 2_000), judge(&jobs, known(&all), 2_000));
        }
    }
}
