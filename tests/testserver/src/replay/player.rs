// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays one scenario.

use serde_json::Value;

use super::capture::{BrowserStep, Scenario, ScenarioStep};
use super::first_token;
use super::outcome::{ScenarioResult, Stop};
use super::pattern::compare;
use super::request::send;
use super::response::{check, check_authorization_query, check_jwt};
use super::target::Target;
use super::vars::Vars;
use crate::http::Response;
use crate::mytoken::unix_now;

/// Plays a scenario to its end or its first difference.
pub(super) fn play(scenario: &Scenario, target: &Target) -> ScenarioResult {
    if let Some(reason) = skip_reason(scenario, target) {
        return ScenarioResult::Skipped(reason.into());
    }
    run(scenario, target).into()
}

/// Why the scenario cannot be played without access to the provider. This is checked before the first request, so that
/// no scenario stops halfway. A missing browser is found later, because logins at the provider for guests need none.
fn skip_reason(scenario: &Scenario, target: &Target) -> Option<&'static str> {
    if target.provider.is_some() {
        return None;
    }
    let any = |needs: fn(&ScenarioStep) -> bool| scenario.steps.iter().any(needs);
    if any(|step| step.provider_fault.is_some()) {
        return Some("needs faults of the provider: give --provider-faults");
    }
    any(|step| step.provider_requests.is_some()).then_some("needs the requests to the provider: give --provider-faults")
}

fn run(scenario: &Scenario, target: &Target) -> Result<(), Stop> {
    let mut vars = Vars::new(unix_now(), scenario.slow);
    vars.set("issuer", target.issuer.clone());
    vars.set("op", target.op.clone());
    for token in scenario.first_token.iter().chain(&scenario.more_tokens) {
        first_token::obtain(token, target, &mut vars).map_err(|stop| stop.at("first token"))?;
    }
    for step in &scenario.steps {
        play_step(step, target, &mut vars).map_err(|stop| stop.at(&format!("step '{}'", step.name)))?;
    }
    Ok(())
}

fn play_step(step: &ScenarioStep, target: &Target, vars: &mut Vars) -> Result<(), Stop> {
    if let Some(seconds) = step.sleep {
        std::thread::sleep(std::time::Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?);
        return Ok(());
    }
    if step.provider_requests.is_some() {
        // Discards the requests of earlier steps.
        take_requests(target)?;
    }
    let expected = step.response.as_ref().ok_or("the step has no response")?;
    let fault = step.provider_fault.as_deref();
    let answer = match (&step.request, &step.browser) {
        (Some(request), _) => with_fault(fault, target, || send(request, target, vars))?,
        (None, Some(browser)) => visit(browser, fault, target, vars)?,
        (None, None) => return Err("the step has neither a request nor a browser".into()),
    };
    check(expected, &answer, &step.unordered, target.logs_in_itself(), vars)?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    for (place, decoded) in &step.jwt {
        check_jwt(place, decoded, &body, vars)?;
    }
    if let Some(expected) = &step.authorization_query {
        check_authorization_query(expected, &body, vars)?;
    }
    if let Some(expected) = &step.provider_requests {
        let requests = take_requests(target)?.into();
        compare(expected, &requests, &[], unix_now(), vars)
            .map_err(|reason| format!("requests to the provider: {reason}"))?;
    }
    Ok(())
}

fn take_requests(target: &Target) -> Result<Vec<Value>, Stop> {
    target.provider.as_ref().map_or(Ok(Vec::new()), |provider| provider.take_requests())
}

/// Sends a request during a fault of the provider and always ends the fault afterwards.
fn with_fault(
    name: Option<&str>,
    target: &Target,
    request: impl FnOnce() -> Result<Response, String>,
) -> Result<Response, Stop> {
    let (Some(name), Some(provider)) = (name, &target.provider) else { return Ok(request()?) };
    provider.set_fault(name)?;
    let answer = request();
    provider.clear_fault()?;
    Ok(answer?)
}

/// Plays a browser step: the login at the provider, then the server's `/redirect`. A fault applies only to `/redirect`.
fn visit(browser: &BrowserStep, fault: Option<&str>, target: &Target, vars: &Vars) -> Result<Response, Stop> {
    let redirect = target.log_in(&vars.text(&browser.open)?, &vars.text(&browser.user)?)?;
    with_fault(fault, target, || target.browse(&redirect))
}
