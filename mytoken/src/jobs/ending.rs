// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a job that has ended on a node is over for good, from what slurmctld says.
//!
//! It is asked with `squeue --noheader --states=all --jobs=ID --format=%A|%T|%N` ([`FORMAT`]): job id, state, nodes. `scontrol show job` is not used,
//! because its output begins with the job's name, which the user chooses (`JobName=x JobState=PENDING`).

/// The format for `squeue`: job id, state, nodes. None of them is text that a user chooses.
pub const FORMAT: &str = "%A|%T|%N";

/// What becomes of a job's sub-token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The job, and every task of its array, is over, and this node is to revoke.
    Revoke,
    /// Over, but another node revokes (the job's first), or other tasks of the array still need it.
    Leave,
    /// The job waits again in the queue and will need its credential.
    Requeued,
    /// Not yet decided: ask again. While the epilog runs the state is COMPLETING, also for a job that is about to be requeued
    /// (the flag hides the state below it).
    Undecided,
}

/// Decides from squeue's `output` for `job` (for a task of an array: for the whole array) on the node called `node`. `None` as output: slurmctld
/// does not know the job any more.
#[must_use]
pub fn fate(output: Option<&str>, job: u32, node: &str) -> Fate {
    // Forgotten means over for some minutes (MinJobAge). Nobody knows the first node then; revoking twice does no harm.
    let Some(output) = output else { return Fate::Revoke };
    let mut own = None;
    let mut others = Fate::Revoke;
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        let mut fields = line.trim().splitn(3, '|');
        let (Some(id), Some(state)) = (fields.next(), fields.next()) else { return Fate::Undecided };
        let phase = phase(state);
        if id.trim().parse() == Ok(job) {
            own = Some((phase, fields.next().unwrap_or_default()));
        } else {
            match phase {
                Phase::Over => {}
                // The other task may be the last one as well, and its node sees this one in the same state.
                Phase::Completing => others = Fate::Undecided,
                Phase::Alive | Phase::Queued => return own_first(own).unwrap_or(Fate::Leave),
            }
        }
    }
    match own {
        None => others,
        Some((Phase::Over, nodes)) => match others {
            Fate::Revoke if !first_host(nodes).is_none_or(|first| first == node) => Fate::Leave,
            others => others,
        },
        Some((Phase::Queued, _)) => Fate::Requeued,
        Some((Phase::Completing | Phase::Alive, _)) => Fate::Undecided,
    }
}

/// Another task still needs the credential, but a requeue of this one is told as such.
fn own_first(own: Option<(Phase, &str)>) -> Option<Fate> {
    matches!(own, Some((Phase::Queued, _))).then_some(Fate::Requeued)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Alive,
    Completing,
    Over,
}

/// Slurm's states (job_state_string, 22.05 to 26.05). An unknown one keeps the credential: a wrong revocation cannot be mended.
fn phase(state: &str) -> Phase {
    match state.trim() {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => Phase::Queued,
        "COMPLETING" | "STAGE_OUT" => Phase::Completing,
        "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "LAUNCH_FAILED" | "NODE_FAIL"
        | "OUT_OF_MEMORY" | "PREEMPTED" | "RECONFIG_FAIL" | "REVOKED" | "TIMEOUT" => Phase::Over,
        _ => Phase::Alive,
    }
}

/// The first name of a Slurm host list: `n[1-3,7],m1` is `n1`, `r[2-4]n[01-16]` is `r2n01`.
fn first_host(list: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = list.trim();
    loop {
        let stop = rest.find(['[', ',']).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at_checked(stop)?;
        name.push_str(plain);
        let Some(inside) = tail.strip_prefix('[') else { break };
        let (ranges, after) = inside.split_once(']')?;
        name.push_str(ranges.split([',', '-']).next().unwrap_or_default());
        rest = after;
    }
    (!name.is_empty() && name != "(null)" && name != "n/a").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_host_list() {
        for (list, first) in [
            ("n1", Some("n1")),
            ("n[1-3]", Some("n1")),
            ("n[01-03,07],m1", Some("n01")),
            ("a,b", Some("a")),
            ("r[2-4]n[01-16]", Some("r2n01")),
            ("n[3,5]-ib", Some("n3-ib")),
            ("", None),
            ("(null)", None),
            ("n[1", None),
        ] {
            assert_eq!(first_host(list).as_deref(), first, "{list}");
        }
    }

    #[test]
    fn a_single_job() {
        for (output, expected) in [
            ("4711|COMPLETED|n[1-3]", Fate::Revoke),
            ("4711|CANCELLED|n1\n", Fate::Revoke),
            ("4711|TIMEOUT|n2", Fate::Leave),
            ("4711|FAILED|", Fate::Revoke),
            ("4711|COMPLETING|n1", Fate::Undecided),
            ("4711|RUNNING|n1", Fate::Undecided),
            ("4711|SOMETHING_NEW|n1", Fate::Undecided),
            ("4711|PENDING|", Fate::Requeued),
            ("4711|REQUEUE_HOLD|", Fate::Requeued),
            ("4711|SPECIAL_EXIT|", Fate::Requeued),
            ("no table", Fate::Undecided),
            ("", Fate::Revoke),
        ] {
            assert_eq!(fate(Some(output), 4711, "n1"), expected, "{output}");
        }
        assert_eq!(fate(None, 4711, "n9"), Fate::Revoke);
    }

    #[test]
    fn an_array_is_over_when_its_last_task_is() {
        for (output, expected) in [
            ("10|COMPLETED|n1\n11|COMPLETED|n2\n12|FAILED|n3", Fate::Revoke),
            ("10|COMPLETED|n1\n11|RUNNING|n2\n12|PENDING|", Fate::Leave),
            ("12|PENDING|\n10|COMPLETED|n1", Fate::Leave),
            ("10|COMPLETED|n1\n11|COMPLETING|n2", Fate::Undecided),
            ("10|PENDING|\n11|RUNNING|n2", Fate::Requeued),
            ("10|COMPLETED|n4\n11|COMPLETED|n2", Fate::Leave),
            ("11|COMPLETED|n4", Fate::Revoke),
        ] {
            assert_eq!(fate(Some(output), 10, "n1"), expected, "{output}");
        }
    }
}
