// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens for programs that are not made for this product: outside Slurm, by REST, and real clients against real servers.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::drive::jobs::{Calls, Job, calling_script, calls};
use testbed::drive::journal::Journal;
use testbed::drive::{people, tokens};
use testbed::{Error, Options, Release, Result, Site, story_with_own_servers, wait};

mod files;
mod storage;
mod table;
mod tools;

/// How long a story waits for something.
const TIMEOUT: Duration = Duration::from_secs(60);

fn control(site: &Site, path: &str, body: &serde_json::Value) -> Result<()> {
    people::control(site, path, Some(&body.to_string())).map(drop)
}

/// A site with a stored mytoken of alice and an empty journal. Access tokens live `lifetime` seconds.
fn with_alice(options: Options, lifetime: u32, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_with_own_servers(options, |site| {
        control(site, "/provider/lifetime", &json!({"seconds": lifetime}))?;
        tokens::store(site, "alice", &tokens::mytoken(site, "alice", &json!({}))?)?;
        Journal::clear(site)?;
        body(site)
    })
}

/// The numbers of sub-tokens that were made and revoked.
fn sub_tokens_and_revocations(site: &Site) -> Result<(usize, usize)> {
    let journal = Journal::read(site)?;
    Ok((journal.sub_tokens(), journal.granted("revocation")))
}

/// The file of a `mytokenctl run` of alice, and the directory for it.
const RUN_FILES: &str = "ls /tmp/mytoken-run-*/bt_u2001";

#[test]
fn run_keeps_a_token_fresh_and_leaves_nothing_behind() -> Result<()> {
    with_alice(Options { nodes: 1, ..Options::new()? }, 8, |site| {
        let mytoken = tokens::stored(site, "alice")?;
        let script = format!(
            "SLURMD_NODENAME=here; stat -c '%a %U' $BEARER_TOKEN_FILE ${{BEARER_TOKEN_FILE%/*}}; echo ${{BEARER_TOKEN-unset}}\n\
             {}exit 7",
            calling_script(14)
        );
        site.script("alice", "cat >task").stdin(script).run()?.ok()?;
        let ended = site.script("alice", "BEARER_TOKEN=old mytokenctl run -- bash ./task one 'a b'").run()?;
        assert_eq!((ended.code, ended.stderr.as_str()), (7, ""), "{}", ended.stdout);
        assert!(ended.stdout.starts_with("400 alice\n700 alice\nunset\n"), "{}", ended.stdout);
        let reports = calls(&ended.stdout);
        assert!(
            matches!(reports.as_slice(), [Calls { refused: 0, tokens: 3.., .. }]),
            "each call has a valid token: {}",
            ended.stdout
        );
        assert_eq!(sub_tokens_and_revocations(site)?, (1, 1));
        assert!(!site.sh("root", "ls -d /tmp/mytoken-run-*")?.success(), "its directory is gone");
        assert!(tokens::is_valid(site, &mytoken)?, "the mytoken of the store stays");

        an_outage_removes_the_token_at_its_expiry(site)?;

        // A refusal before the start: nothing is started, nothing is left.
        Journal::clear(site)?;
        let refused = site.sh("alice", "mytokenctl run --profile other -- touch started; echo $?; ls started")?;
        assert!(refused.stdout == "125\n" && refused.stderr.contains("no profile \"other\""), "{refused:?}");
        let missing = site.sh("alice", "mytokenctl run -- /no/such/program; echo $?")?;
        assert_eq!(missing.stdout, "127\n", "{missing:?}");
        assert_eq!(sub_tokens_and_revocations(site)?, (1, 1));
        assert!(!site.sh("root", "ls -d /tmp/mytoken-run-*")?.success());
        files::each_file_has_its_audience_and_a_refused_one_costs_no_other(site)
    })
}

/// The file goes at the token's expiry and comes back. Then a signal ends the program, and everything is removed.
fn an_outage_removes_the_token_at_its_expiry(site: &Site) -> Result<()> {
    Journal::clear(site)?;
    let ignores_hup = "trap '' HUP; exec mytokenctl run -- bash -c 'trap \"echo USR1\" USR1; trap \"exit 9\" TERM; while :; do sleep 0.1; done'";
    let running = site.script("alice", ignores_hup).spawn()?;
    site.wait_for("the token of run", TIMEOUT, "root", RUN_FILES)?;
    control(site, "/outage", &json!({"service": "mytoken", "on": true}))?;
    let begin = Instant::now();
    wait::until("the end of the token", TIMEOUT, || Ok((!site.sh("root", RUN_FILES)?.success()).then_some(())))?;
    assert!(begin.elapsed() < Duration::from_secs(25), "a token of 8 s stayed for {:?}", begin.elapsed());
    control(site, "/clear", &json!({}))?;
    site.wait_for("the token after the outage", TIMEOUT, "root", RUN_FILES)?;
    // HUP was ignored by the caller and stays so. The others are for the program.
    let kill = "for signal in HUP USR1 TERM; do pkill -$signal -x mytokenctl; sleep 0.5; done";
    site.sh("root", kill)?.ok()?;
    let ended = running.wait_with_output().map_err(|error| Error::Refused(error.to_string()))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("expired and was removed: ") && said.contains("is there again"), "{said}");
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(9), &b"USR1\n"[..]), "{said}");
    assert_eq!(sub_tokens_and_revocations(site)?, (1, 1));
    Ok(())
}

/// Submits by REST what `attach` printed: slurmrestd runs as the user and knows her by her socket. Prints the job's id. The description of
/// a job has its variables as an object until v0.0.38, and as a list since v0.0.39.
fn rest_submission(release: Release) -> String {
    let (plugins, job) = match release {
        Release::Bookworm => (
            "openapi/v0.0.38",
            r#"mytokenctl attach >attached && printf 'PATH=/usr/bin:/bin\n' >>attached &&
            jq -R 'capture("(?<key>[^=]*)=(?<value>.*)")' attached |
            jq -s --rawfile script job.sh '{job: {name: "rest", tasks: 1, nodes: 2, current_working_directory: "/home/alice",
                environment: from_entries}, script: $script}'"#,
        ),
        _ => (
            "slurmctld",
            r#"mytokenctl attach --json |
            jq --rawfile script job.sh '{job: (. + {name: "rest", tasks: 2, nodes: "2", current_working_directory: "/home/alice",
                environment: (.environment + ["PATH=/usr/bin:/bin"]), script: $script})}'"#,
        ),
    };
    format!(
        r#"set -e -o pipefail
slurmrestd -s {plugins} -a rest_auth/local unix:$HOME/rest.sock >rest.log 2>&1 &
for try in $(seq 600); do test -S rest.sock && break; sleep 0.1; done
ask() {{ curl -sS --max-time 20 --unix-socket rest.sock "$@"; }}
path=$(ask http://localhost/openapi/v3 | jq -r '.paths | keys[]' | grep '^/slurm/.*/job/submit$' | tail -n 1)
{job} >job.json
ask -H 'Content-Type: application/json' --data-binary @job.json "http://localhost$path" >answer.json
kill $! && jq -er '"Submitted batch job \(.job_id)"' answer.json || {{ cat answer.json rest.log >&2; exit 1; }}
"#
    )
}

#[test]
fn a_job_that_is_submitted_by_rest_has_a_token() -> Result<()> {
    with_alice(Options { nodes: 2, data_clients: true, ..Options::new()? }, 3600, |site| {
        let script = format!("#!/bin/bash\nsrun -N2 -n2 {}\n", people::call("-sS -w \"%{http_code}\\n\" -o /dev/null"));
        let script = script.replace("srun -N2 -n2 ", "srun -N2 -n2 bash -c '").trim_end().to_owned() + "'\n";
        site.script("alice", "cat >job.sh").stdin(script).run()?.ok()?;
        let (job, _) = Job::submit(site, "alice", &rest_submission(site.options().release))?;
        job.wait_for_end(site, TIMEOUT)?;
        assert_eq!(job.output(site)?, "200\n200\n");
        job.wait_until_settled(site, &job.nodes(site)?)?;
        assert_eq!(sub_tokens_and_revocations(site)?, (1, 1));
        // Other words for a profile, and a reader that is gone.
        let wrong = site.sh("alice", "mytokenctl attach nothing")?;
        assert!(wrong.code == 1 && wrong.stderr.contains("there is no profile \"nothing\""), "{wrong:?}");
        site.sh("alice", "mytokenctl attach >/dev/full 2>told; test $? = 1 && grep -e 'submit the job until' told")?
            .ok()?;
        // What no job can get is revoked, by a process that outlives the command.
        wait::until("the revocation", TIMEOUT, || Ok((sub_tokens_and_revocations(site)? == (2, 2)).then_some(())))
    })
}
