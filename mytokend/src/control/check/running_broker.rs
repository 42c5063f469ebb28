// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about the broker that runs on this host: its version, its keys, and a reload that it refused.

use mytoken::config::FileTrust;

use super::Findings;
use super::keys::copy_pair;
use super::running::{KeysOnDisk, Running};
use crate::broker::status::BrokerStatus;
use crate::control::broker_status::NoStatus;
use crate::jobs::settings::JobsSettings;

impl Findings {
    /// Compares the broker of this host, by its answer, with this program and with the files.
    pub(super) fn running_broker(
        &mut self,
        jobs: &JobsSettings,
        answer: &Result<BrokerStatus, NoStatus>,
        systemd: bool,
        trust: FileTrust,
    ) {
        let running = Running::broker(systemd);
        let status = match answer {
            Ok(status) => status,
            // Whether a broker runs here is seen at its port.
            Err(away @ NoStatus::Away { .. }) => {
                return self.ok("brokers", format!("version and keys of the broker were not compared: {away}"));
            }
            Err(other) => return self.add_kind(running.version, other.to_string()),
        };
        self.running_version(running, status.version.as_deref());
        // A broker of the first version does not tell its keys.
        if status.version.is_some() {
            let disk = KeysOnDisk::of(&jobs.cluster, trust);
            let sealed = disk.public.as_deref().map(|id| {
                let reload = running.key.fix;
                // A reload alone cannot load a key that is not here.
                let copied =
                    || format!("{} && {reload}   # HOST: where mytokenctl keygen ran", copy_pair(&jobs.cluster));
                (id, if disk.opens(id) { reload.to_owned() } else { copied() })
            });
            self.running_keys(running, &status.keys, &disk, sealed);
        }
        if let Some(reason) = &status.configuration.trouble {
            self.refused_reload(running, status.configuration.refused, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use mytoken::private_files::Owner;

    use super::super::running::VERSION;
    use super::*;
    use crate::broker::status::{ConfigurationState, OF_FIRST_VERSION};
    use crate::control::keygen::keygen;
    use crate::jobs::{further_keys, keys};

    const REASON: &str = "jobs.toml is wrong";

    fn trust() -> FileTrust {
        FileTrust::user(Owner::current().uid)
    }

    /// A directory with a key pair, its settings, and the id of the pair.
    fn site() -> (tempfile::TempDir, JobsSettings, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let jobs = format!(
            "[cluster]\nname = 'c'\npublic_key_file = '{path}/cluster.pub'\nprivate_key_file = '{path}/cluster.key'\n"
        );
        std::fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
        let id = keygen(dir.path(), "").unwrap();
        let jobs = JobsSettings::load_alone(dir.path(), trust()).unwrap();
        (dir, jobs, id)
    }

    fn status(version: Option<&str>, keys: &[&str]) -> BrokerStatus {
        let first: BrokerStatus = serde_json::from_str(OF_FIRST_VERSION).unwrap();
        let keys = keys.iter().map(ToString::to_string).collect();
        BrokerStatus {
            version: version.map(str::to_owned),
            keys,
            configuration: ConfigurationState::default(),
            ..first
        }
    }

    /// Ids and commands of the problems.
    fn found(jobs: &JobsSettings, answer: &Result<BrokerStatus, NoStatus>, systemd: bool) -> Vec<(String, String)> {
        let mut findings = Findings::default();
        findings.running_broker(jobs, answer, systemd, trust());
        findings.problems().map(|found| (found.id.clone().unwrap(), found.fix.clone().unwrap_or_default())).collect()
    }

    fn ids(jobs: &JobsSettings, status: BrokerStatus) -> Vec<String> {
        found(jobs, &Ok(status), true).into_iter().map(|(id, _)| id).collect()
    }

    fn put(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn each_difference_of_a_running_broker_has_its_finding() {
        let (_dir, jobs, id) = site();
        let good = || status(Some(VERSION), &[&id]);
        let none: [(&str, &str); 0] = [];
        let refused = ConfigurationState { read: 1, trouble: Some(REASON.to_owned()), refused: Some(2) };
        let restart = "systemctl restart mytokend-broker";
        let mend = "mytokend broker --check && systemctl reload mytokend-broker   # the check says what is still wrong";
        for (answer, wanted) in [
            (Ok(good()), &none[..]),
            (Ok(status(Some("0.0.9"), &[&id])), &[("broker-version", restart)]),
            (Ok(status(None, &[])), &[("broker-version", restart)]),
            (Err(NoStatus::Answer("x".to_owned())), &[("broker-version", restart)]),
            (Err(NoStatus::Away { socket: "x".to_owned(), reason: "y".to_owned() }), &none[..]),
            (Ok(status(Some(VERSION), &["0a1b2c3d"])), &[("broker-key", "systemctl reload mytokend-broker")]),
            (Ok(BrokerStatus { configuration: refused, ..good() }), &[("broker-reload-refused", mend)]),
        ] {
            let wanted: Vec<_> = wanted.iter().map(|(id, fix)| ((*id).to_owned(), (*fix).to_owned())).collect();
            assert_eq!(found(&jobs, &answer, true), wanted, "{answer:?}");
        }
    }

    #[test]
    fn a_broker_that_cannot_be_asked_here_is_said_to_be_unknown() {
        let (_dir, jobs, _) = site();
        let mut findings = Findings::default();
        let away = NoStatus::Away { socket: "/run/x".to_owned(), reason: "No such file".to_owned() };
        findings.running_broker(&jobs, &Err(away), true, trust());
        let screen = findings.render();
        assert!(screen.contains("were not compared: no broker answers at /run/x: No such file"), "{screen}");
    }

    #[test]
    fn a_refused_reload_is_told_with_time_and_reason() {
        let (_dir, jobs, id) = site();
        let screen = |refused: Option<u64>| {
            let configuration = ConfigurationState { read: 1, trouble: Some(REASON.to_owned()), refused };
            let mut findings = Findings::default();
            let answer = Ok(BrokerStatus { configuration, ..status(Some(VERSION), &[&id]) });
            findings.running_broker(&jobs, &answer, true, trust());
            findings.render()
        };
        let told = screen(Some(1_800_000_000));
        assert!(told.contains("because the reload at 2027-01-15 08:00 UTC was refused: jobs.toml is wrong"), "{told}");
        assert!(screen(None).contains("because the reload was refused: jobs.toml is wrong"));
    }

    #[test]
    fn a_key_on_disk_that_is_not_loaded_is_found_before_submissions_need_it() {
        let (dir, jobs, id) = site();
        let (public, private) = keys::generate();
        let further = further_keys::directory(&jobs.cluster.private_key_file);
        std::fs::create_dir(&further).unwrap();
        put(&further.join(format!("{}.key", private.id())), &private.to_text());
        assert_eq!(ids(&jobs, status(Some(VERSION), &[&id])), ["broker-key-not-read"]);
        assert_eq!(ids(&jobs, status(Some(VERSION), &[&id, private.id()])), [""; 0]);
        std::fs::write(dir.path().join("cluster.pub"), public.to_text("")).unwrap();
        let found = found(&jobs, &Ok(status(Some(VERSION), &[&id])), true);
        assert_eq!(found, [("broker-key".to_owned(), "systemctl reload mytokend-broker".to_owned())]);
        // A broker may have more than the disk: running jobs were sealed to it.
        assert_eq!(ids(&jobs, status(Some(VERSION), &[&id, private.id(), "0a1b2c3d"])), [""; 0]);
    }

    #[test]
    fn a_public_key_of_another_pair_needs_more_than_a_reload() {
        let (dir, jobs, id) = site();
        std::fs::write(dir.path().join("cluster.pub"), keys::generate().0.to_text("")).unwrap();
        let found = found(&jobs, &Ok(status(Some(VERSION), &[&id])), true);
        assert!(found.len() == 1 && found[0].0 == "broker-key", "{found:?}");
        assert!(found[0].1.contains(" && scp -p HOST:"), "{found:?}");
        assert!(found[0].1.contains(" && systemctl reload mytokend-broker   # HOST: "), "{found:?}");
    }

    #[test]
    fn commands_fit_hosts_without_systemd() {
        let (_dir, jobs, id) = site();
        let trouble = ConfigurationState { trouble: Some(REASON.to_owned()), ..ConfigurationState::default() };
        for (status, command) in [
            (
                status(None, &[]),
                "while pkill -f '^[^ ]*mytokend broker'; do sleep 1; done; setsid --fork mytokend broker ",
            ),
            (status(Some(VERSION), &["0a1b2c3d"]), "pkill -HUP -f '^[^ ]*mytokend broker'"),
            (
                BrokerStatus { configuration: trouble, ..status(Some(VERSION), &[&id]) },
                "mytokend broker --check && pkill -HUP -f '^[^ ]*mytokend broker' ",
            ),
        ] {
            let found = found(&jobs, &Ok(status), false);
            assert!(found.len() == 1 && found[0].1.starts_with(command), "{found:?}");
        }
    }
}
