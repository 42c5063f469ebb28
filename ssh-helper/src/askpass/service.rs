// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides every question of the askpass instances of one run: one token per account, for the right prompt, once.

use std::time::Instant;

use mytoken::Secret;
use mytoken_wire::chunks::{self, Part};

use super::message::{Answer, Former, Message, Question};
use super::prompt::{Account, TokenPrompt, recognise};
use crate::error::Error;
use crate::ssh::resolution::printable;

/// Where a token comes from. Called at most once per account, when its host asks: a login by other means mints nothing.
pub trait TokenSource: Send {
    /// The token for the account with this index.
    fn token(&mut self, account: usize) -> Result<Secret, Error>;

    /// The login failed: takes back what would outlive it. Gives what the person must know about what could not be taken back.
    fn abandon(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// What became of an account's token.
#[derive(Debug)]
enum State {
    Unasked,
    /// These answers remain, the next one first; `count` in all.
    Sending {
        rest: std::vec::IntoIter<Secret>,
        next: usize,
        count: usize,
    },
    Refused,
}

/// The decisions of one run.
pub struct Service {
    accounts: Vec<Account>,
    states: Vec<State>,
    given: Vec<Option<Instant>>,
    entered: bool,
    prompts: Vec<String>,
    nonce: Secret,
    former: Former,
    source: Box<dyn TokenSource>,
    tell: Box<dyn FnMut(&str) + Send>,
}

impl Service {
    /// `tell` shows a line to the person.
    pub fn new(
        accounts: Vec<Account>,
        prompts: Vec<String>,
        nonce: Secret,
        former: Former,
        source: Box<dyn TokenSource>,
        tell: Box<dyn FnMut(&str) + Send>,
    ) -> Self {
        let states = accounts.iter().map(|_| State::Unasked).collect();
        let given = accounts.iter().map(|_| None).collect();
        Self { accounts, states, given, entered: false, prompts, nonce, former, source, tell }
    }

    /// Answers one question.
    pub fn answer(&mut self, question: &Question) -> Answer {
        if question.nonce != self.nonce {
            return Answer::Refused;
        }
        let prompt = match &question.message {
            Message::Prompt(prompt) => prompt,
            Message::Entered => {
                self.entered = true;
                return Answer::Noted;
            }
        };
        let Some(TokenPrompt { account, asked, texts }) = recognise(prompt, &self.accounts, &self.prompts) else {
            return Answer::NotOurs(self.former.clone());
        };
        let host = self.accounts.get(account).map(|account| account.host.clone()).unwrap_or_default();
        for text in texts {
            (self.tell)(&format!("{host}: {}", printable(text)));
        }
        match self.give(account, asked) {
            Ok(answer) => {
                if let Some(given) = self.given.get_mut(account) {
                    *given = Some(Instant::now());
                }
                Answer::Token(answer)
            }
            Err(reason) => {
                (self.tell)(&format!("{host}: {reason}"));
                Answer::Refused
            }
        }
    }

    fn give(&mut self, account: usize, asked: Part) -> Result<Secret, Error> {
        let Some(state) = self.states.get_mut(account) else { return Err(again()) };
        match (std::mem::replace(state, State::Refused), asked) {
            (State::Unasked, Part::First) => {
                let token = self.source.token(account)?;
                let mut rest = chunks::answers(&token).map_err(|error| Error::Usage(error.to_string()))?.into_iter();
                let count = rest.len();
                let first = rest.next().ok_or_else(again)?;
                *state = State::Sending { rest, next: 2, count };
                Ok(first)
            }
            (State::Sending { mut rest, next, count }, Part::Next { index, count: of })
                if (index, of) == (next, count) =>
            {
                let chunk = rest.next().ok_or_else(again)?;
                *state = State::Sending { rest, next: next + 1, count };
                Ok(chunk)
            }
            // Whatever else is asked now was not asked by a module that knows what it got.
            _ => Err(again()),
        }
    }

    /// The accounts with the time of their last answer.
    pub fn given(&self) -> impl Iterator<Item = (&Account, Option<Instant>)> {
        self.accounts.iter().zip(self.given.iter().copied())
    }

    /// Whether ssh was let in. Only ssh tells; scp and sftp do not.
    pub fn entered(&self) -> bool {
        self.entered
    }

    /// The login failed: takes back what would outlive it, and tells what could not be taken back.
    pub fn abandon(&mut self) {
        for warning in self.source.abandon() {
            (self.tell)(&warning);
        }
    }

    /// Whether a token was asked for and could not be had, or was asked for twice; the person has been told.
    pub fn refused(&self) -> bool {
        self.states.iter().any(|state| matches!(state, State::Refused))
    }
}

fn again() -> Error {
    Error::Usage("it asked for the token again; it gets one only".into())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use mytoken_wire::chunks::prompt_for;

    use super::*;

    struct Fixed(Vec<Result<&'static str, ()>>, Arc<Mutex<u32>>);
    impl TokenSource for Fixed {
        fn token(&mut self, account: usize) -> Result<Secret, Error> {
            *self.1.lock().unwrap() += 1;
            self.0[account]
                .map(Secret::new)
                .map_err(|()| Error::NotLoggedIn { server: "https://mt.example.org".into() })
        }
    }

    struct World {
        service: Service,
        minted: Arc<Mutex<u32>>,
        told: Arc<Mutex<Vec<String>>>,
    }

    fn world(tokens: Vec<Result<&'static str, ()>>) -> World {
        world_of("Access Token:", tokens)
    }

    fn world_of(prompt: &str, tokens: Vec<Result<&'static str, ()>>) -> World {
        let hosts = ["testbed", "other"];
        let accounts = hosts.map(|host| Account { user: "alice".into(), host: host.into() }).to_vec();
        let (minted, told) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
        let source = Box::new(Fixed(tokens, Arc::clone(&minted)));
        let heard = Arc::clone(&told);
        let tell = Box::new(move |line: &str| heard.lock().unwrap().push(line.to_owned()));
        let former = Former { program: Some("/usr/bin/old".into()), require: None };
        let service = Service::new(accounts, vec![prompt.into()], Secret::new("nonce"), former, source, tell);
        World { service, minted, told }
    }

    impl World {
        fn ask(&mut self, prompt: &str) -> Answer {
            self.service.answer(&Question { nonce: Secret::new("nonce"), message: Message::Prompt(prompt.into()) })
        }
        fn token(&mut self, prompt: &str) -> Option<String> {
            match self.ask(prompt) {
                Answer::Token(token) => Some(token.expose().to_owned()),
                _ => None,
            }
        }
    }

    #[test]
    fn each_host_gets_one_token() {
        let mut world = world(vec![Ok("AAAA"), Ok("BBBB")]);
        assert_eq!(world.token("(alice@testbed) Access Token: ").as_deref(), Some("AAAA"));
        assert_eq!(world.token("(alice@testbed) Access Token: "), None);
        assert_eq!(world.token("(alice@other) Access Token: ").as_deref(), Some("BBBB"));
        assert_eq!(*world.minted.lock().unwrap(), 2);
        assert!(world.service.refused());
    }

    #[test]
    fn a_wrong_nonce_gets_nothing() {
        let mut world = world(vec![Ok("AAAA"), Ok("BBBB")]);
        for message in [Message::Prompt("(alice@testbed) Access Token: ".into()), Message::Entered] {
            let question = Question { nonce: Secret::new("other"), message };
            assert!(matches!(world.service.answer(&question), Answer::Refused));
        }
        assert!(!world.service.entered());
        assert_eq!(*world.minted.lock().unwrap(), 0);
    }

    #[test]
    fn other_prompts_go_to_the_former_askpass() {
        let mut world = world(vec![Ok("AAAA"), Ok("BBBB")]);
        for prompt in ["(alice@jump) Access Token: ", "alice@testbed's password: ", "(alice@testbed) Password: "] {
            match world.ask(prompt) {
                Answer::NotOurs(former) => assert_eq!(former.program.as_deref(), Some("/usr/bin/old")),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(*world.minted.lock().unwrap(), 0);
    }

    #[test]
    fn a_long_token_goes_in_order_and_once() {
        let long: &'static str = Box::leak("x".repeat(2500).into_boxed_str());
        let mut world = world(vec![Ok(long), Ok(long)]);
        for (prompt, start) in
            [("Access Token:", "@1/3:"), ("Access Token (2/3):", "@2/3:"), ("Access Token (3/3): ", "@3/3:")]
        {
            let answer = world.token(&format!("(alice@testbed) {prompt}")).unwrap();
            assert!(answer.starts_with(start), "{prompt}");
        }
        assert_eq!(world.token("(alice@testbed) Access Token (3/3):"), None);
        for wrong in ["Access Token (3/3):", "Access Token (2/4):", "Access Token:"] {
            let mut world = self::world(vec![Ok(long), Ok(long)]);
            assert!(world.token("(alice@testbed) Access Token:").is_some());
            assert_eq!(world.token(&format!("(alice@testbed) {wrong}")), None, "{wrong}");
            // After a wrong question nothing more is given.
            assert_eq!(world.token("(alice@testbed) Access Token (2/3):"), None);
        }
        assert_eq!(world.token("(alice@other) Access Token (2/3):"), None);
    }

    #[test]
    fn whatever_the_prompt_every_piece_is_given() {
        let long: &'static str = Box::leak("x".repeat(2500).into_boxed_str());
        for prompt in
            ["Access Token::", "Token:\t", "Jeton d'acc\u{e8}s :", "Welcome\nToken:", "Token:\n", "Token", "T (2/3):"]
        {
            for display in [|text: &str| text.to_owned(), |text: &str| text.replace('\u{e8}', "\\303\\250")] {
                let mut world = world_of(prompt, vec![Ok(long), Ok(long)]);
                let prompts = [prompt.to_owned(), prompt_for(prompt, 2, 3), prompt_for(prompt, 3, 3)];
                for (number, asked) in prompts.iter().enumerate() {
                    let answer = world.token(&format!("(alice@testbed) full at noon\n{}", display(asked)));
                    let mark = format!("@{}/3:", number + 1);
                    assert!(answer.is_some_and(|answer| answer.starts_with(&mark)), "{prompt:?}: {asked:?}");
                }
            }
        }
    }

    #[test]
    fn the_person_hears_the_server_and_the_reason() {
        let mut world = world(vec![Err(()), Ok("BBBB")]);
        assert_eq!(world.token("(alice@testbed) closed \u{1b}[31mat noon\nAccess Token: "), None);
        let told = world.told.lock().unwrap();
        assert_eq!(told[0], "testbed: closed [31mat noon");
        assert!(told[1].starts_with("testbed: you have no mytoken for https://mt.example.org"), "{told:?}");
    }
}
