// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mytoken server outside the site: installs its certificates and stores the caller's mytoken.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use mytoken::token::unverified_claims;
use mytoken::token_store::{StoredToken, TokenStore};
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken::{Deadline, Secret};

use crate::error::WithContext;
use crate::site::command::CommandOutcome;
use crate::site::options::Foreign;
use crate::site::plan::TESTBED_INSIDE;
use crate::site::servers::CA;
use crate::{Error, Result, Site};

/// Installs the certificates of a foreign server in the site.
pub(crate) fn install_certificates(site: &Site) -> Result<()> {
    let Some(path) = site.options().foreign.as_ref().and_then(|foreign| foreign.ca.as_ref()) else { return Ok(()) };
    let certificates = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    site.write(CA, &certificates, "0644")
}

/// Stores the caller's mytoken for `user`, as `mytoken-ssh login` would.
pub(crate) fn give_mytoken(site: &Site, user: &str, foreign: &Foreign) -> Result<CommandOutcome> {
    let path = &foreign.mytoken_file;
    let token = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    store(site, user, foreign, token)
}

/// Stores a mytoken of this server for `user`.
pub(crate) fn store(site: &Site, user: &str, foreign: &Foreign, token: impl Into<Vec<u8>>) -> Result<CommandOutcome> {
    let mut argv = vec![TESTBED_INSIDE, "keep-mytoken", "--server", &foreign.server, "--issuer", &foreign.issuer];
    if foreign.ca.is_some() {
        argv.extend(["--ca", CA]);
    }
    site.command(user, argv).stdin(token).run()?.ok()
}

/// `testbed keep-mytoken`, inside a site: reads a mytoken from standard input and stores it for the running user.
///
/// # Errors
/// When it is not a mytoken or the store cannot be written.
pub fn keep_mytoken(server: &str, issuer: &str, ca: Option<&Path>) -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).with_context(|| "reading the mytoken".into())?;
    let mytoken = Secret::new(text);
    let Some(claims) = unverified_claims(&mytoken) else {
        return Err(Error::Refused("the file contains no mytoken in JWT form".into()));
    };
    let claims = claims.unverified();
    let entry = StoredToken {
        server: ServerUrl::parse(server, true).map_err(to_error)?,
        issuer: IssuerUrl::parse(issuer, true).map_err(to_error)?,
        name: claims.name.clone(),
        mom_id: String::new(),
        capabilities: claims.capabilities.clone(),
        restrictions: claims.restrictions.clone(),
        rotation: claims.rotation,
        expires_at: claims.exp,
        created: claims.iat.unwrap_or_default(),
        trouble: None,
        ca_file: ca.map(Path::to_owned),
        mytoken: mytoken.clone(),
    };
    let home = std::env::home_dir().ok_or_else(|| Error::Refused("no home directory".into()))?;
    let store = TokenStore::open(&TokenStore::default_path(&home)).map_err(to_error)?;
    let mut guard = store.lock(Deadline::after(Duration::from_secs(5))).map_err(to_error)?;
    guard.put(&entry).map_err(to_error)
}

fn to_error(error: impl std::fmt::Display) -> Error {
    Error::Refused(error.to_string())
}
