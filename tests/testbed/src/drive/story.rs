// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a story (an end-to-end test): makes its site, prints the logs if it fails, records it if it is skipped.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::admission::Admitted;
use crate::{Error, Need, Options, Result, Site, skipped};

/// Runs `body` in a new site. When the story fails, the site's logs are printed. On a machine
/// that cannot hold a site the story is skipped: recorded with its reason, and not counted as passed.
///
/// # Errors
/// The error of `body` or of the start of the site.
pub fn story(options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let _admitted = Admitted::wait();
    story_in(Site::start(options), body)
}

/// The same in a site in which no service runs.
///
/// # Errors
/// As [`story`].
pub fn story_without_services(options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let _admitted = Admitted::wait();
    story_in(Site::without_services(options), body)
}

fn story_in(site: Result<Site>, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let site = match site {
        Err(error @ Error::Impossible(_)) => return skip(&error.to_string()),
        other => other?,
    };
    match catch_unwind(AssertUnwindSafe(|| body(&site))) {
        Ok(Ok(())) => Ok(()),
        // A command that stands for the control API cannot do what the story needs.
        Ok(Err(error @ Error::Unplayable(_))) => skip(&error.to_string()),
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

/// Runs a story that needs the test server itself: its journal, tokens to order, faults of the mytoken server. With a foreign server it is
/// skipped. CONTRIBUTING.md has a table of these stories.
///
/// # Errors
/// As [`story`].
pub fn story_with_own_servers(options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    if options.foreign.is_some() {
        return skip("it needs the test server's control API, which a foreign server does not have");
    }
    story(options, body)
}

/// Runs a story that needs no more of the control API than a command can do at a foreign server. With a foreign server it is skipped if
/// the caller gave no such command.
///
/// # Errors
/// As [`story`].
pub fn story_needing(needs: &[Need], options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let Some(controls) = options.foreign.as_ref().map(|foreign| foreign.controls.clone()) else {
        return story(options, body);
    };
    if let Some(need) = controls.lack(needs) {
        return skip(&format!("with a foreign mytoken server it needs {}", need.option()));
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| story(options, body)));
    // The servers live longer than the site: the next story must not meet a fault of a failed one.
    let cleared = if needs.contains(&Need::ProviderFaults) {
        controls.run(Need::ProviderFaults, &["clear"], "").map(drop)
    } else {
        Ok(())
    };
    match outcome {
        Ok(played) => played.and(cleared),
        Err(panic) => resume_unwind(panic),
    }
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
