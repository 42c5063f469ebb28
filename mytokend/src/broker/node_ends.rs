// SPDX-License-Identifier: MIT OR Apache-2.0
//! What nodes tell of the ends of submissions.

use std::time::Duration;

use super::brought::Brought;
use super::messages::{EndAnswer, EndRequest};
use super::slurmctld::Answered;
use super::submission::End;
use super::submission_key::SubmissionKey;
use super::{Broker, millis, submission};
use crate::agent::credential_service::{Admitted, Denied};
use crate::log::Level;

/// How long the end of a submission waits for slurmctld.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Nodes tell an end again after this time if the broker has no room for the submission.
const END_PAUSE: Duration = Duration::from_secs(120);

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
        let leader = self.leader_of_ended(node, request, &key).await;
        let replacing = self.replacing_ended(request, leader, (&key, admitted.made));
        let mut waits = Vec::new();
        let is_superseded = replacing.as_ref().is_some_and(|own| own.replacement.has_retired(&key));
        if expired.is_none() && !is_superseded {
            waits.extend(self.note_end((&key, request.sealed.as_str(), &admitted), leader, request.job));
        }
        if let Some(own) = replacing {
            let about = (&own.key, own.replacement.sealed.as_str(), &own.admitted);
            waits.extend(self.note_end(about, Some(own.leader), request.job));
        }
        Ok(waits.into_iter().min().map_or(EndAnswer::Settled {}, |wait| EndAnswer::Waits { wait: millis(wait) }))
    }

    /// Notes that a job of a submission has ended on a node. Returns when the node tells it again; `None` if nothing is left to do.
    fn note_end(
        &self,
        (key, sealed, admitted): (&SubmissionKey, &str, &Admitted),
        leader: Option<u32>,
        job: u32,
    ) -> Option<Duration> {
        let mut state = self.state();
        let Some(submission) = submission(&mut state, key, sealed, admitted) else { return Some(END_PAUSE) };
        submission.binding.leaders.extend(leader);
        submission.jobs.insert(job);
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

    /// The leader of a job that has ended, for a submission of which no job is known: this broker has started anew. Only slurmctld proves
    /// that the job was on the node; without that, the submission waits for all jobs of its user.
    async fn leader_of_ended(&self, node: &str, request: &EndRequest, key: &SubmissionKey) -> Option<u32> {
        if self.state().submissions.get(key).is_some_and(|known| !known.binding.leaders.is_empty()) {
            return None;
        }
        let leader = |answered: &Answered| {
            let job = answered.jobs.as_ref()?.job(request.job)?;
            (job.uid == request.uid && job.had(node)).then_some(job.leader)
        };
        let (now, answered) = (self.clock.elapsed(), self.questions.last());
        if let Some(leader) = leader(&answered) {
            return Some(leader);
        }
        self.asking.ended.may_ask(node, request.job, now).ok()?;
        let unanswered = self.unanswered(&self.asking.ended, node, request.job);
        let answered = tokio::time::timeout(END_PATIENCE, self.questions.after(now)).await;
        unanswered.answered();
        let answered = answered.ok()?;
        let found = leader(&answered);
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
