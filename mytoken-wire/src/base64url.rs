// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decodes base64url (RFC 4648 section 5) for the Slurm plugin. The crates for it are made for speed and take two kilobytes and more.

/// The bytes of a text without padding.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u16, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        (bits, count) = (bits << 6 | u16::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            let [_, byte] = (bits >> count).to_be_bytes();
            bytes.push(byte);
            bits &= (1 << count) - 1;
        }
    }
    // One digit more than whole bytes have is too many, and the bits behind the last byte are zero.
    (count < 6 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_decodes_what_the_crate_for_it_decodes(text in "[A-Za-z0-9_-]{0,12}", other in "\\PC{0,8}") {
            for text in [&text, &other, &format!("{text}{other}")] {
                prop_assert_eq!(decode(text), URL_SAFE_NO_PAD.decode(text).ok());
            }
        }

        #[test]
        fn it_decodes_what_was_encoded(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&URL_SAFE_NO_PAD.encode(&bytes)), Some(bytes));
        }
    }
}
