// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sealed credentials that brokers keep for jobs of this node, which have brought only a handle.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};

use mytoken::Deadline;

use super::{BrokerMode, failure};
use crate::agent::credential_service::RequestFailure;
use crate::broker::client::ClientError;
use crate::broker::messages::{KEPT_PATH, KeptAnswer, KeptRequest};

/// Most texts of brokers that are kept in memory.
const MOST_TEXTS: usize = 1000;

/// A sealed text that a broker has given.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// That of the submission: all its jobs use it.
    Kept(String),
    /// The one that has replaced it, for this job and others of its leader. Jobs of other leaders that share the handle have no right to it.
    Replaced(u32, String),
}

impl BrokerMode {
    /// The sealed text that the brokers keep under a handle, or the one that has replaced it for `job`. `None`: each of them has said that
    /// it keeps none.
    pub(super) fn text(
        &self,
        uid: u32,
        handle: &str,
        job: Option<u32>,
        deadline: Deadline,
    ) -> Result<Option<String>, RequestFailure> {
        let found = self.find(uid, handle, job.as_slice(), deadline)?;
        Ok(found.map(|(Found::Kept(text) | Found::Replaced(_, text))| text))
    }

    /// The one of these jobs of a lease with which brokers are asked for tokens: if only some have a text, one of them.
    pub(super) fn job_with_text(&self, uid: u32, handle: &str, jobs: &[u32], deadline: Deadline) -> Option<u32> {
        if jobs.len() > 1 {
            // An error comes again with the request for the token.
            if let Ok(Some(Found::Replaced(job, _))) = self.find(uid, handle, jobs, deadline) {
                return Some(job);
            }
        }
        jobs.first().copied()
    }

    fn find(&self, uid: u32, handle: &str, jobs: &[u32], deadline: Deadline) -> Result<Option<Found>, RequestFailure> {
        let key = (uid, handle.to_owned());
        if let Some(text) = self.texts().get(&key) {
            return Ok(Some(Found::Kept(text.clone())));
        }
        let (mut kept, mut failed) = (None, None);
        let mut take = |answer: Result<KeptAnswer, ClientError>| match answer {
            Ok(KeptAnswer::Sealed(text)) => {
                kept = Some(text);
                ControlFlow::Break(())
            }
            Ok(KeptAnswer::Unknown {}) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(failure(&error));
                ControlFlow::Continue(())
            }
        };
        let question = KeptRequest { uid, handle: handle.to_owned() };
        let asked = self.connection.post_each(KEPT_PATH, deadline, &mut || question.clone(), &mut take);
        asked.map_err(|error| failure(&error))?;
        let found = choose((kept, failed), jobs, |job| self.replaced(uid, job, deadline));
        if let Ok(Some(Found::Kept(text))) = &found {
            let mut texts = self.texts();
            // One whose job is gone must keep no place. A text that was dropped is asked for again.
            if texts.len() >= MOST_TEXTS {
                let other = texts.keys().next().cloned();
                other.map(|key| texts.remove(&key));
            }
            texts.insert(key, text.clone());
        }
        found
    }

    pub(super) fn texts(&self) -> MutexGuard<'_, HashMap<(u32, String), String>> {
        self.memory.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text that is kept, or the first one that has replaced it for one of these jobs: its own may have expired long ago. A broker that
/// does not answer counts only if the others have none, because it may keep it.
fn choose(
    (kept, mut failed): (Option<String>, Option<RequestFailure>),
    jobs: &[u32],
    replaced: impl Fn(u32) -> Result<Option<String>, RequestFailure>,
) -> Result<Option<Found>, RequestFailure> {
    if let Some(text) = kept {
        return Ok(Some(Found::Kept(text)));
    }
    for job in jobs {
        match replaced(*job) {
            Ok(Some(text)) => return Ok(Some(Found::Replaced(*job, text))),
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_its_new_text_although_a_broker_is_away() {
        let away = || RequestFailure::temporary("away");
        let replaced = |job: u32| match job {
            1 => Ok(None),
            2 => Ok(Some("new".to_owned())),
            _ => Err(RequestFailure::temporary("late")),
        };
        let new = |job| Ok(Some(Found::Replaced(job, "new".to_owned())));
        for (kept, failed, jobs, expected) in [
            (Some("own"), Some(away()), &[2][..], Ok(Some(Found::Kept("own".to_owned())))),
            (None, None, &[2], new(2)),
            (None, Some(away()), &[2], new(2)),
            (None, None, &[1, 2], new(2)),
            (None, None, &[3, 1, 2], new(2)),
            (None, None, &[1], Ok(None)),
            (None, None, &[], Ok(None)),
            (None, Some(away()), &[1], Err("away")),
            (None, None, &[3, 1], Err("late")),
        ] {
            let found = choose((kept.map(str::to_owned), failed), jobs, replaced).map_err(|error| error.reason);
            assert_eq!(found, expected.map_err(str::to_owned), "{kept:?} {jobs:?}");
        }
    }
}
