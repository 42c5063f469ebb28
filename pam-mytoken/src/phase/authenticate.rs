// SPDX-License-Identifier: GPL-3.0-or-later
//! `authenticate`: ask, decide, leave what the session needs.

use std::time::Instant;

use mytoken::SystemClock;
use mytoken::cache::DiskCache;
use mytoken::config::{FileTrust, Shared};
use mytoken::http::LazyClient;
use mytoken::login::handover::{Record, VARIABLE};
use mytoken::login::{
    Accepted, Attempt, ConfiguredServer, Level, LoginSettings, Maps, Process, ServerTokens, SystemAccounts, World,
    field, hold,
};
use mytoken::oidc::ProviderKeys;
use nix::unistd::geteuid;
use pamsm::PamError;

use super::handover;
use crate::codes;
use crate::conversation::Person;
use crate::host::Host;

/// The auth phase.
pub fn authenticate(host: &Host<'_>) -> PamError {
    // In password mode an earlier attempt of the same process may have left one.
    host.forget_handle();
    let Some(user) = host.user() else { return PamError::USER_UNKNOWN };
    let attempt = Attempt { service: host.service(), user, rhost: host.rhost(), host: hostname() };
    match configuration(host) {
        Ok((shared, settings)) => ask(host, &attempt, &shared, &settings),
        Err(error) => {
            host.log(Level::Critical, &error.to_string());
            PamError::SERVICE_ERR
        }
    }
}

fn configuration(host: &Host<'_>) -> Result<(Shared, LoginSettings), mytoken::Error> {
    let directory = &host.arguments.config;
    let shared = Shared::load(directory, FileTrust::ROOT)?;
    let mut settings = shared.login(directory, FileTrust::ROOT)?;
    if let Some(prompt) = &host.arguments.prompt {
        settings.prompt.text.clone_from(prompt);
    }
    Ok((shared, settings))
}

fn ask(host: &Host<'_>, attempt: &Attempt, shared: &Shared, settings: &LoginSettings) -> PamError {
    let clock = SystemClock;
    // Who is not root may neither fill the cache nor be believed by root later.
    let cache = geteuid().is_root().then(DiskCache::of_host);
    let http_settings = shared.http_settings();
    let http = LazyClient::new(&http_settings);
    let url = match settings.exchange.as_ref().map(|exchange| shared.server_url(&exchange.server)).transpose() {
        Ok(url) => url,
        Err(error) => {
            host.log(Level::Critical, &error.to_string());
            return PamError::SERVICE_ERR;
        }
    };
    let tokens = url.clone().map(|url| ServerTokens::new(url, &http, cache.as_ref(), &clock));
    let server = url.as_ref().zip(tokens.as_ref());
    let maps = Maps::load(&settings.rules, FileTrust::ROOT);
    let world = World {
        settings,
        issuers: &shared.issuers,
        server: server.map(|(url, tokens)| ConfiguredServer { url: url.as_str(), tokens }),
        accounts: &SystemAccounts,
        maps: &maps,
        keys: &ProviderKeys::new(&http, cache.as_ref(), &clock),
        clock: &clock,
    };
    let report = mytoken::login::authenticate(attempt, &world, &mut Person::new(host));
    host.log(report.level(), &report.line(attempt));
    // Once for each login in which the rules were asked.
    for complaint in maps.complaints().iter().filter(|_| !report.steps.is_empty()) {
        host.log(Level::Error, complaint);
    }
    match &report.outcome {
        Ok(accepted) => {
            leave(host, attempt, accepted);
            PamError::SUCCESS
        }
        Err(refusal) => {
            std::thread::sleep(hold(&report, settings.fail_floor.get(), Instant::now()));
            codes::authenticate(refusal.class())
        }
    }
}

/// Leaves the record for the session. Without it the person is let in all the same; the session then has no credential.
fn leave(host: &Host<'_>, attempt: &Attempt, accepted: &Accepted) {
    let handover = handover();
    handover.sweep(&SystemClock);
    let processes = [Process::own(), Process::parent()].into_iter().flatten().collect();
    let record = Record::new(accepted, &attempt.service, processes, &SystemClock);
    let left = handover.leave(&record).map_err(|error| error.to_string()).and_then(|handle| {
        if host.export(VARIABLE, &handle) { Ok(()) } else { Err("the PAM environment cannot be written".to_owned()) }
    });
    if let Err(reason) = left {
        host.log(Level::Warning, &format!("user={} session without credential: {reason}", field(&attempt.user)));
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
