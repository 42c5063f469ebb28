// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes text from servers, users and other programs safe for a terminal or a log.

/// The first `limit` characters of `text`, on one line. Each unprintable character becomes `?`, so that the text cannot add a second
/// line, control the terminal, or change the reading direction.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    text.chars().take(limit).map(|c| if is_printable(c) { c } else { '?' }).collect()
}

/// Whether a terminal only shows the character.
#[must_use]
pub fn is_printable(c: char) -> bool {
    !c.is_control() && !is_invisible(c)
}

/// Whether the character has no width or changes the reading direction. Text that was copied from editors and web pages has such
/// characters.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprintable_characters_become_question_marks() {
        for (text, expected) in [
            ("", ""),
            ("Zoë 日本 €", "Zoë 日本 €"),
            ("a\u{a0}b", "a\u{a0}b"),
            ("a\nb\tc\rd", "a?b?c?d"),
            ("\u{1b}[31mred\u{7}", "?[31mred?"),
            ("\u{9b}31m\u{7f}\u{0}", "?31m??"),
            ("user\u{202e}txt.exe", "user?txt.exe"),
            ("\u{2066}a\u{2069}\u{61c}\u{200f}", "?a???"),
            ("a\u{200b}\u{200d}\u{feff}\u{ad}b", "a????b"),
            ("a\u{2028}b\u{2029}c", "a?b?c"),
        ] {
            assert_eq!(printable(text, 100), expected, "{text:?}");
        }
    }

    #[test]
    fn the_limit_counts_characters() {
        for (limit, expected) in [(0, ""), (2, "é?"), (3, "é?x"), (usize::MAX, "é?xyz")] {
            assert_eq!(printable("é\u{1b}xyz", limit), expected);
        }
    }
}
