// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which prompt gets which answer. Each connection to an account gets one token, once, and only for its token prompt.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use mytoken::Secret;
use mytoken_wire::chunks::{self, Part};

use super::message::{AskpassEvent, AskpassRequest, AskpassResponse, PreviousAskpass};
use super::prompt::{RemoteAccount, TokenPrompt, of_account, recognise};
use crate::error::Error;
use crate::printable::printable;

/// Where a token comes from.
pub trait LoginTokenSource: Send {
    /// Gets the token for the account with this index. Called when the host asks, and at most once per connection: a
    /// login by key makes no token.
    fn token(&mut self, account: usize) -> Result<Secret, Error>;

    /// Revokes the tokens that were made, because the login has failed. Returns a warning for each that may still be
    /// valid.
    fn revoke(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// How far the token of a connection has been sent.
#[derive(Debug)]
enum Progress {
    NotRequested,
    /// The token is sent as `count` answers. `remaining` holds those not yet sent, from answer number `next` on.
    Sending {
        remaining: std::vec::IntoIter<Secret>,
        next: usize,
        count: usize,
    },
    Refused,
}

/// How often a host may ask on one connection without getting a part of a token: for passwords and codes, and each of them again after a
/// mistake. ssh itself sets no limit.
const MOST_PROMPTS: u32 = 20;

/// Decides how to respond to the askpass processes of one run.
pub struct Responder {
    accounts: Vec<RemoteAccount>,
    /// By account and by the ssh that connects to it.
    progress: HashMap<(usize, i32), Progress>,
    /// The connections that have the first of several pieces.
    first_pieces: BTreeSet<(usize, i32)>,
    /// How often the host of a connection has asked without getting a part of a token, by the ssh that connects to it.
    asked: HashMap<i32, u32>,
    /// Why a connection got no token, as the user has seen it.
    refusals: BTreeSet<(i32, String)>,
    /// How many connections to one account the program makes at most.
    most_connections: usize,
    last_answers: Vec<Option<Instant>>,
    authenticated: bool,
    token_prompts: Vec<String>,
    nonce: Secret,
    previous: PreviousAskpass,
    source: Box<dyn LoginTokenSource>,
    show: Box<dyn FnMut(&str) + Send>,
}

impl Responder {
    /// `most_connections`: to one account. `show` prints a line for the user.
    pub fn new(
        accounts: Vec<RemoteAccount>,
        most_connections: usize,
        token_prompts: Vec<String>,
        nonce: Secret,
        previous: PreviousAskpass,
        source: Box<dyn LoginTokenSource>,
        show: Box<dyn FnMut(&str) + Send>,
    ) -> Self {
        let progress = HashMap::new();
        let last_answers = accounts.iter().map(|_| None).collect();
        Self {
            accounts,
            progress,
            first_pieces: BTreeSet::new(),
            asked: HashMap::new(),
            refusals: BTreeSet::new(),
            most_connections,
            last_answers,
            authenticated: false,
            token_prompts,
            nonce,
            previous,
            source,
            show,
        }
    }

    /// Responds to one request.
    pub fn respond(&mut self, request: &AskpassRequest) -> AskpassResponse {
        if request.nonce != self.nonce {
            return AskpassResponse::Refused;
        }
        let prompt = match &request.event {
            AskpassEvent::Prompt(prompt) => prompt,
            AskpassEvent::Authenticated => {
                self.authenticated = true;
                return AskpassResponse::Acknowledged;
            }
        };
        match self.answer(prompt, request.ssh) {
            AskpassResponse::Token(token) => AskpassResponse::Token(token),
            _ if self.asks_without_end(prompt, request.ssh) => AskpassResponse::EndConnection,
            answer => answer,
        }
    }

    /// Counts a prompt that gets no token.
    fn asks_without_end(&mut self, prompt: &str, ssh: i32) -> bool {
        // Other prompts are ssh's own.
        let Some((account, _)) = of_account(prompt, &self.accounts) else { return false };
        let asked = self.asked.entry(ssh).or_default();
        *asked += 1;
        if *asked <= MOST_PROMPTS {
            return false;
        }
        if *asked == MOST_PROMPTS + 1 {
            let host = self.accounts.get(account).map(|account| printable(&account.host)).unwrap_or_default();
            (self.show)(&format!("{host}: it asks again and again; the connection is ended"));
        }
        true
    }

    fn answer(&mut self, prompt: &str, ssh: i32) -> AskpassResponse {
        let Some(TokenPrompt { account, part, messages }) = recognise(prompt, &self.accounts, &self.token_prompts)
        else {
            return AskpassResponse::PassOn(self.previous.clone());
        };
        let host = self.accounts.get(account).map(|account| account.host.clone()).unwrap_or_default();
        for message in messages {
            (self.show)(&format!("{host}: {}", printable(message)));
        }
        match self.next_answer(account, ssh, part) {
            Ok(answer) => {
                if let Some(last) = self.last_answers.get_mut(account) {
                    *last = Some(Instant::now());
                }
                AskpassResponse::Token(answer)
            }
            Err(reason) => {
                let text = format!("{host}: {reason}");
                // Of a host that asks again and again, the user sees it once.
                if self.refusals.insert((ssh, text.clone())) {
                    (self.show)(&text);
                }
                AskpassResponse::Refused
            }
        }
    }

    fn next_answer(&mut self, account: usize, ssh: i32, part: Part) -> Result<Secret, Error> {
        let connections = self.progress.keys().filter(|(other, _)| *other == account).count();
        let progress = match self.progress.entry((account, ssh)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(fresh) if connections < self.most_connections => fresh.insert(Progress::NotRequested),
            Entry::Vacant(_) => return Err(Error::TokenAlreadySent),
        };
        match (std::mem::replace(progress, Progress::Refused), part) {
            (Progress::NotRequested, Part::First) => {
                let token = self.source.token(account)?;
                let mut remaining = chunks::answers(&token)?.into_iter();
                let count = remaining.len();
                let first = remaining.next().ok_or(Error::TokenAlreadySent)?;
                *progress = Progress::Sending { remaining, next: 2, count };
                if count > 1 {
                    self.first_pieces.insert((account, ssh));
                }
                Ok(first)
            }
            (Progress::Sending { mut remaining, next, count }, Part::Next { index, count: requested_count })
                if (index, requested_count) == (next, count) =>
            {
                let chunk = remaining.next().ok_or(Error::TokenAlreadySent)?;
                *progress = Progress::Sending { remaining, next: next + 1, count };
                self.first_pieces.remove(&(account, ssh));
                Ok(chunk)
            }
            // The PAM module asks for the chunks in order. Another order means that something else asks.
            _ => Err(Error::TokenAlreadySent),
        }
    }

    /// The accounts, each with the time of the last answer to its host.
    pub fn last_answers(&self) -> impl Iterator<Item = (&RemoteAccount, Option<Instant>)> {
        self.accounts.iter().zip(self.last_answers.iter().copied())
    }

    /// Whether ssh has reported that it authenticated. scp and sftp do not report it.
    pub fn authenticated(&self) -> bool {
        self.authenticated
    }

    /// Revokes the tokens that were made, because the login has failed. Warns about each that may still be valid.
    pub fn revoke_tokens(&mut self) {
        for warning in self.source.revoke() {
            (self.show)(&warning);
        }
    }

    /// An account that took the first piece of a token and asked for no other one.
    pub fn with_first_piece_only(&self) -> Option<&RemoteAccount> {
        self.first_pieces.first().and_then(|(account, _)| self.accounts.get(*account))
    }

    /// Whether a host asked for a token and got none, or asked twice. The user has seen the reason.
    pub fn has_refused(&self) -> bool {
        self.progress.values().any(|progress| matches!(progress, Progress::Refused))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use mytoken_wire::chunks::prompt_for;

    use super::*;

    /// Gives these tokens, and counts how many were asked for.
    struct FixedTokens(Vec<Result<&'static str, ()>>, Arc<Mutex<u32>>);
    impl LoginTokenSource for FixedTokens {
        fn token(&mut self, account: usize) -> Result<Secret, Error> {
            *self.1.lock().unwrap() += 1;
            self.0[account]
                .map(Secret::new)
                .map_err(|()| Error::NotLoggedIn { server: "https://mt.example.org".into() })
        }
    }

    /// A responder for two hosts, and what it has done.
    struct TestResponder {
        responder: Responder,
        tokens_made: Arc<Mutex<u32>>,
        shown: Arc<Mutex<Vec<String>>>,
    }

    fn responder_with(tokens: Vec<Result<&'static str, ()>>) -> TestResponder {
        responder_for_prompt("Access Token:", tokens)
    }

    fn responder_for_prompt(prompt: &str, tokens: Vec<Result<&'static str, ()>>) -> TestResponder {
        let hosts = ["testbed", "other"];
        let accounts = hosts.map(|host| RemoteAccount { user: "alice".into(), host: host.into() }).to_vec();
        let (tokens_made, shown) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
        let source = Box::new(FixedTokens(tokens, Arc::clone(&tokens_made)));
        let lines = Arc::clone(&shown);
        let show = Box::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
        let previous = PreviousAskpass { program: Some("/usr/bin/old".into()), require: None };
        let responder = Responder::new(accounts, 2, vec![prompt.into()], Secret::new("nonce"), previous, source, show);
        TestResponder { responder, tokens_made, shown }
    }

    impl TestResponder {
        fn ask(&mut self, prompt: &str) -> AskpassResponse {
            self.ask_by(7, prompt)
        }
        fn ask_by(&mut self, ssh: i32, prompt: &str) -> AskpassResponse {
            let event = AskpassEvent::Prompt(prompt.into());
            self.responder.respond(&AskpassRequest { nonce: Secret::new("nonce"), ssh, event })
        }
        fn token(&mut self, prompt: &str) -> Option<String> {
            match self.ask(prompt) {
                AskpassResponse::Token(token) => Some(token.expose().to_owned()),
                _ => None,
            }
        }
    }

    #[test]
    fn each_host_gets_one_token() {
        let mut run = responder_with(vec![Ok("AAAA"), Ok("BBBB")]);
        assert_eq!(run.token("(alice@testbed) Access Token: ").as_deref(), Some("AAAA"));
        assert_eq!(run.token("(alice@testbed) Access Token: "), None);
        assert_eq!(run.token("(alice@other) Access Token: ").as_deref(), Some("BBBB"));
        assert_eq!(*run.tokens_made.lock().unwrap(), 2);
        assert!(run.responder.has_refused());
    }

    #[test]
    fn each_connection_to_a_host_gets_one_token_and_no_more_than_the_program_makes() {
        let long: &'static str = Box::leak("x".repeat(1500).into_boxed_str());
        let mut run = responder_with(vec![Ok(long), Ok("BBBB")]);
        let mut sent = |ssh, prompt: &str| match run.ask_by(ssh, &format!("(alice@testbed) {prompt}")) {
            AskpassResponse::Token(token) => Some(token.expose().chars().take(5).collect::<String>()),
            _ => None,
        };
        // Each with pieces of its own.
        for ssh in [7, 8] {
            assert_eq!(sent(ssh, "Access Token: ").as_deref(), Some("@1/2:"));
        }
        for ssh in [8, 7] {
            assert_eq!(sent(ssh, "Access Token (2/2): ").as_deref(), Some("@2/2:"));
            assert_eq!(sent(ssh, "Access Token: "), None);
        }
        assert_eq!(sent(9, "Access Token: "), None);
        assert_eq!(*run.tokens_made.lock().unwrap(), 2);
        assert!(run.token("(alice@other) Access Token: ").is_some());
    }

    #[test]
    fn a_request_with_another_nonce_is_refused() {
        let mut run = responder_with(vec![Ok("AAAA"), Ok("BBBB")]);
        for event in [AskpassEvent::Prompt("(alice@testbed) Access Token: ".into()), AskpassEvent::Authenticated] {
            let request = AskpassRequest { nonce: Secret::new("other"), ssh: 7, event };
            assert!(matches!(run.responder.respond(&request), AskpassResponse::Refused));
        }
        assert!(!run.responder.authenticated());
        assert_eq!(*run.tokens_made.lock().unwrap(), 0);
    }

    #[test]
    fn other_prompts_are_passed_on_to_the_previous_askpass() {
        let mut run = responder_with(vec![Ok("AAAA"), Ok("BBBB")]);
        for prompt in ["(alice@jump) Access Token: ", "alice@testbed's password: ", "(alice@testbed) Password: "] {
            match run.ask(prompt) {
                AskpassResponse::PassOn(previous) => assert_eq!(previous.program.as_deref(), Some("/usr/bin/old")),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(*run.tokens_made.lock().unwrap(), 0);
    }

    #[test]
    fn a_host_that_asks_without_end_is_left() {
        let mut run = responder_with(vec![Ok("AAAA"), Ok("BBBB")]);
        assert!(run.token("(alice@testbed) Access Token: ").is_some());
        let ends = |answer| matches!(answer, AskpassResponse::EndConnection);
        for prompt in ["(alice@testbed) Access Token: ", "(alice@testbed) Code: "].repeat(10) {
            assert!(!ends(run.ask(prompt)));
        }
        assert!(ends(run.ask("(alice@testbed) Code: ")) && ends(run.ask("(alice@testbed) Access Token: ")));
        let shown = run.shown.lock().unwrap().clone();
        assert!(
            shown.len() == 2 && shown[0].contains("asked for the token again") && shown[1].contains("again and again")
        );
        // Another connection, and prompts of ssh itself.
        assert!(!ends(run.ask_by(8, "(alice@testbed) Code: ")));
        for _ in 0..50 {
            assert!(!ends(run.ask("Enter passphrase for key '/k': ")));
        }
    }

    #[test]
    fn the_chunks_of_a_long_token_are_sent_in_order_and_once() {
        let long: &'static str = Box::leak("x".repeat(2500).into_boxed_str());
        let mut run = responder_with(vec![Ok(long), Ok(long)]);
        for (prompt, start) in
            [("Access Token:", "@1/3:"), ("Access Token (2/3):", "@2/3:"), ("Access Token (3/3): ", "@3/3:")]
        {
            let answer = run.token(&format!("(alice@testbed) {prompt}")).unwrap();
            assert!(answer.starts_with(start), "{prompt}");
        }
        assert_eq!(run.token("(alice@testbed) Access Token (3/3):"), None);
        for wrong in ["Access Token (3/3):", "Access Token (2/4):", "Access Token:"] {
            let mut run = responder_with(vec![Ok(long), Ok(long)]);
            assert!(run.token("(alice@testbed) Access Token:").is_some());
            assert_eq!(run.token(&format!("(alice@testbed) {wrong}")), None, "{wrong}");
            // After a wrong request the host gets no further chunk.
            assert_eq!(run.token("(alice@testbed) Access Token (2/3):"), None);
        }
        assert_eq!(run.token("(alice@other) Access Token (2/3):"), None);
    }

    #[test]
    fn every_chunk_is_sent_for_any_configured_prompt() {
        let long: &'static str = Box::leak("x".repeat(2500).into_boxed_str());
        for prompt in
            ["Access Token::", "Token:\t", "Jeton d'acc\u{e8}s :", "Welcome\nToken:", "Token:\n", "Token", "T (2/3):"]
        {
            for escape in [|text: &str| text.to_owned(), |text: &str| text.replace('\u{e8}', "\\303\\250")] {
                let mut run = responder_for_prompt(prompt, vec![Ok(long), Ok(long)]);
                let prompts = [prompt.to_owned(), prompt_for(prompt, 2, 3), prompt_for(prompt, 3, 3)];
                for (number, asked) in prompts.iter().enumerate() {
                    let answer = run.token(&format!("(alice@testbed) full at noon\n{}", escape(asked)));
                    let mark = format!("@{}/3:", number + 1);
                    assert!(answer.is_some_and(|answer| answer.starts_with(&mark)), "{prompt:?}: {asked:?}");
                }
            }
        }
    }

    #[test]
    fn messages_of_the_server_and_the_reason_of_a_refusal_are_shown() {
        let mut run = responder_with(vec![Err(()), Ok("BBBB")]);
        assert_eq!(run.token("(alice@testbed) closed \u{1b}[31mat noon\nAccess Token: "), None);
        let shown = run.shown.lock().unwrap();
        assert_eq!(shown[0], "testbed: closed ?[31mat noon");
        assert!(shown[1].starts_with("testbed: you have no mytoken for https://mt.example.org"), "{shown:?}");
    }
}
