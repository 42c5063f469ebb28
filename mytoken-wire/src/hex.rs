// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hexadecimal text, always in lower case.

/// Writes each byte as two digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Whether `text` consists of exactly `length` digits. Capital letters are refused, so that each value has one spelling.
#[must_use]
pub fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(encode(&[0, 9, 10, 15, 16, 0xa0, 0xff]), "00090a0f10a0ff");
        for byte in 0..=255_u8 {
            assert_eq!(encode(&[byte]), format!("{byte:02x}"));
        }
    }

    #[test]
    fn only_lower_case_digits_of_the_right_length_are_accepted() {
        assert!(is_hex("0123456789abcdef", 16) && is_hex("", 0));
        for wrong in ["", "012", "01234", "012G", "012A", "-123", "é12"] {
            assert!(!is_hex(wrong, 4), "{wrong}");
        }
    }
}
