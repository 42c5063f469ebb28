// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh logout`: revoke with everything made from it, then remove.

use std::process::ExitCode;
use std::time::Duration;

use mytoken::Deadline;
use mytoken::http::HttpClient;
use mytoken::server::Server;
use mytoken::store::Entry;

use crate::command_line::Logout;
use crate::error::Error;
use crate::mint::trust;
use crate::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(30);

/// Revokes and removes one stored token.
pub fn run(options: &Logout) -> Result<ExitCode, Error> {
    let settings = Settings::load()?;
    let store = settings.store()?;
    let url = settings.stored_server(options.server.as_deref(), &store)?;
    let deadline = Deadline::after(PATIENCE);
    // Locked from reading to removing: a rotation in between would leave us with an outdated token, which cannot be revoked.
    let mut guard = store.lock(deadline)?;
    let Some(entry) = guard.token(&url)? else { return Err(Error::NotLoggedIn { server: url.to_string() }) };
    match revoke(&settings, options, &entry, deadline) {
        Ok(()) => println!("✓ revoked at {url}, with every mytoken made from it"),
        Err(error) if options.forget => {
            eprintln!("mytoken-ssh: it could not be revoked and lives until it ends: {error}");
        }
        Err(error) => {
            eprintln!("mytoken-ssh: it could not be revoked and is kept; --forget removes it nevertheless");
            return Err(error);
        }
    }
    guard.remove(&url)?;
    println!("✓ mytoken {} removed", entry.mytoken.fingerprint());
    Ok(ExitCode::SUCCESS)
}

fn revoke(settings: &Settings, options: &Logout, entry: &Entry, deadline: Deadline) -> Result<(), Error> {
    let mut http = settings.http(options.ca.as_deref());
    if options.ca.is_none() && settings.user.ca_file.is_none() {
        trust(&mut http, entry.ca_file.as_deref());
    }
    let http = HttpClient::new(&http)?;
    let server = Server::discover(&http, &entry.server, deadline)?;
    Ok(server.revoke(&entry.mytoken, true, deadline)?)
}
