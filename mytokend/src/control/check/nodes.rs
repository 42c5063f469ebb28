// SPDX-License-Identifier: MIT OR Apache-2.0
//! The check of other hosts: each runs its own check, and what differs between them and this host is a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mytoken::Deadline;

use super::Findings;
use super::node_answer::{Answer, LONGEST, NodeAnswer, NodeText};
use super::node_keys::CopyKeys;
use crate::agent::slurm;
use crate::control::arguments::Launcher;
use crate::jobs::settings::JobsSettings;
use crate::program;

/// How many hosts are asked at a time.
const AT_A_TIME: usize = 16;

/// Time limit for one host: the start of a job, and the check itself.
const LIMIT: Duration = Duration::from_secs(45);

/// After this time no further host is asked.
const LIMIT_OF_ALL: Duration = Duration::from_secs(20 * 60);

/// Runs the check on each host of `list` and adds the findings to those of this host.
///
/// # Errors
/// A sentence, when the list cannot be used or the launcher is not on this host.
pub fn add_nodes(
    here: &mut Findings,
    list: &str,
    launcher: Launcher,
    jobs: Option<&JobsSettings>,
) -> Result<(), String> {
    let squeue = jobs.and_then(|jobs| jobs.agent.squeue.as_deref());
    let hosts = expand(list, squeue)?;
    let srun = slurm::command("srun", squeue).filter(|path| path.is_file());
    if launcher == Launcher::Srun && srun.is_none() {
        return Err("there is no srun at the usual paths; use --via ssh".to_owned());
    }
    let program = std::env::current_exe().map_err(|error| format!("this program's path is not known: {error}"))?;
    let launch = Launch { launcher, program, srun: srun.unwrap_or_default() };
    let answers = ask_all(&hosts, Deadline::after(LIMIT_OF_ALL), &|host| launch.ask(host));
    here.compare(hosts.into_iter().zip(answers), launcher, jobs.map(CopyKeys::of).as_ref());
    Ok(())
}

/// The hosts of a list like `n[1-4],login1`, by Slurm, each once. Without Slurm the names are separated by commas.
fn expand(list: &str, squeue: Option<&Path>) -> Result<Vec<String>, String> {
    let hosts: Vec<String> = match slurm::command("scontrol", squeue).filter(|path| path.is_file()) {
        Some(scontrol) => {
            let mut command = Command::new(scontrol);
            let outcome =
                program::run(command.args(["show", "hostnames", list]), Deadline::after(Duration::from_secs(10)))
                    .map_err(|error| format!("scontrol {error}"))?;
            if !outcome.success {
                return Err(format!("scontrol cannot read the list {list:?}: {}", outcome.first_error()));
            }
            outcome.output.lines().map(str::to_owned).collect()
        }
        None => list.split(',').map(|host| host.trim().to_owned()).collect(),
    };
    // Neither srun nor ssh may take a name for an option.
    let is_name = |host: &String| {
        host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match hosts.iter().find(|host| !is_name(host)) {
        Some(host) => Err(format!("{host:?} is not the name of a host")),
        None if hosts.is_empty() => Err("the list of hosts is empty".to_owned()),
        None => {
            let mut known = BTreeSet::new();
            Ok(hosts.into_iter().filter(|host| known.insert(host.clone())).collect())
        }
    }
}

/// How the check is started on another host.
struct Launch {
    launcher: Launcher,
    /// This program, at the same path there.
    program: PathBuf,
    srun: PathBuf,
}

impl Launch {
    fn command(&self, host: &str) -> Command {
        // Without requests to servers: those of a whole cluster would use up the limit of its address.
        let check = ["check", "--json", "--offline"];
        match self.launcher {
            Launcher::Srun => {
                let mut command = Command::new(&self.srun);
                let target = format!("--nodelist={host}");
                command.args(["--nodes=1", "--ntasks=1", "--mem=100M", "--time=2", "--immediate=10", "--chdir=/"]);
                command.args(["--quiet", "--export=NONE", "--job-name=mytokenctl-check", &target]);
                command.arg(&self.program).args(check);
                command
            }
            Launcher::Ssh => {
                // The clean environment of `program::run` lacks the agent with the administrator's keys.
                let mut command = Command::new("/usr/bin/env");
                command.args(std::env::var("SSH_AUTH_SOCK").map(|socket| format!("SSH_AUTH_SOCK={socket}")));
                command.args(["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", host]);
                command.arg(&self.program).args(check);
                command
            }
        }
    }

    fn ask(&self, host: &str) -> Answer {
        let outcome =
            program::run_limited(&mut self.command(host), Deadline::after(LIMIT), LONGEST).map_err(|error| {
                let launcher = self.launcher.name();
                NodeText::of_reason(&format!("{launcher} {error}"))
            })?;
        // The exit status tells the findings, and the launchers pass it on.
        NodeAnswer::parse(&outcome.output, &outcome.errors)
    }
}

/// The answers, in the order of the hosts; none for those whose turn did not come before the deadline.
fn ask_all(hosts: &[String], deadline: Deadline, ask: &(dyn Fn(&str) -> Answer + Sync)) -> Vec<Option<Answer>> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<BTreeMap<usize, Answer>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(hosts.len()) {
            scope.spawn(|| {
                while deadline.remaining().is_some() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(host) = hosts.get(number) else { return };
                    let answer = ask(host);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answer);
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    (0..hosts.len()).map(|number| answers.remove(&number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_launcher_would_take_for_options_are_refused() {
        for list in ["-oProxyCommand=x", "n1,-w", "n1;x", "", "n1,,n2"] {
            assert!(expand(list, Some(Path::new("/nonexistent/squeue"))).is_err(), "{list}");
        }
        let hosts = expand("n1, login.example.org", Some(Path::new("/nonexistent/squeue")));
        assert_eq!(hosts.unwrap(), ["n1", "login.example.org"]);
    }

    #[test]
    fn a_host_is_asked_once() {
        let hosts = expand("n2,n1,n2,n1", Some(Path::new("/nonexistent/squeue")));
        assert_eq!(hosts.unwrap(), ["n2", "n1"]);
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("n{number}")).collect()
    }

    #[test]
    fn hosts_are_asked_at_the_same_time_and_their_answers_keep_the_order() {
        let hosts = names(40);
        let running = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let answers = ask_all(&hosts, Deadline::after(Duration::from_secs(60)), &|host| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            running.fetch_sub(1, Ordering::SeqCst);
            Err(NodeText::of_reason(host))
        });
        assert!((2..=AT_A_TIME).contains(&most.into_inner()));
        let order: Vec<String> = answers.into_iter().map(|answer| answer.unwrap().unwrap_err().to_string()).collect();
        assert_eq!(order, hosts);
    }

    #[test]
    fn hosts_whose_turn_comes_too_late_are_not_asked() {
        let hosts = names(AT_A_TIME * 3);
        let deadline = Deadline::after(Duration::from_millis(200));
        let answers = ask_all(&hosts, deadline, &|host| {
            // The first ones take all the time.
            std::thread::sleep(Duration::from_millis(250));
            Err(NodeText::of_reason(host))
        });
        assert_eq!(answers.len(), hosts.len());
        assert_eq!(answers.iter().flatten().count(), AT_A_TIME);
        assert!(answers.iter().skip(AT_A_TIME).all(Option::is_none));
    }
}
