// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs with several token files.

use super::agent::FakeAgent;
use super::host::{ALLOCATOR, FakeSubmit, HANDLE, SEALED};
use super::steps::{TASK_REFUSED, TASK_RUNS, with_credential};
use super::submissions::{has_credential, submit};

const DIRECTORY: &str = "/run/mytoken/jobs/4711";

fn started(state: &str, files: &str) -> String {
    format!(
        r#"{{"v":1,"started":{{"path":"{DIRECTORY}/bt_u2001","state":"{state}","required":true,"files":[{files}]}}}}"#
    )
}

#[test]
fn the_directory_of_several_files_has_a_variable() {
    let agent = FakeAgent::answering(Some(&started("ready", r#"{"name":"ce"},{"name":"tape","later":1}"#)));
    let seen = with_credential(&agent, &["job MYTOKEN_TOKEN_DIR /home/alice"]);
    assert!(seen.all_zero() && seen.has(TASK_RUNS) && seen.logs().is_empty(), "{:?}", seen.lines);
    assert_eq!(seen.job("MYTOKEN_TOKEN_DIR"), Some(DIRECTORY));
    assert_eq!(seen.job("BEARER_TOKEN_FILE"), Some("/run/mytoken/jobs/4711/bt_u2001"));
    // An agent of an earlier release knows one file. The submission says that there are several.
    let earlier = FakeAgent::ready();
    assert_eq!(with_credential(&earlier, &[]).job("MYTOKEN_TOKEN_DIR"), None, "a plain profile");
    assert_eq!(with_credential(&earlier, &["job SLURM_MYTOKEN_FILES 1"]).job("MYTOKEN_TOKEN_DIR"), Some(DIRECTORY));
    let down = FakeAgent::down();
    let seen = with_credential(&down, &["job SLURM_MYTOKEN_FILES 1", "arg agent_seconds=1"]);
    let directory = seen.job("MYTOKEN_TOKEN_DIR").unwrap();
    assert!(seen.job("BEARER_TOKEN_FILE").unwrap().starts_with(directory), "{directory}");
}

#[test]
fn a_file_without_token_is_told_and_does_not_stop_a_job_that_requires_its_main_file() {
    let refused = r#"{"name":"ce","reason":"the provider refuses the audience"},{"name":"tape"}"#;
    let line = "error mytoken: no access token in the file \"ce\": the provider refuses the audience";
    let seen = with_credential(&FakeAgent::answering(Some(&started("ready", refused))), &[]);
    assert!(seen.has(TASK_RUNS), "{:?}", seen.lines);
    assert_eq!(seen.logs(), [line]);
    let seen = with_credential(&FakeAgent::answering(Some(&started("failed", refused))), &[]);
    assert!(seen.has(TASK_REFUSED) && seen.logs().contains(&line), "{:?}", seen.lines);
    // Not an answer: a name that could leave the directory.
    let hostile = FakeAgent::answering(Some(&started("ready", r#"{"name":"../x","reason":"y"}"#)));
    let seen = with_credential(&hostile, &["arg agent_seconds=1"]);
    assert_eq!(seen.job("MYTOKEN_TOKEN_DIR"), None);
}

#[test]
fn a_submission_says_that_its_job_has_several_files() {
    let several = FakeSubmit::script(&format!(
        r#"printf '%s\n' '{{"v":1,"sealed":"{SEALED}","handle":"{HANDLE}","several_files":true}}'"#
    ));
    let inherited = [
        "env SLURM_MYTOKEN_FILES 1",
        "env MYTOKEN_TOKEN_DIR /run/mytoken/jobs/1",
        "env BEARER_TOKEN_FILE /run/mytoken/jobs/1/bt_u2001",
    ];
    let seen = submit(ALLOCATOR, &several, &inherited, Some(""));
    assert!(has_credential(&seen));
    assert_eq!((seen.env("SLURM_MYTOKEN_FILES"), seen.env("MYTOKEN_TOKEN_DIR")), (Some("1"), None));
    let seen = submit(ALLOCATOR, &FakeSubmit::good(), &inherited, Some(""));
    assert_eq!((seen.env("SLURM_MYTOKEN_FILES"), seen.env("MYTOKEN_TOKEN_DIR")), (None, None), "one file");
    let own = submit(ALLOCATOR, &FakeSubmit::good(), &["env MYTOKEN_TOKEN_DIR /home/alice"], None);
    assert_eq!(own.env("MYTOKEN_TOKEN_DIR"), Some("/home/alice"));
}
