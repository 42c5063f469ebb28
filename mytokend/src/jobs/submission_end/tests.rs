// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn held(jobs: &[u32], leader: u32) -> HeldSubmission {
    HeldSubmission { jobs: jobs.iter().copied().collect(), leaders: [leader].into(), ..HeldSubmission::default() }
}

/// After each submission of these tests.
const LATE: u64 = 100_000;

fn revoke(rank: u32) -> EndDecision {
    EndDecision::Revoke { rank }
}

/// Lines `job shown state nodes`, submitted at 50 by a batch script on the first node.
fn squeue(lines: &[(u32, &str, &str, &str)]) -> String {
    let line = |(job, shown, state, nodes): &(u32, &str, &str, &str)| {
        let first = host_list::first(nodes).unwrap_or_else(|| "n/a".to_owned());
        format!("{job}|{shown}|{state}|50|60|{nodes}|{first}\n")
    };
    lines.iter().map(line).collect()
}

#[test]
fn the_state_of_a_single_job_decides() {
    for (state, nodes, expected) in [
        ("COMPLETED", "n[1-3]", revoke(0)),
        ("CANCELLED", "n1", revoke(0)),
        ("TIMEOUT", "n[0-2]", revoke(1)),
        ("TIMEOUT", "n0,m1,n1", revoke(2)),
        ("TIMEOUT", "n[00-20],n1", EndDecision::Leave),
        // Agent and slurmd have different names.
        ("TIMEOUT", "m[0-2]", revoke(2)),
        ("FAILED", "", revoke(0)),
        ("COMPLETING", "n1", EndDecision::Undecided),
        ("RUNNING", "n1", EndDecision::Continues),
        ("SUSPENDED", "n1", EndDecision::Continues),
        ("SOMETHING_NEW", "n1", EndDecision::Continues),
        ("PENDING", "", EndDecision::Requeued),
        ("REQUEUE_HOLD", "", EndDecision::Requeued),
        ("SPECIAL_EXIT", "", EndDecision::Requeued),
    ] {
        let output = squeue(&[(4711, "4711", state, nodes)]);
        assert_eq!(decide_end(&output, &held(&[4711], 4711), "n1", LATE).0, expected, "{output}");
    }
    for (output, expected) in
        [("", revoke(0)), ("no table", EndDecision::Undecided), ("5|5|RUNNING|1|N/A|n1|n1", revoke(0))]
    {
        assert_eq!(decide_end(output, &held(&[4711], 4711), "n9", LATE).0, expected, "{output}");
    }
}

#[test]
fn an_array_is_final_with_its_last_task() {
    use EndDecision::{Continues, Requeued, Undecided};
    for (lines, expected) in [
        (
            &[(10, "10_3", "COMPLETED", "n1"), (11, "10_1", "COMPLETED", "n2"), (12, "10_2", "FAILED", "n3")][..],
            revoke(0),
        ),
        (&[(11, "10_1", "COMPLETED", "n1"), (12, "10_2", "RUNNING", "n2")], Continues),
        (&[(10, "10_[2-9%2]", "PENDING", ""), (11, "10_1", "COMPLETED", "n1")], Continues),
        (&[(10, "10_[2-9]", "CANCELLED", ""), (11, "10_1", "COMPLETED", "n1")], revoke(0)),
        (&[(11, "10_1", "COMPLETED", "n1"), (12, "10_2", "COMPLETING", "n2")], Undecided),
        (&[(11, "10_1", "PENDING", ""), (12, "10_2", "RUNNING", "n2")], Requeued),
        // slurmctld has forgotten the task of this node; the nodes of the last tasks revoke.
        (&[(12, "10_2", "COMPLETED", "n2")], EndDecision::Leave),
        // Another array, and a job that mentions the id only in its name, do not count.
        (&[(11, "10_1", "COMPLETED", "n1"), (21, "20_1", "RUNNING", "n1")], revoke(0)),
    ] {
        let output = squeue(lines);
        assert_eq!(decide_end(&output, &held(&[11], 10), "n1", LATE).0, expected, "{output}");
    }
}

#[test]
fn a_heterogeneous_job_is_final_with_all_components() {
    let own = held(&[9], 9);
    let both = squeue(&[(8, "8+0", "RUNNING", "n2"), (9, "8+1", "CANCELLED", "n1")]);
    assert_eq!(decide_end(&both, &own, "n1", LATE), (EndDecision::Continues, [8, 9].into()));
    let leader_only = squeue(&[(8, "8+0", "RUNNING", "n2")]);
    let told = HeldSubmission { leaders: [8, 9].into(), ..own };
    assert_eq!(decide_end(&leader_only, &told, "n1", LATE).0, EndDecision::Continues, "slurmctld has forgotten 8+1");
    let ended = squeue(&[(8, "8+0", "COMPLETED", "n2"), (9, "8+1", "CANCELLED", "n1")]);
    assert_eq!(
        (decide_end(&ended, &told, "n2", LATE).0, decide_end(&ended, &told, "n1", LATE).0),
        (revoke(0), revoke(1))
    );
}

#[test]
fn the_components_of_a_heterogeneous_job_revoke_one_after_the_other() {
    let row = |job: u32, nodes: &'static str| {
        let shown: &'static str = ["8+0", "8+1", "8+2", "8+3", "8+4"][job as usize - 8];
        (job, shown, "COMPLETED", nodes)
    };
    let five = squeue(&[row(8, "n1"), row(9, "n2"), row(10, "n3"), row(11, "n4"), row(12, "n5")]);
    let on = |output: &str, job, node, followed| {
        decide_end(output, &HeldSubmission { followed, ..held(&[job], 8) }, node, LATE).0
    };
    for (job, node, alone, followed) in [
        (8, "n1", revoke(0), revoke(0)),
        (9, "n2", revoke(1), revoke(1)),
        (10, "n3", revoke(2), EndDecision::Leave),
        (11, "n4", EndDecision::Leave, EndDecision::Leave),
        (12, "n5", EndDecision::Leave, EndDecision::Leave),
    ] {
        assert_eq!((on(&five, job, node, false), on(&five, job, node, true)), (alone, followed), "{node}");
    }
    let wide = squeue(&[row(8, "n[1-2]"), row(9, "n[2-9]"), row(10, "m[1-4]")]);
    for (job, node, expected) in [
        (8, "n1", revoke(0)),
        (8, "n2", revoke(1)),
        (9, "n3", revoke(2)),
        (9, "n4", EndDecision::Leave),
        (10, "m1", EndDecision::Leave),
    ] {
        assert_eq!(on(&wide, job, node, false), expected, "{node}");
    }
}

#[test]
fn the_host_of_the_job_that_ended_last_revokes_first() {
    let output = "8|8+1|CANCELLED|50|55|n2|n2\n9|8+0|COMPLETED|50|70|n1|n1\n";
    let own = HeldSubmission { leaders: [8].into(), ..held(&[9], 8) };
    assert_eq!(decide_end(output, &own, "n1", LATE).0, revoke(0), "no script ran on n2");
    let array = "11|10_1|COMPLETED|50|61|n1|n1\n12|10_2|COMPLETED|50|63|n2|n2\n13|10_3|COMPLETED|50|62|n3|n3\n";
    let on = |node, job| decide_end(array, &held(&[job], 10), node, LATE).0;
    assert_eq!((on("n2", 12), on("n3", 13), on("n1", 11)), (revoke(0), revoke(1), revoke(2)));
}

#[test]
fn a_requeued_job_is_known_by_its_leader_although_its_time_of_submission_is_new() {
    let before = "7|7|RUNNING|45|N/A|n1|n1\n";
    let requeued = "7|7|PENDING|999|N/A||n/a\n";
    let time = SubmissionTime { made: 160, begin: 40, end: 400, single: false };
    let (_, progress, leaders) = super::follow(before, time, &BTreeSet::new(), Progress::Waiting, 50);
    let (decision, ..) = super::follow(requeued, time, &leaders, progress, 1_000);
    assert_eq!(decision, FollowDecision::Wait);
    let shared = HeldSubmission { submitted: Some((40, 60)), complete: true, ..held(&[6], 6) };
    let (_, leaders) = decide_end(&format!("6|6|COMPLETED|44|45|n2|n2\n{before}"), &shared, "n2", LATE);
    let shared = HeldSubmission { leaders, ..shared };
    assert_eq!(decide_end(requeued, &shared, "n2", LATE).0, EndDecision::Continues);
}

#[test]
fn a_requeued_job_is_known_by_its_number_between_those_of_its_loop() {
    let shared = HeldSubmission { submitted: Some((40, 60)), complete: true, ..held(&[6], 6) };
    let ended = "6|6|COMPLETED|44|45|n1|n1\n9|9|COMPLETED|48|49|n2|n2\n";
    for (requeued, expected) in [
        ("8|8|PENDING|999|N/A||n/a\n", EndDecision::Continues),
        // A task of an array has a number of the time when it starts.
        ("90|8_1|PENDING|999|N/A||n/a\n", EndDecision::Continues),
        ("10|10|PENDING|999|N/A||n/a\n", revoke(0)),
        ("5|5|PENDING|999|N/A||n/a\n", revoke(0)),
    ] {
        assert_eq!(decide_end(&format!("{ended}{requeued}"), &shared, "n2", LATE).0, expected, "{requeued}");
    }
    let own = format!("{ended}8|8|PENDING|999|N/A||n/a\n");
    assert_eq!(decide_end(&own, &held(&[6], 6), "n1", LATE).0, revoke(0), "nothing is shared");
}

#[test]
fn a_requeued_job_is_known_by_its_new_time_at_the_first_question_after_its_loop() {
    let requeued = "6|6|COMPLETED|44|45|n1|n1\n10|10|PENDING|999|N/A||n/a\n";
    let first = HeldSubmission { submitted: Some((40, 60)), ..held(&[6], 6) };
    let (decision, leaders) = decide_end(requeued, &first, "n1", 1_000);
    assert_eq!((decision, &leaders), (EndDecision::Continues, &[6, 10].into()));
    // What is submitted after that question has a credential of its own.
    let later = HeldSubmission { complete: true, leaders, ..first };
    let others = "6|6|COMPLETED|44|45|n1|n1\n10|10|COMPLETED|999|1000|n2|n2\n11|11|PENDING|1001|N/A||n/a\n";
    assert_eq!(decide_end(others, &later, "n2", 1_010).0, revoke(0));
}

#[test]
fn a_shared_credential_is_not_left_to_the_node_of_a_job_that_may_not_have_it() {
    // slurmctld has forgotten job 6, which ran here. Job 7 was submitted in the same minute.
    let output = "7|7|COMPLETED|45|46|n2|n2\n";
    let mut shared = HeldSubmission { submitted: Some((40, 60)), complete: true, ..held(&[6], 6) };
    shared.known.remember_own(6, "n1", "n1", true);
    for (followed, expected) in [(false, revoke(1)), (true, EndDecision::Leave)] {
        let shared = HeldSubmission { followed, ..shared.clone() };
        assert_eq!(decide_end(output, &shared, "n1", LATE).0, expected, "{followed}");
    }
}

#[test]
fn a_shared_credential_is_not_revoked_while_others_may_still_take_it() {
    let shared = HeldSubmission { submitted: Some((40, 60)), complete: true, ..held(&[7], 7) };
    let ended = "7|7|COMPLETED|41|42|n1|n1";
    for (now, expected) in [(43, EndDecision::Continues), (60, EndDecision::Continues), (61, revoke(0))] {
        assert_eq!(decide_end(ended, &shared, "n1", now).0, expected, "{now}");
    }
}

#[test]
fn a_shared_credential_is_final_with_all_jobs_of_its_time() {
    let shared = HeldSubmission { submitted: Some((40, 60)), complete: true, ..held(&[7], 7) };
    let output = |time| format!("7|7|COMPLETED|45|46|n1|n1\n8|8|PENDING|{time}|N/A||n/a\n");
    for (time, expected) in [
        ("39", revoke(0)),
        ("40", EndDecision::Continues),
        ("60", EndDecision::Continues),
        ("61", revoke(0)),
        ("?", EndDecision::Continues),
    ] {
        assert_eq!(decide_end(&output(time), &shared, "n1", LATE).0, expected, "{time}");
    }
}

#[test]
fn the_nodes_of_an_allocation_without_batch_script_revoke_in_their_order() {
    let on = |batch_host, node| {
        decide_end(&format!("7|7|COMPLETED|50|60|n[1-9]|{batch_host}"), &held(&[7], 7), node, LATE).0
    };
    assert_eq!((on("n1", "n1"), on("n3", "n1"), on("n3", "n3")), (revoke(0), revoke(1), revoke(0)));
    assert_eq!((on("login", "n1"), on("login", "n2"), on("login", "n7")), (revoke(0), revoke(1), revoke(6)));
    assert_eq!((on("n1", "n7"), on("a|b", "n3")), (EndDecision::Leave, revoke(2)));
    let followed = HeldSubmission { followed: true, ..held(&[7], 7) };
    let output = "7|7|COMPLETED|50|60|n[1-9]|login";
    let followed_on = |node| decide_end(output, &followed, node, LATE).0;
    assert_eq!((followed_on("n1"), followed_on("n2"), followed_on("n3")), (revoke(0), revoke(1), EndDecision::Leave));
}

#[test]
fn a_job_is_gone_when_it_is_final_queued_or_forgotten() {
    let output = squeue(&[
        (1, "1", "RUNNING", "n1"),
        (2, "2", "COMPLETED", "n1"),
        (3, "3", "PENDING", ""),
        (4, "4", "COMPLETING", "n1"),
    ]);
    assert_eq!(gone(&output, &[1, 2, 3, 4, 5].into()), [2, 3, 5]);
    assert!(gone("an error", &[1].into()).is_empty());
    assert!(shows(&output, &held(&[9, 1], 9)) && shows(&output, &held(&[9], 3)));
    assert!(!shows(&output, &held(&[9], 9)) && !shows("", &held(&[1], 1)));
}

#[test]
fn a_submission_without_a_job_is_revoked_by_its_own_host() {
    use FollowDecision::{HasRun, Revoke, RevokeLast, Wait};
    use Progress::{Assigned, Nothing, Started, Unsure, Waiting};
    let time = (40, 400);
    // One submission, made at 120: its only job decides soon.
    let follow = |output: &str, (begin, end), before, now| {
        let time = SubmissionTime { made: begin + 120, begin, end, single: end - begin <= 240 };
        let (decision, progress, _) = follow(output, time, &BTreeSet::new(), before, now);
        (decision, progress)
    };
    let cancelled = "5|5|CANCELLED|121|130||n/a";
    assert_eq!(follow(cancelled, (0, 240), Waiting, 240), (Wait, Waiting), "another job may be the one");
    assert_eq!(follow(cancelled, (0, 240), Waiting, 241), (Revoke, Waiting));
    assert_eq!(follow("", (0, 240), Nothing, 240), (Wait, Nothing));
    // A job that was submitted a minute later is another one, unless there is no earlier one.
    let later = "6|6|RUNNING|181|N/A|n1|n1";
    assert_eq!(follow(&format!("{cancelled}\n{later}"), (0, 240), Waiting, 999), (Wait, Waiting), "it may be the one");
    let ended = later.replace("RUNNING", "COMPLETED");
    assert_eq!(follow(&format!("{cancelled}\n{ended}"), (0, 240), Waiting, 999), (Revoke, Waiting));
    assert_eq!(follow(later, (0, 240), Nothing, 999), (Wait, Assigned));
    for (output, before, now, expected) in [
        // sbatch has not submitted yet, or slurmctld has refused the job.
        ("", Nothing, 400, (Wait, Nothing)),
        ("", Nothing, 401, (Revoke, Nothing)),
        ("5|5|RUNNING|39|60|n1|n1", Nothing, 401, (Revoke, Nothing)),
        // It was requeued before the first answer, or this is another job.
        ("5|5|RUNNING|39|60|n1|n1\n6|6|PENDING|401|N/A||n/a", Nothing, 401, (Wait, Unsure)),
        ("6|6|COMPLETED|500|560|n1|n1", Nothing, 999, (RevokeLast, Unsure)),
        ("5|5|PENDING|50|60||n/a", Nothing, 9_999, (Wait, Waiting)),
        ("5|5|CANCELLED|50|60||n/a", Waiting, 401, (Revoke, Waiting)),
        ("5|5|CANCELLED|50|60||n/a", Waiting, 50, (Wait, Waiting)),
        // slurmctld has forgotten the job.
        ("", Waiting, 401, (Revoke, Waiting)),
        ("", Started, 401, (HasRun, Started)),
        ("", Unsure, 401, (RevokeLast, Unsure)),
        ("5|5|RUNNING|50|60|n[1-2]|n1", Waiting, 401, (Wait, Assigned)),
        ("", Assigned, 401, (RevokeLast, Assigned)),
        ("5|5|COMPLETED|50|60|n1|n1", Started, 401, (HasRun, Started)),
        ("5|5_1|COMPLETED|50|60|n1|n1\n6|5_2|CANCELLED|50|60||n/a", Started, 401, (HasRun, Started)),
        // salloc without a step, a lost node, and a job without this credential at the same time.
        ("5|5|RUNNING|50|60|n1|login", Nothing, 401, (Wait, Assigned)),
        ("5|5|COMPLETED|50|60|n1|login", Unsure, 401, (RevokeLast, Unsure)),
        ("5|5|NODE_FAIL|50|60|n1|n1", Started, 401, (RevokeLast, Unsure)),
        ("5|5|CANCELLED|50|60||n/a\n6|6|COMPLETED|50|60|n1|n1", Started, 401, (RevokeLast, Unsure)),
        ("an error", Waiting, 401, (Wait, Waiting)),
    ] {
        assert_eq!(follow(output, time, before, now), expected, "{output} {before:?} {now}");
    }
}

#[test]
fn a_job_that_was_ended_before_its_program_began_is_not_left_to_its_nodes() {
    use FollowDecision::{HasRun, RevokeLast, Wait};
    // SLURM-75: the same whether the prolog failed, or was interrupted, or the program ran.
    for (state, expected) in [
        ("CANCELLED", RevokeLast),
        ("LAUNCH_FAILED", RevokeLast),
        ("TIMEOUT", RevokeLast),
        ("PREEMPTED", RevokeLast),
        ("NODE_FAIL", RevokeLast),
        ("COMPLETED", HasRun),
        ("FAILED", HasRun),
        ("OUT_OF_MEMORY", HasRun),
    ] {
        let time = SubmissionTime { made: 160, begin: 40, end: 280, single: true };
        let (mut progress, mut decision, mut leaders) = (Progress::Nothing, Wait, BTreeSet::new());
        for output in
            ["5|5|RUNNING|161|N/A|n1|n1", "5|5|COMPLETING|161|200|n1|n1", &format!("5|5|{state}|161|200|n1|n1")]
        {
            (decision, progress, leaders) = super::follow(output, time, &leaders, progress, 999);
        }
        assert_eq!(decision, expected, "{state}");
    }
    // "launch failed requeued held", and then cancelled.
    let time = SubmissionTime { made: 160, begin: 40, end: 280, single: true };
    let (mut progress, mut leaders) = (Progress::Nothing, BTreeSet::new());
    for (output, expected) in [
        ("5|5|RUNNING|161|N/A|n1|n1", Wait),
        ("5|5|PENDING|300|N/A||n/a", Wait),
        ("5|5|CANCELLED|300|400||n/a", RevokeLast),
    ] {
        let (decision, seen, all) = super::follow(output, time, &leaders, progress, 999);
        assert_eq!(decision, expected, "{output}");
        (progress, leaders) = (seen, all);
    }
}

/// What eight nodes decide about job 7, each with what it knows.
fn eight_nodes(output: &str, known: impl Fn(&str) -> KnownNodes) -> Vec<EndDecision> {
    let on = |number: u32| {
        let node = format!("n{number}");
        decide_end(output, &HeldSubmission { known: known(&node), ..held(&[7], 7) }, &node, LATE).0
    };
    (1..=8).map(on).collect()
}

#[test]
fn one_of_eight_nodes_revokes_first_also_when_slurmctld_does_not_tell_them() {
    use EndDecision::Leave;
    let ended = |list: &'static str, script: &'static str| {
        move |node: &str| {
            let mut known = KnownNodes::default();
            known.remember_own(7, list, node, node == script);
            known
        }
    };
    let all = "n[1-8]";
    let first_three = [revoke(0), revoke(1), revoke(2), Leave, Leave, Leave, Leave, Leave];
    for (output, list, script, expected) in [
        // slurmctld has forgotten the job, or it was cancelled when it was back in the queue.
        ("", all, "n1", first_three),
        ("7|7|CANCELLED|50|60||n/a", all, "n1", first_three),
        ("7|7|CANCELLED|50|60|(null)|n/a", "n[1-3],n[4-8]", "", first_three),
        ("", "n8,n[1-7]", "n8", [revoke(1), revoke(2), Leave, Leave, Leave, Leave, Leave, revoke(0)]),
        // The last run was on another node.
        ("7|7|COMPLETED|50|60|m1|m1", all, "n1", [revoke(1), revoke(2), Leave, Leave, Leave, Leave, Leave, Leave]),
        ("7|7|COMPLETED|50|60|n5|n5", all, "n1", [revoke(1), revoke(2), Leave, Leave, revoke(0), Leave, Leave, Leave]),
        (
            "7|7|COMPLETED|50|60|n[1-8]|n2",
            all,
            "n2",
            [revoke(1), revoke(0), revoke(2), Leave, Leave, Leave, Leave, Leave],
        ),
        // Agent and slurmd have different names, and the list cannot be read.
        ("", "m[1-8]", "", [revoke(2); 8]),
        ("", "n[1-", "", [revoke(0); 8]),
    ] {
        assert_eq!(eight_nodes(output, ended(list, script)), expected, "{output} {list}");
    }
    // --batch: the host of the script is not the first node, and only it knows that.
    let decisions = eight_nodes("", ended(all, "n5"));
    assert_eq!((decisions[0], decisions[4], decisions[7]), (revoke(0), revoke(0), Leave));
}

#[test]
fn two_nodes_revoke_before_the_host_of_the_submission() {
    use EndDecision::Leave;
    let mut known = KnownNodes::default();
    known.remember_own(7, "n[1-4]", "n4", false);
    let followed = HeldSubmission { followed: true, known, ..held(&[7], 7) };
    let on_four = |output: &str, held: &HeldSubmission| {
        ["n1", "n2", "n3", "n4"].map(|node| decide_end(output, held, node, LATE).0)
    };
    let (ended, cancelled) = ("7|7|COMPLETED|50|60|n[1-4]|n1", "7|7|CANCELLED|50|60||n/a");
    let array = "7|7_1|COMPLETED|50|60|n1|n1\n8|7_2|COMPLETED|50|61|n2|n2\n9|7_3|COMPLETED|50|62|n3|n3";
    // An earlier credential of the job was replaced on its nodes, which do not know whether this one is followed.
    let replacing = HeldSubmission { followed: false, replaces: true, ..followed.clone() };
    for (output, held) in [(ended, &followed), (cancelled, &followed), ("", &followed), (ended, &replacing)] {
        assert_eq!(on_four(output, held), [revoke(0), revoke(1), Leave, Leave], "{output}");
    }
    assert_eq!(on_four(array, &followed), [Leave, revoke(1), revoke(0), Leave], "the last tasks come first");
    // Where that host is a node, no other agent follows the submission.
    let here = HeldSubmission { made_here: true, ..followed };
    assert_eq!(on_four(ended, &here), [revoke(0), revoke(1), revoke(2), revoke(2)]);
}

#[test]
fn the_nodes_of_an_array_know_its_first_tasks() {
    let running = "11|10_1|RUNNING|50|60|n1|n1\n12|10_2|RUNNING|50|60|n2|n2\n13|10_3|COMPLETING|50|60|n3|n3\n\
                   14|10_4|RUNNING|50|60|n4|n4\n99|99|RUNNING|50|60|m1|m1\n";
    let on = |job: u32, node: &str| {
        let mut own = held(&[job], 10);
        own.known.remember_own(job, node, node, true);
        // slurmctld forgets one task after the other.
        for output in [running, "14|10_4|RUNNING|50|60|n4|n4\n"] {
            own.known = learn(output, &own);
        }
        decide_end("99|99|RUNNING|50|60|m1|m1", &own, node, LATE).0
    };
    assert_eq!(on(11, "n1"), revoke(0));
    assert_eq!((on(12, "n2"), on(14, "n4")), (revoke(1), revoke(2)));
    assert_eq!((on(13, "n3"), on(15, "n5")), (revoke(2), EndDecision::Leave));
    let mut requeued = held(&[7], 7);
    requeued.known.remember_own(7, "n[1-2]", "n1", true);
    let known = requeued.known.clone();
    assert_eq!(learn("7|7|RUNNING|50|N/A|n9|n9", &requeued), known, "the nodes of its own run stay");
    assert_eq!(learn("an error", &requeued), known);
}
