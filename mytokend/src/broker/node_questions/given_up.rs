// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions whose answers nodes have not waited for.

use super::{NodeQuestions, user_on, was_there};
use crate::broker::Broker;
use crate::broker::cluster_jobs::ClusterJobs;
use crate::broker::slurmctld::Answered;
use crate::broker::status::Reason;
use crate::log::Level;

/// A question that has no answer yet. If it is dropped, the node has given it up.
pub(in crate::broker) struct Unanswered<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Unanswered<F> {
    /// There is an answer, or the broker waits no longer.
    pub(in crate::broker) fn answered(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Unanswered<F> {
    fn drop(&mut self) {
        if let Some(give_up) = self.0.take() {
            give_up();
        }
    }
}

impl Broker {
    /// For a question about this job that is asked for `node` now.
    pub(in crate::broker) fn unanswered<'a>(
        &'a self,
        questions: &'a NodeQuestions,
        node: &'a str,
        job: u32,
    ) -> Unanswered<impl FnOnce() + 'a> {
        let asked = self.clock.elapsed();
        Unanswered(Some(move || {
            let (now, last) = (self.clock.elapsed(), self.questions.last().asked);
            if questions.leave_open(node, job, (asked, last), now) {
                self.tell_pause(node, now);
            }
        }))
    }

    /// For a question about this job, which waits, that is asked for a user of `host` now. It counts at once if it is given up: slurmctld's
    /// answer about all jobs does not say on which host the job was submitted.
    pub(in crate::broker) fn unanswered_waiting<'a>(
        &'a self,
        host: &'a str,
        uid: u32,
        job: u32,
    ) -> Unanswered<impl FnOnce() + 'a> {
        Unanswered(Some(move || {
            let (now, last) = (self.clock.elapsed(), self.questions.last().asked);
            self.asking.waiting.gave_up(&user_on(host, uid), Some(job), last, now);
            if self.asking.hosts.gave_up(host, None, last, now) {
                self.tell_pause(host, now);
            }
        }))
    }

    /// Who has not waited for the refusal has asked all the same.
    fn tell_other_node(&self, node: &str, job: u32, answered: &Answered) {
        if was_there(answered, node, (job, None)) {
            return;
        }
        let text =
            format!("node {node}: it asked for job {job}, which slurmctld does not show there, and did not wait");
        if self.told.is_new_of(node, &text, self.clock.elapsed()) {
            self.log.line(Level::Warning, &text);
        }
        self.counts.unauthorized(Reason::OtherNode);
    }

    /// slurmctld has answered. What nodes have not waited for counts now as if they had.
    pub(in crate::broker) fn judge_given_up(&self, answered: &Answered, jobs: &ClusterJobs) {
        let (asking, now) = (&self.asking, self.clock.elapsed());
        for (node, job) in asking.running.take_given_up(answered.asked) {
            if jobs.job(job).is_some_and(|own| own.is_on(&node)) {
                asking.running.found(&node, job);
            } else {
                self.tell_other_node(&node, job, answered);
                self.not_shown(&asking.running, &node, (job, None), answered);
            }
        }
        for (node, job) in asking.started.take_given_up(answered.asked) {
            if jobs.job(job).is_some_and(|own| own.is_on(&node)) {
                asking.started.asked(&node, job, now);
            } else {
                self.not_shown(&asking.started, &node, (job, None), answered);
            }
        }
        for (node, job) in asking.ended.take_given_up(answered.asked) {
            if jobs.job(job).is_some_and(|own| own.had(&node)) {
                asking.ended.found(&node, job);
            } else {
                self.asked_in_vain(&asking.ended, &node, job, answered.asked);
            }
        }
    }
}
