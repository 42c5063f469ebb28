// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the provider's endpoints.

use serde_json::json;

use crate::http::Response;

/// An error answer of RFC 6749, 5.2.
pub(super) fn refusal(status: u16, error: &str, description: &str) -> Response {
    Response::json(status, &json!({"error": error, "error_description": description}))
}
