// SPDX-License-Identifier: MIT OR Apache-2.0
//! The frame of an end-to-end test: a site of its own, the logs when it fails, a note when it cannot run.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::{Error, Options, Result, Site};

/// The file that skipped stories are noted in, one line each: name, tab, reason. `testbed test` sets it and counts.
pub const SKIPPED_FILE: &str = "TESTBED_SKIPPED_FILE";

/// Runs `tell` in a fresh site. When the story fails, the site's logs are printed before the site goes. On a machine
/// that cannot hold a site the story is skipped: noted with its reason, and not counted as passed.
///
/// # Errors
/// What `tell` or the start of the site answered.
pub fn story(options: Options, tell: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let site = match Site::start(options) {
        Err(error @ Error::Impossible(_)) => return skip(&error.to_string()),
        other => other?,
    };
    match catch_unwind(AssertUnwindSafe(|| tell(&site))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            eprintln!("{error}\n{}", site.logs());
            Err(error)
        }
        Err(panic) => {
            eprintln!("{}", site.logs());
            resume_unwind(panic)
        }
    }
}

/// A story that injects faults or asks the test server what it saw; skipped when the servers are foreign.
///
/// # Errors
/// As [`story`].
pub fn story_with_own_servers(options: Options, tell: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    if options.foreign.is_some() {
        return skip("it needs the control of the test server, and the servers are foreign");
    }
    story(options, tell)
}

/// Notes that the running story is skipped.
///
/// # Errors
/// When the note cannot be written: an unnoted skip would count as passed.
pub fn skip(reason: &str) -> Result<()> {
    let name = std::thread::current().name().unwrap_or("a story").to_owned();
    eprintln!("{name}: skipped: {reason}");
    let Some(path) = std::env::var_os(SKIPPED_FILE) else { return Ok(()) };
    let line = format!("{name}\t{}\n", reason.replace('\n', " "));
    File::options()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|source| Error::Io { what: format!("noting in {}", path.to_string_lossy()), source })
}
