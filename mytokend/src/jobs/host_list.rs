// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slurm's host lists, like `n[1-2,07],m1` for n1, n2, n07, m1 and `r[1-2]n[1-2]` for r1n1, r1n2, r2n1, r2n2.
//!
//! A list is never expanded: `a[0-65535]` is two numbers here. All functions treat a list that is malformed, or that is longer than any
//! cluster needs, like one without names.

/// Longest list in bytes. One of 20,000 nodes without any neighbours has half of it.
const LONGEST_LIST: usize = 256 * 1024;

/// Maximum number of names in a list. No cluster has more nodes.
const MOST_NAMES: usize = 1 << 20;

/// Longest name in bytes (`HOST_NAME_MAX` of Linux).
pub const LONGEST_NAME: usize = 64;

/// Maximum number of digits of a number.
const MOST_DIGITS: usize = 10;

/// Maximum number of brackets in one element. Slurm has five dimensions at most.
const MOST_BRACKETS: usize = 5;

/// The place of `node` in the list, from 0. `None` when the list does not contain it.
#[must_use]
pub fn position(list: &str, node: &str) -> Option<usize> {
    if node.is_empty() || node.len() > LONGEST_NAME {
        return None;
    }
    let mut names = 0;
    let mut found = None;
    // To the end even after the node was found: what follows may be malformed.
    for element in elements(list)? {
        let element = Element::read(element)?;
        found = found.or_else(|| Some(names + element.position(node)?));
        names = count_of(names + element.names)?;
    }
    found
}

/// Whether the list contains `node`.
#[must_use]
pub fn contains(list: &str, node: &str) -> bool {
    position(list, node).is_some()
}

/// The first name of the list.
#[must_use]
pub fn first(list: &str) -> Option<String> {
    let mut names = 0;
    let mut first = None;
    for element in elements(list)? {
        let element = Element::read(element)?;
        first = first.or_else(|| Some(element.first()));
        names = count_of(names + element.names)?;
    }
    first
}

/// The first `most` names of the list.
#[must_use]
pub fn first_names(list: &str, most: usize) -> Vec<String> {
    // The whole list must be well formed.
    if first(list).is_none() {
        return Vec::new();
    }
    let elements = elements(list).into_iter().flatten().filter_map(Element::read);
    let mut names = Vec::new();
    for element in elements {
        let missing = most.saturating_sub(names.len());
        names.extend((0..element.names.min(missing)).filter_map(|place| element.name(place)));
        if names.len() >= most {
            break;
        }
    }
    names
}

fn count_of(names: usize) -> Option<usize> {
    (names <= MOST_NAMES).then_some(names)
}

/// The elements of a list: the texts between the commas that are not within brackets. slurmctld prints `(null)` or `n/a` for no nodes.
fn elements(list: &str) -> Option<impl Iterator<Item = &str>> {
    let list = list.trim();
    if list.len() > LONGEST_LIST {
        return None;
    }
    let mut open = false;
    let split = list.split(move |character| {
        match character {
            '[' => open = true,
            ']' => open = false,
            _ => {}
        }
        character == ',' && !open
    });
    Some(split.filter(|element| !element.is_empty() && !["(null)", "n/a"].contains(element)))
}

/// One element of a list: texts with brackets between them.
struct Element<'a> {
    /// The text before the first bracket.
    front: &'a str,
    /// Each bracket with the text after it.
    brackets: Vec<(Bracket<'a>, &'a str)>,
    /// Number of names.
    names: usize,
}

impl<'a> Element<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split('[');
        let front = parts.next()?;
        let mut element = Self { front, brackets: Vec::new(), names: 1 };
        for part in parts {
            let (ranges, tail) = part.split_once(']')?;
            let bracket = Bracket::read(ranges)?;
            element.names = count_of(element.names.checked_mul(bracket.names)?)?;
            element.brackets.push((bracket, tail));
        }
        let closed_well = !front.contains(']') && element.brackets.iter().all(|(_, tail)| !tail.contains(']'));
        (closed_well && element.brackets.len() <= MOST_BRACKETS && element.first().len() <= LONGEST_NAME)
            .then_some(element)
    }

    fn first(&self) -> String {
        let mut name = self.front.to_owned();
        for (bracket, tail) in &self.brackets {
            let Range { low, width, .. } = bracket.first;
            name.push_str(&format!("{low:0width$}{tail}"));
        }
        name
    }

    /// The name at `place`.
    fn name(&self, mut place: usize) -> Option<String> {
        let mut ends = Vec::new();
        for (bracket, tail) in self.brackets.iter().rev() {
            ends.push(format!("{}{tail}", bracket.number(place.checked_rem(bracket.names)?)?));
            place /= bracket.names;
        }
        Some(ends.into_iter().rev().fold(self.front.to_owned(), |name, end| name + &end))
    }

    /// The place of `node` among the names of this element. Brackets side by side can give one name twice (`n[1-2][1-12]`); the first
    /// place counts.
    fn position(&self, node: &str) -> Option<usize> {
        // What can be left of `node` after each part, with the lowest place that leads there.
        let mut rests = vec![(node.strip_prefix(self.front)?, 0)];
        for (bracket, tail) in &self.brackets {
            let mut next: Vec<(&str, usize)> = Vec::new();
            for (rest, place) in rests {
                let digits = rest.bytes().take(MOST_DIGITS).take_while(u8::is_ascii_digit).count();
                for length in 1..=digits {
                    let Some((number, rest)) = rest.split_at_checked(length) else { continue };
                    let Some(rest) = rest.strip_prefix(tail) else { continue };
                    let Some(within) = bracket.position(number) else { continue };
                    let place = place * bracket.names + within;
                    match next.iter_mut().find(|(other, _)| other.len() == rest.len()) {
                        Some((_, lowest)) => *lowest = place.min(*lowest),
                        None => next.push((rest, place)),
                    }
                }
            }
            rests = next;
        }
        rests.into_iter().find(|(rest, _)| rest.is_empty()).map(|(_, place)| place)
    }
}

/// The ranges of a bracket.
struct Bracket<'a> {
    ranges: &'a str,
    first: Range,
    names: usize,
}

impl<'a> Bracket<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut names = 0;
        for range in text.split(',') {
            names = count_of(names + Range::read(range)?.names()?)?;
        }
        let first = Range::read(text.split(',').next()?)?;
        Some(Self { ranges: text, first, names })
    }

    /// The number at `place`, as it is written.
    fn number(&self, mut place: usize) -> Option<String> {
        for range in self.ranges.split(',') {
            let range = Range::read(range)?;
            let (names, width) = (range.names()?, range.width);
            if place < names {
                let number = range.low.checked_add(u64::try_from(place).ok()?)?;
                return Some(format!("{number:0width$}"));
            }
            place -= names;
        }
        None
    }

    fn position(&self, number: &str) -> Option<usize> {
        let value = number.parse().ok()?;
        let mut before = 0;
        for range in self.ranges.split(',') {
            let range = Range::read(range)?;
            if range.has(value, number.len()) {
                return Some(before + usize::try_from(value - range.low).ok()?);
            }
            before += range.names()?;
        }
        None
    }
}

/// Numbers from `low` to `high`, with leading zeros up to `width` digits.
#[derive(Clone, Copy)]
struct Range {
    low: u64,
    high: u64,
    width: usize,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let number = |digits: &str| {
            // `parse` would accept a sign.
            let valid = digits.len() <= MOST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
            valid.then(|| digits.parse::<u64>().ok()).flatten()
        };
        let range = Self { low: number(low)?, high: number(high)?, width: low.len() };
        (range.low <= range.high).then_some(range)
    }

    fn names(self) -> Option<usize> {
        usize::try_from(self.high - self.low).ok()?.checked_add(1)
    }

    /// Whether a name has `value` in this range, written with `digits` digits.
    fn has(self, value: u64, digits: usize) -> bool {
        let own = value.checked_ilog10().map_or(1, |log| log as usize + 1);
        (self.low..=self.high).contains(&value) && digits == own.max(self.width)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// A text, and the ranges in the bracket after it: low number, size, width.
    type Part = (String, Vec<(u64, u64, usize)>);

    /// All names of an element in order, the slow way.
    fn expand(parts: &[Part], tail: &str) -> Vec<String> {
        let Some(((text, ranges), rest)) = parts.split_first() else { return vec![tail.to_owned()] };
        let tails = expand(rest, tail);
        let numbers = ranges.iter().flat_map(|(low, size, width)| (*low..low + size).map(move |n| (n, *width)));
        numbers.flat_map(|(n, width)| tails.iter().map(move |tail| format!("{text}{n:0width$}{tail}"))).collect()
    }

    fn write(parts: &[Part], tail: &str) -> String {
        let bracket = |ranges: &[(u64, u64, usize)]| {
            let ranges: Vec<String> = ranges
                .iter()
                .map(|(low, size, width)| match size {
                    1 => format!("{low:0width$}"),
                    size => format!("{low:0width$}-{high:0width$}", high = low + size - 1),
                })
                .collect();
            ranges.join(",")
        };
        parts.iter().map(|(text, ranges)| format!("{text}[{}]", bracket(ranges))).collect::<String>() + tail
    }

    prop_compose! {
        fn element()(
            parts in proptest::collection::vec(
                ("[a-c1]{0,2}", proptest::collection::vec((0_u64..120, 1_u64..12, 1_usize..4), 1..4)), 0..3),
            tail in "[a-c1]{1,2}",
        ) -> (String, Vec<String>) {
            (write(&parts, &tail), expand(&parts, &tail))
        }
    }

    proptest! {
        #[test]
        fn each_name_has_the_place_of_the_expanded_list(elements in proptest::collection::vec(element(), 0..4)) {
            let list: Vec<String> = elements.iter().map(|(text, _)| text.clone()).collect();
            let list = list.join(",");
            let names: Vec<String> = elements.into_iter().flat_map(|(_, names)| names).collect();
            prop_assert_eq!(first(&list), names.first().cloned());
            prop_assert_eq!(first_names(&list, 30), names.iter().take(30).cloned().collect::<Vec<_>>(), "{}", list);
            for name in names.iter().take(300) {
                prop_assert_eq!(position(&list, name), names.iter().position(|other| other == name), "{} in {}", name, list);
            }
            for other in ["", "a", "a0", "b1", "11", "a011", "c-1"] {
                prop_assert_eq!(contains(&list, other), names.iter().any(|name| name == other), "{} in {}", other, list);
            }
        }

        #[test]
        fn no_text_panics_and_the_first_name_has_place_0(list in r"[n01,\[\]\-+]{0,24}") {
            if let Some(name) = first(&list) {
                prop_assert_eq!(position(&list, &name), Some(0), "{}", list);
            }
            let _ = position(&list, "n10");
        }
    }

    #[test]
    fn names_have_their_places() {
        for (list, names) in [
            ("n1", "n1"),
            ("n[1-3]", "n1 n2 n3"),
            ("n[09-11,07],m1", "n09 n10 n11 n07 m1"),
            ("a,b", "a b"),
            ("r[1-2]n[1-2]", "r1n1 r1n2 r2n1 r2n2"),
            ("n[3,5]-ib", "n3-ib n5-ib"),
            ("n[99-101]", "n99 n100 n101"),
            ("n[0000000001-0000000002]\n", "n0000000001 n0000000002"),
        ] {
            let names: Vec<&str> = names.split(' ').collect();
            assert_eq!(first(list).as_deref(), names.first().copied(), "{list}");
            for (place, name) in names.iter().enumerate() {
                assert_eq!(position(list, name), Some(place), "{name} in {list}");
            }
        }
        for (list, other) in
            [("n[1-3]", "n0"), ("n[1-3]", "n01"), ("n[01-03]", "n1"), ("n[1-3]", "n1x"), ("n1", "n"), ("n[1-3]", "n")]
        {
            assert!(!contains(list, other), "{other} in {list}");
        }
    }

    #[test]
    fn malformed_and_huge_lists_have_no_names() {
        let zeros = format!("n[{}]", "0".repeat(70_000));
        let long = "n1,".repeat(100_000);
        for list in [
            "",
            "(null)",
            "n/a",
            ",",
            "n[1",
            "n1]",
            "n[1]]",
            "n[[1]]",
            "n[]",
            "n[x-y]",
            "n[+1]",
            "n[1-+3]",
            "n[3-1]",
            "n[1-]",
            "n[1-2-3]",
            "n[0-99999999]",
            "n[0-9999][0-9999]",
            "n1,n[x]",
            "[1][1][1][1][1][1]",
            "n[000x333]",
            "n[0-18446744073709551615]",
            "n[00000000001]",
            &zeros,
            &long,
        ] {
            let shown = list.get(..30).unwrap_or(list);
            assert_eq!((first(list), position(list, "n1"), position(list, "n[1")), (None, None, None), "{shown}");
            assert!(first_names(list, 3).is_empty(), "{shown}");
        }
        assert_eq!(position(&"x".repeat(65), &"x".repeat(65)), None);
    }

    #[test]
    fn the_longest_lists_take_no_time() {
        let node = "1".repeat(LONGEST_NAME);
        for list in [
            "a[0-65535],".repeat(2_000),
            format!("n[{}0]", "1,".repeat(LONGEST_LIST / 2 - 4)),
            format!("{}1", "[1-9,1][1-99][1-999][1-9][1-9]1,".repeat(8_000)),
            format!("[{0}1][{0}1][1]", "1,111,111111,".repeat(9_000)),
        ] {
            let begin = Instant::now();
            let _ = (
                first_names(&list, 3),
                position(&list, &node),
                position(&list, "n1111111111"),
                contains(&list, "a65536"),
            );
            assert!(begin.elapsed() < Duration::from_secs(20), "{} bytes: {:?}", list.len(), begin.elapsed());
        }
    }
}
