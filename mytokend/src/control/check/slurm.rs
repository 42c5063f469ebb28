// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `mytokenctl check` sees of Slurm, by Slurm's own commands, and the findings about its configuration.

mod files;

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mytoken::Deadline;
use mytoken_wire::{printable, version};

use super::defaults;
use super::host::{self, read_text};
use super::plugin_fixes::{add_default, remove_job_env, show_private};
use super::plugstack::PluginLine;
use super::{Findings, kinds_slurm as kinds};
use crate::agent::{process, slurm};
use crate::jobs::agent_settings::AgentSettings;
use crate::jobs::settings::JobsSettings;
use crate::program;

use files::Plugstack;
pub(in crate::control) use files::site_default;
pub(super) use files::{SENT, closed_files, loads_us};

/// Longest text of a command of Slurm in a sentence.
const LONGEST: usize = 400;

/// Time limit of one command of Slurm. scontrol itself waits longer for a slurmctld that hangs.
const COMMAND: Duration = Duration::from_secs(10);

/// How long a slurmd that was just started may take until it has loaded its plugins.
const LOADING: Duration = Duration::from_secs(2);

/// The plugin's file.
pub(super) const PLUGIN: &str = "spank_mytoken.so";

/// What is seen of Slurm.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The output of `scontrol show config`, or why there is none; `None` without scontrol.
    pub config: Option<Result<Config, String>>,
    /// The output of `srun --help` on both channels, or why there is none; `None` without srun.
    pub help: Option<Result<String, String>>,
    /// Whether slurmctld sends this host its configuration, and the host has none of its own.
    pub sent: bool,
    /// The directory of this host's own slurm.conf.
    pub own: Option<PathBuf>,
    /// The file plugstack.conf.
    pub plugstack: Option<PathBuf>,
    /// The path at which Slurm looks for it.
    pub place: PathBuf,
    /// The place for a link to our line that it includes.
    pub link: Option<PathBuf>,
    /// The lines of plugstack.conf that load our plugin.
    pub lines: Vec<PluginLine>,
    /// The plugin's file where Slurm looks for it, with its version.
    pub file: Option<(PathBuf, Option<String>)>,
    /// Process ids of slurmd, and the plugin in the memory of each.
    pub slurmds: Vec<(u32, InMemory)>,
    /// The directories of which each job has its own.
    pub private: Vec<String>,
}

/// The plugin in the memory of a process. It stays there until the process ends (`-z nodelete`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InMemory {
    /// It is not there.
    Absent,
    /// It is there, and its file cannot be opened to read the version.
    Present,
    /// It is there with this version; `None` for the first ones, which do not tell it.
    Version(Option<String>),
}

/// The output of `scontrol show config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config(HashMap<String, String>);

impl Config {
    /// Reads lines of the form `Name   = value`. Slurm writes `(null)` for a value that is not set.
    pub(super) fn parse(text: &str) -> Self {
        let mut values = HashMap::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim();
            if !value.is_empty() && value != "(null)" {
                values.entry(name.trim().to_ascii_lowercase()).or_insert_with(|| value.to_owned());
            }
        }
        Self(values)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// Whether a list of words has this one.
    pub(super) fn has(&self, name: &str, word: &str) -> bool {
        self.get(name).is_some_and(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
    }
}

impl Findings {
    /// Checks Slurm and the plugin on this host; without `jobs`, whose file or mytoken.toml has a fault, what does not depend on it. `agent`:
    /// where Slurm's programs and the tokens are, if that can be read. Returns the number of the cluster's nodes.
    pub(super) fn slurm(&mut self, jobs: Option<&JobsSettings>, agent: Option<&AgentSettings>) -> Option<u64> {
        let squeue = agent.and_then(|agent| agent.squeue.as_deref());
        let seen = Seen::here(squeue);
        if seen.config.is_none() && agent.is_none() {
            return None;
        }
        let runtime_dir = agent.map(|agent| agent.runtime_dir.as_path());
        self.slurm_config(&seen, runtime_dir, jobs.map(|jobs| jobs.cluster.name.as_str()));
        self.plugin(&seen);
        let jobs = jobs?;
        let answers = matches!(seen.config, Some(Ok(_)));
        let listed = (answers && !jobs.default.is_empty())
            .then(|| run("sinfo", &["--all", "--noheader", "--format=%P"], squeue)?.ok())
            .flatten();
        let site = defaults::site_default(&seen.lines);
        self.defaults(jobs, site.as_ref(), &defaults::partitions(&listed.unwrap_or_default()), &add_default(&seen));
        if !answers {
            return None;
        }
        let counted = run("sinfo", &["--noheader", "--format=%D"], squeue)?.ok()?;
        Some(counted.lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum())
    }

    fn slurm_config(&mut self, seen: &Seen, runtime_dir: Option<&Path>, cluster: Option<&str>) {
        let config = match &seen.config {
            None => {
                let text = "there is no scontrol at the usual paths: Slurm and the plugin are not checked. If it is elsewhere, set agent.squeue in jobs.toml: the agent needs it too";
                return self.add_kind(kinds::SLURM_MISSING, text);
            }
            Some(Err(reason)) => {
                return self
                    .add_kind(kinds::SLURM_CONTROLLER, format!("Slurm's configuration is not checked: {reason}"));
            }
            Some(Ok(config)) => config,
        };
        if let Some((own, name)) = cluster.zip(config.get("ClusterName")).filter(|(own, name)| own != name) {
            let text = format!(
                "its ClusterName is {}, and [cluster] name of jobs.toml is {own}: they may differ, but all hosts of the cluster need the same jobs.toml",
                printable(name, 80)
            );
            self.ok("Slurm", text);
        }
        let before = self.findings.len();
        if config.has("AccountingStoreFlags", "job_env") {
            let text = "AccountingStoreFlags has job_env: slurmdbd keeps the environment of every job, and the sealed credential with it, for as long as it keeps the job";
            self.add_fixed(kinds::SLURM_JOB_ENV, text, remove_job_env(seen));
        }
        // 22.05 to 25.05 call it JobContainerType, later releases NamespaceType.
        let container = config.get("JobContainerType").or_else(|| config.get("NamespaceType")).unwrap_or_default();
        let hidden =
            runtime_dir.and_then(|own| Some((own, seen.private.iter().find(|directory| own.starts_with(directory))?)));
        if let (true, Some((runtime_dir, directory))) = (container.ends_with("/tmpfs"), hidden) {
            let text = format!(
                "{container} gives each job a {directory} of its own: no job sees its token file in {}",
                runtime_dir.display()
            );
            self.add_fixed(kinds::SLURM_RUN_HIDDEN, text, show_private(seen));
        }
        if self.findings.len() == before {
            let name = |key| config.get(key).unwrap_or("?").to_owned();
            let text = format!("cluster {}, Slurm {}", name("ClusterName"), name("SLURM_VERSION"));
            self.ok("Slurm", text);
        }
    }
}

impl Seen {
    /// Asks Slurm's commands on this host.
    fn here(squeue: Option<&Path>) -> Self {
        let config = ask_config(squeue);
        let help = run("srun", &["--help"], squeue);
        let known = config.as_ref().and_then(|config| config.as_ref().ok());
        let plugstack = Plugstack::here(known);
        let lines = plugstack.lines();
        let plugin_dirs = known.and_then(|config| config.get("PluginDir")).unwrap_or_default();
        Self {
            file: plugin_files(plugin_dirs, &lines).into_iter().find(|path| path.exists()).map(|path| {
                let version = library_version(&path);
                (path, version)
            }),
            slurmds: loaded(slurmds, LOADING),
            private: read_text(&plugstack.directory.join("job_container.conf"))
                .map(|text| private_directories(&text))
                .unwrap_or_default(),
            link: plugstack.link(),
            sent: plugstack.sent,
            own: plugstack.own,
            plugstack: plugstack.file,
            place: plugstack.place,
            config,
            help,
            lines,
        }
    }
}

/// The configuration as slurmctld tells it, or why it does not; `None` without scontrol.
fn ask_config(squeue: Option<&Path>) -> Option<Result<Config, String>> {
    run("scontrol", &["show", "config"], squeue).map(|outcome| outcome.map(|text| Config::parse(&text)))
}

/// The output of a command of Slurm, or a sentence; `None` when it is not here.
fn run(name: &str, arguments: &[&str], squeue: Option<&Path>) -> Option<Result<String, String>> {
    let mut command = Command::new(slurm::command(name, squeue).filter(|path| path.is_file())?);
    Some(match program::run(command.args(arguments), Deadline::after(COMMAND)) {
        // srun complains of plugins on standard error, and succeeds.
        Ok(outcome) if outcome.success => Ok(outcome.output + &outcome.errors),
        Ok(outcome) => Err(format!("{name} failed: {}", in_one_line(&outcome.reason()))),
        Err(error) => Err(format!("{name} {error}")),
    })
}

/// What a command of Slurm says over several lines.
fn in_one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    printable(&lines.join("; "), LONGEST)
}

/// Where Slurm looks for the plugin: the path in a line, or its name in each directory of `PluginDir`.
fn plugin_files(plugin_dirs: &str, lines: &[PluginLine]) -> Vec<PathBuf> {
    let named = lines.iter().map(|line| PathBuf::from(&line.plugin)).filter(|path| path.is_absolute());
    let directories = plugin_dirs.split(':').filter(|directory| !directory.is_empty());
    named.chain(directories.map(|directory| Path::new(directory).join(PLUGIN))).collect()
}

/// The version in a library's file. Notes are near its beginning.
pub(super) fn library_version(file: &Path) -> Option<String> {
    // A FIFO at this path must not make the check hang.
    version_in(host::open_regular(file)?)
}

fn version_in(file: fs::File) -> Option<String> {
    let mut start = Vec::new();
    file.take(1024 * 1024).read_to_end(&mut start).ok()?;
    version::in_file(&start).map(str::to_owned)
}

/// The running slurmd, and the plugin in the memory of each.
fn slurmds() -> Vec<(u32, InMemory)> {
    process::named("slurmd").into_iter().filter_map(|pid| Some((pid, in_memory(pid)?))).collect()
}

/// What `look` finds, again until each slurmd has loaded the plugin or the time is over: one that was started a moment ago has none yet.
fn loaded(look: impl Fn() -> Vec<(u32, InMemory)>, patience: Duration) -> Vec<(u32, InMemory)> {
    let last = Instant::now() + patience;
    loop {
        let found = look();
        if Instant::now() >= last || found.iter().all(|(_, plugin)| *plugin != InMemory::Absent) {
            return found;
        }
        thread::sleep(patience / 10);
    }
}

/// Whether a slurmd of this host has loaded our plugin. It knows where its slurm.conf is; root's environment need not.
pub(super) fn is_in_slurmd() -> bool {
    slurmds().iter().any(|(_, plugin)| *plugin != InMemory::Absent)
}

/// The plugin in a process; `None` when its memory cannot be read.
fn in_memory(pid: u32) -> Option<InMemory> {
    let maps = read_text(Path::new(&format!("/proc/{pid}/maps"))).filter(|maps| !maps.is_empty())?;
    let Some(line) = maps.lines().find(|line| line.contains(PLUGIN)) else { return Some(InMemory::Absent) };
    let range = line.split_whitespace().next().unwrap_or_default();
    // This leads to the file that was loaded, also after an upgrade has replaced it.
    let file = fs::File::open(format!("/proc/{pid}/map_files/{range}"));
    Some(file.map_or(InMemory::Present, |file| InMemory::Version(version_in(file))))
}

/// The `Dirs` of `job_container.conf`: directories of which each job has its own.
fn private_directories(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let values = lines.flat_map(str::split_whitespace).filter_map(|pair| pair.split_once('='));
    let dirs = values.filter(|(name, _)| name.eq_ignore_ascii_case("Dirs"));
    dirs.flat_map(|(_, list)| list.split(','))
        .map(|directory| directory.trim_matches('"').to_owned())
        .filter(|one| !one.is_empty())
        .collect()
}

/// What `srun --help` prints with the rights of this process, where plugstack.conf loads our plugin.
pub(super) fn own_help(squeue: Option<&Path>) -> Option<Result<String, String>> {
    loads_us(squeue).then(|| run("srun", &["--help"], squeue)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: &str = "Configuration data as of 2026-11-26T10:01:44\nAccountingStoreFlags    = (null)\nClusterName             = testbed\n\
                           JobContainerType        = job_container/none\nSLURM_VERSION           = 22.05.8\n\nCgroup Support Configuration:\nClusterName = x\n";

    fn found(config: Option<Result<&str, &str>>, private: &[&str]) -> (Vec<String>, String, Option<String>) {
        let config = config.map(|config| config.map(Config::parse).map_err(str::to_owned));
        let private = private.iter().map(ToString::to_string).collect();
        let (lines, slurmds) = (vec![], vec![]);
        let (plugstack, sent, link, own) = (None, false, None, Some("/opt/slurm/etc".into()));
        let place = PathBuf::from("/etc/slurm/plugstack.conf");
        let seen = Seen { config, help: None, plugstack, place, sent, own, link, lines, file: None, slurmds, private };
        let mut findings = Findings::default();
        findings.slurm_config(&seen, Some(Path::new("/run/mytoken")), None);
        let ids = findings.problems().filter_map(|finding| finding.id.clone()).collect();
        let first = findings.findings.pop();
        (ids, first.as_ref().map(|finding| finding.text.clone()).unwrap_or_default(), first.and_then(|one| one.fix))
    }

    #[test]
    fn a_slurmd_that_is_loading_its_plugins_is_looked_at_again() {
        let looks = std::cell::Cell::new(0);
        let after = |number: u32| {
            looks.set(0);
            let look = || {
                looks.set(looks.get() + 1);
                let plugin = if looks.get() < number { InMemory::Absent } else { InMemory::Version(None) };
                vec![(7, InMemory::Version(None)), (8, plugin)]
            };
            loaded(look, Duration::from_millis(200)).pop().unwrap().1
        };
        assert_eq!((after(1), looks.get()), (InMemory::Version(None), 1));
        assert_eq!(after(3), InMemory::Version(None));
        assert_eq!(after(u32::MAX), InMemory::Absent, "it goes on without");
    }

    #[test]
    fn each_parameter_that_hurts_is_found() {
        let healthy = found(Some(Ok(HEALTHY)), &["/run"]);
        assert_eq!(
            healthy,
            (vec![], "cluster testbed, Slurm 22.05.8".to_owned(), None),
            "no container, so nothing is hidden"
        );
        let job_env = HEALTHY.replace("Flags    = (null)", "Flags    = job_script,job_env");
        let (ids, _, fix) = found(Some(Ok(&job_env)), &[]);
        assert_eq!(ids, ["slurm-job-env"]);
        assert!(fix.is_some_and(|fix| fix.contains(" /opt/slurm/etc/slurm.conf   # ")));
        let script = HEALTHY.replace("Flags    = (null)", "Flags    = job_script");
        assert_eq!(found(Some(Ok(&script)), &[]).0, Vec::<String>::new());
        for container in ["JobContainerType = job_container/tmpfs", "NamespaceType = namespace/tmpfs"] {
            let config = HEALTHY.replace("JobContainerType        = job_container/none", container);
            let (ids, _, fix) = found(Some(Ok(&config)), &["/tmp", "/run"]);
            assert_eq!(ids, ["slurm-run-hidden"], "{container}");
            assert!(fix.is_some_and(|fix| fix.contains(" /opt/slurm/etc/job_container.conf   # ")), "{container}");
            assert_eq!(found(Some(Ok(&config)), &["/tmp", "/dev/shm", "/runs"]).0, Vec::<String>::new(), "{container}");
        }
        assert_eq!(found(Some(Err("scontrol did not answer in time")), &[]).0, ["slurm-controller"]);
        assert_eq!(found(None, &[]).0, ["slurm-missing"]);
    }

    #[test]
    fn private_directories_are_read_from_all_lines() {
        let text = "AutoBasePath=true\nNodeName=n[1-2] BasePath=/var/x dirs=/tmp,/dev/shm # Dirs=/opt\nDirs=\"/run\"\n";
        assert_eq!(private_directories(text), ["/tmp", "/dev/shm", "/run"]);
    }

    #[test]
    fn the_file_is_looked_for_where_slurm_does() {
        let line = |plugin: &str| PluginLine {
            file: "/p".into(),
            number: 1,
            required: false,
            plugin: plugin.into(),
            relative: false,
            arguments: vec![],
        };
        let paths = plugin_files("/usr/lib/slurm:/opt/slurm", &[line(PLUGIN), line("/x/spank_mytoken.so")]);
        assert_eq!(
            paths,
            ["/x/spank_mytoken.so", "/usr/lib/slurm/spank_mytoken.so", "/opt/slurm/spank_mytoken.so"]
                .map(PathBuf::from)
        );
    }
}
