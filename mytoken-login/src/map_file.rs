// SPDX-License-Identifier: MIT OR Apache-2.0
//! A map file: lines `<issuer> <subject> <account>`.

use std::fmt;

use mytoken::config::IssuerSettings;
use mytoken::urls::same_base;
use mytoken_wire::is_printable;

use crate::account_name::{AccountName, NameForm};
use crate::identity::Identity;

/// Maximum number of mistakes that are kept per file. Further mistakes are only counted.
const MISTAKES_LIMIT: usize = 100;

const FORM: &str = "a line holds an issuer, a subject and an account";

/// A map file.
///
/// Each line has three fields, separated by spaces or tabs: the issuer's URL or its name in the configuration, the subject (claim
/// `sub`), and the account. A field with blanks must be in double quotes; between them no other character is special. A `#` where
/// a field could start begins a comment. A byte order mark and Windows line ends are accepted.
///
/// Any other line is a [`Mistake`]. It is ignored, and the other lines work. No line can remove access to an account, so ignoring a
/// line never allows a login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapFile {
    entries: Vec<Entry>,
    mistakes: Vec<Mistake>,
    wrong_lines: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    line: usize,
    issuer: String,
    sub: String,
    account: AccountName,
}

/// An ignored line. `Display` prints `LINE:COLUMN: problem`, without the text of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The problem.
    pub problem: String,
}

/// A field and the byte offset at which it begins.
struct Field<'a> {
    text: &'a str,
    at: usize,
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
                Ok(line) => match entry(number + 1, line) {
                    Ok(entry) => file.entries.extend(entry),
                    Err((at, problem)) => file.mistaken(number + 1, column(line, at), problem),
                },
                Err(error) => {
                    let good = String::from_utf8_lossy(line.get(..error.valid_up_to()).unwrap_or_default());
                    file.mistaken(number + 1, column(&good, good.len()), "this is not UTF-8".to_owned());
                }
            }
        }
        file
    }

    fn mistaken(&mut self, line: usize, column: usize, problem: String) {
        self.wrong_lines += 1;
        if self.mistakes.len() < MISTAKES_LIMIT {
            self.mistakes.push(Mistake { line, column, problem });
        }
    }

    /// The first hundred ignored lines.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// How many lines are ignored.
    #[must_use]
    pub fn wrong_lines(&self) -> usize {
        self.wrong_lines
    }

    /// How many lines are used.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.entries.len()
    }

    /// Well-formed lines whose issuer is not among `issuers`. They match no identity.
    pub fn foreign_lines<'a>(&'a self, issuers: &'a [IssuerSettings]) -> impl Iterator<Item = usize> + 'a {
        let known = |entry: &&Entry| issuers.iter().any(|issuer| is_of(entry, &issuer.name, &issuer.url));
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
            .filter(move |entry| entry.sub == identity.sub && is_of(entry, &identity.issuer, &identity.iss))
            .map(|entry| &entry.account)
    }
}

fn is_of(entry: &Entry, name: &str, url: &str) -> bool {
    entry.issuer == name || same_base(&entry.issuer, url)
}

/// A problem and the byte offset at which it begins. Its column is computed only for a mistake, not at each login.
type ProblemAt = (usize, String);

/// The entry of a line. A line that is empty or only a comment has none.
fn entry(number: usize, line: &str) -> Result<Option<Entry>, ProblemAt> {
    let fields = fields(line)?;
    let mut fields = fields.iter();
    let Some(issuer) = fields.next() else { return Ok(None) };
    let sub = fields.next().ok_or_else(|| (line.len(), format!("the subject is missing: {FORM}")))?;
    let account = fields.next().ok_or_else(|| (line.len(), format!("the account is missing: {FORM}")))?;
    if let Some(fourth) = fields.next() {
        let problem = format!("a fourth field: {FORM}; a comment begins with #, a field with blanks has \"quotes\"");
        return Err((fourth.at, problem));
    }
    if !account.quoted && account.text.contains('#') {
        let problem = "a # in the account: put a blank before a comment, or the name in \"quotes\"";
        return Err((account.at, problem.to_owned()));
    }
    let name = AccountName::parse_as(account.text, NameForm::Nss).map_err(|error| (account.at, error.to_string()))?;
    Ok(Some(Entry { line: number, issuer: issuer.text.to_owned(), sub: sub.text.to_owned(), account: name }))
}

/// The fields of a line, without its comment.
fn fields(line: &str) -> Result<Vec<Field<'_>>, ProblemAt> {
    let wrong = |rest: &str, problem: &str| Err((line.len() - rest.len(), problem.to_owned()));
    let mut fields = Vec::with_capacity(4);
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(is_blank);
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(fields);
        }
        let at = line.len() - rest.len();
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
        if let Some((before, c)) = text.char_indices().find(|(_, c)| is_unseen(*c)) {
            let problem = format!("a character that cannot be seen (U+{:04X})", u32::from(c));
            return Err((at + usize::from(quoted) + before, problem));
        }
        fields.push(Field { text, at, quoted });
        rest = tail;
    }
}

/// The column of the character at this byte offset.
fn column(line: &str, at: usize) -> usize {
    line.get(..at).unwrap_or(line).chars().count() + 1
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// Whether a character is invisible. For example a non-breaking space from a web page would otherwise be part of a name.
fn is_unseen(c: char) -> bool {
    c != ' ' && (c.is_whitespace() || !is_printable(c))
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issuer, subject and account of the only entry of a file, or its only mistake.
    fn line(bytes: &[u8]) -> Result<[String; 3], String> {
        let mut file = MapFile::parse(bytes);
        assert_eq!(file.entries.len() + file.mistakes.len(), 1, "{file:?}");
        file.entries
            .pop()
            .map(|entry| [entry.issuer, entry.sub, entry.account.to_string()])
            .ok_or_else(|| file.mistakes[0].to_string())
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
    fn any_other_line_is_a_mistake_with_line_and_column() {
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
            (b"op s-1 a\0", "1:9: a character that cannot be seen (U+0000)"),
            (b"op s-1 alice\rop s-2 bob", "1:13: a character that cannot be seen (U+000D)"),
            ("op s\u{e9}\u{a0}1 alice".as_bytes(), "1:6: a character that cannot be seen (U+00A0)"),
            ("op s-1 \"ali\u{200b}ce\"".as_bytes(), "1:12: a character that cannot be seen (U+200B)"),
            ("op s-1 alice\n\u{feff}op s-2 bob".as_bytes(), "2:1: a character that cannot be seen (U+FEFF)"),
            (b"op s-1 J\xf6rg", "1:9: this is not UTF-8"),
        ];
        for (bytes, expected) in table {
            let file = MapFile::parse(bytes);
            let mistake = file.mistakes().first().map(ToString::to_string).unwrap_or_default();
            assert!(mistake.starts_with(expected), "{:?}: {mistake}", String::from_utf8_lossy(bytes));
            assert_eq!(file.wrong_lines(), 1);
        }
    }

    #[test]
    fn a_wrong_line_is_ignored_and_the_others_work() {
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
        assert_eq!((file.lines(), file.wrong_lines()), (2, 1));
    }

    #[test]
    fn the_list_of_mistakes_is_bounded() {
        let file = MapFile::parse("x\n".repeat(5_000).as_bytes());
        assert_eq!((file.wrong_lines(), file.mistakes().len()), (5_000, MISTAKES_LIMIT));
    }

    #[test]
    fn lines_with_an_unknown_issuer_are_found() {
        let file = MapFile::parse(b"op s alice\nhttps://op.example.org/ s alice\negi s bob\n\nhttps://x.org s bob\n");
        let op: IssuerSettings =
            toml::from_str("name = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']").unwrap();
        assert_eq!(file.foreign_lines(&[op]).collect::<Vec<_>>(), [3, 5]);
    }

    proptest::proptest! {
        #[test]
        fn no_file_causes_a_panic_and_every_line_is_counted(bytes in proptest::collection::vec(0_u8..=255, 0..80)) {
            let file = MapFile::parse(&bytes);
            proptest::prop_assert!(file.lines() + file.wrong_lines() <= bytes.split(|byte| *byte == b'\n').count());
        }

        #[test]
        fn a_quoted_field_is_read_unchanged(sub in "[ -!#-~]{1,20}") {
            let read = line(format!("op \"{sub}\" alice").as_bytes()).unwrap();
            proptest::prop_assert_eq!(&read[1], &sub);
        }
    }
}
