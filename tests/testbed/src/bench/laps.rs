// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times commands inside a site: several sides in rounds, in a random order in each round.
//!
//! The clock is a process inside (`testbed laps`), so that entering the site is not measured.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::error::Trying;
use crate::site::plan::TESTBED_INSIDE;
use crate::{Error, Result, Site};

/// Rounds whose times are discarded, because caches are filled in them.
const WARM_UP: usize = 2;

/// A command of a lap. Arguments are visible to all users; secrets are read from files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    argv: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Step {
    pub(super) fn new(line: &str) -> Self {
        Self { argv: line.split_whitespace().map(str::to_owned).collect(), ..Self::default() }
    }

    /// Adds an argument, which may contain blanks.
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
        let output = command.output().trying(|| format!("starting `{line}`"))?;
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

/// How the time of a side is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Clock {
    /// Milliseconds from the start of its first step to the end of its last.
    WholeSide,
    /// The number that its last step prints, in that program's unit.
    Printed,
}

/// The sides to compare, and the number of rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Race {
    sides: Vec<Vec<Step>>,
    rounds: usize,
    clock: Clock,
    /// Runs after this number of rounds, not timed.
    tidy: Option<(usize, Step)>,
}

impl Race {
    pub(super) fn new(rounds: usize, sides: impl Into<Vec<Vec<Step>>>) -> Self {
        Self { sides: sides.into(), rounds, clock: Clock::WholeSide, tidy: None }
    }

    /// Uses the times that the last steps of the sides print: they time a part of themselves.
    pub(super) fn printed(mut self) -> Self {
        self.clock = Clock::Printed;
        self
    }

    /// Runs `step` to clean up, not timed, after every `rounds` rounds and at the end.
    pub(super) fn tidied(mut self, rounds: usize, step: Step) -> Self {
        self.tidy = Some((rounds, step));
        self
    }

    /// How often each side runs in total.
    pub(super) fn laps(&self) -> usize {
        WARM_UP + self.rounds
    }

    /// Runs the race in a site as `user`; `within` is a command that runs another one, like `salloc`, or empty.
    /// Returns the times of each side, in milliseconds unless they are [`Race::printed`]; those with the same index
    /// are of the same round.
    pub(super) fn run(&self, site: &Site, user: &str, within: &[&str]) -> Result<Vec<Vec<f64>>> {
        let order = serde_json::to_vec(self).map_err(io::Error::from).trying(|| "writing the race".into())?;
        let argv = within.iter().copied().chain([TESTBED_INSIDE, "laps"]);
        let told = site.command(user, argv).stdin(order).timeout(Duration::from_secs(200)).run()?.ok()?;
        let times: Vec<Vec<f64>> = serde_json::from_str(told.stdout.trim())
            .map_err(|error| Error::Refused(format!("`testbed laps` told no times: {error}\n{}", told.stdout)))?;
        let whole = times.len() == self.sides.len() && times.iter().all(|side| side.len() == self.rounds);
        if whole { Ok(times) } else { Err(Error::Refused("`testbed laps` told too few times".into())) }
    }
}

/// `testbed laps`: reads a race on standard input, runs it, writes the times as JSON.
///
/// # Errors
/// When a command failed, with its output.
pub fn time() -> Result<()> {
    let mut order = Vec::new();
    io::stdin().lock().read_to_end(&mut order).trying(|| "reading the race".into())?;
    let race: Race = serde_json::from_slice(&order).map_err(io::Error::from).trying(|| "reading the race".into())?;
    let mut times = vec![Vec::with_capacity(race.rounds); race.sides.len()];
    for round in 0..race.laps() {
        for (side, took) in lap_each(&race.sides, race.clock)? {
            if let Some(row) = times.get_mut(side).filter(|_| round >= WARM_UP) {
                row.push(took);
            }
        }
        if let Some((every, step)) = &race.tidy {
            if (round + 1) % every == 0 || round + 1 == race.laps() {
                step.run()?;
            }
        }
    }
    let told = serde_json::to_string(&times).map_err(io::Error::from).trying(|| "writing the times".into())?;
    writeln!(io::stdout(), "{told}").trying(|| "writing the times".into())
}

/// One round: every side once, in a random order.
fn lap_each(sides: &[Vec<Step>], clock: Clock) -> Result<Vec<(usize, f64)>> {
    let mut shuffled: Vec<(usize, &Vec<Step>)> = sides.iter().enumerate().collect();
    shuffled.shuffle(&mut rand::rng());
    shuffled
        .into_iter()
        .map(|(side, steps)| {
            let began = Instant::now();
            let said = steps.iter().try_fold(String::new(), |_, step| step.run())?;
            let took = match clock {
                Clock::WholeSide => began.elapsed().as_secs_f64() * 1000.0,
                Clock::Printed => said.trim().parse().map_err(|_| Error::Refused(format!("\"{said}\" is no time")))?,
            };
            Ok((side, took))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_lasts_as_long_as_all_its_steps() {
        let sides = [vec![Step::new("sleep 0.02"), Step::new("sleep 0.03")], vec![Step::new("true")]];
        let times = lap_each(&sides, Clock::WholeSide).unwrap();
        let of = |side| times.iter().find(|(index, _)| *index == side).unwrap().1;
        assert!(of(0) >= 50.0, "{times:?}");
        assert_eq!(times.len(), 2);
        assert!(of(1) < of(0), "{times:?}");
    }

    #[test]
    fn each_round_draws_its_order() {
        let sides = [vec![], vec![], vec![]];
        let first: std::collections::BTreeSet<usize> = (0..200)
            .filter_map(|_| lap_each(&sides, Clock::WholeSide).unwrap().first().map(|(side, _)| *side))
            .collect();
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn a_command_that_fails_is_no_measurement() {
        let error = lap_each(&[vec![Step::new("ls /no/such/file")]], Clock::WholeSide).unwrap_err().to_string();
        assert!(error.contains("/no/such/file") && error.contains("ended with"), "{error}");
    }

    #[test]
    fn a_step_can_print_its_own_time() {
        let side = |line| [vec![Step::new("echo 1"), Step::new(line)]];
        assert_eq!(lap_each(&side("echo 12.5"), Clock::Printed).unwrap(), [(0, 12.5)]);
        let error = lap_each(&side("echo soon"), Clock::Printed).unwrap_err().to_string();
        assert!(error.contains("soon"), "{error}");
    }

    #[test]
    fn a_step_has_its_own_environment() {
        let step = Step::new("sh -c").arg("test \"$BENCH_SAYS\" = hello");
        assert!(step.run().is_err());
        step.env("BENCH_SAYS", "hello").run().unwrap();
    }
}
