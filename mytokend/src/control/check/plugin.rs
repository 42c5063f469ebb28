// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about the Slurm plugin, and about the version of the PAM module.

use std::collections::BTreeSet;
use std::path::Path;

use super::running::VERSION;
use mytoken_wire::{PluginSettings, printable};

use super::configuration::{edit, word};
use super::host::{Host, module_paths};
use super::plugstack::PluginLine;
use super::slurm::{InMemory, PLUGIN, SENT, Seen, library_version};
use super::{Findings, kinds_slurm as kinds};

impl Findings {
    pub(super) fn plugin(&mut self, seen: &Seen) {
        let before = self.findings.len();
        let Some(help) = &seen.help else { return };
        // SLURM-33: Slurm's own commands decide whether the plugin works. Its files and lines only say why not.
        let loaded = help.as_ref().is_ok_and(|help| help.contains("--mytoken"));
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
        let config = seen.config.as_ref().and_then(|config| config.as_ref().ok());
        let configless = config.is_some_and(|config| config.has("SlurmctldParameters", "enable_configless"));
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
        if seen.file.is_none() {
            let directory = config.and_then(|config| config.get("PluginDir")).unwrap_or("PluginDir");
            self.add_kind(kinds::PLUGIN_FILE, format!("there is no {PLUGIN} in {directory}: sbatch has no --mytoken"));
        }
        let sent = seen.sent && seen.plugstack.as_ref().is_none_or(|file| file == Path::new(SENT));
        if seen.lines.is_empty() && sent && !seen.links {
            // SLURM-05: no file on this host can change that.
            let what = match seen.plugstack {
                Some(_) => format!("a plugstack.conf that does not load {PLUGIN}"),
                None => "no plugstack.conf".to_owned(),
            };
            let text = format!("slurmctld sends this host {what}: sbatch has no --mytoken");
            let controller = config.and_then(|config| config.get("SlurmctldHost[0]")).unwrap_or("SLURMCTLD");
            // Slurm shows an address behind the name.
            let controller = controller.split('(').next().unwrap_or(controller);
            let fix = format!(
                "ssh {} mytokenctl check   # the line belongs into plugstack.conf there, beside slurm.conf",
                word(controller)
            );
            self.add_fixed(kinds::PLUGIN_LINE, text, fix);
        } else if seen.lines.is_empty() {
            let text = format!("no line of plugstack.conf loads {PLUGIN}: sbatch has no --mytoken");
            self.add_kind(kinds::PLUGIN_LINE, text);
        }
        if complete {
            let reason = help
                .lines()
                .find(|line| line.contains("error: "))
                .unwrap_or("srun --help shows no --mytoken, and no error");
            self.add_kind(kinds::PLUGIN_NOT_LOADED, format!("Slurm does not load {PLUGIN}: {reason}"));
        }
    }

    /// Compares the PAM module's version with this program's.
    pub(super) fn pam_version(&mut self, host: &dyn Host) {
        // Without the file PAM's stack has a finding.
        let Some(file) = module_paths("pam_mytoken.so").into_iter().find(|path| host.exists(path)) else { return };
        let version = library_version(&file);
        if version.as_deref() != Some(VERSION) {
            self.add_kind(kinds::PAM_VERSION, other_version(&file.display().to_string(), version.as_deref()));
        }
    }
}

/// The file with our line that the package has.
const SHIPPED: &str = "/usr/share/mytoken/plugstack.conf";

/// A line that loads the plugin, for grep and sed.
const ANY_LINE: &str = "^[^#]*spank_mytoken[.]so";

/// Most lines in a sentence.
const MOST_SHOWN: usize = 5;

/// The command that shows the lines and what includes them.
fn show_lines(seen: &Seen) -> String {
    let files = seen.plugstack.iter().chain(seen.lines.iter().map(|line| &line.file));
    let files: BTreeSet<String> = files.map(|file| word(&file.to_string_lossy())).collect();
    let files: Vec<String> = files.into_iter().collect();
    format!("grep -nE '{ANY_LINE}|^ *include' {}   # keep one line, then restart slurmd", files.join(" "))
}

/// The command that moves our line from one file into the one that slurmctld sends. With both, Slurm would load the plugin twice
/// (SLURM-83), so a line that is there already is not added. A link to the file of the package is removed, because its file must stay as
/// it is.
fn move_line(from: &Path, to: &Path) -> String {
    moving(from, to, Path::new(SHIPPED))
}

fn moving(from: &Path, to: &Path, shipped: &Path) -> String {
    let [from, to, shipped] = [from, to, shipped].map(|path| word(&path.to_string_lossy()));
    let line = ANY_LINE;
    format!(
        "{{ grep -q '{line}' {to} || {{ sed -i --follow-symlinks '$a\\' {to} && grep -h '{line}' {from} >>{to}; }}; }} && \
         if test -L {from} && test {from} -ef {shipped}; then rm {from}; \
         elif test -e {from}; then sed -i --follow-symlinks '/{line}/d' {from}; fi && \
         scontrol reconfigure   # on slurmctld's host; then restart slurmd where it has no files"
    )
}

fn other_version(file: &str, version: Option<&str>) -> String {
    let version = version.map_or_else(|| "an older version".to_owned(), |version| format!("version {version}"));
    format!("{file} is of {version}, mytokenctl of {VERSION}")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;
    use std::process::Command;

    use super::super::Severity;
    use super::super::slurm::Config;
    use super::*;

    fn healthy() -> Seen {
        Seen {
            config: None,
            plugstack: Some("/etc/slurm/plugstack.conf".into()),
            sent: false,
            links: true,
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
        let found = |plugstack: Option<&str>, sent, links, config: Option<&str>| {
            found(|seen| {
                seen.help = Some(Ok("Usage\n".to_owned()));
                seen.config = config.map(|text| Ok(Config::parse(text)));
                (seen.lines, seen.plugstack) = (vec![], plugstack.map(PathBuf::from));
                (seen.sent, seen.links) = (sent, links);
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
        // A link on this host helps.
        for (plugstack, sent, links) in [
            (Some(SENT), true, true),
            (Some("/etc/slurm/plugstack.conf"), false, false),
            (Some("/etc/slurm/plugstack.conf"), true, false),
            (None, false, false),
        ] {
            let here = found(plugstack, sent, links, controller);
            assert!(here.len() == 1 && here[0].2.starts_with("mkdir -p /etc/slurm/plugstack.conf.d; "), "{here:?}");
        }
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

    #[test]
    fn the_line_moves_once_into_the_file_that_slurmctld_sends() {
        let configless = "SlurmctldParameters = enable_configless\n";
        let ids = ids(|seen| {
            seen.config = Some(Ok(Config::parse(configless)));
            seen.lines[0].relative = true;
        });
        assert_eq!(ids, ["plugin-configless"]);
        let own = "# optional spank_mytoken.so\noptional  spank_mytoken.so default=x # c\noptional another.so\n";
        let line = "optional  spank_mytoken.so default=x # c\n";
        // Without an end of the last line, and after a command that did not come to its end.
        let (before, after) =
            ("include d/*.conf\noptional other.so", format!("include d/*.conf\noptional other.so\n{line}"));
        for (linked, begin) in [(true, before), (false, before), (true, after.as_str()), (false, after.as_str())] {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            std::fs::write(path("scontrol"), format!("#!/bin/sh\necho $* >>{}\n", path("called").display())).unwrap();
            std::fs::set_permissions(path("scontrol"), Permissions::from_mode(0o755)).unwrap();
            std::fs::write(path("plugstack.conf"), begin).unwrap();
            std::fs::write(path("shipped"), own).unwrap();
            std::fs::create_dir(path("d")).unwrap();
            let from = path("d/mytoken.conf");
            if linked {
                symlink("../shipped", &from).unwrap();
            } else {
                std::fs::write(&from, own).unwrap();
            }
            let command = moving(&from, &path("plugstack.conf"), &path("shipped"));
            let removal = include_str!("../../../../docs/admin/removal.md");
            assert!(removal.contains(&format!("\nsed -i --follow-symlinks '/{ANY_LINE}/d' ")), "the way back");
            for _ in 0..2 {
                let search = format!("{}:/usr/bin:/bin", dir.path().display());
                let ran = Command::new("sh").args(["-c", &command]).env("PATH", search).output().unwrap();
                assert!(ran.status.success(), "{command} {ran:?}");
            }
            let text = |name: &str| std::fs::read_to_string(path(name)).unwrap();
            assert_eq!(text("plugstack.conf"), after);
            assert_eq!((text("shipped").as_str(), text("called").as_str()), (own, "reconfigure\nreconfigure\n"));
            if linked {
                assert!(!from.is_symlink());
            } else {
                assert_eq!(text("d/mytoken.conf"), "# optional spank_mytoken.so\noptional another.so\n");
            }
        }
    }
}
