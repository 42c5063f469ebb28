// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends a token that is longer than one answer in pieces: the prompts for the pieces, and the mark in front of each piece.
//!
//! ssh sends at most 1023 bytes of an answer and silently drops the rest (SSH-15), but it answers as many prompts as the module sends
//! (SSH-03). So a helper answers `@1/3:first piece`, the module then asks for `Access Token (2/3):`, and so on. A JWT contains neither
//! `@` nor `:`.

use std::fmt;

use crate::Secret;
use crate::issuer_mark::is_marked;

/// Largest number of pieces.
pub const CHUNKS_LIMIT: usize = 64;

/// Largest length of a token in bytes, over all pieces.
pub const TOTAL_LIMIT: usize = 64 * 1024;

/// Longest token in bytes that is sent whole: what ssh sends of an answer (SSH-15).
const WHOLE_LIMIT: usize = 1023;

/// Longest answer with a piece in bytes.
const ANSWER_LIMIT: usize = 1000;

/// Longest piece in bytes: an answer without its mark, such as `@64/64:`.
const PIECE_LIMIT: usize = ANSWER_LIMIT - 7;

/// The part of a token that a prompt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The token, or its first piece.
    First,
    /// A later piece.
    Next {
        /// From 2.
        index: usize,
        /// Number of pieces.
        count: usize,
    },
}

/// Why a text cannot be sent as a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsendable {
    /// The text does not have the form of a token.
    NoToken,
    /// The text is longer than the module accepts.
    Long(
        /// Its length in bytes.
        usize,
    ),
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => {
                f.write_str("this is not a token: it is empty or has blanks or other characters that no token has")
            }
            Self::Long(length) => {
                let most = CHUNKS_LIMIT * PIECE_LIMIT;
                write!(f, "this token is too long for ssh: {length} bytes, at most {most}")
            }
        }
    }
}

impl std::error::Error for Unsendable {}

/// Why a piece is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkFault {
    /// The mark does not have the form `@i/n:`.
    Mark,
    /// Another piece than the prompt asked for, or another number of pieces.
    Order,
    /// The piece is empty.
    Empty,
    /// More than 64 pieces.
    Many,
    /// More than 64 KiB.
    Long,
}

impl fmt::Display for ChunkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mark => "malformed mark",
            Self::Order => "out of order",
            Self::Empty => "empty piece",
            Self::Many => "too many pieces",
            Self::Long => "too long",
        })
    }
}

impl std::error::Error for ChunkFault {}

/// `Access Token:` becomes `Access Token (2/3):`.
#[must_use]
pub fn prompt_for(prompt: &str, index: usize, count: usize) -> String {
    format!("{} ({index}/{count}):", prompt.trim_ascii_end().trim_end_matches(':'))
}

/// The part that the client's text `shown` asks for, and the text in front of the prompt; `None`: it is another prompt. `prompt` is the
/// module's prompt. `display` transforms a prompt as the client does before it shows it. Blanks at the end are ignored. The text in front
/// must end with a newline.
pub fn part_asked_for<'s>(shown: &'s str, prompt: &str, display: impl Fn(&str) -> String) -> Option<(Part, &'s str)> {
    if prompt.trim().is_empty() {
        return None;
    }
    let before = |own: &str| {
        let before = shown.trim_end_matches(' ').strip_suffix(display(own).trim_end_matches(' '))?;
        (before.is_empty() || before.ends_with('\n')).then_some(before)
    };
    if let Some(before) = before(prompt) {
        return Some((Part::First, before));
    }
    let (_, numbers) = shown.trim_end_matches(' ').strip_suffix("):")?.rsplit_once(" (")?;
    let (index, count) = numbers.split_once('/')?;
    let (index, count) = (number(index)?, number(count)?);
    if count > CHUNKS_LIMIT || !(2..=count).contains(&index) {
        return None;
    }
    Some((Part::Next { index, count }, before(&prompt_for(prompt, index, count))?))
}

/// The answers that send `token`, in order: the token itself, or `@1/3:...`, `@2/3:...`, `@3/3:...`.
///
/// # Errors
/// [`Unsendable`].
pub fn answers(token: &Secret) -> Result<Vec<Secret>, Unsendable> {
    let text = token.expose();
    // The module would read a text that begins with `@` as a piece, unless it names a provider.
    let is_piece = text.starts_with('@') && !is_marked(text.as_bytes());
    if text.is_empty() || is_piece || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Unsendable::NoToken);
    }
    if text.len() <= WHOLE_LIMIT {
        return Ok(vec![token.clone()]);
    }
    let count = text.len().div_ceil(PIECE_LIMIT);
    if count > CHUNKS_LIMIT {
        return Err(Unsendable::Long(text.len()));
    }
    let mut answers = Vec::with_capacity(count);
    let mut rest = text;
    while !rest.is_empty() {
        // Only ASCII here, so every offset is a character boundary.
        let (piece, after) = rest.split_at_checked(PIECE_LIMIT).unwrap_or((rest, ""));
        let mut answer = String::with_capacity(ANSWER_LIMIT);
        answer.push_str(&format!("@{}/{count}:", answers.len() + 1));
        answer.push_str(piece);
        answers.push(Secret::new(answer));
        rest = after;
    }
    Ok(answers)
}

/// Splits `@i/n:piece` into its parts.
///
/// # Errors
/// [`ChunkFault`].
pub fn split(answer: &[u8]) -> Result<(usize, usize, &[u8]), ChunkFault> {
    let colon = answer.iter().take(8).position(|byte| *byte == b':').ok_or(ChunkFault::Mark)?;
    let (mark, piece) = answer.split_at(colon);
    let mark = std::str::from_utf8(mark).ok().and_then(|mark| mark.strip_prefix('@')).ok_or(ChunkFault::Mark)?;
    let (index, count) = mark.split_once('/').ok_or(ChunkFault::Mark)?;
    let (index, count) = number(index).zip(number(count)).ok_or(ChunkFault::Mark)?;
    if count > CHUNKS_LIMIT {
        return Err(ChunkFault::Many);
    }
    let piece = piece.get(1..).unwrap_or_default();
    if piece.is_empty() { Err(ChunkFault::Empty) } else { Ok((index, count, piece)) }
}

/// Reads a number of at most three digits without sign or leading zero.
fn number(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [b'1'..=b'9', rest @ ..] if rest.len() < 3 && rest.iter().all(u8::is_ascii_digit) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_prompts_for_all_pieces_are_recognised() {
        let next = |index, count| Some(Part::Next { index, count });
        let table = [
            ("Access Token:", "Access Token:", Some(Part::First)),
            ("Access Token: ", "Access Token:", Some(Part::First)),
            ("Access Token (2/4):", "Access Token:", next(2, 4)),
            ("Access Token (64/64): ", "Access Token: ", next(64, 64)),
            ("Access Token::", "Access Token::", Some(Part::First)),
            ("Access Token (2/3):", "Access Token::", next(2, 3)),
            ("Token:\t", "Token:\t", Some(Part::First)),
            ("Token (2/3):", "Token:\t", next(2, 3)),
            ("Token", "Token", Some(Part::First)),
            ("Token (3/3):", "Token", next(3, 3)),
            ("Welcome\nToken:\n", "Welcome\nToken:\n", Some(Part::First)),
            ("Welcome\nToken (3/3):", "Welcome\nToken:", next(3, 3)),
            ("Token :", "Token :", Some(Part::First)),
            ("Token  (2/2):", "Token :", next(2, 2)),
            // wrong numbers
            ("Access Token (1/4):", "Access Token:", None),
            ("Access Token (5/4):", "Access Token:", None),
            ("Access Token (2/65):", "Access Token:", None),
            ("Access Token (+2/4):", "Access Token:", None),
            ("Access Token (02/4):", "Access Token:", None),
            ("Access Token (2/):", "Access Token:", None),
            ("Access Token (2/4)", "Access Token:", None),
            // another prompt
            ("Access Token:\t", "Access Token:", None),
            ("Access Token:\n", "Access Token:", None),
            ("Access Token::", "Access Token:", None),
            ("access token:", "Access Token:", None),
            ("My Access Token:", "Access Token:", None),
            ("Password (2/3):", "Access Token:", None),
            ("Token:", "Welcome\nToken:", None),
            ("", "", None),
            (" ", "  ", None),
            ("", "\n\n", None),
            (" (2/3):", "\n", None),
        ];
        for (line, prompt, expected) in table {
            for before in ["", "full at noon\n", "\n"] {
                let shown = format!("{before}{line}");
                let asked = part_asked_for(&shown, prompt, str::to_owned);
                assert_eq!(asked, expected.map(|part| (part, before)), "{shown:?} for {prompt:?}");
            }
        }
    }

    #[test]
    fn short_tokens_are_sent_whole_and_long_ones_in_pieces_that_ssh_does_not_cut() {
        for length in [1, 8, 999, 1000, 1001, 1023, 1024, 2222, 5000, 63_000] {
            let token = Secret::new("x".repeat(length - 1) + "y");
            let answers = answers(&token).unwrap();
            assert!(answers.iter().all(|answer| answer.len() <= 1023), "{length}");
            if length <= 1023 {
                assert_eq!(answers, [token]);
                continue;
            }
            let mut joined = Vec::new();
            for (number, answer) in answers.iter().enumerate() {
                let (index, count, piece) = split(answer.expose().as_bytes()).unwrap();
                assert_eq!((index, count), (number + 1, answers.len()));
                joined.extend_from_slice(piece);
            }
            assert_eq!(joined, token.expose().as_bytes(), "{length}");
        }
    }

    #[test]
    fn a_token_that_names_its_provider_is_sent() {
        let short = Secret::new("@at:op:token");
        assert_eq!(answers(&short), Ok(vec![short]));
        let long = answers(&Secret::new(format!("@at:op:{}", "x".repeat(1_500)))).unwrap();
        assert_eq!(
            split(long[0].expose().as_bytes()).map(|(index, count, piece)| (index, count, &piece[..8])),
            Ok((1, 2, &b"@at:op:x"[..]))
        );
    }

    #[test]
    fn text_without_the_form_of_a_token_is_not_sent() {
        for text in ["@1/3:abc", "", "two words", "a\nb", "tok\u{e9}n", "a\u{1b}[0m"] {
            assert_eq!(answers(&Secret::new(text)), Err(Unsendable::NoToken), "{text:?}");
        }
        assert_eq!(answers(&Secret::new("x".repeat(70 * 1024))), Err(Unsendable::Long(70 * 1024)));
    }

    proptest! {
        #[test]
        fn every_prompt_of_the_module_is_recognised(
            prompt in "[^\r]{0,8}[a-z \u{e9}\u{3000}\u{a0}(/:)]{0,6}[ :\t\n\u{a0}]{0,4}",
            index in 2_usize..=64,
            more in 0_usize..=62,
        ) {
            let count = index + more;
            prop_assume!(!prompt.trim().is_empty() && count <= CHUNKS_LIMIT);
            for display in [|text: &str| text.to_owned(), |text: &str| text.escape_default().to_string()] {
                let first = part_asked_for(&display(&prompt), &prompt, display).map(|(part, _)| part);
                prop_assert_eq!(first, Some(Part::First));
                let next = display(&prompt_for(&prompt, index, count));
                let asked = part_asked_for(&next, &prompt, display).map(|(part, _)| part);
                prop_assert_eq!(asked, Some(Part::Next { index, count }), "{:?}", next);
            }
        }
    }
}
