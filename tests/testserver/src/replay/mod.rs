// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testserver replay`: plays captured scenarios against a server. The README of the captures describes their format.

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
    /// PEM file of the CA that issued that server's certificate.
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
    /// Shell command that reads a `first_token` object as JSON on its standard input and prints a mytoken.
    #[arg(long, value_name = "CMD", requires = "server")]
    first_token: Option<String>,
    /// Shell command that logs a user in at the provider. Its arguments are the URL of an authorization request and a
    /// user name. It accepts the request and prints the URL of the server's /redirect to which the provider sends the
    /// browser, without opening it. If it cannot do this, it exits with status 77 and the scenario is skipped.
    #[arg(long, value_name = "CMD", requires = "server")]
    browser: Option<String>,
    /// Shell command that controls the provider. With the arguments `set NAME` it sets a fault of the token endpoint,
    /// with `clear` it ends the fault, with `requests` it prints the requests to the token and revocation endpoints
    /// since its last call. The README of the captures has the names and the form of the requests. Exit status 77 has
    /// the same meaning as for --browser.
    #[arg(long, value_name = "CMD", requires = "server")]
    provider_faults: Option<String>,
    /// Play only the scenario with this name or `topic/name`; may be repeated.
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

/// Numbers of scenarios by result.
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
/// The captures cannot be read, or the servers cannot be started.
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
    /// Whether it spends most of its time waiting.
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

/// Maximum number of sleeping scenarios that run at once.
const MAX_SLEEPING: usize = 24;

fn replay(options: &Options, report: &mut dyn FnMut(&str)) -> Result<Tally, String> {
    let captures = capture::load(&options.paths)?;
    let queue = select_scenarios(&captures, &options.only)?;
    let keys = tempfile::tempdir().map_err(|error| format!("cannot create a folder for keys: {error}"))?;
    if options.server.is_none() {
        // Makes the keys that the providers of all scenarios share.
        target::provider("http://127.0.0.1", keys.path(), "http://127.0.0.1")?;
    }
    // One worker per processor: more would slow each other down until times exceed the tolerance of the captures.
    // A foreign server gets one scenario at a time, because it may have a request limit.
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let (asleep, awake): (VecDeque<QueuedScenario<'_>>, VecDeque<QueuedScenario<'_>>) =
        queue.iter().partition(|queued| options.server.is_none() && queued.sleeps());
    let workers = if options.server.is_none() { processors } else { 1 };
    let queues = [(asleep.len().min(MAX_SLEEPING), Mutex::new(asleep)), (workers, Mutex::new(awake))];
    let (sender, results) = mpsc::channel();
    let mut tally = Tally::default();
    thread::scope(|scope| {
        for waiting in queues.iter().flat_map(|(workers, waiting)| iter::repeat_n(waiting, *workers)) {
            let (sender, keys) = (sender.clone(), keys.path());
            scope.spawn(move || {
                loop {
                    let Some(queued) = locked(waiting).pop_front() else { return };
                    let outcome = play_one(&queued, options, keys);
                    if sender.send((queued.index, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        report_in_order(&queue, &results, &mut |queued, outcome| report(&result_line(queued, outcome, &mut tally)));
    });
    Ok(tally)
}

/// Reports the results in the order of the files.
fn report_in_order(
    queue: &[QueuedScenario<'_>],
    results: &mpsc::Receiver<(usize, ScenarioResult)>,
    report: &mut dyn FnMut(&QueuedScenario<'_>, &ScenarioResult),
) {
    let mut arrived: Vec<Option<ScenarioResult>> = vec![None; queue.len()];
    let mut ready = queue.iter().peekable();
    for (index, outcome) in results {
        if let Some(slot) = arrived.get_mut(index) {
            *slot = Some(outcome);
        }
        while let Some(outcome) = ready.peek().and_then(|queued| arrived.get(queued.index)?.as_ref()) {
            if let Some(queued) = ready.peek() {
                report(queued, outcome);
            }
            ready.next();
        }
    }
}

fn result_line(queued: &QueuedScenario<'_>, outcome: &ScenarioResult, tally: &mut Tally) -> String {
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

fn select_scenarios<'a>(captures: &'a [Capture], only: &[String]) -> Result<Vec<QueuedScenario<'a>>, String> {
    let mut queue = Vec::new();
    for capture in captures {
        for scenario in &capture.scenarios {
            let matches =
                |name: &String| *name == scenario.name || *name == format!("{}/{}", capture.topic, scenario.name);
            if only.is_empty() || only.iter().any(matches) {
                let server_config = capture.server_config.as_ref();
                queue.push(QueuedScenario { index: queue.len(), topic: &capture.topic, scenario, server_config });
            }
        }
    }
    if queue.is_empty() { Err("no scenario was selected".into()) } else { Ok(queue) }
}

/// Plays a scenario. Each has servers of its own, so that scenarios do not share templates, limits or faults.
fn play_one(queued: &QueuedScenario<'_>, options: &Options, keys: &Path) -> ScenarioResult {
    let target = match &options.server {
        Some(_) if queued.server_config.is_some() => {
            return ScenarioResult::Skipped("needs a server with the server_config of its capture".into());
        }
        Some(url) => Target::connect(url, options.ca.as_deref(), options.commands()),
        None => Target::start(keys, queued.server_config),
    };
    match target {
        Ok(target) => play(queued.scenario, &target),
        Err(reason) => ScenarioResult::Failed(reason),
    }
}
