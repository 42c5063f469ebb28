// SPDX-License-Identifier: GPL-3.0-or-later
//! `authenticate`: ask, decide, leave what the session needs.

use std::time::Instant;

use mytoken::SystemClock;
use mytoken::config::{FileTrust, Shared};
use mytoken::http::LazyClient;
use mytoken_login::budget::Allowance;
use mytoken_login::handover::{Record, VARIABLE};
use mytoken_login::oidc::ProviderKeys;
use mytoken_login::{
    Accepted, Attempt, Class, ConfiguredServer, Level, LoginSettings, Maps, Process, Remote, ServerTokens,
    SystemAccounts, World, field, hold,
};
use pamsm::PamError;

use super::{handover, revocation};
use crate::codes;
use crate::conversation::Person;
use crate::host::Host;

/// The auth phase.
pub fn authenticate(host: &Host<'_>) -> PamError {
    // In password mode an earlier attempt of the same process may have left one.
    host.forget_handle();
    let Some(user) = host.user() else { return PamError::USER_UNKNOWN };
    let attempt = Attempt { service: host.service(), user, rhost: host.rhost(), host: hostname() };
    if host.arguments.services.as_ref().is_some_and(|services| !services.contains(&attempt.service)) {
        return codes::authenticate(Class::NotOurs);
    }
    match configuration(host) {
        Ok((_, settings)) if !settings.services.contains(&attempt.service) => codes::authenticate(Class::NotOurs),
        Ok((shared, settings)) => ask(host, &attempt, &shared, &settings),
        // A mistake harms the services that are listed and no others.
        Err(error) if is_ours(host, &attempt) => {
            host.log(Level::Critical, &error.to_string());
            codes::authenticate(Class::Misconfigured)
        }
        Err(error) => {
            host.log(Level::Debug, &format!("the service is not listed; {error}"));
            codes::authenticate(Class::NotOurs)
        }
    }
}

/// Whether the service is listed, also in a configuration that cannot be used.
fn is_ours(host: &Host<'_>, attempt: &Attempt) -> bool {
    let listed = || LoginSettings::services_in(&host.arguments.config, FileTrust::ROOT);
    host.arguments.services.clone().unwrap_or_else(listed).contains(&attempt.service)
}

fn configuration(host: &Host<'_>) -> Result<(Shared, LoginSettings), mytoken::Error> {
    let directory = &host.arguments.config;
    let shared = Shared::load(directory, FileTrust::ROOT)?;
    let mut settings = LoginSettings::load(directory, FileTrust::ROOT, &shared)?;
    if let Some(services) = &host.arguments.services {
        settings.services.clone_from(services);
    }
    if let Some(prompt) = &host.arguments.prompt {
        settings.prompt.text.clone_from(prompt);
    }
    Ok((shared, settings))
}

fn ask(host: &Host<'_>, attempt: &Attempt, shared: &Shared, settings: &LoginSettings) -> PamError {
    let clock = SystemClock;
    let (cache, ledger, connection) = (super::cache(host), super::ledger(host), host.connection());
    let remote = Remote::of(connection.as_deref(), attempt.rhost.as_deref());
    let allowance =
        Allowance::new(ledger.as_ref(), &settings.budget, remote, connection.as_deref().map(of_this_process));
    if let Some(class) = allowance.refused_before() {
        host.log(Level::Debug, "nothing more is asked in this connection");
        return codes::authenticate(class);
    }
    let http_settings = shared.http_settings();
    let http = LazyClient::new(&http_settings);
    let url = match settings.exchange.as_ref().map(|exchange| shared.server_url(&exchange.server)).transpose() {
        Ok(url) => url,
        Err(error) => {
            host.log(Level::Critical, &error.to_string());
            return PamError::SERVICE_ERR;
        }
    };
    let tokens = url.clone().map(|url| ServerTokens::new(url, &http, cache.as_ref(), &clock, &allowance));
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
    let report = mytoken_login::authenticate(attempt, &world, &mut Person::new(host));
    host.log(report.level(), &report.line(attempt));
    // Once for each login in which the rules were asked.
    for complaint in maps.complaints().iter().filter(|_| !report.steps.is_empty()) {
        host.log(Level::Error, complaint);
    }
    match &report.outcome {
        Ok(accepted) => {
            allowance.let_in();
            if !leave(host, attempt, accepted) {
                revocation::revoke_delegated(host, &accepted.credential);
            }
            PamError::SUCCESS
        }
        Err(refusal) => {
            allowance.refused(refusal);
            std::thread::sleep(hold(&report, settings.fail_delay.get(), Instant::now()));
            codes::authenticate(refusal.class())
        }
    }
}

/// The connection and the process of sshd that has it: keyboard-interactive runs each attempt in a child of its own (SSH-01), whose parent
/// is the connection's monitor. Without the process an address and port that are used again would be the same connection.
fn of_this_process(connection: &str) -> String {
    let process = Process::parent().map_or_else(String::new, |parent| format!(" {}:{}", parent.pid, parent.start));
    format!("{connection}{process}")
}

/// Leaves the record for the session; whether it could. Without it the person is let in all the same; the session then has no
/// credential.
fn leave(host: &Host<'_>, attempt: &Attempt, accepted: &Accepted) -> bool {
    let handover = handover();
    handover.sweep(&SystemClock);
    let processes = [Process::own(), Process::parent()].into_iter().flatten().collect();
    let record = Record::new(accepted, &attempt.service, processes, &SystemClock);
    let left = handover.leave(&record).map_err(|error| error.to_string()).and_then(|handle| {
        if host.export(VARIABLE, &handle) { Ok(()) } else { Err("the PAM environment cannot be written".to_owned()) }
    });
    if let Err(reason) = &left {
        host.log(Level::Warning, &format!("user={} session without credential: {reason}", field(&attempt.user)));
    }
    left.is_ok()
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
