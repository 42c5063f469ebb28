// SPDX-License-Identifier: MIT OR Apache-2.0
//! A new credential for a job that waits: the agent of this host gives it to the brokers. The job's own sealed text is in Slurm's files.

use mytoken::Deadline;
use mytoken_wire::agent::{AgentError, HandOver, HandedOver, ReplacePending, ask};
use mytoken_wire::credential_option::VARIABLE;
use mytoken_wire::paths::AGENT_SOCKET_NAME;

use super::{OwnJob, Replacing, STEP};
use crate::control::profile::{Caller, of_submission};
use crate::submit::{SealedSubmission, UserEnvironment};

/// What became of a new credential.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// A broker has it. Perhaps another one does not, for this reason.
    Held(Option<String>),
    /// Nobody has it, for this reason.
    Refused(String),
    /// Perhaps a broker has it.
    Unknown(String),
}

impl Replacing<'_> {
    /// Gives the brokers a new credential for the jobs of the submission of `job`, which waits.
    pub(super) fn hand_over(&self, job: &OwnJob) -> Result<String, String> {
        if !self.jobs.broker.is_used() {
            return Err(without_brokers(&job.state));
        }
        let profile = match self.profile {
            Some(profile) => profile.to_owned(),
            None => self.profile_by_default(job)?,
        };
        let (credential, follower, followed) = self.make(&profile, job)?;
        let SealedSubmission { sealed, handle } = credential.submission.clone();
        let pending = ReplacePending { job: job.name.leader(), handle, sealed };
        let socket = self.runtime_dir.join(AGENT_SOCKET_NAME);
        match fate(ask(&socket, &pending, Deadline::after(STEP))) {
            Fate::Held(problem) => {
                let line = "gets its new credential when it starts; the broker revokes the old one then";
                Ok(problem.map_or(line.to_owned(), |problem| format!("{line}. Not every broker has it: {problem}")))
            }
            Fate::Refused(reason) => match credential.revoke() {
                Ok(()) => {
                    follower.tell(true);
                    Err(reason)
                }
                Err(error) => Err(format!(
                    "{reason}. The new credential, which no broker has, could not be revoked: {error}; {}",
                    who_revokes(followed)
                )),
            },
            Fate::Unknown(reason) => Err(format!(
                "{reason}. Perhaps a broker has the new credential; {}. You can try again",
                who_revokes(followed)
            )),
        }
    }

    /// The profile that a submission of the caller to the same place gets.
    fn profile_by_default(&self, job: &OwnJob) -> Result<String, String> {
        let variable = std::env::var(VARIABLE).ok();
        let environment = UserEnvironment::current();
        let caller = Caller { environment: &environment, variable: variable.as_deref() };
        let place = (job.partition.as_deref(), job.account.as_deref());
        of_submission(self.jobs, caller, place).map_err(|error| error.to_string())
    }
}

fn who_revokes(followed: bool) -> &'static str {
    if followed {
        "the agent of this host revokes it after the job"
    } else {
        "no agent of this host answers, so it stays until it expires"
    }
}

fn fate(answer: Result<HandedOver, AgentError>) -> Fate {
    let or_none = |reason: Option<String>| reason.unwrap_or_else(|| "the brokers gave no reason".to_owned());
    match answer {
        Ok(HandedOver { outcome: HandOver::Held, reason }) => Fate::Held(reason),
        Ok(HandedOver { outcome: HandOver::Refused, reason }) => Fate::Refused(or_none(reason)),
        Ok(HandedOver { outcome: HandOver::Unknown, reason }) => Fate::Unknown(or_none(reason)),
        // It has asked no broker.
        Err(AgentError::Refused { reason }) => Fate::Refused(reason),
        Err(error) => Fate::Unknown(error.to_string()),
    }
}

fn without_brokers(state: &str) -> String {
    format!(
        "it is {}: its credential is in Slurm's own files, where nobody can change it, and only clusters with brokers keep another one \
         for it. Replace it when the job runs, or cancel the job and submit it again",
        state.to_lowercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_that_perhaps_a_broker_has_is_not_revoked() {
        let told = |outcome, reason: Option<&str>| Ok(HandedOver { outcome, reason: reason.map(str::to_owned) });
        let reason = || "why".to_owned();
        for (answer, expected) in [
            (told(HandOver::Held, None), Fate::Held(None)),
            (told(HandOver::Held, Some("why")), Fate::Held(Some(reason()))),
            (told(HandOver::Refused, Some("why")), Fate::Refused(reason())),
            (told(HandOver::Unknown, Some("why")), Fate::Unknown(reason())),
            (Err(AgentError::Refused { reason: reason() }), Fate::Refused(reason())),
        ] {
            assert_eq!(fate(answer), expected);
        }
        let late = AgentError::Unreachable { reason: "no answer in time".to_owned() };
        assert!(matches!(fate(Err(late)), Fate::Unknown(_)));
    }

    #[test]
    fn without_brokers_the_sentence_says_who_has_them() {
        let reason = without_brokers("PENDING");
        assert!(reason.starts_with("it is pending: its credential is in Slurm's own files"), "{reason}");
        assert!(reason.contains("only clusters with brokers"), "{reason}");
    }
}
