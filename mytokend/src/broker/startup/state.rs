// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the broker reads from its own directory at the start and at a reload. The disk can hang: then the broker says so, and nodes ask another
//! one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mytoken::{Deadline, Error, ScheduleClock};

use super::BrokerStartupError;
use crate::broker::disk_work::in_time;
use crate::broker::identity::codes::Codes;
use crate::broker::identity::{Register, StateDir};

/// Time limit for all of it. systemd ends a start after 30 s, without a word about the reason.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

/// The register of nodes and the one-time codes in this directory.
///
/// # Errors
/// [`BrokerStartupError`].
pub(super) fn of_nodes(
    directory: &Path,
    clock: &Arc<dyn ScheduleClock>,
    deadline: Deadline,
) -> Result<(Register, Codes), BrokerStartupError> {
    let (path, clock) = (directory.to_owned(), Arc::clone(clock));
    read(directory, deadline, move || {
        let state_dir = StateDir::open_or_make(&path)?;
        Ok((state_dir.register(clock)?, state_dir.codes()?))
    })
}

/// Reads what is in this directory.
///
/// # Errors
/// [`BrokerStartupError::State`] if that takes too long, or the error of `work`.
pub(super) fn read<T: Send + 'static>(
    directory: &Path,
    deadline: Deadline,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, BrokerStartupError> {
    let read = in_time(deadline.remaining().unwrap_or_default(), work);
    Ok(read.map_err(|trouble| BrokerStartupError::State { directory: directory.to_owned(), trouble })??)
}

#[cfg(test)]
mod tests {
    use mytoken::SystemClock;

    use super::*;

    #[test]
    fn a_start_that_waits_for_the_disk_ends_and_names_the_directory() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hangs = move || {
            let _ = held.recv();
            Ok(())
        };
        let late = read(Path::new("/var/lib/mytoken"), Deadline::after(Duration::from_millis(50)), hangs).unwrap_err();
        let expected =
            "what the broker keeps in /var/lib/mytoken cannot be read: the disk of the broker does not answer";
        assert_eq!(late.to_string(), expected);
        drop(release);
    }

    #[test]
    fn the_register_and_the_codes_are_read_in_time() {
        let temp = tempfile::tempdir().unwrap();
        let clock: Arc<dyn ScheduleClock> = Arc::new(SystemClock);
        let (register, _) = of_nodes(&temp.path().join("mytoken"), &clock, Deadline::after(PATIENCE)).unwrap();
        assert!(register.list().entries.is_empty());
        let wrong = of_nodes(Path::new("mytoken"), &clock, Deadline::after(PATIENCE)).err().unwrap();
        assert!(wrong.to_string().contains("must be absolute"), "{wrong}");
    }
}
