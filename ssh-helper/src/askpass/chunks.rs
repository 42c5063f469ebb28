// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long tokens in pieces: ssh cuts every answer after 1023 bytes, silently (dossier `pam-ssh` 2.1, 2.3).

use mytoken::Secret;

use crate::error::Error;

/// Longest answer in bytes.
const LONGEST: usize = 1000;
/// Payload of a chunk: [`LONGEST`] without room for `@64/64:`.
const PAYLOAD: usize = LONGEST - 7;
/// Most chunks that the PAM module takes.
const MOST: usize = 64;

/// The answers that hand over `token`, in order: itself, or `@1/3:...`, `@2/3:...`, `@3/3:...`.
pub fn answers(token: &Secret) -> Result<Vec<Secret>, Error> {
    let text = token.expose();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Usage(
            "that is no token: it is empty or has blanks or other characters that no token has".into(),
        ));
    }
    if text.len() <= LONGEST {
        return Ok(vec![token.clone()]);
    }
    let count = text.len().div_ceil(PAYLOAD);
    if count > MOST {
        return Err(Error::Usage(format!(
            "this token is too long for ssh: {} bytes, at most {}",
            text.len(),
            MOST * PAYLOAD
        )));
    }
    let mut answers = Vec::with_capacity(count);
    let mut rest = text;
    while !rest.is_empty() {
        // Only ASCII here, so every offset is a character boundary.
        let (chunk, after) = rest.split_at_checked(PAYLOAD).unwrap_or((rest, ""));
        let mut answer = String::with_capacity(LONGEST);
        answer.push_str(&format!("@{}/{count}:", answers.len() + 1));
        answer.push_str(chunk);
        answers.push(Secret::new(answer));
        rest = after;
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tokens_are_answered_whole_and_long_ones_in_pieces_that_ssh_does_not_cut() {
        for length in [1, 8, 999, 1000, 1001, 1023, 1024, 2222, 5000, 63_000] {
            let token = Secret::new("x".repeat(length - 1) + "y");
            let answers = answers(&token).unwrap();
            assert!(answers.iter().all(|answer| answer.len() <= 1000), "{length}");
            if length <= 1000 {
                assert_eq!(answers, [token]);
                continue;
            }
            let count = answers.len();
            let strip = |(index, answer): (usize, &Secret)| {
                answer.expose().strip_prefix(&format!("@{}/{count}:", index + 1)).unwrap().to_owned()
            };
            let joined: String = answers.iter().enumerate().map(strip).collect();
            assert_eq!(joined, token.expose(), "{length}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_sent() {
        for text in ["", "two words", "a\nb", "tok\u{e9}n", "a\u{1b}[0m"] {
            assert!(answers(&Secret::new(text)).is_err(), "{text:?}");
        }
        assert!(answers(&Secret::new("x".repeat(70 * 1024))).is_err());
    }
}
