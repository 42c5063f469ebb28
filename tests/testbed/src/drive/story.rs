// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a story (an end-to-end test): makes its site, prints the logs if it fails, records it if it is skipped.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::{Error, Options, Result, Site, skipped};

/// Runs `body` in a new site. When the story fails, the site's logs are printed. On a machine
/// that cannot hold a site the story is skipped: recorded with its reason, and not counted as passed.
///
/// # Errors
/// The error of `body` or of the start of the site.
pub fn story(options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_in(Site::start(options), body)
}

/// The same in a site in which no service runs.
///
/// # Errors
/// As [`story`].
pub fn story_without_services(options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_in(Site::without_services(options), body)
}

fn story_in(site: Result<Site>, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let site = match site {
        Err(error @ Error::Impossible(_)) => return skip(&error.to_string()),
        other => other?,
    };
    match catch_unwind(AssertUnwindSafe(|| body(&site))) {
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

/// Runs a story that sets faults or reads the test server's journal. With a foreign server it is skipped.
///
/// # Errors
/// As [`story`].
pub fn story_with_own_servers(options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    if options.foreign.is_some() {
        return skip("it needs the test server's control API, which a foreign server does not have");
    }
    story(options, body)
}

/// Records that the running story is skipped.
///
/// # Errors
/// When it cannot be recorded, because the story would then count as passed.
pub fn skip(reason: &str) -> Result<()> {
    skipped::skip(reason).map_err(|source| Error::Io { what: "recording a skipped story".into(), source })
}

#[cfg(test)]
mod tests {
    use crate::skipped::note;

    #[test]
    fn a_note_is_appended_to_an_existing_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        note(file.path(), "one", "no\nroot").unwrap();
        note(file.path(), "two", "no namespaces").unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "one\tno root\ntwo\tno namespaces\n");
        let missing = file.path().with_extension("missing");
        assert!(note(&missing, "three", "no file").is_err() && !missing.exists(), "root may not make it in /tmp");
    }
}
