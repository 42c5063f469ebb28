// SPDX-License-Identifier: MIT OR Apache-2.0
//! A broker with ten thousand nodes: time until a job has its token on all of them, reconnection, memory, requests to the mytoken server.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::agent_load::read_memory;
use super::amount::Amount;
use super::broker_array;
use super::figure::Figure;
use super::tokens::MYTOKEN;
use crate::drive::journal::Journal;
use crate::error::WithContext;
use crate::site::daemon::Daemon;
use crate::site::paths;
use crate::site::services::agent::PROGRAM;
use crate::site::users::USERS;
use crate::{Error, Result, Site};

/// Number of nodes, each with a connection of its own.
const NODES: usize = 10_000;

/// An invented job on all of them.
const JOB: u32 = 5_000_000;

const NAME: &str = "bench-broker";

/// Where it listens.
pub(super) const BROKER: &str = "127.0.0.1:7512";

/// Configuration, register and certificates of this broker.
pub(super) const DIRECTORY: &str = "/etc/mytoken-bench";

/// The program that plays the nodes: `mytokend/examples/broker_load.rs`.
pub(super) const CLIENT: &str = "/usr/local/bin/bench-broker-load";

/// Time limit for one run of the nodes.
pub(super) const LIMIT: Duration = Duration::from_secs(240);

/// What the nodes measured.
#[derive(Deserialize)]
struct Measured {
    failed: usize,
    tokens: usize,
    attempts: usize,
    seconds: f64,
    median_s: f64,
    p99_s: f64,
}

/// Measures a start of a job on all nodes, and that all reconnect to a broker that was restarted.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let nodes = amount.scale(NODES);
    let sealed = prepare(site, nodes)?;
    start(site)?;
    wait(site)?;
    let before = read_memory(site, NAME, "VmRSS")?;

    Journal::clear(site)?;
    let first = run(site, &sealed, "connected")?;
    let (requests, after) = (count_requests(site)?, read_memory(site, NAME, "VmHWM")?);

    let start_note = format!(
        "from the request of a node to its token, for one job on {nodes} connected nodes that ask at the same time; median {:.2} s",
        first.median_s
    );
    let rss_note = format!(
        "largest VmRSS of the broker with {nodes} connections and the start of the job; baseline: without nodes"
    );
    let requests_note =
        format!("requests to the mytoken server for a job that starts on {nodes} nodes, without the one of sbatch");
    let mut figures = vec![
        Figure::value("broker_start_p99_s_10000_nodes", first.p99_s, "s", 2.0, &start_note),
        Figure::value("broker_rss_kib_10000_nodes", after, "KiB", 524_288.0, &rss_note).with_baseline(before),
        Figure::value("upstream_requests_10000_nodes", requests, "requests", 1.0, &requests_note),
    ];
    match reconnect(site, &sealed, nodes) {
        Ok(more) => figures.extend(more),
        Err(error) => eprint!(" the reconnection failed: {error}\n "),
    }
    match broker_array::measure(site, amount) {
        Ok(figure) => figures.push(figure),
        Err(error) => eprint!(" the array failed: {error}\n "),
    }
    site.stop(NAME, "TERM")?;
    Ok(figures)
}

/// Restarts the broker, and lets all nodes connect and ask at once.
fn reconnect(site: &Site, sealed: &str, nodes: usize) -> Result<[Figure; 2]> {
    site.stop(NAME, "TERM")?;
    Journal::clear(site)?;
    site.restart(NAME)?;
    wait(site)?;
    let measured = run(site, sealed, "at-once")?;
    let requests = count_requests(site)?;
    let note = format!(
        "all of {nodes} nodes connect to a broker that was restarted and ask for the token; {} attempts to connect or ask",
        measured.attempts
    );
    let requests_note = "requests to the mytoken server for the reconnection: the new broker has no token";
    Ok([
        Figure::value("broker_reconnect_s_10000_nodes", measured.seconds, "s", 60.0, &note),
        Figure::value("upstream_requests_10000_nodes_reconnect", requests, "requests", 1.0, requests_note),
    ])
}

/// Writes the broker's configuration and the certificates of the nodes. Returns a sealed credential of alice.
fn prepare(site: &Site, nodes: usize) -> Result<String> {
    let built = paths::target().join(paths::product_profile()).join("examples/broker_load");
    let bytes =
        std::fs::read(&built).with_context(|| format!("reading {}; `make bench` builds it", built.display()))?;
    site.script("root", &format!("cat >{CLIENT} && chmod 755 {CLIENT}")).stdin(bytes).run()?.ok()?;
    let uid = USERS.first().map_or(0, |alice| alice.uid);
    let jobs = format!("{uid}|1800000000|{JOB}|{JOB}|RUNNING|1800000000|N/A|n[1-{nodes}]|n1");
    let files = format!(
        r#"set -e; umask 022; rm -rf {DIRECTORY}; cp -r /etc/mytoken {DIRECTORY}; mkdir -p {DIRECTORY}/jobs.d
mytokenctl broker-ca --dir {DIRECTORY}/keys
mkdir -m 755 {DIRECTORY}/state; mkdir -m 700 {DIRECTORY}/state/nodes
echo '{jobs}' >{DIRECTORY}/jobs
cat >{DIRECTORY}/squeue <<'END'
#!/bin/sh
# Each job ends with the mark at the end of the format, which is the last argument.
for format; do :; done
mark=${{format##*|}}
sed "s/$/|$mark/" {DIRECTORY}/jobs
END
chmod 755 {DIRECTORY}/squeue
cat >{DIRECTORY}/jobs.d/bench.toml
{CLIENT} prepare {DIRECTORY}/keys {DIRECTORY}/state {nodes} {DIRECTORY}/nodes.json"#
    );
    let settings = format!(
        r#"[broker]
names = ["127.0.0.1"]
munge = false
ca_file = "{DIRECTORY}/keys/broker-ca.pem"
ca_key_file = "{DIRECTORY}/keys/broker-ca.key"

[agent]
squeue = "{DIRECTORY}/squeue"
"#
    );
    site.script("root", &files).stdin(settings).timeout(LIMIT).run()?.ok()?;
    submit(site)
}

/// Makes the credential of a submission of alice. Returns it sealed.
pub(super) fn submit(site: &Site) -> Result<String> {
    let submit =
        format!("MYTOKEN_FILE={MYTOKEN} /usr/libexec/mytoken/mytoken-submit --profile default --context sbatch");
    let submission: Value = serde_json::from_str(&site.sh("alice", &submit)?.ok()?.stdout).unwrap_or_default();
    let sealed = submission.get("sealed").and_then(Value::as_str);
    sealed.map(str::to_owned).ok_or_else(|| Error::Refused("mytoken-submit printed no sealed credential".into()))
}

fn start(site: &Site) -> Result<()> {
    let (state, runtime) = (format!("{DIRECTORY}/state"), format!("/run/{NAME}"));
    let argv = [
        PROGRAM,
        "broker",
        "--config",
        DIRECTORY,
        "--listen",
        BROKER,
        "--state-dir",
        &state,
        "--runtime-dir",
        &runtime,
        "--stderr",
    ];
    site.start_daemon(Daemon::new(NAME, argv))
}

fn wait(site: &Site) -> Result<()> {
    let listens = format!("timeout 1 bash -c '</dev/tcp/{}'", BROKER.replace(':', "/"));
    site.wait_for_daemon(NAME, None, Duration::from_secs(30), &listens)
}

/// Lets all nodes ask. Each must get the same token.
fn run(site: &Site, sealed: &str, mode: &str) -> Result<Measured> {
    let (uid, job) = (USERS.first().map_or(0, |alice| alice.uid).to_string(), JOB.to_string());
    let (keys, nodes) = (format!("{DIRECTORY}/keys"), format!("{DIRECTORY}/nodes.json"));
    let client = site.command("root", [CLIENT, "run", &keys, &nodes, BROKER, &job, &uid, mode]);
    let output = client.stdin(sealed.to_owned()).timeout(LIMIT).run()?.ok()?.stdout;
    let unreadable = |error| Error::Refused(format!("\"{output}\" of {CLIENT} is not JSON: {error}"));
    let measured: Measured = serde_json::from_str(&output).map_err(unreadable)?;
    if (measured.failed, measured.tokens) != (0, 1) {
        return Err(Error::Refused(format!("not all nodes got the same token: {output}")));
    }
    Ok(measured)
}

/// All requests to the mytoken server but that for its configuration, which a broker reads once.
fn count_requests(site: &Site) -> Result<f64> {
    let journal = Journal::read(site)?;
    let requests = journal.requests().iter().filter(|request| request.endpoint != "discovery").count();
    Ok(f64::from(u32::try_from(requests).unwrap_or(u32::MAX)))
}
