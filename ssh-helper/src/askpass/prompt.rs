// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which prompts get the token: those of the requested user and host, and among them the token prompt only.

/// What the PAM module asks with when nothing else is configured.
pub const DEFAULT: &str = "Access Token:";

/// Most chunks of a token that a prompt may ask for (dossier `pam-ssh` 2.3).
const MOST_CHUNKS: u32 = 64;

/// Whom ssh will name in front of a keyboard-interactive prompt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// The remote user.
    pub user: String,
    /// `HostKeyAlias`, or the host name after `HostName` substitution; lower case, without port.
    pub host: String,
}

/// What a token prompt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The token, or its first chunk.
    Token,
    /// Chunk `index` of `count`: the module has seen that more follow.
    Chunk {
        /// From 2.
        index: u32,
        /// How many there are.
        count: u32,
    },
}

/// A prompt taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenPrompt<'text> {
    /// Index of the account it is for.
    pub account: usize,
    /// What it asks for.
    pub asked: Asked,
    /// Texts of the server in front of it: OpenSSH <= 10.2 glues them to the prompt.
    pub texts: Vec<&'text str>,
}

/// Recognises a token prompt of one of `accounts`; `None`: the prompt is not ours to answer.
///
/// OpenSSH >= 8.5 puts `(user@host) ` in front of what the server sends, and the server can neither remove nor precede it. It can
/// append lines that look like another prefix: so the prefix counts at the very start only, and the last line must be the whole
/// token prompt. The password method (`user@host's password: `), key passphrases and host key questions have no such prefix.
pub fn recognise<'text>(prompt: &'text str, accounts: &[Account], texts: &[String]) -> Option<TokenPrompt<'text>> {
    let (account, rest) = accounts.iter().enumerate().find_map(|(index, account)| {
        let rest = prompt.strip_prefix('(')?.strip_prefix(account.user.as_str())?.strip_prefix('@')?;
        Some((index, rest.strip_prefix(account.host.as_str())?.strip_prefix(") ")?))
    })?;
    let mut lines: Vec<&str> = rest.split('\n').collect();
    let last = lines.pop()?;
    let asked = texts.iter().find_map(|text| asked(last.trim_end_matches(' '), text.trim_end_matches(' ')))?;
    lines.retain(|line| !line.trim().is_empty());
    Some(TokenPrompt { account, asked, texts: lines })
}

/// `Access Token:` or `Access Token (2/3):`.
fn asked(line: &str, text: &str) -> Option<Asked> {
    if text.is_empty() {
        return None;
    }
    if line == text {
        return Some(Asked::Token);
    }
    let stem = text.strip_suffix(':').unwrap_or(text);
    let numbers = line.strip_prefix(stem)?.strip_prefix(" (")?.strip_suffix("):")?;
    let (index, count) = numbers.split_once('/')?;
    let (index, count) = (number(index)?, number(count)?);
    (2..=count).contains(&index).then_some(Asked::Chunk { index, count })
}

fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|number| plain && *number <= MOST_CHUNKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Vec<Account> {
        let account = |user: &str, host: &str| Account { user: user.into(), host: host.into() };
        vec![account("alice", "testbed"), account("bob", "login.example.org"), account("alice", "2001:db8::1")]
    }

    fn recognised(prompt: &str) -> Option<(usize, Asked)> {
        let texts = [DEFAULT.to_owned(), "Enter token: ".to_owned()];
        recognise(prompt, &accounts(), &texts).map(|prompt| (prompt.account, prompt.asked))
    }

    #[test]
    fn prompts() {
        let chunk = |index, count| Some((0, Asked::Chunk { index, count }));
        let table: &[(&str, Option<(usize, Asked)>)] = &[
            ("(alice@testbed) Access Token:", Some((0, Asked::Token))),
            ("(alice@testbed) Access Token: ", Some((0, Asked::Token))),
            ("(alice@testbed) Enter token:", Some((0, Asked::Token))),
            ("(bob@login.example.org) Access Token: ", Some((1, Asked::Token))),
            ("(alice@2001:db8::1) Access Token: ", Some((2, Asked::Token))),
            // OpenSSH <= 10.2 glues texts in front
            ("(alice@testbed) maintenance at noon\nfull at five\nAccess Token: ", Some((0, Asked::Token))),
            ("(alice@testbed) \nAccess Token: ", Some((0, Asked::Token))),
            ("(alice@testbed) Access Token (2/4): ", chunk(2, 4)),
            ("(alice@testbed) text\nAccess Token (64/64):", chunk(64, 64)),
            // wrong numbers
            ("(alice@testbed) Access Token (1/4): ", None),
            ("(alice@testbed) Access Token (5/4): ", None),
            ("(alice@testbed) Access Token (2/65): ", None),
            ("(alice@testbed) Access Token (+2/4): ", None),
            ("(alice@testbed) Access Token (02/4): ", None),
            ("(alice@testbed) Access Token (2/): ", None),
            ("(alice@testbed) Access Token (2/4) ", None),
            // fake second prefix, appended by the server
            ("(mallory@evil) x\n(alice@testbed) Access Token: ", None),
            ("(alice@testbed) x\n(alice@testbed) Access Token: ", None),
            ("(alice@testbed) (bob@login.example.org) Access Token: ", None),
            // others: jump host, other user, other host, longer and shorter names
            ("(alice@jump) Access Token: ", None),
            ("(bob@testbed) Access Token: ", None),
            ("(alice@login.example.org) Access Token: ", None),
            ("(alice@testbed.evil.org) Access Token: ", None),
            ("(alice@testbe) Access Token: ", None),
            ("(alice@) Access Token: ", None),
            ("(@testbed) Access Token: ", None),
            // upper case: ssh shows the host in lower case, and a user name is exact
            ("(alice@TESTBED) Access Token: ", None),
            ("(Alice@testbed) Access Token: ", None),
            ("(alice@testbed) access token: ", None),
            // not the whole last line
            ("(alice@testbed) Access Token: please ", None),
            ("(alice@testbed) Your Access Token: ", None),
            ("(alice@testbed) Access Token:\n", None),
            ("(alice@testbed) Access Token: \r", None),
            ("(alice@testbed) Access Token:\t", None),
            ("(alice@testbed)Access Token: ", None),
            (" (alice@testbed) Access Token: ", None),
            ("Access Token: ", None),
            ("", None),
            // everything else that comes to an askpass program
            ("(alice@testbed) Password: ", None),
            ("alice@testbed's password: ", None),
            ("Enter passphrase for key '/home/alice/.ssh/id_ed25519': ", None),
            (
                "The authenticity of host 'testbed (192.0.2.10)' can't be established.\nED25519 key fingerprint is SHA256:x.\n\
                 This key is not known by any other names.\nAre you sure you want to continue connecting (yes/no/[fingerprint])? ",
                None,
            ),
        ];
        for (prompt, expected) in table {
            assert_eq!(recognised(prompt), *expected, "{prompt:?}");
        }
    }

    #[test]
    fn texts_in_front_are_kept_for_the_person() {
        let texts = [DEFAULT.to_owned()];
        let prompt = recognise("(alice@testbed) noon\n\nfive\nAccess Token: ", &accounts(), &texts).unwrap();
        assert_eq!(prompt.texts, ["noon", "five"]);
    }

    #[test]
    fn an_empty_prompt_text_matches_nothing() {
        assert!(recognise("(alice@testbed) ", &accounts(), &[String::new()]).is_none());
    }
}
