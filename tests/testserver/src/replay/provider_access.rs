// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access to the provider of a server: sets its faults and reads its requests.

use std::sync::Arc;

use serde_json::Value;

use super::command;
use super::outcome::Stop;
use crate::provider::Provider;

/// Access to the provider.
pub(super) enum ProviderAccess {
    /// Calls of the provider in this process.
    Own(Arc<Provider>),
    /// A command that gets the arguments `set NAME`, `clear` or `requests`.
    Command(String),
}

impl ProviderAccess {
    /// Sets a fault of the token endpoint by its name in the README of the captures.
    pub(super) fn set_fault(&self, name: &str) -> Result<(), Stop> {
        match self {
            Self::Own(provider) => Ok(provider.set_token_fault(Some(name))?),
            Self::Command(command) => command::run(command, &["set", name], b"").map(drop),
        }
    }

    /// Ends the fault.
    pub(super) fn clear_fault(&self) -> Result<(), Stop> {
        match self {
            Self::Own(provider) => Ok(provider.set_token_fault(None)?),
            Self::Command(command) => command::run(command, &["clear"], b"").map(drop),
        }
    }

    /// The requests that reached the token and revocation endpoints since the last call, as in `provider_requests` of
    /// the captures.
    pub(super) fn take_requests(&self) -> Result<Vec<Value>, Stop> {
        match self {
            Self::Own(provider) => Ok(provider.take_requests()),
            Self::Command(command) => {
                let printed = command::run(command, &["requests"], b"")?;
                serde_json::from_str(&printed)
                    .map_err(|error| format!("{command}: the output is not a list of requests: {error}").into())
            }
        }
    }
}
