// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about services that run now and would not be back after the next boot.

use std::path::Path;

use super::host::{Host, Ran};
use super::kinds::Kind;
use super::{Findings, kinds_broker, kinds_slurm};

/// The units, their findings, and what would be missing.
const UNITS: [(&str, Kind, &str); 2] =
    [("mytokend", kinds_slurm::AGENT_BOOT, "agent"), ("mytokend-broker", kinds_broker::BROKER_BOOT, "broker")];

/// What is asked about a unit.
const PROPERTIES: &str = "--property=ActiveState,UnitFileState,WantedBy,RequiredBy,UpheldBy,TriggeredBy";

/// What else can start a unit at a boot: another unit by its own lines, a timer, a path.
const STARTERS: [&str; 4] = ["WantedBy", "RequiredBy", "UpheldBy", "TriggeredBy"];

/// The command after which a unit starts at a boot; `None` if it does already, or if the administrator starts it in another way.
fn enable(unit: &str, properties: &str) -> Option<String> {
    let value = |name: &str| {
        let mut lines = properties.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim())
    };
    if !["active", "reloading"].contains(&value("ActiveState")) {
        return None;
    }
    let is_started = || STARTERS.into_iter().any(|starter| !value(starter).is_empty());
    match value("UnitFileState") {
        "disabled" | "linked" if !is_started() => Some(format!("systemctl enable {unit}")),
        // Its link is in /run.
        "enabled-runtime" => Some(format!("systemctl enable {unit}")),
        // It goes on until it ends.
        "masked" => Some(format!("systemctl unmask {unit} && systemctl enable {unit}")),
        _ => None,
    }
}

impl Findings {
    /// Checks that agent and broker start at the next boot, where systemd has started them.
    pub(super) fn starts_at_boot(&mut self, host: &dyn Host) {
        // Elsewhere, for example in a container, systemctl can be installed and says nothing about this host.
        if !host.exists(Path::new("/run/systemd/system")) {
            return;
        }
        for (unit, kind, name) in UNITS {
            let service = format!("{unit}.service");
            let Ran::Output(properties) = host.run(Path::new("/usr/bin/systemctl"), &["show", PROPERTIES, &service])
            else {
                continue;
            };
            if let Some(fix) = enable(unit, &properties) {
                let text = format!("{service} runs, but is not enabled: after the next boot there is no {name}");
                self.add_fixed(kind, text, fix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Systemd {
        boots: bool,
        answer: Ran,
    }

    impl Host for Systemd {
        fn read(&self, _path: &Path) -> Option<String> {
            None
        }
        fn exists(&self, path: &Path) -> bool {
            self.boots && path == Path::new("/run/systemd/system")
        }
        fn run(&self, _program: &Path, arguments: &[&str]) -> Ran {
            if arguments.last() == Some(&"mytokend.service") { self.answer.clone() } else { Ran::Output(String::new()) }
        }
    }

    /// The command for an agent of which systemd says this.
    fn fix(boots: bool, answer: Ran) -> Option<String> {
        let mut findings = Findings::default();
        findings.starts_at_boot(&Systemd { boots, answer });
        assert!(findings.findings.len() < 2, "{findings:?}");
        let finding = findings.findings.pop()?;
        assert_eq!(finding.id.as_deref(), Some("agent-not-enabled"));
        finding.fix
    }

    #[test]
    fn only_a_unit_that_runs_and_that_nothing_starts_is_told() {
        let (enable, unmask) =
            (Some("systemctl enable mytokend"), Some("systemctl unmask mytokend && systemctl enable mytokend"));
        for (active, file, more, expected) in [
            ("active", "enabled", "WantedBy=multi-user.target\n", None),
            ("active", "disabled", "WantedBy=\nRequiredBy=\n", enable),
            ("active", "disabled", "", enable),
            ("reloading", "disabled", "", enable),
            ("active", "linked", "", enable),
            ("active", "enabled-runtime", "WantedBy=multi-user.target\n", enable),
            ("active", "masked", "", unmask),
            // The administrator's own way.
            ("active", "disabled", "WantedBy=slurmd.service\n", None),
            ("active", "disabled", "TriggeredBy=mytokend.timer\n", None),
            ("active", "static", "", None),
            ("active", "generated", "", None),
            // That it does not run is another finding.
            ("inactive", "disabled", "", None),
            ("failed", "masked", "", None),
            // A unit that is not there.
            ("inactive", "", "", None),
        ] {
            let said = format!("ActiveState={active}\nUnitFileState={file}\n{more}");
            assert_eq!(fix(true, Ran::Output(said.clone())).as_deref(), expected, "{said}");
            assert_eq!(fix(false, Ran::Output(said.clone())), None, "{said}");
        }
        for silent in [Ran::Missing, Ran::Failed("Failed to connect to bus".into()), Ran::Output(String::new())] {
            assert_eq!(fix(true, silent), None);
        }
    }
}
