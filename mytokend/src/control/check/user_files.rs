// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about a user's own files and sockets. The process has this user's rights: links lead no further than the user could go.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mytoken::Deadline;
use mytoken::config::Shared;
use mytoken::private_files::is_private_directory;
use mytoken::token_store::{StoreError, TokenStore};
use mytoken_wire::agent::{StatusQuery, ask};
use mytoken_wire::printable;
use nix::unistd::User;

use super::configuration::word;
use super::kinds::Kind;
use super::{Findings, kinds_user as kinds};
use crate::jobs::own_profiles::OwnProfiles;
use crate::jobs::settings::{DEFAULT, JobsSettings};
use crate::program::{self, ProgramError, ProgramOutcome};
use crate::submit::unusable_session_mytoken;

/// The ssh helper.
const HELPER: &str = "/usr/bin/mytoken-ssh";

/// Time limit of the helper and of the agent.
const LIMIT: Duration = Duration::from_secs(5);

/// Longest part of a message that has names of the user's choice.
pub(super) const LONGEST: usize = 400;

/// The places of a user's files.
pub(super) struct Places {
    /// The account's name, for the commands.
    pub account: String,
    /// The user id.
    pub uid: u32,
    /// The home directory.
    pub home: PathBuf,
    /// `XDG_RUNTIME_DIR` as systemd makes it.
    pub runtime: PathBuf,
    /// The directory of the user's login sessions.
    pub sessions: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
}

impl Places {
    pub(super) fn of(user: &User, socket: &Path) -> Self {
        let uid = user.uid.as_raw();
        Self {
            account: user.name.clone(),
            uid,
            home: user.dir.clone(),
            runtime: format!("/run/user/{uid}").into(),
            sessions: Path::new(mytoken_wire::paths::RUNTIME).join("sessions").join(uid.to_string()),
            socket: socket.to_owned(),
        }
    }
}

impl Findings {
    /// Looks at the user's store, settings, sessions and runtime directory, and asks the agent. `used`: the configuration, if it can be
    /// used.
    pub(super) fn user_files(&mut self, places: &Places, used: Option<&(Shared, JobsSettings)>) {
        if let Err(error) = fs::read_dir(&places.home) {
            let home = places.home.display();
            let text = format!("the home directory {home} cannot be read ({error}): no mytoken can be stored there");
            self.add_user(kinds::HOME, places, &text, &format!("ls -ld {}", quoted(&places.home)));
        } else {
            if self.token_store(places) {
                self.helper_settings(places);
            }
            self.own_profiles(places, used.map(|(_, jobs)| jobs));
        }
        // The helper follows a link at this path, as metadata does.
        if places.runtime.exists() && !is_private_directory(&places.runtime) {
            let text = format!(
                "{} is not a directory that only \"{}\" can use: mytoken-ssh takes the temporary directory",
                places.runtime.display(),
                places.account
            );
            self.add_user(kinds::RUNTIME_DIR, places, &text, &format!("ls -ld {}", quoted(&places.runtime)));
        }
        if let Ok(sessions) = fs::read_dir(&places.sessions) {
            for session in sessions.flatten() {
                self.session(places, &session.path(), used);
            }
        }
        if let Err(error) = ask(&places.socket, &StatusQuery::default(), Deadline::after(LIMIT)) {
            let text = format!("\"{}\" gets no answer from the agent: {error}", places.account);
            self.add_user(kinds::AGENT, places, &text, &format!("ls -l {}", quoted(&places.socket)));
        }
    }

    /// Whether the user's own profiles can be used. `jobs`: the profiles of the site that they narrow.
    fn own_profiles(&mut self, places: &Places, jobs: Option<&JobsSettings>) {
        let faults = match OwnProfiles::load(Some(&places.home)) {
            Err(fault) => vec![fault],
            Ok(own) => jobs.map_or_else(Vec::new, |jobs| {
                own.names().filter_map(|own_name| own.narrowed(jobs, own_name.name)?.err()).collect()
            }),
        };
        for fault in faults {
            self.add_user(kinds::PROFILES, places, &fault, "mytokenctl profile list");
        }
    }

    /// Whether the store of mytokens can be used, or does not exist yet.
    fn token_store(&mut self, places: &Places) -> bool {
        let path = TokenStore::default_path(&places.home);
        // Opening it would make it.
        if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return true;
        }
        let Err(error) = TokenStore::open(&path).and_then(|store| store.tokens()) else { return true };
        let command = match &error {
            StoreError::Unsafe { path, .. } if opened_to_others(Path::new(path), places.uid) => {
                format!("chmod go= {}", quoted(Path::new(path)))
            }
            StoreError::Unsafe { path, .. } | StoreError::Unusable { path, .. } | StoreError::Busy { path } => {
                format!("ls -ld {}", quoted(Path::new(path)))
            }
            // Only a login makes another token. With a command of root, root would see the link, and confirm as somebody else.
            StoreError::Damaged { .. } => format!("mytoken-ssh status   {}", logs_in(&places.account)),
            _ => "mytoken-ssh status".to_owned(),
        };
        self.add_user(kinds::STORE, places, &error.to_string(), &command);
        false
    }

    /// Lets the helper read its settings: it shows what it cannot use.
    fn helper_settings(&mut self, places: &Places) {
        let mut status = Command::new(HELPER);
        let ran = program::run(status.arg("status"), Deadline::after(LIMIT));
        self.helper_ran(places, ran);
    }

    fn helper_ran(&mut self, places: &Places, ran: Result<ProgramOutcome, ProgramError>) {
        let (kind, text) = match ran {
            // A login host may have no helper.
            Err(ProgramError::Start(error)) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => (kinds::HELPER, format!("mytoken-ssh status {error}")),
            Ok(killed) if killed.signal.is_some() => {
                (kinds::HELPER, format!("mytoken-ssh status failed: {}", killed.reason()))
            }
            // Its exit status tells whether there is a token.
            Ok(outcome) => match outcome.errors.lines().next() {
                Some(error) => (kinds::SETTINGS, error.to_owned()),
                None => return,
            },
        };
        self.add_user(kind, places, &text, "mytoken-ssh status");
    }

    fn session(&mut self, places: &Places, session: &Path, used: Option<&(Shared, JobsSettings)>) {
        let own = |meta: &Metadata| meta.uid() == places.uid && meta.mode() & 0o077 == 0;
        let mut wrong = match session.symlink_metadata() {
            Ok(meta) if meta.is_dir() && own(&meta) => None,
            // The session ended meanwhile.
            Err(_) => return,
            Ok(_) => Some(session.to_owned()),
        };
        let files: Vec<PathBuf> =
            fs::read_dir(session).map(|files| files.flatten().map(|file| file.path()).collect()).unwrap_or_default();
        if wrong.is_none() {
            let open = |path: &&PathBuf| path.symlink_metadata().is_ok_and(|meta| !meta.is_file() || !own(&meta));
            wrong = files.iter().find(open).cloned();
        }
        if let Some(path) = wrong {
            let text = format!(
                "{} is not a file or directory of \"{}\" that only this user can open: it may hold a token of somebody else",
                path.display(),
                places.account
            );
            return self.add_user(kinds::SESSION, places, &text, &format!("ls -la {}", quoted(&path)));
        }
        let mytoken = session.join(format!("mt_u{}", places.uid));
        let server = used.and_then(|(shared, jobs)| {
            let profile = jobs.profile(DEFAULT).or_else(|| jobs.profile.first())?;
            shared.server_url(&profile.server).ok()
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some(server) = server.filter(|_| files.contains(&mytoken)) {
            if let Some(reason) = unusable_session_mytoken(&mytoken, &server, now) {
                let text = format!(
                    "the mytoken in {} (MYTOKEN_FILE) {reason}: jobs that this session submits get no token from it",
                    mytoken.display()
                );
                let command = format!("mytoken-ssh status   {}", logs_in(&places.account));
                self.add_user(kinds::SESSION_MYTOKEN, places, &text, &command);
            }
        }
    }

    /// Adds a finding whose command the user runs. A command of root would follow the user's links.
    fn add_user(&mut self, kind: Kind, places: &Places, text: &str, command: &str) {
        self.add_fixed(kind, printable(text, LONGEST), as_user(&places.account, command));
    }
}

/// What only the person can do.
fn logs_in(account: &str) -> String {
    format!("# \"{account}\" has to log in: mytoken-ssh login")
}

/// Whether only the mode of this file or directory of the user is wrong. It does not help to change that of a FIFO.
fn opened_to_others(path: &Path, uid: u32) -> bool {
    let wrong_mode = |meta: &Metadata| meta.uid() == uid && meta.mode() & 0o077 != 0;
    path.symlink_metadata().is_ok_and(|meta| (meta.is_dir() || meta.is_file()) && wrong_mode(&meta))
}

/// The command, run by the user. In a session of its own: with root's terminal as the controlling one, the user could write into root's
/// shell (`TIOCSTI`).
pub(super) fn as_user(account: &str, command: &str) -> String {
    format!("setsid -w runuser -u {} -- {command}", word(account))
}

/// A path as one word of a shell. Of a name that a terminal would not show as it is, only the directory above is shown.
fn quoted(path: &Path) -> String {
    let plain = |path: &Path| path.to_str().is_some_and(|text| text.chars().all(mytoken_wire::is_printable));
    let shown = path.ancestors().find(|path| plain(path)).unwrap_or(Path::new("/"));
    word(&shown.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use mytoken::private_files::Owner;

    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            for dir in [".config/mytoken/tokens", "run", "sessions/one"] {
                fs::create_dir_all(home.path(dir)).unwrap();
                home.mode(dir, 0o700);
            }
            fs::write(home.path("sessions/one/bt_u1"), "x").unwrap();
            home.mode("sessions/one/bt_u1", 0o600);
            home
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn places(&self) -> Places {
            Places {
                account: "alice".to_owned(),
                uid: Owner::current().uid,
                home: self.0.path().to_owned(),
                runtime: self.path("run"),
                sessions: self.path("sessions"),
                socket: self.path("agent.sock"),
            }
        }

        /// Ids and commands; there is no agent.
        fn found(&self) -> Vec<(String, String)> {
            let mut findings = Findings::default();
            findings.user_files(&self.places(), None);
            let all = findings.findings.into_iter().map(|finding| (finding.id.unwrap(), finding.fix.unwrap()));
            all.filter(|(id, _)| id != kinds::AGENT.id).collect()
        }
    }

    #[test]
    fn each_fault_of_a_users_files_is_found_alone() {
        type Row<'a> = (&'a str, &'a dyn Fn(&Home));
        let rows: [Row<'_>; 7] = [
            ("user-profiles", &|home| fs::write(home.path(".config/mytoken/jobs.toml"), "profile = 7").unwrap()),
            ("user-store", &|home| home.mode(".config/mytoken/tokens", 0o755)),
            ("user-store", &|home| fs::write(home.path(".config/mytoken/tokens/a.json"), "{").unwrap()),
            ("user-runtime-dir", &|home| home.mode("run", 0o755)),
            ("user-session", &|home| home.mode("sessions/one", 0o755)),
            ("user-session", &|home| home.mode("sessions/one/bt_u1", 0o640)),
            ("user-session", &|home| symlink("/etc/shadow", home.path("sessions/one/mt_u1")).unwrap()),
        ];
        assert_eq!(Home::new().found(), []);
        for (id, break_it) in rows {
            let home = Home::new();
            break_it(&home);
            let found = home.found();
            assert!(found.len() == 1 && found[0].0 == id, "{id}: {found:?}");
            assert!(found[0].1.starts_with("setsid -w runuser -u alice -- "), "{found:?}");
        }
        // Root must not see the link of a login, and confirm it as somebody else.
        let home = Home::new();
        fs::write(home.path(".config/mytoken/tokens/a.json"), "{").unwrap();
        home.mode(".config/mytoken/tokens/a.json", 0o600);
        let command = home.found().pop().unwrap().1;
        assert!(command.ends_with("mytoken-ssh status   # \"alice\" has to log in: mytoken-ssh login"), "{command}");
        // A file in the place of a directory is not a store that does not exist yet.
        let home = Home::new();
        fs::remove_dir_all(home.path(".config/mytoken")).unwrap();
        fs::write(home.path(".config/mytoken"), "").unwrap();
        let ids: Vec<_> = home.found().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["user-store"]);
        let home = Home::new();
        fs::remove_dir_all(home.path(".config")).unwrap();
        assert_eq!(home.found(), []);
        assert!(!home.path(".config").exists(), "the check makes nothing");
    }

    #[test]
    fn an_own_profile_that_is_broader_than_the_sites_is_found() {
        let jobs: JobsSettings = toml::from_str(
            "[cluster]\nname='c'\n[[profile]]\nname='default'\nserver='s'\nscope='a'\naudience='https://x'",
        )
        .unwrap();
        let found = |own: &str| {
            let home = tempfile::tempdir_in(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).unwrap();
            fs::create_dir_all(home.path().join(".config/mytoken")).unwrap();
            fs::write(home.path().join(".config/mytoken/jobs.toml"), own).unwrap();
            let places = Places { home: home.path().to_owned(), ..Home::new().places() };
            let mut findings = Findings::default();
            findings.own_profiles(&places, Some(&jobs));
            findings.findings.into_iter().map(|found| found.text).collect::<Vec<_>>().join("|")
        };
        assert_eq!(found("[[profile]]\nname='mine'\nbased_on='default'\nusages=3"), "");
        let broader = found("[[profile]]\nname='mine'\nbased_on='default'\nscope='a b'");
        assert!(broader.ends_with("the scope b is not in the site's profile \"default\""), "{broader}");
    }

    #[test]
    fn only_a_wrong_mode_is_corrected_with_chmod() {
        let home = Home::new();
        let (plain, fifo) = (home.path("a.json"), home.path(".config/mytoken/tokens/b.json"));
        fs::write(&plain, "").unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let uid = Owner::current().uid;
        for (mode, wanted) in [(0o600, false), (0o640, true)] {
            home.mode("a.json", mode);
            home.mode(".config/mytoken/tokens/b.json", mode);
            assert_eq!((opened_to_others(&plain, uid), opened_to_others(&fifo, uid)), (wanted, false), "{mode:o}");
        }
        let found = home.found();
        assert!(found.len() == 1 && found[0].0 == "user-store" && found[0].1.contains(" -- ls -ld "), "{found:?}");
    }

    #[test]
    fn a_helper_without_an_answer_is_found() {
        let outcome = |errors: &str, signal| {
            Ok(ProgramOutcome {
                success: false,
                status: None,
                output: String::new(),
                errors: errors.to_owned(),
                signal,
            })
        };
        let rows = [
            (outcome("", None), None),
            (outcome("config.toml: bad\nmore", None), Some(("user-settings", "config.toml: bad"))),
            (outcome("", Some(9)), Some(("user-helper", "mytoken-ssh status failed: it was killed by signal SIGKILL"))),
            (Err(ProgramError::Timeout), Some(("user-helper", "mytoken-ssh status did not answer in time"))),
            (Err(ProgramError::Start(ErrorKind::NotFound.into())), None),
        ];
        for (ran, wanted) in rows {
            let mut findings = Findings::default();
            findings.helper_ran(&Home::new().places(), ran);
            let found = findings.findings.first().map(|found| (found.id.as_deref().unwrap(), found.text.as_str()));
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn names_of_users_cannot_add_lines_to_a_command() {
        assert_eq!(quoted(Path::new("/home/a b/x\n; rm y")), "'/home/a b'");
        assert_eq!(quoted(Path::new("/home/a/x\u{202e}fr- mr")), "/home/a", "it would be shown in the other direction");
        assert_eq!(quoted(Path::new("/home/a/tokens")), "/home/a/tokens");
    }
}
