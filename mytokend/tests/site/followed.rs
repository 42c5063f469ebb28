// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent of the submit host follows submissions, also those that were made while it was away.

use std::fs;

use mytoken::private_files::Owner;
use serde_json::Value;

use crate::harness::{TestSite, eventually, unix_time};

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
