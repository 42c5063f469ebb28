// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a request has no answer, in the words of whoever knows it.

use std::error::Error;
use std::io;

/// The innermost cause: "Connection refused". The outer texts repeat the URL. It is a part of a sentence, of printable characters.
#[must_use]
pub fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &(dyn Error + 'static) = match error.source() {
        Some(source) => source,
        None => return "the request failed".to_owned(),
    };
    while let Some(source) = cause.source() {
        cause = source;
    }
    // The TLS library's own text is for programmers and ends with a link to its manual.
    if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
        return "the connection was closed before the answer".to_owned();
    }
    mytoken_wire::printable(&cause.to_string(), 160)
}
