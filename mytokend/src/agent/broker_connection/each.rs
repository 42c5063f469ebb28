// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to all brokers, not only to the one that answered last.

use std::ops::ControlFlow;

use mytoken::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BrokerConnection;
use crate::broker::client::{ClientError, FORBIDDEN};

impl BrokerConnection {
    /// Sends a request to each broker, until `take` breaks. What one is asked may depend on the answers before it.
    ///
    /// # Errors
    /// When this node has no certificate. All other errors are given to `take`.
    pub fn post_each<T: DeserializeOwned, B: Serialize>(
        &self,
        path: &str,
        deadline: Deadline,
        body: &mut dyn FnMut() -> B,
        take: &mut dyn FnMut(Result<T, ClientError>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let mut client = self.shared.client(deadline)?;
        let brokers: Vec<String> = client.in_order().into_iter().map(str::to_owned).collect();
        for (number, broker) in brokers.iter().enumerate() {
            let others = u32::try_from(brokers.len() - number).unwrap_or(1);
            // One that hangs must leave time for the others.
            let patience = deadline.remaining().unwrap_or_default() / others;
            let mut answered = client.post_at(broker, path, &body(), patience);
            if let Err(ClientError::Refused { status: FORBIDDEN, reason, .. }) = &answered {
                if self.shared.enrol_at(broker, reason, deadline).is_ok() {
                    client = self.shared.client(deadline)?;
                    answered = client.post_at(broker, path, &body(), patience);
                }
            }
            if take(answered).is_break() {
                break;
            }
        }
        Ok(())
    }
}
