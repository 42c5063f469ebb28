// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about the agent: whether it runs, its version, its keys, its socket and its directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::config::{ConfigError, FileTrust};
use mytoken_wire::agent::{AgentError, MissedEnd, MissedRecord as _, MissedStart, Status, StatusQuery, ask};
use mytoken_wire::paths::{JOBS, MISSED, SESSIONS};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::configuration::{exists, word};
use super::kinds::Kind;
use super::running::{KeysOnDisk, Running, VERSION, has_systemd, on_host};
use super::{Findings, Severity, kinds_slurm as kinds};
use crate::agent::process;
use crate::agent::runtime_dir::UNREADABLE_RECORDS;
use crate::jobs::agent_settings::AgentSettings;
use crate::jobs::settings::JobsSettings;

/// What is seen of the agent.
struct Seen {
    answer: Result<Status, AgentError>,
    socket_mode: Option<u32>,
    key: KeyOnDisk,
    /// Whether systemd runs services here.
    systemd: bool,
    /// Whether slurmd runs here: only a host without it may lack the private key.
    slurmd: bool,
}

/// The cluster's private key on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyOnDisk {
    /// It is there. The ids of the keys, as far as whoever checks can read them.
    Ids(KeysOnDisk),
    /// There is none.
    Missing,
}

impl KeyOnDisk {
    fn of(jobs: Option<&JobsSettings>, trust: FileTrust) -> Self {
        let Some(jobs) = jobs else { return Self::Ids(KeysOnDisk::default()) };
        let file = &jobs.cluster.private_key_file;
        if !exists(file) {
            return Self::Missing;
        }
        Self::Ids(KeysOnDisk::of(&jobs.cluster, trust))
    }
}

impl Findings {
    /// Checks the agent behind `socket`.
    pub(super) fn agent(&mut self, socket: &Path, jobs: Option<&JobsSettings>, trust: FileTrust) {
        let seen = Seen {
            answer: ask(socket, &StatusQuery::default(), Deadline::after(Duration::from_secs(3))),
            socket_mode: socket.metadata().ok().map(|meta| meta.mode() & 0o777),
            key: KeyOnDisk::of(jobs, trust),
            systemd: has_systemd(),
            slurmd: !process::named("slurmd").is_empty(),
        };
        self.agent_seen(&seen, socket, jobs);
    }

    fn agent_seen(&mut self, seen: &Seen, socket: &Path, jobs: Option<&JobsSettings>) {
        let here = |kind: Kind| on_host(kind, seen.systemd);
        let running = Running::agent(seen.systemd);
        let status = match &seen.answer {
            Ok(status) => status,
            Err(error @ AgentError::Unreachable { .. }) => {
                // A login host without jobs.toml: sessions keep the token of their login until it expires.
                let level = if jobs.is_some() { Severity::Error } else { Severity::Warning };
                return self.add_kind(Kind { level, ..here(kinds::AGENT_DOWN) }, error.to_string());
            }
            Err(error) => return self.add_kind(here(kinds::AGENT_PROTOCOL), error.to_string()),
        };
        let before = self.findings.len();
        self.running_version(running, status.version.as_deref());
        // An agent of the first version does not tell its keys.
        // With brokers, a node has none.
        if status.version.is_some() && !jobs.is_some_and(|jobs| jobs.broker.is_used()) {
            self.agent_keys(seen, &status.keys, running, jobs);
        }
        if let Some(refused) = &status.refused_reload {
            self.refused_reload(running, Some(refused.time), &refused.reason);
        }
        if seen.socket_mode.is_some_and(|mode| mode & 0o666 != 0o666) {
            let mode = seen.socket_mode.unwrap_or_default();
            let text =
                format!("{} has mode {mode:03o}: users cannot ask for the state of their jobs", socket.display());
            self.add_fixed(kinds::AGENT_SOCKET, text, format!("chmod 666 {}", word(&socket.to_string_lossy())));
        }
        if self.findings.len() == before {
            let count = status.jobs.len().saturating_add(status.omitted);
            let keys = match status.keys.as_slice() {
                [] => "no key: it serves sessions only".to_owned(),
                [key] => format!("key pair {key}"),
                [key, earlier @ ..] => format!("key pair {key}, and for running jobs {}", earlier.join(" ")),
            };
            let text = format!(
                "{} answers as {}, version {VERSION}, {count} jobs and sessions, {keys}",
                socket.display(),
                status.node
            );
            self.ok("agent", text);
        }
    }

    fn agent_keys(&mut self, seen: &Seen, keys: &[String], running: Running, jobs: Option<&JobsSettings>) {
        let file = jobs.map(|jobs| jobs.cluster.private_key_file.display().to_string()).unwrap_or_default();
        match &seen.key {
            KeyOnDisk::Ids(disk) => match disk.of_pair() {
                Some(id) if keys.is_empty() => {
                    let text = format!(
                        "the agent has no key and serves sessions only, but {file} has key {id}: it was put there later"
                    );
                    self.add_kind(running.key, text);
                }
                id => self.running_keys(running, keys, disk, id.map(|id| (id, running.key.fix.to_owned()))),
            },
            KeyOnDisk::Missing if !keys.is_empty() => {
                let text = format!(
                    "the agent has key {}, but there is no {file} any more: jobs get no token after its next start",
                    keys.join(" ")
                );
                let fix = format!("ls -l {}   # copy it from another node: owner root, mode 0600", word(&file));
                self.add_fixed(kinds::AGENT_KEY_FILE, text, fix);
            }
            KeyOnDisk::Missing if seen.slurmd => {
                let text = format!("slurmd runs here, but there is no {file}: jobs on this host get no token");
                let (file, reload) = (word(&file), running.key.fix);
                let fix = format!("scp -p HOST:{file} {file} && {reload}   # HOST: another node");
                self.add_fixed(kinds::NODE_WITHOUT_KEY, text, fix);
            }
            KeyOnDisk::Missing => {}
        }
    }

    /// Checks the directory with the token files. Returns the directories in it, and itself, that others can change.
    pub(super) fn runtime_dir(&mut self, directory: &Path) -> Vec<PathBuf> {
        // Without it the agent does not run, or not there, which is a finding of its own.
        let Ok(meta) = directory.metadata() else { return Vec::new() };
        let in_memory = statfs(directory).map_or(true, |about| about.filesystem_type() == TMPFS_MAGIC);
        self.runtime_dir_seen(directory, meta.mode() & 0o777, in_memory);
        let open = self.runtime_dir_open(directory);
        let kept = directory.join(UNREADABLE_RECORDS);
        // Without the directory, or without the right to list it, there is nothing to say.
        let count = kept.read_dir().map_or(0, Iterator::count);
        if count > 0 {
            let text = format!(
                "{} has {count} leases of jobs or sessions that the agent cannot read: of another version, or damaged; their sub-tokens \
                 are not revoked; an upgrade to the newer version takes them back, and what is damaged may be removed",
                kept.display()
            );
            let fix =
                format!("ls -l {}   # the agent's log says what is wrong with each", word(&kept.to_string_lossy()));
            self.add_fixed(kinds::LEASES_UNREADABLE, text, fix);
        }
        let missed = directory.join(MISSED);
        let is_kept = |name: &str| MissedStart::job_of_kept(name).or_else(|| MissedEnd::job_of_kept(name)).is_some();
        let names = missed.read_dir().into_iter().flatten().flatten();
        let count = names.filter(|entry| entry.file_name().to_str().is_some_and(is_kept)).count();
        if count > 0 {
            let text = format!(
                "{} has {count} records of jobs that began or ended without an agent, and the agent cannot read them: of another version, or \
                 damaged; what is damaged may be removed",
                missed.display()
            );
            let fix =
                format!("ls -l {}   # the agent's log says what is wrong with each", word(&missed.to_string_lossy()));
            self.add_fixed(kinds::LEASES_UNREADABLE, text, fix);
        }
        open
    }

    /// Adds where others than root can replace what the agent keeps there. Returns these directories.
    fn runtime_dir_open(&mut self, directory: &Path) -> Vec<PathBuf> {
        let mut open = Vec::new();
        let own = [(JOBS, "711"), (SESSIONS, "711"), ("state", "700"), (MISSED, "700")];
        let own = own.map(|(name, mode)| (directory.join(name), mode));
        for (path, mode) in std::iter::once((directory.to_owned(), "711")).chain(own) {
            // The configured path can be a link. The agent makes no links in it.
            let meta = if path == directory { path.metadata() } else { path.symlink_metadata() };
            let Ok(meta) = meta else { continue };
            let fault = match (meta.uid(), meta.mode() & 0o777) {
                (0, now) if now & 0o022 == 0 && meta.is_dir() => continue,
                (0, now) if meta.is_dir() => format!("has mode {now:03o}"),
                (0, _) => "is no directory".to_owned(),
                (uid, _) => format!("belongs to user {uid}, not to root"),
            };
            let shown = word(&path.to_string_lossy());
            let effect = if meta.is_dir() || meta.uid() != 0 {
                "others than root can replace the tokens of users"
            } else {
                "the agent can keep no tokens there"
            };
            let mut text = format!("{} {fault}: {effect}", path.display());
            let fix = if path == directory && is_of_others(directory) {
                text.push_str(NOT_OWN);
                SHOW_SETTING.to_owned()
            } else if meta.is_dir() {
                // Until then somebody else may put a link there: these commands follow none.
                let real = if path == directory { path.canonicalize().ok() } else { None };
                let real = real.as_deref().unwrap_or(&path);
                let real = word(&real.to_string_lossy());
                format!("chown -h root:root {real} && find {real} -maxdepth 0 -type d -exec chmod {mode} {{}} +")
            } else {
                format!("ls -ld {shown}   # move it away, then: systemctl restart mytokend")
            };
            self.add_fixed(kinds::RUNTIME_DIR_OPEN, text, fix);
            open.push(path);
        }
        // Who can change a directory above it can put another one in its place. In one like /dev/shm only the owner can.
        let above = directory.parent().map(|parent| FileTrust::user(0).directory(parent));
        if let Some(Err(error)) = above {
            if let ConfigError::Unsafe { file, reason, .. } = &error {
                let text = format!("{file}: {reason}; others than root can replace {}", directory.display());
                self.add_file_error(kinds::RUNTIME_DIR_OPEN, &error.into(), &text);
                open.push(directory.to_owned());
            }
        }
        open
    }

    fn runtime_dir_seen(&mut self, directory: &Path, mode: u32, in_memory: bool) {
        let path = directory.display();
        if mode & 0o011 != 0o011 {
            let mut text = format!("{path} has mode {mode:03o}: users cannot reach their token files in it");
            let fix = if is_of_others(directory) {
                text.push_str(NOT_OWN);
                SHOW_SETTING.to_owned()
            } else {
                format!("chmod 711 {}", word(&directory.to_string_lossy()))
            };
            self.add_fixed(kinds::RUNTIME_DIR_MODE, text, fix);
        }
        if !in_memory {
            let text =
                format!("{path} is not in memory (tmpfs): tokens are written to a disk, and stay there after a crash");
            if directory == AgentSettings::default().runtime_dir {
                // No file names it.
                let fix = format!("findmnt -T {}   # mount a tmpfs at /run", word(&directory.to_string_lossy()));
                self.add_fixed(kinds::RUNTIME_DIR_DISK, text, fix);
            } else {
                self.add_kind(kinds::RUNTIME_DIR_DISK, text);
            }
        }
    }
}

/// What is wrong with a `runtime_dir` of the system, and the command for it: another mode would harm others.
const NOT_OWN: &str = "; it is not the agent's alone: give the agent a directory of its own (runtime_dir)";
const SHOW_SETTING: &str =
    "grep -rn runtime_dir /etc/mytoken   # choose a directory below /run that only the agent uses";

/// Directories of the system, beside those right below the root.
const OF_SYSTEM: [&str; 9] =
    ["/dev/shm", "/run/lock", "/run/user", "/var/cache", "/var/lib", "/var/lock", "/var/log", "/var/run", "/var/spool"];

/// Whether a path, which the configuration names as the agent's directory, is used by others too: a directory of the system, one where each
/// user may write, or no directory at all.
fn is_of_others(path: &Path) -> bool {
    let Ok(meta) = path.metadata() else { return false };
    let is_of_system =
        |path: &Path| path.components().count() <= 2 || OF_SYSTEM.iter().any(|known| path == Path::new(known));
    !meta.is_dir()
        || meta.mode() & 0o1000 != 0
        || is_of_system(path)
        || path.canonicalize().is_ok_and(|real| is_of_system(&real))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use mytoken_wire::agent::RefusedReload;

    use super::*;

    fn jobs() -> JobsSettings {
        toml::from_str("[cluster]\nname = 'c'\nprivate_key_file = '/dev/null'").unwrap()
    }

    fn status(version: Option<&str>, keys: &[&str]) -> Status {
        let keys = keys.iter().map(ToString::to_string).collect();
        Status { node: "n1".into(), version: version.map(str::to_owned), keys, ..Status::default() }
    }

    /// A pair with this id, and further private keys.
    fn disk(id: &str, further: &[&str]) -> KeyOnDisk {
        let further = further.iter().map(ToString::to_string).collect();
        KeyOnDisk::Ids(KeysOnDisk { public: Some(id.to_owned()), private: Some(id.to_owned()), further })
    }

    /// Ids and commands of the findings.
    fn found(answer: Result<Status, AgentError>, mode: u32, key: KeyOnDisk, systemd: bool) -> Vec<(String, String)> {
        let seen = Seen { answer, socket_mode: Some(mode), key, systemd, slurmd: false };
        let mut findings = Findings::default();
        findings.agent_seen(&seen, Path::new("/run/mytoken/agent.sock"), Some(&jobs()));
        let of_interest = findings.findings.into_iter().filter(|finding| finding.level != Severity::Ok);
        of_interest.map(|finding| (finding.id.unwrap(), finding.fix.unwrap_or_default())).collect()
    }

    #[test]
    fn each_state_of_the_agent_has_its_finding() {
        let pair = || disk("new", &[]);
        let good = || status(Some(VERSION), &["new"]);
        let none: [(&str, &str); 0] = [];
        let next = KeyOnDisk::Ids(KeysOnDisk {
            public: Some("next".into()),
            private: Some("new".into()),
            further: vec!["next".into()],
        });
        let refused_reload = Some(RefusedReload { time: 1, reason: "the key is gone".into() });
        let unreachable = AgentError::Unreachable { reason: "x".into() };
        let protocol = AgentError::Protocol { reason: "x".into() };
        let rows = [
            (Ok(good()), 0o666, pair(), &none[..]),
            (Ok(good()), 0o660, pair(), &[("agent-socket-mode", "chmod 666 /run/mytoken/agent.sock")]),
            (Err(unreachable), 0o666, pair(), &[("agent-not-running", "systemctl enable --now mytokend")]),
            (Err(protocol), 0o666, pair(), &[("agent-protocol", "systemctl restart mytokend")]),
            (Ok(status(Some("0.0.9"), &["new"])), 0o666, pair(), &[("agent-version", "systemctl restart mytokend")]),
            (Ok(status(None, &[])), 0o666, pair(), &[("agent-version", "systemctl restart mytokend")]),
            (Ok(status(Some(VERSION), &["old"])), 0o666, pair(), &[("agent-key", "systemctl reload mytokend")]),
            (Ok(status(Some(VERSION), &[])), 0o666, pair(), &[("agent-key", "systemctl reload mytokend")]),
            // After a reload, and with the earlier pair put back.
            (Ok(status(Some(VERSION), &["new", "old"])), 0o666, pair(), &none[..]),
            (Ok(status(Some(VERSION), &["old", "new"])), 0o666, pair(), &none[..]),
            (Ok(status(Some(VERSION), &[])), 0o666, KeyOnDisk::Missing, &none[..]),
            (Ok(good()), 0o666, KeyOnDisk::Ids(KeysOnDisk::default()), &none[..]),
            // While a key is being replaced: first the next private key is there, then the next public one.
            (Ok(good()), 0o666, disk("new", &["next"]), &[("agent-key-not-read", "systemctl reload mytokend")]),
            (Ok(status(Some(VERSION), &["new", "next"])), 0o666, disk("new", &["next"]), &none[..]),
            (Ok(good()), 0o666, next, &[("agent-key", "systemctl reload mytokend")]),
            (
                Ok(Status { refused_reload, ..good() }),
                0o666,
                pair(),
                &[(
                    "agent-reload-refused",
                    "mytokend agent --check && systemctl reload mytokend   # the check says what is still wrong",
                )],
            ),
        ];
        for (answer, mode, key, wanted) in rows {
            let shown = format!("{answer:?} {mode:o} {key:?}");
            let wanted: Vec<_> = wanted.iter().map(|(id, fix)| ((*id).to_owned(), (*fix).to_owned())).collect();
            assert_eq!(found(answer, mode, key, true), wanted, "{shown}");
        }
        let gone = found(Ok(good()), 0o666, KeyOnDisk::Missing, true);
        assert!(gone.len() == 1 && gone[0].0 == "agent-key-file", "{gone:?}");
    }

    #[test]
    fn commands_fit_hosts_without_systemd() {
        let unreachable = Err(AgentError::Unreachable { reason: "x".into() });
        let of_key = Ok(status(Some(VERSION), &["old"]));
        let refused_reload = Some(RefusedReload { time: 1, reason: "x".into() });
        let refused = Ok(Status { refused_reload, ..status(Some(VERSION), &["new"]) });
        for (answer, command) in [
            (unreachable, "setsid --fork mytokend agent "),
            (of_key, "pkill -HUP -x mytokend"),
            (refused, "mytokend agent --check && pkill -HUP -x mytokend "),
        ] {
            let found = found(answer, 0o666, disk("new", &[]), false);
            assert!(found.len() == 1 && found[0].1.starts_with(command), "{found:?}");
        }
    }

    #[test]
    fn an_agent_that_only_sessions_need_is_a_warning() {
        let seen = Seen {
            answer: Err(AgentError::Unreachable { reason: "x".into() }),
            socket_mode: None,
            key: KeyOnDisk::Ids(KeysOnDisk::default()),
            systemd: true,
            slurmd: false,
        };
        let mut findings = Findings::default();
        findings.agent_seen(&seen, Path::new("/x"), None);
        assert_eq!(findings.exit_status(), 1);
    }

    #[test]
    fn only_a_host_without_slurmd_may_lack_the_key() {
        for (slurmd, expected) in [(true, &["node-without-key"][..]), (false, &["agent-ok"])] {
            let answer = Ok(status(Some(VERSION), &[]));
            let seen = Seen { answer, socket_mode: Some(0o666), key: KeyOnDisk::Missing, systemd: true, slurmd };
            let mut findings = Findings::default();
            findings.agent_seen(&seen, Path::new("/x"), Some(&jobs()));
            let ids: Vec<_> = findings.findings.iter().filter_map(|finding| finding.id.as_deref()).collect();
            assert_eq!(ids, expected, "{slurmd}");
        }
    }

    #[test]
    fn leases_that_the_agent_could_not_read_are_told() {
        let ids = |directory: &Path| {
            let mut findings = Findings::default();
            findings.runtime_dir(directory);
            let ids = findings.findings.into_iter().filter_map(|finding| finding.id);
            ids.filter(|id| id.starts_with("leases")).collect::<Vec<_>>()
        };
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ids(dir.path()), [""; 0]);
        std::fs::create_dir(dir.path().join(UNREADABLE_RECORDS)).unwrap();
        assert_eq!(ids(dir.path()), [""; 0]);
        std::fs::write(dir.path().join(UNREADABLE_RECORDS).join("000001-job-7.json"), "x").unwrap();
        assert_eq!(ids(dir.path()), ["leases-unreadable"]);
        std::fs::create_dir(dir.path().join(MISSED)).unwrap();
        std::fs::write(dir.path().join(MISSED).join("7.json"), "x").unwrap();
        assert_eq!(ids(dir.path()), ["leases-unreadable"]);
        std::fs::write(dir.path().join(MISSED).join("7.json.unreadable"), "x").unwrap();
        assert_eq!(ids(dir.path()), ["leases-unreadable"; 2]);
    }

    #[test]
    fn a_directory_where_all_users_write_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, command) in [(0o1777, "grep -rn runtime_dir "), (0o777, "chown -h root:root ")] {
            std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let mut findings = Findings::default();
            assert_eq!(findings.runtime_dir_open(dir.path()), [dir.path()]);
            assert!(findings.findings[0].fix.as_ref().unwrap().starts_with(command), "{findings:?}");
        }
    }

    #[test]
    fn a_directory_above_it_that_others_can_change_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let own = run.join("mytoken");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::set_permissions(&own, Permissions::from_mode(0o711)).unwrap();
        for (mode, is_open) in [(0o755, false), (0o1777, false), (0o775, true), (0o777, true)] {
            std::fs::set_permissions(&run, Permissions::from_mode(mode)).unwrap();
            let mut findings = Findings::default();
            let open = findings.runtime_dir_open(&own);
            let told: Vec<_> = findings.findings.iter().map(|finding| finding.text.as_str()).collect();
            assert_eq!((open.len(), told.len()), (usize::from(is_open), usize::from(is_open)), "{mode:o} {told:?}");
            assert!(told.iter().all(|text| text.ends_with(&format!("can replace {}", own.display()))), "{told:?}");
        }
    }

    #[test]
    fn the_runtime_directory_is_in_memory_and_users_can_reach_their_files() {
        for (mode, in_memory, wanted) in [
            (0o711, true, vec![]),
            (0o755, true, vec![]),
            (0o700, true, vec!["runtime-dir-mode"]),
            (0o710, true, vec!["runtime-dir-mode"]),
            (0o711, false, vec!["runtime-dir-on-disk"]),
        ] {
            let mut findings = Findings::default();
            findings.runtime_dir_seen(Path::new("/run/mytoken"), mode, in_memory);
            let ids: Vec<_> = findings.findings.iter().filter_map(|finding| finding.id.as_deref()).collect();
            assert_eq!(ids, wanted, "{mode:o} {in_memory}");
        }
        // Its mode is what the system needs.
        for (directory, command) in [
            ("/root", "grep -rn runtime_dir /etc/mytoken "),
            ("/etc/passwd", "grep -rn runtime_dir /etc/mytoken "),
            ("/srv/jobs", "chmod 711 /srv/jobs"),
        ] {
            let mut told = Findings::default();
            told.runtime_dir_seen(Path::new(directory), 0o700, true);
            assert!(told.findings[0].fix.as_ref().unwrap().starts_with(command), "{told:?}");
            let is_own = command.starts_with("chmod");
            assert_eq!(told.findings[0].text.contains("give the agent a directory of its own"), !is_own, "{told:?}");
        }
        // The usual one is in no file, so a search in files would find nothing.
        let (usual, other) = (AgentSettings::default().runtime_dir, Path::new("/srv/jobs"));
        for (directory, command) in [(other, "grep -rn runtime_dir "), (&*usual, "findmnt -T /run/mytoken ")] {
            let mut told = Findings::default();
            told.runtime_dir_seen(directory, 0o711, false);
            assert!(told.findings[0].fix.as_ref().unwrap().starts_with(command), "{told:?}");
        }
    }
}
