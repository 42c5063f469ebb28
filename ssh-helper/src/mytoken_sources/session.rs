// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken of the session: `$MYTOKEN_FILE`, which `pam_mytoken` and other programs set, `$MYTOKEN`, or the file at the usual place of the
//! official command line. It says itself what it may do, and the server decides.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mytoken::Secret;
use mytoken::config::FileTrust;
use mytoken::restrictions::latest_exp;
use mytoken::token::{Presented, classify};
use mytoken::token_store::StoredToken;
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken::{Clock, SystemClock};
use nix::unistd::geteuid;

use crate::error::Error;
use crate::printable::printable;
use crate::settings::HelperSettings;

/// Largest file in bytes.
const LIMIT: usize = 64 * 1024;

/// Whether the files at the usual places are used. Nobody has named them, so they matter only where nothing else is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usual {
    Used,
    PassedOver,
}

/// A mytoken and where it was found.
#[derive(Debug)]
pub struct Found {
    /// What it may do.
    pub entry: StoredToken,
    /// Its place, in words.
    pub place: String,
}

/// The session's mytoken. `option`: the server of `--server`.
///
/// # Errors
/// What a variable names cannot be used, or is of a server that nobody has named: a crafted text would choose where it is sent.
pub fn mytoken(settings: &HelperSettings, option: Option<&str>, usual: Usual) -> Result<Option<Found>, Error> {
    find(settings, option, usual, &|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn find(
    settings: &HelperSettings,
    option: Option<&str>,
    usual: Usual,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Found>, Error> {
    let (text, place) = if let Some(file) = variable("MYTOKEN_FILE").map(PathBuf::from) {
        let place = format!("$MYTOKEN_FILE, {}", file.display());
        let text = read(&file)?.ok_or_else(|| Error::Usage(format!("{}: there is no such file", printable(&place))))?;
        (text, place)
    } else if let Some(text) = variable("MYTOKEN") {
        (Secret::new(text.to_string_lossy().trim()), "$MYTOKEN".to_owned())
    } else if usual == Usual::Used {
        let found = |file: PathBuf| Some((read(&file).transpose()?, file.display().to_string()));
        match usual_files(variable("XDG_RUNTIME_DIR")).into_iter().find_map(found) {
            Some((text, place)) => (text?, place),
            None => return Ok(None),
        }
    } else {
        return Ok(None);
    };
    of_text(settings, option, &text, &printable(&place), "; run: mytoken-ssh login").map(Some)
}

/// A mytoken that is kept elsewhere, at `place`. `advice`: the end of the error about one that the server replaces at each use.
///
/// # Errors
/// It cannot be used, or is of a server that nobody has named.
pub fn of_text(
    settings: &HelperSettings,
    option: Option<&str>,
    text: &Secret,
    place: &str,
    advice: &str,
) -> Result<Found, Error> {
    let entry = entry(text, place, advice)?;
    let named = option.map(|_| settings.server(option)).transpose()?;
    if let Some(named) = named.as_ref().filter(|named| **named != entry.server) {
        return Err(Error::Usage(format!("the mytoken of {place} is one of {}, not of {named}", entry.server)));
    }
    if named.is_none() && !settings.knows(&entry.server) {
        return Err(Error::Usage(format!(
            "the mytoken of {place} is one of {0}; if you trust that server, name it: server = \"{0}\" in config.toml",
            entry.server
        )));
    }
    Ok(Found { entry, place: place.to_owned() })
}

/// Where the official command line looks.
fn usual_files(runtime: Option<OsString>) -> Vec<PathBuf> {
    let name = format!("mt_u{}", geteuid());
    let runtime = runtime.map(PathBuf::from).filter(|directory| directory.is_absolute());
    runtime.into_iter().chain([PathBuf::from("/tmp")]).map(|directory| directory.join(&name)).collect()
}

/// The first line of a file that only the user can read. `None`: there is no file.
fn read(file: &Path) -> Result<Option<Secret>, Error> {
    let file = std::path::absolute(file).map_err(Error::system(file.display().to_string()))?;
    let Some(bytes) = FileTrust::user(geteuid().as_raw()).read_private(&file, LIMIT)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    Ok(Some(Secret::new(text.lines().next().unwrap_or_default().trim())))
}

/// What a mytoken says of itself.
fn entry(mytoken: &Secret, place: &str, advice: &str) -> Result<StoredToken, Error> {
    let claims = match classify(mytoken) {
        Presented::Mytoken(claims) => claims,
        Presented::ShortToken | Presented::TransferCode => {
            return Err(Error::Usage(format!(
                "{place} has a short token or a code, which does not say what it may do: mytoken-ssh import < FILE"
            )));
        }
        _ => return Err(Error::Usage(format!("{place} has no mytoken"))),
    };
    let claims = claims.unverified();
    let entry = StoredToken {
        server: ServerUrl::parse(&claims.iss, true).map_err(mytoken::Error::from)?,
        issuer: IssuerUrl::parse(&claims.oidc_iss, true).map_err(mytoken::Error::from)?,
        name: claims.name.clone(),
        mytoken: mytoken.clone(),
        mom_id: String::new(),
        expires_at: claims.exp.or_else(|| latest_exp(&claims.restrictions)),
        capabilities: claims.capabilities.clone(),
        restrictions: claims.restrictions.clone(),
        rotation: claims.rotation,
        created: SystemClock.now(),
        trouble: None,
        ca_file: None,
    };
    if entry.rotates() {
        return Err(Error::Usage(format!(
            "the server replaces the mytoken of {place} at each use, and its owner would not get the new one{advice}"
        )));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    /// A mytoken of `server` without a signature that anybody checks.
    fn mytoken_of(server: &str, more: &Value) -> String {
        let mut claims = json!({
            "ver": "0.7", "token_type": "mytoken", "iss": server, "sub": "s", "nbf": 1, "iat": 1, "jti": "j", "seq_no": 1, "name": "session",
            "aud": server, "oidc_sub": "alice", "oidc_iss": "https://op.example.org", "capabilities": ["AT"],
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "ES512"})), part(&claims))
    }

    fn found(option: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<(String, String)>, String> {
        let mut settings = HelperSettings::default();
        settings.user.server = Some("mt.example.org".into());
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let found = find(&settings, option, Usual::Used, &|name| variables.get(name).map(Into::into));
        found.map(|found| found.map(|found| (found.entry.name, found.place))).map_err(|error| error.to_string())
    }

    #[test]
    fn a_mytoken_is_sent_only_to_a_server_that_somebody_has_named() {
        let own = mytoken_of("https://mt.example.org", &json!({}));
        let evil = mytoken_of("https://evil.example.org", &json!({}));
        assert_eq!(found(None, &[("MYTOKEN", &own)]), Ok(Some(("session".into(), "$MYTOKEN".into()))));
        let refused = found(None, &[("MYTOKEN", &evil)]).unwrap_err();
        assert!(
            refused.ends_with(
                "one of https://evil.example.org; if you trust that server, name it: server = \"https://evil.example.org\" in config.toml"
            ),
            "{refused}"
        );
        assert!(found(Some("evil.example.org"), &[("MYTOKEN", &evil)]).is_ok());
        assert!(found(Some("mt.example.org"), &[("MYTOKEN", &evil)]).is_err());
        assert!(found(Some("other.example.org"), &[("MYTOKEN", &own)]).is_err());
    }

    #[test]
    fn what_a_variable_names_is_used_or_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mt");
        let path = file.to_str().unwrap();
        let own = mytoken_of("https://mt.example.org", &json!({}));
        let told = |more: &[(&str, &str)]| found(None, &[&[("MYTOKEN_FILE", path)], more].concat()).unwrap_err();
        assert!(told(&[("MYTOKEN", &own)]).ends_with("there is no such file"), "the named file comes first");
        let rotates = mytoken_of("https://mt.example.org", &json!({"rotation": {"on_AT": true}}));
        let short = "aBdEgHjKmNpQsTvW".repeat(4);
        for (text, reason) in [
            ("", "has no mytoken"),
            ("an.access.token", "has no mytoken"),
            (short.as_str(), "has a short token or a code"),
            (rotates.as_str(), "replaces the mytoken of $MYTOKEN_FILE"),
        ] {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = told(&[]);
            assert!(error.contains(reason) && (text.is_empty() || !error.contains(text)), "{text}: {error}");
        }
        std::fs::write(&file, format!("{own}\nmore\n")).unwrap();
        let place = format!("$MYTOKEN_FILE, {path}");
        assert_eq!(found(None, &[("MYTOKEN_FILE", path)]), Ok(Some(("session".into(), place))));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(told(&[]).contains("0640"), "others can read it");
    }

    #[test]
    fn the_usual_file_is_used_if_it_is_the_users_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(format!("mt_u{}", geteuid()));
        let of_runtime = || found(None, &[("XDG_RUNTIME_DIR", dir.path().to_str().unwrap())]);
        std::fs::write(&file, mytoken_of("https://mt.example.org", &json!({}))).unwrap();
        assert!(of_runtime().unwrap_err().contains("0644"), "all can read it");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(of_runtime(), Ok(Some(("session".into(), file.display().to_string()))));
        std::fs::remove_file(&file).unwrap();
        symlink("/dev/zero", &file).unwrap();
        assert!(of_runtime().is_err(), "it is no file");
    }
}
