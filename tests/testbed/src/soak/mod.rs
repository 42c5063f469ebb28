// SPDX-License-Identifier: MIT OR Apache-2.0
//! The soak: many jobs of mixed shapes while the mytoken server and the agents fail. It counts what the jobs see in their
//! token files, and what is left afterwards.
//!
//! The server's request limit is off: tokens that live for seconds need more requests than it allows.

pub mod agents;
pub mod clock;
pub mod figures;
pub mod goals;
mod mix;
pub mod plan;
pub mod records;
pub mod task;
mod trouble;

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::drive::journal::Journal;
use crate::drive::people::control;
use crate::drive::tokens;
use crate::{Error, Options, Result, Site, wait};
use figures::{Expected, Figures};
use mix::{Shape, Submission, USERS};
use plan::Plan;
use task::RECORDS;
use trouble::Trouble;

/// The options of a site for a soak.
#[must_use]
pub fn options(plan: &Plan, chosen: Options) -> Options {
    Options { nodes: plan.nodes, request_limit: "", ..chosen }
}

/// Runs a soak in a site of [`options`].
///
/// # Errors
/// When the site does not work. Figures that miss their goals are no error.
pub fn run(site: &Site, plan: &Plan) -> Result<Figures> {
    if !site.has_product() || !site.has_testserver() {
        return Err(Error::Refused("the product or the test server is not built; run `make build tools`".into()));
    }
    let mytokens = prepare(site, plan)?;
    let submissions = mix::submissions(plan);
    trouble::set_faults(site, plan)?;
    let course = soak(site, plan, &submissions)?;
    trouble::end_faults(site)?;
    wait_for_end(site, plan)?;

    let mut figures = Figures { clock_jumped: plan.clock_jump != 0, ..Figures::default() };
    let expected: Vec<Expected> = submissions.iter().map(|submission| course.expected(submission)).collect();
    figures.add_records(&records::read(site)?, &expected, course.outage);
    for tag in &figures.lost {
        eprintln!("{tag} is lost:\n{}", records::of_lost(site, tag)?);
    }
    for (kind, waited) in &figures.longest_waits {
        eprintln!("the longest wait for {kind}: {waited:?}\n{}", records::logged(site, waited.from_to)?);
    }
    figures.add_reasons(course.said.iter().chain([&records::printed(site)?]));
    let living = || -> Result<Vec<String>> {
        Ok(mytokens.iter().map(|token| tokens::living_sub_tokens(site, token)).collect::<Result<Vec<_>>>()?.concat())
    };
    // The agents may take their time for what the faults have delayed.
    let settled = wait::until("the end of all sub-tokens", Duration::from_secs(plan.settle.into()), || {
        Ok(living()?.is_empty().then_some(()))
    });
    let alive = match settled {
        Ok(()) => Vec::new(),
        Err(Error::NotReady { .. }) => living()?,
        Err(error) => return Err(error),
    };
    figures.add_sub_tokens(&Journal::read(site)?.each_sub_token(), &alive);
    figures.growth = agents::growth_after(&course.before, site)?;
    figures.files_left = files_left(site)?;
    let out = site.sh("root", "sinfo -h -N -o %T | grep -Ec 'drain|down|fail|unknown'")?.stdout;
    figures.nodes_out = out.trim().parse().unwrap_or(usize::MAX);
    Ok(figures)
}

/// Gives the users a mytoken and a directory for the records. Returns the mytokens.
fn prepare(site: &Site, plan: &Plan) -> Result<Vec<String>> {
    control(site, "/provider/lifetime", Some(&json!({"seconds": plan.lifetime}).to_string()))?;
    let nodes = trouble::with_clock(plan);
    clock::install(site, &nodes.iter().map(String::as_str).collect::<Vec<_>>())?;
    let give = |user: &&str| {
        let mytoken = tokens::mytoken(site, user, &json!({}))?;
        tokens::store(site, user, &mytoken)?;
        site.sh(user, &format!("mkdir {RECORDS}"))?.ok()?;
        Ok(mytoken)
    };
    let mytokens = USERS.iter().map(give).collect::<Result<Vec<_>>>()?;
    Journal::clear(site)?;
    Ok(mytokens)
}

/// A submission that began so many milliseconds before the outage may meet it: it has 10 s for its credential, and the job of a nested
/// one has to begin before.
const MEETS_OUTAGE: u64 = 20_000;

/// What happened while the jobs ran.
#[derive(Debug, Default)]
struct Course {
    /// Unix milliseconds.
    began: u64,
    /// What the agents used before it and after half of it, when they had work to do.
    before: Vec<agents::Reading>,
    /// Begin and end of the outage, Unix milliseconds: as it was, which on a busy machine is later than planned.
    outage: Option<(u64, u64)>,
    /// What sbatch, srun and salloc printed on standard error.
    said: Vec<String>,
}

impl Course {
    fn expected(&self, submission: &Submission) -> Expected {
        let at = self.began.saturating_add(u64::try_from(submission.at.as_millis()).unwrap_or(u64::MAX));
        let meets = |(from, to): (u64, u64)| (from.saturating_sub(MEETS_OUTAGE)..=to).contains(&at);
        let (tag, tasks) = (submission.tag.clone(), submission.tasks());
        Expected { tag, tasks, meets_outage: self.outage.is_some_and(meets) }
    }
}

/// Submits the jobs and makes the trouble, each at its time.
fn soak(site: &Site, plan: &Plan, submissions: &[Submission]) -> Result<Course> {
    let began = Instant::now();
    let limit = Duration::from_secs(u64::from(plan.seconds + plan.settle));
    let failure: Mutex<Option<Error>> = Mutex::default();
    let course = Mutex::new(Course { began: unix_millis(), before: vec![agents::read(site)?], ..Course::default() });
    let with = |change: &dyn Fn(&mut Course)| change(&mut course.lock().unwrap_or_else(PoisonError::into_inner));
    let wait_until = |at: Duration| thread::sleep(at.saturating_sub(began.elapsed()));
    thread::scope(|scope| {
        scope.spawn(|| {
            for (at, trouble) in trouble::of(plan) {
                wait_until(at);
                let begin = unix_millis();
                note(&failure, trouble.make(site));
                match trouble {
                    Trouble::OutageBegins => with(&|course| course.outage = Some((begin, u64::MAX))),
                    Trouble::OutageEnds => with(&|course| {
                        course.outage = course.outage.map(|(begin, _)| (begin, unix_millis()));
                    }),
                    Trouble::Kill(_) | Trouble::ClockJumps(..) => {}
                }
            }
        });
        scope.spawn(|| {
            wait_until(Duration::from_secs(plan.seconds.into()) / 2);
            let used = agents::sample(site);
            note(&failure, used.map(|used| with(&|course| course.before.extend(used.iter().cloned()))));
        });
        for submission in submissions {
            wait_until(submission.at);
            let (failure, with) = (&failure, &with);
            scope.spawn(move || {
                let said = submit(site, submission, limit);
                note(failure, said.map(|said| with(&|course| course.said.push(said.clone()))));
            });
        }
        wait_until(Duration::from_secs(plan.seconds.into()));
    });
    match failure.into_inner().unwrap_or_default() {
        None => Ok(course.into_inner().unwrap_or_default()),
        Some(error) => Err(error),
    }
}

/// Keeps the first failure.
fn note(failure: &Mutex<Option<Error>>, result: Result<()>) {
    if let (Err(error), Ok(mut first)) = (result, failure.lock()) {
        first.get_or_insert(error);
    }
}

/// Submits a job, and returns what the command printed on standard error. A submission that fails is seen later, because its tasks have no
/// records.
fn submit(site: &Site, submission: &Submission, limit: Duration) -> Result<String> {
    let outcome = site.script(submission.user, &submission.command()).timeout(limit).run()?;
    if !outcome.success() {
        eprintln!("{}: status {}: {}", submission.tag, outcome.code, outcome.stderr.trim());
    }
    if submission.shape != Shape::Requeued {
        return Ok(outcome.stderr);
    }
    let Some(id) = outcome.stdout.trim().strip_prefix("Submitted batch job ").map(str::to_owned) else {
        return Ok(outcome.stderr);
    };
    // SLURM-28: Slurm would wait two minutes before the second run.
    let requeue = format!(
        "wait_for() {{ for i in $(seq 300); do squeue -h -j {id} -t $1 -o %i | grep -q . && return; sleep 0.1; done; return 1; }}
         wait_for R && sleep 2 && scontrol requeue {id} && wait_for PD && sleep 2 && scontrol update jobid={id} starttime=now"
    );
    let requeued = site.sh("root", &requeue)?;
    if !requeued.success() {
        eprintln!("{}: it was not requeued: {}", submission.tag, requeued.stderr.trim());
    }
    Ok(outcome.stderr)
}

/// Waits until the queue is empty. Jobs that take longer have no end in their records, so they count as lost.
fn wait_for_end(site: &Site, plan: &Plan) -> Result<()> {
    let limit = Duration::from_secs(u64::from(plan.settle) + 60);
    match site.wait_for("the end of all jobs", limit, "root", "sleep 0.5; test -z \"$(squeue -h)\"") {
        Err(Error::NotReady { .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// Number of files and directories below the directories of jobs, on all nodes.
fn files_left(site: &Site) -> Result<usize> {
    let mut count = 0;
    for node in site.nodes() {
        count += site.on_node(&node, "find /run/mytoken/jobs -mindepth 1")?.stdout.lines().count();
    }
    Ok(count)
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
