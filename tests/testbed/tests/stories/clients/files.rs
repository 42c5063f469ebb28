// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job with several token files: another service needs another audience.

use serde_json::{Value, json};
use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::{people, tokens};
use testbed::site::servers::AUDIENCE;
use testbed::{Error, Result, Site};

use super::{TIMEOUT, control, sub_tokens_and_revocations};

/// The provider gives tokens for `https://ce.testbed`, and none for `https://tape.testbed`.
const PROFILE: &str = r#"[[profile]]
name = "several"
server = "testbed"
scope = "storage.read"
audience = "AUDIENCE"
files = [
  { name = "ce", scope = "compute.read", audience = "https://ce.testbed" },
  { name = "tape", scope = "storage.read", audience = "https://tape.testbed" },
]
"#;

/// Prints the audiences, waits for a renewal of both files, and for the story.
const JOB: &str = r#"#!/bin/bash
aud() { { cut -d. -f2 "$1" | tr _- /+; echo ==; } | base64 -d 2>/dev/null | jq -r '"\(.aud) \(.scope)"'; }
srun -n2 bash -c 'test "$MYTOKEN_TOKEN_DIR" = "${BEARER_TOKEN_FILE%/*}" && echo directory'
main=$BEARER_TOKEN_FILE ce=$MYTOKEN_TOKEN_DIR/bt_u2001-ce
first=$(cat $main $ce)
aud $main; aud $ce
until ! grep -qF "$(cat $main)" <<<"$first" && ! grep -qF "$(cat $ce)" <<<"$first"; do sleep 0.2; done
echo renewed; touch seen
for try in $(seq 600); do test -e go && break; sleep 0.1; done
"#;

pub fn each_file_has_its_audience_and_a_refused_one_costs_no_other(site: &Site) -> Result<()> {
    control(site, "/provider/policy", &json!({"extra_resources": [AUDIENCE, "https://ce.testbed"]}))?;
    let now = site.sh("root", "date +%s")?.ok()?.stdout.trim().parse::<u64>().unwrap_or_default();
    let clause = json!({"exp": now + 3600, "scope": "openid profile storage.read compute.read"});
    let mytoken = tokens::mytoken(site, "alice", &json!({"restrictions": [clause]}))?;
    site.script("alice", "umask 077 && cat >several").stdin(mytoken.as_str()).run()?.ok()?;
    site.script("alice", "cat >several.sh").stdin(JOB).run()?.ok()?;
    let profile = PROFILE.replace("AUDIENCE", AUDIENCE);
    site.script("root", "mkdir -p /etc/mytoken/jobs.d && cat >/etc/mytoken/jobs.d/several.toml")
        .stdin(profile)
        .run()?
        .ok()?;
    Journal::clear(site)?;
    let (job, told) =
        Job::submit(site, "alice", "MYTOKEN_FILE=~/several sbatch -n2 --mytoken=required:several several.sh")?;
    assert!(!told.stderr.contains("its file"), "{told:?}");
    site.wait_for("the renewal of both files", TIMEOUT, "alice", "test -e seen")?;
    let shown = site.script("alice", &format!("mytokenctl status {0}; echo $?; mytokenctl status {0} --json", job.id));
    let shown = shown.on("n1").run()?.stdout;
    let (screen, json) = shown.split_once("\n3\n").ok_or_else(|| Error::Refused(shown.clone()))?;
    assert!(screen.contains("\n  file ce  access token valid until "), "{screen}");
    assert!(screen.contains("\n  file tape  "), "{screen}");
    let status: Value = serde_json::from_str(json).map_err(|error| Error::Refused(format!("{error}: {json}")))?;
    let word = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(word("/jobs/0/state"), "valid", "{json}");
    assert_eq!((word("/jobs/0/files/0/name"), word("/jobs/0/files/0/state")), ("ce".into(), "valid".into()), "{json}");
    assert_ne!(word("/jobs/0/files/1/state"), "valid", "{json}");
    site.sh("alice", "touch go")?.ok()?;
    job.wait_for_end(site, TIMEOUT)?;
    let output = job.output(site)?;
    let seen: Vec<&str> = output.lines().filter(|line| !line.contains("mytoken: ")).collect();
    let main = format!("{AUDIENCE} storage.read");
    assert_eq!(seen, ["directory", "directory", &main, "https://ce.testbed compute.read", "renewed"], "{output}");
    assert!(output.contains("mytoken: no access token in the file \"tape\": "), "{output}");
    assert!(output.contains("invalid_target"), "the provider's reason: {output}");
    job.wait_until_settled(site, &job.nodes(site)?)?;
    assert_eq!(sub_tokens_and_revocations(site)?, (1, 1));
    outside_slurm(site)?;
    people::control(site, "/clear", Some("{}")).map(drop)
}

/// `mytokenctl run` gives a program the same files.
fn outside_slurm(site: &Site) -> Result<()> {
    Journal::clear(site)?;
    let script = "cd $MYTOKEN_TOKEN_DIR && ls && cut -d. -f2 bt_u2001-ce | tr _- /+ | sed s/$/==/ | base64 -d 2>/dev/null | jq -r .aud";
    site.script("alice", "cat >outside").stdin(script).run()?.ok()?;
    let ended =
        site.script("alice", "MYTOKEN_FILE=~/several mytokenctl run --profile several -- bash ./outside").run()?;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "bt_u2001\nbt_u2001-ce\nhttps://ce.testbed\n"), "{ended:?}");
    assert!(ended.stderr.starts_with("mytokenctl: no access token in the file \"tape\": "), "{ended:?}");
    assert_eq!(sub_tokens_and_revocations(site)?, (1, 1));
    assert!(!site.sh("root", "ls -d /tmp/mytoken-run-*")?.success(), "its directory is gone");
    Ok(())
}
