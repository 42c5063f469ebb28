// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages of the agent protocol, version 1.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::RenewalCredential;

/// Version of the protocol. A step of a job can outlive an upgrade of the agent by weeks, so it is in every message.
pub const VERSION: u32 = 1;

/// Longest line in bytes, newline included.
pub const LINE_LIMIT: usize = 64 * 1024;

/// A message with its version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// [`VERSION`] of the sender.
    pub v: u32,
    /// The message.
    #[serde(flatten)]
    pub message: T,
}

impl<T> Envelope<T> {
    /// Wraps `message` in an envelope of this version.
    pub fn of(message: T) -> Self {
        Self { v: VERSION, message }
    }
}

/// What can be asked. On the wire `{"v":1,"call":"job_start",...}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Request {
    /// A step of a job starts on this node (root; from the Slurm plugin's remote `init_post_opt`).
    JobStart(JobStart),
    /// A job has ended on this node (root; from the plugin's epilog).
    JobEnd(JobEnd),
    /// A login session begins; keep its access token fresh (root; from the PAM module's `open_session`).
    SessionStart(SessionStart),
    /// A login session has ended (root).
    SessionEnd(SessionEnd),
    /// What happened to the caller's jobs and sessions (root sees everyone's).
    Status {
        /// Only this job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<u32>,
    },
}

/// A step starts. Every field comes from SPANK items, never from the environment, except `sealed` and `handle`, which are hostile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStart {
    /// Job id (`S_JOB_ID`).
    pub job: u32,
    /// Step id (`S_JOB_STEPID`); the batch step is 4294967291.
    pub step: u32,
    /// The job's user (`S_JOB_UID`).
    pub uid: u32,
    /// The job's group (`S_JOB_GID`).
    pub gid: u32,
    /// Array job id, when the job is a task of an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_job: Option<u32>,
    /// `SLURM_MYTOKEN` as found in the job's environment: ciphertext, at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// The handle of the submission; alone it says that the sealed text was lost (`--export-file`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
}

/// A job has ended on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Job id.
    pub job: u32,
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
    /// The monitor process of sshd: when it is gone the session is over, also when `close_session` never came (SSH-09).
    pub pid: u32,
    /// What renews the access token; its members stand in the message itself. Absent: the login left no mytoken.
    #[serde(flatten)]
    pub renewal: Option<RenewalCredential>,
    /// Expiry of the access token in the session's file, Unix seconds.
    pub exp: u64,
    /// Lifetime of that access token in seconds, for the time of renewal.
    pub lifetime: u64,
}

/// A session has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// The session's id.
    pub session: String,
}

/// The answer: `{"v":1,"ok":...}` or `{"v":1,"error":"sentence"}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::JobStart`].
    Started(Started),
    /// To [`Request::Status`].
    Status(Status),
    /// To everything else.
    Done {},
    /// Refused, in a sentence.
    Error(String),
}

/// An answer as it stands in a line. Enums within flattened structures make serde buffer everything twice over in generic code,
/// which was a tenth of the Slurm plugin; this reads the same lines.
#[derive(Deserialize)]
struct AnswerLine<S> {
    v: u32,
    started: Option<Started>,
    status: Option<S>,
    done: Option<Nothing>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Nothing {}

/// Reads the line that carries an answer, of whatever version.
pub(super) fn parse_answer(line: &[u8]) -> Result<Envelope<Answer>, serde_json::Error> {
    parse(line, |status| Some(Answer::Status(status)))
}

/// The same without the code that reads a status. A status is no answer here.
pub(super) fn parse_answer_but_status(line: &[u8]) -> Result<Envelope<Answer>, serde_json::Error> {
    parse(line, |_: IgnoredAny| None)
}

fn parse<S: DeserializeOwned>(
    line: &[u8],
    read_status: impl FnOnce(S) -> Option<Answer>,
) -> Result<Envelope<Answer>, serde_json::Error> {
    let line: AnswerLine<S> = serde_json::from_slice(line)?;
    let message = match line {
        AnswerLine { error: Some(reason), .. } => Some(Answer::Error(reason)),
        AnswerLine { started: Some(started), .. } => Some(Answer::Started(started)),
        AnswerLine { status: Some(status), .. } => read_status(status),
        AnswerLine { done: Some(Nothing {}), .. } => Some(Answer::Done {}),
        _ => None,
    };
    let message = message.ok_or_else(|| serde::de::Error::custom("no answer in it"))?;
    Ok(Envelope { v: line.v, message })
}

/// Where a job's access token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// `BEARER_TOKEN_FILE` for the job: `/run/mytoken/jobs/<job>/bt_u<uid>`. Given also while pending.
    pub path: String,
    /// Whether the file is there.
    pub state: JobState,
    /// A sentence when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The user demanded a credential: without one the plugin's `task_init` fails the job.
    #[serde(default)]
    pub required: bool,
}

/// State of a job's access token on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The file holds a valid access token.
    Ready,
    /// The agent is still trying; the file will appear at the path.
    Pending,
    /// There will be none: `reason` says why.
    Failed,
}

/// What the agent knows of the caller's jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Host or node name of the agent.
    pub node: String,
    /// Jobs and sessions, oldest first; when they are many, each with its last events only.
    pub jobs: Vec<JobStatus>,
    /// So many older ones were left out, because an answer is one line.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One job (or session) as `mytokenctl status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Job id; 0 for a login session.
    pub job: u32,
    /// Owner.
    pub uid: u32,
    /// Profile of the submission, `session` for a login session.
    pub profile: String,
    /// State of the credential.
    pub state: JobState,
    /// Expiry of the sub-token or mytoken; where nothing renews a session, of its access token. Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

/// Something that happened to a credential: one line of `mytokenctl status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unix seconds; of a repeated one, the last time.
    pub time: u64,
    /// One word: `started`, `renewed`, `refused`, `retry`, `removed`, `revoked`, ...
    pub what: String,
    /// A sentence without secrets.
    pub text: String,
    /// How many times it happened, with nothing else in between.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_once(times: &u32) -> bool {
    *times == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_look_like_the_documentation() {
        let end = Envelope::of(Request::JobEnd(JobEnd { job: 4711 }));
        assert_eq!(serde_json::to_string(&end).unwrap(), r#"{"v":1,"call":"job_end","job":4711}"#);
        let done = Envelope::of(Answer::Error("no".into()));
        assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"v":1,"error":"no"}"#);
        let parsed: Envelope<Answer> = serde_json::from_str(r#"{"v":1,"done":{}}"#).unwrap();
        assert!(matches!(parsed.message, Answer::Done {}));
    }

    #[test]
    fn every_answer_is_read_as_it_was_written() {
        let started =
            Started { path: "/x".into(), state: JobState::Failed, reason: Some("why".into()), required: true };
        let status = Status { node: "n1".into(), ..Status::default() };
        for answer in [Answer::Started(started), Answer::Status(status), Answer::Done {}, Answer::Error("no".into())] {
            let line = serde_json::to_vec(&Envelope::of(answer.clone())).unwrap();
            let read = parse_answer(&line).unwrap();
            assert_eq!((read.v, format!("{:?}", read.message)), (VERSION, format!("{answer:?}")));
            let read = parse_answer_but_status(&line).ok().map(|read| format!("{:?}", read.message));
            let expected = (!matches!(answer, Answer::Status(_))).then(|| format!("{answer:?}"));
            assert_eq!(read, expected);
        }
        assert!(parse_answer(br#"{"v":1}"#).is_err() && parse_answer(br#"{"done":{}}"#).is_err());
    }
}
