// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clocks of slurmctld, of the mytoken server and of this host differ, or sbatch takes long.

use std::time::Duration;

use mytoken_wire::agent::Submitted;

use crate::harness::{NOW, SETTLE, TestAgent};
use crate::submission::{minutes, submitted};

const YEAR: i64 = 366 * 86_400;

/// slurmctld shows one job of this state, submitted at `time` by its clock.
fn shows(agent: &TestAgent, state: &str, time: u64) {
    agent.services.with(|script| script.squeue = Some(format!("9|9|{state}|{time}|N/A||n/a\n")));
}

/// slurmctld's clock is ahead of the true time by this number of seconds.
fn slurmctld_ahead(agent: &TestAgent, seconds: i64) {
    agent.services.with(|script| script.slurmctld = Some((agent.clock.clone(), seconds)));
}

/// A job of the submission waits, submitted at `time` by slurmctld's clock, and its sub-token is revoked when it is cancelled.
fn is_kept_for_a_job_of(agent: &TestAgent, time: u64, what: &str) {
    shows(agent, "PENDING", time);
    minutes(agent, 60);
    assert_eq!(agent.revoked(), 0, "{what}: its job waits");
    shows(agent, "CANCELLED", time);
    minutes(agent, 10);
    assert_eq!(agent.revoked(), 1, "{what}: its job was cancelled");
}

#[test]
fn a_job_is_found_by_slurmctlds_clock() {
    for seconds in [0, 150, -150, 300, -300, YEAR, -YEAR] {
        let agent = TestAgent::new();
        slurmctld_ahead(&agent, seconds);
        agent.ask(&submitted()).unwrap();
        is_kept_for_a_job_of(&agent, (NOW + 1).saturating_add_signed(seconds), &seconds.to_string());
    }
}

#[test]
fn a_job_is_found_after_this_hosts_clock_was_set() {
    for seconds in [3_600, -3_600] {
        let mut agent = TestAgent::new();
        agent.ask(&submitted()).unwrap();
        agent.set_clock(seconds);
        // Also while no agent runs.
        agent.end();
        agent.set_clock_unseen(seconds);
        agent.begin();
        is_kept_for_a_job_of(&agent, NOW + 1, &seconds.to_string());
    }
}

#[test]
fn a_job_that_is_not_there_is_noticed_by_slurmctlds_clock() {
    for seconds in [300, -300] {
        let agent = TestAgent::new();
        slurmctld_ahead(&agent, seconds);
        // A job of another submission, ten minutes earlier.
        shows(&agent, "PENDING", (NOW - 600).saturating_add_signed(seconds));
        agent.ask(&submitted()).unwrap();
        minutes(&agent, 7);
        assert_eq!(agent.revoked(), 1, "{seconds}");
    }
}

#[test]
fn the_life_of_a_sub_token_counts_from_the_submission() {
    for seconds in [0, YEAR, -YEAR] {
        // Times of the mytoken server, whose clock nobody has told this agent.
        let made = NOW.saturating_add_signed(seconds);
        let agent = TestAgent::new();
        shows(&agent, "PENDING", NOW + 1);
        agent.ask(&Submitted { made, exp: made + 86_400, ..submitted() }).unwrap();
        is_kept_for_a_job_of(&agent, NOW + 1, &seconds.to_string());
        let expiring = TestAgent::new();
        shows(&expiring, "PENDING", NOW + 1);
        expiring.ask(&Submitted { made, exp: made + 300, ..submitted() }).unwrap();
        minutes(&expiring, 4);
        let before = expiring.queries();
        shows(&expiring, "CANCELLED", NOW + 1);
        minutes(&expiring, 60);
        assert_eq!((expiring.revoked(), expiring.queries() - before <= 1), (0, true), "{seconds}: it has expired");
    }
}

#[test]
fn sbatch_that_tries_again_for_minutes_still_submits_its_job() {
    for ends_before_the_question in [true, false] {
        let agent = TestAgent::new();
        let sbatch = agent.processes.start();
        agent.squeue_prints(&[]);
        agent.ask(&Submitted { command: Some(sbatch), ..submitted() }).unwrap();
        minutes(&agent, 20);
        assert_eq!(agent.revoked(), 0, "it may still submit");
        if ends_before_the_question {
            agent.processes.end(sbatch);
        }
        is_kept_for_a_job_of(&agent, NOW + 20 * 60, &ends_before_the_question.to_string());
    }
}

#[test]
fn a_submission_whose_command_has_ended_without_a_job_is_revoked() {
    let agent = TestAgent::new();
    let sbatch = agent.processes.start();
    agent.squeue_prints(&[]);
    agent.ask(&Submitted { command: Some(sbatch), ..submitted() }).unwrap();
    minutes(&agent, 10);
    assert_eq!(agent.revoked(), 0);
    agent.processes.end(sbatch);
    minutes(&agent, 9);
    assert_eq!(agent.revoked(), 1);
    // salloc lives as long as its job.
    let agent = TestAgent::new();
    let salloc = agent.processes.start();
    agent.squeue_prints(&[]);
    agent.ask(&Submitted { command: Some(salloc), ..submitted() }).unwrap();
    shows(&agent, "PENDING", NOW + 3_600);
    minutes(&agent, 40);
    assert_eq!(agent.revoked(), 1, "a job of the next hour is another one");
}

#[test]
fn while_slurmctld_does_not_tell_its_time_nothing_is_revoked_for_an_hour() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[]);
    agent.services.with(|script| script.slurmctld = None);
    agent.ask(&submitted()).unwrap();
    minutes(&agent, 60);
    assert_eq!(agent.revoked(), 0);
    minutes(&agent, 10);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn jobs_that_share_a_credential_are_found_by_slurmctlds_clock() {
    for (here, slurmctld) in [(0, 0), (0, 300), (0, -300), (300, 0), (-300, 0), (-YEAR, YEAR)] {
        let agent = TestAgent::new();
        agent.services.with(|script| script.server_clock = Some(agent.clock.clone()));
        agent.set_clock(here);
        slurmctld_ahead(&agent, slurmctld);
        let at = |seconds: i64| (NOW + 3).saturating_add_signed(seconds + slurmctld);
        let own = format!("7|7|COMPLETED|{}|{}|n1|n1\n", at(0), at(1));
        let squeue = |other: &str| agent.services.with(|script| script.squeue = Some(format!("{own}{other}\n")));
        let other = |state: &str| format!("8|8|{state}|{}|N/A||n/a", at(40));
        agent.start(7, "shared");
        squeue("");
        agent.finish(7);
        agent.advance(SETTLE);
        agent.advance(Duration::from_secs(50));
        assert_eq!(agent.revoked(), 0, "{here} {slurmctld}: another job may take it");
        squeue(&other("PENDING"));
        minutes(&agent, 60);
        assert_eq!(agent.revoked(), 0, "{here} {slurmctld}: another job has it");
        squeue(&other("CANCELLED"));
        minutes(&agent, 10);
        assert_eq!(agent.revoked(), 1, "{here} {slurmctld}");
    }
}

/// Job 7 of a loop has ended here at once; the last command of the loop submits job 8 after `seconds`.
fn last_job_comes(agent: &TestAgent, seconds: u64, state: &str) {
    let own = format!("7|7|COMPLETED|{NOW}|{NOW}|n1|n1\n");
    let squeue = format!("{own}8|8|{state}|{}|N/A||n/a\n", NOW + seconds);
    agent.services.with(|script| script.squeue = Some(if state.is_empty() { own } else { squeue }));
}

#[test]
fn a_node_keeps_a_shared_credential_for_the_last_command_of_a_loop() {
    // `MessageTimeout`, and how long the agent still waits after the usual time.
    for (message_timeout, minutes_longer) in [(None, 0), (Some(60), 13)] {
        let agent = TestAgent::new();
        agent.services.with(|script| script.message_timeout = message_timeout);
        agent.services.with(|script| script.server_clock = Some(agent.clock.clone()));
        agent.start(7, "shared");
        last_job_comes(&agent, 0, "");
        agent.finish(7);
        agent.advance(SETTLE);
        minutes(&agent, minutes_longer);
        assert_eq!(agent.revoked(), 0, "{message_timeout:?}: its last command may still submit");
        if minutes_longer > 0 {
            last_job_comes(&agent, 600, "PENDING");
            minutes(&agent, 60);
            assert_eq!(agent.revoked(), 0, "{message_timeout:?}: the job of the last command waits");
            last_job_comes(&agent, 600, "CANCELLED");
        }
        minutes(&agent, 10);
        assert_eq!(agent.revoked(), 1, "{message_timeout:?}: all have ended");
    }
}

#[test]
fn the_host_of_a_loop_keeps_its_credential_for_the_last_command() {
    for (message_timeout, revoked) in [(None, 1), (Some(60), 0)] {
        let agent = TestAgent::new();
        agent.services.with(|script| script.message_timeout = message_timeout);
        agent.squeue_prints(&[]);
        agent.ask(&Submitted { shared_for: 60, ..submitted() }).unwrap();
        minutes(&agent, 15);
        assert_eq!(agent.revoked(), revoked, "{message_timeout:?}");
        if revoked == 0 {
            is_kept_for_a_job_of(&agent, NOW + 900, "the last command");
        }
    }
}
