// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user's mytoken from which the job's is made: the session's own (`MYTOKEN_FILE`), else the helper's store.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mytoken::capabilities::CREATE_MYTOKEN;
use mytoken::names::ServerUrl;
use mytoken::restrictions::Clause;
use mytoken::server::no_storage;
use mytoken::store::{Held, Store};
use mytoken::token::{MytokenClaims, unverified_claims};
use mytoken::{Deadline, Error, Secret};
use zeroize::Zeroizing;

use super::Surroundings;

/// A mytoken that may make sub-tokens, as far as one can see without asking.
pub enum Parent<'store> {
    /// From the session's file. It does not rotate.
    File(Secret),
    /// From the store, which is locked while a rotating token is in use.
    Stored(Box<Held<'store>>),
}

impl Parent<'_> {
    pub(super) fn token(&self) -> &Secret {
        match self {
            Self::File(token) => token,
            Self::Stored(held) => &held.entry().mytoken,
        }
    }

    /// The clauses that were granted, where they are known beside the token.
    pub(super) fn clauses(&self) -> Option<&[Clause]> {
        match self {
            Self::File(_) => None,
            Self::Stored(held) => Some(&held.entry().restrictions),
        }
    }

    /// Stores the successor of a rotated token durably.
    pub(super) fn keep(&mut self, successor: &Secret) -> Result<(), Error> {
        match self {
            Self::File(_) => no_storage(successor),
            Self::Stored(held) => held.keep(successor),
        }
    }
}

/// The helper's store, if there is one; none is made.
pub(super) fn open_store(home: Option<&Path>) -> Result<Option<Store>, Error> {
    let Some(path) = home.map(Store::default_path).filter(|path| path.is_dir()) else { return Ok(None) };
    Store::open(&path).map(Some)
}

/// The first mytoken for `server` that will do.
///
/// # Errors
/// A sentence that says why none will, and what to do.
pub(super) fn find<'store>(
    server: &ServerUrl,
    around: &Surroundings,
    store: Option<&'store Store>,
    now: u64,
    deadline: Deadline,
) -> Result<Parent<'store>, String> {
    let session = match around.mytoken_file.as_deref().map(|path| from_file(path, server, now)) {
        Some(Ok(token)) => return Ok(Parent::File(token)),
        Some(Err(why)) => format!("the mytoken of your session {why}"),
        None => "your session has none".to_owned(),
    };
    let host = server.to_string();
    let host = host.trim_start_matches("https://");
    let stored = match store.map(|store| store.hold(server, deadline)) {
        Some(Ok(Some(held))) => {
            let entry = held.entry();
            let fault = if entry.expired(now) {
                Some("has expired")
            } else if !entry.capabilities.has(CREATE_MYTOKEN) {
                Some("may not make sub-tokens")
            } else {
                None
            };
            match fault {
                None => return Ok(Parent::Stored(Box::new(held))),
                Some(fault) => format!("the one in ~/.config/mytoken for {host} {fault}"),
            }
        }
        Some(Err(error)) => return Err(error.to_string()),
        Some(Ok(None)) | None => format!("~/.config/mytoken holds no token for {host}"),
    };
    Err(format!("no credential: {session} and {stored}. Run: mytoken-ssh login"))
}

/// The mytoken in the session's file, or what is wrong with it.
fn from_file(path: &Path, server: &ServerUrl, now: u64) -> Result<Secret, String> {
    let token = read(path).map_err(|error| format!("cannot be read ({error})"))?;
    let Some(claims) = unverified_claims(&token) else {
        return Err("is no mytoken in the form of a JWT".to_owned());
    };
    match fault(claims.unverified(), server, now) {
        Some(fault) => Err(fault.to_owned()),
        None => Ok(token),
    }
}

/// Nothing is decided by these unverified claims but whether it is worth asking the server.
fn fault(claims: &MytokenClaims, server: &ServerUrl, now: u64) -> Option<&'static str> {
    if !server.matches(&claims.iss) {
        Some("is of another mytoken server")
    } else if claims.exp.is_some_and(|exp| exp < now) {
        Some("has expired")
    } else if claims.rotates() {
        // Its successor would have to be stored under a lock that everybody takes who uses it: that is what the store is for.
        Some("is replaced at each use and cannot be shared by a file")
    } else if !claims.capabilities.has(CREATE_MYTOKEN) {
        Some("may not make sub-tokens")
    } else {
        None
    }
}

fn read(path: &Path) -> std::io::Result<Secret> {
    const LIMIT: u64 = 64 * 1024;
    // O_NONBLOCK: a FIFO in its place must not hang sbatch.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
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

    fn found(text: &str) -> Result<Secret, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mt");
        std::fs::write(&path, format!("{text}\n")).unwrap();
        from_file(&path, &ServerUrl::parse("https://mt.example", false).unwrap(), 1000)
    }

    #[test]
    fn a_good_mytoken_in_the_sessions_file_is_taken() {
        let good = jwt(&claims(("", "")));
        assert_eq!(found(&good).unwrap().expose(), good);
    }

    #[test]
    fn one_that_will_not_do_is_passed_over_with_its_reason() {
        for (change, why) in [
            (("\"iss\":\"https://mt.example\"", "\"iss\":\"https://evil.example\""), "another mytoken server"),
            (("2000", "999"), "expired"),
            (("\"exp\"", "\"rotation\":{\"on_other\":true},\"exp\""), "replaced at each use"),
            ((",\"create_mytoken\"", ""), "may not make"),
        ] {
            let error = found(&jwt(&claims(change))).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(found("not a token").unwrap_err().contains("no mytoken"));
        assert!(found("").unwrap_err().contains("no mytoken"));
    }

    #[test]
    fn without_any_the_sentence_says_what_to_do() {
        let server = ServerUrl::parse("https://mt.example", false).unwrap();
        let around = Surroundings { home: None, mytoken_file: Some("/nonexistent/mt".into()) };
        let soon = Deadline::after(std::time::Duration::from_secs(1));
        let error = find(&server, &around, None, 1000, soon).err().unwrap();
        assert!(error.contains("cannot be read") && error.ends_with("Run: mytoken-ssh login"), "{error}");
        let around = Surroundings { mytoken_file: None, ..around };
        let error = find(&server, &around, None, 1000, soon).err().unwrap();
        let expected = "no credential: your session has none and ~/.config/mytoken holds no token for mt.example. Run: mytoken-ssh login";
        assert_eq!(error, expected);
    }
}
