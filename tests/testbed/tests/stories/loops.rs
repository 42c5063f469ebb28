// SPDX-License-Identifier: MIT OR Apache-2.0
//! A loop of submissions: from the fifth one on they share a credential. Its jobs have a token, the agents renew it, and it ends with the
//! last of them.

use std::thread;
use std::time::Duration;

use serde_json::json;
use testbed::drive::journal::{Journal, SubToken};
use testbed::drive::people;
use testbed::drive::tokens;
use testbed::site::plan::STATE_DIR;
use testbed::site::services::agent;
use testbed::soak::clock;
use testbed::soak::records::{self, Record};
use testbed::soak::task::RECORDS;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

const NODES: [&str; 2] = ["n1", "n2"];

/// Lifetime of an access token in seconds. The longest job of the loop needs several.
const LIFETIME: u64 = 20;

/// The submissions that have a credential of their own before the loop shares one.
const SINGLE: usize = 3;

/// For so many seconds the loop shares its credential.
const SHARE_FOR: u64 = 60;

/// After [`SHARE_FOR`], a command of the loop may still be submitting for 300 s. So much time passes at once for the agents, and the rest by
/// itself.
const PASSED: i64 = 330;

/// A first token may arrive this much later than the task on a busy machine.
const LATE: Duration = Duration::from_secs(10);

/// The seconds that each job of the loop runs for. The longest ones are of the shared credential.
const JOBS: [u32; 10] = [3, 3, 3, 3, 3, 20, 3, 50, 3, 3];

/// Places in [`JOBS`]: it is requeued, and it waits until it is cancelled.
const REQUEUED: usize = 6;
const CANCELLED: usize = 10;

/// Submits the loop, on both nodes in turn. The ids of the jobs are in `loop.N`.
fn submit() -> String {
    let job = |(number, seconds): (usize, &u32)| {
        let node = if number % 2 == 0 { "n2" } else { "n1" };
        let hold = if number == CANCELLED { "--hold" } else { "" };
        format!(
            "sbatch --parsable --mytoken --requeue {hold} -n1 -w {node} -o /dev/null \
             --wrap 'srun /usr/local/bin/testbed soak-task loop{number} {seconds}' >loop.{number} || exit 1\n"
        )
    };
    (1..).zip(&JOBS).map(job).collect()
}

/// The sub-token that the loop shares.
fn shared(site: &Site) -> Result<Option<SubToken>> {
    Ok(Journal::read(site)?.each_sub_token().into_iter().nth(SINGLE))
}

#[test]
fn the_credential_of_a_loop_is_renewed_and_ends_with_its_last_job() -> Result<()> {
    // The story asks the server about sub-tokens more often than the limit allows. Brokers know other times.
    story_with_own_servers(Options { nodes: 2, brokers: 0, request_limit: "", ..Options::new()? }, |site| {
        let mytoken = tokens::mytoken(site, "alice", &json!({}))?;
        tokens::store(site, "alice", &mytoken)?;
        people::control(site, "/provider/lifetime", Some(&json!({"seconds": LIFETIME}).to_string()))?;
        let share = format!("[submit]\nshare_for = \"{SHARE_FOR}s\"\n");
        site.sh("root", "mkdir -p /etc/mytoken/jobs.d")?.ok()?;
        site.write("/etc/mytoken/jobs.d/share.toml", &share, "0644")?;
        site.sh("alice", &format!("mkdir {RECORDS}"))?.ok()?;
        clock::install(site, &NODES)?;
        for node in NODES {
            wait::until("the agents", Duration::from_secs(60), || {
                Ok(site.on_node(node, "mytokenctl status --json")?.success().then_some(()))
            })?;
        }
        Journal::clear(site)?;

        site.script("alice", &submit()).timeout(Duration::from_secs(120)).run()?.ok()?;
        assert_eq!(Journal::read(site)?.sub_tokens(), SINGLE + 1);
        requeue_and_cancel(site)?;
        site.wait_for("the end of the loop", Duration::from_secs(180), "root", "test -z \"$(squeue -h)\"")?;

        // The others end with their own jobs. Until then the agents have settled what they can.
        wait::until("the end of the others", Duration::from_secs(60), || {
            thread::sleep(Duration::from_secs(1));
            Ok((tokens::living_sub_tokens(site, &mytoken)?.len() == 1).then_some(()))
        })?;
        check_tasks(&records::read(site)?);
        let before = shared(site)?;
        let renewed = before.as_ref().map_or(0, |token| token.access_tokens);
        // One for each node, and the longest job has used at least two more.
        assert!(renewed >= 4, "{before:?}");
        assert_eq!(before.map(|token| token.revocations), Some(0), "a command of the loop may still be submitting");

        // A reload makes an agent look at its plans. It goes on by the server's clock.
        for node in NODES {
            clock::pass(site, node, PASSED)?;
            site.sh("root", &format!("kill -HUP $(cat {STATE_DIR}/pid/{})", agent::name(node)))?.ok()?;
        }
        wait::until("the end of the shared credential", Duration::from_secs(120), || {
            thread::sleep(Duration::from_secs(1));
            Ok(tokens::living_sub_tokens(site, &mytoken)?.is_empty().then_some(()))
        })?;
        // The other node has settled it too, and leaves it to the first one.
        wait::until("what the other node says", Duration::from_secs(60), || {
            let told = |node: &&str| site.on_node(node, "cat /run/mytoken/state/submission-*.json");
            let states = NODES.iter().map(told).collect::<Result<Vec<_>>>()?;
            Ok(states.iter().any(|state| state.stdout.contains("\"revoke\":")).then_some(()))
        })?;
        let all = Journal::read(site)?.each_sub_token();
        let revocations: Vec<usize> = all.iter().map(|token| token.revocations).collect();
        assert_eq!(revocations, [1; SINGLE + 1], "{all:?}");
        Ok(())
    })
}

/// Requeues a job of the loop, and cancels one that waits.
fn requeue_and_cancel(site: &Site) -> Result<()> {
    site.sh("alice", &format!("scancel $(cat loop.{CANCELLED})"))?.ok()?;
    // SLURM-28: Slurm would wait two minutes before the second run.
    let requeue = format!(
        "job=$(cat ~alice/loop.{REQUEUED})
         wait_for() {{ for i in $(seq 300); do squeue -h -j $job -t $1 -o %i | grep -q . && return; sleep 0.1; done; return 1; }}
         wait_for R && sleep 2 && scontrol requeue $job && wait_for PD && sleep 2 && scontrol update jobid=$job starttime=now"
    );
    site.script("root", &requeue).timeout(Duration::from_secs(90)).run()?.ok().map(drop)
}

/// Each task had a token as long as it ran, whichever job of the loop ended before it.
fn check_tasks(records: &[Record]) {
    let without: Vec<&Record> = records.iter().filter(|record| !record.always_has_token(LATE)).collect();
    assert!(without.is_empty(), "{without:?}");
    for number in (1..=JOBS.len()).filter(|number| *number != CANCELLED) {
        let tag = format!("loop{number}");
        let own: Vec<&Record> = records.iter().filter(|record| record.tag == tag).collect();
        let ended = own.iter().filter(|record| record.has_ended()).count();
        let runs = if number == REQUEUED { 2 } else { 1 };
        assert_eq!((own.len(), ended), (runs, 1), "{tag}: {own:?}");
    }
}
