// SPDX-License-Identifier: MIT OR Apache-2.0
//! The QR code of a link on a terminal: in half blocks, two modules per character, one above the other, or in ASCII, two characters per
//! module.
//!
//! A terminal of 24 lines has room for version 4 (33 modules, links of at most 78 bytes): 19 lines of half blocks with a margin of two
//! modules. In ASCII even version 2 needs 29 lines.

use qrcode::{Color, EcLevel, QrCode};

/// The margin, in modules. The standard asks for four; readers on phones find the code with two.
const MARGIN: usize = 2;

/// Most columns and lines.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Columns.
    pub columns: usize,
    /// Lines.
    pub lines: usize,
}

/// The QR code of `link` in half blocks. `None`: it does not fit.
#[must_use]
pub fn half_blocks(link: &str, room: Room) -> Option<String> {
    let drawn = Drawn::of(link)?;
    let size = drawn.size;
    let line = |y: usize| -> String {
        let character = |x: usize| match (drawn.is_light(x, y), drawn.is_light(x, y + 1)) {
            (true, true) => '\u{2588}',
            (true, false) => '\u{2580}',
            (false, true) => '\u{2584}',
            (false, false) => ' ',
        };
        (0..size).map(character).collect()
    };
    let fits = size <= room.columns && size.div_ceil(2) <= room.lines;
    fits.then(|| (0..size).step_by(2).map(line).collect::<Vec<String>>().join("\n"))
}

/// The QR code of `link` in ASCII. `None`: it does not fit.
#[must_use]
pub fn ascii(link: &str, room: Room) -> Option<String> {
    let drawn = Drawn::of(link)?;
    let size = drawn.size;
    let line = |y| (0..size).map(|x| if drawn.is_light(x, y) { "##" } else { "  " }).collect::<String>();
    let fits = 2 * size <= room.columns && size <= room.lines;
    fits.then(|| (0..size).map(line).collect::<Vec<String>>().join("\n"))
}

/// The modules that are drawn: the light ones, because most terminals have a dark background. The margin is light.
struct Drawn {
    modules: Vec<Color>,
    /// Modules of a line, without the margin.
    width: usize,
    /// The same with the margin.
    size: usize,
}

impl Drawn {
    fn of(link: &str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(link.as_bytes(), EcLevel::L).ok()?;
        let width = code.width();
        Some(Self { modules: code.into_colors(), width, size: width + 2 * MARGIN })
    }

    /// Nothing is drawn below the last line.
    fn is_light(&self, x: usize, y: usize) -> bool {
        let at = |place: usize| place.checked_sub(MARGIN).filter(|place| *place < self.width);
        let module = at(x).zip(at(y)).and_then(|(x, y)| self.modules.get(y * self.width + x));
        y < self.size && module.is_none_or(|color| *color == Color::Light)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Room = Room { columns: 80, lines: 19 };

    fn link(length: usize) -> String {
        let mut link = "https://mytoken.example.org/c/AbCdEfGh".to_owned();
        link.push_str(&"x".repeat(length - link.len()));
        link
    }

    /// Lines and columns.
    fn size(code: Option<String>) -> Option<(usize, usize)> {
        let code = code?;
        let columns = code.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(code.lines().all(|line| line.chars().count() == columns), "{code}");
        Some((code.lines().count(), columns))
    }

    /// The figures are in docs/admin/ssh.md.
    #[test]
    fn the_code_fits_on_a_small_screen_or_is_not_shown() {
        let shown = |length| size(half_blocks(&link(length), SMALL));
        assert_eq!([shown(38), shown(53)], [Some((17, 33)); 2]);
        assert_eq!([shown(54), shown(78)], [Some((19, 37)); 2]);
        assert_eq!(shown(79), None);
        assert_eq!(size(half_blocks(&link(38), Room { columns: 32, lines: 24 })), None);
        let in_ascii = |columns, lines| size(ascii(&link(38), Room { columns, lines }));
        assert_eq!(in_ascii(66, 33), Some((33, 66)));
        assert_eq!([in_ascii(65, 33), in_ascii(66, 32)], [None; 2]);
    }

    #[test]
    fn its_modules_are_those_of_the_code() {
        let code = QrCode::with_error_correction_level(link(38).as_bytes(), EcLevel::L).unwrap();
        let blocks = half_blocks(&link(38), SMALL).unwrap();
        let blocks: Vec<Vec<char>> = blocks.lines().map(|line| line.chars().collect()).collect();
        let in_blocks = |x: usize, y: usize| match blocks[y / 2][x] {
            '\u{2588}' => true,
            '\u{2580}' => y % 2 == 0,
            '\u{2584}' => y % 2 == 1,
            _ => false,
        };
        let letters = ascii(&link(38), Room { columns: 80, lines: 40 }).unwrap();
        let letters: Vec<&[u8]> = letters.lines().map(str::as_bytes).collect();
        let in_ascii = |x: usize, y: usize| letters[y][2 * x..2 * x + 2] == *b"##";
        let is_drawn: [&dyn Fn(usize, usize) -> bool; 2] = [&in_blocks, &in_ascii];
        for is_drawn in is_drawn {
            for (x, y) in (0..code.width()).flat_map(|x| (0..code.width()).map(move |y| (x, y))) {
                assert_eq!(is_drawn(x + MARGIN, y + MARGIN), code[(x, y)] == Color::Light, "{x} {y}");
            }
            assert!((0..code.width()).all(|at| is_drawn(at, 0) && is_drawn(0, at) && is_drawn(at, MARGIN - 1)));
        }
    }
}
