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
use crate::error::Trying;
use crate::site::plan::{STATE_DIR, TESTBED_INSIDE};
use crate::site::services::agent;
use crate::site::users::USERS;
use crate::{Error, Result, Site};

const NODE: &str = "n4";
const SOCKET: &str = "/run/mytoken/agent.sock";
const SUBMIT: &str = "/usr/libexec/mytoken/mytoken-submit --profile default --context sbatch";
/// Above all job ids of the site.
const FIRST_JOB: usize = 5_000_001;
/// Number of jobs, each with its own credential.
const JOBS: usize = 1000;

/// Measures the memory of an agent that holds the tokens of these jobs.
pub(super) fn memory(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let jobs = amount.of(JOBS);
    let before = resident(site)?;
    // A line of the program is longer than a pipe writes atomically, so they run one after the other.
    let submit = format!("for i in $(seq {jobs}); do MYTOKEN_FILE={MYTOKEN} {SUBMIT} || exit 1; done");
    let sealed = site.script("alice", &submit).timeout(Duration::from_secs(180)).run()?.ok()?.stdout;
    let start = site.command("root", [TESTBED_INSIDE, "job-starts"]).on(NODE).stdin(sealed);
    start.timeout(Duration::from_secs(120)).run()?.ok()?;
    let all = format!("test $(ls /run/mytoken/jobs/*/bt_u* | wc -l) -eq {jobs}");
    crate::wait::until("the access tokens of all jobs", Duration::from_secs(60), || {
        Ok(site.on_node(NODE, &all)?.success().then_some(()))
    })?;
    let after = resident(site)?;
    // Slurm does not know these jobs, and the agent would soon ask about each.
    site.stop(&agent::name(NODE), "KILL")?;
    let note = format!(
        "VmRSS of an agent with {jobs} jobs, each with a sealed credential and an access token; baseline: before the first"
    );
    Ok(vec![Figure::value("agent_rss_kib_1000_jobs", after, "KiB", 16_384.0, &note).over(before)])
}

fn resident(site: &Site) -> Result<f64> {
    let line = format!("grep VmRSS: /proc/$(cat {STATE_DIR}/pid/{})/status", agent::name(NODE));
    let said = site.sh("root", &line)?.ok()?.stdout;
    let kib = said.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    kib.ok_or_else(|| Error::Refused(format!("no size of the agent in \"{said}\"")))
}

/// `testbed job-starts`: reports the start of a job of alice to this node's agent for each line of `mytoken-submit`
/// on standard input.
///
/// # Errors
/// When the agent does not answer or refuses a job.
pub fn start() -> Result<()> {
    let (uid, lines) = (USERS.first().map_or(0, |alice| alice.uid), io::stdin().lock().lines());
    for (number, line) in lines.enumerate() {
        let submission: Value = parsed(&line.trying(|| "reading the credentials".into())?)?;
        let request = json!({
            "v": 1, "call": "job_start", "job": FIRST_JOB + number, "step": 0, "uid": uid, "gid": uid,
            "sealed": submission.get("sealed"), "handle": submission.get("handle"),
        });
        let answer = ask(&request)?;
        let state = answer.pointer("/started/state").and_then(Value::as_str);
        if !matches!(state, Some("ready" | "pending")) {
            return Err(Error::Refused(format!("the agent answers {answer}")));
        }
    }
    Ok(())
}

fn ask(request: &Value) -> Result<Value> {
    let exchange = || -> io::Result<String> {
        let mut stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        writeln!(stream, "{request}")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    parsed(&exchange().trying(|| format!("asking the agent at {SOCKET}"))?)
}

fn parsed(line: &str) -> Result<Value> {
    // A line of mytoken-submit holds ciphertext only.
    serde_json::from_str(line).map_err(|error| Error::Refused(format!("\"{line}\" is no JSON: {error}")))
}
