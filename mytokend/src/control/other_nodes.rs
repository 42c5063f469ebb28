// SPDX-License-Identifier: MIT OR Apache-2.0
//! The nodes of a submission that a command on one of its nodes does not reach: what happens there, and the commands for them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::JobName;

use crate::agent::slurm;
use crate::jobs::host_list;
use crate::program;

/// How long squeue may take.
const SQUEUE: Duration = Duration::from_secs(10);

/// Job id, id as Slurm prints it, number of nodes, list of nodes.
const FORMAT: &str = "%A|%i|%D|%N";

/// The states of jobs that have token files on their nodes.
const STATES: &str = "RUNNING,SUSPENDED,STOPPED,COMPLETING";

/// The most jobs and nodes that are named.
const MOST: usize = 8;

/// Who asks, and where.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Slurm's name of this node.
    pub node: &'a str,
    /// `SLURM_STEP_NODELIST`: a step runs the same command on all of these nodes.
    pub step: Option<&'a str>,
    /// Root cannot start steps in jobs of others.
    pub is_root: bool,
}

impl Caller<'_> {
    fn reaches(&self, node: &str) -> bool {
        node == self.node || self.step.is_some_and(|list| host_list::contains(list, node))
    }
}

/// Sentences about the other nodes of the submission of `job` whose credential was revoked. `squeue`: the program, if a file names it.
#[must_use]
pub fn after_revocation(job: JobName, caller: Caller<'_>, squeue: Option<&Path>) -> Vec<String> {
    listed(job, squeue).map_or_else(
        |reason| {
            vec![format!(
                "whether job {job} runs on other nodes is not known ({reason}); there its access token stays until it expires"
            )]
        },
        |listed| sentences(&listed, caller),
    )
}

/// squeue's lines about all jobs of the submission that run.
fn listed(job: JobName, squeue: Option<&Path>) -> Result<String, String> {
    let program = slurm::command("squeue", squeue).ok_or("there is no squeue on this host")?;
    let leader = job.leader().to_string();
    let mut command = Command::new(program);
    command.args(["--noheader", "--states", STATES, "--format", FORMAT, "--jobs", &leader]);
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

/// The sentence about one job. `None` if the caller reaches all of its nodes.
fn sentence(line: &str, caller: Caller<'_>) -> Option<String> {
    let mut fields = line.trim().splitn(4, '|');
    let (id, name) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<JobName>().ok()?);
    let (count, list) = (fields.next()?.parse::<usize>().ok()?, fields.next()?);
    let reached = host_list::first_names(list, count).iter().filter(|node| caller.reaches(node)).count();
    let others = count.checked_sub(reached).filter(|others| *others > 0)?;
    let nodes = match (others, reached) {
        (1, 0) => "1 node".to_owned(),
        (_, 0) => format!("{others} nodes"),
        (1, _) => "1 other node".to_owned(),
        _ => format!("{others} other nodes"),
    };
    let stays = format!("job {name} runs on {nodes} where its access token stays until it expires");
    if caller.is_root {
        let mut names = host_list::first_names(list, reached + MOST);
        names.retain(|node| !caller.reaches(node));
        let dots = if others > names.len() { " ..." } else { "" };
        return Some(format!("{stays}; to remove it, run this command there, too: {}{dots}", names.join(" ")));
    }
    // On all of its nodes: then nobody has to know where it was done before.
    Some(format!("{stays}; to remove it: srun --overlap --jobid {id} -N{count} -n{count} mytokenctl revoke {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Caller<'_> = Caller { node: "n2", step: None, is_root: false };

    #[test]
    fn the_command_for_the_other_nodes_is_told_if_there_are_any() {
        let in_step = Caller { step: Some("n[1-3]"), ..HERE };
        let cases = [
            ("", HERE, None),
            ("7|7|1|n2", HERE, None),
            ("7|7|4|n[1-4]", HERE, Some("3 other nodes where|srun --overlap --jobid 7 -N4 -n4 mytokenctl revoke 7")),
            ("9|7_2|1|n3", HERE, Some("1 node where|srun --overlap --jobid 9 -N1 -n1 mytokenctl revoke 7_2")),
            ("9|8+1|2|n[2,5]", HERE, Some("1 other node where|srun --overlap --jobid 9 -N2 -n2 mytokenctl revoke 8+1")),
            ("7|7|3|n[1-3]", in_step, None),
            ("7|7|4|n[1-4]", in_step, Some("1 other node where|srun --overlap --jobid 7 -N4 -n4 mytokenctl revoke 7")),
            // Not what squeue prints.
            ("slurm_load_jobs error", HERE, None),
            ("7|7|0|", HERE, None),
        ];
        for (line, caller, expected) in cases {
            let said = sentences(line, caller);
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
        let said = sentences("7|7|3|n[1-3]", root);
        assert!(said[0].ends_with("run this command there, too: n1 n3"), "{said:?}");
        let many = sentences("7|7|90|n[1-90]", root);
        assert!(many[0].contains("89 other nodes") && many[0].ends_with(": n1 n3 n4 n5 n6 n7 n8 n9 ..."), "{many:?}");
    }

    #[test]
    fn a_large_array_takes_few_lines() {
        let listed: String = (0..1000).map(|task| format!("{}|7_{task}|1|n5\n", 10 + task)).collect();
        let said = sentences(&listed, HERE);
        assert!(said.len() == MOST + 1 && said[MOST].starts_with("992 more jobs"), "{:?}", said.last());
    }
}
