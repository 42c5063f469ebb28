// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh login`: the authorization-code flow with a link, a QR code and progress.

mod screen;

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mytoken::capabilities::{AT, CREATE_MYTOKEN, Capabilities, TOKENINFO_HISTORY, TOKENINFO_INTROSPECT};
use mytoken::http::HttpClient;
use mytoken::names::IssuerUrl;
use mytoken::restrictions::Clause;
use mytoken::server::{Granted, LoginRequest, PendingLogin, Server};
use mytoken::store::{Entry, Store};
use mytoken::token::unverified_claims;
use mytoken::{Clock, Deadline, SystemClock};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::screen::Screen;
use crate::command_line::Login;
use crate::error::Error;
use crate::settings::Settings;
use crate::signals::heeded;
use crate::ssh::resolution::printable;
use crate::words;

/// For one exchange with the server.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a wish to stop is looked for while waiting.
const NAP: Duration = Duration::from_millis(100);
/// 30 days, in seconds.
const LIFETIME: u64 = 30 * 86_400;

/// Gets a mytoken and stores it.
pub fn run(options: &Login) -> Result<ExitCode, Error> {
    let settings = Settings::load()?;
    let store = settings.store()?;
    let stop = stop_on_signals()?;
    let ca_file = options.ca.as_deref().map(std::path::absolute).transpose().map_err(Error::system("--ca"))?;
    let url = settings.server(options.server.as_deref())?;
    // Before the person is bothered: a store that cannot be used, or a full disk, would lose the token.
    store.lock(Deadline::after(PATIENCE))?.has_room(&url)?;
    let http = HttpClient::new(&settings.http(options.ca.as_deref()))?;
    let server = Server::discover(&http, &url, Deadline::after(PATIENCE))?;
    let providers = server.discovery().providers_supported.iter().map(|provider| provider.issuer.as_str());
    // A server in guest mode offers itself as provider of throw-away identities: nobody who does not name it means that one.
    let offered: Vec<&str> = providers.filter(|issuer| !issuer.starts_with(url.as_str())).collect();
    let issuer = settings.issuer(options.issuer.as_deref(), &offered)?;
    let asked = Asked::of(options, &settings)?;
    let request = LoginRequest {
        issuer: &issuer,
        capabilities: &asked.capabilities,
        restrictions: std::slice::from_ref(&asked.clause),
        rotation: None,
        name: &asked.name,
        application_name: "mytoken-ssh",
    };
    let pending = server.start_login(&request, Deadline::after(PATIENCE))?;
    let mut screen = Screen::new();
    screen.invite(pending.consent_uri.expose(), pending.expires_in);
    let granted = wait(&server, &pending, &stop, &mut screen)?;

    let mut entry = Entry::of(url, issuer, &asked.name, &granted, SystemClock.now());
    entry.ca_file = ca_file;
    let former = replace(&store, &entry).inspect_err(|_| {
        // Nobody has it, and it would live for weeks.
        if server.revoke(&granted.mytoken, true, Deadline::after(PATIENCE)).is_err() {
            let name = granted.mytoken.fingerprint();
            screen.remark(&format!("the new mytoken {name} ({}) could not be stored, nor revoked", asked.name));
        }
    })?;
    report(&mut screen, &entry, &granted, &asked);
    // What the former one made lives on: jobs that run with it keep their credentials.
    if let Some(former) = former {
        if server.revoke(&former.mytoken, false, Deadline::after(PATIENCE)).is_err() {
            screen.remark(&format!("your former mytoken {} could not be revoked", former.mytoken.fingerprint()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is asked for.
struct Asked {
    name: String,
    capabilities: Capabilities,
    clause: Clause,
}

impl Asked {
    fn of(options: &Login, settings: &Settings) -> Result<Self, Error> {
        let user = &settings.user;
        let scope =
            if options.scope.is_empty() { user.scope.clone().unwrap_or_default() } else { options.scope.join(" ") };
        let audience = options.audience.clone().or_else(|| user.audience.clone()).unwrap_or_default();
        let names = if options.capability.is_empty() { &user.capabilities } else { &options.capability };
        let usual = [AT, CREATE_MYTOKEN, TOKENINFO_INTROSPECT, TOKENINFO_HISTORY].map(str::to_owned);
        let capabilities = Capabilities::new(if names.is_empty() { usual.to_vec() } else { names.clone() })?;
        let lifetime = options.lifetime.or(user.lifetime).map_or(LIFETIME, |lifetime| lifetime.as_secs());
        let clause = Clause {
            exp: Some(SystemClock.now().saturating_add(lifetime)),
            scope: scope.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            audience: audience.split_ascii_whitespace().map(str::to_owned).collect(),
            ..Clause::default()
        };
        let name = options.name.clone().or_else(|| user.name.clone()).unwrap_or_else(machine);
        Ok(Self { name, capabilities, clause })
    }
}

/// This machine's name.
fn machine() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "mytoken-ssh".into())
}

/// Ctrl-C must not fall between the server's only answer with the token and its storage.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in heeded(&[SIGINT, SIGTERM, SIGHUP]) {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(Error::system("cannot watch for signals"))?;
    }
    Ok(stop)
}

fn wait(server: &Server<'_>, pending: &PendingLogin, stop: &AtomicBool, screen: &mut Screen) -> Result<Granted, Error> {
    let mut sleep = |step: Duration| {
        let mut left = step;
        while !left.is_zero() {
            if stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            let nap = left.min(NAP);
            std::thread::sleep(nap);
            left = left.saturating_sub(nap);
        }
        ControlFlow::Continue(())
    };
    let until = Deadline::after(pending.expires_in);
    let granted = server.wait(pending, until, &mut sleep, &mut |left| screen.waiting(left));
    screen.waited();
    granted.map_err(|error| match error {
        mytoken::Error::LoginAbandoned => Error::Interrupted,
        other => other.into(),
    })
}

/// Stores the new token; gives back the one it replaces.
fn replace(store: &Store, entry: &Entry) -> Result<Option<Entry>, Error> {
    let mut guard = store.lock(Deadline::after(PATIENCE))?;
    // A damaged file is what a new login mends.
    let former = guard.token(&entry.server).unwrap_or_default();
    guard.put(entry)?;
    Ok(former.filter(|former| former.mytoken != entry.mytoken))
}

fn report(screen: &mut Screen, entry: &Entry, granted: &Granted, asked: &Asked) {
    screen.success(&format!(
        "{}: mytoken \"{}\", {}, may: {}",
        holder(entry),
        printable(&entry.name),
        words::validity(entry.expires_at, SystemClock.now()),
        words::capabilities(&entry.capabilities)
    ));
    for difference in words::differences(granted, &asked.clause, &asked.capabilities) {
        screen.remark(&difference);
    }
    screen.line("Next:  mytoken-ssh ssh HOST");
}

/// `alice @ login.example.org`, as the token says: it came from the server that we asked.
pub fn holder(entry: &Entry) -> String {
    let claims = unverified_claims(&entry.mytoken);
    let subject = claims.as_ref().map_or("you", |claims| claims.unverified().oidc_sub.as_str());
    format!("{} @ {}", printable(subject), host(&entry.issuer))
}

/// The host of an issuer, with its port.
fn host(issuer: &IssuerUrl) -> &str {
    let rest = issuer.as_str().split_once("://").map_or(issuer.as_str(), |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
