// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testbed test`: runs all tests and prints how many passed, failed and were skipped.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use testbed::site::root::{Recipe, Root};
use testbed::{Error, Options, Release, Result, SKIPPED_FILE};

/// The package with the stories.
const PACKAGE: &str = env!("CARGO_PKG_NAME");

/// The variable with the number of stories that run at the same time.
const STORIES_AT_ONCE: &str = "TESTBED_STORIES_AT_ONCE";

/// Most stories that run at the same time. The testbed starts the last of them only while the processors are idle.
const SITES_AT_ONCE: &str = "10";

/// Number of other tests that run at the same time. The long ones wait for agents and brokers.
const TESTS_AT_ONCE: &str = "4";

/// The story that further releases play: a login, a job from its session, and what they leave.
const WHOLE_WAY: &str = "jobs::a_job_is_submitted_from_a_login_session_with_the_delegated_mytoken";

/// libtest's mark of a test that is ignored because another test runs it in a child process.
const RUN_BY_ANOTHER: &str = " ... ignored, run by ";

/// Sum of the results so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Number of tests in the next summary that other tests run.
    run_by_others: usize,
    failures: Failures,
}

/// What the failed tests printed, without stack backtraces, to be repeated at the end: between it and the end are thousands of lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Failures {
    /// Heading and lines of each failed test.
    texts: Vec<(String, Vec<String>)>,
    in_text: bool,
    in_backtrace: bool,
}

impl Failures {
    /// Lines of a failure that are repeated: half of them from its begin, half from its end.
    const LINES: usize = 80;

    /// Adds a line of libtest if it belongs to the output of a failed test: `---- NAME stdout ----` and what follows.
    fn add_line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            self.texts.push((name.to_owned(), Vec::new()));
            (self.in_text, self.in_backtrace) = (true, false);
        } else if line == "failures:" {
            self.in_text = false;
        } else if let (true, Some((_, lines))) = (self.in_text, self.texts.last_mut()) {
            self.in_backtrace |= line == "stack backtrace:";
            if !(self.in_backtrace || line.is_empty()) {
                lines.push(line.to_owned());
            }
            self.in_backtrace &= !line.starts_with("note: ");
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, lines) in &self.texts {
            writeln!(f, "failed {name}:")?;
            let half = Self::LINES / 2;
            let left_out = lines.len().saturating_sub(Self::LINES);
            for (at, line) in lines.iter().enumerate() {
                if left_out > 0 && at == half {
                    writeln!(f, "  ({left_out} lines left out)")?;
                }
                if left_out == 0 || at < half || at >= half + left_out {
                    writeln!(f, "  {line}")?;
                }
            }
        }
        Ok(())
    }
}

impl Sum {
    /// Adds a line of libtest if it is a summary:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
    /// Tests that other tests run count neither as passed nor as skipped.
    fn add_line(&mut self, line: &str) {
        self.failures.add_line(line);
        if line.strip_prefix("test ").is_some_and(|test| test.contains(RUN_BY_ANOTHER)) {
            self.run_by_others += 1;
        }
        let Some(summary) = line.strip_prefix("test result: ") else { return };
        for part in summary.split([';', '.']) {
            let mut words = part.split_whitespace();
            let Some(Ok(count)) = words.next().map(str::parse::<usize>) else { continue };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count.saturating_sub(mem::take(&mut self.run_by_others)),
                _ => {}
            }
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// Runs all tests, or those whose name contains `name`, and one story on each release of `also`. The last line on standard output is the
/// sum.
pub(crate) fn run(options: &Options, name: Option<&str>, only_stories: bool, also: &[Release]) -> Result<ExitCode> {
    let mut sum = Sum::default();
    let notes =
        tempfile::NamedTempFile::new().map_err(|source| Error::Io { what: "a temporary file".into(), source })?;
    // Tests build this program again. Then its file is another one, at the same path.
    let me = env::current_exe().map_err(|source| Error::Io { what: "the path of this program".into(), source })?;
    if name.is_none() && !only_stories {
        make_roots(options, also);
    }
    let mut tests = cargo_test(&me, options, notes.path())?;
    tests.args(if only_stories { &["-p", PACKAGE][..] } else { &["--workspace"] });
    tests.args(name.map(|name| ["--", name]).into_iter().flatten());
    add(&mut sum, tests)?;
    for release in also {
        println!("on {release}:");
        let options = Options { release: *release, ..options.clone() };
        let mut story = cargo_test(&me, &options, notes.path())?;
        story.args(["--workspace", "--", "--exact", WHOLE_WAY]);
        let before = (sum.passed, sum.failed);
        add(&mut sum, story)?;
        if (sum.passed, sum.failed) == before {
            println!("{WHOLE_WAY} does not exist");
            sum.failed += 1;
        }
    }

    let notes = fs::read_to_string(notes.path()).unwrap_or_default();
    for (test, reason) in notes.lines().filter_map(|line| line.split_once('\t')) {
        println!("skipped {test}: {reason}");
        sum.skipped += 1;
        sum.passed = sum.passed.saturating_sub(1);
    }
    print!("{}", sum.failures);
    println!("{sum}");
    Ok(if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the root file systems of the stories beside the other tests, which mostly wait. A story that comes before its root waits for it,
/// and tells what could not be made. Only root can make them; otherwise the stories do, which then run as root.
fn make_roots(options: &Options, also: &[Release]) {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let recipes: Vec<Recipe> =
        Recipe::of_stories(options.release).into_iter().chain(also.iter().copied().map(Recipe::site)).collect();
    thread::spawn(move || {
        for recipe in recipes {
            if let Err(error) = Root::open(&recipe) {
                eprintln!("testbed: {error}");
            }
        }
    });
}

/// `cargo test`, which starts each test program by [`run_program`]. It is called with the whole workspace, also for one program: another
/// choice of packages would mean other features of shared dependencies, and a second compilation of all that depends on them.
fn cargo_test(me: &Path, options: &Options, notes: &Path) -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--locked", "--no-fail-fast"]);
    let version =
        Command::new("rustc").arg("-vV").output().map_err(|source| Error::Io { what: "rustc -vV".into(), source })?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if let Some(host) = version.lines().find_map(|line| line.strip_prefix("host: ")) {
        command.args(["--config", &format!("target.{host}.runner=[{:?}, \"run-test\"]", me.display().to_string())]);
    }
    // Sites in the caller's network use the same ports.
    let at_once = if options.foreign.is_some() { "1" } else { SITES_AT_ONCE };
    command.envs(options.as_environment()).env(SKIPPED_FILE, notes).env(STORIES_AT_ONCE, at_once);
    Ok(command)
}

/// Becomes a test program: the caller's, or root's if it has stories.
pub(crate) fn run_program(program: &OsStr, arguments: &[OsString]) -> Result<ExitCode> {
    let has_stories = env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == PACKAGE);
    let at_once = if has_stories { env::var_os(STORIES_AT_ONCE) } else { env::var_os("RUST_TEST_THREADS") };
    let as_root = has_stories && !nix::unistd::Uid::effective().is_root() && testbed::has_program("sudo");
    let mut command = Command::new(if as_root { OsStr::new("sudo") } else { program });
    if as_root {
        command.arg("-E").arg(program);
    }
    command.args(arguments).env("RUST_TEST_THREADS", at_once.unwrap_or_else(|| TESTS_AT_ONCE.into()));
    Err(Error::Io { what: program.to_string_lossy().into_owned(), source: command.exec() })
}

/// Runs cargo, prints its output and counts the results. A run that fails without a failed test (a compile error, or
/// a crash) counts as a failure.
fn add(sum: &mut Sum, mut cargo: Command) -> Result<()> {
    let began = Instant::now();
    let failed_before = sum.failed;
    let mut running = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Io { what: "starting cargo".into(), source })?;
    for line in running.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(|source| Error::Io { what: "reading cargo's output".into(), source })?;
        sum.add_line(&line);
        println!("{line}");
    }
    let status = running.wait().map_err(|source| Error::Io { what: "waiting for cargo".into(), source })?;
    if !status.success() && sum.failed == failed_before {
        println!("cargo test ended with {status}");
        sum.failed += 1;
    }
    println!("took {} s", began.elapsed().as_secs());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Failures, Sum};

    #[test]
    fn what_failed_tests_printed_is_repeated() {
        let mut failures = Failures::default();
        let long: Vec<String> = (1..=100).map(|line| format!("line {line}")).collect();
        let printed = [
            "test long ... FAILED",
            "failures:",
            "---- short stdout ----",
            "",
            "wrong: ---- x ----",
            "stack backtrace:",
            "   0: a frame",
            "note: Some details are omitted",
            "after it",
            "---- long stdout ----",
        ];
        let end = ["failures:", "    long", "    short"];
        for line in printed.into_iter().chain(long.iter().map(String::as_str)).chain(end) {
            failures.add_line(line);
        }
        let text = failures.to_string();
        assert!(
            text.starts_with("failed short:\n  wrong: ---- x ----\n  after it\nfailed long:\n  line 1\n"),
            "{text}"
        );
        assert!(text.contains("  line 40\n  (20 lines left out)\n  line 61\n"), "{text}");
        assert!(text.ends_with("  line 100\n"), "{text}");
    }

    #[test]
    fn summaries_add_up_and_other_lines_do_not() {
        let mut sum = Sum::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 7.12s",
            "test 5 passed ... ok",
            "test a::child ... ignored, run by the other tests in a child process",
            "test slow ... ignored, takes hours",
            "test result: ok. 0 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            sum.add_line(line);
        }
        assert_eq!(sum, Sum { passed: 4, failed: 2, skipped: 2, ..Sum::default() });
        assert_eq!(sum.to_string(), "4 passed, 2 failed, 2 skipped");
        assert_eq!(Sum { passed: 4, ..Sum::default() }.to_string(), "4 passed, 0 failed");
    }
}
