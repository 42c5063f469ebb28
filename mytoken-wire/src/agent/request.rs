// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests to the agent, version 1.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RenewalCredential;
use crate::members::{Json, number, short_number, text};
use crate::{JobName, Malformed, Secret};

/// A request to the agent. On the wire `{"v":1,"call":"job_start",...}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Request {
    /// A step of a job starts on this node (root; from the Slurm plugin's remote `init_post_opt`).
    JobStart(JobStart),
    /// A job has ended on this node (root; from the plugin's epilog).
    JobEnd(JobEnd),
    /// A submission was made on this host (its user; from mytoken-submit and mytokenctl replace). The agent revokes its sub-token if no
    /// job ever starts with it.
    Submitted(Submitted),
    /// Whether a submission may send a request to a mytoken server (its user; from mytoken-submit).
    Permit(Permit),
    /// The brokers keep the sealed credential of a submission (its user; from mytoken-submit).
    Register(Register),
    /// A login session begins; the agent renews its access token (root; from the PAM module's `open_session`).
    SessionStart(SessionStart),
    /// A login session has ended (root).
    SessionEnd(SessionEnd),
    /// A new access token now (the owner, or root; from mytokenctl renew).
    Renew(Renew),
    /// The sub-token of a running job is revoked now (the owner, or root; from mytokenctl revoke).
    Revoke(Revoke),
    /// A running job gets a new credential (the owner, or root; from mytokenctl replace on each node of the job).
    Replace(Replace),
    /// All nodes of the job have the new credential (the owner, or root).
    Retire(Retire),
    /// The brokers keep a new credential for a job that waits (its user; from mytokenctl replace on the host of the submission).
    ReplacePending(ReplacePending),
    /// The events of the caller's jobs and sessions; root may ask for those of all users.
    Status(StatusQuery),
}

/// A step starts. All fields come from SPANK items, except `sealed` and `handle`: those come from the job's environment and must not be
/// trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct JobStart {
    /// Job id (`S_JOB_ID`).
    pub job: u32,
    /// Step id (`S_JOB_STEPID`); the batch step is 4294967291.
    pub step: u32,
    /// The job's user (`S_JOB_UID`).
    pub uid: u32,
    /// The job's group (`S_JOB_GID`).
    pub gid: u32,
    /// Array job id, if the job is a task of an array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array_job: Option<u32>,
    /// The id as Slurm prints it, of a task of an array or a component of a heterogeneous job. It is shown, and chooses among the
    /// owner's own jobs: the component's comes from the job's environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<JobName>,
    /// `SLURM_MYTOKEN` from the job's environment: ciphertext, at most 16 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// The handle of the submission. A handle without `sealed` shows that the sealed text was lost (`--export-file`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// When the step began to ask, in milliseconds since boot. It tells the runs of a requeued job apart: an end before this time is that of
    /// an earlier run. The plugins of earlier releases do not tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

impl JobStart {
    /// Whether the step brings something for the agent.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.sealed.is_some() || self.handle.is_some()
    }
}

impl TryFrom<Value> for JobStart {
    type Error = Malformed;

    fn try_from(value: Value) -> Result<Self, Malformed> {
        Self::read(&value)
    }
}

impl JobStart {
    pub(crate) fn read<J: Json>(value: &J) -> Result<Self, Malformed> {
        let id = |name| short_number(value, name)?.ok_or(Malformed);
        Ok(Self {
            job: id("job")?,
            step: id("step")?,
            uid: id("uid")?,
            gid: id("gid")?,
            array_job: short_number(value, "array_job")?,
            name: value.member("name").map(JobName::of_value).transpose().map_err(|_| Malformed)?,
            sealed: text(value, "sealed")?,
            handle: text(value, "handle")?,
            at: number(value, "at")?,
        })
    }
}

/// A job has ended on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Job id.
    pub job: u32,
    /// All nodes of the job, from the epilog's environment: slurmctld may not tell them any more when the agent asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// When the epilog ran, in milliseconds since boot, as [`JobStart::at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// A submission was made. The caller is its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The handle of the submission.
    pub handle: String,
    /// Name of the mytoken server in `mytoken.toml` that issued the sub-token.
    pub server: String,
    /// The sub-token.
    pub sub_token: Secret,
    /// Expiry of the sub-token, Unix seconds.
    pub exp: u64,
    /// When it was made, Unix seconds. Both times are of its server's clock.
    pub made: u64,
    /// For how many seconds further submissions may use it, too.
    #[serde(default)]
    pub shared_for: u64,
    /// How many seconds ago it was made: the agent was away then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub age: u64,
    /// Process id of the command that submits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<u32>,
    /// Name of the profile.
    pub profile: String,
    /// It is for this job, which runs already, or for those that it leads (mytokenctl replace). The agent revokes the sub-token after the
    /// job's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u32>,
    /// Agents of the job's nodes have it and revoke it, or it is revoked already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A submission asks for a permit to send one request to a mytoken server, or tells what it has sent beside it. A login tells what it sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Name of the mytoken server in `mytoken.toml`, or its URL.
    pub server: String,
    /// Zero: asks for a permit. Otherwise the number of requests that were sent without one: discovery, a second attempt, or a login.
    #[serde(default)]
    pub sent: u32,
    /// They are those of a login (root). Absent: of a submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginNote>,
}

/// Whose the requests of a login are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginNote {
    /// Anybody's who can reach the prompt. Told before they are sent.
    Unverified {},
    /// The login was accepted. Its requests were told before.
    Accepted {
        /// The account's uid.
        uid: u32,
    },
}

/// The brokers keep the sealed credential of a submission for its jobs, which then bring only the handle. The caller is its user. It is
/// refused if no broker keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The handle of the submission.
    pub handle: String,
    /// The sealed credential.
    pub sealed: String,
}

/// A session begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStart {
    /// 128 random bits in hexadecimal, chosen by the PAM module.
    pub session: String,
    /// The account's uid.
    pub uid: u32,
    /// The account's primary gid.
    pub gid: u32,
    /// The monitor process of sshd. When it has exited, the session is over, even if `close_session` was never called (SSH-09).
    pub pid: u32,
    /// The credential that renews the access token; its members are members of the message. Absent: the session has no mytoken.
    #[serde(flatten)]
    pub renewal: Option<RenewalCredential>,
    /// Expiry of the access token in the session's file, Unix seconds.
    pub exp: u64,
    /// Lifetime of that access token in seconds. The agent plans the renewal by it.
    pub lifetime: u64,
    /// The login has told its requests ([`LoginNote`]). The modules of earlier releases tell none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// The mytoken was made for this session alone, and is revoked at its end. Agents of earlier releases do not know it, and revoke nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoke_at_end: bool,
    /// It lasts while processes of its login run. Agents of earlier releases do not know it, and end it with `pid`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linger: bool,
    /// Its files stay after its end, until the access token expires. Agents of earlier releases do not know it, and remove them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
    /// Where the session's files are. Agents of earlier releases do not know it, and look in the runtime directory.
    #[serde(default, skip_serializing_if = "SessionPlace::is_default")]
    pub place: SessionPlace,
}

/// Where the files of a session are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionPlace {
    /// In `/run/mytoken/sessions/<uid>/<session>`.
    #[default]
    Run,
    /// In `/run/user/<uid>/mytoken/<session>`, the user's own runtime directory.
    User,
}

impl SessionPlace {
    /// Whether it is the place of earlier releases.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::Run
    }
}

/// A session has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// The session's id.
    pub session: String,
}

/// Renews access tokens before their time. The answer is the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Renew {
    /// Only of this job, or of those that it leads. Without it, of the caller's jobs and sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// Of all users (root).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// Revokes the sub-token of a job's submission, and removes its access tokens on this node. The answer is the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// The job, or those that it leads.
    pub job: JobName,
}

/// Gives a running job a new credential. The answer is the status of the job; its file then has an access token of the new credential.
/// If the new one gives none, it is an error, and the old one stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replace {
    /// The job.
    pub job: JobName,
    /// The new sealed credential, with a handle of its own. It was made for the job's owner.
    pub sealed: String,
}

/// The brokers keep a new credential for a job of the caller that waits, and give its nodes access tokens of it. The job itself goes on
/// with the sealed text of its submission, which is in Slurm's own files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacePending {
    /// The job; of an array the array job, of a heterogeneous job the first component. All jobs that it leads get the credential.
    pub job: u32,
    /// The handle of the new credential.
    pub handle: String,
    /// The new sealed credential.
    pub sealed: String,
}

/// Decides about the credential that [`Replace`] has replaced. The answer is the status of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retire {
    /// The job.
    pub job: JobName,
    /// What becomes of the old sub-token.
    pub old: OldCredential,
}

/// What becomes of a sub-token that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldCredential {
    /// This node revokes it.
    Revoke,
    /// Another node revokes it.
    Leave,
}

impl OldCredential {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::Leave => "leave",
        }
    }
}

impl std::str::FromStr for OldCredential {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Self::Revoke, Self::Leave]
            .into_iter()
            .find(|old| old.as_str() == word)
            .ok_or_else(|| "revoke or leave".to_owned())
    }
}

/// Asks for the events of jobs and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatusQuery {
    /// Only of this job, or of those that it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// Of all users (root). Without it, of the caller; root gets a job that it names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}
