// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every page says about the release. Both come from the Debian changelog or the workspace, so that a page changes only with them.

use std::io;

/// Name of the suite, in the middle of a page's first line.
pub const SUITE: &str = "mytokens for ssh and Slurm";

/// Version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Date of the newest entry of `packaging/debian/changelog`, as YYYY-MM-DD.
///
/// # Errors
/// The changelog cannot be read or has another form.
pub fn date() -> io::Result<String> {
    let changelog = crate::read("debian/changelog")?;
    changelog.lines().find_map(entry_date).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "debian/changelog: no line ends with a date in the form of RFC 5322")
    })
}

/// The date of a line ` -- NAME <ADDRESS>  Thu, 26 Nov 2026 09:00:00 +0000`.
fn entry_date(line: &str) -> Option<String> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = line.strip_prefix(" -- ")?.split_once(">  ")?;
    let mut words = date.split(' ').skip(1);
    let day: u8 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = 1 + MONTHS.iter().position(|name| *name == month)?;
    let year: u16 = words.next()?.parse().ok()?;
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_entry_is_read() {
        let line = " -- Somebody <somebody@example.org>  Thu, 05 Nov 2026 09:00:00 +0000";
        assert_eq!(entry_date(line).as_deref(), Some("2026-11-05"));
        assert_eq!(entry_date("  * Thu, 05 Nov 2026"), None);
    }
}
