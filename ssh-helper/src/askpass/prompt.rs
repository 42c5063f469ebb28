// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which prompts get the token: only the token prompt, and only from the user and host that ssh connects to.

use mytoken_wire::chunks::{Part, part_asked_for};

/// The prompt that the PAM module shows by default.
pub const DEFAULT: &str = "Access Token:";

/// The user and host that ssh shows in front of a keyboard-interactive prompt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteAccount {
    /// The remote user.
    pub user: String,
    /// `HostKeyAlias`, or the host name after `HostName` substitution; lower case, without port.
    pub host: String,
}

/// A token prompt and what it consists of.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenPrompt<'text> {
    /// Index of the account that the prompt is for.
    pub account: usize,
    /// The part of the token that the prompt asks for.
    pub part: Part,
    /// Messages of the server in front of the prompt: OpenSSH <= 10.2 shows them as one text with it (SSH-18).
    pub messages: Vec<&'text str>,
}

/// Recognises a token prompt of one of `accounts`. `None`: another prompt.
///
/// SSH-17: OpenSSH >= 8.5 puts `(user@host) ` in front of the server's text. The server can neither remove this prefix
/// nor write before it, but its text may contain a line that looks like another prefix. So the prefix counts only at
/// the start of the prompt, and the last line must be the whole token prompt. The password method
/// (`user@host's password: `), key passphrases and questions about host keys have no such prefix.
pub fn recognise<'text>(
    prompt: &'text str,
    accounts: &[RemoteAccount],
    token_prompts: &[String],
) -> Option<TokenPrompt<'text>> {
    let (account, rest) = of_account(prompt, accounts)?;
    let mut found =
        SSH_ESCAPES.iter().flat_map(|escape| token_prompts.iter().map(move |text| part_asked_for(rest, text, escape)));
    let (part, before) = found.find_map(|found| found)?;
    Some(TokenPrompt { account, part, messages: before.split('\n').filter(|line| !line.trim().is_empty()).collect() })
}

/// The index of the account whose host asks, and the host's own text. `None`: none of their hosts asks.
pub fn of_account<'text>(prompt: &'text str, accounts: &[RemoteAccount]) -> Option<(usize, &'text str)> {
    accounts.iter().enumerate().find_map(|(index, account)| {
        let prefix = format!("({}@{}) ", account.user, account.host);
        let rest = SSH_ESCAPES.iter().find_map(|escape| prompt.strip_prefix(&escape(&prefix)))?;
        Some((index, rest))
    })
}

/// How ssh escapes text (SSH-19): each byte of a character that the locale cannot show becomes an octal number. In a
/// UTF-8 locale these are the control characters, in the C locale also all characters beyond ASCII.
const SSH_ESCAPES: [fn(&str) -> String; 2] =
    [|text| escape_octal(text, char::is_control), |text| escape_octal(text, |c| c.is_control() || !c.is_ascii())];

fn escape_octal(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_escaped(character) && !matches!(character, '\n' | '\r' | '\t') {
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

    fn accounts() -> Vec<RemoteAccount> {
        let account = |user: &str, host: &str| RemoteAccount { user: user.into(), host: host.into() };
        vec![
            account("alice", "testbed"),
            account("bob", "login.example.org"),
            account("alice", "2001:db8::1"),
            account("j\u{fc}rgen", "testbed"),
        ]
    }

    fn recognised(prompt: &str) -> Option<(usize, Part)> {
        let texts = [DEFAULT.to_owned(), "Enter token: ".to_owned()];
        recognise(prompt, &accounts(), &texts).map(|prompt| (prompt.account, prompt.part))
    }

    #[test]
    fn only_the_token_prompt_of_a_known_account_is_recognised() {
        let chunk = |index, count| Some((0, Part::Next { index, count }));
        let table: &[(&str, Option<(usize, Part)>)] = &[
            ("(alice@testbed) Access Token:", Some((0, Part::First))),
            ("(alice@testbed) Access Token: ", Some((0, Part::First))),
            ("(alice@testbed) Enter token:", Some((0, Part::First))),
            ("(bob@login.example.org) Access Token: ", Some((1, Part::First))),
            ("(alice@2001:db8::1) Access Token: ", Some((2, Part::First))),
            ("(j\u{fc}rgen@testbed) Access Token: ", Some((3, Part::First))),
            ("(j\\303\\274rgen@testbed) Access Token: ", Some((3, Part::First))),
            // SSH-18: messages of the server before the prompt
            ("(alice@testbed) maintenance at noon\nfull at five\nAccess Token: ", Some((0, Part::First))),
            ("(alice@testbed) \nAccess Token: ", Some((0, Part::First))),
            ("(alice@testbed) Access Token (2/4): ", chunk(2, 4)),
            ("(alice@testbed) text\nAccess Token (64/64):", chunk(64, 64)),
            // malformed or impossible chunk numbers
            ("(alice@testbed) Access Token (1/4): ", None),
            ("(alice@testbed) Access Token (5/4): ", None),
            ("(alice@testbed) Access Token (2/65): ", None),
            ("(alice@testbed) Access Token (+2/4): ", None),
            ("(alice@testbed) Access Token (02/4): ", None),
            ("(alice@testbed) Access Token (2/): ", None),
            ("(alice@testbed) Access Token (2/4) ", None),
            // a second prefix in the server's text
            ("(mallory@evil) x\n(alice@testbed) Access Token: ", None),
            ("(alice@testbed) x\n(alice@testbed) Access Token: ", None),
            ("(alice@testbed) (bob@login.example.org) Access Token: ", None),
            // other accounts: jump host, other user, other host, longer and shorter names
            ("(alice@jump) Access Token: ", None),
            ("(bob@testbed) Access Token: ", None),
            ("(alice@login.example.org) Access Token: ", None),
            ("(alice@testbed.evil.org) Access Token: ", None),
            ("(alice@testbe) Access Token: ", None),
            ("(alice@) Access Token: ", None),
            ("(@testbed) Access Token: ", None),
            // upper case: ssh shows the host in lower case, and user names are case-sensitive
            ("(alice@TESTBED) Access Token: ", None),
            ("(Alice@testbed) Access Token: ", None),
            ("(alice@testbed) access token: ", None),
            // the last line is more than the token prompt
            ("(alice@testbed) Access Token: please ", None),
            ("(alice@testbed) Your Access Token: ", None),
            ("(alice@testbed) Access Token:\n", None),
            ("(alice@testbed) Access Token: \r", None),
            ("(alice@testbed) Access Token:\t", None),
            ("(alice@testbed)Access Token: ", None),
            (" (alice@testbed) Access Token: ", None),
            ("Access Token: ", None),
            ("", None),
            // other prompts for which ssh starts an askpass
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
    fn messages_before_the_prompt_are_kept() {
        let texts = [DEFAULT.to_owned()];
        let prompt = recognise("(alice@testbed) noon\n\nfive\nAccess Token: ", &accounts(), &texts).unwrap();
        assert_eq!(prompt.messages, ["noon", "five"]);
    }

    #[test]
    fn an_empty_token_prompt_matches_no_prompt() {
        assert!(recognise("(alice@testbed) ", &accounts(), &[String::new()]).is_none());
    }
}
