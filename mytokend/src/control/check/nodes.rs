// SPDX-License-Identifier: MIT OR Apache-2.0
//! The check of other hosts: each runs its own check, and what differs between them and this host is a finding.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::printable;

use super::{CheckFinding, Findings, Severity, kinds_slurm as kinds};
use crate::agent::slurm;
use crate::control::arguments::Launcher;
use crate::program;

/// How many hosts are asked at a time.
const AT_A_TIME: usize = 16;

/// Time limit for one host: the start of a job, and the check itself.
const LIMIT: Duration = Duration::from_secs(45);

/// How many hosts a finding names.
const MOST_NAMED: usize = 8;

/// A host's findings, or why there are none.
type Answer = Result<Findings, String>;

/// Runs the check on each host of `list` and adds the findings to those of this host.
///
/// # Errors
/// A sentence, when the list cannot be used or the launcher is not on this host.
pub fn add_nodes(here: &mut Findings, list: &str, launcher: Launcher, squeue: Option<&Path>) -> Result<(), String> {
    let hosts = expand(list, squeue)?;
    let srun = slurm::command("srun", squeue).filter(|path| path.is_file());
    if launcher == Launcher::Srun && srun.is_none() {
        return Err("there is no srun at the usual paths; use --via ssh".to_owned());
    }
    let program = std::env::current_exe().map_err(|error| format!("this program's path is not known: {error}"))?;
    let launch = Launch { launcher, program, srun: srun.unwrap_or_default() };
    let answers = ask_all(&hosts, &|host| launch.ask(host));
    here.compare(hosts.into_iter().zip(answers), launcher);
    Ok(())
}

/// The hosts of a list like `n[1-4],login1`, by Slurm. Without Slurm the names are separated by commas.
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
        None => Ok(hosts),
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
        let outcome = program::run(&mut self.command(host), Deadline::after(LIMIT)).map_err(|error| {
            let launcher = self.launcher.name();
            format!("{launcher} {error}")
        })?;
        // The exit status tells the findings, and the launchers pass it on.
        serde_json::from_str(&outcome.output).map_err(|_| printable(reason(&outcome.errors), 300))
    }
}

/// What a host said instead of findings, or else what the launcher says about it.
fn reason(errors: &str) -> &str {
    let of_host = |line: &&str| !line.starts_with("srun: ") && !line.trim().is_empty();
    errors.lines().find(of_host).or_else(|| errors.lines().next()).unwrap_or("it gave no reason")
}

/// The answers, in the order of the hosts.
fn ask_all(hosts: &[String], ask: &(dyn Fn(&str) -> Answer + Sync)) -> Vec<Answer> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<BTreeMap<usize, Answer>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(hosts.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(host) = hosts.get(number) else { return };
                    let answer = ask(host);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answer);
                }
            });
        }
    });
    answers.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

impl Findings {
    /// Adds the findings of other hosts, the same finding of several hosts once, and the differences from this host.
    fn compare(&mut self, answers: impl Iterator<Item = (String, Answer)>, launcher: Launcher) {
        let (mut silent, mut versions, mut keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut same: Vec<(CheckFinding, Vec<String>)> = Vec::new();
        let mut count = 0_usize;
        for (host, answer) in answers {
            count += 1;
            let found = match answer {
                Ok(found) => found,
                Err(reason) => {
                    add(&mut silent, reason, host);
                    continue;
                }
            };
            if found.host.version != self.host.version {
                add(&mut versions, found.host.version.clone(), host.clone());
            }
            if let (Some(here), Some(there)) = (&self.host.public_key, &found.host.public_key) {
                if here != there {
                    add(&mut keys, there.clone(), host.clone());
                }
            }
            for problem in found.findings.into_iter().filter(|finding| finding.level != Severity::Ok) {
                match same.iter_mut().find(|(known, _)| *known == problem) {
                    Some((_, hosts)) => hosts.push(host.clone()),
                    None => same.push((problem, vec![host.clone()])),
                }
            }
        }
        let before = self.findings.len();
        for (reason, hosts) in silent {
            let text = format!("{} gave no findings: {reason}", named(&hosts));
            let fix = match launcher {
                Launcher::Srun => format!("srun --nodelist={} mytokenctl check", first(&hosts)),
                Launcher::Ssh => format!("ssh {} mytokenctl check", first(&hosts)),
            };
            self.add_fixed(kinds::NODE_SILENT, text, fix);
        }
        for (version, hosts) in versions {
            let version = version.unwrap_or_else(|| "an older one".to_owned());
            let here = self.host.version.clone().unwrap_or_default();
            let text = format!("{} has version {version}, this host {here}", named(&hosts));
            let upgrade = self.package_tool.fix(kinds::PLUGIN_VERSION);
            self.add_fixed(kinds::NODE_VERSION, text, format!("ssh {} {upgrade}", first(&hosts)));
        }
        for (key, hosts) in keys {
            let here = self.host.public_key.clone().unwrap_or_default();
            let text = format!(
                "{} has the public key {key}, this host {here}: what is sealed on one side is not opened on the other",
                named(&hosts)
            );
            let fix = format!(
                "scp -p /etc/mytoken/keys/cluster.* {0}:/etc/mytoken/keys/ && ssh {0} systemctl reload mytokend   # from the host with the right pair",
                first(&hosts)
            );
            self.add_fixed(kinds::NODE_KEY, text, fix);
        }
        for (problem, hosts) in same {
            let text = format!("{}: {}", named(&hosts), problem.text);
            self.findings.push(CheckFinding { text, hosts, ..problem });
        }
        if self.findings.len() == before {
            let plural = if count == 1 { " has" } else { "s have" };
            self.ok("hosts", format!("{count} host{plural} no finding, and the version and key of this one"));
        }
    }
}

fn add<K: Ord>(groups: &mut BTreeMap<K, Vec<String>>, key: K, host: String) {
    groups.entry(key).or_default().push(host);
}

fn first(hosts: &[String]) -> &str {
    hosts.first().map_or("HOST", String::as_str)
}

/// The hosts of a finding, in few words.
fn named(hosts: &[String]) -> String {
    let shown: Vec<&str> = hosts.iter().take(MOST_NAMED).map(String::as_str).collect();
    let more = hosts.len().saturating_sub(MOST_NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::check::HostFacts;
    use crate::control::check::kinds;

    fn host(version: &str, key: &str) -> Findings {
        let facts = HostFacts { version: Some(version.to_owned()), public_key: Some(key.to_owned()) };
        Findings { host: facts, ..Findings::default() }
    }

    /// Ids and sentences for answers of n1, n2, ...
    fn compared(answers: Vec<Answer>) -> Vec<(String, String)> {
        let mut here = host("0.2.0", "aaaa");
        let hosts = (1..).map(|number| format!("n{number}"));
        here.compare(hosts.zip(answers), Launcher::Srun);
        here.findings.into_iter().map(|finding| (finding.id.unwrap(), finding.text)).collect()
    }

    #[test]
    fn equal_hosts_are_one_line() {
        let all_is_well = compared(vec![Ok(host("0.2.0", "aaaa")), Ok(host("0.2.0", "aaaa"))]);
        let text = "2 hosts have no finding, and the version and key of this one";
        assert_eq!(all_is_well, [("hosts-ok".to_owned(), text.to_owned())]);
    }

    #[test]
    fn each_difference_is_a_finding_with_its_hosts() {
        let found = compared(vec![
            Ok(host("0.2.0", "aaaa")),
            Ok(host("0.1.0", "aaaa")),
            Ok(host("0.2.0", "bbbb")),
            Ok(host("0.2.0", "bbbb")),
            Err("Requested nodes are busy".to_owned()),
        ]);
        let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["node-silent", "node-version", "node-key"]);
        assert_eq!(found[0].1, "n5 gave no findings: Requested nodes are busy");
        assert_eq!(found[1].1, "n2 has version 0.1.0, this host 0.2.0");
        assert!(found[2].1.starts_with("n3, n4 has the public key bbbb, this host aaaa: "), "{found:?}");
        // A host that submits has no key if it has no jobs.toml.
        let mut without = host("0.2.0", "");
        without.host.public_key = None;
        assert_eq!(compared(vec![Ok(without)])[0].0, "hosts-ok");
        // A version that does not tell its facts yet.
        assert_eq!(compared(vec![Ok(Findings::default())])[0].0, "node-version");
    }

    #[test]
    fn the_same_finding_of_many_hosts_is_one() {
        let mut broken = host("0.2.0", "aaaa");
        broken.ok("agent", "well");
        broken.add_kind(kinds::CLOCK, "the clock is late");
        let text = serde_json::to_string(&broken).unwrap();
        let answers = (0..10).map(|_| Ok(serde_json::from_str(&text).unwrap()));
        let found = compared(answers.chain([Ok(host("0.2.0", "aaaa"))]).collect());
        let expected = "n1, n2, n3, n4, n5, n6, n7, n8 and 2 more: the clock is late";
        assert_eq!(found, [("clock".to_owned(), expected.to_owned())]);
    }

    #[test]
    fn the_reason_is_what_the_host_said() {
        let srun = "srun: error: n1: task 0: Exited with exit code 5";
        assert_eq!(reason(&format!("{srun}\nno such file\n")), "no such file");
        assert_eq!(reason(srun), srun);
        assert_eq!(reason(""), "it gave no reason");
    }

    #[test]
    fn names_that_a_launcher_would_take_for_options_are_refused() {
        for list in ["-oProxyCommand=x", "n1,-w", "n1;x", "", "n1,,n2"] {
            assert!(expand(list, Some(Path::new("/nonexistent/squeue"))).is_err(), "{list}");
        }
        let hosts = expand("n1, login.example.org", Some(Path::new("/nonexistent/squeue")));
        assert_eq!(hosts.unwrap(), ["n1", "login.example.org"]);
    }

    #[test]
    fn hosts_are_asked_at_the_same_time_and_their_answers_keep_the_order() {
        let hosts: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
        let running = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let answers = ask_all(&hosts, &|host| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            running.fetch_sub(1, Ordering::SeqCst);
            Err(host.to_owned())
        });
        assert!((2..=AT_A_TIME).contains(&most.into_inner()));
        assert_eq!(answers.into_iter().map(Result::unwrap_err).collect::<Vec<_>>(), hosts);
    }
}
