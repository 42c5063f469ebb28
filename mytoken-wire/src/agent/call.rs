// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer that belongs to each request, for callers.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::envelope::VERSION;
use super::{
    HandedOver, JobEnd, JobStart, Permit, Permitted, Register, Renew, Replace, ReplacePending, Retire, Revoke,
    SessionEnd, SessionEnded, SessionStart, SessionStarted, Started, Status, StatusQuery, Submitted,
};
use crate::Malformed;
use crate::members::{self, Document, Json, short_number, text};

/// A request and its answer. Each caller links the code for its own requests only, which keeps the Slurm plugin small.
pub trait Call: Serialize {
    /// The value of `call` in the line.
    const NAME: &'static str;
    /// The answer of an agent that accepts the request.
    type Answer: FromAnswer;
}

/// The content of an answer.
pub trait FromAnswer: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// When the answer belongs to another request, or has another form.
    fn from_answer(line: &AnswerLine<'_>) -> Result<Self, Malformed>;
}

/// The answer to a request that is only confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Done {}

impl FromAnswer for Done {
    fn from_answer(line: &AnswerLine<'_>) -> Result<Self, Malformed> {
        if matches!(line.answer(), Some(Document::Object(_))) { Ok(Self {}) } else { Err(Malformed) }
    }
}

impl Call for JobStart {
    const NAME: &'static str = "job_start";
    type Answer = Started;
}

impl Call for JobEnd {
    const NAME: &'static str = "job_end";
    type Answer = Done;
}

impl Call for Submitted {
    const NAME: &'static str = "submitted";
    type Answer = Done;
}

impl Call for Permit {
    const NAME: &'static str = "permit";
    type Answer = Permitted;
}

impl Call for Register {
    const NAME: &'static str = "register";
    type Answer = Done;
}

impl Call for SessionStart {
    const NAME: &'static str = "session_start";
    type Answer = SessionStarted;
}

impl Call for SessionEnd {
    const NAME: &'static str = "session_end";
    type Answer = SessionEnded;
}

impl Call for Renew {
    const NAME: &'static str = "renew";
    type Answer = Status;
}

impl Call for Revoke {
    const NAME: &'static str = "revoke";
    type Answer = Status;
}

impl Call for Replace {
    const NAME: &'static str = "replace";
    type Answer = Status;
}

impl Call for Retire {
    const NAME: &'static str = "retire";
    type Answer = Status;
}

impl Call for ReplacePending {
    const NAME: &'static str = "replace_pending";
    type Answer = HandedOver;
}

impl Call for StatusQuery {
    const NAME: &'static str = "status";
    type Answer = Status;
}

/// The line of a request, with its newline. The members around it are written here:
/// with serde's `flatten` each request would bring two writers.
pub(super) fn request_line<C: Call>(request: &C) -> Option<Zeroizing<Vec<u8>>> {
    line_of(C::NAME, &Zeroizing::new(serde_json::to_vec(request).ok()?))
}

fn line_of(call: &str, request: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let members = request.strip_prefix(b"{")?;
    let comma = if members == b"}" { "" } else { "," };
    let head = format!("{{\"v\":{VERSION},\"call\":\"{call}\"{comma}");
    Some(Zeroizing::new([head.as_bytes(), members, b"\n"].concat()))
}

/// The line of an answer.
pub struct AnswerLine<'l> {
    /// Version of the protocol.
    pub v: u32,
    /// Why the agent refused.
    pub error: Option<String>,
    line: &'l [u8],
    document: Document<'l>,
}

/// The kinds of answers.
const KINDS: [&str; 5] = ["started", "status", "permit", "handed_over", "done"];

impl<'l> AnswerLine<'l> {
    pub(super) fn parse(line: &'l [u8]) -> Result<Self, Malformed> {
        let document = members::parse(line)?;
        Ok(Self {
            v: short_number(&document, "v")?.ok_or(Malformed)?,
            error: text(&document, "error")?,
            line,
            document,
        })
    }

    /// The answer; its key is its kind.
    pub(super) fn answer(&self) -> Option<&Document<'l>> {
        answer_of(&self.document)
    }

    /// The answer, read by its derived reader. It is not for the Slurm plugin.
    pub(super) fn deserialized<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        let line: Value = serde_json::from_slice(self.line).map_err(|_| Malformed)?;
        T::deserialize(answer_of(&line).ok_or(Malformed)?).map_err(|_| Malformed)
    }
}

fn answer_of<J: Json>(line: &J) -> Option<&J> {
    KINDS.iter().find_map(|kind| line.member(kind))
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Envelope, HandOver, JobState, LoginNote, RefusedReload, Request, StartedFile, UsedUp};
    use super::*;
    use crate::FileName;

    fn line<C: Call>(call: &C) -> String {
        String::from_utf8(request_line(call).unwrap().to_vec()).unwrap().strip_suffix('\n').unwrap().to_owned()
    }

    fn session() -> SessionStart {
        serde_json::from_str(r#"{"session":"0","uid":1,"gid":1,"pid":1,"exp":1,"lifetime":1}"#).unwrap()
    }

    fn submitted() -> Submitted {
        let text = r#"{"handle":"0","server":"main","sub_token":"a.b.c","exp":2,"made":1,"profile":"default"}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_agent_reads_what_its_callers_write() {
        let end = |nodes: Option<&str>| JobEnd { job: 4711, nodes: nodes.map(str::to_owned), at: None };
        let start: JobStart = serde_json::from_str(r#"{"job":1,"step":0,"uid":1,"gid":1}"#).unwrap();
        let task = StatusQuery { job: "8_3".parse().ok(), all: true };
        let renew = Renew { job: "8+1".parse().ok(), all: false };
        let revoke = Revoke { job: "8".parse().unwrap() };
        let replace = Replace { job: revoke.job, sealed: "mt1.x".into() };
        let register = Register { handle: "0".into(), sealed: "mt1.x".into() };
        let retire = Retire { job: revoke.job, old: "leave".parse().unwrap() };
        let pending = ReplacePending { job: 8, handle: "0".into(), sealed: "mt1.x".into() };
        let permit = |login| Permit { server: "main".into(), sent: 2, login };
        let accepted = Some(LoginNote::Accepted { uid: 5 });
        let requests = [
            (line(&end(None)), Request::JobEnd(end(None))),
            (line(&end(Some("n[1-2]"))), Request::JobEnd(end(Some("n[1-2]")))),
            (line(&start), Request::JobStart(start)),
            (line(&submitted()), Request::Submitted(submitted())),
            (line(&permit(None)), Request::Permit(permit(None))),
            (line(&permit(Some(LoginNote::Unverified {}))), Request::Permit(permit(Some(LoginNote::Unverified {})))),
            (line(&permit(accepted)), Request::Permit(permit(accepted))),
            (line(&register), Request::Register(register)),
            (line(&session()), Request::SessionStart(session())),
            (line(&SessionEnd { session: "0".into() }), Request::SessionEnd(SessionEnd { session: "0".into() })),
            (line(&task), Request::Status(task)),
            (line(&renew), Request::Renew(renew)),
            (line(&revoke), Request::Revoke(revoke)),
            (line(&replace), Request::Replace(replace)),
            (line(&retire), Request::Retire(retire)),
            (line(&pending), Request::ReplacePending(pending)),
            (line(&StatusQuery::default()), Request::Status(StatusQuery::default())),
        ];
        assert_eq!(requests[0].0, r#"{"v":1,"call":"job_end","job":4711}"#);
        assert_eq!(line(&permit(None)), r#"{"v":1,"call":"permit","server":"main","sent":2}"#, "as earlier releases");
        for (line, request) in requests {
            let read: Envelope<Request> = serde_json::from_str(&line).unwrap();
            assert_eq!((read.v, format!("{:?}", read.message)), (VERSION, format!("{request:?}")));
        }
    }

    #[test]
    fn callers_read_what_the_agent_writes() {
        fn parse<C: Call>(line: &str) -> Option<C::Answer> {
            let line = AnswerLine::parse(line.as_bytes()).unwrap();
            line.answer().map(|_| C::Answer::from_answer(&line).unwrap())
        }
        fn read<C: Call>(answer: Answer) -> Option<C::Answer> {
            parse::<C>(&serde_json::to_string(&Envelope::of(answer)).unwrap())
        }
        let files = vec![StartedFile { name: FileName::parse("compute").unwrap(), reason: None }];
        let started = Started {
            path: "/x".into(),
            state: JobState::Failed,
            reason: Some("why".into()),
            required: true,
            files,
            is_first: true,
        };
        assert_eq!(read::<JobStart>(Answer::Started(started.clone())), Some(started));
        // The agent of an earlier release knows one file, and the plugin of an earlier release reads one file.
        let of_older_agent = parse::<JobStart>(r#"{"v":1,"started":{"path":"/x","state":"ready"}}"#);
        assert!(of_older_agent.is_some_and(|started| started.files.is_empty() && !started.is_first));
        let of_older_agent = parse::<StatusQuery>(r#"{"v":1,"status":{"node":"n1","jobs":[]}}"#);
        assert_eq!(of_older_agent, Some(Status { node: "n1".into(), ..Status::default() }));
        let (version, keys) = (Some("1.2.3".into()), vec!["0a1b2c3d".into()]);
        let refused_reload = Some(RefusedReload { time: 1_800_000_000, reason: "the key is gone".into() });
        let status = Status { node: "n1".into(), version, keys, refused_reload, ..Status::default() };
        assert_eq!(read::<StatusQuery>(Answer::Status(status.clone())), Some(status));
        assert_eq!(read::<JobEnd>(Answer::Done {}), Some(Done {}));
        let ended = SessionEnded { lasts: Some(true) };
        assert_eq!(read::<SessionEnd>(Answer::SessionEnded(ended)), Some(ended));
        // The module of an earlier release reads it as a confirmation, and the agent of one tells nothing more.
        assert_eq!(read::<JobEnd>(Answer::SessionEnded(ended)), Some(Done {}));
        assert_eq!(read::<SessionEnd>(Answer::Done {}), Some(SessionEnded::default()));
        let asked = SessionStart { linger: true, revoke_at_end: true, ..session() };
        let started = SessionStarted::of(&asked);
        assert!(started.linger && started.revoke_at_end && !started.retain, "{started:?}");
        assert_eq!(read::<SessionStart>(Answer::SessionStarted(started)), Some(started));
        assert_eq!(read::<JobEnd>(Answer::SessionStarted(started)), Some(Done {}));
        assert_eq!(read::<SessionStart>(Answer::Done {}), Some(SessionStarted::default()));
        for used_up in [UsedUp::User, UsedUp::Host, UsedUp::All] {
            let permitted = Permitted { wait: Some(1200), used_up };
            assert_eq!(read::<Permit>(Answer::Permit(permitted)), Some(permitted));
        }
        let of_older_agent = parse::<Permit>(r#"{"v":1,"permit":{"wait":5}}"#);
        assert_eq!(of_older_agent, Some(Permitted { wait: Some(5), used_up: UsedUp::User }));
        let of_later_agent = parse::<Permit>(r#"{"v":1,"permit":{"wait":5,"used_up":"news"}}"#);
        assert_eq!(of_later_agent, Some(Permitted { wait: Some(5), used_up: UsedUp::All }));
        assert_eq!(read::<Permit>(Answer::Permit(Permitted::default())), Some(Permitted::default()));
        for outcome in [HandOver::Held, HandOver::Refused, HandOver::Unknown] {
            let handed = HandedOver { outcome, reason: (outcome != HandOver::Held).then(|| "why".into()) };
            assert_eq!(read::<ReplacePending>(Answer::HandedOver(handed.clone())), Some(handed));
        }
        let refused = serde_json::to_vec(&Envelope::of(Answer::Error("no".into()))).unwrap();
        let refused = AnswerLine::parse(&refused).unwrap();
        assert_eq!((refused.v, refused.error.as_deref(), refused.answer().is_none()), (VERSION, Some("no"), true));
        assert!(AnswerLine::parse(br#"{"done":{}}"#).is_err(), "no version");
    }
}
