// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl explain --submission`: what a submission would request with this mytoken, or why it would get no credential.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use mytoken::restrictions::Clause;
use mytoken::time_format::TimeFormat;
use mytoken::{Clock, Deadline, Secret};
use mytoken_wire::printable;

use crate::jobs::SealError;
use crate::submit::plan::{PlannedSubmission, plan};
use crate::submit::{SubmitConfig, UserEnvironment};

/// Time limit for the discovery of the mytoken server.
const NETWORK: Duration = Duration::from_secs(10);

/// The explanation, and whether a submission with this profile would request a sub-token. Nothing is made, and the mytoken is not sent.
///
/// # Errors
/// An error in the configuration.
pub fn explain(
    config: &Path,
    profile: &str,
    mytoken: &Secret,
    clock: &dyn Clock,
    times: TimeFormat,
) -> Result<(String, bool), SealError> {
    let config = SubmitConfig::load(config)?;
    let mytoken = Secret::new(mytoken.expose().trim());
    Ok(match plan(&config, (profile, &UserEnvironment::current()), &mytoken, clock, Deadline::after(NETWORK)) {
        Ok(plan) => (render(&plan, &config.jobs.cluster.name, profile, times), true),
        Err(error) => (format!("no credential: {error}\n"), false),
    })
}

fn render(plan: &PlannedSubmission, cluster: &str, profile: &str, times: TimeFormat) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {}", printable(value, usize::MAX));
    };
    line("submission", &format!("profile {profile}, cluster {cluster}"));
    line("mytoken", &format!("of {}, as its own claims say: it was not sent", plan.server));
    for clause in &plan.wanted {
        line("wanted", &described(clause, times));
    }
    for clause in &plan.clauses {
        line("sub-token", &described(clause, times));
    }
    if let Some(windows) = &plan.start_windows {
        line("at nodes", windows);
    }
    line("sealed to", &format!("key {}", plan.key));
    line("result", "a submission requests this sub-token; nothing was made here");
    text
}

/// A clause with its times as text, and the other members as they are sent.
pub(super) fn described(clause: &Clause, times: TimeFormat) -> String {
    let time = |word: &str, at: Option<u64>| at.map(|at| format!("{word} {} ", times.minutes(at))).unwrap_or_default();
    let rest = serde_json::to_string(&Clause { nbf: None, exp: None, ..clause.clone() }).unwrap_or_default();
    format!("{}{}{rest}", time("from", clause.nbf), time("until", clause.exp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_shows_what_is_wanted_and_what_is_requested() {
        // 2026-11-21 20:58:11 UTC, a Saturday.
        let now = 1_795_294_691;
        let wanted = Clause {
            exp: Some(now + 9 * 86_400),
            scope: "storage.read".into(),
            audience: vec!["https://se.example.org".into()],
            ..Clause::default()
        };
        let clause = Clause { exp: Some(now + 3600), hosts: vec!["192.0.2.0/24".into()], ..wanted.clone() };
        let plan = PlannedSubmission {
            server: "https://mt.example.org".into(),
            wanted: vec![wanted],
            clauses: vec![clause],
            start_windows: Some("tokens until 1h after the start of each job".into()),
            key: "0a1b2c3d".into(),
        };
        let expected = "\
submission   profile data, cluster c
mytoken      of https://mt.example.org, as its own claims say: it was not sent
wanted       until 2026-11-30 20:58 {\"scope\":\"storage.read\",\"audience\":[\"https://se.example.org\"]}
sub-token    until 21:58 {\"scope\":\"storage.read\",\"audience\":[\"https://se.example.org\"],\"hosts\":[\"192.0.2.0/24\"]}
at nodes     tokens until 1h after the start of each job
sealed to    key 0a1b2c3d
result       a submission requests this sub-token; nothing was made here
";
        assert_eq!(render(&plan, "c", "data", TimeFormat::utc(now)), expected);
    }
}
