// SPDX-License-Identifier: MIT OR Apache-2.0
//! The form of requests and answers.

use hyper::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::broker::identity::enrolment::{EnrolmentRefusal, RefusalKind};
use crate::broker::messages::Refusal;
use crate::broker::millis;

/// A response.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json<T: Serialize>(answer: &T) -> Self {
        match serde_json::to_vec(answer) {
            Ok(body) => Self { status: StatusCode::OK, body },
            Err(_) => Self::internal(),
        }
    }

    fn internal() -> Self {
        Self::fault(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }

    pub(super) fn fault(status: StatusCode, reason: &str) -> Self {
        Self::refused(status, &Refusal { error: reason.to_owned(), wait: None })
    }

    fn refused(status: StatusCode, refusal: &Refusal) -> Self {
        // A struct of a text and a number always has a JSON form.
        Self { status, body: serde_json::to_vec(refusal).unwrap_or_default() }
    }

    pub(super) fn unavailable(reason: &str) -> Self {
        Self::fault(StatusCode::SERVICE_UNAVAILABLE, reason)
    }

    pub(super) fn refusal(refusal: &EnrolmentRefusal) -> Self {
        let reason = refusal.to_string();
        match refusal.kind() {
            RefusalKind::Refused => Self::fault(StatusCode::FORBIDDEN, &reason),
            RefusalKind::Unavailable => Self::unavailable(&reason),
            RefusalKind::Wait(wait) => {
                Self::refused(StatusCode::TOO_MANY_REQUESTS, &Refusal { error: reason, wait: Some(millis(wait)) })
            }
        }
    }
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    // serde's message could quote a value of the sealed text.
    serde_json::from_slice(body).map_err(|_| Answer::fault(StatusCode::BAD_REQUEST, "the request has another form"))
}
