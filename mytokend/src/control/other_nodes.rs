// SPDX-License-Identifier: MIT OR Apache-2.0
//! The nodes of a submission that a command on one of its nodes does not reach: what happens there, and the commands for them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::{JobName, printable};

use crate::agent::slurm;
use crate::jobs::host_list;
use crate::program;

/// How long squeue may take.
const SQUEUE: Duration = Duration::from_secs(10);

/// The longest text of another program that is shown.
const LONGEST: usize = 200;

/// Job id, id as Slurm prints it, state, number of nodes, list of nodes.
const FORMAT: &str = "%A|%i|%T|%D|%N";

/// The states of jobs that squeue shows and that have no token files, or lose them by themselves.
const WITHOUT_FILES: [&str; 2] = ["PENDING", "COMPLETING"];

/// The most jobs and nodes that are named.
const MOST: usize = 8;

/// Who revoked, and where.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Slurm's name of this node.
    pub node: &'a str,
    /// Root cannot start steps in jobs of others.
    pub is_root: bool,
}

/// Sentences about the other nodes of `job`, its array or its heterogeneous job, whose credential was revoked. `squeue`: the program, if a
/// file names it. Whether the token was removed on these nodes before, nobody here knows.
#[must_use]
pub fn after_revocation(job: JobName, caller: Caller<'_>, squeue: Option<&Path>) -> Vec<String> {
    match listed(job, squeue) {
        Ok(listed) => sentences(&listed, caller),
        Err(reason) => vec![format!(
            "whether job {job} runs on other nodes is not known ({}); there an access token stays until it expires",
            printable(&reason, LONGEST)
        )],
    }
}

/// squeue's lines about the job, all tasks of its array, or all components.
fn listed(job: JobName, squeue: Option<&Path>) -> Result<String, String> {
    let program = slurm::command("squeue", squeue).ok_or("there is no squeue on this host")?;
    let leader = job.leader().to_string();
    let mut command = Command::new(program);
    command.args(["--noheader", "--format", FORMAT, "--jobs", &leader]);
    let outcome = program::run(&mut command, Deadline::after(SQUEUE)).map_err(|error| format!("squeue {error}"))?;
    if outcome.success { Ok(outcome.output) } else { Err(format!("squeue failed: {}", outcome.first_error())) }
}

fn sentences(listed: &str, caller: Caller<'_>) -> Vec<String> {
    let mut told: Vec<String> = listed.lines().filter_map(|line| sentence(line, caller)).collect();
    let more = told.len().saturating_sub(MOST);
    told.truncate(MOST);
    if more > 0 {
        told.push(format!("{more} more jobs of this submission run on other nodes; there it is the same"));
    }
    told
}

/// The sentence about one job. `None` if it runs on this node alone.
fn sentence(line: &str, caller: Caller<'_>) -> Option<String> {
    let mut fields = line.trim().splitn(5, '|');
    let (id, name) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<JobName>().ok()?);
    let (state, count, list) = (fields.next()?, fields.next()?.parse::<usize>().ok()?, fields.next()?);
    if WITHOUT_FILES.contains(&state) {
        return None;
    }
    let here = usize::from(host_list::contains(list, caller.node));
    let others = count.checked_sub(here).filter(|others| *others > 0)?;
    let nodes = if others == 1 { "1 other node".to_owned() } else { format!("{others} other nodes") };
    let stays = format!("job {name} runs on {nodes}, where an access token stays until it expires or is removed");
    if caller.is_root {
        let mut names = host_list::first_names(list, here + MOST);
        names.retain(|node| node != caller.node);
        let dots = if others > names.len() { " ..." } else { "" };
        return Some(format!("{stays}; run mytokenctl revoke --here {name} there, too: {}{dots}", names.join(" ")));
    }
    if state == "SUSPENDED" {
        return Some(format!("{stays}; no step can remove it while the job is suspended"));
    }
    // srun knows a component by its leader alone.
    let job = match name {
        JobName::Component { leader, offset } => format!("--jobid {leader} --het-group={offset}"),
        JobName::Job(_) | JobName::Task { .. } => format!("--jobid {id}"),
    };
    // A job that requires a token starts no task any more where it was revoked.
    let without = if here == 0 { String::new() } else { format!(" --exclude {}", caller.node) };
    Some(format!("{stays}: srun --overlap {job}{without} -N{others} -n{others} mytokenctl revoke --here {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Caller<'_> = Caller { node: "n2", is_root: false };

    #[test]
    fn the_command_for_the_other_nodes_is_told_if_there_are_any() {
        let cases = [
            ("", None),
            ("7|7|RUNNING|1|n2", None),
            (
                "7|7|RUNNING|4|n[1-4]",
                Some("3 other nodes,|: srun --overlap --jobid 7 --exclude n2 -N3 -n3 mytokenctl revoke --here 7"),
            ),
            (
                "9|7_2|RUNNING|1|n3",
                Some("1 other node,|: srun --overlap --jobid 9 -N1 -n1 mytokenctl revoke --here 7_2"),
            ),
            (
                "9|8+1|RUNNING|2|n[2,5]",
                Some(
                    "1 other node,|: srun --overlap --jobid 8 --het-group=1 --exclude n2 -N1 -n1 mytokenctl revoke --here 8+1",
                ),
            ),
            ("7|7|SUSPENDED|2|n[1-2]", Some("1 other node,|; no step can remove it while the job is suspended")),
            ("7|7|STOPPED|2|n[1-2]", Some("1 other node,|: srun --overlap --jobid 7 --exclude n2 -N1 ")),
            ("7|7_[4-9]|PENDING|2|", None),
            ("7|7|PENDING|2|", None),
            ("7|7|COMPLETING|2|n[1-2]", None),
            // Not what squeue prints.
            ("slurm_load_jobs error", None),
            ("7|7|RUNNING|0|", None),
        ];
        for (line, expected) in cases {
            let said = sentences(line, HERE);
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(said.len(), expected.len(), "{line}: {said:?}");
            for (said, expected) in said.iter().zip(expected) {
                assert!(expected.split('|').all(|part| said.contains(part)), "{line}: {said}");
            }
        }
    }

    #[test]
    fn root_is_told_the_nodes() {
        let root = Caller { is_root: true, ..HERE };
        let said = sentences("7|7|RUNNING|3|n[1-3]", root);
        assert!(said[0].ends_with("run mytokenctl revoke --here 7 there, too: n1 n3"), "{said:?}");
        let many = sentences("7|7|RUNNING|90|n[1-90]", root);
        assert!(many[0].contains("89 other nodes") && many[0].ends_with(": n1 n3 n4 n5 n6 n7 n8 n9 ..."), "{many:?}");
    }

    #[test]
    fn a_large_array_takes_few_lines() {
        let listed: String = (0..1000).map(|task| format!("{}|7_{task}|RUNNING|1|n5\n", 10 + task)).collect();
        let said = sentences(&listed, HERE);
        assert!(said.len() == MOST + 1 && said[MOST].starts_with("992 more jobs"), "{:?}", said.last());
    }
}
