// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl run`: keeps an access token fresh in a file for a program outside Slurm.
//!
//! The token comes from a sub-token that is made for this program and revoked at its end, so the mytoken of the session stays where it is.

mod credential;
mod inherited;
mod program;
mod schedule;
mod token_file;

use std::cell::Cell;
use std::ffi::{OsString, c_int};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use mytoken::server::AccessToken;
use mytoken::time_format;
use mytoken::{Deadline, Error, SystemClock};
use nix::time::{ClockId, clock_gettime};

use super::launch::{CannotRun, NO_TOKEN};
use crate::jobs::repeatable;
use crate::submit::patience::LATE_ANSWER;
use crate::submit::{SubmitError, UserEnvironment};
use credential::{Credential, RunConfig, lifetime};
use program::{Program, catch_signals};
use schedule::{Schedule, Step};
use token_file::TokenFile;

/// Time limit of the revocation, for which the user waits.
const REVOCATION_TIME: Duration = Duration::from_secs(5);

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The configuration, the network or the server.
    #[error(transparent)]
    Client(#[from] Error),
    /// There is no sub-token.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The system refuses something.
    #[error("{0}")]
    System(String),
    /// The mytoken server does not answer.
    #[error("the mytoken server did not answer within {seconds} s")]
    Late {
        /// The time limit.
        seconds: u64,
    },
    /// A signal came before.
    #[error("a signal came before the command was started")]
    Signal(c_int),
    /// The program cannot be run.
    #[error(transparent)]
    CannotRun(#[from] CannotRun),
}

impl NotStarted {
    /// The exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::CannotRun(cannot_run) => cannot_run.exit_status(),
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            _ => NO_TOKEN,
        }
    }
}

/// What happens while a program runs.
enum Event {
    /// A signal came to this process.
    Signal(c_int),
    /// There is a sub-token, or none.
    Made(Box<Result<Credential, SubmitError>>),
    /// The answer to a request that was sent at this time.
    Answer(Duration, Result<AccessToken, Error>),
    /// The program ended.
    Ended(u8),
    /// The sub-token was revoked, or not.
    Revoked(Result<(), Error>),
}

/// Time since boot, with the time in which the computer slept.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Runs `argv` with `BEARER_TOKEN_FILE`, and returns its exit status.
///
/// # Errors
/// Why it was not started. Nothing is left behind then.
pub fn run(config: &Path, profile: &str, host: &str, argv: &[OsString]) -> Result<u8, NotStarted> {
    let config = RunConfig::load(config)?;
    let (sender, events) = channel();
    catch_signals(&sender).map_err(|error| refused_thread(&error))?;
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(Into::into);
    let file = TokenFile::new(runtime, std::env::temp_dir()).map_err(NotStarted::System)?;
    let waiting = Waiting::new(&events, config.deadline());
    let deadline = waiting.until;
    let (profile, host) = (profile.to_owned(), host.to_owned());
    in_background(&sender, move || {
        let made = config.create(&profile, &UserEnvironment::current(), &host, &SystemClock, deadline);
        Event::Made(Box::new(made))
    })?;
    let made = |event| if let Event::Made(made) = event { Some(*made) } else { None };
    let credential = match waiting.next(made) {
        Err(late @ NotStarted::Late { .. }) => {
            eprintln!("mytokenctl: {late}; a mytoken that still comes is revoked (up to {} s)", LATE_ANSWER.as_secs());
            if let Ok(Ok(credential)) = Waiting::new(&events, LATE_ANSWER).next(made) {
                revoke(credential, &sender, &events)?;
            }
            return Err(late);
        }
        made => made??,
    };
    let ended = Running { credential: credential.clone(), file, sender: sender.clone(), draw: rand::random::<f64> }
        .start_and_renew(argv, &waiting);
    // The file is gone by now.
    revoke(credential, &sender, &events)?;
    ended
}

/// Revokes the sub-token, or says that it stays.
fn revoke(credential: Credential, sender: &Sender<Event>, events: &Receiver<Event>) -> Result<(), NotStarted> {
    in_background(sender, move || Event::Revoked(credential.revoke(Deadline::after(REVOCATION_TIME))))?;
    let waiting = Waiting::new(events, REVOCATION_TIME);
    let revoked = waiting.next(|event| if let Event::Revoked(revoked) = event { Some(revoked) } else { None });
    if let Err(reason) = revoked.and_then(|revoked| revoked.map_err(NotStarted::Client)) {
        eprintln!("mytokenctl: the mytoken of this command was not revoked and stays until it expires: {reason}");
    }
    Ok(())
}

fn refused_thread(error: &std::io::Error) -> NotStarted {
    NotStarted::System(format!("the system refuses a thread: {error}"))
}

/// Does something in another thread, because name resolution has no deadline. The result becomes an event.
fn in_background(sender: &Sender<Event>, work: impl FnOnce() -> Event + Send + 'static) -> Result<(), NotStarted> {
    let sender = sender.clone();
    thread::Builder::new().spawn(move || drop(sender.send(work()))).map(drop).map_err(|error| refused_thread(&error))
}

/// Waiting while no program runs.
struct Waiting<'events> {
    events: &'events Receiver<Event>,
    until: Deadline,
    limit: Duration,
    signal: Cell<Option<c_int>>,
}

impl<'events> Waiting<'events> {
    fn new(events: &'events Receiver<Event>, limit: Duration) -> Self {
        Self { events, until: Deadline::after(limit), limit, signal: Cell::default() }
    }

    /// Waits for the event that `wanted` takes. The first signal is remembered, because that event may bring a sub-token that has to be
    /// revoked; the second one ends the wait.
    fn next<T>(&self, wanted: impl Fn(Event) -> Option<T>) -> Result<T, NotStarted> {
        loop {
            // The work has the same deadline, and says more when it ends by it.
            let wait = self.until.remaining().unwrap_or_default().saturating_add(Duration::from_millis(300));
            match self.events.recv_timeout(wait) {
                Ok(Event::Signal(signal)) if self.signal.get().is_some() => return Err(NotStarted::Signal(signal)),
                Ok(Event::Signal(signal)) => self.signal.set(Some(signal)),
                Ok(event) => {
                    if let Some(found) = wanted(event) {
                        return Ok(found);
                    }
                }
                Err(_) => return Err(NotStarted::Late { seconds: self.limit.as_secs() }),
            }
        }
    }

    /// Fails if a signal came.
    fn undisturbed(&self) -> Result<(), NotStarted> {
        let later = self
            .events
            .try_iter()
            .find_map(|event| if let Event::Signal(signal) = event { Some(signal) } else { None });
        self.signal.get().or(later).map_or(Ok(()), |signal| Err(NotStarted::Signal(signal)))
    }
}

/// A program with its credential and its file.
struct Running {
    credential: Credential,
    file: TokenFile,
    sender: Sender<Event>,
    draw: fn() -> f64,
}

impl Running {
    fn start_and_renew(self, argv: &[OsString], waiting: &Waiting<'_>) -> Result<u8, NotStarted> {
        waiting.undisturbed()?;
        self.request(waiting.until.remaining().unwrap_or_default());
        let answer = |event| if let Event::Answer(begin, answer) = event { Some((begin, answer)) } else { None };
        let (begin, token) = waiting.next(answer)?;
        let token = token?;
        self.file.write(token.token.expose()).map_err(|error| NotStarted::System(error.to_string()))?;
        let schedule = Schedule::new(begin, now(), lifetime(&token), (self.draw)());
        drop(token);
        waiting.undisturbed()?;
        let program = Program::start(argv, &self.file.path(), self.credential.tools(), &self.sender)?;
        Ok(self.renew(schedule, &program, waiting.events))
    }

    /// Renews the token until the program ends. Returns its exit status.
    fn renew(&self, mut schedule: Schedule, program: &Program, events: &Receiver<Event>) -> u8 {
        // Why there is no new token, for the message when the old one expires.
        let mut trouble = String::new();
        loop {
            let wait = match schedule.next(now()) {
                Step::Wait(wait) => wait,
                Step::Remove => {
                    self.remove(&trouble);
                    continue;
                }
                Step::Request(limit) => {
                    self.request(limit);
                    continue;
                }
            };
            match events.recv_timeout(wait) {
                Ok(Event::Signal(signal)) => program.pass(signal),
                Ok(Event::Ended(status)) => return status,
                Ok(Event::Answer(begin, Ok(token))) => self.install(&mut schedule, begin, &token, &mut trouble),
                Ok(Event::Answer(_, Err(error))) => self.explain_failure(&mut schedule, &error, &mut trouble),
                Ok(Event::Made(_) | Event::Revoked(_)) | Err(RecvTimeoutError::Timeout) => {}
                // Not possible: this value has a sender.
                Err(RecvTimeoutError::Disconnected) => return u8::MAX,
            }
        }
    }

    /// Sends a request. Its answer becomes an event, so that the file can be removed in time.
    fn request(&self, limit: Duration) {
        let (credential, begin) = (self.credential.clone(), now());
        let started =
            in_background(&self.sender, move || Event::Answer(begin, credential.access_token(Deadline::after(limit))));
        if let Err(refused) = started {
            let refused = Error::Input(mytoken::InputError::InvalidRequest { reason: refused.to_string() });
            let _ = self.sender.send(Event::Answer(begin, Err(refused)));
        }
    }

    fn install(&self, schedule: &mut Schedule, begin: Duration, token: &AccessToken, trouble: &mut String) {
        let was_removed = schedule.left(now()).is_none();
        if let Err(error) = self.file.write(token.token.expose()) {
            *trouble = error.to_string();
            return schedule.failed(now(), None, (self.draw)());
        }
        schedule.granted(begin, now(), lifetime(token), (self.draw)());
        trouble.clear();
        if was_removed {
            eprintln!("mytokenctl: the access token is there again");
        }
    }

    fn explain_failure(&self, schedule: &mut Schedule, error: &Error, trouble: &mut String) {
        *trouble = error.to_string();
        match repeatable(error) {
            Some(retry_after) => schedule.failed(now(), retry_after, (self.draw)()),
            None => {
                schedule.refused();
                let left = schedule.left(now()).map_or(0, |left| left.as_secs());
                let ends = time_format::short(left);
                eprintln!("mytokenctl: the access token is not renewed any more and ends in {ends}: {error}");
            }
        }
    }

    fn remove(&self, trouble: &str) {
        if let Err(error) = self.file.remove() {
            eprintln!("mytokenctl: the expired access token cannot be removed: {error}");
        }
        let reason = if trouble.is_empty() { "the mytoken server does not answer" } else { trouble };
        eprintln!("mytokenctl: the access token expired and was removed: {reason}");
    }
}
