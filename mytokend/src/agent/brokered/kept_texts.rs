// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sealed credentials that brokers keep for jobs of this node, which have brought only a handle.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};

use mytoken::Deadline;

use super::{BrokerMode, MOST_LEARNED, failure};
use crate::agent::credential_service::RequestFailure;
use crate::broker::client::ClientError;
use crate::broker::messages::{KEPT_PATH, KeptAnswer, KeptRequest};

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
        let key = (uid, handle.to_owned());
        if let Some(text) = self.texts().get(&key) {
            return Ok(Some(text.clone()));
        }
        let (mut found, mut failed) = (None, None);
        let mut take = |answer: Result<KeptAnswer, ClientError>| match answer {
            Ok(KeptAnswer::Sealed(text)) => {
                found = Some(text);
                ControlFlow::Break(())
            }
            Ok(KeptAnswer::Unknown {}) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Continue(())
            }
        };
        let question = KeptRequest { uid, handle: handle.to_owned() };
        let asked = self.connection.post_each(KEPT_PATH, deadline, &mut || question.clone(), &mut take);
        asked.map_err(|error| failure(&error))?;
        // Its own may have expired long ago.
        let missing = job.filter(|_| found.is_none() && failed.is_none());
        found = match missing {
            Some(job) => self.replaced(uid, job, deadline)?,
            None => found,
        };
        match (found, failed) {
            (Some(text), _) => {
                let mut texts = self.texts();
                if texts.len() < MOST_LEARNED {
                    texts.insert(key, text.clone());
                }
                Ok(Some(text))
            }
            // The broker that did not answer may keep it.
            (None, Some(error)) => Err(failure(&error)),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn texts(&self) -> MutexGuard<'_, HashMap<(u32, String), String>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
