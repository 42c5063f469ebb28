// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent of the submit host follows submissions, also those that were made while it was away.

use std::fs;

use mytoken::private_files::Owner;
use serde_json::Value;

use crate::harness::{TestSite, eventually, unix_time};
use crate::submission_late;

/// The lease of the submission, if the agent follows it.
fn followed(site: &TestSite, handle: &str) -> Option<Value> {
    let record = format!("submission-{}-{handle}.json", Owner::current().uid);
    let bytes = fs::read(site.dir.path().join("run/state").join(record)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[test]
fn an_agent_that_runs_follows_a_submission_before_its_job() {
    let mut site = TestSite::new(60);
    site.log_in();
    site.begin_agent();
    let (sealed, handle) = site.submit();
    assert!(site.open(&sealed).followed);
    eventually("the record", || followed(&site, &handle).is_some());
    eventually("the end of mytoken-submit", || site.submitting().is_empty());
}

/// Runs `mytokenctl attach`. Returns the sealed credential, the handle and what the user is told.
fn attach(site: &TestSite) -> (String, String, String) {
    let output = submission_late::attach(site).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let variable = |name: &str| printed.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let told = String::from_utf8(output.stderr).unwrap();
    (variable("SLURM_MYTOKEN="), variable("SLURM_SPANK_MYTOKEN_H="), told)
}

#[test]
fn what_attach_has_made_is_followed_for_an_hour() {
    let mut site = TestSite::new(60);
    site.log_in();
    let (.., told) = attach(&site);
    assert!(told.contains("no agent of this host follows this credential"), "{told}");
    site.begin_agent();
    let (sealed, handle, told) = attach(&site);
    assert!(told.contains("submit the job until "), "{told}");
    let credential = site.open(&sealed);
    assert_eq!((credential.shared_for, credential.followed), (0, true), "it is for one job");
    eventually("the record", || followed(&site, &handle).is_some());
    let submitted = followed(&site, &handle).unwrap()["submitted"].clone();
    let (begin, end) = (submitted[0].as_u64().unwrap(), submitted[1].as_u64().unwrap());
    assert!((begin + 3_600 + 120..begin + 5_000).contains(&end), "{submitted}");
}

#[test]
fn an_agent_that_is_away_at_a_submission_follows_it_later() {
    let mut site = TestSite::new(60);
    site.log_in();
    site.begin_agent();
    site.end_agent();
    let before = unix_time();
    let (sealed, handle) = site.submit();
    let after = unix_time();
    assert!(!site.open(&sealed).followed, "the nodes do not rely on it");
    assert!(followed(&site, &handle).is_none() && !site.submitting().is_empty());
    std::thread::sleep(std::time::Duration::from_secs(3));
    site.begin_agent();
    eventually("the record", || followed(&site, &handle).is_some());
    // Its job was submitted when the credential was made, not when the agent came back.
    let begin = followed(&site, &handle).unwrap()["submitted"][0].as_u64().unwrap() + 120;
    assert!((before..=after + 1).contains(&begin), "{before} {begin} {after}");
    eventually("the end of mytoken-submit", || site.submitting().is_empty());
}
