// SPDX-License-Identifier: MIT OR Apache-2.0
//! The times of a mytoken are those of its server's clock.

use std::path::Path;

use mytoken::cache::{DiskCache, MemoryCache, Storage};
use mytoken::http::{HttpClient, HttpSettings, clock_difference};
use mytoken::server::Server;
use mytoken::token_store::TokenStore;
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline};

use super::error::SubmitError;
use super::parent::{self, Parent, UserEnvironment};

/// The cache for discovery documents in the user's home directory. Without it, each submission sends one more request.
pub(crate) fn cache(home: Option<&Path>) -> Box<dyn Storage> {
    // The path of a home directory often contains a symbolic link of the administrator.
    match home.and_then(|home| home.canonicalize().ok()) {
        Some(home) => Box::new(DiskCache::of_user(&home)),
        None => Box::new(MemoryCache::default()),
    }
}

/// The first usable mytoken for the server `url`. If this host's clock says that there is none because of the time, the server's clock
/// decides.
///
/// # Errors
/// As [`parent::find`].
pub(crate) fn find_parent<'store>(
    url: &ServerUrl,
    environment: &UserEnvironment,
    store: Option<&'store TokenStore>,
    clock: &dyn Clock,
    settings: &HttpSettings,
    deadline: Deadline,
) -> Result<Parent<'store>, SubmitError> {
    let find = |now| parent::find(url, environment, store, now, deadline);
    match find(clock.now()) {
        Err(error) if error.is_about_time() => {
            let now = server_now(url, environment, clock, settings, deadline);
            now.filter(|now| clock_difference(*now, clock.now()).is_some()).map_or(Err(error), find)
        }
        found => found,
    }
}

fn server_now(
    url: &ServerUrl,
    environment: &UserEnvironment,
    clock: &dyn Clock,
    settings: &HttpSettings,
    deadline: Deadline,
) -> Option<u64> {
    let http = HttpClient::new(settings).ok()?;
    let cache = cache(environment.home.as_deref());
    Some(Server::discover_cached(&http, url, cache.as_ref(), clock, deadline).ok()?.now())
}
