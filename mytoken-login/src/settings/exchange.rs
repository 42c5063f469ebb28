// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[[exchange]]` of `login.toml`: the mytoken servers that exchange tokens, and which of them gets what.

use std::fmt;

use mytoken::config::{Mistake, Shared};
use mytoken::urls::same_base;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::comment::CommentTemplate;

/// `[[exchange]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeSettings {
    /// Name of a `[[server]]`. No request is sent to a server that only a token names.
    pub server: String,
    /// The kinds that are accepted.
    #[serde(default = "every_kind")]
    pub accept: Vec<Exchangeable>,
    /// Scopes of the access token, separated by single blanks; empty: what the mytoken's clause says.
    #[serde(default)]
    pub scope: String,
    /// Audience of the access token; empty: the request names none.
    #[serde(default)]
    pub audience: String,
    /// What the server's history says about the login.
    #[serde(default)]
    pub comment: CommentTemplate,
}

/// A kind of credential that can be exchanged for an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exchangeable {
    /// A mytoken as JWT.
    Mytoken,
    /// A short token.
    ShortToken,
    /// A transfer code.
    TransferCode,
    /// The mytoken that a person confirms in a browser during the login.
    Link,
}

impl Exchangeable {
    /// What it is, in a sentence for users.
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Self::Mytoken => "a mytoken",
            Self::ShortToken => "a short token",
            Self::TransferCode => "a transfer code",
            Self::Link => "a login with a link",
        }
    }

    /// Its name in `accept`, if it does not say which server made it.
    fn without_server(self) -> Option<&'static str> {
        match self {
            Self::Mytoken | Self::Link => None,
            Self::ShortToken => Some("short_token"),
            Self::TransferCode => Some("transfer_code"),
        }
    }
}

fn every_kind() -> Vec<Exchangeable> {
    vec![Exchangeable::Mytoken, Exchangeable::ShortToken, Exchangeable::TransferCode]
}

/// What is wrong with the servers together.
pub(super) fn problem(exchanges: &[ExchangeSettings], shared: &Shared) -> Option<Mistake> {
    let is_unknown = |exchange: &ExchangeSettings| shared.server(&exchange.server).is_none();
    if let Some((index, unknown)) = exchanges.iter().enumerate().find(|(_, exchange)| is_unknown(exchange)) {
        let problem = format!("exchange.server \"{}\" is not a [[server]] of mytoken.toml", unknown.server);
        return Some(Mistake::of_entry("exchange", index, &["server"], problem));
    }
    let url = |exchange: &ExchangeSettings| shared.server(&exchange.server).map(|server| server.url.clone());
    for (number, one) in exchanges.iter().enumerate() {
        for (index, other) in exchanges.iter().enumerate().skip(number + 1) {
            let of = |keys, problem| Some(Mistake::of_entry("exchange", index, keys, problem));
            if url(one).zip(url(other)).is_some_and(|(one, other)| same_base(&one, &other)) {
                let problem = format!(
                    "two [[exchange]] have the same mytoken server (\"{}\", \"{}\"): leave one of them",
                    one.server, other.server
                );
                return of(&["server"], problem);
            }
            if [one, other].iter().all(|exchange| exchange.accept.contains(&Exchangeable::Link)) {
                let problem = format!(
                    "\"{}\" and \"{}\" both accept link, but a login with a link is at one mytoken server: leave link \
                     out of accept of one of these two [[exchange]]",
                    one.server, other.server
                );
                return of(&["accept"], problem);
            }
            if let Some(kind) = sent_to_both(one, other) {
                let problem = format!(
                    "\"{}\" and \"{}\" both accept {kind}, which does not tell what server made it, and must not be \
                     sent to a server that did not: leave {kind} out of accept of one of these two [[exchange]]",
                    one.server, other.server
                );
                return of(&["accept"], problem);
            }
        }
    }
    None
}

/// A kind that both accept, and that does not say which of them made it.
fn sent_to_both(one: &ExchangeSettings, other: &ExchangeSettings) -> Option<&'static str> {
    let mut both = one.accept.iter().filter(|kind| other.accept.contains(kind));
    both.find_map(|kind| kind.without_server())
}

/// Reads `[[exchange]]`. The table `[exchange]` is a list of one.
pub(super) fn list_or_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ExchangeSettings>, D::Error> {
    deserializer.deserialize_any(ListOrTable)
}

struct ListOrTable;

impl<'de> Visitor<'de> for ListOrTable {
    type Value = Vec<ExchangeSettings>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("tables [[exchange]]")
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
        ExchangeSettings::deserialize(MapAccessDeserializer::new(table)).map(|one| vec![one])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(tables))
    }
}

#[cfg(test)]
mod tests {
    use super::super::LoginSettings;
    use super::*;

    fn read(text: &str) -> Result<Vec<ExchangeSettings>, toml::de::Error> {
        toml::from_str::<LoginSettings>(text).map(|settings| settings.exchanges)
    }

    fn shared() -> Shared {
        let server = |name: &str, url: &str| format!("[[server]]\nname = '{name}'\nurl = 'https://{url}'\n");
        let servers = [("a", "a.example.org"), ("b", "b.example.org"), ("again", "a.example.org/")];
        toml::from_str(&servers.map(|(name, url)| server(name, url)).concat()).unwrap()
    }

    #[test]
    fn the_table_is_a_list_of_one() {
        let table = read("[exchange]\nserver = 'a'\nscope = 's'\n").unwrap();
        assert_eq!(table, read("[[exchange]]\nserver = 'a'\nscope = 's'\n").unwrap());
        assert_eq!(table[0].accept, every_kind());
        assert_eq!(read("exchange.server = 'a'\n").unwrap().len(), 1);
        assert_eq!(read("[[exchange]]\nserver = 'a'\n[[exchange]]\nserver = 'b'\n").unwrap().len(), 2);
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for text in ["[exchange]\nserver = 'a'\nscop = 's'\n", "[[exchange]]\nserver = 'a'\nscop = 's'\n"] {
            let error = read(text).unwrap_err();
            assert!(error.message().contains("unknown field `scop`"), "{error}");
            assert_eq!(error.span().map(|span| text[..span.start].matches('\n').count()), Some(2), "{error}");
        }
        assert!(read("exchange = 'a'\n").unwrap_err().message().contains("[[exchange]]"));
    }

    #[test]
    fn a_drop_in_changes_the_table_or_adds_a_server() {
        use mytoken::config::{FileTrust, read};

        let me = FileTrust::user(nix::unistd::geteuid().as_raw());

        let servers = |main: &str, drop_in: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("login.d")).unwrap();
            std::fs::write(dir.path().join("login.toml"), main).unwrap();
            std::fs::write(dir.path().join("login.d/10.toml"), drop_in).unwrap();
            let settings = read::<LoginSettings>(dir.path(), "login", me).map_err(|error| error.to_string());
            settings.map(|settings| {
                settings
                    .exchanges
                    .into_iter()
                    .map(|exchange| format!("{} {}", exchange.server, exchange.scope))
                    .collect::<Vec<_>>()
            })
        };
        let (table, list) = ("[exchange]\nserver = 'a'\nscope = 's'\n", "[[exchange]]\nserver = 'b'\n");
        assert_eq!(servers(table, "[exchange]\nscope = 't'\n").unwrap(), ["a t"]);
        assert_eq!(servers(table, list).unwrap(), ["a s", "b "]);
        assert_eq!(servers(list, table).unwrap(), ["b ", "a s"]);
        assert_eq!(servers(list, list).unwrap(), ["b ", "b "]);
        // Which server is meant? It must say so.
        let error = servers(&format!("{list}{}", list.replace('b', "c")), "[exchange]\nscope = 't'\n").unwrap_err();
        assert!(error.contains("10.toml:") && error.contains("missing field `server`"), "{error}");
    }

    #[test]
    fn a_token_that_names_no_server_and_a_link_have_one_server_only() {
        let accepting = |lists: &[(&str, &str)]| {
            let text: String = lists
                .iter()
                .map(|(server, accept)| format!("[[exchange]]\nserver = '{server}'\naccept = [{accept}]\n"))
                .collect();
            problem(&read(&text).unwrap(), &shared()).map(|mistake| mistake.problem)
        };
        let all = "'mytoken', 'short_token', 'transfer_code'";
        for (lists, part) in [
            (&[("a", all)][..], None),
            (&[("a", all), ("b", "'mytoken'")], None),
            (&[("a", "'short_token'"), ("b", "'transfer_code', 'mytoken'")], None),
            (&[("a", all), ("b", all)], Some("\"a\" and \"b\" both accept short_token")),
            (&[("a", "'transfer_code'"), ("b", "'transfer_code'")], Some("leave transfer_code out of accept")),
            (&[("a", "'link', 'mytoken'"), ("b", "'mytoken'")], None),
            (&[("a", "'link'"), ("b", "'link', 'mytoken'")], Some("\"a\" and \"b\" both accept link")),
            (&[("a", "'mytoken'"), ("a", "'mytoken'")], Some("have the same mytoken server")),
            (&[("a", "'mytoken'"), ("again", "'mytoken'")], Some("(\"a\", \"again\")")),
            (&[("a", all), ("c", "'mytoken'")], Some("\"c\" is not a [[server]] of mytoken.toml")),
        ] {
            let found = accepting(lists);
            assert_eq!(found.is_some(), part.is_some(), "{found:?}");
            assert!(found.iter().all(|found| found.contains(part.unwrap_or_default())), "{found:?}");
        }
    }
}
