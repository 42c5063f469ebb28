// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl status`: the state of each job's and session's credential, and what happened to it.

use std::fmt::Write as _;

use mytoken::time_format::TimeFormat;
use mytoken_wire::agent::{
    BudgetStatus, Condition, Event, EventKind, FileStatus, JobState, JobStatus, RefusedReload, Status, StatusQuery,
};
use mytoken_wire::printable;
use nix::unistd::{Uid, User};
use serde::Serialize;

/// Exit status when a running job that was asked for has no valid access token, or its token is not renewed any more.
pub const NOT_VALID: u8 = 3;

/// What `--json` prints. Names and words never change their meaning.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    keys: &'a [String],
    omitted: usize,
    jobs: Vec<Entry<'a>>,
    sessions: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    budgets: &'a [BudgetStatus],
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_reload: Option<&'a RefusedReload>,
}

/// A job or a session.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    uid: u32,
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
    running: bool,
    state: Condition,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    access_token_until: Option<u64>,
    credential_until: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    files: &'a [FileStatus],
    events: &'a [Event],
}

impl<'a> Report<'a> {
    /// The report of an agent's answer. `account_of` gives the account name of a uid.
    #[must_use]
    pub fn of(status: &'a Status, account_of: &dyn Fn(u32) -> Option<String>) -> Self {
        let entry = |job: &'a JobStatus| Entry {
            job: (!is_session(job)).then_some(job.job),
            name: (!is_session(job)).then(|| job_name(job)),
            session: job.session.as_deref(),
            uid: job.uid,
            user: account_of(job.uid),
            profile: (!is_session(job)).then_some(job.profile.as_str()),
            running: job.running,
            state: condition(job),
            since: job.since,
            from: job.from,
            reason: job.reason.as_deref(),
            file: job.file.as_deref(),
            access_token_until: job.token_until,
            credential_until: job.until,
            files: &job.files,
            events: &job.events,
        };
        let (sessions, jobs): (Vec<&JobStatus>, Vec<&JobStatus>) = status.jobs.iter().partition(|job| is_session(job));
        Self {
            node: &status.node,
            version: status.version.as_deref(),
            keys: &status.keys,
            omitted: status.omitted,
            jobs: jobs.into_iter().map(entry).collect(),
            sessions: sessions.into_iter().map(entry).collect(),
            budgets: &status.budgets,
            refused_reload: status.refused_reload.as_ref(),
        }
    }
}

/// The exit status of a status that shows something. `asked` says whether a job was named.
#[must_use]
pub fn exit_status(status: &Status, asked: bool) -> u8 {
    let bad = |job: &JobStatus| {
        job.running && (!condition(job).is_good() || job.files.iter().any(|file| !file.condition.is_good()))
    };
    if asked && status.jobs.iter().any(bad) { NOT_VALID } else { 0 }
}

/// Says that the agent has nothing to show.
#[must_use]
pub fn nothing(node: &str, query: StatusQuery, is_root: bool) -> String {
    match (query.job, query.all, is_root) {
        (Some(job), _, true) => format!("the agent on {node} has no job {job} with a credential"),
        (Some(job), _, false) => format!("the agent on {node} has no job {job} of yours with a credential"),
        (None, true, _) => format!("the agent on {node} has no job or session with a credential"),
        (None, false, true) => {
            format!("the agent on {node} has no job or session of root; of all users: mytokenctl status --all")
        }
        (None, false, false) => format!("the agent on {node} has no job or session of yours with a credential"),
    }
}

/// The status for a terminal. `account_of` gives the account name of a uid.
#[must_use]
pub fn render(status: &Status, times: TimeFormat, account_of: &dyn Fn(u32) -> Option<String>) -> String {
    let mut text = String::new();
    if status.omitted > 0 {
        let _ = writeln!(
            text,
            "({} older jobs and sessions are not shown; for one job: mytokenctl status JOB)",
            status.omitted
        );
    }
    if let Some(refused) = &status.refused_reload {
        let (time, reason) = (times.minutes(refused.time), shown(&refused.reason));
        let _ = writeln!(
            text,
            "(the agent goes on with its earlier configuration: the reload of {time} was refused: {reason})"
        );
    }
    for job in &status.jobs {
        let user = account_of(job.uid).unwrap_or_else(|| job.uid.to_string());
        let head = if is_session(job) {
            let id = job.session.as_deref().and_then(|id| id.get(..8)).unwrap_or("-");
            format!("SESSION {id}  user {user}")
        } else {
            format!("JOB {}  profile {}  user {user}", job_name(job), shown(&job.profile))
        };
        let _ = writeln!(text, "{head:<44}  {}", headline(job, times));
        for file in &job.files {
            let _ = writeln!(text, "  file {}  {}", file.name, file_line(file, times));
        }
        for event in &job.events {
            let time = times.seconds(event.time);
            let (kind, sentence) = (shown(event.kind.as_str()), shown(&event.text));
            let repeated = if event.times > 1 { format!(" ({} times)", event.times) } else { String::new() };
            let _ = writeln!(text, "  {time}  {kind:<10} {:<8} {sentence}{repeated}", status.node);
        }
    }
    text
}

/// The agents of the first release had the number 0 for sessions, and nothing else.
fn is_session(job: &JobStatus) -> bool {
    job.session.is_some() || job.job == 0
}

fn job_name(job: &JobStatus) -> String {
    job.name.map_or_else(|| job.job.to_string(), |name| name.to_string())
}

/// What is the matter with the access token. An agent that was not restarted since an upgrade does not say it.
fn condition(job: &JobStatus) -> Condition {
    job.condition.clone().unwrap_or(match job.state {
        JobState::Ready => Condition::Valid,
        JobState::Pending => Condition::Pending,
        JobState::Failed => Condition::Ended,
    })
}

/// One sentence about the access token and the credential.
fn headline(job: &JobStatus, times: TimeFormat) -> String {
    let token = job
        .token_until
        .map_or("no access token".to_owned(), |until| format!("access token valid until {}", times.minutes(until)));
    let credential = job.until.map_or(String::new(), |until| format!("; credential until {}", times.minutes(until)));
    let since = job.since.map_or(String::new(), |since| format!(" since {}", times.minutes(since)));
    let reason = job.reason.as_deref().map_or(String::new(), |reason| format!(": {}", shown(reason)));
    match condition(job) {
        Condition::Valid => {
            let is_new = |event: &&Event| matches!(event.kind, EventKind::Started | EventKind::Renewed);
            let renewed = job.events.iter().rev().find(is_new);
            let renewed = renewed.map_or(String::new(), |event| format!(", renewed {}", times.ago(event.time)));
            format!("{token}{renewed}{credential}")
        }
        Condition::NotRenewed => format!("{token}, not renewed{reason}"),
        Condition::Pending => format!("no access token yet, the agent requests one{credential}"),
        Condition::Waiting => {
            let from = job.from.map_or(String::new(), |from| format!(" from {} on", times.minutes(from)));
            format!("{token}; the credential gives the next{from}{credential}")
        }
        Condition::Outage => format!("outage{since}: {token}, the agent tries again{credential}"),
        Condition::FileMissing => {
            format!("the file with the access token is missing or was changed; mytokenctl renew writes it{credential}")
        }
        Condition::Refused => format!("refused{since}: {token}, no further one"),
        Condition::Revoking => format!("{token}; the server has not revoked the credential yet, the agent tries again"),
        Condition::Revoked if job.running => format!("revoked{since}, {token}"),
        Condition::Revoked => "ended, revoked".to_owned(),
        Condition::Ended => ended(job, times),
        Condition::Other(word) => format!("{}: {token}{credential}", shown(&word)),
    }
}

/// One sentence about the access token of a further file.
fn file_line(file: &FileStatus, times: TimeFormat) -> String {
    let token = file
        .token_until
        .map_or("no access token".to_owned(), |until| format!("access token valid until {}", times.minutes(until)));
    let since = file.since.map_or(String::new(), |since| format!(" since {}", times.minutes(since)));
    let reason = file.reason.as_deref().map_or(String::new(), |reason| format!(": {}", shown(reason)));
    match &file.condition {
        Condition::Valid => token,
        Condition::Pending => "no access token yet, the agent requests one".to_owned(),
        Condition::Waiting => {
            let from = file.from.map_or(String::new(), |from| format!(" from {} on", times.minutes(from)));
            format!("{token}; the credential gives the next{from}")
        }
        Condition::Outage => format!("outage{since}: {token}, the agent tries again{reason}"),
        Condition::FileMissing => "the file is missing or was changed; mytokenctl renew writes it".to_owned(),
        Condition::Refused => format!("refused{reason}; {token}"),
        Condition::NotRenewed => format!("{token}, not renewed{reason}"),
        Condition::Revoking | Condition::Revoked => "revoked with the credential".to_owned(),
        Condition::Ended => "ended".to_owned(),
        Condition::Other(word) => format!("{}: {token}", shown(word)),
    }
}

/// What became of the credential of a job or session that has ended here.
fn ended(job: &JobStatus, times: TimeFormat) -> String {
    match job.events.last().map(|event| &event.kind) {
        Some(EventKind::Left) => "ended; another node revokes the sub-token".to_owned(),
        Some(EventKind::Requeued) => "ended here; the submission goes on and keeps its credential".to_owned(),
        Some(EventKind::Kept) => {
            let until = job.until.map_or(String::new(), |until| format!(", valid until {}", times.minutes(until)));
            format!("ended, not revoked{until}")
        }
        _ => "ended".to_owned(),
    }
}

/// Text that a user may have chosen, made safe for root's terminal: users can seal credentials with any profile name.
fn shown(text: &str) -> String {
    printable(text, usize::MAX)
}

/// The account name of a uid, from the system.
#[must_use]
pub fn account(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok()??.name)
}

#[cfg(test)]
mod tests;
