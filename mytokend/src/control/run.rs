// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl run`: keeps an access token fresh in each file of a profile, for a program outside Slurm.
//!
//! The tokens come from a sub-token that is made for this program and revoked at its end, so the mytoken of the session stays where it is.

mod credential;
mod inherited;
mod kept_files;
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
use mytoken::{Deadline, Error, SystemClock};
use nix::time::{ClockId, clock_gettime};

use super::launch::{CannotRun, NO_TOKEN};
use crate::output::tell;
use crate::submit::patience::LATE_ANSWER;
use crate::submit::{SubmitError, UserEnvironment};
use credential::{Created, Credential, RunConfig};
use kept_files::KeptFiles;
use program::{Program, catch_signals};
use token_file::TokenFiles;

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
    Made(Box<Result<Created, SubmitError>>),
    /// The answer to a request.
    Answer(Answered),
    /// The program ended.
    Ended(u8),
    /// The sub-token was revoked, or not.
    Revoked(Result<(), Error>),
}

/// The answer to a request.
struct Answered {
    /// The number of its file; 0 is the main one.
    file: usize,
    /// When it was sent.
    begin: Duration,
    answer: Result<AccessToken, Error>,
}

/// Time since boot, with the time in which the computer slept.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Runs `argv` with `BEARER_TOKEN_FILE`, and `MYTOKEN_TOKEN_DIR` if the profile has further files, and returns its exit status.
///
/// # Errors
/// Why it was not started. Nothing is left behind then.
pub fn run(config: &Path, profile: &str, host: &str, argv: &[OsString]) -> Result<u8, NotStarted> {
    let config = RunConfig::load(config)?;
    let (sender, events) = channel();
    catch_signals(&sender).map_err(|error| refused_thread(&error))?;
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(Into::into);
    let directory = TokenFiles::new(runtime, std::env::temp_dir()).map_err(NotStarted::System)?;
    let waiting = Waiting::new(&events, config.deadline());
    let (deadline, patience) = (waiting.until, config.file_patience());
    let (profile, host) = (profile.to_owned(), host.to_owned());
    in_background(&sender, move || {
        let made = config.create(&profile, &UserEnvironment::current(), &host, &SystemClock, deadline);
        Event::Made(Box::new(made))
    })?;
    let made = |event| if let Event::Made(made) = event { Some(*made) } else { None };
    let Created { credential, left_out } = match waiting.next(made) {
        Err(late @ NotStarted::Late { .. }) => {
            tell(format!("{late}; a mytoken that still comes is revoked (up to {} s)", LATE_ANSWER.as_secs()));
            if let Ok(Ok(created)) = Waiting::new(&events, LATE_ANSWER).next(made) {
                revoke(created.credential, &sender, &events)?;
            }
            return Err(late);
        }
        made => made??,
    };
    for (name, reason) in &left_out {
        tell(format!("no access token in the file \"{name}\": {reason}"));
    }
    let several = !left_out.is_empty() || credential.files().len() > 1;
    let files = KeptFiles::new(credential.clone(), directory, sender.clone(), rand::random::<f64>);
    let ended = Running { files, several, patience }.start_and_renew(argv, &waiting);
    // The files are gone by now.
    revoke(credential, &sender, &events)?;
    ended
}

/// Revokes the sub-token, or says that it stays.
fn revoke(credential: Credential, sender: &Sender<Event>, events: &Receiver<Event>) -> Result<(), NotStarted> {
    in_background(sender, move || Event::Revoked(credential.revoke(Deadline::after(REVOCATION_TIME))))?;
    let waiting = Waiting::new(events, REVOCATION_TIME);
    let revoked = waiting.next(|event| if let Event::Revoked(revoked) = event { Some(revoked) } else { None });
    if let Err(reason) = revoked.and_then(|revoked| revoked.map_err(NotStarted::Client)) {
        tell(format!("the mytoken of this command was not revoked and stays until it expires: {reason}"));
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

/// The answer to a request, if the event is one.
fn answered(event: Event) -> Option<Answered> {
    if let Event::Answer(answered) = event { Some(answered) } else { None }
}

/// A program with its files.
struct Running {
    files: KeptFiles,
    /// The profile has further files.
    several: bool,
    /// How long the start waits for them.
    patience: Duration,
}

impl Running {
    fn start_and_renew(mut self, argv: &[OsString], waiting: &Waiting<'_>) -> Result<u8, NotStarted> {
        waiting.undisturbed()?;
        self.files.request_all(waiting.until.remaining().unwrap_or_default());
        // Without the main file the program is not started.
        loop {
            let Answered { file, begin, answer } = waiting.next(answered)?;
            if file == 0 {
                self.files.install_first(begin, &answer?).map_err(NotStarted::System)?;
                break;
            }
            self.files.answered(Answered { file, begin, answer });
        }
        let left = waiting.until.remaining().unwrap_or_default();
        let further = Waiting::new(waiting.events, self.patience.min(left));
        while self.files.is_undecided() {
            match further.next(answered) {
                Ok(answered) => self.files.answered(answered),
                Err(NotStarted::Late { .. }) => break,
                Err(signal) => return Err(signal),
            }
        }
        self.files.tell_undecided();
        further.undisturbed()?;
        waiting.undisturbed()?;
        let program =
            self.files.start(|file, tools, sender| Program::start(argv, (file, self.several), tools, sender))?;
        Ok(self.renew(&program, waiting.events))
    }

    /// Renews the tokens until the program ends. Returns its exit status.
    fn renew(&mut self, program: &Program, events: &Receiver<Event>) -> u8 {
        loop {
            let wait = self.files.act();
            match events.recv_timeout(wait) {
                Ok(Event::Signal(signal)) => program.pass(signal),
                Ok(Event::Ended(status)) => return status,
                Ok(Event::Answer(answered)) => self.files.answered(answered),
                Ok(Event::Made(_) | Event::Revoked(_)) | Err(RecvTimeoutError::Timeout) => {}
                // Not possible: this value has a sender.
                Err(RecvTimeoutError::Disconnected) => return u8::MAX,
            }
        }
    }
}
