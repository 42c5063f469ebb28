// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to the mytoken server for a job array of a hundred thousand tasks, which ask the broker at its port. A day is played in 96 s:
//! access tokens live 4 s instead of an hour.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::amount::Amount;
use super::broker_load::{BROKER, CLIENT, DIRECTORY, LIMIT, submit};
use super::figure::Figure;
use crate::drive::journal::{Journal, SubToken};
use crate::drive::people::control;
use crate::site::users::USERS;
use crate::{Error, Result, Site, wait};

/// Number of tasks.
const TASKS: usize = 100_000;

/// The invented array job.
const ARRAY: u32 = 6_000_000;

/// Life of access tokens in seconds, and in the day that is played. It is even: a broker counts whole seconds, and gives a token out for
/// half of its life.
const LIFE: u64 = 4;
const LIFE_IN_THE_DAY: u64 = 3_600;

/// When the last task begins, in the day that is played: it runs ten minutes.
const LAST: u64 = 86_400 - 600;

/// What the nodes measured.
#[derive(Deserialize)]
struct Measured {
    asked: usize,
    tokens: usize,
}

/// Lets all tasks ask for the token, one after the other, and the nodes tell the end.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Figure> {
    let tasks = amount.scale(TASKS);
    Journal::clear(site)?;
    let sealed = submit(site)?;
    lifetime(site, LIFE)?;
    let played = play(site, &sealed, tasks).and_then(|()| wait_for_revocation(site));
    lifetime(site, LIFE_IN_THE_DAY)?;
    let SubToken { access_tokens, refused, revocations, .. } = played?;
    let requests = 1 + access_tokens + refused + revocations;
    let note = format!(
        "requests to the mytoken server for an array of {tasks} tasks over a day, which is played in {} s: the sub-token, {access_tokens} access tokens, the revocation",
        seconds()
    );
    let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
    Ok(Figure::value("upstream_requests_100000_tasks", requests, "requests", 50.0, &note))
}

/// How long the tasks begin.
fn seconds() -> u64 {
    LAST * LIFE / LIFE_IN_THE_DAY
}

/// Sets the life of new access tokens.
fn lifetime(site: &Site, seconds: u64) -> Result<()> {
    control(site, "/provider/lifetime", Some(&format!("{{\"seconds\": {seconds}}}"))).map(drop)
}

fn play(site: &Site, sealed: &str, tasks: usize) -> Result<()> {
    let uid = USERS.first().map_or(0, |alice| alice.uid);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (shown, ended) = (format!("{DIRECTORY}/jobs"), format!("{DIRECTORY}/ended"));
    for (path, state, end) in [(&shown, "RUNNING", "N/A".to_owned()), (&ended, "COMPLETED", now.to_string())] {
        // Each task is on all nodes, so that it does not matter which one asks.
        let line = format!("{uid}|{now}|JOB|{ARRAY}_TASK|{state}|{now}|{end}|n[1-10000]|n1");
        let lines = (1..=tasks).map(|task| {
            let job = u64::from(ARRAY) + u64::try_from(task).unwrap_or(u64::MAX);
            line.replace("JOB", &job.to_string()).replace("TASK", &task.to_string()) + "\n"
        });
        site.script("root", &format!("cat >{path}")).stdin(lines.collect::<String>()).run()?.ok()?;
    }
    let (keys, nodes) = (format!("{DIRECTORY}/keys"), format!("{DIRECTORY}/nodes.json"));
    let numbers = [u64::from(ARRAY), u64::from(uid)].map(|number| number.to_string());
    let (count, within) = (tasks.to_string(), seconds().to_string());
    let [array, uid] = &numbers;
    let client =
        site.command("root", [CLIENT, "array", &keys, &nodes, BROKER, array, uid, &count, &within, &ended, &shown]);
    let output = client.stdin(sealed.to_owned()).timeout(LIMIT).run()?.ok()?.stdout;
    let unreadable = |error| Error::Refused(format!("\"{output}\" of {CLIENT} is not JSON: {error}"));
    let measured: Measured = serde_json::from_str(&output).map_err(unreadable)?;
    if measured.asked != tasks || measured.tokens == 0 {
        return Err(Error::Refused(format!("not all tasks have a token: {output}")));
    }
    Ok(())
}

/// Waits until the broker has heard of the end, and returns what happened with the sub-token.
fn wait_for_revocation(site: &Site) -> Result<SubToken> {
    wait::until("the revocation", Duration::from_secs(90), || {
        let made = Journal::read(site)?.each_sub_token();
        Ok(made.into_iter().next().filter(|token| token.revocations > 0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_played_in_as_many_lives_of_a_token() {
        assert_eq!(seconds(), 95);
        assert!(LIFE % 2 == 0 && seconds() < LIMIT.as_secs());
    }
}
