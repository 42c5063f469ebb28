// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides from squeue's output whether a job that has ended on this node is final.
//!
//! The command is `squeue --noheader --states=all --jobs=ID --format=%A|%T|%N|%B` ([`FORMAT`]): job id, state, nodes, batch host.
//! `scontrol show job` is not used, because its output begins with the job's name, which the user chooses (SLURM-25).

use super::host_list;

/// The format for `squeue`: job id, state, nodes, host of the batch script. Users can choose the text of the last field only: for a job of
/// salloc or srun it is the name that the command gave for its own host (SLURM-26).
pub const FORMAT: &str = "%A|%T|%N|%B";

/// What to do with the sub-token of an ended job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndDecision {
    /// The job and all tasks of its array are final, and this node has to revoke the sub-token.
    Revoke,
    /// The job is final, but its first node revokes the sub-token, or other tasks of the array still need it.
    Leave,
    /// The job is back in the queue and needs its credential.
    Requeued,
    /// Ask again later. While the epilog runs, the state is COMPLETING (SLURM-27), also for a job that is requeued afterwards: the flag hides
    /// the state below it.
    Undecided,
}

/// Decides about `job` on the node `node`. `output` is squeue's output about the job, or about the whole array if the job is one of its
/// tasks (SLURM-32). It is `None` if slurmctld does not know the job any more.
#[must_use]
pub fn decide_end(output: Option<&str>, job: u32, node: &str) -> EndDecision {
    // slurmctld forgets a job some minutes after its end (MinJobAge). The first node is then unknown, and a second revocation does no harm.
    let Some(output) = output else { return EndDecision::Revoke };
    let mut own = None;
    let mut others = EndDecision::Revoke;
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        let mut fields = line.trim().splitn(4, '|');
        let (Some(id), Some(state)) = (fields.next(), fields.next()) else { return EndDecision::Undecided };
        let phase = phase(state);
        if id.trim().parse() == Ok(job) {
            own = Some((phase, (fields.next().unwrap_or_default(), fields.next())));
        } else {
            match phase {
                JobPhase::Final => {}
                // If both tasks end at the same time, each node sees the other task as COMPLETING. Neither may then leave the revocation
                // to the other.
                JobPhase::Completing => others = EndDecision::Undecided,
                JobPhase::Active | JobPhase::Queued => return requeued(own).unwrap_or(EndDecision::Leave),
            }
        }
    }
    match own {
        None => others,
        Some((JobPhase::Final, (nodes, batch_host))) => match others {
            EndDecision::Revoke if another_node_revokes(nodes, batch_host, node) => EndDecision::Leave,
            others => others,
        },
        Some((JobPhase::Queued, _)) => EndDecision::Requeued,
        Some((JobPhase::Completing | JobPhase::Active, _)) => EndDecision::Undecided,
    }
}

/// Whether the job has left all nodes. False when the output does not mention the job.
#[must_use]
pub fn is_gone(output: Option<&str>, job: u32) -> bool {
    let Some(output) = output else { return true };
    output.lines().any(|line| {
        let mut fields = line.trim().splitn(3, '|');
        let own = fields.next().is_some_and(|id| id.trim().parse() == Ok(job));
        own && fields.next().is_some_and(|state| matches!(phase(state), JobPhase::Final | JobPhase::Queued))
    })
}

/// The decision about a requeued job whose array has further tasks.
fn requeued<T: Copy>(own: Option<(JobPhase, T)>) -> Option<EndDecision> {
    matches!(own, Some((JobPhase::Queued, _))).then_some(EndDecision::Requeued)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobPhase {
    Queued,
    Active,
    Completing,
    Final,
}

/// The phase of a job in one of Slurm's states (SLURM-27). An unknown state keeps the credential: a wrong revocation cannot be undone.
fn phase(state: &str) -> JobPhase {
    match state.trim() {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => JobPhase::Queued,
        "COMPLETING" | "STAGE_OUT" => JobPhase::Completing,
        "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "LAUNCH_FAILED" | "NODE_FAIL"
        | "OUT_OF_MEMORY" | "PREEMPTED" | "RECONFIG_FAIL" | "REVOKED" | "TIMEOUT" => JobPhase::Final,
        _ => JobPhase::Active,
    }
}

/// Whether another node revokes the sub-token, because it is the first of `list`. A node that is not in the list (agent and slurmd have
/// different names) revokes: a second revocation does no harm, a missing one does. Only a batch script is sure to have run on the first node.
/// The command of salloc or srun runs on a host outside the allocation, and its only step may have run on this node.
fn another_node_revokes(list: &str, batch_host: Option<&str>, node: &str) -> bool {
    let is_batch = batch_host.is_none_or(|host| host_list::contains(list, host));
    is_batch && host_list::position(list, node).is_some_and(|place| place > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_single_job_decides() {
        for (output, expected) in [
            ("4711|COMPLETED|n[1-3]", EndDecision::Revoke),
            ("4711|CANCELLED|n1\n", EndDecision::Revoke),
            ("4711|TIMEOUT|n[0-2]", EndDecision::Leave),
            ("4711|TIMEOUT|m[0-2]", EndDecision::Revoke),
            ("4711|FAILED|", EndDecision::Revoke),
            ("4711|COMPLETING|n1", EndDecision::Undecided),
            ("4711|RUNNING|n1", EndDecision::Undecided),
            ("4711|SOMETHING_NEW|n1", EndDecision::Undecided),
            ("4711|PENDING|", EndDecision::Requeued),
            ("4711|REQUEUE_HOLD|", EndDecision::Requeued),
            ("4711|SPECIAL_EXIT|", EndDecision::Requeued),
            ("no table", EndDecision::Undecided),
            ("", EndDecision::Revoke),
        ] {
            assert_eq!(decide_end(Some(output), 4711, "n1"), expected, "{output}");
        }
        assert_eq!(decide_end(None, 4711, "n9"), EndDecision::Revoke);
    }

    #[test]
    fn a_job_is_gone_in_a_final_or_queued_state_only() {
        for (output, gone) in [
            (None, true),
            (Some(""), false),
            (Some("4711|RUNNING|n1"), false),
            (Some("4711|COMPLETING|n1"), false),
            (Some("4711|COMPLETED|n1"), true),
            (Some("4711|PENDING|"), true),
            (Some("4712|COMPLETED|n1\n4711|RUNNING|n1"), false),
        ] {
            assert_eq!(is_gone(output, 4711), gone, "{output:?}");
        }
    }

    #[test]
    fn an_array_is_final_with_its_last_task() {
        for (output, expected) in [
            ("10|COMPLETED|n1\n11|COMPLETED|n2\n12|FAILED|n3", EndDecision::Revoke),
            ("10|COMPLETED|n1\n11|RUNNING|n2\n12|PENDING|", EndDecision::Leave),
            ("12|PENDING|\n10|COMPLETED|n1", EndDecision::Leave),
            ("10|COMPLETED|n1\n11|COMPLETING|n2", EndDecision::Undecided),
            ("10|PENDING|\n11|RUNNING|n2", EndDecision::Requeued),
            ("10|COMPLETED|n[0-1]\n11|COMPLETED|n2", EndDecision::Leave),
            ("11|COMPLETED|n4", EndDecision::Revoke),
        ] {
            assert_eq!(decide_end(Some(output), 10, "n1"), expected, "{output}");
        }
    }

    #[test]
    fn each_node_of_an_allocation_without_batch_script_revokes() {
        let on = |batch_host, node| decide_end(Some(&format!("7|COMPLETED|n[1-3]|{batch_host}")), 7, node);
        assert_eq!((on("n1", "n1"), on("n1", "n2")), (EndDecision::Revoke, EndDecision::Leave));
        assert_eq!((on("login", "n1"), on("login", "n2")), (EndDecision::Revoke, EndDecision::Revoke));
        assert_eq!(on("a|b", "n3"), EndDecision::Revoke);
    }
}
