// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests that the mytoken server sent to the token and revocation endpoints.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use crate::form::Form;
use crate::locked;

/// Maximum number of requests. The oldest are deleted first, so that a server can run for days.
const MAX_REQUESTS: usize = 1000;

/// Requests to the token and revocation endpoints. They contain secrets: never send them anywhere unchanged.
#[derive(Default)]
pub(super) struct RequestLog(Mutex<VecDeque<Value>>);

impl RequestLog {
    pub(super) fn record(&self, endpoint: &str, authorization: Option<&str>, form: &Form) {
        let mut values: Map<String, Value> = Map::new();
        for (key, value) in form {
            if let Value::Array(list) = values.entry(key.as_str()).or_insert_with(|| json!([])) {
                list.push(value.as_str().into());
            }
        }
        let scheme = authorization.and_then(|header| header.split(' ').next()).unwrap_or_default();
        let mut kept = locked(&self.0);
        if kept.len() == MAX_REQUESTS {
            kept.pop_front();
        }
        kept.push_back(json!({"endpoint": endpoint, "authorization": scheme, "form": values}));
    }

    /// Returns the requests since the last call.
    pub(super) fn take(&self) -> Vec<Value> {
        locked(&self.0).drain(..).collect()
    }
}
