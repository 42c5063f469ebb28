// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all rows look at again and again, asked once for all of them: the states of the jobs, and their directories on the nodes.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::{Result, Site};

/// Where the scripts read the states: the number of the look, then lines of id, state, and name.
pub(super) const STATES: &str = "/var/tmp/states";

/// Between two looks at the jobs.
const PAUSE: Duration = Duration::from_millis(200);

/// So long a look at the nodes counts.
const AGE: Duration = Duration::from_secs(1);

/// The states of the jobs at one time.
#[derive(Debug, Default)]
struct States {
    look: u64,
    jobs: String,
}

/// Looks for all rows.
pub(super) struct Observer<'s> {
    site: &'s Site,
    states: Mutex<States>,
    /// When, and `NODE:JOB` for each directory.
    directories: Mutex<Option<(Instant, Vec<String>)>>,
    has_ended: AtomicBool,
}

impl<'s> Observer<'s> {
    pub(super) fn new(site: &'s Site) -> Result<Self> {
        site.write(STATES, "0\n", "0644")?;
        let (states, directories) = (Mutex::default(), Mutex::default());
        Ok(Self { site, states, directories, has_ended: AtomicBool::new(false) })
    }

    /// Looks at the jobs until [`Self::end`].
    pub(super) fn look(&self) -> Result<()> {
        for look in 1_u64.. {
            if self.has_ended.load(Ordering::Relaxed) {
                break;
            }
            let ask = format!(
                "jobs=$(squeue -h -o '%i %t %j') && echo \"$jobs\" && printf '%s\\n' {look} \"$jobs\" >{STATES}.new && \
                 mv {STATES}.new {STATES}"
            );
            // A busy slurmctld answers the next time.
            let asked = self.site.sh("root", &ask)?;
            if asked.success() {
                *self.states.lock().unwrap_or_else(PoisonError::into_inner) = States { look, jobs: asked.stdout };
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// The number of the last look.
    pub(super) fn last_look(&self) -> u64 {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).look
    }

    /// Whether a look that began after the one with this number saw no job of this name.
    pub(super) fn has_no_job(&self, name: &str, since: u64) -> bool {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.look >= since + 2 && !states.jobs.lines().any(|job| job.ends_with(&format!(" {name}")))
    }

    /// The directories of jobs on all nodes at most a second ago, `NODE:JOB`.
    pub(super) fn directories(&self) -> Result<Vec<String>> {
        let mut last = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, directories)) = last.as_ref().filter(|(time, _)| time.elapsed() < AGE) {
            return Ok(directories.clone());
        }
        let (time, mut directories) = (Instant::now(), Vec::new());
        for node in self.site.nodes() {
            let listed = self.site.on_node(&node, "ls /run/mytoken/jobs")?.ok()?.stdout;
            directories.extend(listed.lines().map(|job| format!("{node}:{job}")));
        }
        *last = Some((time, directories.clone()));
        Ok(directories)
    }
}
