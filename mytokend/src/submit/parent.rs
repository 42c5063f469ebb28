// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the mytoken from which the job's sub-token is made: the session's own (`MYTOKEN_FILE`), or one in the store of mytoken-ssh.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mytoken::capabilities::{AT, CREATE_MYTOKEN, Capabilities};
use mytoken::restrictions::Clause;
use mytoken::server::refuse_rotation;
use mytoken::time_format::TimeFormat;
use mytoken::token::{MytokenClaims, UnverifiedClaims, is_name_of_link, unverified_claims};
use mytoken::token_store::{AcquiredToken, StoreError, TokenStore, UsedFor};
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Error, Secret};
use nix::unistd::{User, getuid};
use zeroize::Zeroizing;

use super::error::{SubmitError, UnusableMytoken};
use super::notes::ParentSource;

/// The parts of the user's environment that name mytokens.
#[derive(Debug, Clone)]
pub struct UserEnvironment {
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// `MYTOKEN_FILE`.
    pub mytoken_file: Option<PathBuf>,
}

impl UserEnvironment {
    /// That of this process.
    #[must_use]
    pub fn current() -> Self {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME").or_else(|| Some(User::from_uid(getuid()).ok()??.dir));
        Self { home, mytoken_file: absolute("MYTOKEN_FILE") }
    }
}

/// So many uses are not used up. A clause that limits only the number of access tokens has such a number for other uses (MT-17).
const UNLIMITED: i64 = 1_000_000;

/// A mytoken that can make sub-tokens, as far as its own claims say.
pub(crate) enum Parent<'store> {
    /// From the session's file. It does not rotate.
    File(Secret),
    /// From the store. The store is locked while a rotating token is in use.
    Stored(Box<AcquiredToken<'store>>),
}

impl Parent<'_> {
    pub(crate) fn token(&self) -> &Secret {
        match self {
            Self::File(token) => token,
            Self::Stored(acquired) => &acquired.stored().mytoken,
        }
    }

    /// The clauses that the server granted, if they are stored with the token.
    pub(crate) fn clauses(&self) -> Option<&[Clause]> {
        match self {
            Self::File(_) => None,
            Self::Stored(acquired) => Some(&acquired.stored().restrictions),
        }
    }

    pub(crate) fn source(&self) -> ParentSource {
        match self {
            Self::File(token) => {
                let of_link = |claims: UnverifiedClaims| is_name_of_link(&claims.unverified().name);
                if unverified_claims(token).is_some_and(of_link) {
                    ParentSource::LinkSession
                } else {
                    ParentSource::Session
                }
            }
            Self::Stored(_) => ParentSource::Store,
        }
    }

    /// Which mytoken this is. A rotation does not change it.
    pub(super) fn identity(&self) -> String {
        let id =
            unverified_claims(self.token()).map(|claims| claims.unverified().jti.clone()).filter(|id| !id.is_empty());
        id.unwrap_or_else(|| mytoken::token::fingerprint(self.token()))
    }

    /// Whether each use replaces it.
    pub(super) fn rotates(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Stored(acquired) => acquired.stored().rotates(),
        }
    }

    /// Whether it may be used twice at the same time: it does not rotate, also by its own claims, and its uses are not limited. If they
    /// are, the second one would be taken from a later submission, or refused because of the first.
    pub(super) fn may_overlap(&self) -> bool {
        // Only a JWT says for sure that it does not rotate.
        let Some(claims) = unverified_claims(self.token()) else { return false };
        let own = claims.unverified();
        let rotates = self.rotates() || own.rotates();
        let clauses = self.clauses().unwrap_or(&own.restrictions);
        !rotates && clauses.iter().all(|clause| clause.usages_other.is_none_or(|uses| uses >= UNLIMITED))
    }

    /// Stores the successor of a rotated token.
    pub(crate) fn keep(&mut self, successor: &Secret) -> Result<(), Error> {
        match self {
            Self::File(_) => refuse_rotation(successor),
            Self::Stored(acquired) => Ok(acquired.store_successor(successor)?),
        }
    }

    /// Notes in the store what a request for a sub-token says about the mytoken.
    pub(crate) fn ended<T>(&mut self, outcome: &Result<T, Error>) {
        if let Self::Stored(acquired) = self {
            acquired.ended(outcome, UsedFor::Other);
        }
    }
}

/// Opens the store of mytoken-ssh, if there is one.
pub(crate) fn open_store(home: Option<&Path>) -> Result<Option<TokenStore>, StoreError> {
    let Some(path) = home.map(TokenStore::default_path).filter(|path| path.is_dir()) else { return Ok(None) };
    TokenStore::open(&path).map(Some)
}

/// The first usable mytoken for `server`. `now` is Unix seconds.
///
/// # Errors
/// [`SubmitError::NoMytoken`], and the errors of the store.
pub(crate) fn find<'store>(
    server: &ServerUrl,
    environment: &UserEnvironment,
    store: Option<&'store TokenStore>,
    now: u64,
    deadline: Deadline,
) -> Result<Parent<'store>, SubmitError> {
    let session = match environment.mytoken_file.as_deref().map(|path| from_file(path, server, now)) {
        Some(Ok(token)) => return Ok(Parent::File(token)),
        Some(Err(unusable)) => Some(unusable),
        None => None,
    };
    let stored = match store.map(|store| store.acquire(server, deadline)).transpose()?.flatten() {
        Some(acquired) => {
            let entry = acquired.stored();
            let checked = if entry.expired(now) {
                Err(UnusableMytoken::Expired)
            } else {
                check_rights(&entry.capabilities, None, &entry.restrictions, now)
            };
            match checked {
                Ok(()) => return Ok(Parent::Stored(Box::new(acquired))),
                Err(unusable) => Some(unusable),
            }
        }
        None => None,
    };
    let server = server.as_str().trim_start_matches("https://").to_owned();
    Err(SubmitError::NoMytoken { server, session, stored })
}

/// The mytoken in the session's file.
fn from_file(path: &Path, server: &ServerUrl, now: u64) -> Result<Secret, UnusableMytoken> {
    let token = read(path)?;
    usable(&token, server, now)?;
    Ok(token)
}

/// Why the mytoken in the session's file cannot be the parent, if it cannot. The file is opened with the rights of the caller.
#[must_use]
pub fn unusable_session_mytoken(path: &Path, server: &ServerUrl, now: u64) -> Option<UnusableMytoken> {
    from_file(path, server, now).err()
}

/// Whether a mytoken can be the parent, as far as its own claims say.
pub(crate) fn usable(token: &Secret, server: &ServerUrl, now: u64) -> Result<(), UnusableMytoken> {
    let claims = unverified_claims(token).ok_or(UnusableMytoken::Malformed)?;
    check(claims.unverified(), server, now)
}

/// Checks claims whose signature is not verified. They only decide whether a request to the server is worthwhile.
fn check(claims: &MytokenClaims, server: &ServerUrl, now: u64) -> Result<(), UnusableMytoken> {
    if !server.matches(&claims.iss) {
        Err(UnusableMytoken::OtherServer)
    } else if claims.exp.is_some_and(|exp| exp < now) {
        Err(UnusableMytoken::Expired)
    } else if claims.rotates() {
        Err(UnusableMytoken::Rotates)
    } else {
        check_rights(&claims.capabilities, claims.nbf, &claims.restrictions, now)
    }
}

/// Checks what a parent may do now. Times within five minutes are left to the server, whose clock counts.
fn check_rights(
    capabilities: &Capabilities,
    nbf: Option<u64>,
    clauses: &[Clause],
    now: u64,
) -> Result<(), UnusableMytoken> {
    const SKEW: u64 = 300;
    let first = clauses.iter().map(|clause| clause.nbf.unwrap_or(0)).min().unwrap_or(0);
    let begin = nbf.unwrap_or(0).max(first);
    if !capabilities.has(CREATE_MYTOKEN) {
        Err(UnusableMytoken::MissingCapability)
    } else if !capabilities.has(AT) {
        Err(UnusableMytoken::NoAccessTokens)
    } else if begin > now.saturating_add(SKEW) {
        Err(UnusableMytoken::NotYet(format!("{} UTC", TimeFormat::utc(now).minutes(begin))))
    } else {
        Ok(())
    }
}

fn read(path: &Path) -> std::io::Result<Secret> {
    const LIMIT: u64 = 64 * 1024;
    // O_NONBLOCK: a FIFO at this path must not make sbatch hang.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LIMIT).read_to_string(&mut text)?;
    Ok(Secret::new(text.as_str()))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn jwt(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"ES512","typ":"JWT"}"#), part(claims), part("signature"))
    }

    fn claims(change: (&str, &str)) -> String {
        r#"{"ver":"0.7","token_type":"mytoken","iss":"https://mt.example","sub":"x","oidc_iss":"https://op.example","oidc_sub":"y","seq_no":1,"name":"n","jti":"j","iat":1,"auth_time":1,"aud":"https://mt.example","exp":2000,"capabilities":["AT","create_mytoken"]}"#
            .replace(change.0, change.1)
    }

    fn found(text: &str) -> Result<Secret, UnusableMytoken> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mt");
        std::fs::write(&path, format!("{text}\n")).unwrap();
        from_file(&path, &ServerUrl::parse("https://mt.example", false).unwrap(), 1000)
    }

    #[test]
    fn a_valid_mytoken_in_the_sessions_file_is_used() {
        let good = jwt(&claims(("", "")));
        assert_eq!(found(&good).unwrap().expose(), good);
    }

    #[test]
    fn the_mytoken_of_a_login_with_a_link_is_known_by_its_name() {
        let source = |name: &str| {
            let token = jwt(&claims(("\"name\":\"n\"", &format!("\"name\":\"{name}\""))));
            Parent::File(Secret::new(token.as_str())).source()
        };
        assert_eq!(source("ssh session alice@login from 192.0.2.7"), ParentSource::LinkSession);
        for name in ["n", "", "ssh session alice@login", "ssh session alice@login from ", "my ssh session a@b from c"] {
            assert_eq!(source(name), ParentSource::Session, "{name}");
        }
        assert_eq!(Parent::File(Secret::new("a short token")).source(), ParentSource::Session);
    }

    #[test]
    fn an_unusable_mytoken_is_refused_with_its_reason() {
        for (change, why) in [
            (("\"iss\":\"https://mt.example\"", "\"iss\":\"https://evil.example\""), "another mytoken server"),
            (("2000", "999"), "expired"),
            (("\"exp\"", "\"rotation\":{\"on_other\":true},\"exp\""), "replaced at each use"),
            ((",\"create_mytoken\"", ""), "lacks the capability create_mytoken"),
            (("\"AT\",", ""), "lacks the capability AT"),
            (("\"exp\"", "\"nbf\":1500,\"exp\""), "is not valid before 00:25 UTC"),
            (("\"exp\"", "\"restrictions\":[{\"nbf\":1500}],\"exp\""), "is not valid before 00:25 UTC"),
        ] {
            let error = found(&jwt(&claims(change))).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(matches!(found("not a token"), Err(UnusableMytoken::Malformed)));
        assert!(matches!(found(""), Err(UnusableMytoken::Malformed)));
    }

    #[test]
    fn a_mytoken_that_rotates_or_has_few_uses_is_not_used_twice_at_the_same_time() {
        for (members, overlaps) in [
            ("", true),
            ("\"restrictions\":[{\"usages_AT\":1,\"usages_other\":1000000000}],", true),
            ("\"restrictions\":[{\"exp\":1900},{\"usages_other\":3}],", false),
            ("\"rotation\":{\"on_other\":true},", false),
            ("\"rotation\":{\"on_AT\":true},", false),
        ] {
            let token = jwt(&claims(("\"jti\"", &format!("{members}\"jti\""))));
            assert_eq!(Parent::File(Secret::new(token.as_str())).may_overlap(), overlaps, "{members}");
        }
        assert!(!Parent::File(Secret::new("a short token, which has no claims")).may_overlap());
    }

    #[test]
    fn without_a_mytoken_the_error_tells_how_to_get_one() {
        let server = ServerUrl::parse("https://mt.example", false).unwrap();
        let environment = UserEnvironment { home: None, mytoken_file: Some("/nonexistent/mt".into()) };
        let soon = Deadline::after(std::time::Duration::from_secs(1));
        let error = find(&server, &environment, None, 1000, soon).err().unwrap().to_string();
        assert!(error.contains("cannot be read") && error.ends_with("Run: mytoken-ssh login"), "{error}");
        let environment = UserEnvironment { mytoken_file: None, ..environment };
        let error = find(&server, &environment, None, 1000, soon).err().unwrap().to_string();
        let expected =
            "your session has none and ~/.config/mytoken holds no token for mt.example. Run: mytoken-ssh login";
        assert_eq!(error, expected);
    }
}
