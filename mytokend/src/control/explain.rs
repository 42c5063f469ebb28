// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl explain`: what a login with this token as this user would come to, and why.

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

/// The explanation, and whether the login would be let in. A mytoken or code is used by this as by a login: it costs a use, or the code.
///
/// # Errors
/// The configuration's mistake.
pub fn explain(config: &Path, user: &str, token: &Secret) -> Result<(String, bool), Error> {
    let me = Owner::current();
    let trust = FileTrust::current();
    let shared = Shared::load(config, trust)?;
    let login = LoginSettings::load(config, trust, &shared)?;
    let settings = shared.http_settings();
    let http = LazyClient::new(&settings);
    // The cache is root's; others ask anew.
    let cache = (me.uid == 0).then(DiskCache::of_host);
    let url = login.exchange.as_ref().map(|exchange| shared.server_url(&exchange.server)).transpose()?;
    let server = url.as_ref().map(ServerUrl::to_string);
    // An administrator's question is nobody's login: nothing is counted.
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
