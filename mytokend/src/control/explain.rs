// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl explain`: the decision about a login with this token as this user, and its reasons.

use std::path::Path;

use mytoken::config::{FileTrust, Shared};
use mytoken::{Error, Secret};
use mytoken_login::{Attempt, LoginResources, LoginSettings, examine, explain as render};

/// The explanation, and whether the login would be accepted. As in a login, a mytoken loses one use and a transfer code is used up.
///
/// # Errors
/// An error in the configuration.
pub fn explain(config: &Path, user: &str, token: &Secret) -> Result<(String, bool), Error> {
    let trust = FileTrust::current();
    let shared = Shared::load(config, trust)?;
    let login = LoginSettings::load(config, trust, &shared)?;
    let attempt = Attempt {
        service: login.services.first().cloned().unwrap_or_default(),
        user: user.to_owned(),
        rhost: None,
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let resources = LoginResources::of_administrator();
    let allowance = resources.allowance(&login.budget);
    resources.with_context(&shared, &login, &allowance, |context| {
        let report = examine(&attempt, token, context);
        let problems: String = context.maps.problems().iter().map(|line| format!("! {line}\n")).collect();
        (render(&report, &attempt) + &problems, report.outcome.is_ok())
    })
}
