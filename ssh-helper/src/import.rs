// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh import` and `export`: take a mytoken from elsewhere into the store, and give it to another machine.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mytoken::capabilities::{AT, CREATE_MYTOKEN};
use mytoken::http::HttpClient;
use mytoken::restrictions::latest_exp;
use mytoken::server::{Granted, Server, ServerError};
use mytoken::time_format::validity;
use mytoken::token::{MytokenClaims, Presented, classify, fingerprint, unverified_claims};
use mytoken::token_store::{LockedStore, StoredToken, TokenStore};
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken::{Clock, Deadline, Secret, SystemClock};
use zeroize::Zeroizing;

use crate::askpass::terminal::{PromptKind, TerminalReply, ask};
use crate::command_line::{ExportOptions, ImportOptions};
use crate::describe;
use crate::error::Error;
use crate::output::{print_for_program, print_line, tell};
use crate::printable::printable;
use crate::settings::HelperSettings;
use crate::signals::watch_signals;

/// Time limit for one request to the server, or for the lock of the store.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest text on standard input in bytes.
const LIMIT: usize = 128 * 1024;

/// The name of a mytoken that has none.
const UNNAMED: &str = "imported";

/// Stores a mytoken, or the one behind a transfer code.
pub fn run(options: &ImportOptions) -> Result<ExitCode, Error> {
    let settings = HelperSettings::load()?;
    let store = settings.store()?;
    let given = read()?;
    // Between the answer to the code and the storage of its mytoken, Ctrl-C would lose it.
    let interrupted = watch_signals()?;
    let form = classify(&given);
    let url = server_of(&form, options, &settings, &store)?;
    let ca_file = options.ca.as_deref().map(std::path::absolute).transpose().map_err(Error::system("--ca"))?;
    let http = HttpClient::new(&settings.http(ca_file.as_deref()))?;
    let server = Server::discover(&http, &url, Deadline::after(STEP_TIMEOUT))?;
    // Locked until the end, with room on the disk: without these, the mytoken of a code that is used up would be lost.
    let mut guard = store.lock(Deadline::after(STEP_TIMEOUT))?;
    refuse_to_replace(guard.token(&url)?.as_ref(), &given, server.now())?;
    guard.keep_room(&url)?;
    if interrupted.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let entry = if form == Presented::TransferCode {
        let granted = server.redeem(&given, Deadline::after(STEP_TIMEOUT)).map_err(|error| lost_answer(error, &url))?;
        let stored =
            entry_of_code(&server, &granted).and_then(|entry| keep(&mut guard, StoredToken { ca_file, ..entry }));
        // Not revoked: the code can be one for a mytoken that another machine or the web page uses.
        stored.inspect_err(|_| {
            let id = fingerprint(&granted.mytoken);
            tell(&format!(
                "mytoken-ssh: the code is used up, and its mytoken {id} is not stored and stays valid; revoke it at {url}"
            ));
        })?
    } else {
        let entry = entry_of_mytoken(&server, &given)?;
        keep(&mut guard, StoredToken { ca_file, ..entry })?
    };
    drop(guard);
    print_line(&format!(
        "✓ {}: mytoken \"{}\", {}, may: {}",
        describe::owner(&entry),
        printable(&entry.name),
        validity(entry.expires_at, server.now()),
        describe::capabilities(&entry.capabilities)
    ));
    if entry.rotates() {
        print_line("! the server replaces it at each use: do not use it anywhere else");
    }
    if !entry.capabilities.has(AT) {
        print_line("! it gives no access tokens, so it cannot log in to a host; for that run: mytoken-ssh login");
        return Ok(ExitCode::SUCCESS);
    }
    if !entry.capabilities.has(CREATE_MYTOKEN) {
        print_line(
            "! it makes no narrower mytokens, so no session and no job gets one; for that run: mytoken-ssh login",
        );
    }
    print_line("Next:  mytoken-ssh ssh HOST");
    Ok(ExitCode::SUCCESS)
}

/// Stores the mytoken.
fn keep(guard: &mut LockedStore<'_>, entry: StoredToken) -> Result<StoredToken, Error> {
    // A short token does not change when it is replaced: each use would wait for the last one and fail (MT-45).
    if entry.rotates() && unverified_claims(&entry.mytoken).is_none() {
        return Err(Error::Usage(
            "the server replaces this mytoken at each use, which a short token cannot follow; \
             make a transfer code of it and import that, or run: mytoken-ssh login"
                .into(),
        ));
    }
    guard.put(&entry)?;
    Ok(entry)
}

/// An error of the request that uses up a code, with what it may have done.
fn lost_answer(error: mytoken::Error, server: &ServerUrl) -> Error {
    let nothing_happened = match &error {
        mytoken::Error::Server(ServerError::CodeRefused { .. } | ServerError::TooManyRequests { .. })
        | mytoken::Error::Input(_) => true,
        mytoken::Error::Http(error) => error.is_without_connection(),
        _ => false,
    };
    if nothing_happened {
        return error.into();
    }
    Error::Usage(format!(
        "{error}. The code may be used up: make a new one, and revoke the mytoken of this one at {server}, if nothing else uses it"
    ))
}

/// What was given: typed at a terminal, else all of standard input.
fn read() -> Result<Secret, Error> {
    if std::io::stdin().is_terminal() {
        return match ask("Transfer code, short token or mytoken: ", PromptKind::Text) {
            TerminalReply::Line(line) => Ok(Secret::new(String::from_utf8_lossy(&line).trim())),
            _ => Err(Error::Usage("nothing was entered".into())),
        };
    }
    let mut text = Zeroizing::new(String::with_capacity(LIMIT));
    std::io::stdin()
        .take(LIMIT as u64)
        .read_to_string(&mut text)
        .map_err(Error::system("cannot read standard input"))?;
    Ok(Secret::new(text.trim()))
}

/// The server that knows it: a mytoken names its own.
fn server_of(
    form: &Presented,
    options: &ImportOptions,
    settings: &HelperSettings,
    store: &TokenStore,
) -> Result<ServerUrl, Error> {
    match (form, options.server.as_deref()) {
        (Presented::Mytoken(claims), named) => {
            let own = settings.server(Some(&claims.unverified().iss))?;
            match named.map(|named| settings.server(Some(named))).transpose()? {
                // Another server would learn the mytoken.
                Some(named) if named != own => {
                    Err(Error::Usage(format!("this mytoken is one of {own}, not of {named}; it was sent nowhere")))
                }
                _ => Ok(own),
            }
        }
        (Presented::ShortToken | Presented::TransferCode, named) => settings.login_server(named, store),
        (Presented::Garbage(why), _) => Err(Error::Usage(format!("this is no mytoken: {}", why.as_str()))),
        (Presented::AccessToken(_) | Presented::Opaque | Presented::OneTimePassword, _) => Err(Error::Usage(
            "this is no mytoken; give a mytoken, a short token or a transfer code of a mytoken server".into(),
        )),
    }
}

/// A stored mytoken that is valid by the server's clock, `now`, is replaced by nothing but a login, which revokes it.
fn refuse_to_replace(stored: Option<&StoredToken>, given: &Secret, now: u64) -> Result<(), Error> {
    match stored.filter(|entry| !entry.expired(now) && entry.mytoken != *given) {
        None => Ok(()),
        Some(entry) => Err(Error::Usage(format!(
            "you have the mytoken \"{}\" of {} already; to take another one, run mytoken-ssh logout first, \
             which also revokes what was made from it, such as the mytokens of running jobs",
            printable(&entry.name),
            entry.server
        ))),
    }
}

/// What is stored of the mytoken of a code: what the server granted, and whose it is by its own text or by the server's answer.
fn entry_of_code(server: &Server<'_>, granted: &Granted) -> Result<StoredToken, Error> {
    let claims = match unverified_claims(&granted.mytoken) {
        Some(own) => own.unverified().clone(),
        None => claims_of(server, &granted.mytoken)?.0,
    };
    let entry =
        StoredToken::from_grant(server.url().clone(), issuer(&claims)?, name(&claims), granted, SystemClock.now());
    Ok(entry)
}

/// What is stored of a mytoken, by what the server says of it.
fn entry_of_mytoken(server: &Server<'_>, mytoken: &Secret) -> Result<StoredToken, Error> {
    let (claims, mom_id) = claims_of(server, mytoken)?;
    Ok(StoredToken {
        server: server.url().clone(),
        issuer: issuer(&claims)?,
        name: name(&claims).to_owned(),
        mytoken: mytoken.clone(),
        mom_id,
        expires_at: claims.exp.or_else(|| latest_exp(&claims.restrictions)),
        capabilities: claims.capabilities,
        restrictions: claims.restrictions,
        rotation: claims.rotation,
        created: SystemClock.now(),
        trouble: None,
        ca_file: None,
    })
}

/// The claims of a mytoken that the server accepts, and its handle. If it may not ask for them, its own text tells them, which the server
/// has accepted as a whole.
fn claims_of(server: &Server<'_>, mytoken: &Secret) -> Result<(MytokenClaims, String), Error> {
    if let Some(said) = server.accepts(mytoken, Deadline::after(STEP_TIMEOUT))? {
        return Ok((said.claims, said.mom_id));
    }
    let own = unverified_claims(mytoken).map(|claims| (claims.unverified().clone(), String::new()));
    own.ok_or_else(|| Error::Usage("the server does not tell what this short token may do; give the long one".into()))
}

fn issuer(claims: &MytokenClaims) -> Result<IssuerUrl, Error> {
    Ok(IssuerUrl::parse(&claims.oidc_iss, true).map_err(mytoken::Error::from)?)
}

fn name(claims: &MytokenClaims) -> &str {
    if claims.name.is_empty() { UNNAMED } else { &claims.name }
}

/// Prints the stored mytoken.
pub fn export(options: &ExportOptions) -> Result<ExitCode, Error> {
    let settings = HelperSettings::load()?;
    let store = settings.store()?;
    let url = settings.stored_server(options.server.as_deref(), &store)?;
    let entry = store.token(&url)?.ok_or_else(|| Error::NotLoggedIn { server: url.to_string() })?;
    if entry.rotates() {
        return Err(Error::Usage(
            "the server replaces this mytoken at each use: two machines with it would make it useless for each other"
                .into(),
        ));
    }
    if entry.expired(SystemClock.now()) {
        tell(
            "mytoken-ssh: this mytoken has expired, if this machine's clock is right; for another one run: mytoken-ssh login",
        );
    }
    print_for_program(&Zeroizing::new(format!("{}\n", entry.mytoken.expose())))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use mytoken::http::HttpError;

    use super::*;

    fn entry(mytoken: &str, expires_at: u64) -> StoredToken {
        serde_json::from_value(serde_json::json!({
            "server": "https://mt.example.org", "issuer": "https://op.example.org", "name": mytoken,
            "mytoken": mytoken, "capabilities": ["AT"], "expires_at": expires_at, "created": 1,
        }))
        .unwrap()
    }

    /// The server's clock says whether one is valid.
    #[test]
    fn a_valid_mytoken_is_not_replaced_by_another_one() {
        let (first, second) = (entry("first", 1_000), Secret::new("second"));
        let refused = refuse_to_replace(Some(&first), &second, 999).unwrap_err().to_string();
        assert!(refused.contains("you have the mytoken \"first\" of https://mt.example.org already"), "{refused}");
        assert!(refuse_to_replace(Some(&first), &first.mytoken, 999).is_ok());
        assert!(refuse_to_replace(Some(&first), &second, 1_001).is_ok());
        assert!(refuse_to_replace(None, &second, 999).is_ok());
    }

    #[test]
    fn what_the_server_may_have_done_with_a_code_is_told() {
        let url = ServerUrl::parse("https://mt.example.org", false).unwrap();
        let server = || url.to_string();
        let (reason, host) = (String::new(), server());
        for (error, may_be_used_up) in [
            (ServerError::CodeRefused { server: server(), expired: false }.into(), false),
            (ServerError::TooManyRequests { server: server(), retry_after: None }.into(), false),
            (ServerError::Failed { server: server(), status: 500 }.into(), true),
            (ServerError::NotUnderstood { server: server(), status: 200, reason: reason.clone() }.into(), true),
            (HttpError::TooLate { host: host.clone() }.into(), true),
            (HttpError::Unreachable { host: host.clone(), reason: reason.clone(), sent: true }.into(), true),
            (HttpError::Unreachable { host, reason, sent: false }.into(), false),
        ] {
            let told = lost_answer(error, &url).to_string();
            assert_eq!(told.contains("The code may be used up: make a new one"), may_be_used_up, "{told}");
        }
    }

    #[test]
    fn a_short_token_that_is_replaced_at_each_use_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::open(&dir.path().join("tokens")).unwrap();
        let mut guard = store.lock(Deadline::after(STEP_TIMEOUT)).unwrap();
        let rotates = serde_json::from_value(serde_json::json!({"on_AT": true})).unwrap();
        let short = StoredToken { rotation: Some(rotates), ..entry("short", 10) };
        assert!(keep(&mut guard, short.clone()).unwrap_err().to_string().contains("a short token cannot follow"));
        keep(&mut guard, StoredToken { rotation: None, ..short }).unwrap();
        assert_eq!(store.tokens().unwrap().len(), 1);
    }
}
