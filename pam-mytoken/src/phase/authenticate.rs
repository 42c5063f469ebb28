// SPDX-License-Identifier: GPL-3.0-or-later
//! `authenticate`: asks for a token, decides, and stores the record for the session.

use std::time::{Duration, Instant};

use mytoken::config::{FileTrust, Shared};
use mytoken::{Deadline, SystemClock};
use mytoken_login::budget::{Allowance, ConnectionEnd};
use mytoken_login::handover::{Record, VARIABLE};
use mytoken_login::{
    Accepted, Attempt, Explanation, Level, LoginContext, LoginSettings, Process, RefusalClass, Report, SettingPlaces,
    escape_field, remaining_fail_delay,
};
use pamsm::PamError;

use super::key_login;
use super::records::records;
use super::revocation;
use crate::codes;
use crate::context::PamContext;
use crate::conversation::PamConversation;

/// The auth phase.
pub fn authenticate(context: &PamContext<'_>) -> PamError {
    // With the password method an earlier attempt of the same process may have stored a handle.
    context.remove_handle();
    context.forget_accepted();
    let Some(user) = context.user() else { return PamError::USER_UNKNOWN };
    let attempt = Attempt { service: context.service(), user, rhost: context.rhost(), host: hostname() };
    #[cfg(feature = "scripted")]
    if let Some(code) = super::scripted::log_in(context, &attempt) {
        return code;
    }
    if context.arguments.services.as_ref().is_some_and(|services| !services.contains(&attempt.service)) {
        return codes::authenticate(RefusalClass::NotHandled);
    }
    match configuration(context) {
        Ok((_, settings)) if !settings.services.contains(&attempt.service) => {
            codes::authenticate(RefusalClass::NotHandled)
        }
        Ok((shared, settings)) => log_in(context, &attempt, &shared, &settings),
        // A mistake in the configuration affects only the listed services.
        Err(error) if is_listed(context, &attempt) => {
            context.log(Level::Critical, &error.to_string());
            codes::authenticate(RefusalClass::Misconfigured)
        }
        Err(error) => {
            context.log(Level::Debug, &format!("the service is not listed; {error}"));
            codes::authenticate(RefusalClass::NotHandled)
        }
    }
}

/// Whether the service is listed, even in a configuration that cannot be used.
fn is_listed(context: &PamContext<'_>, attempt: &Attempt) -> bool {
    let listed = || LoginSettings::listed_services(&context.arguments.config, FileTrust::ROOT);
    context.arguments.services.clone().unwrap_or_else(listed).contains(&attempt.service)
}

fn configuration(context: &PamContext<'_>) -> Result<(Shared, LoginSettings), mytoken::Error> {
    let directory = &context.arguments.config;
    let shared = Shared::load(directory, FileTrust::ROOT)?;
    let mut settings = LoginSettings::load(directory, FileTrust::ROOT, &shared)?;
    if let Some(services) = &context.arguments.services {
        settings.services.clone_from(services);
    }
    if let Some(prompt) = &context.arguments.prompt {
        settings.prompt.text.clone_from(prompt);
    }
    Ok((shared, settings))
}

fn log_in(context: &PamContext<'_>, attempt: &Attempt, shared: &Shared, settings: &LoginSettings) -> PamError {
    let resources = context.resources();
    let allowance = resources.allowance(&settings.budget);
    if let Some(end) = allowance.connection_end() {
        context.log(Level::Debug, "no further prompt in this connection");
        return codes::authenticate(match end {
            ConnectionEnd::Outage => RefusalClass::Unavailable,
            ConnectionEnd::TooManyRequests => RefusalClass::Rejected,
        });
    }
    let login = |login: &LoginContext<'_>| decide(context, attempt, login, &allowance);
    resources.with_context(shared, settings, &allowance, login).unwrap_or_else(|error| {
        context.log(Level::Critical, &error.to_string());
        codes::authenticate(RefusalClass::Misconfigured)
    })
}

pub(super) fn decide(
    context: &PamContext<'_>,
    attempt: &Attempt,
    login: &LoginContext<'_>,
    allowance: &Allowance<'_>,
) -> PamError {
    let report = mytoken_login::authenticate(attempt, login, &mut PamConversation::new(context));
    context.log(report.level(), &report.log_line(attempt));
    for (level, line) in report.mapper_lines(attempt) {
        context.log(level, &line);
    }
    explain(context, attempt, login, &report);
    // Only for logins whose rules were tried.
    for problem in login.maps.problems().iter().filter(|_| !report.rules.is_empty()) {
        context.log(Level::Error, problem);
    }
    key_login::record(context, login.settings, &report, &attempt.user);
    // Without an answer there is nothing to record, so nothing waits.
    let deadline = report.deadline.unwrap_or_else(|| Deadline::after(Duration::ZERO));
    match &report.outcome {
        Ok(accepted) => {
            let is_told = allowance.accept(accepted.account.uid, deadline);
            let stored = store_record(context, attempt, accepted, is_told);
            if let Some(link) = login.link.filter(|_| stored) {
                // The session's record has the mytoken now.
                link.forget();
            }
            if !stored {
                // The record could not be stored, so it cannot be left to the agent either. A failure is in the log.
                if let Some(credential) = &accepted.credential {
                    revocation::revoke_delegated(context, credential, deadline);
                }
                if login.settings.session.required {
                    return codes::authenticate(RefusalClass::System);
                }
            }
            // Else the account phase would take it for a login without a token.
            if context.handle().is_none() && !context.note_accepted(&attempt.user) {
                let user = escape_field(&attempt.user);
                context.log(Level::Warning, &format!("user={user} the account phase will not know of this login"));
            }
            PamError::SUCCESS
        }
        Err(refusal) => {
            if login.settings.log.failure_line && refusal.is_guess() {
                context.log_failure(attempt);
            }
            allowance.record_refusal(refusal, deadline);
            std::thread::sleep(remaining_fail_delay(&report, login.settings.fail_delay.get(), Instant::now()));
            codes::authenticate(refusal.class())
        }
    }
}

/// Logs each check and rule, with the argument `debug`. The configuration is read again only for this: a login needs no lines of it.
fn explain(context: &PamContext<'_>, attempt: &Attempt, login: &LoginContext<'_>, report: &Report) {
    if !context.arguments.debug {
        return;
    }
    let places = SettingPlaces::read(&context.arguments.config, FileTrust::ROOT, login.issuers);
    for line in Explanation::of(report, attempt, login.settings, &places).log_lines() {
        context.log(Level::Debug, &line);
    }
}

/// Stores the record for the session. `is_told`: the agent has heard of all requests of the login. Returns whether that worked: without a
/// record the login is still accepted, and its session has no credential.
fn store_record(context: &PamContext<'_>, attempt: &Attempt, accepted: &Accepted, is_told: bool) -> bool {
    let records = records();
    records.sweep(&SystemClock);
    let processes = [Process::own(), Process::parent()].into_iter().flatten().collect();
    let Some(mut record) = Record::new(accepted, &attempt.service, processes, &SystemClock) else {
        let line = format!("user={} session without credential: a one-time password", escape_field(&attempt.user));
        context.log(Level::Debug, &line);
        return true;
    };
    record.untold = !is_told;
    let problem = match records.store(&record) {
        Ok(handle) if context.export(VARIABLE, &handle) => return true,
        Ok(_) => "the PAM environment cannot be written".to_owned(),
        Err(error) => error.to_string(),
    };
    context.log(Level::Warning, &format!("user={} session without credential: {problem}", escape_field(&attempt.user)));
    false
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
