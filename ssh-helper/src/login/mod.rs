// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh login`: the authorization code flow, with a link that the user opens in a browser.

mod browser;
mod request;
mod screen;

use mytoken::server::ServerError;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mytoken::http::HttpClient;
use mytoken::server::{Granted, LoginRequest, PendingLogin, Server};
use mytoken::token_store::{StoredToken, TokenStore};
use mytoken::{Clock, Deadline, SystemClock};

use self::request::RequestedMytoken;
use self::screen::Screen;
use crate::command_line::LoginOptions;
use crate::describe;
use crate::differences::differences;
use crate::error::Error;
use crate::login_token::trust_ca_file;
use crate::output::tell;
use crate::printable::printable;
use crate::settings::HelperSettings;
use crate::signals::watch_signals;
use mytoken::time_format::validity;

/// Time limit for one request to the server, or for the lock of the store.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the program checks for Ctrl-C while it waits.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Gets a mytoken and stores it.
pub fn run(options: &LoginOptions) -> Result<ExitCode, Error> {
    let settings = HelperSettings::load()?;
    let store = settings.store()?;
    let interrupted = watch_signals()?;
    let ca_file = options.ca.as_deref().map(std::path::absolute).transpose().map_err(Error::system("--ca"))?;
    let named = options.server_argument.as_deref().or(options.server.as_deref());
    let url = settings.login_server(named, &store)?;
    // A new login is the way to repair a damaged file.
    let last = store.token(&url).unwrap_or_else(|error| {
        tell(&format!("mytoken-ssh: {error}; so this login does not know what the last one got"));
        None
    });
    // Checked before the user confirms: an unusable store or a full disk would lose the new token.
    store.lock(Deadline::after(STEP_TIMEOUT))?.check_room(&url)?;
    let mut http = settings.http(options.ca.as_deref());
    let last_ca = last.as_ref().and_then(|last| last.ca_file.clone());
    let ca_file = ca_file.or_else(|| last_ca.filter(|_| settings.user.ca_file.is_none()));
    trust_ca_file(&mut http, ca_file.as_deref());
    let http = HttpClient::new(&http)?;
    let server = Server::discover(&http, &url, Deadline::after(STEP_TIMEOUT))?;
    let providers = server.discovery().providers_supported.iter().map(|provider| provider.issuer.as_str());
    // In guest mode a server also offers itself as provider of temporary identities. The user gets that one only with
    // --issuer.
    let offered: Vec<&str> = providers.filter(|issuer| !issuer.starts_with(url.as_str())).collect();
    let last_issuer = last.as_ref().map(|last| last.issuer.as_str()).filter(|issuer| offered.contains(issuer));
    let asked_issuer = options.issuer.as_deref().or(settings.user.issuer.as_deref()).or(last_issuer);
    let issuer = settings.issuer(asked_issuer, &offered)?;
    let requested = RequestedMytoken::new(options, &settings.user, last.as_ref(), server.now())?;
    let request = LoginRequest {
        issuer: &issuer,
        capabilities: &requested.capabilities,
        restrictions: std::slice::from_ref(&requested.clause),
        rotation: None,
        name: &requested.name,
        application_name: "mytoken-ssh",
    };
    let pending = server.start_login(&request, Deadline::after(STEP_TIMEOUT))?;
    let mut screen = Screen::new();
    if last.is_some() {
        screen.asked(
            &describe::capabilities(&requested.capabilities),
            &describe::restrictions(std::slice::from_ref(&requested.clause)),
        );
    }
    if let Some(difference) = server.clock_difference() {
        screen.warning(&format!("{difference}; set it: times on this screen and in other programs are wrong"));
    }
    let page = if options.no_browser { None } else { browser::open(pending.consent_uri.expose()) };
    screen.show_link(pending.consent_uri.expose(), pending.expires_in, page.is_some());
    let granted = wait_for_consent(&server, &pending, &interrupted, &mut screen)?;
    drop(page);

    let mut entry = StoredToken::from_grant(url, issuer, &requested.name, &granted, SystemClock.now());
    entry.ca_file = ca_file;
    let previous = store_mytoken(&store, &entry).inspect_err(|_| {
        // Without a copy the user cannot revoke it, and it is valid for weeks.
        if server.revoke(&granted.mytoken, true, Deadline::after(STEP_TIMEOUT)).is_err() {
            let (id, name) = (mytoken::token::fingerprint(&granted.mytoken), printable(&requested.name));
            screen.warning(&format!("the new mytoken {id} (\"{name}\") could not be stored, and it was not revoked"));
        }
    })?;
    report(&screen, &entry, &granted, &requested, server.now());
    // Not recursive: running jobs keep their sub-tokens of the previous mytoken.
    if let Some(previous) = previous {
        let id = mytoken::token::fingerprint(&previous.mytoken);
        if previous.is_dangerous() {
            // MT-43.
            screen.warning(&format!(
                "your previous mytoken {id} was not revoked: the server may have replaced it, and would revoke what was made from it too"
            ));
        } else if server.revoke(&previous.mytoken, false, Deadline::after(STEP_TIMEOUT)).is_err() {
            screen.warning(&format!("your previous mytoken {id} was not revoked"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn wait_for_consent(
    server: &Server<'_>,
    pending: &PendingLogin,
    interrupted: &AtomicBool,
    screen: &mut Screen,
) -> Result<Granted, Error> {
    let mut sleep = |step: Duration| {
        let mut left = step;
        while !left.is_zero() {
            if interrupted.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            let interval = left.min(SIGNAL_CHECK_INTERVAL);
            std::thread::sleep(interval);
            left = left.saturating_sub(interval);
        }
        ControlFlow::Continue(())
    };
    let until = Deadline::after(pending.expires_in);
    let granted = server.wait(pending, until, &mut sleep, &mut |left| screen.show_countdown(left));
    screen.clear_countdown();
    granted.map_err(|error| match error {
        mytoken::Error::Server(ServerError::LoginAbandoned) => Error::Interrupted,
        other => other.into(),
    })
}

/// Stores the new mytoken. Returns the one that it replaces.
fn store_mytoken(store: &TokenStore, entry: &StoredToken) -> Result<Option<StoredToken>, Error> {
    let mut guard = store.lock(Deadline::after(STEP_TIMEOUT))?;
    // A damaged file is replaced: a new login is the way to repair it.
    let previous = guard.token(&entry.server).unwrap_or_default();
    guard.put(entry)?;
    Ok(previous.filter(|previous| previous.mytoken != entry.mytoken))
}

fn report(screen: &Screen, entry: &StoredToken, granted: &Granted, requested: &RequestedMytoken, now: u64) {
    screen.success(&format!(
        "{}: mytoken \"{}\", {}, may: {}",
        describe::owner(entry),
        printable(&entry.name),
        validity(entry.expires_at, now),
        describe::capabilities(&entry.capabilities)
    ));
    for difference in differences(granted, &requested.clause, &requested.capabilities) {
        screen.warning(&difference);
    }
    screen.next("mytoken-ssh ssh HOST");
}
