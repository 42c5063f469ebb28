// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that a person pastes into a shell.

/// A text as one word of a shell, whatever is in it: names of files and accounts can have blanks, and more than that.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@/+:".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_one_word() {
        assert_eq!(shell_word("/etc/mytoken/a+b@c:1"), "/etc/mytoken/a+b@c:1");
        assert_eq!(shell_word("a; rm -rf '/'"), "'a; rm -rf '\\''/'\\'''");
        assert_eq!(shell_word(""), "''");
        for text in ["a b", "$(x)", "`x`", "~root", "a*", "a\nb"] {
            assert_eq!(shell_word(text), format!("'{text}'"));
        }
    }
}
