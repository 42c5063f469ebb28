// SPDX-License-Identifier: MIT OR Apache-2.0
//! What nodes tell of the ends of submissions.

use std::time::Duration;

use super::brought::Brought;
use super::messages::{EndAnswer, EndRequest};
use super::places::submission;
use super::slurmctld::Answered;
use super::submission::End;
use super::submission_key::SubmissionKey;
use super::{Broker, millis};
use crate::agent::credential_service::{Admitted, Denied};
use crate::log::Level;

/// How long the end of a submission waits for slurmctld.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Nodes tell an end again after this time if the broker has no room for the submission.
const END_PAUSE: Duration = Duration::from_secs(120);

/// A job that has ended on the node that tells it, as slurmctld says.
#[derive(Debug, Clone, Copy)]
struct Ended {
    /// The job that leads it.
    leader: u32,
    /// It was submitted when jobs with this credential were.
    fits: bool,
}

impl Broker {
    /// No job of the submission runs on `node` any more.
    ///
    /// # Errors
    /// A sentence: this broker cannot open the credential. Another one may, and the node keeps the end until one has.
    pub async fn end(&self, node: &str, request: &EndRequest) -> Result<EndAnswer, String> {
        let EndRequest { job, uid, sealed } = request;
        let Brought { admitted, expired } = match self.brought(*job, *uid, sealed) {
            Ok(brought) => brought,
            // What is damaged, expired, or of another user or cluster, is revoked by nobody.
            Err(denied) if denied.is_final => return Ok(EndAnswer::Settled {}),
            Err(Denied { reason, .. }) => {
                let text = format!("node {node}, job {job} uid {uid}: its sub-token is not revoked here: {reason}");
                if self.told.is_new_of(node, &text, self.clock.elapsed()) {
                    self.log.line_of(*uid, Level::Warning, &text);
                }
                return Err(reason);
            }
        };
        let key = SubmissionKey::new(request.uid, &admitted.handle, &request.sealed);
        // Without room nothing is noted, whatever slurmctld says.
        let has_room = self.state().has_room(&key, node);
        let ended = if has_room { self.ended(node, request, (&key, &admitted)).await } else { None };
        let replacing = self.replacing_ended(request, ended.map(|ended| ended.leader), (&key, admitted.made));
        let mut waits = Vec::new();
        let is_superseded = replacing.as_ref().is_some_and(|own| own.replacement.has_retired(&key));
        if expired.is_none() && !is_superseded {
            // An end proves no job of the submission: the node may have another job of the user.
            let leader = ended.filter(|ended| ended.fits).map(|ended| ended.leader);
            waits.extend(self.note_end(
                (&key, request.sealed.as_str(), &admitted),
                (leader, false),
                (node, request.job),
            ));
        }
        if let Some(own) = replacing {
            let about = (&own.key, own.replacement.sealed.as_str(), &own.admitted);
            waits.extend(self.note_end(about, (Some(own.leader), true), (node, request.job)));
        }
        Ok(waits.into_iter().min().map_or(EndAnswer::Settled {}, |wait| EndAnswer::Waits { wait: millis(wait) }))
    }

    /// Notes that a job of a submission has ended on a node. Returns when the node tells it again; `None` if nothing is left to do.
    fn note_end(
        &self,
        (key, sealed, admitted): (&SubmissionKey, &str, &Admitted),
        (leader, is_sure): (Option<u32>, bool),
        (node, job): (&str, u32),
    ) -> Option<Duration> {
        let mut state = self.state();
        let Some(submission) = submission(&mut state, key, sealed, admitted, node) else { return Some(END_PAUSE) };
        if let Some(leader) = leader {
            submission.binding.learn(leader, is_sure);
        }
        if is_sure {
            submission.jobs.insert(job);
        }
        submission.judged_from = Duration::ZERO;
        let now = self.clock.elapsed();
        match submission.end {
            End::Settled { .. } => None,
            End::Open { .. } => {
                self.questions.plan(now);
                Some(submission.node_ended(now))
            }
            End::Revoking { .. } => Some(submission.node_ended(now)),
        }
    }

    /// What slurmctld says of a job that has ended, for a submission of which no job is known: this broker has started anew, or the nodes
    /// have asked another one. Only slurmctld proves that the job was on the node; without that, the submission waits for all jobs of its
    /// user. It is asked once for a submission.
    async fn ended(
        &self,
        node: &str,
        request: &EndRequest,
        (key, admitted): (&SubmissionKey, &Admitted),
    ) -> Option<Ended> {
        let (has_leader, is_told) = {
            let state = self.state();
            let known = state.submissions.get(key);
            let has_leader = known.is_some_and(|known| !known.binding.named().is_empty());
            (has_leader, known.is_some_and(|known| known.first_end.is_some()))
        };
        if has_leader {
            return None;
        }
        let ended = |answered: &Answered| {
            let job = answered.jobs.as_ref()?.job(request.job)?;
            // Which jobs share a credential, the time says without the nodes.
            let fits = admitted.submitted.is_none() && job.was_submitted_in(self.submission_time(admitted, answered));
            (job.uid == request.uid && job.had(node)).then_some(Ended { leader: job.leader, fits })
        };
        let (now, answered) = (self.clock.elapsed(), self.questions.last());
        if let Some(ended) = ended(&answered) {
            return Some(ended);
        }
        if is_told {
            return None;
        }
        self.asking.ended.may_ask(node, request.job, now).ok()?;
        let unanswered = self.unanswered(&self.asking.ended, node, request.job);
        let answered = tokio::time::timeout(END_PATIENCE, self.questions.after(now)).await;
        unanswered.answered();
        let answered = answered.ok()?;
        let found = ended(&answered);
        match found {
            Some(_) => self.asking.ended.found(node, request.job),
            None if answered.trouble.is_none() => {
                self.asked_in_vain(&self.asking.ended, node, request.job, answered.asked);
            }
            None => {}
        }
        found
    }
}
