// SPDX-License-Identifier: MIT OR Apache-2.0
//! The comment of an exchange: text with values of the login in braces. The mytoken server keeps it in the history of the mytoken.

use serde::{Deserialize, Deserializer};

use crate::context::Attempt;
use crate::template::{Part, split};

/// Longest template, in bytes.
const TEMPLATE_LIMIT: usize = 128;

/// Longest value, in bytes of its escaped form.
const VALUE_LIMIT: usize = 64;

/// Longest comment, in bytes. A server may refuse the exchange for a text that its database cannot hold.
const COMMENT_LIMIT: usize = 255;

/// What stands for a text that was cut.
const CUT: &str = "...";

/// A template of comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

/// A value of the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Service,
    User,
    Host,
    Rhost,
}

impl Placeholder {
    const ALL: [(&'static str, Self); 4] =
        [("service", Self::Service), ("user", Self::User), ("host", Self::Host), ("rhost", Self::Rhost)];

    fn value(self, attempt: &Attempt) -> &str {
        match self {
            Self::Service => &attempt.service,
            Self::User => &attempt.user,
            Self::Host => &attempt.host,
            Self::Rhost => attempt.rhost.as_deref().unwrap_or_default(),
        }
    }
}

impl CommentTemplate {
    /// Reads a template. An empty one gives no comment.
    ///
    /// # Errors
    /// A sentence for the administrator when the text is too long or not plain, or has unknown names in braces.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEMPLATE_LIMIT {
            return Err(format!("a comment has at most {TEMPLATE_LIMIT} bytes"));
        }
        // A backslash is kept for what is escaped in values.
        if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic() && byte != b'\\') {
            return Err("a comment has only blanks and visible characters of ASCII, without backslashes".to_owned());
        }
        let piece = |part: Part| match part {
            Part::Literal(text) => Ok(Piece::Text(text)),
            Part::Name(name) => {
                let known = Placeholder::ALL.iter().find(|(known, _)| *known == name);
                known.map(|(_, value)| Piece::Value(*value)).ok_or_else(|| {
                    let names = Placeholder::ALL.map(|(name, _)| format!("{{{name}}}")).join(" ");
                    format!("unknown value {{{name}}} in a comment; valid here: {names}")
                })
            }
        };
        split(text, "value")?.into_iter().map(piece).collect::<Result<_, _>>().map(Self)
    }

    /// The comment of a login. What others can choose, such as the name of the client, cannot imitate another text: in values only
    /// letters, digits and `.-_:@+` stand for themselves, other bytes become `\xNN`.
    pub(crate) fn fill(&self, attempt: &Attempt) -> String {
        let mut comment = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => comment.push_str(text),
                Piece::Value(value) => comment.push_str(&escape(value.value(attempt))),
            }
        }
        cut(comment, COMMENT_LIMIT)
    }
}

/// The service, the account and this host.
impl Default for CommentTemplate {
    fn default() -> Self {
        let (blank, at) = (Piece::Text(" ".to_owned()), Piece::Text("@".to_owned()));
        let [service, user, host] = [Placeholder::Service, Placeholder::User, Placeholder::Host].map(Piece::Value);
        Self(vec![service, blank, user, at, host])
    }
}

fn escape(value: &str) -> String {
    if value.is_empty() {
        return "-".to_owned();
    }
    let mut escaped = String::new();
    for byte in value.bytes() {
        if escaped.len() >= VALUE_LIMIT {
            return escaped + CUT;
        }
        if byte.is_ascii_alphanumeric() || b".-_:@+".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

/// All of it is ASCII.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(limit - CUT.len());
        text.push_str(CUT);
    }
    text
}

impl<'de> Deserialize<'de> for CommentTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(user: &str, rhost: Option<&str>) -> Attempt {
        Attempt { service: "sshd".into(), user: user.into(), rhost: rhost.map(str::to_owned), host: "login01".into() }
    }

    fn fill(template: &str, user: &str, rhost: Option<&str>) -> String {
        CommentTemplate::parse(template).unwrap().fill(&attempt(user, rhost))
    }

    #[test]
    fn values_of_the_login_are_filled_in() {
        assert_eq!(
            fill("ssh {user}@{host} from {rhost}", "alice", Some("192.0.2.7")),
            "ssh alice@login01 from 192.0.2.7"
        );
        assert_eq!(fill("{rhost}", "alice", Some("2001:db8::1")), "2001:db8::1");
        assert_eq!(fill("{service}: {rhost}", "alice", None), "sshd: -");
        assert_eq!(fill("cluster 7", "alice", None), "cluster 7");
        assert_eq!(fill("", "alice", None), "");
        assert_eq!(CommentTemplate::parse("{service} {user}@{host}").unwrap(), CommentTemplate::default());
        assert_eq!(CommentTemplate::default().fill(&attempt("alice", None)), "sshd alice@login01");
    }

    #[test]
    fn a_value_cannot_imitate_another_text() {
        for (value, shown) in [
            ("a from 192.0.2.9", r"a\x20from\x20192.0.2.9"),
            ("a\r\nb\u{1b}[2J", r"a\x0d\x0ab\x1b\x5b2J"),
            ("<script>\"'&", r"\x3cscript\x3e\x22\x27\x26"),
            ("{host}\\x20", r"\x7bhost\x7d\x5cx20"),
            ("\u{fc}%s", r"\xc3\xbc\x25s"),
        ] {
            assert_eq!(fill("{rhost}", "alice", Some(value)), shown);
            assert_eq!(fill("{user}", value, None), shown);
        }
    }

    #[test]
    fn neither_a_value_nor_a_comment_is_longer_than_its_limit() {
        assert_eq!(fill("{user}|", &"x".repeat(10_000), None), format!("{}...|", "x".repeat(64)));
        assert_eq!(fill("{user}", &"x".repeat(64), None), "x".repeat(64));
        let longest = fill(&"{user}{rhost}".repeat(9), &"\n".repeat(100), Some(&"\u{fc}".repeat(100)));
        assert_eq!((longest.len(), &longest[COMMENT_LIMIT - 3..]), (COMMENT_LIMIT, "..."));
    }

    #[test]
    fn a_template_with_a_mistake_is_refused() {
        for (text, part) in [
            ("{username}", "unknown value {username} in a comment; valid here: {service} {user} {host} {rhost}"),
            ("{user", "a brace is not closed"),
            ("user}", "a brace is not opened"),
            ("{}", "a value has no name"),
            ("a\\b", "without backslashes"),
            ("a\nb", "only blanks and visible characters"),
            ("gr\u{fc}n", "ASCII"),
            (&"x".repeat(129), "at most 128 bytes"),
        ] {
            let error = CommentTemplate::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
