// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the configuration files: whether the parts that are in use have one, and whether it can be used.

use std::collections::BTreeSet;
use std::path::Path;

use mytoken::Error;
use mytoken::config::{ConfigError, ConfigPlaces, FileTrust, ServerSettings, Shared, is_missing};
use mytoken::urls::same_base;
use mytoken_login::{AccountDatabase, LoginSettings};

pub(super) use mytoken_wire::shell_word as word;

use super::host::Host;
use super::kinds::{self, Kind};
use super::{Findings, pam};
use crate::jobs::settings::JobsSettings;

const PART: &str = "configuration";

/// Whether there is a file or a symbolic link, even a broken one, also above it.
pub(super) fn exists(path: &Path) -> bool {
    !is_missing(path)
}

/// The command that opens a file at the line of `FILE:LINE`.
pub(super) fn edit(place: &str) -> String {
    match place.rsplit_once(':') {
        Some((file, line)) if !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("${{EDITOR:-vi}} +{line} {}", word(file))
        }
        _ => format!("${{EDITOR:-vi}} {}", word(place)),
    }
}

impl Findings {
    /// Reads `mytoken.toml`.
    pub(super) fn shared(&mut self, dir: &Path, trust: FileTrust) -> Option<Shared> {
        let file = dir.join("mytoken.toml");
        if !exists(&file) {
            self.add_kind(kinds::CONFIGURATION_MISSING, format!("{} does not exist: nothing works", file.display()));
            return None;
        }
        let shared = self.read_file(Shared::load(dir, trust), |_| "mytoken.toml".to_owned())?;
        for (number, issuer) in shared.issuers.iter().enumerate() {
            if let Some(first) = shared.issuers.iter().take(number).find(|first| first.is(&issuer.url)) {
                let text = format!(
                    "the issuers \"{}\" and \"{}\" have one url: the rules of \"{}\" never apply",
                    first.name, issuer.name, issuer.name
                );
                self.add_kind(kinds::ISSUER_TWICE, text);
            }
        }
        for (number, server) in shared.servers.iter().enumerate() {
            let is_same = |first: &&ServerSettings| same_base(&first.url, &server.url);
            if let Some(first) = shared.servers.iter().take(number).find(is_same) {
                let text = format!(
                    "the servers \"{}\" and \"{}\" have one url: they are one server, with the request_limit of the last one",
                    first.name, server.name
                );
                self.add_kind(kinds::SERVER_TWICE, text);
            }
        }
        Some(shared)
    }

    /// Reads `login.toml`. It must exist where sshd asks our module.
    pub(super) fn login_settings(
        &mut self,
        dir: &Path,
        shared: &Shared,
        trust: FileTrust,
        accounts: &dyn AccountDatabase,
        host: Option<&dyn Host>,
    ) -> Option<LoginSettings> {
        if !self.is_needed(&dir.join("login.toml"), &|| host.is_some_and(pam::sshd_asks_us), kinds::LOGIN_MISSING) {
            return None;
        }
        let login = self.read_file(LoginSettings::load(dir, trust, shared), |_| "login.toml".to_owned())?;
        if login.rules.is_empty() {
            self.add_kind(kinds::LOGIN_NO_RULE, "login.toml has no [[rule]]: no login is accepted");
        }
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<&str> =
            login.rules.iter().map(|rule| rule.name.as_str()).filter(|name| !seen.insert(*name)).collect();
        for name in twice {
            let text = format!(
                "more than one [[rule]] is called {name:?}: the log and explanations do not tell which one applied"
            );
            self.add_kind(kinds::RULE_TWICE, text);
        }
        let named = [
            (["accounts", "deny"], &login.accounts.deny),
            (["accounts", "allow_system"], &login.accounts.allow_system),
            (["account", "exempt"], &login.account.exempt),
        ];
        let places = ConfigPlaces::read(dir, "login", trust).ok();
        let named = named.iter().flat_map(|(key, names)| names.iter().map(move |name| (key, name)));
        for (key, name) in named.filter(|(_, name)| matches!(accounts.find(name), Ok(None))) {
            let place = places.as_ref().and_then(|places| places.key(key)).unwrap_or_else(|| "login.toml".to_owned());
            let text = format!("{place}: [{}] names {name:?}, but this host has no such account", key[0]);
            self.add_fixed(kinds::ACCOUNT_SETTING, text, format!("getent passwd {}", word(name)));
        }
        Some(login)
    }

    /// Reads `jobs.toml`. It must exist where Slurm loads our plugin.
    pub(super) fn jobs_settings(
        &mut self,
        dir: &Path,
        shared: &Shared,
        trust: FileTrust,
        slurm_loads_us: &dyn Fn() -> bool,
    ) -> Option<JobsSettings> {
        if !self.is_needed(&dir.join("jobs.toml"), slurm_loads_us, kinds::JOBS_MISSING) {
            return None;
        }
        let jobs = self.read_file(JobsSettings::load(dir, trust, shared), |jobs| {
            let profiles: Vec<&str> = jobs.profile.iter().map(|profile| profile.name.as_str()).collect();
            format!("jobs.toml: cluster {}, profiles {}", jobs.cluster.name, profiles.join(" "))
        })?;
        if jobs.profile.is_empty() {
            self.add_kind(kinds::JOBS_NO_PROFILE, "jobs.toml has no [[profile]]: no job can have a token");
        }
        Some(jobs)
    }

    /// Whether `file` is to be read. It is a finding if it does not exist although it is used.
    fn is_needed(&mut self, file: &Path, used: &dyn Fn() -> bool, missing: Kind) -> bool {
        if exists(file) {
            return true;
        }
        if used() {
            let user = if missing == kinds::LOGIN_MISSING { "sshd asks pam_mytoken" } else { "Slurm loads our plugin" };
            self.add_kind(missing, format!("{} does not exist, but {user}", file.display()));
        }
        false
    }

    fn read_file<T, E: Into<Error>>(&mut self, read: Result<T, E>, describe: impl FnOnce(&T) -> String) -> Option<T> {
        match read {
            Ok(value) => {
                self.ok(PART, describe(&value));
                Some(value)
            }
            Err(error) => {
                self.unusable_file(&error.into());
                None
            }
        }
    }

    /// Adds the finding about a configuration file that is not used.
    fn unusable_file(&mut self, error: &Error) {
        let text = error.to_string();
        let kind = match error {
            Error::Config(ConfigError::Unsafe { .. }) => kinds::CONFIGURATION_UNSAFE,
            Error::Config(ConfigError::Unreadable { .. }) => kinds::CONFIGURATION_UNREADABLE,
            _ => kinds::CONFIGURATION_INVALID,
        };
        self.add_file_error(kind, error, &text);
    }

    /// Adds a finding about a file, with the command that belongs to its error.
    pub(super) fn add_file_error(&mut self, kind: Kind, error: &Error, text: &str) {
        let fix = match error {
            Error::Config(ConfigError::Unsafe { fix, .. }) if !fix.is_empty() => {
                // The sentence has the command.
                return self.add_fixed(kind, text.replacen(&format!("; run: {fix}"), "", 1), fix.clone());
            }
            Error::Config(ConfigError::Unsafe { file, .. } | ConfigError::Unreadable { file, .. }) => {
                let away = drop_in_away(Path::new(file));
                away.or_else(|| dangling(Path::new(file))).unwrap_or_else(|| format!("namei -l {}", word(file)))
            }
            Error::Config(ConfigError::Invalid { place, .. }) => edit(place),
            _ => return self.add_kind(kind, text),
        };
        self.add_fixed(kind, text, fix);
    }
}

/// The command for a link to nothing, also above the file. It shows where the link leads. Without the link, nobody would miss what it stood
/// for.
pub(super) fn dangling(file: &Path) -> Option<String> {
    let is_link_to_nothing = |part: &&Path| part.is_symlink() && !part.exists();
    let link = file.ancestors().find(is_link_to_nothing)?;
    let mut target = link.to_owned();
    // As many as the kernel follows: a link can lead to itself.
    for _ in 0..40 {
        let Ok(next) = std::fs::read_link(&target) else { break };
        target = target.parent().unwrap_or(Path::new("/")).join(next);
    }
    let shown = word(&link.to_string_lossy());
    Some(if target.is_symlink() {
        format!("namei -l {shown}   # the links lead in a circle")
    } else {
        format!(
            "namei -l {shown}   # put back {}; remove the link only if nothing of it is needed",
            word(&target.to_string_lossy())
        )
    })
}

/// The command for a drop-in of ours that is a directory, a pipe or a socket. Only names that end with `.toml` are read. A link stays: what it
/// leads to may be missing only now, and hold the rules that keep somebody out.
fn drop_in_away(file: &Path) -> Option<String> {
    let folder = file.parent().and_then(Path::file_name);
    let is_ours = ["mytoken.d", "login.d", "jobs.d"].iter().any(|name| folder.is_some_and(|folder| folder == *name));
    let meta = std::fs::symlink_metadata(file).ok().filter(|_| is_ours)?;
    if meta.is_file() || meta.is_symlink() {
        return None;
    }
    let (name, unused) = (word(&file.to_string_lossy()), word(&format!("{}.unused", file.display())));
    Some(format!("ls -ld {name}; mv --backup=numbered -T {name} {unused}"))
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::host::Ran;
    use super::*;
    use mytoken::private_files::Owner;
    use mytoken_login::NssAccounts;

    /// A host whose sshd has these lines.
    struct Lines(&'static str);

    impl Host for Lines {
        fn read(&self, path: &Path) -> Option<String> {
            (path == Path::new("/etc/pam.d/sshd")).then(|| self.0.to_owned())
        }
        fn exists(&self, _path: &Path) -> bool {
            false
        }
        fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
            Ran::Missing
        }
    }

    const ISSUER: &str = "[[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']\n";

    fn ids(files: &[(&str, &str)], host: &dyn Host, slurm_loads_us: bool) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let me = FileTrust::user(Owner::current().uid);
        let mut findings = Findings::default();
        if let Some(shared) = findings.shared(dir.path(), me) {
            findings.login_settings(dir.path(), &shared, me, &NssAccounts, Some(host));
            findings.jobs_settings(dir.path(), &shared, me, &|| slurm_loads_us);
        }
        findings.problems().map(|finding| finding.id.clone().unwrap()).collect()
    }

    #[test]
    fn each_mistake_of_the_configuration_has_its_finding() {
        let rule = "[[rule]]\nname = 'r'\nissuer = 'op'\ntemplate = '{sub}'\n";
        let denied = format!("{rule}[accounts]\ndeny = ['root', 'no such account']\n");
        let twice = format!("{ISSUER}{}", ISSUER.replace("'op'", "'again'").replace(".org", ".org/"));
        type Case<'a> = (&'a [(&'a str, &'a str)], &'static str, &'a [&'a str]);
        let exempt = format!("{rule}[account]\nexempt = ['root', 'no such account']\n");
        let server =
            |name: &str, slash: &str| format!("[[server]]\nname = '{name}'\nurl = 'https://m.example.org{slash}'\n");
        let servers = format!("{}{}", server("a", ""), server("b", "/"));
        let rules = rule.repeat(3);
        let cases: [Case<'_>; 12] = [
            (&[], "", &["configuration-missing"]),
            (&[("mytoken.toml", "")], "", &[]),
            (&[("mytoken.toml", "")], "auth required pam_mytoken.so", &["login-toml-missing"]),
            (&[("mytoken.toml", "")], "plugin", &["jobs-toml-missing"]),
            (&[("mytoken.toml", "")], "#auth required pam_mytoken.so", &[]),
            (&[("mytoken.toml", &twice)], "", &["issuer-url-twice"]),
            (&[("mytoken.toml", &servers)], "", &["server-url-twice"]),
            (&[("mytoken.toml", ISSUER), ("login.toml", "")], "", &["login-no-rule"]),
            (&[("mytoken.toml", ISSUER), ("login.toml", &rules)], "", &["rule-name-twice"]),
            (&[("mytoken.toml", ISSUER), ("login.toml", &denied)], "", &["accounts-unknown"]),
            (&[("mytoken.toml", ISSUER), ("login.toml", &exempt)], "", &["accounts-unknown"]),
            (&[("mytoken.toml", ""), ("jobs.toml", "[cluster]\nname = 'c'")], "", &["jobs-no-profile"]),
        ];
        for (files, lines, expected) in cases {
            assert_eq!(ids(files, &Lines(lines), lines == "plugin"), expected, "{files:?} {lines}");
        }
    }

    #[test]
    fn an_unknown_account_is_told_of_the_file_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("login.d")).unwrap();
        let rule = "[[rule]]\nname = 'r'\nissuer = 'op'\ntemplate = '{sub}'\n";
        let drop_in = "\naccounts.deny = ['root', 'no such account']\n";
        for (name, text) in [("mytoken.toml", ISSUER), ("login.toml", rule), ("login.d/z.toml", drop_in)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let me = FileTrust::user(Owner::current().uid);
        let mut findings = Findings::default();
        let shared = findings.shared(dir.path(), me).unwrap();
        findings.login_settings(dir.path(), &shared, me, &NssAccounts, None);
        let found = findings.problems().next().unwrap();
        assert!(found.text.starts_with("login.d/z.toml:2: [accounts] names \"no such account\""), "{found:?}");
    }

    #[test]
    fn a_drop_in_that_is_no_file_is_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let (me, folder) = (FileTrust::user(Owner::current().uid), dir.path().join("mytoken.d"));
        std::fs::create_dir(&folder).unwrap();
        let drop_in = folder.join("a b.toml");
        let pipe = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let link = |path: &Path| std::os::unix::fs::symlink("/nowhere", path).unwrap();
        let directory = |path: &Path| std::fs::create_dir(path).unwrap();
        for make in [&pipe as &dyn Fn(&Path), &directory] {
            std::fs::write(dir.path().join("mytoken.toml"), ISSUER).unwrap();
            make(&drop_in);
            let mut findings = Findings::default();
            assert!(findings.shared(dir.path(), me).is_none());
            let fix = findings.findings[0].fix.clone().unwrap();
            assert_eq!(findings.findings[0].text.matches("a b.toml").count(), 1, "{:?}", findings.findings);
            let ran = std::process::Command::new("sh").args(["-c", &fix]).output().unwrap();
            assert!(ran.status.success(), "{fix} {ran:?}");
            assert!(Findings::default().shared(dir.path(), me).is_some(), "{fix}");
        }
        let moved = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(moved.filter(|name| name.to_string_lossy().contains(".unused")).count(), 2);
        link(&drop_in);
        assert_eq!(drop_in_away(&drop_in), None);
        let fix = dangling(&drop_in).unwrap();
        assert!(fix.starts_with("namei -l ") && fix.contains("# put back /nowhere; "), "{fix}");
        // Of several links the end is missing, not what is between.
        let first = folder.join("first.toml");
        std::os::unix::fs::symlink("a b.toml", &first).unwrap();
        assert!(dangling(&first).is_some_and(|fix| fix.contains("# put back /nowhere; ")), "{:?}", dangling(&first));
        let circle = folder.join("circle.toml");
        std::os::unix::fs::symlink("circle.toml", &circle).unwrap();
        assert!(dangling(&circle).is_some_and(|fix| fix.ends_with("# the links lead in a circle")));
        [first, circle].iter().for_each(|link| std::fs::remove_file(link).unwrap());
        let foreign = dir.path().join("pam.d");
        std::fs::create_dir_all(foreign.join("sshd")).unwrap();
        assert_eq!(drop_in_away(&foreign.join("sshd")), None);
    }

    /// The rules that it stands for may keep somebody out.
    #[test]
    fn a_directory_of_drop_ins_that_leads_to_nothing_is_an_error() {
        let rule = "[[rule]]\nname = 'r'\nissuer = 'op'\ntemplate = '{sub}'\n";
        let jobs = "[cluster]\nname = 'c'\n[[profile]]\nname = 'p'\nserver = 's'\nscope = 'a'\naudience = 'b'\n";
        let shared = format!("[[server]]\nname = 's'\nurl = 'https://mytoken.example.org'\n{ISSUER}");
        for (name, parts) in [("mytoken.d", 0), ("login.d", 2), ("jobs.d", 2)] {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in [("mytoken.toml", shared.as_str()), ("login.toml", rule), ("jobs.toml", jobs)] {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            let me = FileTrust::user(Owner::current().uid);
            let check = || {
                let mut findings = Findings::default();
                if let Some(shared) = findings.shared(dir.path(), me) {
                    findings.login_settings(dir.path(), &shared, me, &NssAccounts, None);
                    findings.jobs_settings(dir.path(), &shared, me, &|| true);
                }
                findings
            };
            assert_eq!(check().problems().count(), 0, "{:?}", check());
            let link = dir.path().join(name);
            std::os::unix::fs::symlink("/no/such/site", &link).unwrap();
            let findings = check();
            assert_eq!((findings.problems().count(), findings.count(Severity::Ok)), (1, parts), "{findings:?}");
            let found = findings.problems().next().unwrap();
            assert_eq!(found.id.as_deref(), Some("configuration-unreadable"));
            let fix = found.fix.as_deref().unwrap();
            assert!(fix.starts_with(&format!("namei -l {}   # put back /no/such/site; ", link.display())), "{fix}");
        }
        // The directory of the configuration itself.
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mytoken");
        std::os::unix::fs::symlink("/no/such/site", &config).unwrap();
        let mut findings = Findings::default();
        assert!(findings.shared(&config, FileTrust::user(Owner::current().uid)).is_none());
        assert_eq!(findings.findings[0].id.as_deref(), Some("configuration-unreadable"), "{findings:?}");
    }

    /// PAM reads login.toml at the next login: a new one must let in nobody before somebody has written a rule.
    #[test]
    fn a_sample_is_installed_once_and_without_a_rule() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/samples");
        let paste = |kind: &Kind| {
            let command = kind.fix.replace("/etc/mytoken", &new.to_string_lossy());
            let command = command.replace("/usr/share/mytoken/samples", samples);
            let ran = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
            assert!(ran.status.success() && ran.stderr.is_empty(), "{command} {ran:?}");
        };
        let kinds = [kinds::CONFIGURATION_MISSING, kinds::LOGIN_MISSING, kinds::JOBS_MISSING];
        kinds.iter().for_each(paste);
        let me = FileTrust::user(Owner::current().uid);
        let shared = Shared::load(&new, me).unwrap();
        assert!(LoginSettings::load(&new, me, &shared).unwrap().rules.is_empty());
        let sample = std::fs::read_to_string(format!("{samples}/login.toml")).unwrap();
        let login = std::fs::read_to_string(new.join("login.toml")).unwrap();
        assert_eq!(login.lines().count(), sample.lines().count());
        assert!(login.contains("\n#[[rule]]\n") && login.contains("\n#template = "), "{login}");
        for name in ["mytoken.toml", "login.toml", "jobs.toml"] {
            std::fs::write(new.join(name), "# own\n").unwrap();
        }
        kinds.iter().for_each(paste);
        for name in ["mytoken.toml", "login.toml", "jobs.toml"] {
            assert_eq!(std::fs::read_to_string(new.join(name)).unwrap(), "# own\n", "{name}");
        }
    }

    #[test]
    fn the_fix_of_a_mistake_opens_its_line() {
        assert_eq!(edit("/etc/mytoken/login.d/a.toml:12"), "${EDITOR:-vi} +12 /etc/mytoken/login.d/a.toml");
        assert_eq!(edit("/etc/mytoken/login.toml"), "${EDITOR:-vi} /etc/mytoken/login.toml");
        assert_eq!(edit("/etc/pam.d/a;reboot:3"), "${EDITOR:-vi} +3 '/etc/pam.d/a;reboot'");
        assert_eq!(edit("/etc/pam.d/$(reboot)"), "${EDITOR:-vi} '/etc/pam.d/$(reboot)'");
    }
}
