// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answers of the agent, version 1.

use serde::{Deserialize, Serialize};
#[cfg(fuzzing)]
use serde_json::Value;

use super::call::{AnswerLine, FromAnswer};
use super::{Condition, Event, SessionPlace, SessionStart};
use crate::members::{Json, flag, list, text};
use crate::{FileName, JobName, Malformed};

/// An answer. On the wire `{"v":1,"started":{...}}`, `{"v":1,"status":{...}}`, `{"v":1,"done":{}}` or `{"v":1,"error":"sentence"}`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(fuzzing, derive(Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`JobStart`](super::JobStart).
    Started(Started),
    /// To [`StatusQuery`](super::StatusQuery), [`Renew`](super::Renew) and [`Revoke`](super::Revoke).
    Status(Status),
    /// To [`Permit`](super::Permit).
    Permit(Permitted),
    /// To [`ReplacePending`](super::ReplacePending).
    HandedOver(HandedOver),
    /// To [`SessionStart`]. Modules of earlier releases take it as `Done`.
    #[serde(rename = "done")]
    #[cfg_attr(fuzzing, serde(skip_deserializing))]
    SessionStarted(SessionStarted),
    /// To [`SessionEnd`](super::SessionEnd). Modules of earlier releases take it as `Done`.
    #[serde(rename = "done")]
    #[cfg_attr(fuzzing, serde(skip_deserializing))]
    SessionEnded(SessionEnded),
    /// To all other requests.
    Done {},
    /// A refusal, with a sentence that says why.
    Error(String),
}

/// The access token of a job that started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(fuzzing, derive(Deserialize), serde(try_from = "Value"))]
pub struct Started {
    /// `BEARER_TOKEN_FILE` for the job: `/run/mytoken/jobs/<job>/bt_u<uid>`. Also set while the token is pending.
    pub path: String,
    /// Whether the file exists.
    pub state: JobState,
    /// A sentence that says why the file does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the user required a credential. If it is missing, the plugin's `task_init` fails the job.
    pub required: bool,
    /// The further files of the job, beside `path`. The plugins of earlier releases ignore them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<StartedFile>,
    /// Whether the agent heard of the job for the first time. The agents of earlier releases do not say it.
    pub is_first: bool,
}

impl FromAnswer for Started {
    fn from_answer(line: &AnswerLine<'_>) -> Result<Self, Malformed> {
        Self::read(line.answer().ok_or(Malformed)?)
    }
}

impl Started {
    fn read<J: Json>(value: &J) -> Result<Self, Malformed> {
        let state = text(value, "state")?.as_deref().and_then(JobState::parse).ok_or(Malformed)?;
        let files = list(value, "files")?.iter().map(StartedFile::read).collect::<Result<_, _>>()?;
        let (path, reason) = (text(value, "path")?.ok_or(Malformed)?, text(value, "reason")?);
        Ok(Self { path, state, reason, required: flag(value, "required")?, files, is_first: flag(value, "is_first")? })
    }
}

#[cfg(fuzzing)]
impl TryFrom<Value> for Started {
    type Error = Malformed;

    fn try_from(value: Value) -> Result<Self, Malformed> {
        Self::read(&value)
    }
}

/// A further token file of a job that started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StartedFile {
    /// The NAME in `bt_u<uid>-NAME`.
    pub name: FileName,
    /// A sentence that says why the file does not exist. Absent: it does, or will in a moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl StartedFile {
    fn read<J: Json>(value: &J) -> Result<Self, Malformed> {
        let name = text(value, "name")?.as_deref().and_then(FileName::parse).ok_or(Malformed)?;
        Ok(Self { name, reason: text(value, "reason")? })
    }
}

/// Whether a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Permitted {
    /// Milliseconds after which the caller may ask again. Absent: the request may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
    /// Whose share is used up.
    #[serde(default, skip_serializing_if = "UsedUp::is_users")]
    pub used_up: UsedUp,
}

/// Whose share of the requests to a mytoken server is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsedUp {
    /// The user's.
    #[default]
    User,
    /// That of the host.
    Host,
    /// All requests; also what this version does not know.
    #[serde(other)]
    All,
}

impl UsedUp {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    const fn is_users(&self) -> bool {
        matches!(self, Self::User)
    }
}

impl FromAnswer for Permitted {
    fn from_answer(line: &AnswerLine<'_>) -> Result<Self, Malformed> {
        line.deserialized()
    }
}

/// What the agent will do with a session that began: the members of [`SessionStart`] that agents of earlier releases do not know. Those
/// confirm a session without doing what they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionStarted {
    /// It revokes the mytoken at the session's end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoke_at_end: bool,
    /// The session lasts while processes of its login run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linger: bool,
    /// The session's files stay after its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
    /// Where it looks for the session's files.
    #[serde(default, skip_serializing_if = "SessionPlace::is_default")]
    pub place: SessionPlace,
}

impl SessionStarted {
    /// The answer of an agent that does all that it is asked for.
    #[must_use]
    pub fn of(start: &SessionStart) -> Self {
        let SessionStart { revoke_at_end, linger, retain, place, .. } = *start;
        Self { revoke_at_end, linger, retain, place }
    }
}

impl FromAnswer for SessionStarted {
    fn from_answer(line: &AnswerLine<'_>) -> Result<Self, Malformed> {
        line.deserialized()
    }
}

/// What the agent does with a session whose end it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionEnded {
    /// Whether the session's files stay: it lasts, or they are retained. The agent removes them later. False also for a session that it does
    /// not know. Agents of earlier releases do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<bool>,
}

impl FromAnswer for SessionEnded {
    fn from_answer(line: &AnswerLine<'_>) -> Result<Self, Malformed> {
        line.deserialized()
    }
}

/// What became of a credential that the brokers were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// Whether a broker has it.
    pub outcome: HandOver,
    /// Why not every broker has it. A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl FromAnswer for HandedOver {
    fn from_answer(line: &AnswerLine<'_>) -> Result<Self, Malformed> {
        line.deserialized()
    }
}

/// Whether a broker has a credential that the brokers were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandOver {
    /// One has it, on disk too. It revokes the sub-token when nobody needs it any more.
    Held,
    /// None has it.
    Refused,
    /// Perhaps one that gave no answer.
    Unknown,
}

/// State of a job's access token on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum JobState {
    /// The file holds a valid access token.
    Ready,
    /// The agent is still trying; the file will appear at the path.
    Pending,
    /// There will be no access token.
    Failed,
}

impl JobState {
    /// The word on the wire.
    const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Ready, Self::Pending, Self::Failed].into_iter().find(|state| state.word() == word)
    }
}

impl From<JobState> for &'static str {
    fn from(state: JobState) -> Self {
        state.word()
    }
}

impl TryFrom<String> for JobState {
    type Error = Malformed;

    fn try_from(word: String) -> Result<Self, Malformed> {
        Self::parse(&word).ok_or(Malformed)
    }
}

/// The agent's records of the caller's jobs and sessions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Host or node name of the agent.
    pub node: String,
    /// Jobs and sessions, oldest first. If there are many, only the last events of each.
    pub jobs: Vec<JobStatus>,
    /// How many older jobs and sessions were left out, because the length of an answer is limited.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// Version of the agent. The first agents did not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Ids of the key pairs whose credentials the agent opens: the pair that was on disk when it read its configuration, then those that
    /// this one replaced. Empty where it serves sessions only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The budget of requests to each mytoken server that has a limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetStatus>,
    /// The last reload, if it was refused. Only root is told: the reason can name files that others must not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_reload: Option<RefusedReload>,
}

/// A reload that was refused: the agent goes on with the configuration and the keys from before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReload {
    /// When, Unix seconds.
    pub time: u64,
    /// Why, a sentence.
    pub reason: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What this host may still send to a mytoken server, and who sent what in the last period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// URL of the server.
    pub server: String,
    /// Requests that this host may send in a period.
    pub requests: u32,
    /// Seconds of the period.
    pub period: u64,
    /// Whether `left` and `uses` are those of the caller, who is not root.
    #[serde(default)]
    pub own: bool,
    /// How many of them are left. If `own`, how many submissions the caller may send now.
    pub left: u32,
    /// What was sent in the last period.
    pub uses: Vec<BudgetUse>,
    /// How many further entries were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

/// The requests of one kind and user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetUse {
    /// `login`, `token` (of a running job or session), `revocation` or `submission`.
    pub kind: String,
    /// Absent: it was for nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Their number.
    pub requests: u32,
}

impl FromAnswer for Status {
    fn from_answer(line: &AnswerLine<'_>) -> Result<Self, Malformed> {
        line.deserialized()
    }
}

/// One job (or session) as `mytokenctl status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Job id; 0 for a login session.
    pub job: u32,
    /// The owner's uid.
    pub uid: u32,
    /// Profile of the submission, `session` for a login session.
    pub profile: String,
    /// State of the credential.
    pub state: JobState,
    /// The job's id as Slurm prints it, if that is not the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<JobName>,
    /// Id of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whether it runs on this node.
    #[serde(default)]
    pub running: bool,
    /// What is the matter with the access token. The first agents did not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Since when, Unix seconds: of an outage, a refusal, a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// When the credential gives access tokens again, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// A sentence that says why there is no access token, or why it is not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Path of the file with the access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Expiry of the access token in the file, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_until: Option<u64>,
    /// Expiry of the sub-token or mytoken in Unix seconds; for a session without renewal, expiry of its access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The further files of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileStatus>,
    /// Events, oldest first.
    pub events: Vec<Event>,
}

/// A further token file of a job, as `mytokenctl status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// The NAME in `bt_u<uid>-NAME`.
    pub name: FileName,
    /// Path of the file.
    pub file: String,
    /// What is the matter with its access token.
    #[serde(rename = "state")]
    pub condition: Condition,
    /// Since when there is an outage, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// When it gets access tokens again, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// A sentence that says why there is no access token, or why it is not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Expiry of the access token in the file, Unix seconds.
    #[serde(rename = "access_token_until", default, skip_serializing_if = "Option::is_none")]
    pub token_until: Option<u64>,
}
