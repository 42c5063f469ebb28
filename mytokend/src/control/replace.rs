// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl replace`: gives jobs a new credential.
//!
//! The credential is made here, from the caller's mytoken, and sealed. Steps of a running job (`srun --overlap`) bring the sealed text to the
//! agents of its nodes. When it has given an access token on each of them, one node revokes the old sub-token. If nobody knows what became
//! of the new one, the agent of this host revokes it after the job. Of a job that waits, the brokers keep the new one.

mod answers;
mod credential;
mod waiting;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mytoken::{Deadline, time_format};
use mytoken_wire::JobName;
use mytoken_wire::agent::{AgentError, OldCredential, Replace, StatusQuery, ask};
use nix::unistd::Uid;

use crate::agent::slurm;
use crate::jobs::settings::JobsSettings;
use crate::program::{self, ProgramOutcome};
use crate::submit::SubmitConfig;
use answers::{Holders, NONE, REFUSED, TAKEN, holders, profile_in, profile_line};

/// The variable with the sealed credential, in the steps that bring it to the agents. It is ciphertext.
const REPLACEMENT: &str = "MYTOKEN_REPLACEMENT";

/// How long a step may take: the agents wait for the mytoken server, and slurmctld may be slow.
const STEP: Duration = Duration::from_secs(90);

/// How long an agent may take for what it knows already. One that is stopped or hangs must not hold the job's owner up.
const KNOWN: Duration = Duration::from_secs(10);

/// How long squeue may take.
const SQUEUE: Duration = Duration::from_secs(10);

/// The next second of any clock has begun after it.
const SECOND: Duration = Duration::from_secs(1);

/// Job id, id as Slurm prints it, state, number of nodes, partitions, account.
const FORMAT: &str = "%A|%i|%T|%D|%P|%a";

/// A job of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnJob {
    job: u32,
    name: JobName,
    state: String,
    nodes: u32,
    partition: Option<String>,
    account: Option<String>,
}

/// What to do for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Replace its credential. `alone` says that no other job of its submission waits or runs.
    Replace(OwnJob, bool),
    /// Give the brokers a new credential for all jobs of its submission: one of them waits.
    HandOver(OwnJob),
}

/// Reads squeue's output about the jobs of one user. Tasks of an array that wait have one line, `8_[4-9]`.
#[must_use]
pub fn jobs(output: &str) -> Vec<OwnJob> {
    let job = |line: &str| {
        let mut fields = line.trim().splitn(6, '|');
        let (job, shown, state, nodes) = (fields.next()?.parse().ok()?, fields.next()?, fields.next()?, fields.next()?);
        let mut named = || fields.next().filter(|name| !name.is_empty() && *name != "(null)").map(str::to_owned);
        let (partition, account) = (named(), named());
        let leader = || shown.split(['_', '+']).next()?.parse().ok().map(JobName::Job);
        let name = shown.parse().ok().or_else(leader)?;
        Some(OwnJob { job, name, state: state.to_owned(), nodes: nodes.parse().ok()?, partition, account })
    };
    output.lines().filter_map(job).collect()
}

/// What to do for the job `asked`, or for all jobs. Those that wait come first: a broker replaces older credentials, and that of a running
/// task must be the newer one.
#[must_use]
pub fn plan(jobs: &[OwnJob], asked: Option<JobName>) -> Vec<Plan> {
    let is_live = |job: &&OwnJob| !matches!(job.state.as_str(), "COMPLETING" | "STAGE_OUT");
    let live: Vec<&OwnJob> = jobs.iter().filter(is_live).collect();
    let means = |job: &&&OwnJob| asked.is_none_or(|asked| asked.means(job.job, Some(job.name)));
    let one = |job: &&OwnJob| match job.state.as_str() {
        "RUNNING" | "SUSPENDED" => {
            let others = live.iter().filter(|other| other.name.leader() == job.name.leader()).count();
            Plan::Replace((*job).clone(), others == 1)
        }
        _ => Plan::HandOver((*job).clone()),
    };
    let mut plans: Vec<Plan> = live.iter().filter(means).map(one).collect();
    let mut leaders = BTreeSet::new();
    plans.retain(|plan| match plan {
        Plan::HandOver(job) => leaders.insert(job.name.leader()),
        Plan::Replace(..) => true,
    });
    plans.sort_by_key(|plan| matches!(plan, Plan::Replace(..)));
    plans
}

/// Does these plans in turn. Credentials tell the second in which they were made, and that of a running task must be made in a later one
/// than that of the tasks that wait.
fn in_turn<T>(plans: Vec<Plan>, pause: impl Fn(Duration), mut one: impl FnMut(Plan) -> T) -> Vec<T> {
    let mut is_same_second = false;
    let carry_out = |plan| {
        match &plan {
            Plan::HandOver(_) => is_same_second = true,
            Plan::Replace(..) if std::mem::take(&mut is_same_second) => pause(SECOND),
            Plan::Replace(..) => {}
        }
        one(plan)
    };
    plans.into_iter().map(carry_out).collect()
}

/// A step on a node tells which profile the job has there, in one line. No step of the job may have run on that node.
///
/// # Errors
/// Why the agent gives no answer.
pub fn ask_profile(socket: &Path, job: JobName) -> Result<String, String> {
    let query = StatusQuery { job: Some(job), all: false };
    let known = ask(socket, &query, Deadline::after(KNOWN)).map_err(|error| error.to_string())?;
    let running = known.jobs.into_iter().find(|job| job.running);
    Ok(running.map_or_else(|| NONE.to_owned(), |job| profile_line(&job.profile)))
}

/// A step on a node brings the credential to the agent. Returns the word for the command that started it: if there is none, nobody knows
/// whether the agent has taken the credential.
pub fn take(socket: &Path, job: JobName) -> (Option<&'static str>, Result<(), String>) {
    let deadline = Deadline::after(STEP);
    match ask(socket, &StatusQuery { job: Some(job), all: false }, Deadline::after(KNOWN)) {
        Ok(known) if !known.jobs.iter().any(|job| job.running) => return (Some(NONE), Ok(())),
        Ok(_) => {}
        // Nothing was brought yet.
        Err(error) => return (Some(REFUSED), Err(error.to_string())),
    }
    let sealed = std::env::var(REPLACEMENT).unwrap_or_default();
    match ask(socket, &Replace { job, sealed }, deadline) {
        Ok(_) => (Some(TAKEN), Ok(())),
        Err(error @ AgentError::Refused { .. }) => (Some(REFUSED), Err(error.to_string())),
        Err(error) => (None, Err(error.to_string())),
    }
}

/// What a step on a node does with the old credential: of several nodes, the first one revokes it.
#[must_use]
pub fn of_this_node(old: OldCredential) -> OldCredential {
    let is_first = std::env::var("SLURM_PROCID").is_ok_and(|rank| rank == "0");
    if old == OldCredential::Revoke && !is_first { OldCredential::Leave } else { old }
}

/// Replaces the credential of the job `asked`, or of all jobs of the caller. `profile` is that of the credentials for jobs that wait.
/// Returns a line for each job, and whether it has, or will have, a new credential.
///
/// # Errors
/// A sentence, if nothing could be done.
pub fn replace(config: &Path, asked: Option<JobName>, profile: Option<&str>) -> Result<Vec<(String, bool)>, String> {
    let settings = SubmitConfig::load(config).map_err(|error| error.to_string())?;
    let (jobs, agent) = (&settings.jobs, &settings.jobs.agent);
    let (squeue, runtime_dir) = (agent.squeue.as_deref(), agent.runtime_dir.as_path());
    Replacing { config, jobs, profile, squeue, runtime_dir }.replace(asked)
}

/// Where the commands of Slurm and the configuration are.
struct Replacing<'a> {
    config: &'a Path,
    jobs: &'a JobsSettings,
    profile: Option<&'a str>,
    squeue: Option<&'a Path>,
    runtime_dir: &'a Path,
}

impl Replacing<'_> {
    fn replace(&self, asked: Option<JobName>) -> Result<Vec<(String, bool)>, String> {
        if Uid::effective().is_root() {
            return Err("a new credential is made from the mytoken of the job's owner: only the owner can replace it"
                .to_owned());
        }
        let uid = Uid::current().to_string();
        let listed = self.run("squeue", &["--noheader", "--format", FORMAT, "--user", &uid], None, SQUEUE)?;
        if !listed.success {
            return Err(format!("squeue failed: {}", listed.first_error()));
        }
        let plans = plan(&jobs(&listed.output), asked);
        if plans.is_empty() {
            let what = asked.map_or("no job".to_owned(), |job| format!("no job {job}"));
            return Err(format!("you have {what} that waits or runs"));
        }
        Ok(in_turn(plans, std::thread::sleep, |plan| match plan {
            Plan::HandOver(job) => {
                let leader = job.name.leader();
                match self.hand_over(&job) {
                    Ok(line) => (format!("job {leader}: {line}"), true),
                    Err(reason) => (format!("job {leader}: not replaced: {reason}"), false),
                }
            }
            Plan::Replace(job, alone) => match self.replace_one(&job, alone) {
                Ok(line) => (format!("job {}: {line}", job.name), true),
                Err(reason) => (format!("job {}: not replaced: {reason}", job.name), false),
            },
        }))
    }

    fn replace_one(&self, job: &OwnJob, alone: bool) -> Result<String, String> {
        let id = job.job.to_string();
        let profile = self.profile_of(job, &id)?;
        let (credential, follower, followed) = self.make(&profile, job)?;
        let sealed = &credential.submission.sealed;
        let taken = self.step(job, job.nodes, &["replace", "--take", &id], Some(sealed));
        let reason = || taken.as_ref().map_or_else(Clone::clone, ProgramOutcome::reason);
        let fate = if followed {
            "the agent of this host revokes it after the job".to_owned()
        } else {
            let expiry = time_format::utc_minute(credential.expires_at().unwrap_or_default());
            format!("no agent of this host answers, so it is valid until {expiry}")
        };
        let without = match taken.as_ref().map_or(Holders::Unknown, |taken| holders(&taken.output, job.nodes)) {
            Holders::Unknown => {
                return Err(format!("{}. Perhaps a node has the new credential; {fate}", reason()));
            }
            Holders::None => {
                let failed = credential.revoke().err().map(|error| {
                    format!(". The new credential, which no node has, could not be revoked: {error}; {fate}")
                });
                if failed.is_none() {
                    follower.tell(true);
                }
                return Err(format!("{}{}", reason(), failed.unwrap_or_default()));
            }
            // From here on, the nodes that have it revoke it.
            Holders::Some => {
                follower.tell(true);
                let both = "only some of its nodes have a new credential, and both end with it";
                return Err(format!("{both}: {}", reason()));
            }
            Holders::All { without } => {
                follower.tell(true);
                without
            }
        };
        // Revoked before that, it would be missing where a job or step of the submission begins.
        if !alone || without > 0 {
            let needs = if alone { "nodes on which no step of it has run" } else { "other jobs of its submission" };
            return Ok(format!("has a new credential; the old one stays for {needs}"));
        }
        let retired = self.step(job, job.nodes, &["replace", "--retire", "revoke", &id], None);
        Ok(match retired {
            Ok(retired) if retired.success => "has a new credential; the old one was revoked".to_owned(),
            retired => {
                let reason = retired.map_or_else(|error| error, |retired| retired.reason());
                format!("has a new credential; the old one stays until the job ends: {reason}")
            }
        })
    }

    /// The profile of the job's credential. Perhaps none of its steps has run on the first node, or the agent there is away; then all nodes
    /// are asked.
    fn profile_of(&self, job: &OwnJob, id: &str) -> Result<String, String> {
        let ask = ["replace", "--ask", id];
        let mut told = self.step(job, 1, &ask, None);
        if job.nodes > 1 && told.as_ref().map_or(true, |told| profile_in(&told.output).is_none()) {
            told = self.step(job, job.nodes, &ask, None);
        }
        let told = told?;
        match profile_in(&told.output) {
            Some(profile) => Ok(profile.to_owned()),
            None if holders(&told.output, job.nodes) == Holders::None => Err("it has no credential".to_owned()),
            None => Err(told.reason()),
        }
    }

    /// Runs mytokenctl once on each of `nodes` nodes of the job.
    fn step(
        &self,
        job: &OwnJob,
        nodes: u32,
        arguments: &[&str],
        sealed: Option<&str>,
    ) -> Result<ProgramOutcome, String> {
        let (id, nodes) = (format!("--jobid={}", job.job), nodes.to_string());
        let mut all = vec![
            "--quiet",
            "--overlap",
            &id,
            "--nodes",
            &nodes,
            "--ntasks",
            &nodes,
            "--ntasks-per-node=1",
            "mytokenctl",
        ];
        all.extend(arguments);
        self.run("srun", &all, sealed, STEP)
    }

    fn run(
        &self,
        name: &str,
        arguments: &[&str],
        sealed: Option<&str>,
        limit: Duration,
    ) -> Result<ProgramOutcome, String> {
        let program = slurm::command(name, self.squeue).ok_or_else(|| format!("there is no {name} on this host"))?;
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(sealed) = sealed {
            command.env(REPLACEMENT, sealed);
        }
        program::run(&mut command, Deadline::after(limit)).map_err(|error| format!("{name} {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_running_task_gets_a_credential_of_a_later_second_than_those_that_wait() {
        let both = jobs("11|10_1|RUNNING|1|cpu|\n12|10_2|RUNNING|1|cpu|\n10|10_[3-9]|PENDING|1|cpu|\n");
        let done = |jobs: &[OwnJob]| -> Vec<String> {
            let steps = RefCell::new(Vec::new());
            let pause = |time: Duration| steps.borrow_mut().push(format!("{} ms", time.as_millis()));
            let one = |plan| {
                let waits = matches!(plan, Plan::HandOver(_));
                steps.borrow_mut().push(if waits { "waits" } else { "runs" }.to_owned());
            };
            assert_eq!(in_turn(plan(jobs, None), pause, one).len(), jobs.len());
            steps.into_inner()
        };
        assert_eq!(done(&both), ["waits", "1000 ms", "runs", "runs"]);
        assert_eq!(done(&both[..2]), ["runs", "runs"], "nothing was made before");
    }

    #[test]
    fn jobs_that_run_get_a_new_credential_at_once_and_those_that_wait_through_the_brokers() {
        let jobs = jobs(
            "7|7|RUNNING|2|cpu|physics\n11|10_1|RUNNING|1|cpu|(null)\n10|10_[2-9%2]|PENDING|1|cpu|\n\
             31|30+1|COMPLETING|1|cpu|\n40|40|PENDING|1|gpu,cpu|\n50|50+0|PENDING|1|cpu|\n51|50+1|PENDING|1|gpu|\n\
             62|60_2|REQUEUE_HOLD|1|cpu|\n63|60_3|CONFIGURING|1|cpu|\n",
        );
        let place = |job: &OwnJob| (job.partition.clone().unwrap_or_default(), job.account.clone());
        assert_eq!(jobs.first().map(place), Some(("cpu".to_owned(), Some("physics".to_owned()))));
        assert_eq!(jobs.get(1).map(place), Some(("cpu".to_owned(), None)));
        assert_eq!(jobs.get(4).map(place), Some(("gpu,cpu".to_owned(), None)));
        let names = |plans: Vec<Plan>| -> Vec<String> {
            let one = |plan| match plan {
                Plan::Replace(job, alone) => format!("{} {alone}", job.name),
                Plan::HandOver(job) => format!("{} waits", job.name.leader()),
            };
            plans.into_iter().map(one).collect()
        };
        for (asked, expected) in [
            (None, &["10 waits", "40 waits", "50 waits", "60 waits", "7 true", "10_1 false"][..]),
            (Some("7"), &["7 true"]),
            (Some("10"), &["10 waits", "10_1 false"]),
            (Some("10_1"), &["10_1 false"]),
            (Some("10_5"), &[]),
            (Some("40"), &["40 waits"]),
            (Some("50+1"), &["50 waits"]),
            (Some("60_3"), &["60 waits"]),
            (Some("31"), &[]),
            (Some("8"), &[]),
        ] {
            let asked = asked.map(|asked| asked.parse().unwrap());
            assert_eq!(names(plan(&jobs, asked)), expected, "{asked:?}");
        }
    }
}
