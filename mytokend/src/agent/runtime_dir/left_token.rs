// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens of jobs and sessions that have no readable lease. They stay until they expire: the job or session may still run.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use mytoken::Secret;
use mytoken::private_files::{Directory, FileError, Owner, as_user};
use mytoken::token::{Presented, TOKEN_LIMIT, classify};
use mytoken_wire::FileName;
use mytoken_wire::agent::SessionPlace;
use mytoken_wire::paths::named_token_file;
use mytoken_wire::token_file;

use super::{RuntimeDir, SessionDir, number, token_name};

/// How long an access token is kept that does not say when it expires, in seconds since it was written. No access token should live longer
/// (WLCG profile).
const OPAQUE_LIFETIME: u64 = 6 * 3600;

/// The access token of a session without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftToken {
    /// Owner of the file.
    pub owner: Owner,
    /// When it expires, Unix seconds.
    pub exp: u64,
    /// Where its session's directory is.
    pub place: SessionPlace,
}

/// An access token in a file of which its lease knows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundToken {
    /// The access token, if the file can be read.
    pub text: Option<Secret>,
    /// When it expires, Unix seconds.
    pub exp: u64,
    /// It says that itself. Otherwise it ends then at the latest.
    pub tells_end: bool,
    /// Seconds from the time when it was written to its end.
    pub lifetime: u64,
}

/// The access tokens of a job without a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftInJob {
    /// Owner of the files.
    pub owner: Owner,
    /// When the main token expires, Unix seconds.
    pub main: Option<u64>,
    /// The further files, and when the token of each expires.
    pub files: Vec<(FileName, u64)>,
}

/// What is left without a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// In a job's directory.
    Job(LeftInJob),
    /// In a session's directory.
    Session(LeftToken),
}

impl Left {
    /// Owner of the files.
    #[must_use]
    pub fn owner(&self) -> Owner {
        match self {
            Self::Job(left) => left.owner,
            Self::Session(left) => left.owner,
        }
    }

    /// When the last of the tokens expires, Unix seconds.
    #[must_use]
    pub fn end(&self) -> u64 {
        match self {
            Self::Job(left) => left.files.iter().map(|(_, exp)| *exp).chain(left.main).max().unwrap_or(0),
            Self::Session(left) => left.exp,
        }
    }
}

impl RuntimeDir {
    /// The access tokens in a job's directory, of its first user. `now` is Unix seconds.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn left_in_job(&self, job: u32, now: u64) -> Result<Option<LeftInJob>, FileError> {
        let directory = self.jobs.enter(&job.to_string(), self.owner, 0o711)?;
        let mut left: Option<LeftInJob> = None;
        for file in directory.names()? {
            let Some((uid, name)) = token_file(&file) else { continue };
            let Some((owner, found)) = found_token(&directory, &file, uid, 0o400, now) else { continue };
            let left = left.get_or_insert_with(|| LeftInJob { owner, main: None, files: Vec::new() });
            match name {
                _ if left.owner.uid != uid => {}
                None => left.main = Some(found.exp),
                Some(name) => left.files.push((name, found.exp)),
            }
        }
        Ok(left)
    }

    /// The user of [`Self::left_in_job`], without a look at the files.
    pub fn user_of_job(&self, job: u32) -> Option<u32> {
        let directory = self.jobs.enter(&job.to_string(), self.owner, 0o711).ok()?;
        directory.names().ok()?.iter().find_map(|file| token_file(file)).map(|(uid, _)| uid)
    }

    /// What is in the file of a job that runs; `name`: in a further one. `now` is Unix seconds.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn found_in_job(
        &self,
        owner: Owner,
        job: u32,
        name: Option<&FileName>,
        now: u64,
    ) -> Result<Option<FoundToken>, FileError> {
        let job = job.to_string();
        if !self.jobs.has(&job)? {
            return Ok(None);
        }
        let file = name.map_or_else(|| token_name(owner.uid), |name| named_token_file(owner.uid, name));
        let directory = self.jobs.make(&job, self.owner, 0o711)?;
        Ok(found_token(&directory, &file, owner.uid, 0o400, now).map(|(_, found)| found))
    }

    /// What is in the file of a session that runs. `now` is Unix seconds.
    ///
    /// # Errors
    /// [`FileError::Unusable`], [`FileError::Identity`].
    pub fn found_in_session(&self, session: SessionDir<'_>, now: u64) -> Result<Option<FoundToken>, FileError> {
        let owner = session.owner;
        self.in_session(session, |directory| {
            Ok(found_token(directory, &token_name(owner.uid), owner.uid, 0o600, now).map(|(_, found)| found))
        })
    }

    /// The users who have a directory for sessions, or a runtime directory of their own, where there may be one.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn session_users(&self) -> Result<BTreeSet<u32>, FileError> {
        // Without logind there is none.
        let own = fs::read_dir(&self.users).into_iter().flatten().filter_map(Result::ok);
        let mut users: BTreeSet<u32> = own.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
        if self.root.has("sessions")? {
            let names = self.root.enter("sessions", self.owner, 0o711)?.names()?;
            users.extend(names.iter().filter_map(|name| number(name)));
        }
        Ok(users)
    }

    /// The access tokens of those of these sessions that are in the directories of user `uid`. `now` is Unix seconds.
    ///
    /// # Errors
    /// [`FileError::Unusable`], [`FileError::Identity`].
    pub fn left_in_sessions(
        &self,
        uid: u32,
        sessions: &[String],
        now: u64,
    ) -> Result<Vec<(String, LeftToken)>, FileError> {
        let [run, user] = [SessionPlace::Run, SessionPlace::User].map(|place| self.left_at(place, uid, sessions, now));
        match (run, user) {
            (Ok(mut found), Ok(more)) => {
                found.extend(more);
                Ok(found)
            }
            // A directory that its user has changed hides no token in the other one.
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    fn left_at(
        &self,
        place: SessionPlace,
        uid: u32,
        sessions: &[String],
        now: u64,
    ) -> Result<Vec<(String, LeftToken)>, FileError> {
        let path = match place {
            SessionPlace::Run => self.root.path().join("sessions"),
            SessionPlace::User => self.users.clone(),
        }
        .join(uid.to_string());
        let gid = match fs::symlink_metadata(&path) {
            Ok(meta) => meta.gid(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(FileError::Unusable { path: path.display().to_string(), reason: error.to_string() });
            }
        };
        let owner = Owner { uid, gid };
        let Some(own) = self.own_sessions(SessionDir { owner, session: "", place })? else { return Ok(Vec::new()) };
        as_user(owner, || {
            let mut found = Vec::new();
            for session in sessions {
                // The user may have changed the directory of one session; that costs no other one.
                let Ok(true) = own.has(session) else { continue };
                let Ok(directory) = own.enter(session, owner, 0o700) else { continue };
                let left = found_token(&directory, &token_name(uid), uid, 0o600, now);
                let left = left.map(|(owner, found)| LeftToken { owner, exp: found.exp, place });
                found.extend(left.map(|left| (session.clone(), left)));
            }
            Ok(found)
        })
    }
}

/// The uid in the name of a token file, and the NAME of a further one.
fn token_file(name: &str) -> Option<(u32, Option<FileName>)> {
    let rest = name.strip_prefix("bt_u")?;
    match rest.split_once('-') {
        Some((uid, name)) => Some((uid.parse().ok()?, Some(FileName::parse(name)?))),
        None => Some((rest.parse().ok()?, None)),
    }
}

/// The access token of user `uid` in the file `name` of `directory`, and the owner of the file.
fn found_token(directory: &Directory, name: &str, uid: u32, mode: u32, now: u64) -> Option<(Owner, FoundToken)> {
    let meta = fs::symlink_metadata(directory.path().join(name)).ok().filter(|meta| meta.uid() == uid)?;
    let owner = Owner { uid, gid: meta.gid() };
    let written = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let text = match directory.read(name, owner, mode, TOKEN_LIMIT) {
        Ok(token) => Some(Secret::new(String::from_utf8_lossy(&token?).trim())),
        // It may be valid. It is removed when the longest token would have expired.
        Err(_) => None,
    };
    let written = written.map_or(0, |time| time.as_secs());
    let told = text.as_ref().and_then(|token| told_end(token, written, now));
    let exp = told.unwrap_or_else(|| latest_end(written, now));
    let lifetime = exp.saturating_sub(written.min(now));
    Some((owner, FoundToken { text, exp, tells_end: told.is_some(), lifetime }))
}

/// When a token that was written at `written` says that it expires, by this host's clock.
fn told_end(token: &Secret, written: u64, now: u64) -> Option<u64> {
    match classify(token) {
        Presented::AccessToken(jwt) => {
            jwt.unverified_exp.map(|exp| token_file::end(exp, jwt.unverified_iat, written.min(now)))
        }
        Presented::Mytoken(claims) => claims.unverified().exp,
        _ => None,
    }
}

/// When a token that was written at `written` has expired in any case.
fn latest_end(written: u64, now: u64) -> u64 {
    written.min(now).saturating_add(OPAQUE_LIFETIME)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use mytoken_login::user_runtime_dir::user_sessions;

    use super::*;

    fn expiry(token: &Secret, written: u64, now: u64) -> u64 {
        told_end(token, written, now).unwrap_or_else(|| latest_end(written, now))
    }

    #[test]
    fn the_tokens_of_sessions_are_found_without_their_leases() {
        let dir = tempfile::tempdir().unwrap();
        let (own, session) = (Owner::current(), "0".repeat(32));
        let users = dir.path().join("users");
        let runtime = RuntimeDir::open(&dir.path().join("mytoken"), own).unwrap().with_users(&users);
        assert_eq!(runtime.session_users(), Ok(BTreeSet::new()));
        let sessions = runtime.root.make("sessions", own, 0o711).unwrap();
        sessions.make("of-nobody", own, 0o700).unwrap();
        let user = sessions.make(&own.uid.to_string(), own, 0o700).unwrap();
        assert_eq!(runtime.session_users(), Ok([own.uid].into()));
        let directory = user.make(&session, own, 0o700).unwrap();
        let asked = ["1".repeat(32), "2".repeat(32), session.clone()];
        let look = || runtime.left_in_sessions(own.uid, &asked, 5);
        assert_eq!(look(), Ok(Vec::new()));
        directory.write(&token_name(own.uid), b"an-opaque-access-token", own, 0o600).unwrap();
        // Of another session, which the user has opened to others.
        let changed = user.make(&asked[0], own, 0o755).unwrap();
        changed.write(&token_name(own.uid), b"an-opaque-access-token", own, 0o600).unwrap();
        assert_eq!(
            look(),
            Ok(vec![(session, LeftToken { owner: own, exp: 5 + OPAQUE_LIFETIME, place: SessionPlace::Run })])
        );
        assert_eq!(runtime.left_in_sessions(own.uid, &asked[1..2], 5), Ok(Vec::new()));
        assert_eq!(runtime.left_in_sessions(own.uid + 1, &asked, 5), Ok(Vec::new()), "there is no such directory");
    }

    #[test]
    fn a_token_in_the_users_own_runtime_directory_is_found_without_its_lease() {
        // The only file system in memory that every user of every host can use.
        let users = tempfile::tempdir_in("/dev/shm").unwrap();
        let (dir, own, session) = (tempfile::tempdir().unwrap(), Owner::current(), "0".repeat(32));
        let runtime = RuntimeDir::open(&dir.path().join("mytoken"), own).unwrap().with_users(users.path());
        let above = users.path().join(own.uid.to_string());
        fs::create_dir(&above).unwrap();
        fs::set_permissions(&above, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(runtime.session_users(), Ok([own.uid].into()));
        let look = || runtime.left_in_sessions(own.uid, std::slice::from_ref(&session), 5);
        assert_eq!(look(), Ok(Vec::new()));
        let directory = user_sessions(users.path(), own, true).unwrap().unwrap().make(&session, own, 0o700).unwrap();
        directory.write(&token_name(own.uid), b"an-opaque-access-token", own, 0o600).unwrap();
        let left = LeftToken { owner: own, exp: 5 + OPAQUE_LIFETIME, place: SessionPlace::User };
        assert_eq!(look(), Ok(vec![(session.clone(), left)]));
    }

    #[test]
    fn all_files_of_a_job_are_found_without_its_lease() {
        let dir = tempfile::tempdir().unwrap();
        let own = Owner::current();
        let runtime = RuntimeDir::open(&dir.path().join("mytoken"), own).unwrap();
        runtime.make_job(7).unwrap();
        assert_eq!((runtime.left_in_job(7, 5), runtime.user_of_job(7)), (Ok(None), None));
        let directory = runtime.jobs.make("7", own, 0o711).unwrap();
        let compute = FileName::parse("compute").unwrap();
        let exp = 5 + OPAQUE_LIFETIME;
        for (name, main, files) in [
            (format!("bt_u{}-compute", own.uid), None, vec![(compute.clone(), exp)]),
            ("bt_ux".to_owned(), None, vec![(compute.clone(), exp)]),
            (format!("bt_u{}-..", own.uid), None, vec![(compute.clone(), exp)]),
            (token_name(own.uid), Some(exp), vec![(compute, exp)]),
        ] {
            directory.write(&name, b"opaque", own, 0o400).unwrap();
            assert_eq!(runtime.left_in_job(7, 5), Ok(Some(LeftInJob { owner: own, main, files })), "{name}");
            assert_eq!(runtime.user_of_job(7), Some(own.uid));
        }
    }

    #[test]
    fn a_token_that_cannot_be_read_is_one_that_does_not_say_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let own = Owner::current();
        let runtime = RuntimeDir::open(&dir.path().join("mytoken"), own).unwrap();
        runtime.make_job(7).unwrap();
        let directory = runtime.jobs.make("7", own, 0o711).unwrap();
        directory.write(&token_name(own.uid), b"opaque", own, 0o440).unwrap();
        let left = LeftInJob { owner: own, main: Some(5 + OPAQUE_LIFETIME), files: Vec::new() };
        assert_eq!(runtime.left_in_job(7, 5), Ok(Some(left)));
    }

    #[test]
    fn a_token_ends_when_it_says_so_or_after_a_limit() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let jwt =
            |payload: &str| Secret::new(format!("{}.{}.{}", part("{\"alg\":\"none\"}"), part(payload), part("x")));
        let opaque = Secret::new("an-opaque-access-token");
        assert_eq!(expiry(&jwt("{\"exp\":1234}"), 1, 2), 1234);
        let year = "{\"exp\":40003600,\"iat\":40000000}";
        assert_eq!(expiry(&jwt(year), 1000, 2000), 1000 + 3600, "this host's clock is far behind");
        assert_eq!(expiry(&jwt(year), 90_000_000, 90_000_100), 90_003_600, "this host's clock is far ahead");
        assert_eq!(expiry(&jwt(year), 90_000_000, 50_000_000), 50_003_600, "and was set back");
        assert_eq!(expiry(&jwt("{}"), 1000, 2000), 1000 + OPAQUE_LIFETIME);
        assert_eq!(expiry(&opaque, 1000, 2000), 1000 + OPAQUE_LIFETIME);
        assert_eq!(expiry(&opaque, u64::MAX, 2000), 2000 + OPAQUE_LIFETIME, "the clock was ahead when it was written");
    }
}
