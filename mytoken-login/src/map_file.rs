// SPDX-License-Identifier: MIT OR Apache-2.0
//! A map file: lines `<issuer> <subject> <account>`.

use std::fmt;

use mytoken::config::IssuerSettings;
use mytoken::urls::same_base;
use mytoken_wire::is_printable;

use crate::account_name::{AccountName, NameForm};
use crate::identity::Identity;

/// Maximum number of errors that are kept per file. Further invalid lines are only counted.
const ERRORS_LIMIT: usize = 100;

const FORM: &str = "a line holds an issuer, a subject and an account";

/// A map file.
///
/// Each line has three fields, separated by spaces or tabs: the issuer's URL or its name in the configuration, the subject (claim
/// `sub`), and the account. A field with blanks must be in double quotes; between them no other character is special. A `#` where
/// a field could start begins a comment. A byte order mark and Windows line ends are accepted.
///
/// Any other line is invalid: it gives a [`LineError`] and is ignored, and the other lines work. No line can remove access to an
/// account, so ignoring a line never allows a login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapFile {
    entries: Vec<Entry>,
    errors: Vec<LineError>,
    ignored_lines: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    line: usize,
    issuer: String,
    sub: String,
    account: AccountName,
}

/// Why a line is ignored. `Display` prints `LINE:COLUMN: problem`, without the text of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The problem.
    pub problem: String,
}

/// A field and the byte offset at which it begins.
pub(crate) struct Field<'a> {
    pub(crate) text: &'a str,
    pub(crate) offset: usize,
    quoted: bool,
}

impl MapFile {
    /// Reads a file.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut file = Self::default();
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match std::str::from_utf8(line) {
                Ok(line) => match parse_line(number + 1, line) {
                    Ok(entry) => file.entries.extend(entry),
                    Err((offset, problem)) => file.add_error(number + 1, column(line, offset), problem),
                },
                Err(error) => {
                    let good = String::from_utf8_lossy(line.get(..error.valid_up_to()).unwrap_or_default());
                    file.add_error(number + 1, column(&good, good.len()), "this is not UTF-8".to_owned());
                }
            }
        }
        file
    }

    fn add_error(&mut self, line: usize, column: usize, problem: String) {
        self.ignored_lines += 1;
        if self.errors.len() < ERRORS_LIMIT {
            self.errors.push(LineError { line, column, problem });
        }
    }

    /// The errors of the first hundred ignored lines.
    #[must_use]
    pub fn errors(&self) -> &[LineError] {
        &self.errors
    }

    /// How many lines are ignored.
    #[must_use]
    pub fn ignored_lines(&self) -> usize {
        self.ignored_lines
    }

    /// How many lines are used.
    #[must_use]
    pub fn used_lines(&self) -> usize {
        self.entries.len()
    }

    /// The numbers of well-formed lines whose issuer is not among `issuers`. They match no identity.
    pub fn unknown_issuer_lines<'a>(&'a self, issuers: &'a [IssuerSettings]) -> impl Iterator<Item = usize> + 'a {
        let known = |entry: &&Entry| issuers.iter().any(|issuer| entry.has_issuer(&issuer.name, &issuer.url));
        self.entries.iter().filter(move |entry| !known(entry)).map(|entry| entry.line)
    }

    /// The accounts of the file, with their line numbers.
    pub fn named_accounts(&self) -> impl Iterator<Item = (usize, &AccountName)> {
        self.entries.iter().map(|entry| (entry.line, &entry.account))
    }

    /// The accounts of an identity, in the order of the file.
    pub(super) fn accounts<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a AccountName> {
        self.entries
            .iter()
            .filter(move |entry| entry.sub == identity.sub && entry.has_issuer(&identity.issuer, &identity.iss))
            .map(|entry| &entry.account)
    }
}

impl Entry {
    /// Whether the entry is for the issuer with this name or URL.
    fn has_issuer(&self, name: &str, url: &str) -> bool {
        is_issuer(&self.issuer, name, url)
    }
}

/// Whether a field is the name or the URL of an issuer.
pub(crate) fn is_issuer(field: &str, name: &str, url: &str) -> bool {
    field == name || same_base(field, url)
}

/// The byte offset at which a problem begins, and the problem.
pub(crate) type Problem = (usize, String);

/// Parses a line. `None`: it is empty or only a comment.
fn parse_line(number: usize, line: &str) -> Result<Option<Entry>, Problem> {
    let fields = split_fields(line)?;
    let mut fields = fields.iter();
    let Some(issuer) = fields.next() else { return Ok(None) };
    let sub = fields.next().ok_or_else(|| (line.len(), format!("the subject is missing: {FORM}")))?;
    let account = fields.next().ok_or_else(|| (line.len(), format!("the account is missing: {FORM}")))?;
    if let Some(fourth) = fields.next() {
        let problem = format!("a fourth field: {FORM}; a comment begins with #, a field with blanks has \"quotes\"");
        return Err((fourth.offset, problem));
    }
    if !account.quoted && account.text.contains('#') {
        let problem = "a # in the account: put a blank before a comment, or the name in \"quotes\"";
        return Err((account.offset, problem.to_owned()));
    }
    let name =
        AccountName::parse_as(account.text, NameForm::Nss).map_err(|error| (account.offset, error.to_string()))?;
    Ok(Some(Entry { line: number, issuer: issuer.text.to_owned(), sub: sub.text.to_owned(), account: name }))
}

/// Splits a line into its fields, without the comment.
pub(crate) fn split_fields(line: &str) -> Result<Vec<Field<'_>>, Problem> {
    let wrong = |rest: &str, problem: &str| Err((line.len() - rest.len(), problem.to_owned()));
    let mut fields = Vec::with_capacity(4);
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(is_blank);
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(fields);
        }
        let offset = line.len() - rest.len();
        let (text, tail, quoted) = if let Some(inner) = rest.strip_prefix('"') {
            let Some((text, tail)) = inner.split_once('"') else { return wrong(rest, "the quotes are not closed") };
            if tail.starts_with(|c| !is_blank(c)) {
                return wrong(tail, "a blank must follow the quotes");
            }
            (text, tail, true)
        } else {
            let end = rest.find(is_blank).unwrap_or(rest.len());
            let (text, tail) = rest.split_at(end);
            (text, tail, false)
        };
        if text.is_empty() {
            return wrong(rest, "the field is empty");
        }
        if let Some((before, c)) = text.char_indices().find(|(_, c)| is_invisible(*c)) {
            let problem = format!("an invisible character (U+{:04X})", u32::from(c));
            return Err((offset + usize::from(quoted) + before, problem));
        }
        fields.push(Field { text, offset, quoted });
        rest = tail;
    }
}

/// The column of the character at this byte offset.
pub(crate) fn column(line: &str, offset: usize) -> usize {
    line.get(..offset).unwrap_or(line).chars().count() + 1
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// Whether a character is invisible: a non-breaking space that was copied from a web page would otherwise be part of a name.
fn is_invisible(c: char) -> bool {
    c != ' ' && (c.is_whitespace() || !is_printable(c))
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issuer, subject and account of the only entry of a file, or its only error.
    fn line(bytes: &[u8]) -> Result<[String; 3], String> {
        let mut file = MapFile::parse(bytes);
        assert_eq!(file.entries.len() + file.errors.len(), 1, "{file:?}");
        file.entries
            .pop()
            .map(|entry| [entry.issuer, entry.sub, entry.account.to_string()])
            .ok_or_else(|| file.errors[0].to_string())
    }

    #[test]
    fn three_fields_are_read() {
        let expected = Ok(["op".to_owned(), "s-1".to_owned(), "alice".to_owned()]);
        for text in [
            "op s-1 alice",
            " op\ts-1  alice \n",
            "op s-1 alice # the boss",
            "op s-1 alice #the boss",
            "op s-1 alice # has \"quotes",
            "\u{feff}op s-1 alice",
            "op s-1 alice\r\n",
            "\u{feff}# users\r\n\r\n  # of the site\r\nop s-1 alice\r\n",
            "\"op\" \"s-1\" \"alice\"",
        ] {
            assert_eq!(line(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(line(b"op \"a b # c\" 'x'").unwrap()[1], "a b # c");
        assert_eq!(line(b"op a#b alice").unwrap()[1], "a#b");
        assert_eq!(line(br#"op s-1 "DOM\dave smith""#).unwrap()[2], r"DOM\dave smith");
        for name in ["4dave", "Dave", "dave@example.org", "DOM\\dave"] {
            assert_eq!(line(format!("op s-1 {name}").as_bytes()).unwrap()[2], name);
        }
    }

    #[test]
    fn invalid_lines_are_reported_with_line_and_column() {
        let table: &[(&[u8], &str)] = &[
            (b"\n op", "2:4: the subject is missing"),
            (b"op s-1", "1:7: the account is missing"),
            (b"op s-1 # alice", "1:15: the account is missing"),
            (b"op alice alice the boss", "1:16: a fourth field"),
            (b"op s-1 alice# the boss", "1:15: a fourth field"),
            (b"op s-1 alice#boss", "1:8: a # in the account"),
            (b"op \"s-1 alice", "1:4: the quotes are not closed"),
            (b"op \"s-1\"alice x", "1:9: a blank must follow the quotes"),
            (b"op \"\" alice", "1:4: the field is empty"),
            (b"op s-1 ../x", "1:8: the account name is not valid"),
            (b"op s-1 -x", "1:8: the account name is not valid"),
            (b"op s-1 a\0", "1:9: an invisible character (U+0000)"),
            (b"op s-1 alice\rop s-2 bob", "1:13: an invisible character (U+000D)"),
            ("op s\u{e9}\u{a0}1 alice".as_bytes(), "1:6: an invisible character (U+00A0)"),
            ("op s-1 \"ali\u{200b}ce\"".as_bytes(), "1:12: an invisible character (U+200B)"),
            ("op s-1 alice\n\u{feff}op s-2 bob".as_bytes(), "2:1: an invisible character (U+FEFF)"),
            (b"op s-1 J\xf6rg", "1:9: this is not UTF-8"),
        ];
        for (bytes, expected) in table {
            let file = MapFile::parse(bytes);
            let error = file.errors().first().map(ToString::to_string).unwrap_or_default();
            assert!(error.starts_with(expected), "{:?}: {error}", String::from_utf8_lossy(bytes));
            assert_eq!(file.ignored_lines(), 1);
        }
    }

    #[test]
    fn an_invalid_line_is_ignored_and_the_others_are_used() {
        let file = MapFile::parse(b"op s-1 alice\nop s-1 bob bob\nop s-1 carol\n");
        let identity = Identity {
            issuer: "op".into(),
            iss: "https://op.example.org".into(),
            sub: "s-1".into(),
            scopes: Vec::new(),
            claims: serde_json::Map::new(),
        };
        let accounts: Vec<&str> = file.accounts(&identity).map(AccountName::as_str).collect();
        assert_eq!(accounts, ["alice", "carol"]);
        assert_eq!((file.used_lines(), file.ignored_lines()), (2, 1));
    }

    #[test]
    fn the_list_of_errors_is_bounded() {
        let file = MapFile::parse("x\n".repeat(5_000).as_bytes());
        assert_eq!((file.ignored_lines(), file.errors().len()), (5_000, ERRORS_LIMIT));
    }

    #[test]
    fn lines_with_an_unknown_issuer_are_found() {
        let file = MapFile::parse(b"op s alice\nhttps://op.example.org/ s alice\negi s bob\n\nhttps://x.org s bob\n");
        let op: IssuerSettings =
            toml::from_str("name = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']").unwrap();
        assert_eq!(file.unknown_issuer_lines(&[op]).collect::<Vec<_>>(), [3, 5]);
    }

    proptest::proptest! {
        #[test]
        fn no_file_causes_a_panic_and_every_line_is_counted(bytes in proptest::collection::vec(0_u8..=255, 0..80)) {
            let file = MapFile::parse(&bytes);
            proptest::prop_assert!(file.used_lines() + file.ignored_lines() <= bytes.split(|byte| *byte == b'\n').count());
        }

        #[test]
        fn a_quoted_field_is_read_unchanged(sub in "[ -!#-~]{1,20}") {
            let read = line(format!("op \"{sub}\" alice").as_bytes()).unwrap();
            proptest::prop_assert_eq!(&read[1], &sub);
        }
    }
}
