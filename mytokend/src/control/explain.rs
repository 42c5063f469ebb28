// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl explain`: the decision about a login with this token as this user, and its reasons.

use std::path::Path;

use mytoken::cache::DiskCache;
use mytoken::config::{FileTrust, Shared};
use mytoken::files::Owner;
use mytoken::http::LazyClient;
use mytoken::names::ServerUrl;
use mytoken::{Error, Secret, SystemClock};
use mytoken_login::budget::Allowance;
use mytoken_login::oidc::ProviderKeys;
use mytoken_login::{
    Attempt, ConfiguredServer, LoginSettings, Maps, Remote, ServerTokens, SystemAccounts, World, examine,
    explain as render,
};

/// The explanation, and whether the login would be accepted. As in a login, a mytoken loses one use and a transfer code is used up.
///
/// # Errors
/// An error in the configuration.
pub fn explain(config: &Path, user: &str, token: &Secret) -> Result<(String, bool), Error> {
    let me = Owner::current();
    let trust = FileTrust::current();
    let shared = Shared::load(config, trust)?;
    let login = LoginSettings::load(config, trust, &shared)?;
    let settings = shared.http_settings();
    let http = LazyClient::new(&settings);
    // The cache is root's. Other users send their own requests.
    let cache = (me.uid == 0).then(DiskCache::of_host);
    let url = login.exchange.as_ref().map(|exchange| shared.server_url(&exchange.server)).transpose()?;
    let server = url.as_ref().map(ServerUrl::to_string);
    // This is not a login, so its requests are not counted.
    let allowance = Allowance::new(None, &login.budget, Remote::of(None, None), None);
    let tokens = url.map(|url| ServerTokens::new(url, &http, cache.as_ref(), &SystemClock, &allowance));
    let configured = server.as_deref().zip(tokens.as_ref());
    let keys = ProviderKeys::new(&http, cache.as_ref(), &SystemClock);
    let maps = Maps::load(&login.rules, trust);
    let world = World {
        settings: &login,
        issuers: &shared.issuers,
        server: configured.map(|(url, tokens)| ConfiguredServer { url, tokens }),
        accounts: &SystemAccounts,
        maps: &maps,
        keys: &keys,
        clock: &SystemClock,
    };
    let attempt = Attempt {
        service: login.services.first().cloned().unwrap_or_default(),
        user: user.to_owned(),
        rhost: None,
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let report = examine(&attempt, token, &world);
    let complaints: String = maps.complaints().iter().map(|line| format!("! {line}\n")).collect();
    Ok((render(&report, &attempt) + &complaints, report.outcome.is_ok()))
}
