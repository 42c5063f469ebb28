// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer of a provider's token endpoint, read as the original does.

use serde_json::Value;

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::model::jwt;

/// The members of a token answer that the server uses.
#[derive(Debug, Default)]
pub(crate) struct TokenAnswer {
    pub access_token: String,
    pub token_type: String,
    pub expires_in: i64,
    pub scope: Option<String>,
    pub refresh_token: Option<String>,
    pub id_token: Option<String>,
}

impl TokenAnswer {
    /// The audience of the access token, if it is a JWT with one.
    pub(crate) fn audience(&self) -> Option<Vec<String>> {
        match jwt::unverified_claims(&self.access_token)?.get("aud")? {
            Value::String(one) => Some(vec![one.clone()]),
            Value::Array(list) => Some(list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()),
            _ => None,
        }
    }

    /// Reads an answer as the original does (MT-12): an answer whose content type is not JSON counts as empty, whatever
    /// its status.
    pub(crate) fn read(answer: &Response) -> ApiResult<Self> {
        let content_type = answer.header("Content-Type").unwrap_or_default();
        if !content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().ends_with("json") {
            return Ok(Self::default());
        }
        if answer.body.is_empty() {
            return Err(ApiError::internal("unexpected end of JSON input"));
        }
        let body: Value =
            serde_json::from_slice(&answer.body).map_err(|error| ApiError::internal(error.to_string()))?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        if let (400.., Some(error)) = (answer.status, text("error")) {
            let description = text("error_description").filter(|description| !description.is_empty());
            let text = description.map_or_else(|| error.clone(), |description| format!("{error}: {description}"));
            return Err(ApiError::new(answer.status, "oidc_error", text));
        }
        let expires_in = match body.get("expires_in") {
            None | Some(Value::Null) => 0,
            Some(number) => number.as_i64().ok_or_else(|| {
                ApiError::internal(
                    "json: cannot unmarshal into Go struct field OIDCTokenResponse.expires_in of type int64",
                )
            })?,
        };
        Ok(Self {
            access_token: text("access_token").unwrap_or_default(),
            token_type: text("token_type").unwrap_or_default(),
            expires_in,
            scope: text("scope").filter(|scope| !scope.is_empty()),
            refresh_token: text("refresh_token").filter(|token| !token.is_empty()),
            id_token: text("id_token").filter(|token| !token.is_empty()),
        })
    }
}
