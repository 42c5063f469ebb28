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

/// The bytes that [`encode`] writes as `text`. `None`: it is not exactly that.
#[must_use]
pub fn decode<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    if !is_hex(text, LENGTH.checked_mul(2)?) {
        return None;
    }
    let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | value(*digit));
    }
    Some(bytes)
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

    #[test]
    fn bytes_are_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(<[u8; 256]>::try_from(all).unwrap()));
        assert_eq!(decode::<0>(""), Some([]));
        for wrong in ["", "0", "000", "0G", "A0", "é"] {
            assert_eq!(decode::<1>(wrong), None, "{wrong}");
        }
    }
}
