// SPDX-License-Identifier: MIT OR Apache-2.0
//! motley_cue's answer to the question about an account.

use mytoken::http::HttpAnswer;
use serde_json::Value;

use crate::counted_requests::is_about_token;
use crate::oidc::strict_object;
use crate::service_state::ServiceState;

/// What motley_cue says about the account and the holder of the token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// The account is the holder's, and is in use.
    Deployed,
    /// The account is the holder's, or may become it, and must not be used.
    Refused(ServiceState),
    /// The holder has another account.
    OtherAccount,
    /// The holder has no account, in a state of this name.
    NoAccount(&'static str),
    /// motley_cue does not accept the token, or its holder. This is the status.
    NotAuthorised(u16),
    /// motley_cue works, and says nothing about this token. This is why.
    NotDecided(String),
}

/// Longest state that is repeated in an error.
const WORD_LIMIT: usize = 40;

/// Reads an answer. `base` is the URL of motley_cue, for errors.
///
/// # Errors
/// It is not an answer of motley_cue; the sentence is for the log.
pub(super) fn read(answer: &HttpAnswer, base: &str) -> Result<Verified, String> {
    match answer.status {
        200 => {}
        status @ (401 | 403) => return Ok(Verified::NotAuthorised(status)),
        status if is_about_token(status) => {
            let about = match status {
                300..=399 => "a redirect: write the URL that it redirects to",
                _ => "is the token too long for it or the proxy before it?",
            };
            return Ok(Verified::NotDecided(format!("{base} answered with status {status}; {about}")));
        }
        // What fails for this person: motley_cue makes this status of each exception in it (MC-05).
        500 => return Ok(Verified::NotDecided(format!("{base} answered with status 500; see its log"))),
        status => return Err(format!("{base} answered with status {status}; is it the URL of motley_cue?")),
    }
    let object = strict_object(&answer.body).ok_or_else(|| format!("{base} did not answer with a JSON object"))?;
    let (Some(Value::Bool(verified)), Some(Value::String(state))) = (object.get("verified"), object.get("state"))
    else {
        return Err(format!("{base} did not answer as motley_cue does: verified or state is missing"));
    };
    match (state.as_str(), *verified) {
        ("deployed", true) => Ok(Verified::Deployed),
        // For a pending account `verified` compares a word of a sentence with the name (MC-01).
        ("pending", _) => Ok(Verified::Refused(ServiceState::Pending)),
        ("suspended", true) => Ok(Verified::Refused(ServiceState::Suspended)),
        ("limited", true) => Ok(Verified::Refused(ServiceState::Limited)),
        ("deployed" | "suspended" | "limited", false) => Ok(Verified::OtherAccount),
        ("not_deployed", _) => Ok(Verified::NoAccount("not_deployed")),
        ("rejected", _) => Ok(Verified::NoAccount("rejected")),
        // It could not find out, perhaps after it had found the account (MC-06).
        ("failed" | "unknown", _) => Ok(Verified::NotDecided(format!(
            "{base} does not know the state of the account (state {state}); see its log"
        ))),
        (other, _) => {
            let word = mytoken_wire::printable(other, WORD_LIMIT);
            Err(format!("{base} did not answer as motley_cue does: the state \"{word}\" is not known"))
        }
    }
}
