// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times commands inside a site: several variants, each once per round, in a random order.
//!
//! A process inside the site measures (`testbed time-commands`), so that the time to enter the site does not count.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::error::WithContext;
use crate::site::plan::TESTBED_INSIDE;
use crate::{Error, Result, Site};

/// The first rounds, whose times are discarded because they fill caches.
const WARM_UP: usize = 2;

/// A command of a variant. Arguments are visible to all users, so commands read secrets from files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    argv: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Step {
    pub(super) fn new(line: &str) -> Self {
        Self { argv: line.split_whitespace().map(str::to_owned).collect(), ..Self::default() }
    }

    /// Adds an argument, which may contain spaces.
    pub(super) fn arg(mut self, argument: &str) -> Self {
        self.argv.push(argument.to_owned());
        self
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs it and returns its output.
    fn run(&self) -> Result<String> {
        let line = self.argv.join(" ");
        let mut words = self.argv.iter();
        let mut command = Command::new(words.next().map(String::as_str).unwrap_or_default());
        command.args(words).envs(&self.environment).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("starting `{line}`"))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        Err(Error::Failed {
            command: line,
            status: output.status.to_string(),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// How the time of a variant is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Clock {
    /// Milliseconds from the start of its first step to the end of its last step.
    WholeVariant,
    /// The number that its last step prints, in the unit of that program.
    Printed,
}

/// The variants to compare, and the number of rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measurement {
    variants: Vec<Vec<Step>>,
    rounds: usize,
    clock: Clock,
    /// A command that runs after every so many rounds. It is not timed.
    cleanup: Option<(usize, Step)>,
}

impl Measurement {
    pub(super) fn new(rounds: usize, variants: impl Into<Vec<Vec<Step>>>) -> Self {
        Self { variants: variants.into(), rounds, clock: Clock::WholeVariant, cleanup: None }
    }

    /// Uses the times that the last steps of the variants print.
    pub(super) fn printed(mut self) -> Self {
        self.clock = Clock::Printed;
        self
    }

    /// Runs `step` to clean up after every `rounds` rounds and at the end. It is not timed.
    pub(super) fn with_cleanup(mut self, rounds: usize, step: Step) -> Self {
        self.cleanup = Some((rounds, step));
        self
    }

    /// How often each variant runs in total.
    pub(super) fn runs_per_variant(&self) -> usize {
        WARM_UP + self.rounds
    }

    /// Measures in a site as `user`. `within` is empty, or a command that runs another one, like `salloc`.
    /// Returns the times of each variant, in milliseconds unless they are [`Measurement::printed`]. Times with the same
    /// index are of the same round.
    pub(super) fn run(&self, site: &Site, user: &str, within: &[&str]) -> Result<Vec<Vec<f64>>> {
        let input = serde_json::to_vec(self).map_err(io::Error::from).with_context(|| "writing the commands".into())?;
        let argv = within.iter().copied().chain([TESTBED_INSIDE, "time-commands"]);
        let outcome = site.command(user, argv).stdin(input).timeout(Duration::from_secs(200)).run()?.ok()?;
        let times: Vec<Vec<f64>> = serde_json::from_str(outcome.stdout.trim()).map_err(|error| {
            Error::Refused(format!("`testbed time-commands` printed no times: {error}\n{}", outcome.stdout))
        })?;
        let is_complete =
            times.len() == self.variants.len() && times.iter().all(|variant| variant.len() == self.rounds);
        if is_complete {
            Ok(times)
        } else {
            Err(Error::Refused("`testbed time-commands` printed too few times".into()))
        }
    }
}

/// `testbed time-commands`: reads a `Measurement` from standard input, runs it and writes the times as JSON.
///
/// # Errors
/// When a command failed, with its output.
pub fn time_commands() -> Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input).with_context(|| "reading the commands".into())?;
    let measurement: Measurement =
        serde_json::from_slice(&input).map_err(io::Error::from).with_context(|| "reading the commands".into())?;
    let mut times = vec![Vec::with_capacity(measurement.rounds); measurement.variants.len()];
    for round in 0..measurement.runs_per_variant() {
        for (variant, took) in run_round(&measurement.variants, measurement.clock)? {
            if let Some(row) = times.get_mut(variant).filter(|_| round >= WARM_UP) {
                row.push(took);
            }
        }
        if let Some((every, step)) = &measurement.cleanup {
            if (round + 1) % every == 0 || round + 1 == measurement.runs_per_variant() {
                step.run()?;
            }
        }
    }
    let json = serde_json::to_string(&times).map_err(io::Error::from).with_context(|| "writing the times".into())?;
    writeln!(io::stdout(), "{json}").with_context(|| "writing the times".into())
}

/// Runs every variant once, in a random order.
fn run_round(variants: &[Vec<Step>], clock: Clock) -> Result<Vec<(usize, f64)>> {
    let mut shuffled: Vec<(usize, &Vec<Step>)> = variants.iter().enumerate().collect();
    shuffled.shuffle(&mut rand::rng());
    shuffled
        .into_iter()
        .map(|(variant, steps)| {
            let began = Instant::now();
            let output = steps.iter().try_fold(String::new(), |_, step| step.run())?;
            let took = match clock {
                Clock::WholeVariant => began.elapsed().as_secs_f64() * 1000.0,
                Clock::Printed => {
                    output.trim().parse().map_err(|_| Error::Refused(format!("\"{output}\" is not a time")))?
                }
            };
            Ok((variant, took))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_variant_includes_all_its_steps() {
        let variants = [vec![Step::new("sleep 0.02"), Step::new("sleep 0.03")], vec![Step::new("true")]];
        let times = run_round(&variants, Clock::WholeVariant).unwrap();
        let of = |variant| times.iter().find(|(index, _)| *index == variant).unwrap().1;
        assert!(of(0) >= 50.0, "{times:?}");
        assert_eq!(times.len(), 2);
        assert!(of(1) < of(0), "{times:?}");
    }

    #[test]
    fn each_round_has_a_random_order() {
        let variants = [vec![], vec![], vec![]];
        let first: std::collections::BTreeSet<usize> = (0..200)
            .filter_map(|_| run_round(&variants, Clock::WholeVariant).unwrap().first().map(|(variant, _)| *variant))
            .collect();
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn a_failing_command_fails_the_measurement() {
        let error = run_round(&[vec![Step::new("ls /no/such/file")]], Clock::WholeVariant).unwrap_err().to_string();
        assert!(error.contains("/no/such/file") && error.contains("ended with"), "{error}");
    }

    #[test]
    fn a_step_can_print_its_own_time() {
        let variant = |line| [vec![Step::new("echo 1"), Step::new(line)]];
        assert_eq!(run_round(&variant("echo 12.5"), Clock::Printed).unwrap(), [(0, 12.5)]);
        let error = run_round(&variant("echo soon"), Clock::Printed).unwrap_err().to_string();
        assert!(error.contains("soon"), "{error}");
    }

    #[test]
    fn a_step_has_its_own_environment() {
        let step = Step::new("sh -c").arg("test \"$BENCH_SAYS\" = hello");
        assert!(step.run().is_err());
        step.env("BENCH_SAYS", "hello").run().unwrap();
    }
}
