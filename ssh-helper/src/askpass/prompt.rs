// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which prompts get the token: those of the requested user and host, and among them the token prompt only.

use mytoken_wire::chunks::{Part, part_asked_for};

/// What the PAM module asks with when nothing else is configured.
pub const DEFAULT: &str = "Access Token:";

/// Whom ssh will name in front of a keyboard-interactive prompt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// The remote user.
    pub user: String,
    /// `HostKeyAlias`, or the host name after `HostName` substitution; lower case, without port.
    pub host: String,
}

/// A prompt taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenPrompt<'text> {
    /// Index of the account it is for.
    pub account: usize,
    /// What it asks for.
    pub asked: Part,
    /// Texts of the server in front of it: OpenSSH <= 10.2 glues them to the prompt.
    pub texts: Vec<&'text str>,
}

/// Recognises a token prompt of one of `accounts`; `None`: the prompt is not ours to answer.
///
/// OpenSSH >= 8.5 puts `(user@host) ` in front of what the server sends, and the server can neither remove nor precede it. It can
/// append lines that look like another prefix: so the prefix counts at the very start only, and what is asked last must be the whole
/// token prompt. The password method (`user@host's password: `), key passphrases and host key questions have no such prefix.
pub fn recognise<'text>(prompt: &'text str, accounts: &[Account], texts: &[String]) -> Option<TokenPrompt<'text>> {
    let (account, rest) = accounts.iter().enumerate().find_map(|(index, account)| {
        let prefix = format!("({}@{}) ", account.user, account.host);
        let rest = DISPLAYS.iter().find_map(|display| prompt.strip_prefix(&display(&prefix)))?;
        Some((index, rest))
    })?;
    let mut asked =
        DISPLAYS.iter().flat_map(|display| texts.iter().map(move |text| part_asked_for(rest, text, display)));
    let (asked, before) = asked.find_map(|asked| asked)?;
    Some(TokenPrompt { account, asked, texts: before.split('\n').filter(|line| !line.trim().is_empty()).collect() })
}

/// How ssh shows texts: what the person's locale has no character for becomes octal numbers, byte by byte. In the C locale that is
/// everything beyond ASCII.
const DISPLAYS: [fn(&str) -> String; 2] =
    [|text| octal(text, char::is_control), |text| octal(text, |c| c.is_control() || !c.is_ascii())];

fn octal(text: &str, hidden: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if hidden(character) && !matches!(character, '\n' | '\r' | '\t') {
            let mut bytes = [0; 4];
            shown.extend(character.encode_utf8(&mut bytes).bytes().map(|byte| format!("\\{byte:03o}")));
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Vec<Account> {
        let account = |user: &str, host: &str| Account { user: user.into(), host: host.into() };
        vec![
            account("alice", "testbed"),
            account("bob", "login.example.org"),
            account("alice", "2001:db8::1"),
            account("j\u{fc}rgen", "testbed"),
        ]
    }

    fn recognised(prompt: &str) -> Option<(usize, Part)> {
        let texts = [DEFAULT.to_owned(), "Enter token: ".to_owned()];
        recognise(prompt, &accounts(), &texts).map(|prompt| (prompt.account, prompt.asked))
    }

    #[test]
    fn prompts() {
        let chunk = |index, count| Some((0, Part::Next { index, count }));
        let table: &[(&str, Option<(usize, Part)>)] = &[
            ("(alice@testbed) Access Token:", Some((0, Part::First))),
            ("(alice@testbed) Access Token: ", Some((0, Part::First))),
            ("(alice@testbed) Enter token:", Some((0, Part::First))),
            ("(bob@login.example.org) Access Token: ", Some((1, Part::First))),
            ("(alice@2001:db8::1) Access Token: ", Some((2, Part::First))),
            ("(j\u{fc}rgen@testbed) Access Token: ", Some((3, Part::First))),
            ("(j\\303\\274rgen@testbed) Access Token: ", Some((3, Part::First))),
            // OpenSSH <= 10.2 glues texts in front
            ("(alice@testbed) maintenance at noon\nfull at five\nAccess Token: ", Some((0, Part::First))),
            ("(alice@testbed) \nAccess Token: ", Some((0, Part::First))),
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
