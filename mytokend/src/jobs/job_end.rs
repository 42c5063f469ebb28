// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a job that has ended on a node is over for good, from what slurmctld says.
//!
//! It is asked with `squeue --noheader --states=all --jobs=ID --format=%A|%T|%N|%B` ([`FORMAT`]): job id, state, nodes, batch host. `scontrol show job` is not used,
//! because its output begins with the job's name, which the user chooses (SLURM-25).

/// The format for `squeue`: job id, state, nodes, host of the batch script. None but the last is text that a user chooses: for a job
/// of salloc or srun it is the name that the command gave for its own host (SLURM-26).
pub const FORMAT: &str = "%A|%T|%N|%B";

/// What becomes of a job's sub-token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndDecision {
    /// The job, and every task of its array, is over, and this node is to revoke.
    Revoke,
    /// Over, but another node revokes (the job's first), or other tasks of the array still need it.
    Leave,
    /// The job waits again in the queue and will need its credential.
    Requeued,
    /// Not yet decided: ask again. While the epilog runs the state is COMPLETING (SLURM-27), also for a job that is about to be requeued
    /// (the flag hides the state below it).
    Undecided,
}

/// Decides from squeue's `output` for `job` (for a task of an array: for the whole array, SLURM-32) on the node called `node`. `None` as output: slurmctld
/// does not know the job any more.
#[must_use]
pub fn decide_end(output: Option<&str>, job: u32, node: &str) -> EndDecision {
    // Forgotten means over for some minutes (MinJobAge). Nobody knows the first node then; revoking twice does no harm.
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
                Phase::Over => {}
                // The other task may be the last one as well, and its node sees this one in the same state.
                Phase::Completing => others = EndDecision::Undecided,
                Phase::Alive | Phase::Queued => return own_first(own).unwrap_or(EndDecision::Leave),
            }
        }
    }
    match own {
        None => others,
        Some((Phase::Over, (nodes, batch_host))) => match others {
            EndDecision::Revoke if belongs_to_another(nodes, batch_host, node) => EndDecision::Leave,
            others => others,
        },
        Some((Phase::Queued, _)) => EndDecision::Requeued,
        Some((Phase::Completing | Phase::Alive, _)) => EndDecision::Undecided,
    }
}

/// Whether the job itself is not on any node any more, whatever becomes of its credential. Without a word about it: no.
#[must_use]
pub fn is_gone(output: Option<&str>, job: u32) -> bool {
    let Some(output) = output else { return true };
    output.lines().any(|line| {
        let mut fields = line.trim().splitn(3, '|');
        let own = fields.next().is_some_and(|id| id.trim().parse() == Ok(job));
        own && fields.next().is_some_and(|state| matches!(phase(state), Phase::Over | Phase::Queued))
    })
}

/// Another task still needs the credential, but a requeue of this one is told as such.
fn own_first<T: Copy>(own: Option<(Phase, T)>) -> Option<EndDecision> {
    matches!(own, Some((Phase::Queued, _))).then_some(EndDecision::Requeued)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Alive,
    Completing,
    Over,
}

/// Slurm's states (SLURM-27). An unknown one keeps the credential: a wrong revocation cannot be mended.
fn phase(state: &str) -> Phase {
    match state.trim() {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => Phase::Queued,
        "COMPLETING" | "STAGE_OUT" => Phase::Completing,
        "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "LAUNCH_FAILED" | "NODE_FAIL"
        | "OUT_OF_MEMORY" | "PREEMPTED" | "RECONFIG_FAIL" | "REVOKED" | "TIMEOUT" => Phase::Over,
        _ => Phase::Alive,
    }
}

/// Whether another node of `list` is the first. A node that is not in the list (its agent goes by another name than its slurmd) cannot
/// know, and then revokes: twice does no harm, never does. Only a batch script surely brought its credential to the first node; an
/// allocation of salloc or srun, whose command ran on a host outside, may have had its only step on this one.
fn belongs_to_another(list: &str, batch_host: Option<&str>, node: &str) -> bool {
    let nodes = hosts(list);
    let is_batch = batch_host.is_none_or(|host| nodes.iter().any(|name| name == host));
    is_batch && nodes.first().is_some_and(|first| first != node) && nodes.iter().any(|name| name == node)
}

/// More nodes than any cluster has.
const MOST_HOSTS: usize = 65_536;

/// The names in a Slurm host list in order: `n[1-2,07],m1` is n1, n2, n07, m1; `r[1-2]n[1-2]` is r1n1, r1n2, r2n1, r2n2.
fn hosts(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let elements = list.trim().split(|c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    for element in elements.filter(|element| !element.is_empty() && !["(null)", "n/a"].contains(element)) {
        names.extend(expand(element));
        names.truncate(MOST_HOSTS);
    }
    names
}

fn expand(element: &str) -> Vec<String> {
    let bracket = element.split_once('[').and_then(|(front, rest)| Some((front, rest.split_once(']')?)));
    let Some((front, (ranges, back))) = bracket else { return vec![element.to_owned()] };
    let tails = expand(back);
    let mut names = Vec::new();
    for range in ranges.split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (low.parse::<usize>(), high.parse::<usize>()) else { return Vec::new() };
        for number in (first..=last).take(MOST_HOSTS) {
            names.extend(tails.iter().map(|tail| format!("{front}{number:0width$}{tail}", width = low.len())));
            if names.len() > MOST_HOSTS {
                return names;
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_lists() {
        for (list, names) in [
            ("n1", "n1"),
            ("n[1-3]", "n1 n2 n3"),
            ("n[09-11,07],m1", "n09 n10 n11 n07 m1"),
            ("a,b", "a b"),
            ("r[1-2]n[1-2]", "r1n1 r1n2 r2n1 r2n2"),
            ("n[3,5]-ib", "n3-ib n5-ib"),
            ("", ""),
            ("(null)", ""),
            ("n[1", "n[1"),
            ("n[x-y]", ""),
        ] {
            assert_eq!(hosts(list).join(" "), names, "{list}");
        }
        assert!(hosts("n[0-99999999]").len() <= MOST_HOSTS);
        assert!(hosts("n[0-9999][0-9999]").len() <= MOST_HOSTS);
    }

    #[test]
    fn a_single_job() {
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
    fn a_job_is_gone_when_it_says_so_itself() {
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
    fn an_array_is_over_when_its_last_task_is() {
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
    fn nodes_of_an_allocation_without_batch_script_each_revoke() {
        let on = |batch_host, node| decide_end(Some(&format!("7|COMPLETED|n[1-3]|{batch_host}")), 7, node);
        assert_eq!((on("n1", "n1"), on("n1", "n2")), (EndDecision::Revoke, EndDecision::Leave));
        assert_eq!((on("login", "n1"), on("login", "n2")), (EndDecision::Revoke, EndDecision::Revoke));
        assert_eq!(on("a|b", "n3"), EndDecision::Revoke);
    }
}
