// SPDX-License-Identifier: MIT OR Apache-2.0
//! The QR code of a link, in half blocks: two modules per character, one above the other.
//!
//! A terminal of 24 lines has room for version 4 (33 modules, links of at most 78 bytes): 19 lines with a margin of two modules. Without
//! half blocks, in ASCII, even version 2 would need 29 lines, so there is no such form: the link stands alone then.

use qrcode::{Color, EcLevel, QrCode};

/// The margin, in modules. The standard asks for four; readers on phones find the code with two.
const MARGIN: usize = 2;

/// Most lines: a screen of 24 lines also has the address of the account, an invitation, the link and the prompt.
const LINES: usize = 19;

/// The QR code of `link`. `None`: it would not fit on a screen of 80 columns and 24 lines.
pub(super) fn half_blocks(link: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(link.as_bytes(), EcLevel::L).ok()?;
    let width = code.width();
    let total = width + 2 * MARGIN;
    if total.div_ceil(2) > LINES {
        return None;
    }
    let modules = code.into_colors();
    // Light modules are drawn, because most terminals have a dark background. The margin is light.
    let is_light = |x: usize, y: usize| {
        let at = |place: usize| place.checked_sub(MARGIN).filter(|place| *place < width);
        let module = at(x).zip(at(y)).and_then(|(x, y)| modules.get(y * width + x));
        y < total && module.is_none_or(|color| *color == Color::Light)
    };
    let line = |y: usize| -> String {
        let character = |x: usize| match (is_light(x, y), is_light(x, y + 1)) {
            (true, true) => '\u{2588}',
            (true, false) => '\u{2580}',
            (false, true) => '\u{2584}',
            (false, false) => ' ',
        };
        (0..total).map(character).collect()
    };
    Some((0..total).step_by(2).map(line).collect::<Vec<String>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(length: usize) -> String {
        let mut link = "https://mytoken.example.org/c/AbCdEfGh".to_owned();
        link.push_str(&"x".repeat(length - link.len()));
        link
    }

    /// Lines and columns. The figures are in docs/admin/ssh.md.
    fn size(length: usize) -> Option<(usize, usize)> {
        let code = half_blocks(&link(length))?;
        let columns = code.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(code.lines().all(|line| line.chars().count() == columns), "{code}");
        Some((code.lines().count(), columns))
    }

    #[test]
    fn the_code_fits_on_a_small_screen_or_is_not_shown() {
        assert_eq!(size(38), Some((17, 33)));
        assert_eq!(size(53), Some((17, 33)));
        assert_eq!(size(54), Some((19, 37)));
        assert_eq!(size(78), Some((19, 37)));
        assert_eq!(size(79), None);
    }

    #[test]
    fn its_modules_are_those_of_the_code() {
        let text = half_blocks(&link(38)).unwrap();
        let code = QrCode::with_error_correction_level(link(38).as_bytes(), EcLevel::L).unwrap();
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let is_drawn = |x: usize, y: usize| match lines[y / 2][x] {
            '\u{2588}' => true,
            '\u{2580}' => y % 2 == 0,
            '\u{2584}' => y % 2 == 1,
            _ => false,
        };
        for (x, y) in (0..code.width()).flat_map(|x| (0..code.width()).map(move |y| (x, y))) {
            assert_eq!(is_drawn(x + MARGIN, y + MARGIN), code[(x, y)] == Color::Light, "{x} {y}\n{text}");
        }
        assert!((0..code.width()).all(|at| is_drawn(at, 0) && is_drawn(0, at) && is_drawn(at, MARGIN - 1)), "{text}");
    }
}
