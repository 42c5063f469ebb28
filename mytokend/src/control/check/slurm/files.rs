// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which plugstack.conf Slurm reads on this host, and whether it loads our plugin.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use mytoken_wire::profile::SiteDefault;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::super::defaults;
use super::super::host::{self, Host as _, read_text};
use super::super::plugstack::{self, Files, PluginLine};
use super::{Config, PLUGIN, ask_config};

/// What slurmctld sent to a host without configuration files (SLURM-05).
pub(in crate::control::check) const SENT: &str = "/run/slurm/conf/plugstack.conf";
const SENT_CONF: &str = "/run/slurm/conf/slurm.conf";

/// The parameter of slurm.conf that names another plugstack.conf.
const PARAMETER: &str = "PlugStackConfig";

/// Where a link to our line belongs, below the directory of slurm.conf and in Debian.
const LINK: &str = "plugstack.conf.d/mytoken.conf";
const USUAL_DIRECTORY: &str = "/etc/slurm";

/// Slurm's plugstack.conf on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugstack {
    /// The directory of slurm.conf.
    pub directory: PathBuf,
    /// The same if this host has a slurm.conf of its own.
    pub own: Option<PathBuf>,
    /// Whether slurmctld sends this host its configuration, and the host has none of its own.
    pub sent: bool,
    /// The file.
    pub file: Option<PathBuf>,
    /// The path at which Slurm looks for it.
    pub place: PathBuf,
}

impl Plugstack {
    /// By what slurmctld says, if it was asked. `local`: the path of slurm.conf in this process's environment.
    pub(super) fn of(
        config: Option<&Config>,
        local: Option<&Path>,
        exists: &dyn Fn(&Path) -> bool,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Self {
        // Hosts usually have slurm.conf at the same place as slurmctld.
        let of_controller = config.and_then(|config| config.get("SLURM_CONF")).map(Path::new).and_then(Path::parent);
        let directory = local.filter(|path| exists(path)).and_then(Path::parent).or(of_controller);
        let directory = directory.unwrap_or(Path::new(USUAL_DIRECTORY)).to_owned();
        let beside = directory.join("plugstack.conf");
        // In jobs, slurmd names the slurm.conf that slurmctld sent.
        let (conf, sent_conf) = (directory.join("slurm.conf"), Path::new(SENT_CONF));
        let own = conf != sent_conf && exists(&conf);
        let sent = !own && exists(sent_conf);
        // With this parameter, Slurm reads no other file. Without it, some releases show the file beside slurmctld's slurm.conf.
        let shown = config.and_then(|config| config.get(PARAMETER)).map(PathBuf::from);
        let shown = shown.filter(|file| of_controller.is_none_or(|of| *file != of.join("plugstack.conf")));
        // What this host's slurm.conf says counts here at once; slurmctld shows it after its next reading.
        let conf = if own { Some(conf) } else { sent.then(|| sent_conf.to_owned()) };
        let set = match conf.as_deref().and_then(read).map(|text| Named::by(&text)) {
            Some(Named::File(file)) => Some(file),
            Some(Named::Nowhere) => None,
            Some(Named::Elsewhere) | None => shown,
        };
        // Slurm reads the one beside slurm.conf. Debian's packages have one also where slurmctld sends slurm.conf.
        let places = match (set, own, sent) {
            (Some(file), _, _) => vec![file],
            (None, true, _) => vec![beside, SENT.into()],
            (None, false, true) => vec![SENT.into()],
            (None, false, false) => vec![SENT.into(), beside],
        };
        let file = places.iter().find(|path| exists(path)).cloned();
        // Where nothing is, nothing was sent either.
        let missing = if own { places.first() } else { places.last() };
        let place = file.clone().or(missing.cloned()).unwrap_or_default();
        Self { own: own.then(|| directory.clone()), directory, sent, file, place }
    }

    pub(super) fn here(config: Option<&Config>) -> Self {
        let local = std::env::var_os("SLURM_CONF").map(PathBuf::from);
        Self::of(config, local.as_deref(), &|path| path.exists(), &read_text)
    }

    /// The lines that load our plugin.
    pub(super) fn lines(&self) -> Vec<PluginLine> {
        let mut lines = self.file.as_deref().map(|file| plugstack::lines(&ThisHost, file)).unwrap_or_default();
        lines.retain(|line| Path::new(&line.plugin).file_name().is_some_and(|name| name == PLUGIN));
        lines
    }

    /// The place for a link to our line that the file includes.
    pub(super) fn link(&self) -> Option<PathBuf> {
        let file = self.file.as_deref()?;
        // What is beside a file that was sent is lost when it is sent again.
        let beside = file.parent().filter(|_| file != Path::new(SENT));
        let directories = beside.into_iter().chain([Path::new(USUAL_DIRECTORY)]);
        directories.map(|directory| directory.join(LINK)).find(|link| plugstack::includes(&ThisHost, file, link))
    }
}

/// What a slurm.conf says of plugstack.conf.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// This one.
    File(PathBuf),
    /// Nothing, but it includes other files.
    Elsewhere,
    /// Nothing.
    Nowhere,
}

impl Named {
    /// Names have no case, a line can have several parameters, an unquoted value ends with a blank, and the last one counts.
    fn by(slurm_conf: &str) -> Self {
        let (mut found, mut includes) = (None, false);
        for line in slurm_conf.lines().map(|line| line.split('#').next().unwrap_or_default()) {
            includes |= line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("include"));
            for (at, _) in line.match_indices('=') {
                let (name, value) = (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default());
                let name = name.trim_end().rsplit(char::is_whitespace).next().unwrap_or_default();
                let value = value.trim_start();
                let value = match value.strip_prefix('"') {
                    Some(quoted) => quoted.split('"').next(),
                    None => value.split(|letter: char| letter.is_whitespace() || letter == '\\').next(),
                };
                let file = value.filter(|value| value.starts_with('/') && name.eq_ignore_ascii_case(PARAMETER));
                found = file.map(PathBuf::from).or(found);
            }
        }
        match found {
            Some(file) => Self::File(file),
            None if includes => Self::Elsewhere,
            None => Self::Nowhere,
        }
    }
}

/// Whether Slurm loads our plugin. slurmctld is asked only if no plugstack.conf at the usual places does.
pub(in crate::control::check) fn loads_us(squeue: Option<&Path>) -> bool {
    if !Plugstack::here(None).lines().is_empty() {
        return true;
    }
    let Some(Ok(config)) = ask_config(squeue) else { return false };
    !Plugstack::here(Some(&config)).lines().is_empty()
}

/// What `default=` of plugstack.conf at its usual places says.
pub(in crate::control) fn site_default() -> Option<SiteDefault> {
    defaults::site_default(&Plugstack::here(None).lines())
}

/// slurm.conf, the files of plugstack.conf, and their directories, as far as this process has no right to read them.
pub(in crate::control::check) fn closed_files() -> Vec<PathBuf> {
    let there = |path: &Path| path.exists() || access(path, AccessFlags::F_OK) == Err(Errno::EACCES);
    let closed = Closed::default();
    let local = std::env::var_os("SLURM_CONF").map(PathBuf::from);
    let plugstack = Plugstack::of(None, local.as_deref(), &there, &|path| closed.read(path));
    if let Some(file) = plugstack.file {
        plugstack::lines(&closed, &file);
    }
    closed.0.into_inner()
}

/// This host's files, and which of them this process has no right to read.
#[derive(Default)]
struct Closed(RefCell<Vec<PathBuf>>);

impl Files for Closed {
    fn read(&self, path: &Path) -> Option<String> {
        if access(path, AccessFlags::R_OK) == Err(Errno::EACCES) {
            self.0.borrow_mut().push(path.to_owned());
        }
        ThisHost.read(path)
    }

    fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
        let Ok(paths) = glob::glob(&pattern.to_string_lossy()) else { return Vec::new() };
        let (mut found, mut seen) = (Vec::new(), false);
        for path in paths {
            seen = true;
            match path {
                Ok(path) => found.push(path),
                // A directory that cannot be listed. To Slurm it has no files.
                Err(error) if error.error().kind() == ErrorKind::PermissionDenied => {
                    self.0.borrow_mut().push(error.path().to_owned());
                }
                Err(_) => {}
            }
        }
        // A path without wildcards behind a closed directory.
        if !seen && access(pattern, AccessFlags::F_OK) == Err(Errno::EACCES) {
            self.0.borrow_mut().push(pattern.to_owned());
        }
        found
    }
}

struct ThisHost;

impl Files for ThisHost {
    fn read(&self, path: &Path) -> Option<String> {
        read_text(path)
    }

    fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
        host::ThisHost::default().expand(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugstack_conf_is_looked_for_where_this_slurm_reads_it() {
        let (etc, opt) = ("/etc/slurm/plugstack.conf", "/opt/slurm/etc/plugstack.conf");
        let (etc_conf, opt_conf) = ("/etc/slurm/slurm.conf", "/opt/slurm/etc/slurm.conf");
        let in_opt = format!("SLURM_CONF = {opt_conf}\nPlugStackConfig = (null)\n");
        let shown = format!("SLURM_CONF = {opt_conf}\nPlugStackConfig = {opt}\n");
        let set = format!("SLURM_CONF = {etc_conf}\nPlugStackConfig = /srv/plugstack.conf\n");
        let srv = "/srv/plugstack.conf";
        type Case<'a> = (&'a str, Option<&'a str>, &'a [&'a str], (&'a str, bool, bool));
        let cases: [Case<'_>; 13] = [
            // Nothing is known: the usual place.
            ("", None, &[], (etc, false, false)),
            ("", None, &[etc_conf], (etc, false, false)),
            ("", None, &[etc_conf, etc], (etc, true, false)),
            ("", None, &[etc_conf, etc, SENT, SENT_CONF], (etc, true, false)),
            ("", None, &[etc, SENT, SENT_CONF], (SENT, true, true)),
            ("", None, &[etc, SENT_CONF], (SENT, false, true)),
            ("", Some(opt_conf), &[etc, opt, opt_conf], (opt, true, false)),
            ("", Some(SENT_CONF), &[SENT, SENT_CONF], (SENT, true, true)),
            (&in_opt, None, &[opt_conf, etc], (opt, false, false)),
            (&shown, None, &[opt_conf, opt], (opt, true, false)),
            // A host without files gets the one that is beside slurmctld's slurm.conf.
            (&shown, None, &[SENT, SENT_CONF], (SENT, true, true)),
            (&set, None, &[etc_conf, etc], ("/srv/plugstack.conf", false, false)),
            (&set, None, &[etc_conf, etc, "/srv/plugstack.conf"], ("/srv/plugstack.conf", true, false)),
        ];
        for (config, local, files, expected) in cases {
            let config = Config::parse(config);
            let exists = |path: &Path| files.iter().any(|file| path == Path::new(file));
            let found =
                Plugstack::of(Some(&config), local.map(Path::new), &exists, &|_| Some("Include more.conf".into()));
            let (place, is_there, sent) = expected;
            let file = is_there.then(|| PathBuf::from(place));
            assert_eq!((found.place.to_str(), found.file, found.sent), (Some(place), file, sent), "{files:?}");
            // What slurmctld sent is not the host's own.
            let own = [etc_conf, opt_conf].into_iter().find(|conf| files.contains(conf));
            assert_eq!(found.own.as_deref(), own.map(Path::new).and_then(Path::parent), "{files:?}");
            // The host's slurm.conf counts, also while slurmctld does not know it yet, and then no other file is read.
            let named = |path: &Path| path.ends_with("slurm.conf").then(|| format!("plugstackconfig = {srv} # ours\n"));
            let found = Plugstack::of(Some(&config), local.map(Path::new), &exists, &named);
            let plain = |path: &Path| path.ends_with("slurm.conf").then(|| "ClusterName=c".to_owned());
            let without = Plugstack::of(Some(&config), local.map(Path::new), &exists, &plain);
            let reads = own.is_some() || sent || files.contains(&SENT_CONF);
            // Nor does what slurmctld read before count any more.
            assert!(!reads || without.place != Path::new(srv), "{files:?}");
            assert_eq!(found.place == Path::new(srv), reads || place == srv, "{files:?}");
        }
    }

    #[test]
    fn the_parameter_is_found_in_slurm_conf() {
        let file = |path: &str| Named::File(path.into());
        for (text, expected) in [
            ("", Named::Nowhere),
            ("ClusterName=c\nPlugStackConfig=/srv/a.conf\n", file("/srv/a.conf")),
            ("  PLUGSTACKCONFIG = \"/srv/a b.conf\" # b\n", file("/srv/a b.conf")),
            ("PlugStackConfig=/srv/a.conf\nPlugStackConfig=/srv/b.conf\nInclude c", file("/srv/b.conf")),
            ("ClusterName=c plugstackconfig=/srv/a.conf ReturnToService=1", file("/srv/a.conf")),
            ("PlugStackConfig=/srv/a.conf\\\nReturnToService=1", file("/srv/a.conf")),
            ("#PlugStackConfig=/srv/a.conf\n", Named::Nowhere),
            ("PlugStackConfig=\nOtherPlugStackConfig=/srv/a.conf", Named::Nowhere),
            ("ClusterName=c\n include more.conf\n", Named::Elsewhere),
            ("INCLUDE\tmore.conf", Named::Elsewhere),
        ] {
            assert_eq!(Named::by(text), expected, "{text}");
        }
    }
}
