// SPDX-License-Identifier: MIT OR Apache-2.0
//! The protocol of a node's agent (`mytokend agent`): one JSON line as request, one as answer, one request per connection.
//!
//! The socket is [`AGENT_SOCKET`](crate::paths::AGENT_SOCKET). The agent identifies its caller by `SO_PEERCRED`: all requests except
//! [`StatusQuery`], [`Renew`], [`Revoke`], [`Replace`], [`Retire`], [`ReplacePending`], [`Submitted`], [`Register`] and [`Permit`] are for
//! root only. A line has at most [`LINE_LIMIT`] bytes. A longer line, or one of another version, is refused.

mod answer;
mod call;
mod client;
mod condition;
mod envelope;
mod error;
mod event;
mod missed;
mod renewal;
mod request;

/// Whether a line is an answer to any request, of any version. For a fuzz target.
#[cfg(fuzzing)]
#[must_use]
pub fn is_answer(line: &[u8]) -> bool {
    fn reads<C: Call>(line: &[u8]) -> bool {
        use call::FromAnswer as _;
        let is_answer = |line: call::AnswerLine<'_>| line.answer().is_none() || C::Answer::from_answer(&line).is_ok();
        call::AnswerLine::parse(line).is_ok_and(is_answer)
    }
    reads::<JobStart>(line)
        || reads::<JobEnd>(line)
        || reads::<StatusQuery>(line)
        || reads::<Permit>(line)
        || reads::<ReplacePending>(line)
}

pub use answer::{
    Answer, BudgetStatus, BudgetUse, FileStatus, HandOver, HandedOver, JobState, JobStatus, Permitted, RefusedReload,
    SessionEnded, SessionStarted, Started, StartedFile, Status, UsedUp,
};
pub use call::{Call, Done};
pub use client::{ask, tell};
pub use condition::Condition;
pub use envelope::{Envelope, LINE_LIMIT, VERSION};
pub use error::AgentError;
pub use event::{Event, EventKind};
pub use missed::{MissedEnd, MissedRecord, MissedStart};
pub use renewal::RenewalCredential;
pub use request::{
    JobEnd, JobStart, LoginNote, OldCredential, Permit, Register, Renew, Replace, ReplacePending, Request, Retire,
    Revoke, SessionEnd, SessionPlace, SessionStart, StatusQuery, Submitted,
};
