// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testserver replay`: plays captured scenarios against a server. The pattern language and the
//! conditions of the captures are in their README.

mod capture;
mod command;
mod first_token;
mod outcome;
mod pattern;
mod player;
mod provider_access;
mod request;
mod response;
mod spacing;
mod target;
mod vars;

use std::collections::VecDeque;
use std::iter;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, mpsc};
use std::thread;

use serde_json::Value;

use crate::locked;
use capture::{Capture, Scenario};
use outcome::ScenarioResult;
use player::play;
use target::{Commands, Target};

/// Arguments of `testserver replay`.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Capture files, or directories of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Play against this server instead of one in this process.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// PEM file with the authority of that server's certificate.
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
    /// Shell command that gets a `first_token` object as JSON on its standard input and prints the token.
    #[arg(long, value_name = "CMD", requires = "server")]
    first_token: Option<String>,
    /// Shell command that plays the person at the browser: with the URL of an authorization request and a user name
    /// added, it logs in at the provider, accepts, and prints the URL of the server's /redirect that it is sent to,
    /// without opening it. Ends with status 77 where it cannot; the scenario is skipped then.
    #[arg(long, value_name = "CMD", requires = "server")]
    browser: Option<String>,
    /// Shell command that controls the provider's token endpoint: with `set NAME` added it lets it misbehave, with
    /// `clear` it ends that, with `requests` it prints and forgets what the token and revocation endpoints were asked.
    /// Names and the form of requests are in the README of the captures. Status 77 as for --browser.
    #[arg(long, value_name = "CMD", requires = "server")]
    provider_faults: Option<String>,
    /// Only the scenario of that name, or of `topic/name`; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

impl Options {
    fn commands(&self) -> Commands {
        Commands {
            browser: self.browser.clone(),
            provider_faults: self.provider_faults.clone(),
            first_token: self.first_token.clone(),
        }
    }
}

/// How a replay went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Scenarios that were answered as captured.
    pub passed: usize,
    /// Scenarios with a difference.
    pub failed: usize,
    /// Scenarios that could not be played.
    pub skipped: usize,
}

/// Plays the scenarios and prints a line for each.
///
/// # Errors
/// The captures cannot be read or the servers not be started.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let tally = replay(options, &mut |line| println!("{line}"))?;
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays files or directories against a server in this process.
///
/// # Errors
/// As [`run`].
pub fn replay_own(paths: Vec<PathBuf>, report: &mut dyn FnMut(&str)) -> Result<Tally, String> {
    replay(&Options { paths, ..Options::default() }, report)
}

/// A scenario, with the settings of its file.
#[derive(Clone, Copy)]
struct QueuedScenario<'a> {
    index: usize,
    topic: &'a str,
    scenario: &'a Scenario,
    server_config: Option<&'a Value>,
}

impl QueuedScenario<'_> {
    /// Whether it mostly sleeps.
    fn sleeps(&self) -> bool {
        self.scenario.steps.iter().any(|step| step.sleep.is_some())
            || self
                .scenario
                .steps
                .iter()
                .filter_map(|step| step.provider_fault.as_ref())
                .any(|name| name.starts_with("slow-"))
    }
}

/// Number of sleeping scenarios that run at once.
const SLEEPERS: usize = 24;

fn replay(options: &Options, report: &mut dyn FnMut(&str)) -> Result<Tally, String> {
    let captures = capture::load(&options.paths)?;
    let queue = selected(&captures, &options.only)?;
    let keys = tempfile::tempdir().map_err(|error| format!("no folder for keys: {error}"))?;
    if options.server.is_none() {
        // Makes the keys that the providers of all scenarios share.
        target::provider("http://127.0.0.1", keys.path(), "http://127.0.0.1")?;
    }
    // One worker per processor: more would slow each other down, and the times in captures have a tolerance.
    // A foreign server gets one scenario at a time: it may have a request limit.
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let (asleep, awake): (VecDeque<QueuedScenario<'_>>, VecDeque<QueuedScenario<'_>>) =
        queue.iter().partition(|queued| options.server.is_none() && queued.sleeps());
    let workers = if options.server.is_none() { processors } else { 1 };
    let queues = [(asleep.len().min(SLEEPERS), Mutex::new(asleep)), (workers, Mutex::new(awake))];
    let (sender, results) = mpsc::channel();
    let mut tally = Tally::default();
    thread::scope(|scope| {
        for waiting in queues.iter().flat_map(|(workers, waiting)| iter::repeat_n(waiting, *workers)) {
            let (sender, keys) = (sender.clone(), keys.path());
            scope.spawn(move || {
                loop {
                    let Some(queued) = locked(waiting).pop_front() else { return };
                    let outcome = one(&queued, options, keys);
                    if sender.send((queued.index, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        in_order(&queue, &results, &mut |queued, outcome| report(&line(queued, outcome, &mut tally)));
    });
    Ok(tally)
}

/// Passes results on in the order of the files.
fn in_order(
    queue: &[QueuedScenario<'_>],
    results: &mpsc::Receiver<(usize, ScenarioResult)>,
    hand_on: &mut dyn FnMut(&QueuedScenario<'_>, &ScenarioResult),
) {
    let mut early: Vec<Option<ScenarioResult>> = vec![None; queue.len()];
    let mut ready = queue.iter().peekable();
    for (index, outcome) in results {
        if let Some(place) = early.get_mut(index) {
            *place = Some(outcome);
        }
        while let Some(outcome) = ready.peek().and_then(|queued| early.get(queued.index)?.as_ref()) {
            if let Some(queued) = ready.peek() {
                hand_on(queued, outcome);
            }
            ready.next();
        }
    }
}

fn line(queued: &QueuedScenario<'_>, outcome: &ScenarioResult, tally: &mut Tally) -> String {
    let name = format!("{}/{}", queued.topic, queued.scenario.name);
    match outcome {
        ScenarioResult::Passed => {
            tally.passed += 1;
            format!("ok {name}")
        }
        ScenarioResult::Failed(reason) => {
            tally.failed += 1;
            format!("FAILED {name}: {reason}")
        }
        ScenarioResult::Skipped(reason) => {
            tally.skipped += 1;
            format!("skipped {name}: {reason}")
        }
    }
}

fn selected<'a>(captures: &'a [Capture], only: &[String]) -> Result<Vec<QueuedScenario<'a>>, String> {
    let mut queue = Vec::new();
    for capture in captures {
        for scenario in &capture.scenarios {
            let named =
                |name: &String| *name == scenario.name || *name == format!("{}/{}", capture.topic, scenario.name);
            if only.is_empty() || only.iter().any(named) {
                let server_config = capture.server_config.as_ref();
                queue.push(QueuedScenario { index: queue.len(), topic: &capture.topic, scenario, server_config });
            }
        }
    }
    if queue.is_empty() { Err("no scenario was selected".into()) } else { Ok(queue) }
}

/// Each scenario has servers of its own, so that none sees another's templates, limits or faults.
fn one(queued: &QueuedScenario<'_>, options: &Options, keys: &Path) -> ScenarioResult {
    let target = match &options.server {
        Some(_) if queued.server_config.is_some() => {
            return ScenarioResult::Skipped("the server would have to be configured for it".into());
        }
        Some(url) => Target::foreign(url, options.ca.as_deref(), options.commands()),
        None => Target::own(keys, queued.server_config),
    };
    match target {
        Ok(target) => play(queued.scenario, &target),
        Err(reason) => ScenarioResult::Failed(reason),
    }
}
