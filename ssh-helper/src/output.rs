// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output. Control sequences reach a terminal only, and none if `NO_COLOR` is set.

use std::io::{self, IsTerminal, Write};

use crate::error::Error;

/// Writes a line.
pub fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

/// Writes `text` at once: a program that reads the output may wait for it.
pub fn print(text: &str) {
    // A program that reads the output gets the same in each locale.
    let is_plain = io::stdout().is_terminal() && !shows_utf8();
    let text = if is_plain { text.replace('✓', "+").replace('✗', "x") } else { text.to_owned() };
    // If the reader has closed the output, it needs no more of it.
    let _ = write(&text);
}

/// Whether the user's locale has more characters than ASCII.
pub fn shows_utf8() -> bool {
    is_utf8(|name| std::env::var(name).ok())
}

/// The first of the variables that has a value decides, as in the C library.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names.into_iter().filter_map(variable).find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Writes what a program reads.
///
/// # Errors
/// It could not be written: the program would take what it has got for all.
pub fn print_for_program(text: &str) -> Result<(), Error> {
    write(text).map_err(Error::system("cannot write to standard output"))
}

/// Writes a line to standard error. If that fails, there is nobody to tell.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn write(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_which_characters_there_are() {
        for (values, expected) in [
            (&[("LC_ALL", "C.UTF-8"), ("LANG", "C")][..], true),
            (&[("LC_ALL", ""), ("LC_CTYPE", "de_DE.utf8")], true),
            (&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")], false),
            (&[("LC_CTYPE", "POSIX"), ("LANG", "de_DE.UTF-8")], false),
            (&[("LANG", "de_DE.UTF-8@euro")], true),
            (&[("LANG", "de_DE.ISO-8859-1")], false),
            (&[], false),
        ] {
            let variable =
                |name: &str| values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(is_utf8(variable), expected, "{values:?}");
        }
    }
}
