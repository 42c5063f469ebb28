// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks slurmctld about all jobs of the cluster: once a minute while there are submissions, and at once for a job that the last answer does
//! not show on its node. Questions that come meanwhile share the next answer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mytoken::Deadline;
use tokio::sync::watch;

use super::cluster_jobs::{self, ClusterJobs};
use crate::agent::slurm::{Controller, Squeue, SqueueError, command};
use crate::jobs::submission_end::TIME_FORMAT;
use crate::program;

/// Answers questions about all jobs.
pub trait ClusterController: Send + Sync {
    /// The output of squeue in [`cluster_jobs::format`] about all jobs that slurmctld knows, with one line for each.
    ///
    /// # Errors
    /// [`SqueueError`].
    fn all_jobs(&self) -> Result<String, SqueueError>;

    /// slurmctld's time of day, Unix seconds. `None`: it does not tell it.
    fn time_of_day(&self) -> Option<u64>;

    /// The hosts on which the jobs that `job` leads were submitted, each once (SLURM-88). Empty: slurmctld does not tell them.
    ///
    /// # Errors
    /// [`SqueueError`].
    fn submit_hosts(&self, job: u32) -> Result<BTreeSet<String>, SqueueError>;
}

/// `squeue` and `scontrol` at the configured path, or at the usual ones.
pub struct SlurmCommands {
    configured: Option<PathBuf>,
    user: Squeue,
}

/// Longest answer in bytes: some hundred thousand jobs.
pub(super) const OUTPUT_LIMIT: usize = 256 * 1024 * 1024;

/// An answer about so many jobs takes a while.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

impl SlurmCommands {
    /// The `squeue` at the configured path, or the first one at the usual paths.
    #[must_use]
    pub fn new(configured: Option<PathBuf>) -> Self {
        Self { user: Squeue::new(configured.clone()), configured }
    }
}

impl ClusterController for SlurmCommands {
    fn all_jobs(&self) -> Result<String, SqueueError> {
        let program = self.configured.clone().or_else(|| command("squeue", None)).ok_or(SqueueError::Missing)?;
        let mut squeue = Command::new(program);
        squeue.env("SLURM_TIME_FORMAT", TIME_FORMAT);
        let mark = format!("{:016x}", rand::random::<u64>());
        let format = format!("{}|{mark}", cluster_jobs::format());
        squeue.args(["--noheader", "--states=all", "--format", &format]);
        let outcome = program::run_limited(&mut squeue, Deadline::after(DEADLINE), OUTPUT_LIMIT)?;
        if !outcome.success {
            return Err(SqueueError::Failed(outcome.first_error().to_owned()));
        }
        lines_of(&outcome.output, &mark).ok_or_else(|| SqueueError::Failed("its answer is cut off".to_owned()))
    }

    fn time_of_day(&self) -> Option<u64> {
        self.user.itself().map(|facts| facts.now)
    }

    fn submit_hosts(&self, job: u32) -> Result<BTreeSet<String>, SqueueError> {
        let program = self.configured.clone().or_else(|| command("squeue", None)).ok_or(SqueueError::Missing)?;
        let mut squeue = Command::new(program);
        squeue.args(["--noheader", "--states=all", HOST_FORMAT, "--jobs"]).arg(job.to_string());
        let outcome = program::run_limited(&mut squeue, Deadline::after(HOST_DEADLINE), OUTPUT_LIMIT)?;
        if !outcome.success {
            return Err(SqueueError::Failed(outcome.first_error().to_owned()));
        }
        Ok(hosts_in(&outcome.output).unwrap_or_default())
    }
}

/// One line for each job. The last field of a job of salloc or srun is a name that the command has told (SLURM-26): with a line break in it,
/// one user's job would be a line of another form, which voids the answer for all, or a line about a job of somebody else. So a job ends
/// where `mark` stands, which nobody can know before. Agents need that field, and get it from the broker. `None`: half a job is at the end.
fn lines_of(output: &str, mark: &str) -> Option<String> {
    let (jobs, rest) = output.rsplit_once(mark).unwrap_or(("", output));
    if !rest.trim().is_empty() {
        return None;
    }
    let mut lines = String::with_capacity(output.len());
    for job in jobs.split(mark).filter(|job| !job.is_empty()) {
        let job = job.strip_prefix('\n').unwrap_or(job).strip_suffix('|')?;
        lines.extend(job.chars().map(|letter| if letter.is_control() { '?' } else { letter }));
        lines.push('\n');
    }
    Some(lines)
}

/// Job id and the host of its submission. The format of `--format` has no letter for the host. A field is cut to its width.
const HOST_FORMAT: &str = "--Format=JobID:20,AllocNodes:80";

/// Time limit of a question about one job.
const HOST_DEADLINE: Duration = Duration::from_secs(10);

/// The hosts in lines of [`HOST_FORMAT`]. `None` if a line has another form: a part of the jobs decides nothing.
fn hosts_in(output: &str) -> Option<BTreeSet<String>> {
    let host = |line: &str| {
        let mut words = line.split_whitespace();
        let (job, host) = (words.next()?, words.next()?);
        (job.parse::<u32>().is_ok() && words.next().is_none()).then(|| host.to_owned())
    };
    output.lines().filter(|line| !line.trim().is_empty()).map(host).collect()
}

/// The last answer.
#[derive(Debug, Clone, Default)]
pub struct Answered {
    /// The jobs. `None`: there was no answer yet.
    pub jobs: Option<Arc<ClusterJobs>>,
    /// When the question was asked, elapsed time.
    pub asked: Duration,
    /// slurmctld's time of day minus elapsed time in seconds, if it has told it.
    pub clock: Option<i64>,
    /// Why the last question got no answer.
    pub trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// Somebody waits for an answer to a question that is asked from now on.
    soon: bool,
    /// A question has no answer yet.
    asking: bool,
    /// The next question is asked at this time at the latest, elapsed time.
    planned: Option<Duration>,
    stopping: bool,
}

/// The questions, and who waits for their answers.
pub struct Questions {
    wanted: Mutex<Wanted>,
    wake: Condvar,
    answered: watch::Sender<Answered>,
}

/// Between two questions. slurmctld serves the whole cluster.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(250);

/// From news of a node to a question that nobody waits for.
const AFTER_NEWS: Duration = Duration::from_secs(10);

/// Between two questions that nobody waits for.
pub const INTERVAL: Duration = Duration::from_secs(60);

impl Default for Questions {
    fn default() -> Self {
        Self { wanted: Mutex::default(), wake: Condvar::new(), answered: watch::channel(Answered::default()).0 }
    }
}

impl Questions {
    /// The last answer.
    #[must_use]
    pub fn last(&self) -> Answered {
        self.answered.borrow().clone()
    }

    /// An answer to a question that was asked after `since`, elapsed time; or that there is none.
    pub async fn after(&self, since: Duration) -> Answered {
        let mut answers = self.answered.subscribe();
        self.wanted().soon = true;
        self.wake.notify_all();
        match answers.wait_for(|answered| answered.asked >= since).await {
            Ok(answered) => answered.clone(),
            Err(_) => Answered::default(),
        }
    }

    /// The answer after `last`. A question that has no answer yet is not asked a second time for it.
    pub async fn newer(&self, last: &Answered) -> Answered {
        let mut answers = self.answered.subscribe();
        {
            let mut wanted = self.wanted();
            wanted.soon |= !wanted.asking;
        }
        self.wake.notify_all();
        match answers.wait_for(|answered| answered.asked > last.asked).await {
            Ok(answered) => answered.clone(),
            Err(_) => Answered::default(),
        }
    }

    /// A node has told something that only a new answer shows. Nobody waits for it, so what is told in the next seconds shares it.
    pub fn plan(&self, now: Duration) {
        self.wanted().planned.get_or_insert(now.saturating_add(AFTER_NEWS));
        self.wake.notify_all();
    }

    /// Ends [`Self::run`].
    pub fn stop(&self) {
        self.wanted().stopping = true;
        self.wake.notify_all();
    }

    /// Asks until [`Self::stop`], if somebody waits for an answer or `has_work`. `elapsed` is a clock; `note` gets each answer before those
    /// who wait for it.
    pub fn run(
        &self,
        controller: &dyn ClusterController,
        elapsed: &dyn Fn() -> Duration,
        has_work: &dyn Fn() -> bool,
        note: &dyn Fn(&Answered),
    ) {
        {
            // A run before has ended by a panic: those who wait still do.
            let mut wanted = self.wanted();
            wanted.soon |= std::mem::take(&mut wanted.asking);
        }
        loop {
            let Some(soon) = self.wait(elapsed) else { return };
            if !soon && !has_work() {
                continue;
            }
            self.ask(controller, elapsed, note);
            std::thread::sleep(SHORTEST_PAUSE);
        }
    }

    /// Asks once.
    pub(super) fn ask(
        &self,
        controller: &dyn ClusterController,
        elapsed: &dyn Fn() -> Duration,
        note: &dyn Fn(&Answered),
    ) {
        let asked = elapsed();
        self.wanted().asking = true;
        let result = controller.all_jobs().map_err(|error| error.to_string());
        let parsed = result.and_then(|output| {
            ClusterJobs::parse(&output).ok_or_else(|| "squeue printed lines of another form".to_owned())
        });
        let before = self.last();
        let told = parsed.is_ok().then(|| controller.time_of_day()).flatten();
        let clock = told.and_then(|time| i64::try_from(time).ok()?.checked_sub_unsigned(elapsed().as_secs()));
        let answered = match parsed {
            Ok(jobs) => Answered { jobs: Some(Arc::new(jobs)), asked, clock: clock.or(before.clock), trouble: None },
            Err(trouble) => Answered { asked, trouble: Some(trouble), ..before },
        };
        note(&answered);
        self.wanted().asking = false;
        self.answered.send_replace(answered);
    }

    /// Waits until a question is due. Returns whether somebody has asked for it, and `None` at the end.
    fn wait(&self, elapsed: &dyn Fn() -> Duration) -> Option<bool> {
        let regular = elapsed().saturating_add(INTERVAL);
        let mut wanted = self.wanted();
        loop {
            if wanted.stopping {
                return None;
            }
            let now = elapsed();
            let due = wanted.planned.map_or(regular, |planned| planned.min(regular));
            if wanted.soon || due <= now {
                let asked = std::mem::take(&mut wanted.soon) || wanted.planned.take().is_some();
                wanted.planned = None;
                return Some(asked);
            }
            (wanted, _) = self.wake.wait_timeout(wanted, due - now).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs;

    #[test]
    fn the_hosts_of_a_submission_are_those_of_all_its_jobs() {
        let hosts = |output: &str| hosts_in(output).map(|hosts| hosts.into_iter().collect::<Vec<_>>().join(" "));
        let one = "40                  login1                          \n";
        let other = "43                  login2\n";
        assert_eq!(hosts(one).as_deref(), Some("login1"));
        assert_eq!(hosts(&format!("{one}{one}\n{other}")).as_deref(), Some("login1 login2"));
        assert_eq!(hosts("").as_deref(), Some(""));
        for wrong in ["40\n", "login1 40\n", "40 login1 login2\n", "squeue: error: no answer\n"] {
            assert_eq!(hosts(&format!("{one}{wrong}")), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_break_in_the_name_of_a_host_is_no_end_of_a_job() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("squeue");
        let ask = |lines: &str| {
            programs::write(&path, &format!("#!/bin/sh\nend=${{4##*|}}\n{lines}\n")).unwrap();
            SlurmCommands::new(Some(path.clone())).all_jobs()
        };
        let forged = r#"printf '7|1000|1|1|RUNNING|1000|N/A|n1|x\n8|1000|2|2|COMPLETED|1000|1100|n1|n1|%s\n' "$end""#;
        let odd = r#"printf '7|1000|3|3|RUNNING|1000|N/A|n1|x\nx|%s\n' "$end""#;
        let other = r#"printf '8|1000|2|2|RUNNING|1000|N/A|n2|n2|%s\n' "$end""#;
        for order in [[forged, odd, other], [other, odd, forged]] {
            let jobs = ClusterJobs::parse(&ask(&order.join("\n")).unwrap()).unwrap();
            assert_eq!((jobs.of_user(7).lines().count(), jobs.of_user(8).lines().count()), (2, 1));
            assert!(jobs.job(2).is_some_and(|job| job.is_on("n2")) && jobs.job(3).is_some());
        }
        assert_eq!(ask("true").unwrap(), "");
        let half = ask(&format!("{other}\nprintf '7|1000|1|1|RUNN'")).unwrap_err();
        assert!(half.to_string().contains("cut off"), "{half}");
    }

    #[test]
    fn squeue_is_asked_for_the_hosts_of_one_job() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("squeue");
        let ask = |script: &str| {
            programs::write(&path, &format!("#!/bin/sh\n{script}\n")).unwrap();
            SlurmCommands::new(Some(path.clone())).submit_hosts(40)
        };
        let told =
            "test \"$*\" = '--noheader --states=all --Format=JobID:20,AllocNodes:80 --jobs 40' && echo '40 login1'";
        assert_eq!(ask(told).unwrap(), BTreeSet::from(["login1".to_owned()]));
        let unknown = ask("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1").unwrap_err();
        assert!(unknown.to_string().contains("Invalid job id"), "{unknown}");
    }
}
