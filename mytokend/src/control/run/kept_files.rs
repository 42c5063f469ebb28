// SPDX-License-Identifier: MIT OR Apache-2.0
//! The token files of a program: each is renewed by itself, and its failures are its own.

use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mytoken::server::AccessToken;
use mytoken::{Deadline, Error, InputError, time_format};
use mytoken_wire::tools::Tool;

use super::credential::{Credential, RequestedFile, lifetime};
use super::schedule::{Schedule, Step};
use super::token_file::TokenFiles;
use super::{Answered, Event, in_background, now};
use crate::jobs::repeatable;
use crate::output::tell;

/// A file of the program.
struct KeptFile {
    requested: RequestedFile,
    schedule: Schedule,
    /// It has had a token.
    is_known: bool,
    /// The person was told that the file is missing.
    is_told: bool,
    /// Why there is no new token, for the message when the old one expires.
    trouble: String,
}

impl KeptFile {
    /// The end of "the access token", for messages.
    fn place(&self) -> String {
        self.requested.name.as_ref().map_or(String::new(), |name| format!(" in the file \"{name}\""))
    }
}

/// All files of a program.
pub struct KeptFiles {
    credential: Credential,
    files: Vec<KeptFile>,
    directory: TokenFiles,
    sender: Sender<Event>,
    draw: fn() -> f64,
}

impl KeptFiles {
    /// The files for which `credential` gives access tokens. Answers become events of `sender`.
    pub fn new(credential: Credential, directory: TokenFiles, sender: Sender<Event>, draw: fn() -> f64) -> Self {
        let file = |requested: &RequestedFile| {
            let (schedule, trouble) = (Schedule::new(), String::new());
            KeptFile { requested: requested.clone(), schedule, is_known: false, is_told: false, trouble }
        };
        let files = credential.files().iter().map(file).collect();
        Self { credential, files, directory, sender, draw }
    }

    /// Sends the first request for each file.
    pub fn request_all(&self, limit: Duration) {
        (0..self.files.len()).for_each(|file| self.request(file, limit));
    }

    /// Starts a program with the path of the main file.
    pub fn start<T>(&self, start: impl FnOnce(&Path, &[Tool], &Sender<Event>) -> T) -> T {
        start(&self.directory.path(), self.credential.tools(), &self.sender)
    }

    /// Whether a first request has no answer yet.
    pub fn is_undecided(&self) -> bool {
        self.files.iter().any(|file| !file.is_known && file.schedule.is_requesting())
    }

    /// Says which files the program does not find at its start.
    pub fn tell_undecided(&mut self) {
        for file in self.files.iter_mut().filter(|file| !file.is_known && file.schedule.is_requesting()) {
            file.is_told = true;
            tell(format!("no access token yet{}: the mytoken server has not answered", file.place()));
        }
    }

    /// Does for each file what is due, and returns how long nothing more is.
    pub fn act(&mut self) -> Duration {
        loop {
            let at = now();
            let steps: Vec<Step> = self.files.iter_mut().map(|file| file.schedule.next(at)).collect();
            let mut wait = Some(Duration::MAX);
            for (file, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Wait(time) => wait = wait.map(|wait| wait.min(time)),
                    Step::Remove => {
                        self.remove(file);
                        wait = None;
                    }
                    Step::Request(limit) => {
                        self.request(file, limit);
                        wait = None;
                    }
                }
            }
            if let Some(wait) = wait {
                return wait;
            }
        }
    }

    /// Sends a request. Its answer becomes an event, so that an expired token can be removed in time.
    fn request(&self, file: usize, limit: Duration) {
        let Some(requested) = self.files.get(file).map(|file| file.requested.clone()) else { return };
        let (credential, begin) = (self.credential.clone(), now());
        let event = move |answer| Event::Answer(Answered { file, begin, answer });
        let started =
            in_background(&self.sender, move || event(credential.access_token(&requested, Deadline::after(limit))));
        if let Err(refused) = started {
            let refused = Error::Input(InputError::InvalidRequest { reason: refused.to_string() });
            let _ = self.sender.send(event(Err(refused)));
        }
    }

    /// Writes the first token of the main file.
    ///
    /// # Errors
    /// A sentence.
    pub fn install_first(&mut self, begin: Duration, token: &AccessToken) -> Result<(), String> {
        let Some(main) = self.files.first_mut() else { return Ok(()) };
        self.directory.write(None, token.token.expose()).map_err(|error| error.to_string())?;
        main.is_known = true;
        main.schedule.granted(begin, now(), lifetime(token), (self.draw)());
        Ok(())
    }

    /// Writes a new token, or plans the next request.
    pub fn answered(&mut self, answered: Answered) {
        let Some(file) = self.files.get_mut(answered.file) else { return };
        let place = file.place();
        let token = match answered.answer {
            Ok(token) => token,
            Err(error) => {
                file.trouble = error.to_string();
                let now = now();
                if let Some(retry_after) = repeatable(&error) {
                    file.schedule.failed(now, retry_after, (self.draw)());
                    if !file.is_known && !file.is_told {
                        tell(format!("no access token yet{place}: {error}"));
                        file.is_told = true;
                    }
                    return;
                }
                file.schedule.refused();
                match file.schedule.left(now) {
                    Some(left) => {
                        let ends = time_format::short(left.as_secs());
                        tell(format!("the access token{place} is not renewed any more and ends in {ends}: {error}"));
                    }
                    None => tell(format!("no access token{place}: {error}")),
                }
                return;
            }
        };
        if let Err(error) = self.directory.write(file.requested.name.as_ref(), token.token.expose()) {
            file.trouble = error.to_string();
            return file.schedule.failed(now(), None, (self.draw)());
        }
        file.schedule.granted(answered.begin, now(), lifetime(&token), (self.draw)());
        if file.is_told {
            tell(format!("the access token{place} is there{}", if file.is_known { " again" } else { "" }));
        }
        (file.is_known, file.is_told) = (true, false);
        file.trouble.clear();
    }

    fn remove(&mut self, file: usize) {
        let Some(file) = self.files.get_mut(file) else { return };
        let place = file.place();
        file.is_told = true;
        if let Err(error) = self.directory.remove(file.requested.name.as_ref()) {
            tell(format!("the expired access token{place} cannot be removed: {error}"));
        }
        let reason = if file.trouble.is_empty() { "the mytoken server does not answer" } else { &file.trouble };
        tell(format!("the access token{place} expired and was removed: {reason}"));
    }
}
