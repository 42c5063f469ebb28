// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps 3, 4 and 5: a job of one minute with tokens of 15 seconds, what other users can see of its credential, and its
//! end.

use std::time::{Duration, Instant};

use super::Narrator;
use super::history::SubToken;
use crate::drive::jobs::argv_watch;
use crate::drive::people::{self, Session};
use crate::{Error, Result, Site};

/// How long the job's tasks run, in seconds.
const SECONDS: u32 = 60;

/// A running job.
pub(super) struct DemoJob {
    id: String,
    sub_token: Option<SubToken>,
}

fn script() -> String {
    format!(
        r##"#!/bin/bash
#SBATCH --nodes=3 --ntasks-per-node=1 --job-name=data --output=data.out
env | sed 's/^/env: /' > data.env
srun bash -c '
  node=$SLURMD_NODENAME; good=0; bad=0; files=0; last=
  while (( SECONDS < {SECONDS} )); do
    token=$(cat "$BEARER_TOKEN_FILE")
    [[ $token == "$last" ]] || files=$((files+1)); last=$token
    code=$({call})
    if [[ $code == 200 ]]; then good=$((good+1)); else bad=$((bad+1)); echo "$node: HTTP $code after $SECONDS s"; fi
    sleep 2
  done
  echo "$node: $good calls accepted, $bad refused, $files different access tokens"'
"##,
        call = people::call("-s -o /dev/null -w %{http_code} --max-time 10")
    )
}

/// Submits from the session, shows what others see of the running job, and waits for its end.
pub(super) fn run(site: &Site, narrator: &mut Narrator, session: &mut Session) -> Result<DemoJob> {
    narrator.chapter("3. From that session: plain sbatch --mytoken job.sh, on 3 of 4 nodes");
    let short = Duration::from_secs(20);
    session.run(&format!("cat > job.sh <<'END'\n{}END", script()), short)?;
    let submitted = session.run("sbatch --mytoken job.sh", short)?;
    narrator.show("alice@testbed", "sbatch --mytoken job.sh", &submitted);
    let id = submitted.stdout.split_whitespace().last().unwrap_or_default().to_owned();
    if !submitted.success() || id.parse::<u32>().is_err() {
        return Err(Error::Refused(format!("sbatch did not submit: {}", submitted.stdout)));
    }
    site.wait_for("the start of the job", short, "alice", &format!("squeue -h -j {id} -t R -o %N | grep n"))?;
    let started = Instant::now();
    narrator.say(&format!("Its tasks call the resource server every 2 seconds for {SECONDS} seconds."));
    let sub_token = SubToken::find(site, narrator, session)?;
    narrator.check(sub_token.is_some(), "the mytoken server has exactly one sub-token, that of the job");

    narrator.chapter("4. What other users can see meanwhile");
    show_visible_data(site, narrator, &id)?;
    try_stolen_credential(site, narrator)?;

    let rest = Duration::from_secs(u64::from(SECONDS) + 60).saturating_sub(started.elapsed());
    site.wait_for("the end of the job", rest, "alice", &format!("test -z \"$(squeue -h -j {id})\""))?;
    let output = session.run("cat data.out", short)?;
    narrator.show("alice@testbed", "cat data.out", &output);
    let good = output.stdout.lines().filter(|line| line.contains(" calls accepted, 0 refused")).count();
    narrator.check(good == 3, "on each of 3 nodes every call of the job succeeded");
    let renewed = output
        .stdout
        .lines()
        .filter_map(|line| line.split(" different").next()?.rsplit(' ').next()?.parse::<u32>().ok())
        .all(|count| count >= 3);
    narrator.check(good == 3 && renewed, "the agent on each node renewed the access token at least twice");
    Ok(DemoJob { id, sub_token })
}

fn show_visible_data(site: &Site, narrator: &mut Narrator, id: &str) -> Result<()> {
    site.wait_for("the job's environment file", Duration::from_secs(10), "alice", "grep -q SLURM_MYTOKEN= data.env")?;
    let shown = site.sh(
        "alice",
        &format!(
            "scontrol -dd show job {id} | grep -i -e mytoken -e TOKEN -e JobState; grep -e TOKEN -e MYTOKEN data.env"
        ),
    )?;
    narrator.show("alice@testbed", &format!("scontrol -dd show job {id}; env in the job"), &shown);
    let state = site.sh(
        "root",
        "cd \"$(scontrol show config | sed -n 's/^StateSaveLocation *= //p')\"; grep -rlaE 'mt1\\.' . | head; \
         echo \"access tokens or mytokens in clear: $(grep -raoE 'eyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}' . /var/log | wc -l)\"",
    )?;
    narrator.show("root@testbed", "grep for tokens in slurmctld's state and in all logs", &state);
    let clear = state.stdout.contains("in clear: 0");
    // Ciphertext in base64url can contain the beginning of a JWT by chance.
    let is_jwt = |word: &str| word.contains("eyJ") && !word.contains("mt1.");
    narrator.check(
        clear && shown.stdout.contains("SLURM_MYTOKEN=mt1.") && !shown.stdout.split_whitespace().any(is_jwt),
        "scontrol, slurmctld's state, the job's environment and the logs contain only ciphertext",
    );
    let arguments = site.sh("bob", &argv_watch("(( SECONDS < 6 ))"))?;
    narrator.show("bob@testbed", "grep for tokens in /proc/*/cmdline, for 6 seconds", &arguments);
    narrator.check(arguments.stdout.is_empty(), "no command line contains a token while the job makes its calls");
    Ok(())
}

/// bob copies the ciphertext into his own job.
fn try_stolen_credential(site: &Site, narrator: &mut Narrator) -> Result<()> {
    let sealed = site.sh("alice", "sed -n 's/^env: SLURM_MYTOKEN=//p' data.env")?.stdout.trim().to_owned();
    if sealed.is_empty() {
        return Err(Error::Refused("the job's environment has no SLURM_MYTOKEN".into()));
    }
    let command = format!(
        "sbatch --nodes=1 --output=stolen.out --export=ALL,SLURM_MYTOKEN={sealed} --wrap 'cat $BEARER_TOKEN_FILE'"
    );
    let submitted = site.sh("bob", &command)?.ok()?;
    narrator.show("bob@testbed", &command, &submitted);
    let id = submitted.stdout.split_whitespace().last().unwrap_or_default().to_owned();
    site.wait_for(
        "the end of bob's job",
        Duration::from_secs(40),
        "bob",
        &format!("test -z \"$(squeue -h -j {id})\""),
    )?;
    let got = site.sh("bob", "cat stolen.out")?;
    narrator.show("bob@testbed", "cat stolen.out", &got);
    let node = site
        .sh("bob", &format!("scontrol show job {id} | sed -n 's/^ *NodeList=\\(n[0-9]*\\).*/\\1/p'"))?
        .stdout
        .trim()
        .to_owned();
    let status = site.script("bob", &format!("mytokenctl status {id}")).on(&node).run()?;
    narrator.show(&format!("bob@{node}"), &format!("mytokenctl status {id}"), &status);
    narrator.check(
        !got.stdout.contains("eyJ") && status.stdout.contains("copied SLURM_MYTOKEN"),
        "bob copied the ciphertext into his own job: he got no token, and `mytokenctl status` says why",
    );
    Ok(())
}

/// Step 5: shows that nothing of the credential is left.
pub(super) fn end(site: &Site, narrator: &mut Narrator, job: &DemoJob) -> Result<()> {
    narrator.chapter("5. The job has ended");
    let mut left = 0;
    for node in site.nodes() {
        let gone = wait_for_removal(site, &node, &job.id)?;
        left += usize::from(!gone);
        narrator.say(&format!("{node}: /run/mytoken/jobs/{} is {}", job.id, if gone { "gone" } else { "still there" }));
    }
    narrator.check(left == 0, "the job's files are gone on every node");
    let revoked = match &job.sub_token {
        Some(sub_token) => sub_token.is_revoked(site, narrator)?,
        None => false,
    };
    narrator.check(
        revoked,
        "the job's sub-token is revoked: the server granted one revocation and no longer lists the sub-token",
    );
    let node = site
        .sh("alice", &format!("scontrol show job {} | sed -n 's/^ *BatchHost=//p'", job.id))?
        .stdout
        .trim()
        .to_owned();
    if !node.is_empty() {
        let status = site.script("alice", &format!("mytokenctl status {}", job.id)).on(&node).run()?;
        narrator.show(&format!("alice@{node}"), &format!("mytokenctl status {}", job.id), &status);
    }
    Ok(())
}

fn wait_for_removal(site: &Site, node: &str, job: &str) -> Result<bool> {
    for _ in 0..30 {
        if site.on_node(node, &format!("test ! -e /run/mytoken/jobs/{job}"))?.success() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(false)
}
