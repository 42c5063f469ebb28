// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every shape of submission: a token while it runs, no file afterwards, one sub-token that is revoked within a minute. The
//! rows of the table run at the same time, each with a mytoken of its own, so that the journal shows its requests.
//!
//! One agent revokes a sub-token. Others do so ten and twenty minutes later, in case that it could not: on several nodes the second one,
//! and without brokers the agent of the login host. What no node holds, that agent revokes alone. The requests of a row are counted before
//! that, and those of a row that no node ends, after that time has passed for the agent of the login host.

mod document;
mod observer;
mod rows;
mod start_windows;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use observer::{Observer, STATES};
use rows::{RUNNING, Row, VARIED};
use serde_json::json;
use testbed::drive::journal::{Journal, SubToken, fingerprint};
use testbed::drive::tokens;
use testbed::site::daemon::Daemon;
use testbed::site::servers::AUDIENCE;
use testbed::site::services::agent;
use testbed::soak::clock;
use testbed::soak::records::{self, Record};
use testbed::soak::task::RECORDS;
use testbed::{Error, Options, Result, Site, story_with_own_servers, wait};

const PRELUDE: &str = include_str!("prelude.sh");

/// Lines of slurm.conf for the rows with scrontab, with a prolog, with an interactive step, and with preemption. The rows that harm other
/// jobs of their node have nodes of their own.
const SLURM: &str = "ScronParameters=enable
Prolog=/usr/local/bin/prolog
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=apart Nodes=n[5-6] PriorityTier=1
PartitionName=urgent Nodes=n[5-6] PriorityTier=9
LaunchParameters=use_interactive_step
InteractiveStepOptions=\"--interactive --preserve-env bash\"";

/// The prolog of a job lasts while there is a file with its id.
const PROLOG: &str = "#!/bin/sh\nwhile [ -e /var/tmp/prolog.$SLURM_JOB_ID ]; do sleep 0.1; done\n";

/// From the end of the last job to the end of its sub-token.
const PATIENCE: Duration = Duration::from_secs(60);

/// A first token may arrive this much later than the task on a busy machine.
const LATE: Duration = Duration::from_secs(10);

/// For the agent of the login host, so many seconds pass at once.
const STEP: i64 = 300;

/// Lifetime of a row's mytoken in seconds: longer than the time that passes for the agent of the login host.
const LIFETIME: u64 = 86_400;

/// Most revocations of a sub-token when each host that holds it has asked.
const MOST_REVOCATIONS: usize = 3;

/// What a row has shown.
struct Played {
    row: &'static Row,
    /// The name of its tasks and jobs.
    name: String,
    mytoken: String,
    problems: Vec<String>,
}

/// The sub-tokens of all rows with their requests.
struct Journals {
    /// When each row had ended, and nobody waited for another agent.
    ended: Vec<SubToken>,
    /// When the agent of the login host had nothing to revoke any more.
    settled: Vec<SubToken>,
}

#[test]
fn submissions_that_run_have_a_token_and_leave_nothing() -> Result<()> {
    play_all(RUNNING)
}

#[test]
fn other_submissions_have_a_token_or_none_and_leave_nothing() -> Result<()> {
    play_all(VARIED)
}

#[test]
fn a_job_that_never_starts_is_revoked_by_the_agent_of_its_host() -> Result<()> {
    // It asks the server about the sub-token for minutes, more often than the limit allows.
    story_with_own_servers(Options { nodes: 1, request_limit: "", ..Options::new()? }, |site| {
        let mytoken = tokens::mytoken(site, "alice", &json!({}))?;
        site.script("alice", "umask 077 && cat >mytoken").stdin(mytoken.as_str()).run()?.ok()?;
        let job =
            site.sh("alice", "MYTOKEN_FILE=~/mytoken sbatch --parsable --mytoken --hold --wrap true")?.ok()?.stdout;
        assert_eq!(tokens::living_sub_tokens(site, &mytoken)?.len(), 1);
        site.sh("alice", &format!("scancel {job}"))?.ok()?;
        // For two minutes the agent expects that the job is still to come.
        wait::until("the end of the sub-token", Duration::from_secs(240), || {
            thread::sleep(Duration::from_secs(1));
            Ok(tokens::living_sub_tokens(site, &mytoken)?.is_empty().then_some(()))
        })
    })
}

fn play_all(rows: &'static [Row]) -> Result<()> {
    // Each row asks the server about its sub-tokens once a second, more often than the limit allows.
    story_with_own_servers(Options { nodes: 6, request_limit: "", ..Options::new()? }, |site| {
        site.sh("alice", &format!("mkdir {RECORDS} shapes"))?.ok()?;
        let main = "sed -i '/^PartitionName=main/s/Nodes=ALL/Nodes=n[1-4]/' /etc/slurm/slurm.conf";
        site.write("/usr/local/bin/prolog", PROLOG, "0755")?;
        let reconfigure = format!("{main} && echo '{SLURM}' >>/etc/slurm/slurm.conf && scontrol reconfigure");
        site.sh("root", &reconfigure)?.ok()?;
        let has = |program: &str| site.sh("root", &format!("command -v {program}")).is_ok_and(|found| found.success());
        clock::start_again(site, "login", 0, Daemon::new("agent", [agent::PROGRAM, "agent"]))?;
        site.wait_for("the agent of the login host", PATIENCE, "root", "mytokenctl status --json")?;
        let (rows, missing): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| has(row.needs));
        for row in missing {
            println!("not played: {}, because this Slurm has no {}", row.shape, row.needs);
        }
        let observer = &Observer::new(site)?;
        let (looked, played): (Result<()>, Vec<Result<Played>>) = thread::scope(|scope| {
            let looks = scope.spawn(|| observer.look());
            let threads: Vec<_> = rows.into_iter().map(|row| scope.spawn(move || play(site, observer, row))).collect();
            let panicked = || Error::Refused("a row panicked".into());
            let played = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked()))).collect();
            observer.end();
            (looks.join().unwrap_or_else(|_| Err(panicked())), played)
        });
        looked?;
        let mut played = played.into_iter().collect::<Result<Vec<_>>>()?;
        let (ended, records) = (Journal::read(site)?.each_sub_token(), records::read(site)?);
        settle(site)?;
        let journals = Journals { ended, settled: Journal::read(site)?.each_sub_token() };
        for row in &mut played {
            row.compare(&journals, &records);
            let living = tokens::living_sub_tokens(site, &row.mytoken)?.len();
            if living > 0 {
                row.problems.push(format!("{living} sub-tokens are alive although nobody follows them any more"));
            }
        }
        let wrong: Vec<String> = played.iter().filter_map(Played::verdict).collect();
        println!("{}", report(&played, &journals));
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), report(&played, &journals));
        Ok(())
    })
}

/// Lets time pass for the agent of the login host until it has forgotten all submissions.
fn settle(site: &Site) -> Result<()> {
    let states = || -> Result<String> { Ok(site.sh("root", "cat /run/mytoken/state/submission-*.json")?.stdout) };
    // Half a minute after a submission, the agent asks slurmctld about it. Its clock must not differ from slurmctld's before that.
    wait::until("what slurmctld says of all submissions", PATIENCE * 2, || {
        Ok((!states()?.contains("\"tries\":0}")).then_some(()))
    })?;
    let mut passed = 0;
    wait::until("the end of all submissions at the login host", PATIENCE * 3, || {
        if states()?.is_empty() {
            return Ok(Some(()));
        }
        passed += STEP;
        clock::pass(site, "login", passed)?;
        // A reload makes it look.
        site.sh("root", "kill -HUP $(pgrep -of 'mytokend agent$')")?.ok()?;
        thread::sleep(Duration::from_secs(1));
        Ok(None)
    })
}

/// A mytoken of a row.
fn mytoken(site: &Site) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let clause = json!({"exp": now + LIFETIME, "scope": "openid profile storage.read", "audience": [AUDIENCE]});
    tokens::mytoken(site, "alice", &json!({"restrictions": [clause]}))
}

/// Runs a row and waits for the end of its sub-tokens.
fn play(site: &Site, observer: &Observer<'_>, row: &'static Row) -> Result<Played> {
    let name: String = row.shape.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    // A name must not look like an option.
    let name = format!("row-{name}");
    let directory = format!("/home/alice/shapes/{name}");
    let mytoken = mytoken(site)?;
    let keep = format!("umask 077 && mkdir -m 755 {directory} && cat >{directory}/mytoken");
    site.script("alice", &keep).stdin(mytoken.as_str()).run()?.ok()?;
    let mut played = Played { row, mytoken, problems: Vec::new(), name };

    let script = format!("NAME='{}' DIR='{directory}' STATES={STATES}\n{PRELUDE}\n{}", played.name, row.script);
    let outcome = site.script("root", &script).timeout(Duration::from_secs(120)).run()?;
    if !outcome.success() {
        let log = site.read(&format!("{directory}/log"))?;
        played.problems.push(format!("its script ended with status {}:\n{log}", outcome.code));
    }
    let since = observer.last_look();
    let gone = || Ok(observer.has_no_job(&played.name, since).then_some(()));
    if let Err(error) = wait::until("the end of its jobs", Duration::from_secs(90), gone) {
        played.problems.push(error.to_string());
    }
    let settled = wait::until("the end of its sub-tokens and files", PATIENCE, || {
        thread::sleep(Duration::from_secs(1));
        let living = tokens::living_sub_tokens(site, &played.mytoken)?.len();
        let files = left(site, observer, &played.name)?;
        Ok(((living == 0 || row.later) && files.is_empty()).then_some(()))
    });
    if settled.is_err() {
        let (living, files) =
            (tokens::living_sub_tokens(site, &played.mytoken)?.len(), left(site, observer, &played.name)?);
        played.problems.push(format!("after {} s {living} sub-tokens are alive, files: {files:?}", PATIENCE.as_secs()));
    }
    Ok(played)
}

/// The directories of the row's jobs that are left on the nodes.
fn left(site: &Site, observer: &Observer<'_>, name: &str) -> Result<Vec<String>> {
    let records = records::read(site)?;
    let jobs: BTreeSet<&str> = records.iter().filter(|record| record.tag == name).map(|record| &*record.job).collect();
    let is_of_row = |directory: &String| directory.split_once(':').is_some_and(|(_, job)| jobs.contains(job));
    Ok(observer.directories()?.into_iter().filter(is_of_row).collect())
}

impl Played {
    /// Compares what happened with the row.
    fn compare(&mut self, journals: &Journals, records: &[Record]) {
        let row = self.row;
        let made = self.sub_tokens(journals);
        if made.len() != row.sub_tokens {
            self.problems.push(format!("{} sub-tokens instead of {}", made.len(), row.sub_tokens));
        }
        for token in made.iter().filter(|token| token.revocations != 1) {
            self.problems.push(format!("{} revocations of a sub-token", token.revocations));
        }
        for token in self.of_row(&journals.settled).iter().filter(|token| token.revocations > MOST_REVOCATIONS) {
            self.problems.push(format!("{} revocations of a sub-token in the end", token.revocations));
        }
        let access_tokens: usize = made.iter().map(|token| token.access_tokens).sum();
        if access_tokens > row.access_tokens {
            self.problems.push(format!("{access_tokens} access tokens instead of {}", row.access_tokens));
        }
        let own: Vec<&Record> = records.iter().filter(|record| record.tag == self.name).collect();
        let with_token = own.iter().filter(|record| record.always_has_token(LATE)).count();
        if (own.len(), with_token) != (row.tasks, row.tasks) {
            let seen: Vec<_> = own.iter().map(|record| record.readings()).collect();
            let text = format!("{} tasks, {with_token} with a token, instead of {}: {seen:?}", own.len(), row.tasks);
            self.problems.push(text);
        }
    }

    /// Its sub-tokens, with the requests when they had ended.
    fn sub_tokens<'j>(&self, journals: &'j Journals) -> Vec<&'j SubToken> {
        let journal = if self.row.later { &journals.settled } else { &journals.ended };
        self.of_row(journal)
    }

    fn of_row<'j>(&self, journal: &'j [SubToken]) -> Vec<&'j SubToken> {
        let parent = fingerprint(&self.mytoken);
        journal.iter().filter(|token| token.parent == parent).collect()
    }

    /// What is wrong, if the row is not as it should be, or if it is although its mark says that it is not yet.
    fn verdict(&self) -> Option<String> {
        let shape = self.row.shape;
        match (self.row.not_yet, self.problems.is_empty()) {
            (None, true) | (Some(_), false) => None,
            (None, false) => Some(format!("{shape}: {}", self.problems.join("; "))),
            (Some(reason), true) => Some(format!("{shape}: it works now, so remove the mark \"{reason}\" of its row")),
        }
    }
}

/// The rows with the requests that they caused. Each host that holds a sub-token revokes it, some of them after the row has ended: the last
/// number has those, too.
fn report(played: &[Played], journals: &Journals) -> String {
    let titles = ("sub-tokens", "access tokens", "revocations", "in the end");
    let mut text = format!("{:<52}{:>11}{:>15}{:>13}{:>12}\n", "", titles.0, titles.1, titles.2, titles.3);
    for row in played {
        let made = row.sub_tokens(journals);
        let sum = |count: fn(&SubToken) -> usize| made.iter().map(|token| count(token)).sum::<usize>();
        let (access, revoked) = (sum(|token| token.access_tokens), sum(|token| token.revocations));
        let settled: usize = row.of_row(&journals.settled).iter().map(|token| token.revocations).sum();
        let _ = write!(text, "{:<52}{:>11}{access:>15}{revoked:>13}{settled:>12}", row.row.shape, made.len());
        let _ = writeln!(
            text,
            "{}",
            if row.problems.is_empty() { String::new() } else { format!("  {}", row.problems.join("; ")) }
        );
    }
    text
}
