// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks the agent of this host for a permit to send a request. The agent is never needed: without an answer the submission goes on.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use mytoken::time_format::TimeFormat;
use mytoken::{Clock, Deadline};
use mytoken_wire::agent::{Permit, Permitted, UsedUp, ask};
use mytoken_wire::paths::AGENT_SOCKET_NAME;

use super::error::SubmitError;
use super::patience::Patience;
use crate::jobs::profile::ProfileSettings;
use crate::jobs::settings::JobsSettings;

/// Longest wait for an answer of the agent.
const AGENT_TIME: Duration = Duration::from_millis(500);

/// The time that a submission needs after it has waited for a permit.
const REQUEST_TIME: Duration = Duration::from_secs(1);

fn ask_agent(jobs: &JobsSettings, request: &Permit, deadline: Deadline) -> Option<Permitted> {
    ask(&jobs.agent.runtime_dir.join(AGENT_SOCKET_NAME), request, deadline.at_most(AGENT_TIME)).ok()
}

/// Waits for a permit to send a request to the profile's server. There is one at once where the server has no request limit, and where no
/// agent answers.
///
/// # Errors
/// [`SubmitError::NoPermit`] if the wait is longer than the caller's patience, [`SubmitError::Abandoned`] if he has given up.
pub fn wait_for_permit(
    jobs: &JobsSettings,
    profile: &ProfileSettings,
    patience: &Patience<'_>,
    clock: &dyn Clock,
    times: TimeFormat,
) -> Result<(), SubmitError> {
    let request = Permit { server: profile.server.clone(), sent: 0, login: None };
    let used_up = Cell::new(UsedUp::default());
    let wait = || {
        let answer = ask_agent(jobs, &request, patience.deadline)?;
        used_up.set(answer.used_up);
        answer.wait.map(Duration::from_millis)
    };
    wait_while(patience, wait).map_err(|wait| match wait {
        None => SubmitError::Abandoned,
        Some(wait) => SubmitError::NoPermit {
            server: profile.server.clone(),
            // Without seconds: the next full minute.
            until: times.minutes(clock.now().saturating_add(wait.as_secs()).saturating_add(60)),
            used_up: used_up.get(),
        },
    })
}

/// Waits as long as `wait` names a time. The error is the time that is too long, or `None` if the caller has given up.
fn wait_while(patience: &Patience<'_>, wait: impl Fn() -> Option<Duration>) -> Result<(), Option<Duration>> {
    loop {
        if !(patience.waits)() {
            return Err(None);
        }
        let Some(wait) = wait() else { return Ok(()) };
        // Submissions that wait for the same time do not ask again at the same time.
        let pause = wait.saturating_add(Duration::from_millis(u64::from(rand::random::<u8>())));
        if patience.deadline.remaining().is_none_or(|left| left <= pause.saturating_add(REQUEST_TIME)) {
            return Err(Some(wait));
        }
        thread::sleep(pause);
    }
}

/// Tells how many requests were sent with one permit.
pub fn tell_sent(jobs: &JobsSettings, profile: &ProfileSettings, sent: u32, deadline: Deadline) {
    // After the deadline nobody waits for this process, and requests that had no answer count too.
    let deadline = if deadline.remaining().is_some() { deadline } else { Deadline::after(AGENT_TIME) };
    if let Some(further) = sent.checked_sub(1).filter(|further| *further > 0) {
        let _ = ask_agent(jobs, &Permit { server: profile.server.clone(), sent: further, login: None }, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_told_whose_share_is_used_up() {
        let sentence = |used_up| {
            let (server, until) = ("main".to_owned(), "10:20".to_owned());
            SubmitError::NoPermit { server, until, used_up }.to_string()
        };
        let of_user = sentence(UsedUp::User);
        assert!(
            of_user.contains("is used up for you until 10:20; ") && of_user.ends_with("into an array"),
            "{of_user}"
        );
        let rest = "of requests to the mytoken server \"main\" is used up until 10:20; submit again then";
        assert_eq!(sentence(UsedUp::Host), format!("the share of this host in the site's budget {rest}"));
        assert_eq!(sentence(UsedUp::All), format!("the site's budget {rest}"));
    }

    /// The result of a wait when the agent answers with these milliseconds, and how often it was asked.
    fn play(seconds: u64, waits: bool, answers: &[u64]) -> (Result<(), Option<Duration>>, usize) {
        let patience =
            Patience { deadline: Deadline::after(Duration::from_secs(seconds)), waits: &|| waits, threads: None };
        let asked = Cell::new(0);
        let wait = || {
            asked.set(asked.get() + 1);
            answers.get(asked.get() - 1).copied().map(Duration::from_millis)
        };
        (wait_while(&patience, wait), asked.get())
    }

    #[test]
    fn a_submission_waits_within_its_patience() {
        assert_eq!(play(10, true, &[]), (Ok(()), 1));
        assert_eq!(play(10, true, &[100, 50]), (Ok(()), 3));
        let minute = Some(Duration::from_secs(60));
        assert_eq!(play(10, true, &[60_000]), (Err(minute), 1), "and does not wait in vain");
        assert_eq!(play(10, true, &[10, 60_000]), (Err(minute), 2));
        assert_eq!(play(10, false, &[100]), (Err(None), 0), "nobody waits");
        assert_eq!(play(0, true, &[]), (Ok(()), 1));
    }
}
