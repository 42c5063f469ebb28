// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user's own `~/.config/mytoken/jobs.toml`: profiles that narrow those of the site.
//!
//! Programs read it with the user's rights only. A file that cannot be used gives no credential: whoever narrows a profile does not want
//! the whole of it because of a typing mistake.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use mytoken::config::{Duration, FileTrust, read};
use mytoken::restrictions::Clause;
use mytoken_wire::profile::RULE;
use mytoken_wire::tools::Tool;
use mytoken_wire::{FileName, ProfileName, printable};
use serde::Deserialize;

use super::defaults::{self, DefaultSettings};
use super::files::{FileSettings, check_names};
use super::profile::{ProfileSettings, WindowSettings, check_limits, check_scope, clipped};
use super::settings::{ClusterSettings, JobsSettings};
use super::start_windows::MOST;

/// Directory of the file below the home directory.
const DIRECTORY: &str = ".config/mytoken";

/// Largest file in bytes.
const LIMIT: u64 = 64 * 1024;

/// The user's file: profiles and defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnProfiles {
    /// They are checked when they are used, so that a mistake in one does not stop submissions with another.
    #[serde(default)]
    profile: Vec<OwnProfile>,
    /// What the user's submissions get that name no profile.
    #[serde(default)]
    default: Vec<DefaultSettings>,
    /// Whether there is a `jobs.d`, so that a mistake can be in there.
    #[serde(skip)]
    with_drop_ins: bool,
}

/// A `[[profile]]` of the user's file. What it leaves out is that of the site's profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnProfile {
    /// The NAME in `--mytoken=NAME`.
    name: String,
    /// The site's profile that it narrows. Default: the one of the same name.
    based_on: Option<String>,
    scope: Option<String>,
    hosts: Option<Vec<String>>,
    max_lifetime: Option<Duration>,
    usages: Option<u32>,
    #[serde(default)]
    windows: Vec<WindowSettings>,
    #[serde(default)]
    start_windows: Vec<WindowSettings>,
    tools: Option<Vec<Tool>>,
    /// The further files that stay.
    files: Option<Vec<OwnFile>>,
}

/// An entry of `files`: a file of the site's profile, perhaps with fewer scopes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnFile {
    name: FileName,
    scope: Option<String>,
}

/// A name and the site's profile that it narrows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnName<'a> {
    /// The name.
    pub name: &'a str,
    /// The site's profile.
    pub based_on: &'a str,
}

impl OwnProfiles {
    /// The file of the user with this home directory.
    #[must_use]
    pub fn path(home: &Path) -> PathBuf {
        home.join(DIRECTORY).join("jobs.toml")
    }

    /// Reads the file of the calling user. Without a file there are no profiles.
    ///
    /// # Errors
    /// One sentence: it cannot be read, others could have written it, or it has a mistake.
    pub fn load(home: Option<&Path>) -> Result<Self, String> {
        let Some(home) = home else { return Ok(Self::default()) };
        // Not where a link leads to nothing, such as a directory that is not mounted: what the file narrows is then unknown.
        let leads_nowhere = || Self::path(home).ancestors().take(3).any(|path| path.is_symlink() && !path.exists());
        let with_drop_ins = home.join(DIRECTORY).join("jobs.d").exists();
        match std::fs::metadata(Self::path(home)) {
            Ok(found) if found.len() > LIMIT => {
                return Err(sentence(&format!("{} is larger than 64 KiB", Self::path(home).display())));
            }
            // Whatever is wrong with it is found below.
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) && !leads_nowhere() =>
            {
                // They may narrow what the submission would get.
                return if with_drop_ins {
                    Err(format!("~/{DIRECTORY}/jobs.d is read only beside a jobs.toml, which may be empty"))
                } else {
                    Ok(Self::default())
                };
            }
            Err(error) => return Err(sentence(&format!("cannot read {}: {error}", Self::path(home).display()))),
        }
        read(&home.join(DIRECTORY), "jobs", FileTrust::current())
            .map(|own| Self { with_drop_ins, ..own })
            .map_err(|error| sentence(&error.to_string()))
    }

    /// Where a mistake is.
    fn place(&self) -> String {
        format!("~/{DIRECTORY}/jobs.toml{}", if self.with_drop_ins { " or jobs.d" } else { "" })
    }

    /// The names of the profiles.
    pub fn names(&self) -> impl Iterator<Item = OwnName<'_>> {
        self.profile.iter().map(|own| OwnName { name: &own.name, based_on: own.based_on() })
    }

    /// The defaults of the user.
    ///
    /// # Errors
    /// One sentence: one cannot be meant.
    pub fn defaults(&self, jobs: &JobsSettings) -> Result<&[DefaultSettings], String> {
        let is_known = |name: &str| jobs.profile(name).is_some() || self.names().any(|own| own.name == name);
        defaults::check(&self.default, is_known)
            .map(|()| self.default.as_slice())
            .map_err(|(_, fault)| sentence(&format!("{}: {fault}", self.place())))
    }

    /// The profile of this name narrowed, if the file has one of this name.
    ///
    /// # Errors
    /// One sentence: it would be broader than the site's profile, or is not valid.
    pub fn narrowed(&self, jobs: &JobsSettings, name: &str) -> Option<Result<ProfileSettings, String>> {
        let mut found = self.profile.iter().filter(|own| own.name == name);
        let own = found.next()?;
        let result = match (found.next(), ProfileName::parse(name), jobs.profile(own.based_on())) {
            (Some(_), _, _) => Err("the file has two profiles of this name".to_owned()),
            (_, None, _) => Err(format!("a profile's name is {RULE}")),
            (_, _, None) => Err(format!("this cluster has no profile \"{}\" (based_on)", own.based_on())),
            (None, Some(_), Some(site)) => own.narrow(site, &jobs.cluster),
        };
        Some(result.map_err(|fault| sentence(&format!("profile \"{name}\" of {}: {fault}", self.place()))))
    }
}

impl OwnProfile {
    fn based_on(&self) -> &str {
        self.based_on.as_deref().unwrap_or(&self.name)
    }

    /// The site's profile, narrowed. Times and numbers are clipped to those of the site; scopes and hosts are never cut, because the user
    /// asks for something that there is not.
    fn narrow(&self, site: &ProfileSettings, cluster: &ClusterSettings) -> Result<ProfileSettings, String> {
        let mut narrowed = ProfileSettings { name: self.name.clone(), ..site.clone() };
        if let Some(scope) = &self.scope {
            narrowed.scope = part_of(scope, &site.scope, &site.name)?;
        }
        let hosts = self.hosts.clone().unwrap_or_else(|| site.hosts.clone());
        check_limits(&hosts, self.max_lifetime, self.usages)?;
        let of_hosts = |hosts: &[String]| Clause { hosts: hosts.to_vec(), ..Clause::default() };
        if !of_hosts(&hosts).is_within(&of_hosts(&site.hosts)) {
            return Err(format!("hosts are not within those of the site's profile \"{}\"", site.name));
        }
        narrowed.hosts = hosts;
        narrowed.max_lifetime = least(self.max_lifetime, site.max_lifetime);
        narrowed.usages = least(self.usages, site.usages);
        narrowed.windows = clipped("windows", &self.windows, &site.windows, &site.name)?;
        narrowed.start_windows = clipped("start_windows", &self.start_windows, &site.start_windows, &site.name)?;
        if narrowed.start_windows.len() > MOST {
            return Err(format!("start_windows: with those of the site they are more than {MOST}"));
        }
        // Each window has its own number of uses, so those of the site's window are divided.
        narrowed.usages = match (narrowed.usages, site.usages) {
            (Some(own), Some(of_site)) => {
                let part = of_site.checked_div(parts(&self.windows, &site.windows)).unwrap_or(of_site);
                Some(own.min(part)).filter(|uses| *uses > 0)
            }
            (own, _) => own,
        };
        if site.usages.is_some() && narrowed.usages.is_none() {
            return Err(format!("there are more windows than usages in the site's profile \"{}\"", site.name));
        }
        if let Some(tools) = &self.tools {
            narrowed.tools.clone_from(tools);
        }
        if let Some(files) = &self.files {
            check_names(files.iter().map(|file| &file.name))?;
            narrowed.files = files.iter().map(|own| own.narrow(site)).collect::<Result<_, String>>()?;
        }
        narrowed.check_together(cluster)?;
        Ok(narrowed)
    }
}

impl OwnFile {
    /// The site's file of this name, narrowed.
    fn narrow(&self, site: &ProfileSettings) -> Result<FileSettings, String> {
        let found = site.files.iter().find(|file| file.name == self.name);
        let mut narrowed = found
            .cloned()
            .ok_or_else(|| format!("the site's profile \"{}\" has no file \"{}\"", site.name, self.name))?;
        if let Some(scope) = &self.scope {
            narrowed.scope = part_of(scope, &narrowed.scope, &site.name)
                .map_err(|fault| format!("files: \"{}\": {fault}", self.name))?;
        }
        Ok(narrowed)
    }
}

/// The scopes `own`, if all of them are in `whole`, those of the site's profile.
fn part_of(own: &str, whole: &str, site: &str) -> Result<String, String> {
    check_scope(own)?;
    match own.split(' ').find(|own| !whole.split(' ').any(|scope| scope == *own)) {
        Some(more) => Err(format!("the scope {more} is not in the site's profile \"{site}\"")),
        None => Ok(own.to_owned()),
    }
}

/// How many windows of the user a window of the site has at most.
fn parts(own: &[WindowSettings], site: &[WindowSettings]) -> u32 {
    let within = |site: &WindowSettings| own.iter().filter(|own| own.common(*site).is_some()).count();
    let most = if site.is_empty() { own.len() } else { site.iter().map(within).max().unwrap_or(0) };
    u32::try_from(most).unwrap_or(u32::MAX)
}

fn least<T: Ord>(own: Option<T>, site: Option<T>) -> Option<T> {
    match (own, site) {
        (Some(own), Some(site)) => Some(own.min(site)),
        (own, site) => own.or(site),
    }
}

/// One line without control characters.
fn sentence(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "), 400)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mytoken::restrictions::within;
    use proptest::prelude::*;

    use super::*;

    const SITE: &str =
        "[cluster]\nname='c'\n[[profile]]\nname='default'\nserver='s'\nscope='a b c'\naudience='https://x'\n";

    fn site(more: &str) -> JobsSettings {
        toml::from_str(&format!("{SITE}{more}")).unwrap()
    }

    fn narrowed(more: &str, own: &str) -> Result<ProfileSettings, String> {
        let own: OwnProfiles = toml::from_str(own).unwrap();
        own.narrowed(&site(more), "mine").unwrap()
    }

    #[test]
    fn an_own_profile_has_what_it_narrows_and_the_rest_of_the_site() {
        let own = "[[profile]]\nname='mine'\nbased_on='default'\nscope='c a'\nhosts=['192.0.2.7']\nusages=9\nmax_lifetime='3d'";
        let found = narrowed("hosts=['192.0.2.0/24']\nusages=5\nmax_lifetime='2d'\ntools=['rclone']", own).unwrap();
        assert_eq!((found.name.as_str(), found.scope.as_str(), found.audience.as_str()), ("mine", "c a", "https://x"));
        assert_eq!((found.hosts.as_slice(), found.usages), (["192.0.2.7".to_owned()].as_slice(), Some(5)));
        assert_eq!((found.max_lifetime, found.tools.len()), (Some(Duration::seconds(2 * 86_400)), 1));
        let own: OwnProfiles = toml::from_str("[[profile]]\nname='default'\nscope='b'").unwrap();
        let jobs = site("");
        assert_eq!(own.narrowed(&jobs, "default").unwrap().unwrap().scope, "b", "of the same name");
        assert!(own.narrowed(&jobs, "mine").is_none());
        let names: Vec<_> = own.names().collect();
        assert_eq!(names, [OwnName { name: "default", based_on: "default" }]);
    }

    #[test]
    fn what_is_broader_or_wrong_is_refused_with_its_reason() {
        let windows = "windows=[{until='2h'}]\nstart_windows=[{until='2h'}]\nhosts=['192.0.2.0/24']\nusages=1\nfiles=[{name='tape', scope='a b', audience='https://t'}]";
        for (own, reason) in [
            ("scope='a d'", "the scope d is not in the site's profile \"default\""),
            ("scope='a  b'", "single blanks"),
            ("hosts=[]", "hosts are not within"),
            ("hosts=['192.0.2.7', '198.51.100.1']", "hosts are not within"),
            ("hosts=['192.0.0.0/16']", "hosts are not within"),
            ("hosts=['example.org']", "reverse zone"),
            ("windows=[{from='2h', until='3h'}]", "no time in common"),
            ("windows=[{from='2h', until='1h'}]", "later than"),
            ("start_windows=[{from='2h', until='3h'}]", "no time in common"),
            ("windows=[{until='1h'}, {from='1h', until='2h'}]", "more windows than usages"),
            ("usages=0", "usages is zero"),
            ("max_lifetime='0s'", "max_lifetime is zero"),
            ("files=[{name='tape', scope='c'}]", "files: \"tape\": the scope c is not in the site's"),
            ("files=[{name='other'}]", "has no file \"other\""),
            ("files=[{name='tape'}, {name='tape'}]", "two have the name"),
            ("based_on='other'", "this cluster has no profile \"other\""),
        ] {
            let base = if own.starts_with("based_on") { "" } else { "based_on='default'\n" };
            let fault = narrowed(windows, &format!("[[profile]]\nname='mine'\n{base}{own}")).unwrap_err();
            assert!(fault.contains(reason), "{own}: {fault}");
            assert!(fault.starts_with("profile \"mine\" of ~/.config/mytoken/jobs.toml: "), "{fault}");
        }
        let twice = "[[profile]]\nname='mine'\nbased_on='default'\n".repeat(2);
        assert!(narrowed("", &twice).unwrap_err().contains("two profiles"));
        let many = "windows=[{until='2h'}]\nscope='a'\n".replace("{until='2h'}", &"{until='2h'}, ".repeat(9));
        assert!(
            narrowed("", &format!("[[profile]]\nname='mine'\nbased_on='default'\n{many}"))
                .unwrap_err()
                .contains("windows: there are 9;")
        );
    }

    #[test]
    fn a_hostile_file_gives_one_sentence() {
        let home = tempfile::tempdir_in(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).unwrap();
        let directory = home.path().join(DIRECTORY);
        let load = || OwnProfiles::load(Some(home.path()));
        assert_eq!(load(), Ok(OwnProfiles::default()), "no file");
        let link = home.path().join(".config");
        std::os::unix::fs::symlink("/not/mounted", &link).unwrap();
        assert!(load().unwrap_err().contains("cannot read"));
        std::fs::remove_file(link).unwrap();
        std::fs::create_dir_all(&directory).unwrap();
        let path = OwnProfiles::path(home.path());
        for (text, reason) in [
            ("profile = 7".to_owned(), "jobs.toml:1: "),
            ("[[profile]]\nname='x'\nserver='https://evil.example'".to_owned(), "unknown key \"server\""),
            ("[[profile]]\nname='x'\naudience='y'".to_owned(), "unknown key \"audience\""),
            ("[[profile]]\nname='x'\nfiles=[{name='y', audience='z'}]".to_owned(), "unknown key \"audience\""),
            ("[[profile]]\nname='x'\nfiles=[{name='../y'}]".to_owned(), "the name of a file is"),
            ("[[profile]]\nname='x'\ntools=['rm']".to_owned(), "no tool \"rm\""),
            ("[[profile]]\nname='x'\nscope=\"\u{1b}[2J\n\"".to_owned(), "jobs.toml:"),
            ("[".repeat(60_000), "jobs.toml:1: "),
            ("#".repeat(70_000), "larger than 64 KiB"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let fault = load().unwrap_err();
            assert!(fault.contains(reason), "{fault}");
            assert!(fault.len() < 500 && !fault.chars().any(char::is_control), "{fault}");
        }
        std::fs::write(&path, "[[profile]]\nname='x'").unwrap();
        assert_eq!(load().unwrap().names().count(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(load().unwrap_err().contains("is not used"), "others can write");
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(load().is_err(), "a FIFO does not hang");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(load().unwrap_err().contains("directory"), "a directory");
        std::fs::remove_dir(&path).unwrap();
        let drop_ins = directory.join("jobs.d");
        std::fs::create_dir(&drop_ins).unwrap();
        std::fs::write(drop_ins.join("a.toml"), "[[profile]]\nname='x'\nscope='z'\nbased_on='default'").unwrap();
        assert!(load().unwrap_err().starts_with("~/.config/mytoken/jobs.d is read only beside"), "drop-ins alone");
        std::fs::write(&path, "").unwrap();
        let fault = load().unwrap().narrowed(&site(""), "x").unwrap().unwrap_err();
        assert!(fault.starts_with("profile \"x\" of ~/.config/mytoken/jobs.toml or jobs.d: "), "{fault}");
    }

    fn windows(key: &'static str) -> impl Strategy<Value = String> {
        let window =
            (0_u32..40, 1_u32..40).prop_map(|(from, length)| format!("{{from='{from}h', until='{}h'}}", from + length));
        proptest::collection::vec(window, 0..5).prop_map(move |windows| format!("{key}=[{}]\n", windows.join(", ")))
    }

    fn profile() -> impl Strategy<Value = String> {
        let hosts = prop_oneof![
            Just(String::new()),
            Just("hosts=[]\n".to_owned()),
            Just("hosts=['192.0.2.0/24']\n".to_owned()),
            Just("hosts=['192.0.2.7', '192.0.2.128/25']\n".to_owned()),
            Just("hosts=['192.0.2.0/23']\n".to_owned()),
        ];
        let usages = proptest::option::of(1_u32..9)
            .prop_map(|uses| uses.map_or(String::new(), |uses| format!("usages={uses}\n")));
        let lifetime = proptest::option::of(1_u32..60)
            .prop_map(|hours| hours.map_or(String::new(), |hours| format!("max_lifetime='{hours}h'\n")));
        (hosts, usages, lifetime, windows("windows"), windows("start_windows"))
            .prop_map(|(hosts, usages, lifetime, windows, start)| format!("{hosts}{usages}{lifetime}{windows}{start}"))
    }

    proptest! {
        #[test]
        fn an_own_profile_never_gives_more_than_the_sites(
            of_site in profile(), own in profile(), scope in "|[a-d]( [a-d]){0,2}", now in 1_u64..2_000_000_000
        ) {
            let jobs = site(&of_site);
            prop_assume!(jobs.check(&["s"]).is_ok());
            let scope = if scope.is_empty() { scope } else { format!("scope='{scope}'\n") };
            let own: OwnProfiles = toml::from_str(&format!("[[profile]]\nname='mine'\nbased_on='default'\n{scope}{own}")).unwrap();
            if let Ok(narrowed) = own.narrowed(&jobs, "mine").unwrap() {
                let site = &jobs.profile[0];
                let longest = jobs.cluster.longest();
                let (child, bound) = (narrowed.clauses(longest, now), site.clauses(longest, now));
                prop_assert!(!child.is_empty());
                prop_assert!(within(&child, &bound), "{child:?} is not within {bound:?}");
                let uses = |clauses: &[Clause]| -> i64 { clauses.iter().filter_map(|clause| clause.usages_at).sum() };
                prop_assert!(site.usages.is_none() || (narrowed.usages.is_some() && uses(&child) <= uses(&bound)));
                let open = |profile: &ProfileSettings, hour: u64| {
                    let within = |window: &WindowSettings| (window.from.as_secs()..window.until.as_secs()).contains(&(hour * 3600));
                    profile.start_windows.is_empty() || profile.start_windows.iter().any(within)
                };
                prop_assert!((0..100).all(|hour| open(site, hour) || !open(&narrowed, hour)));
                prop_assert_eq!((&narrowed.server, &narrowed.audience), (&site.server, &site.audience));
            }
        }
    }
}
