// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of a node's agent with a thousand jobs.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::amount::Amount;
use super::figure::Figure;
use super::tokens::MYTOKEN;
use crate::error::WithContext;
use crate::site::plan::{STATE_DIR, TESTBED_INSIDE};
use crate::site::services::agent;
use crate::site::users::USERS;
use crate::{Error, Result, Site};

const NODE: &str = "n4";
const SOCKET: &str = "/run/mytoken/agent.sock";
const SUBMIT: &str = "/usr/libexec/mytoken/mytoken-submit --profile default --context sbatch";
/// The first invented job id. Real job ids of the site are smaller.
const FIRST_JOB: usize = 5_000_001;
/// Number of jobs, each with its own credential.
const JOBS: usize = 1000;

/// Measures the memory of an agent that has the tokens of these jobs.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let jobs = amount.scale(JOBS);
    let before = read_rss(site)?;
    // The program's line is longer than an atomic write to a pipe, so the submissions run one after another.
    let submit = format!("for i in $(seq {jobs}); do MYTOKEN_FILE={MYTOKEN} {SUBMIT} || exit 1; done");
    let sealed = site.script("alice", &submit).timeout(Duration::from_secs(180)).run()?.ok()?.stdout;
    let start = site.command("root", [TESTBED_INSIDE, "job-starts"]).on(NODE).stdin(sealed);
    start.timeout(Duration::from_secs(120)).run()?.ok()?;
    let all = format!("test $(ls /run/mytoken/jobs/*/bt_u* | wc -l) -eq {jobs}");
    crate::wait::until("the access tokens of all jobs", Duration::from_secs(60), || {
        Ok(site.on_node(NODE, &all)?.success().then_some(()))
    })?;
    let after = read_rss(site)?;
    // Slurm does not know these jobs. The agent would soon query each of them, so it is stopped.
    site.stop(&agent::name(NODE), "KILL")?;
    let note = format!(
        "VmRSS of an agent with {jobs} jobs, each with a sealed credential and an access token; baseline: the agent before the first job"
    );
    Ok(vec![Figure::value("agent_rss_kib_1000_jobs", after, "KiB", 16_384.0, &note).with_baseline(before)])
}

fn read_rss(site: &Site) -> Result<f64> {
    read_memory(site, &agent::name(NODE), "VmRSS")
}

/// A line of `/proc/PID/status` of a daemon, in KiB.
pub(super) fn read_memory(site: &Site, daemon: &str, name: &str) -> Result<f64> {
    let line = format!("grep {name}: /proc/$(cat {STATE_DIR}/pid/{daemon})/status");
    let output = site.sh("root", &line)?.ok()?.stdout;
    let kib = output.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    kib.ok_or_else(|| Error::Refused(format!("cannot read {name} of {daemon} from \"{output}\"")))
}

/// `testbed job-starts`: for each line of `mytoken-submit` on standard input, reports the start of a job of alice to
/// this node's agent.
///
/// # Errors
/// When the agent does not answer or refuses a job.
pub fn start_jobs() -> Result<()> {
    let (uid, lines) = (USERS.first().map_or(0, |alice| alice.uid), io::stdin().lock().lines());
    for (number, line) in lines.enumerate() {
        let submission: Value = parse(&line.with_context(|| "reading the credentials".into())?)?;
        let request = json!({
            "v": 1, "call": "job_start", "job": FIRST_JOB + number, "step": 0, "uid": uid, "gid": uid,
            "sealed": submission.get("sealed"), "handle": submission.get("handle"),
        });
        let answer = call_agent(&request)?;
        let state = answer.pointer("/started/state").and_then(Value::as_str);
        if !matches!(state, Some("ready" | "pending")) {
            return Err(Error::Refused(format!("the agent answered {answer}")));
        }
    }
    Ok(())
}

fn call_agent(request: &Value) -> Result<Value> {
    let exchange = || -> io::Result<String> {
        let mut stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        writeln!(stream, "{request}")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    parse(&exchange().with_context(|| format!("calling the agent at {SOCKET}"))?)
}

fn parse(line: &str) -> Result<Value> {
    // The message may contain the line: mytoken-submit prints only ciphertext.
    serde_json::from_str(line).map_err(|error| Error::Refused(format!("\"{line}\" is not JSON: {error}")))
}
