// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submissions that were made on this host. If no job ever starts with one (it was refused, cancelled in the queue, or lost its
//! credential), no node knows its sub-token, and the agent of this host revokes it. It also does so some time after jobs that have run,
//! unless brokers do: their nodes may have been unable to.

mod room;

use std::time::Duration;

use mytoken::Deadline;
use mytoken::private_files::Owner;
use mytoken::token::unverified_claims;
use mytoken_wire::agent::{Answer, EventKind, Register, Submitted};
use mytoken_wire::{Handle, ProfileName, sealed};

use super::lease::{Lease, LeaseCredential, LeaseKey, Phase, Submitter};
use super::lease_table::LeaseTable;
use super::{Agent, millis};
use crate::jobs::Progress;
use crate::jobs::submission_time::{LONGEST_SUBMISSION, submission_time};
use crate::log::Level;

/// Longest sub-token in bytes.
const TOKEN_LIMIT: usize = 8 * 1024;

/// Time limit of the brokers for a submission, which waits for them.
const REGISTER: Duration = Duration::from_secs(4);

/// When slurmctld is asked for the first time: sbatch has submitted the job by then.
const FIRST_QUESTION: Duration = Duration::from_secs(30);

impl Agent {
    /// The credential of a job that starts here cannot be opened, so this node cannot revoke its sub-token. If the submission was made on
    /// this host, it is revoked here after the last of its jobs, when other nodes have had the time to do so.
    pub(super) fn doubt_submission(&self, table: &mut LeaseTable, uid: u32, handle: &str) {
        let key = LeaseKey::Submission { uid, handle: handle.to_owned() };
        if let Some(lease) = table.get_mut(&key).filter(|lease| lease.is_followed_here()) {
            lease.progress = Some(Progress::Unsure);
            self.lease_changed(table, &key);
        }
    }

    /// Gives the sealed credential of a submission of the user `uid`, who is the caller, to the brokers.
    pub(super) fn register(&self, register: &Register, uid: u32) -> Answer {
        if Handle::parse(&register.handle).is_none() {
            return Answer::Error("a submission's handle is 32 hexadecimal digits".to_owned());
        }
        if let Err(fault) = sealed::parse(&register.sealed) {
            return Answer::Error(format!("the sealed credential is malformed: {fault}"));
        }
        match self.configured().service.register(uid, register, Deadline::after(REGISTER)) {
            Ok(problems) => {
                for problem in problems {
                    let text = format!("a credential of user {uid} is not kept by every broker: {problem}");
                    self.log.line_of(uid, Level::Warning, &text);
                }
                Answer::Done {}
            }
            Err(reason) => Answer::Error(reason),
        }
    }

    /// Begins to follow a submission of the user `uid`, who is the caller.
    pub(super) fn submitted(&self, submitted: Submitted, uid: u32) -> Answer {
        let Submitted { handle, server, sub_token, exp, made, shared_for, age, command, profile, job, settled } =
            submitted;
        if Handle::parse(&handle).is_none() {
            return Answer::Error("a submission's handle is 32 hexadecimal digits".to_owned());
        }
        let is_mytoken = sub_token.expose().len() <= TOKEN_LIMIT && unverified_claims(&sub_token).is_some();
        if !is_mytoken || ProfileName::parse(&profile).is_none() {
            return Answer::Error("a submission names its sub-token and its profile".to_owned());
        }
        if !self.configured().service.knows_server(&server) {
            return Answer::Error("mytoken.toml of this host does not name the server of the submission".to_owned());
        }
        // Both are of the server's clock, which this host may not know. Their difference is elapsed time.
        let is_valid = |left: &u64| *left > age && shared_for.max(age) <= LONGEST_SUBMISSION;
        let Some(left) = exp.checked_sub(made).filter(is_valid) else {
            return Answer::Error("the sub-token of a submission is valid, and shared for a short time".to_owned());
        };
        let now = self.now();
        // The jobs may have been submitted while this agent was away.
        let made = (now / 1000).saturating_sub(age);
        let key = LeaseKey::Submission { uid, handle: handle.clone() };
        let started = command.filter(|_| job.is_none()).and_then(|pid| Some((pid, self.processes.start_time(pid)?)));
        let mut table = self.leases();
        // Where brokers revoke the sub-token of a job that runs already, they do so only when its nodes have taken it.
        let running = if settled { Progress::Started } else { Progress::Unsure };
        if let Some(known) = table.get_mut(&key) {
            if job.is_some() && known.is_followed_here() {
                known.progress = Some(running);
                self.lease_changed(&mut table, &key);
            }
            return Answer::Done {};
        }
        if let Err(sentence) = room::find(table.leases(), uid, room::cost(sub_token.len())) {
            return Answer::Error(sentence);
        }
        let mut lease = Lease::new(key.clone(), Owner { uid, gid: uid }, &profile, now);
        lease.handle = handle;
        lease.until = Some(made.saturating_add(left));
        // The job's own time of submission was another one.
        lease.submitted = Some(if job.is_some() { (0, 0) } else { submission_time(made, shared_for) });
        lease.leaders.extend(job);
        lease.made_here = true;
        lease.progress = Some(if job.is_some() { running } else { Progress::Nothing });
        lease.submitter = started.map(|process| Submitter { process, ended: None });
        lease.credential = Some(LeaseCredential::SubToken { server, sub_token });
        lease.phase = Phase::Ended { due: now.saturating_add(millis(FIRST_QUESTION)), tries: 0, revoke: None };
        let text = if job.is_some() { "made on this host for a job that runs" } else { "submitted on this host" };
        self.record(&mut lease, Level::Info, EventKind::Opened, text);
        table.insert(lease);
        self.lease_changed(&mut table, &key);
        for key in table.surplus() {
            self.delete(&mut table, &key);
        }
        Answer::Done {}
    }
}
