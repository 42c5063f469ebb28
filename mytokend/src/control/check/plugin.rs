// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about the Slurm plugin.

use std::path::Path;

use super::running::VERSION;
use mytoken_wire::{PluginSettings, printable};

use super::configuration::{edit, word};
use super::plugin_fixes::{add_line, controller, is_configless, move_line, show_lines};
use super::plugstack::PluginLine;
use super::slurm::{InMemory, PLUGIN, SENT, Seen};
use super::{Findings, kinds_slurm as kinds};

impl Findings {
    pub(super) fn plugin(&mut self, seen: &Seen) {
        let before = self.findings.len();
        let Some(help) = &seen.help else { return };
        // SLURM-33: Slurm's own commands decide whether the plugin works. Its files and lines only say why not.
        let loaded = help.as_ref().is_ok_and(|help| help.contains("--mytoken"));
        self.srun_fails = help.is_err();
        if !loaded {
            self.plugin_missing(seen, help.as_ref().map_or_else(|reason| reason.as_str(), |help| help.as_str()));
        }
        for line in seen.lines.iter().filter(|line| line.required) {
            let place = format!("{}:{}", line.file.display(), line.number);
            // SLURM-06.
            let text =
                format!("{place} says required: a node where the plugin is missing is drained, and its jobs are held");
            // Packages own the file, and the place in /etc is a link to it.
            let file = word(&line.file.to_string_lossy());
            let fix = format!("sed -i --follow-symlinks '{}s/required/optional/' {file}", line.number);
            self.add_fixed(kinds::PLUGIN_REQUIRED, text, fix);
        }
        // The plugin's own parser. With a mistake, each submission with a credential fails.
        for line in &seen.lines {
            let place = format!("{}:{}", line.file.display(), line.number);
            for problem in PluginSettings::parse(&line.arguments).problems {
                let problem = problem.strip_prefix("plugstack.conf: ").unwrap_or(&problem);
                let text = format!("{place}: {}: no job gets a credential", printable(problem, 200));
                self.add_fixed(kinds::PLUGIN_ARGUMENT, text, format!("{}   # man 8 spank_mytoken", edit(&place)));
            }
        }
        let configless = is_configless(seen);
        let relative = seen.lines.iter().find(|line| configless && line.relative);
        let moved = relative.zip(seen.plugstack.as_deref()).map(|(line, served)| (line, move_line(&line.file, served)));
        if seen.lines.len() > 1 {
            // The line that hosts without configuration files get is there. The command then only removes the other one.
            let is_sent = seen.lines.iter().any(|line| seen.plugstack.as_ref() == Some(&line.file));
            let fix = moved.filter(|_| is_sent).map_or_else(|| show_lines(seen), |(_, fix)| fix);
            self.twice(&seen.lines, fix);
        } else if let Some((line, fix)) = moved {
            // SLURM-05.
            let text = format!(
                "{} is included by a relative path: hosts without configuration files do not get it",
                line.file.display()
            );
            self.add_fixed(kinds::PLUGIN_CONFIGLESS, text, fix);
        }
        if !loaded {
            return;
        }
        if let Some((file, version)) = seen.file.as_ref().filter(|(_, version)| version.as_deref() != Some(VERSION)) {
            self.add_kind(kinds::PLUGIN_VERSION, other_version(&file.display().to_string(), version.as_deref()));
        }
        // SLURM-04: slurmd looks for plugins with an epilog only when it starts.
        let those = |of: &dyn Fn(&InMemory) -> bool| -> Vec<String> {
            seen.slurmds.iter().filter(|(_, plugin)| of(plugin)).map(|(pid, _)| pid.to_string()).collect()
        };
        let early = those(&|plugin| *plugin == InMemory::Absent);
        if !early.is_empty() {
            let text = format!(
                "slurmd (process {}) was started before the plugin was there: it may call no epilog, and the agent learns of the end of jobs late",
                early.join(" ")
            );
            self.add_kind(kinds::SLURMD_STARTED_EARLIER, text);
        }
        let upgraded =
            those(&|plugin| matches!(plugin, InMemory::Version(version) if version.as_deref() != Some(VERSION)));
        if !upgraded.is_empty() {
            let text = format!(
                "slurmd (process {}) was started before the plugin was upgraded: it calls the epilog of another version than {VERSION}",
                upgraded.join(" ")
            );
            self.add_kind(kinds::SLURMD_BEFORE_UPGRADE, text);
        }
        if self.findings.len() == before {
            let file = seen.file.as_ref().map_or_else(|| PLUGIN.to_owned(), |(file, _)| file.display().to_string());
            self.ok("Slurm plugin", format!("srun loads {file}, version {VERSION}"));
        }
    }

    /// More than one line loads the plugin.
    fn twice(&mut self, lines: &[PluginLine], fix: String) {
        let places = lines.iter().take(MOST_SHOWN).map(|line| format!("{}:{}", line.file.display(), line.number));
        // SLURM-83.
        let text = format!(
            "{} lines load {PLUGIN} ({}): Slurm calls its hooks once for each",
            lines.len(),
            places.collect::<Vec<_>>().join(", ")
        );
        self.add_fixed(kinds::PLUGIN_TWICE, text, fix);
    }

    /// Why srun does not have the option.
    fn plugin_missing(&mut self, seen: &Seen, help: &str) {
        let complete = seen.file.is_some() && !seen.lines.is_empty();
        let config = seen.config.as_ref().and_then(|config| config.as_ref().ok());
        // Without Slurm's configuration, which is a finding of its own, it is not known where the file belongs.
        if seen.file.is_none() && !matches!(seen.config, Some(Err(_))) {
            let directory = config.and_then(|config| config.get("PluginDir")).unwrap_or("PluginDir");
            self.add_kind(kinds::PLUGIN_FILE, format!("there is no {PLUGIN} in {directory}: sbatch has no --mytoken"));
        }
        let sent = seen.sent && seen.plugstack.as_ref().is_none_or(|file| file == Path::new(SENT));
        if seen.lines.is_empty() && sent && seen.link.is_none() {
            // SLURM-05: no file on this host can change that.
            let what = match seen.plugstack {
                Some(_) => format!("a plugstack.conf that does not load {PLUGIN}"),
                None => "no plugstack.conf".to_owned(),
            };
            let text = format!("slurmctld sends this host {what}: sbatch has no --mytoken");
            let fix = format!(
                "ssh {} mytokenctl check   # the line belongs into plugstack.conf there, beside slurm.conf",
                controller(seen)
            );
            self.add_fixed(kinds::PLUGIN_LINE, text, fix);
        } else if seen.lines.is_empty() {
            let text = format!("no line of {} loads {PLUGIN}: sbatch has no --mytoken", seen.place.display());
            self.add_fixed(kinds::PLUGIN_LINE, text, add_line(seen));
        }
        if complete {
            let reason = help
                .lines()
                .find(|line| line.contains("error: "))
                .unwrap_or("srun --help shows no --mytoken, and no error");
            self.add_kind(kinds::PLUGIN_NOT_LOADED, format!("Slurm does not load {PLUGIN}: {reason}"));
        }
    }
}

/// Most lines in a sentence.
const MOST_SHOWN: usize = 5;

pub(super) fn other_version(file: &str, version: Option<&str>) -> String {
    let version = version.map_or_else(|| "an older version".to_owned(), |version| format!("version {version}"));
    format!("{file} is of {version}, mytokenctl of {VERSION}")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Severity;
    use super::super::slurm::Config;
    use super::*;

    const LINK: &str = "/etc/slurm/plugstack.conf.d/mytoken.conf";

    fn healthy() -> Seen {
        Seen {
            config: None,
            plugstack: Some("/etc/slurm/plugstack.conf".into()),
            place: "/etc/slurm/plugstack.conf".into(),
            sent: false,
            own: Some("/etc/slurm".into()),
            link: Some(LINK.into()),
            help: Some(Ok("Usage\n      --mytoken=[PROFILE]\n".into())),
            lines: vec![PluginLine {
                file: "/etc/slurm/plugstack.conf".into(),
                number: 3,
                required: false,
                plugin: PLUGIN.into(),
                relative: false,
                arguments: vec![],
            }],
            file: Some((PathBuf::from("/usr/lib/slurm/spank_mytoken.so"), Some(VERSION.to_owned()))),
            slurmds: vec![(7, InMemory::Version(Some(VERSION.to_owned())))],
            private: vec![],
        }
    }

    fn found(change: impl FnOnce(&mut Seen)) -> Vec<(String, String, String)> {
        let mut seen = healthy();
        change(&mut seen);
        let mut findings = Findings::default();
        findings.plugin(&seen);
        let of_interest = findings.findings.into_iter().filter(|finding| finding.level != Severity::Ok);
        of_interest.map(|finding| (finding.id.unwrap(), finding.text, finding.fix.unwrap_or_default())).collect()
    }

    fn ids(change: impl FnOnce(&mut Seen)) -> Vec<String> {
        found(change).into_iter().map(|(id, _, _)| id).collect()
    }

    #[test]
    fn each_fault_of_the_plugin_is_found_alone() {
        let without_option = || Some(Ok("Usage\nsrun: error: spank: \"x\" exports 0 symbols\n".to_owned()));
        assert_eq!(ids(|_| {}), Vec::<String>::new());
        assert_eq!(ids(|seen| (seen.help, seen.file) = (without_option(), None)), ["plugin-file"]);
        assert_eq!(ids(|seen| (seen.help, seen.lines) = (without_option(), vec![])), ["plugin-line"]);
        let refused = found(|seen| seen.help = without_option());
        assert!(refused.len() == 1 && refused[0].0 == "plugin-not-loaded", "{refused:?}");
        assert!(refused[0].1.ends_with("exports 0 symbols"), "{refused:?}");
        let required = found(|seen| seen.lines[0].required = true);
        assert!(required.len() == 1 && required[0].0 == "plugin-required", "{required:?}");
        assert_eq!(required[0].2, "sed -i --follow-symlinks '3s/required/optional/' /etc/slurm/plugstack.conf");
        let argument = found(|seen| seen.lines[0].arguments = vec!["defualt=x".to_owned()]);
        assert!(argument.len() == 1 && argument[0].0 == "plugin-argument", "{argument:?}");
        assert!(
            argument[0].1.starts_with("/etc/slurm/plugstack.conf:3: argument \"defualt=x\" is unknown"),
            "{argument:?}"
        );
        for version in [None, Some("0.0.9".to_owned())] {
            assert_eq!(ids(|seen| seen.file.as_mut().unwrap().1 = version), ["plugin-version"]);
        }
        assert_eq!(ids(|seen| seen.slurmds.push((8, InMemory::Absent))), ["slurmd-without-plugin"]);
        for version in [None, Some("0.0.9".to_owned())] {
            let older = InMemory::Version(version);
            assert_eq!(ids(|seen| seen.slurmds.push((8, older))), ["slurmd-before-upgrade"]);
        }
        assert_eq!(ids(|seen| seen.slurmds.push((8, InMemory::Present))), Vec::<String>::new(), "not known");
    }

    #[test]
    fn a_plugin_that_slurm_loads_needs_no_file_and_line_that_we_find() {
        assert_eq!(ids(|seen| (seen.file, seen.lines) = (None, vec![])), Vec::<String>::new());
        assert_eq!(ids(|seen| seen.help = None), Vec::<String>::new(), "there is no srun to ask");
    }

    #[test]
    fn slurmd_is_not_blamed_for_a_plugin_that_is_missing() {
        let change = |seen: &mut Seen| {
            seen.help = Some(Err("srun failed: srun: error: x".into()));
            (seen.file, seen.slurmds) = (None, vec![(7, InMemory::Absent)]);
        };
        assert_eq!(ids(change), ["plugin-file"]);
    }

    #[test]
    fn a_host_without_files_is_told_where_the_line_belongs() {
        let found = |plugstack: Option<&str>, sent, links: bool, config: Option<&str>| {
            found(|seen| {
                seen.help = Some(Ok("Usage\n".to_owned()));
                seen.config = config.map(|text| Ok(Config::parse(text)));
                (seen.lines, seen.plugstack) = (vec![], plugstack.map(PathBuf::from));
                (seen.sent, seen.link) = (sent, links.then(|| LINK.into()));
            })
        };
        let controller = Some("SlurmctldHost[0]        = ctl1(10.0.0.1)\n");
        for (plugstack, what) in [(Some(SENT), "a plugstack.conf that does not load"), (None, "no plugstack.conf: ")] {
            let sent = found(plugstack, true, false, controller);
            assert!(sent.len() == 1 && sent[0].0 == "plugin-line", "{sent:?}");
            assert!(sent[0].1.starts_with(&format!("slurmctld sends this host {what}")), "{sent:?}");
            assert!(sent[0].2.starts_with("ssh ctl1 mytokenctl check   # "), "{sent:?}");
        }
        assert!(found(Some(SENT), true, false, None)[0].2.starts_with("ssh SLURMCTLD "));
        let file = "/etc/slurm/plugstack.conf";
        let (link, include) = ("mkdir -p /etc/slurm/plugstack.conf.d; ", format!("test -e {file} || install -D "));
        for (plugstack, sent, links, begin) in [
            // A link on this host helps.
            (Some(SENT), true, true, link),
            (Some(file), false, true, link),
            (Some(file), false, false, &include[..]),
            (Some(file), true, false, &include[..]),
            (None, false, false, &include[..]),
        ] {
            let here = found(plugstack, sent, links, controller);
            assert!(here.len() == 1 && here[0].2.starts_with(begin), "{here:?}");
        }
    }

    #[test]
    fn a_relative_include_does_not_reach_hosts_without_files() {
        let ids = ids(|seen| {
            seen.config = Some(Ok(Config::parse("SlurmctldParameters = enable_configless\n")));
            seen.lines[0].relative = true;
        });
        assert_eq!(ids, ["plugin-configless"]);
    }

    #[test]
    fn lines_that_load_the_plugin_twice_are_told() {
        let twice = |relative, second: &str, config: &str| {
            found(|seen| {
                seen.config = Some(Ok(Config::parse(config)));
                let first = PathBuf::from("/etc/slurm/plugstack.conf.d/mytoken.conf");
                seen.lines.insert(0, PluginLine { file: first, relative, ..seen.lines[0].clone() });
                seen.lines[1].file = second.into();
            })
        };
        let (configless, served) = ("SlurmctldParameters = enable_configless\n", "/etc/slurm/plugstack.conf");
        let (remove, show) = ("{ grep -q ", "grep -nE ");
        for (relative, second, config, begin) in [
            (false, served, "", show),
            (false, served, configless, show),
            (true, served, configless, remove),
            // Nothing says that other hosts have it.
            (true, "/opt/mytoken.conf", configless, show),
        ] {
            let found = twice(relative, second, config);
            assert!(found.len() == 1 && found[0].0 == "plugin-twice", "{found:?}");
            let places =
                format!("2 lines load spank_mytoken.so (/etc/slurm/plugstack.conf.d/mytoken.conf:3, {second}:3): ");
            assert!(found[0].1.starts_with(&places) && found[0].2.starts_with(begin), "{found:?}");
        }
        let shown = twice(false, served, "").remove(0).2;
        assert!(shown.contains("' /etc/slurm/plugstack.conf /etc/slurm/plugstack.conf.d/mytoken.conf   # "), "{shown}");
    }
}
