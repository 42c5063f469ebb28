// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh import` and `export`: take a mytoken from elsewhere into the store, and give it to another machine.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use mytoken::http::HttpClient;
use mytoken::restrictions::latest_exp;
use mytoken::server::{Server, ServerError};
use mytoken::time_format::validity;
use mytoken::token::{MytokenClaims, Presented, classify, fingerprint, unverified_claims};
use mytoken::token_store::{StoredToken, TokenStore};
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken::{Clock, Deadline, Secret, SystemClock};
use zeroize::Zeroizing;

use crate::askpass::terminal::{PromptKind, TerminalReply, ask};
use crate::command_line::{ExportOptions, ImportOptions};
use crate::describe;
use crate::error::Error;
use crate::login::watch_signals;
use crate::login_token::trust_ca_file;
use crate::output::{print_for_program, print_line, tell};
use crate::printable::printable;
use crate::settings::HelperSettings;

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
    let form = classify(&given);
    let url = server_of(&form, options, &settings, &store)?;
    refuse_to_replace(&store, &url, &given)?;
    // Checked before a code is redeemed: an unusable store or a full disk would lose its mytoken.
    store.lock(Deadline::after(STEP_TIMEOUT))?.check_room(&url)?;
    let ca_file = options.ca.as_deref().map(std::path::absolute).transpose().map_err(Error::system("--ca"))?;
    let mut http = settings.http(None);
    trust_ca_file(&mut http, ca_file.as_deref());
    let http = HttpClient::new(&http)?;
    let server = Server::discover(&http, &url, Deadline::after(STEP_TIMEOUT))?;
    // Between the answer to the code and the storage of its mytoken, Ctrl-C would lose it.
    let _interrupted = watch_signals()?;
    let (mytoken, handle) = if form == Presented::TransferCode {
        let granted = server.redeem(&given, Deadline::after(STEP_TIMEOUT))?;
        (granted.mytoken, Some(granted.mom_id))
    } else {
        (given, None)
    };
    let kept = entry_for(&server, &mytoken).and_then(|entry| {
        let mom_id = handle.clone().filter(|id| !id.is_empty()).unwrap_or(entry.mom_id.clone());
        let entry = StoredToken { mom_id, ca_file, ..entry };
        store.lock(Deadline::after(STEP_TIMEOUT))?.put(&entry)?;
        Ok(entry)
    });
    let entry = kept.inspect_err(|_| {
        // Only this process has the mytoken of a code.
        if handle.is_some() && server.revoke(&mytoken, true, Deadline::after(STEP_TIMEOUT)).is_err() {
            let id = fingerprint(&mytoken);
            tell(&format!("mytoken-ssh: the mytoken {id} of this code could not be stored, and it was not revoked"));
        }
    })?;
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
    print_line("Next:  mytoken-ssh ssh HOST");
    Ok(ExitCode::SUCCESS)
}

/// What was given: typed at a terminal, else all of standard input.
fn read() -> Result<Secret, Error> {
    if std::io::stdin().is_terminal() {
        return match ask("Transfer code or short token: ", PromptKind::Text) {
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
        (Presented::Mytoken(claims), None) => settings.server(Some(&claims.unverified().iss)),
        (Presented::Mytoken(_) | Presented::ShortToken | Presented::TransferCode, named) => {
            settings.login_server(named, store)
        }
        (Presented::Garbage(why), _) => Err(Error::Usage(format!("this is no mytoken: {}", why.as_str()))),
        (Presented::AccessToken(_) | Presented::Opaque | Presented::OneTimePassword, _) => Err(Error::Usage(
            "this is no mytoken; give a mytoken, a short token or a transfer code of a mytoken server".into(),
        )),
    }
}

/// A stored mytoken that is valid is replaced by nothing but a login, which revokes it.
fn refuse_to_replace(store: &TokenStore, url: &ServerUrl, given: &Secret) -> Result<(), Error> {
    let stored = store.token(url)?.filter(|entry| !entry.expired(SystemClock.now()) && entry.mytoken != *given);
    stored.map_or(Ok(()), |entry| {
        Err(Error::Usage(format!(
            "you have the mytoken \"{}\" of {url} already; to take another one, run mytoken-ssh logout first",
            printable(&entry.name)
        )))
    })
}

/// What is stored of a mytoken, by what the server says of it. The server counts no use of it.
fn entry_for(server: &Server<'_>, mytoken: &Secret) -> Result<StoredToken, Error> {
    let (claims, mom_id) = match server.introspect(mytoken, Deadline::after(STEP_TIMEOUT)) {
        Ok(said) => (said.claims, said.mom_id),
        // The server checks capabilities of valid mytokens only. What such a one may do, only its own text tells.
        Err(mytoken::Error::Server(ServerError::MissingCapability { .. })) => {
            let own: Option<MytokenClaims> = unverified_claims(mytoken).map(|claims| claims.unverified().clone());
            let unknown =
                || Error::Usage("the server does not tell what this short token may do; give the long one".into());
            (own.ok_or_else(unknown)?, String::new())
        }
        Err(error) => return Err(error.into()),
    };
    let issuer = IssuerUrl::parse(&claims.oidc_iss, true).map_err(mytoken::Error::from)?;
    Ok(StoredToken {
        server: server.url().clone(),
        issuer,
        name: if claims.name.is_empty() { UNNAMED.to_owned() } else { claims.name },
        mytoken: mytoken.clone(),
        mom_id,
        capabilities: claims.capabilities,
        expires_at: claims.exp.or_else(|| latest_exp(&claims.restrictions)),
        restrictions: claims.restrictions,
        rotation: claims.rotation,
        created: SystemClock.now(),
        ca_file: None,
    })
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
    print_for_program(&Zeroizing::new(format!("{}\n", entry.mytoken.expose())))?;
    Ok(ExitCode::SUCCESS)
}
