// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that change plugstack.conf, and those that show what has to be changed in files of Slurm.

use std::collections::BTreeSet;
use std::path::Path;

use super::configuration::{edit, word};
use super::slurm::{Config, SENT, Seen};

/// The file with our line that the package has.
const SHIPPED: &str = "/usr/share/mytoken/plugstack.conf";

/// Where slurm.conf is, if slurmctld does not tell.
const USUAL: &str = "/etc/slurm/slurm.conf";

/// The command that makes Slurm read the package's line: a link where plugstack.conf includes it, else an include of the file itself.
/// Hosts without configuration files get plugstack.conf alone, so their own package must have what it includes (SLURM-05).
pub(super) fn add_line(seen: &Seen) -> String {
    adding(seen, Path::new(SHIPPED))
}

fn adding(seen: &Seen, shipped: &Path) -> String {
    let configless = is_configless(seen) && !seen.sent;
    let shipped = word(&shipped.to_string_lossy());
    if let Some(link) = seen.link.as_deref().filter(|_| !configless) {
        let directory = link.parent().unwrap_or(Path::new("/"));
        let above = directory.parent().unwrap_or(Path::new("/"));
        let [link, directory, above] = [link, directory, above].map(|path| word(&path.to_string_lossy()));
        // A file of this name may have other lines. It is moved out of the directory, of which many sites include all files.
        return format!(
            "mkdir -p {directory}; test {link} -ef {shipped} || {{ mv -fb -t {above} {link} 2>/dev/null; ln -s {shipped} {link}; }}   # on nodes, then: systemctl restart slurmd"
        );
    }
    let file = word(&seen.place.to_string_lossy());
    let served = if configless { " && scontrol reconfigure" } else { "" };
    format!(
        "test -e {file} || install -D -m 0644 /dev/null {file}; \
         {{ grep -q '^[[:blank:]]*include[[:blank:]]*'{shipped} {file} || \
         {{ sed -i --follow-symlinks '$a\\' {file} && echo 'include '{shipped} >>{file}; }}; }}{served}   # on nodes, then: systemctl restart slurmd"
    )
}

/// Whether slurmctld sends its configuration to hosts that have none.
pub(super) fn is_configless(seen: &Seen) -> bool {
    config(seen).is_some_and(|config| config.has("SlurmctldParameters", "enable_configless"))
}

fn config(seen: &Seen) -> Option<&Config> {
    seen.config.as_ref()?.as_ref().ok()
}

/// The host of slurmctld, as a word.
pub(super) fn controller(seen: &Seen) -> String {
    let name = config(seen).and_then(|config| config.get("SlurmctldHost[0]")).unwrap_or("SLURMCTLD");
    // Slurm shows an address behind the name.
    word(name.split('(').next().unwrap_or(name))
}

fn show(words: &str, directory: &Path, name: &str) -> String {
    format!("grep -in {words} {}", word(&directory.join(name).to_string_lossy()))
}

/// The command that shows lines of a file beside slurmctld's slurm.conf.
fn show_there(seen: &Seen, words: &str, name: &str) -> String {
    let conf = config(seen).and_then(|config| config.get("SLURM_CONF")).map_or(Path::new(USUAL), Path::new);
    let directory = conf.parent().unwrap_or(Path::new("/"));
    format!("ssh {} {}", controller(seen), word(&show(words, directory, name)))
}

/// The command that shows `job_env`. A host without slurm.conf gets it from slurmctld's.
pub(super) fn remove_job_env(seen: &Seen) -> String {
    let (words, name) = ("-e AccountingStoreFlags -e ^include", "slurm.conf");
    match &seen.own {
        Some(own) => format!(
            "{}   # remove job_env, also on {} if that has another file; then: scontrol reconfigure",
            show(words, own, name),
            controller(seen)
        ),
        None => format!("{}   # remove job_env there, then: scontrol reconfigure", show_there(seen, words, name)),
    }
}

/// The command that shows the private directories of jobs.
pub(super) fn show_private(seen: &Seen) -> String {
    let (words, name) = ("Dirs", "job_container.conf");
    let shown = seen.own.as_ref().map_or_else(|| show_there(seen, words, name), |own| show(words, own, name));
    format!("{shown}   # remove it there, then restart slurmd")
}

/// The command for a line without `default=`: Slurm takes that of the first one.
pub(super) fn add_default(seen: &Seen) -> String {
    let add = "# add default=jobs.toml to the line";
    let served = if is_configless(seen) { ", then: scontrol reconfigure" } else { "" };
    match seen.lines.first() {
        // slurmctld sends it again.
        Some(line) if line.file == Path::new(SENT) => {
            format!("{}   {add} there, then: scontrol reconfigure", show_there(seen, "spank_mytoken", "plugstack.conf"))
        }
        Some(line) => {
            format!(
                "{}   {add}, here and on other hosts that submit{served}",
                edit(&format!("{}:{}", line.file.display(), line.number))
            )
        }
        None => String::new(),
    }
}

/// A line that loads the plugin, for grep and sed.
const ANY_LINE: &str = "^[^#]*spank_mytoken[.]so";

/// The command that shows the lines and what includes them.
pub(super) fn show_lines(seen: &Seen) -> String {
    let files = seen.plugstack.iter().chain(seen.lines.iter().map(|line| &line.file));
    let files: BTreeSet<String> = files.map(|file| word(&file.to_string_lossy())).collect();
    let files: Vec<String> = files.into_iter().collect();
    format!("grep -nE '{ANY_LINE}|^ *include' {}   # keep one line, then restart slurmd", files.join(" "))
}

/// The command that moves our line from one file into the one that slurmctld sends. With both, Slurm would load the plugin twice
/// (SLURM-83), so a line that is there already is not added. A link to the file of the package is removed, because its file must stay as
/// it is.
pub(super) fn move_line(from: &Path, to: &Path) -> String {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;

    use super::super::plugstack::PluginLine;
    use super::*;
    use crate::programs;

    /// Runs a command twice, with a scontrol that writes down its calls.
    fn paste_twice(dir: &Path, command: &str) {
        let scontrol = dir.join("scontrol");
        programs::write(&scontrol, &format!("#!/bin/sh\necho $* >>{}\n", dir.join("called").display())).unwrap();
        for _ in 0..2 {
            let search = format!("{}:/usr/bin:/bin", dir.display());
            let ran = Command::new("sh").args(["-c", command]).env("PATH", search).output().unwrap();
            assert!(ran.status.success(), "{command} {ran:?}");
        }
    }

    fn seen(place: &Path, link: Option<&Path>, config: &str) -> Seen {
        Seen {
            config: Some(Ok(Config::parse(config))),
            help: None,
            sent: false,
            own: place.parent().map(Path::to_owned),
            plugstack: place.exists().then(|| place.to_owned()),
            place: place.to_owned(),
            link: link.map(Path::to_owned),
            lines: vec![],
            file: None,
            slurmds: vec![],
            private: vec![],
        }
    }

    #[test]
    fn what_has_to_be_changed_is_shown_where_it_is() {
        let config = "SlurmctldHost[0] = ctl1(10.0.0.1)\nSLURM_CONF = /opt/slurm/etc/slurm.conf\n";
        let of = |config: &str, own: Option<&str>, file: &str| {
            let line = PluginLine {
                file: file.into(),
                number: 3,
                required: false,
                plugin: "spank_mytoken.so".to_owned(),
                relative: false,
                arguments: vec![],
            };
            let own = own.map(Into::into);
            let seen = Seen { own, lines: vec![line], ..seen(Path::new(file), None, config) };
            [remove_job_env(&seen), show_private(&seen), add_default(&seen)]
        };
        let here = of(config, Some("/srv/my slurm"), "/srv/my slurm/plugstack.conf");
        let begins = [
            "grep -in -e AccountingStoreFlags -e ^include '/srv/my slurm/slurm.conf'   # remove job_env, also on ctl1 ",
            "grep -in Dirs '/srv/my slurm/job_container.conf'   # ",
            "${EDITOR:-vi} +3 '/srv/my slurm/plugstack.conf'   # add default=jobs.toml to the line, ",
        ];
        for (fix, begin) in here.iter().zip(begins) {
            assert!(fix.starts_with(begin), "{fix}");
        }
        assert!(!here[2].contains("reconfigure"), "{here:?}");
        let configless =
            of("SlurmctldParameters = enable_configless\n", Some("/etc/slurm"), "/etc/slurm/plugstack.conf");
        assert!(configless[2].ends_with(", then: scontrol reconfigure"), "{configless:?}");
        // A host without files of Slurm.
        for (config, host, directory) in [(config, "ctl1", "/opt/slurm/etc"), ("", "SLURMCTLD", "/etc/slurm")] {
            let sent = of(config, None, SENT);
            let begins = [
                format!("ssh {host} 'grep -in -e AccountingStoreFlags -e ^include {directory}/slurm.conf'   # "),
                format!("ssh {host} 'grep -in Dirs {directory}/job_container.conf'   # "),
                format!("ssh {host} 'grep -in spank_mytoken {directory}/plugstack.conf'   # add default=jobs.toml "),
            ];
            for (fix, begin) in sent.iter().zip(&begins) {
                assert!(fix.starts_with(begin), "{fix}");
            }
        }
    }

    #[test]
    fn the_file_is_included_once_where_slurm_reads_it() {
        for (before, config) in [
            (None, ""),
            (Some(""), ""),
            // Without an end of the last line.
            (Some("optional other.so\n# include /x"), ""),
            (Some("include d/*.conf\n"), "SlurmctldParameters = enable_configless\n"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (file, shipped) = (dir.path().join("etc/plugstack.conf"), dir.path().join("shipped"));
            let link = file.with_file_name("d").join("mytoken.conf");
            if let Some(before) = before {
                std::fs::create_dir(dir.path().join("etc")).unwrap();
                std::fs::write(&file, before).unwrap();
            }
            // In configless mode hosts do not get what a relative path includes.
            let link = Some(link.as_path()).filter(|_| !config.is_empty());
            paste_twice(dir.path(), &adding(&seen(&file, link, config), &shipped));
            let after = std::fs::read_to_string(&file).unwrap();
            let before = before.unwrap_or_default().trim_end();
            let end = if before.is_empty() { "" } else { "\n" };
            assert_eq!(after, format!("{before}{end}include {}\n", shipped.display()));
            let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert!(mode & 0o444 == 0o444, "{mode:o}");
            assert_eq!(dir.path().join("called").exists(), !config.is_empty());
        }
    }

    #[test]
    fn the_link_is_made_once_where_it_is_included() {
        for wrong in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (file, shipped) = (dir.path().join("plugstack.conf"), dir.path().join("shipped"));
            let link = dir.path().join("d/mytoken.conf");
            std::fs::write(&shipped, "optional spank_mytoken.so\n").unwrap();
            if wrong {
                std::fs::create_dir(dir.path().join("d")).unwrap();
                std::fs::write(&link, "optional spank_mytokn.so\n").unwrap();
            }
            paste_twice(dir.path(), &adding(&seen(&file, Some(&link), ""), &shipped));
            assert_eq!(std::fs::read_link(&link).unwrap(), shipped);
            // The wrong file is kept, and not by the link that came later.
            let kept = std::fs::read_to_string(dir.path().join("mytoken.conf")).ok();
            assert_eq!(kept.as_deref(), wrong.then_some("optional spank_mytokn.so\n"));
            assert!(!file.exists());
        }
    }

    #[test]
    fn the_line_moves_once_into_the_file_that_slurmctld_sends() {
        let own = "# optional spank_mytoken.so\noptional  spank_mytoken.so default=x # c\noptional another.so\n";
        let line = "optional  spank_mytoken.so default=x # c\n";
        // Without an end of the last line, and after a command that did not come to its end.
        let (before, after) =
            ("include d/*.conf\noptional other.so", format!("include d/*.conf\noptional other.so\n{line}"));
        for (linked, begin) in [(true, before), (false, before), (true, after.as_str()), (false, after.as_str())] {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
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
            paste_twice(dir.path(), &command);
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
