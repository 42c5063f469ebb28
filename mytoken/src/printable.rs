// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes foreign text safe to show on a terminal or in a log.

/// The first `limit` characters of `text`, with `?` in place of each control character.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    text.chars().take(limit).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_question_marks() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{9b}é", usize::MAX), "a?[2J?b?é");
        assert_eq!(printable("éééé", 2), "éé");
    }
}
