// SPDX-License-Identifier: MIT OR Apache-2.0
//! Error answers of the API (MT-06).

use serde_json::json;

use crate::http::Response;

/// An error answer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Member `error`.
    pub error: String,
    /// Member `error_description`.
    pub description: Option<String>,
}

/// The result of the server's functions.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error with these members.
    #[must_use]
    pub fn new(status: u16, error: &str, description: impl Into<String>) -> Self {
        Self { status, error: error.into(), description: Some(description.into()) }
    }

    /// 400 `invalid_request`.
    #[must_use]
    pub fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", description)
    }

    /// 401 `invalid_token`.
    #[must_use]
    pub fn invalid_token(description: impl Into<String>) -> Self {
        Self::new(401, "invalid_token", description)
    }

    /// 401 for revoked and outdated tokens, without a description.
    #[must_use]
    pub fn revoked() -> Self {
        Self { status: 401, error: "invalid_token".into(), description: None }
    }

    /// 500 of an ordinary error.
    #[must_use]
    pub fn internal(description: impl Into<String>) -> Self {
        Self::new(500, "internal_server_error", description)
    }

    /// 500 of a panic that the original recovers from.
    #[must_use]
    pub fn panic() -> Self {
        Self::new(500, "Internal Server Error", "runtime error: invalid memory address or nil pointer dereference")
    }

    /// 500 for an outdated JWT: the refresh token is encrypted with the text of the newest one.
    #[must_use]
    pub fn outdated_jwt() -> Self {
        Self::internal("cipher: message authentication failed")
    }

    /// 403 `insufficient_capabilities`.
    #[must_use]
    pub fn insufficient_capabilities() -> Self {
        Self::new(
            403,
            "insufficient_capabilities",
            "The provided token does not have the required capability for this operation",
        )
    }

    /// 403 `usage_restricted`.
    #[must_use]
    pub fn usage_restricted() -> Self {
        Self::new(403, "usage_restricted", "The restrictions of this token does not allow this usage")
    }

    /// 400 for a grant type that is not for this endpoint.
    #[must_use]
    pub fn unsupported_grant_type() -> Self {
        Self::new(400, "invalid_grant", "Unsupported grant_type")
    }

    /// 401 for an unknown or used code.
    #[must_use]
    pub fn bad_code() -> Self {
        Self::invalid_token("Bad polling or transfer code")
    }

    /// 400 for an issuer other than the token's.
    #[must_use]
    pub fn wrong_issuer() -> Self {
        Self::invalid_request("token not for specified issuer")
    }

    /// 400 for an issuer that is not one of the server's providers.
    #[must_use]
    pub fn unsupported_issuer() -> Self {
        Self::invalid_request("The provided issuer is not supported")
    }

    /// 404 of the API.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        Self::new(404, "not_found", path)
    }

    /// The error as a JSON answer.
    #[must_use]
    pub fn response(&self) -> Response {
        let body = match &self.description {
            Some(description) => json!({"error": self.error, "error_description": description}),
            None => json!({"error": self.error}),
        };
        Response::json(self.status, &body)
    }

    /// The error as an HTML page.
    #[must_use]
    pub fn page(&self) -> Response {
        html(self.status, "Error", &format!("{}: {}", self.error, self.description.as_deref().unwrap_or("")))
    }
}

/// A small HTML page.
#[must_use]
pub fn html(status: u16, title: &str, text: &str) -> Response {
    let body = format!(
        "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>{title}</title></head><body><h1>{title}</h1><p>{}</p></body></html>\n",
        escape(text),
        title = escape(title),
    );
    Response::typed(status, "text/html; charset=utf-8", body)
}

/// Escapes text for HTML, also inside quoted attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An answer in plain text.
#[must_use]
pub fn plain(status: u16, text: &str) -> Response {
    Response::typed(status, "text/plain; charset=utf-8", text)
}
