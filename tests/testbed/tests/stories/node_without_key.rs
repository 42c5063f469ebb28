// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node without the private key of the cluster cannot revoke the sub-token of its job, and can tell that to nobody. The agent of the
//! login host does it.

use std::thread;
use std::time::Duration;

use serde_json::json;
use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::tokens;
use testbed::site::daemon::Daemon;
use testbed::site::services::agent;
use testbed::soak::clock;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

const TIMEOUT: Duration = Duration::from_secs(60);

/// How often the states of the submissions that the agent of the login host follows contain `text`.
fn count_in_states(site: &Site, text: &str) -> Result<usize> {
    let states = site.sh("root", "cat /run/mytoken/state/submission-*.json")?.stdout;
    Ok(states.matches(text).count())
}

/// Submits a job that does nothing on `node`, and waits for its end. Returns the mytoken that its sub-token was made of, too.
fn run_on(site: &Site, node: &str, user: &str) -> Result<(Job, String)> {
    let mytoken = tokens::mytoken(site, user, &json!({}))?;
    site.script(user, "umask 077 && cat >mytoken").stdin(mytoken.as_str()).run()?.ok()?;
    let command = format!("MYTOKEN_FILE=~/mytoken sbatch --mytoken -w {node} -n1 --wrap true");
    let (job, _) = Job::submit(site, user, &command)?;
    job.wait_for_end(site, TIMEOUT)?;
    Ok((job, mytoken))
}

#[test]
fn the_login_host_revokes_what_a_node_without_the_key_cannot() -> Result<()> {
    // Brokers would revoke it. The story asks the server about sub-tokens more often than the limit allows.
    story_with_own_servers(Options { nodes: 2, brokers: 0, request_limit: "", ..Options::new()? }, |site| {
        site.on_node("n1", "mount -t tmpfs -o mode=700 tmpfs /etc/mytoken/keys")?.ok()?;
        site.stop(&agent::name("n1"), "TERM")?;
        site.restart(&agent::name("n1"))?;
        wait::until("the agent of n1", TIMEOUT, || {
            Ok(site.on_node("n1", "mytokenctl status --json")?.success().then_some(()))
        })?;
        clock::start_again(site, "login", 0, Daemon::new("agent", [agent::PROGRAM, "agent"]))?;
        site.wait_for("the agent of the login host", TIMEOUT, "root", "mytokenctl status --json")?;
        Journal::clear(site)?;
        // Of two users: of two submissions of one user at the same time, the agent cannot tell which jobs have run.
        let ((without_key, first), (_, second)) = (run_on(site, "n1", "alice")?, run_on(site, "n2", "bob")?);
        let output = without_key.output(site)?;
        assert!(output.contains("mytoken: no access token"), "{output}");
        let living = |mytoken: &str| -> Result<usize> {
            thread::sleep(Duration::from_secs(1));
            Ok(tokens::living_sub_tokens(site, mytoken)?.len())
        };
        wait::until("the revocation by n2", TIMEOUT, || Ok((living(&second)? == 0).then_some(())))?;
        // Half a minute after a submission, the agent asks slurmctld about it.
        wait::until("what slurmctld said", TIMEOUT, || {
            Ok((count_in_states(site, "\"progress\":\"started\"")? == 2).then_some(()))
        })?;
        // For the agent of the login host time passes faster. A reload makes it look.
        let pass = |seconds: i64| -> Result<()> {
            clock::pass(site, "login", seconds)?;
            site.sh("root", "kill -HUP $(pgrep -of 'mytokend agent$')")?.ok().map(drop)
        };
        pass(300)?;
        wait::until("the end of both submissions", TIMEOUT, || {
            Ok((count_in_states(site, "\"revoke\":")? == 2).then_some(()))
        })?;
        assert_eq!((living(&first)?, Journal::read(site)?.requests_to("revocation")), (1, 1));
        pass(1_800)?;
        wait::until("the last revocations", TIMEOUT, || {
            let asked = Journal::read(site)?.requests_to("revocation");
            Ok((living(&first)? == 0 && asked == 3).then_some(()))
        })?;
        // For one of them a node has asked, too. The server's answer is the same, so nobody tries again.
        let mut revocations: Vec<usize> =
            Journal::read(site)?.each_sub_token().iter().map(|token| token.revocations).collect();
        revocations.sort_unstable();
        assert_eq!(revocations, [1, 2]);
        wait::until("the end of both leases", TIMEOUT, || Ok((count_in_states(site, "\"over\":")? == 2).then_some(())))
    })
}
