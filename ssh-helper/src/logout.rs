// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh logout`: revokes a stored mytoken with all its sub-tokens, then removes it.

use std::process::ExitCode;
use std::time::Duration;

use mytoken::Deadline;
use mytoken::http::HttpClient;
use mytoken::server::Server;
use mytoken::token_store::StoredToken;

use crate::command_line::LogoutOptions;
use crate::error::Error;
use crate::login_token::trust_ca_file;
use crate::output::{print_line, tell};
use crate::settings::HelperSettings;

/// Time limit for the whole command.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Revokes and removes one stored mytoken.
pub fn run(options: &LogoutOptions) -> Result<ExitCode, Error> {
    let settings = HelperSettings::load()?;
    let store = settings.store()?;
    let url = settings.stored_server(options.server.as_deref(), &store)?;
    let deadline = Deadline::after(TIMEOUT);
    // Locked from reading to removing: if another process rotates the mytoken meanwhile, this one would be out of date
    // and could not be revoked (MT-42).
    let mut guard = store.lock(deadline)?;
    let Some(entry) = guard.token(&url)? else { return Err(Error::NotLoggedIn { server: url.to_string() }) };
    match revoke(&settings, options, &entry, deadline) {
        Ok(()) => print_line(&format!("✓ revoked at {url}, with every mytoken made from it")),
        Err(error) if options.forget => {
            tell(&format!("mytoken-ssh: the mytoken was not revoked and stays valid until it expires: {error}"));
        }
        Err(error) => {
            tell("mytoken-ssh: the mytoken was not revoked and is still stored; to remove it anyway, use --forget");
            return Err(error);
        }
    }
    guard.remove(&url)?;
    print_line(&format!("✓ mytoken {} removed", mytoken::token::fingerprint(&entry.mytoken)));
    Ok(ExitCode::SUCCESS)
}

fn revoke(
    settings: &HelperSettings,
    options: &LogoutOptions,
    entry: &StoredToken,
    deadline: Deadline,
) -> Result<(), Error> {
    let mut http = settings.http(options.ca.as_deref());
    if options.ca.is_none() && settings.user.ca_file.is_none() {
        trust_ca_file(&mut http, entry.ca_file.as_deref());
    }
    let http = HttpClient::new(&http)?;
    let server = Server::discover(&http, &entry.server, deadline)?;
    Ok(server.revoke(&entry.mytoken, true, deadline)?)
}
