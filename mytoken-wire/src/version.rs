// SPDX-License-Identifier: MIT OR Apache-2.0
//! The version of a library, in its file: `mytokenctl check` compares it without loading the library into itself.

/// An ELF note (`readelf -n`) with the version of the product. Linkers and `strip` keep notes.
#[derive(Debug)]
#[repr(C, align(4))]
pub struct VersionNote {
    name_size: u32,
    text_size: u32,
    kind: u32,
    name: [u8; NAME.len()],
    text: [u8; TEXT],
}

/// The name of the note, which is also what a search for it finds.
const NAME: [u8; 16] = *b"mytoken-version\0";

/// Longest version in bytes, with a NUL.
const TEXT: usize = 32;

impl VersionNote {
    /// The note of a version.
    ///
    /// # Panics
    /// While a program is compiled, when the version is too long.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    #[expect(clippy::cast_possible_truncation, reason = "16 and 32")]
    pub const fn of(version: &str) -> Self {
        let bytes = version.as_bytes();
        assert!(bytes.len() < TEXT);
        let mut text = [0; TEXT];
        let mut at = 0;
        while at < bytes.len() {
            text[at] = bytes[at];
            at += 1;
        }
        Self { name_size: NAME.len() as u32, text_size: TEXT as u32, kind: 1, name: NAME, text }
    }
}

/// Puts the version of the crate that calls it into the file of its library.
#[macro_export]
macro_rules! version_note {
    () => {
        // LLVM gives a section with such a name the type SHT_NOTE, which linkers keep although nothing refers to it.
        #[used]
        #[unsafe(link_section = ".note.mytoken")]
        static VERSION_NOTE: $crate::version::VersionNote = $crate::version::VersionNote::of(env!("CARGO_PKG_VERSION"));
    };
}

/// The version in the file of a library; `None` when it has none. `file` is its content.
#[must_use]
pub fn in_file(file: &[u8]) -> Option<&str> {
    let at = file.windows(NAME.len()).position(|bytes| bytes == NAME)?;
    let text = file.get(at..)?.get(NAME.len()..)?.get(..TEXT)?;
    let (version, _) = text.split_at(text.iter().position(|byte| *byte == 0)?);
    std::str::from_utf8(version).ok().filter(|version| !version.is_empty() && version.chars().all(crate::is_printable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_between_other_bytes() {
        let note = VersionNote::of("1.2.3-rc1");
        let mut file = b"\x7fELF mytoken-version mytoken".to_vec();
        assert_eq!(in_file(&file), None);
        file.extend_from_slice(&note.name);
        assert_eq!(in_file(&file), None, "the file ends in the note");
        file.extend_from_slice(&note.text);
        file.extend_from_slice(b"more");
        assert_eq!(in_file(&file), Some("1.2.3-rc1"));
        assert_eq!((note.name_size, note.text_size, note.kind), (16, 32, 1));
    }

    #[test]
    fn text_that_is_no_version_is_not_shown() {
        for text in [&b"\0\0"[..], b"\x1b[2J\0", b"\xff\0"] {
            let mut file = NAME.to_vec();
            file.extend_from_slice(text);
            file.resize(NAME.len() + TEXT, 0);
            assert_eq!(in_file(&file), None, "{text:?}");
        }
    }
}
