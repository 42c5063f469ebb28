// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh token`: prints an access token for a script, or writes it to a file.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mytoken::capabilities::AT;
use mytoken::http::HttpClient;
use mytoken::server::{AccessToken, AccessTokenRequest, Server};
use mytoken::token_store::UsedFor;
use mytoken::{Deadline, Secret};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::command_line::TokenOptions;
use crate::error::Error;
use crate::login_token::trust_ca_file;
use crate::mytoken_sources::Chosen;
use crate::output::print_for_program;
use crate::printable::printable;
use crate::scope_and_audience::choose;
use crate::settings::HelperSettings;
use crate::signals::watch_signals;

/// Time limit for the whole command.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    /// The token; absent with `--file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a Secret>,
    /// Seconds until it expires; `null` if nobody says it.
    expires_in: Option<u64>,
    /// When it expires, Unix seconds of this machine's clock; `null` if nobody says it.
    expires_at: Option<u64>,
    /// Its scopes, separated by blanks.
    scope: &'a str,
    /// Its audiences; empty if the token is opaque.
    audience: &'a [String],
    /// The mytoken server.
    server: &'a str,
}

/// Gets an access token from the user's mytoken.
pub fn run(options: &TokenOptions) -> Result<ExitCode, Error> {
    let settings = HelperSettings::load()?;
    let Chosen { mytokens, server: url, .. } = Chosen::new(&settings, options.server.as_deref())?.tell();
    let not_logged_in = || Error::NotLoggedIn { server: url.to_string() };
    let entry = mytokens.token(&url)?.ok_or_else(not_logged_in)?;
    if !entry.capabilities.has(AT) {
        return Err(Error::MissingCapability { capability: AT });
    }
    let mut http = settings.http(options.ca.as_deref());
    if options.ca.is_none() && settings.user.ca_file.is_none() {
        trust_ca_file(&mut http, entry.ca_file.as_deref());
    }
    let deadline = Deadline::after(TIMEOUT);
    let http = HttpClient::new(&http)?;
    // Before the lock: that of a rotating token is held as short as possible. The server's clock judges the mytoken's end.
    let server = Server::discover(&http, &url, deadline)?;
    let mut acquired = mytokens.acquire(&url, deadline)?.ok_or_else(not_logged_in)?;
    let stored = acquired.stored().clone();
    // Between the server's answer and the storage of a successor, Ctrl-C would lose that.
    let interrupted = stored.rotates().then(watch_signals).transpose()?;
    let [scope, audience] = [&options.scope, &options.audience].map(|words| words.join(" "));
    let (scope, audience) = choose(&stored, &scope, &audience, server.now())?;
    let request = AccessTokenRequest {
        mytoken: &stored.mytoken,
        scope: &scope,
        audience: &audience,
        comment: "mytoken-ssh token",
    };
    let token = server.access_token(&request, &mut |successor| Ok(acquired.store_successor(successor)?), deadline);
    let token = acquired.ended(token, UsedFor::AccessToken)?;
    drop(acquired);
    if interrupted.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        return Err(Error::Interrupted);
    }
    if let Some(file) = &options.file {
        write(file, &token.token)?;
    }
    print_for_program(&text(options, &token, url.as_str()))?;
    Ok(ExitCode::SUCCESS)
}

fn text(options: &TokenOptions, token: &AccessToken, server: &str) -> Zeroizing<String> {
    let shown = options.file.is_none();
    Zeroizing::new(if options.json {
        let printed = Printed {
            access_token: shown.then_some(&token.token),
            expires_in: token.expires_in,
            expires_at: token.exp,
            scope: &token.scope,
            audience: &token.audience,
            server,
        };
        serde_json::to_string(&printed).unwrap_or_default() + "\n"
    } else if shown {
        format!("{}\n", token.token.expose())
    } else {
        String::new()
    })
}

/// Replaces the file, which only its owner can read. A reader sees the old token or the new one.
fn write(file: &Path, token: &Secret) -> Result<(), Error> {
    let action = || format!("cannot write {}", printable(&file.to_string_lossy()));
    // Root would replace `/dev/stdout`.
    if file.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Err(Error::system(action())("it is no regular file"));
    }
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made with mode 0600.
    let mut fresh = tempfile::NamedTempFile::new_in(directory).map_err(Error::system(action()))?;
    fresh.write_all(token.expose().as_bytes()).map_err(Error::system(action()))?;
    fresh.persist(file).map(drop).map_err(Error::system(action()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    #[test]
    fn the_printed_names_are_stable_and_a_file_keeps_the_token() {
        let token = AccessToken {
            token: Secret::new("eyJ.secret.x"),
            expires_in: Some(3_600),
            exp: Some(NOW + 3_600),
            scope: "read".into(),
            audience: vec!["https://a".into()],
        };
        let mut options = TokenOptions { json: true, ..TokenOptions::default() };
        let printed = text(&options, &token, "https://mt");
        assert_eq!(
            *printed,
            "{\"access_token\":\"eyJ.secret.x\",\"expires_in\":3600,\"expires_at\":1003600,\"scope\":\"read\",\
             \"audience\":[\"https://a\"],\"server\":\"https://mt\"}\n"
        );
        options.file = Some("x".into());
        assert!(!text(&options, &token, "https://mt").contains("secret"));
        options.json = false;
        assert_eq!(*text(&options, &token, "https://mt"), "");
        options.file = None;
        assert_eq!(*text(&options, &token, "https://mt"), "eyJ.secret.x\n");
    }
}
