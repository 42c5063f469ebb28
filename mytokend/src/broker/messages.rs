// SPDX-License-Identifier: MIT OR Apache-2.0
//! What nodes and brokers say to each other, protocol version 1: JSON in the bodies of POST requests. The node's name is not in them: it is
//! in its certificate. Times are durations, because the clocks of two hosts differ.

use mytoken_wire::{FileName, Secret};
use serde::{Deserialize, Serialize};

use super::identity::NodeName;
use crate::agent::budget::ledger::Purpose;
use crate::agent::budget::report::HostReport;
use crate::agent::credential_service::Admitted;

/// Largest body in bytes, in both directions: a sealed text has at most 16 KiB, an access token and the windows of its sub-token less.
pub const BODY_LIMIT: usize = 128 * 1024;

/// Largest answer about the jobs of a user in bytes: an array of 100,000 tasks has some 10 MB.
pub const JOBS_LIMIT: usize = 64 * 1024 * 1024;

/// A job on this node needs an access token.
pub const TOKEN_PATH: &str = "/v1/token";

/// No job of a submission runs on this node any more.
pub const END_PATH: &str = "/v1/end";

/// The jobs of a user, as slurmctld has told them last.
pub const JOBS_PATH: &str = "/v1/jobs";

/// When the present run of a job on this node began.
pub const START_PATH: &str = "/v1/start";

/// A host wants to send a request to a mytoken server.
pub const PERMIT_PATH: &str = "/v1/permit";

/// A host wants the broker to keep the sealed credential of a submission.
pub const KEEP_PATH: &str = "/v1/keep";

/// A node wants the sealed credential that was kept for a job.
pub const KEPT_PATH: &str = "/v1/kept";

/// A host wants the broker to keep a new credential for a job that waits.
pub const REPLACE_PATH: &str = "/v1/replace";

/// A node wants the sealed credential that has replaced the one under the handle of a job.
pub const REPLACED_PATH: &str = "/v1/replaced";

/// The agent of a submission's host has seen its end.
pub const FORGET_PATH: &str = "/v1/forget";

/// A node wants its first certificate. It shows none in the handshake.
pub const ENROL_PATH: &str = "/v1/enrol";

/// A node wants its next certificate, and shows the current one in the handshake.
pub const RENEW_PATH: &str = "/v1/renew";

/// Body of [`ENROL_PATH`]. It has exactly one of `munge` and `code`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The node that the sender wants to be.
    pub node: NodeName,
    /// Its certificate request: DER in base64.
    pub request: String,
    /// A MUNGE credential that encodes `identity::munge::payload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub munge: Option<String>,
    /// A one-time code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Secret>,
}

/// Body of [`RENEW_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The certificate request for the same key: DER in base64.
    pub request: String,
}

/// Answer to [`EnrolRequest`] and [`RenewRequest`]. A refusal is a [`Refusal`] with status 403, with 429 if the node shall wait, or with 503
/// if the broker cannot decide now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// The certificate: PEM.
    pub certificate: String,
}

/// The body of an answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A sentence.
    pub error: String,
    /// When to ask again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

/// Body of [`TOKEN_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// A job that runs on this node.
    pub job: u32,
    /// Its user.
    pub uid: u32,
    /// The sealed credential that it brought.
    pub sealed: String,
    /// The further file; absent: the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileName>,
    /// How long the node waits for the answer, in milliseconds.
    pub patience: u64,
}

/// Answer to [`TokenRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The token, or why there is none.
    pub outcome: TokenOutcome,
    /// What the sealed text says, if it could be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<Admitted>,
}

/// The outcome of a [`TokenRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenOutcome {
    /// An access token.
    Token {
        /// The token.
        token: Secret,
        /// Seconds until its expiry.
        left: u64,
        /// Lifetime in seconds.
        lifetime: u64,
    },
    /// There is none now.
    Later {
        /// The reason, a sentence for the job's owner.
        reason: String,
        /// When to ask again, in milliseconds. Absent: as after any failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait: Option<u64>,
    },
    /// The job gets none.
    Refused {
        /// The reason, a sentence for the job's owner.
        reason: String,
        /// Whether the job must fail without a credential.
        #[serde(default)]
        required: bool,
    },
}

/// Body of [`KEEP_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepRequest {
    /// The user.
    pub uid: u32,
    /// The handle of the submission. It stands in the sealed text, too.
    pub handle: String,
    /// The sealed credential.
    pub sealed: String,
    /// This broker revokes the sub-token if no job ever starts with it. Others that keep the text leave that to it.
    #[serde(default)]
    pub follows: bool,
}

/// Answer to [`KeepRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepAnswer {
    /// It is kept, on disk too.
    Kept {},
    /// It is not.
    Refused {
        /// The reason, a sentence for the user.
        reason: String,
    },
}

/// Body of [`KEPT_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRequest {
    /// The user of the job.
    pub uid: u32,
    /// The handle that the job has brought.
    pub handle: String,
}

/// Answer to [`KeptRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptAnswer {
    /// The sealed credential.
    Sealed(String),
    /// This broker keeps none.
    Unknown {},
}

/// Body of [`REPLACE_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceRequest {
    /// The user.
    pub uid: u32,
    /// The job that waits; of an array the array job, of a heterogeneous job the first component. It was submitted from the host that sends
    /// this.
    pub job: u32,
    /// The new sealed credential.
    pub sealed: String,
    /// This broker revokes the sub-token if the job never starts. Others that have it leave that to it.
    #[serde(default)]
    pub follows: bool,
}

/// Answer to [`ReplaceRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplaceAnswer {
    /// The job gets access tokens of the new credential. It is kept on disk, too.
    Replaced {},
    /// The broker does not have it.
    Refused {
        /// The reason, a sentence for the user.
        reason: String,
    },
}

/// Body of [`REPLACED_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedRequest {
    /// The user of the job.
    pub uid: u32,
    /// A job that runs on this node.
    pub job: u32,
}

/// Answer to [`ReplacedRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplacedAnswer {
    /// The new sealed credential.
    Sealed(String),
    /// Nothing has replaced its own at this broker.
    Unknown {},
}

/// Body of [`FORGET_PATH`]. It counts if the sender has given the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetRequest {
    /// The user.
    pub uid: u32,
    /// The handle of the submission.
    pub handle: String,
}

/// Answer to [`ForgetRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForgetAnswer {
    /// This broker keeps no text under this handle.
    Forgotten {},
    /// It does: another host has given it, or nodes have asked for tokens with it, and the broker removes it after the revocation.
    Stays {},
}

/// Body of [`END_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRequest {
    /// A job of the submission that ran on this node.
    pub job: u32,
    /// Its user.
    pub uid: u32,
    /// The sealed credential.
    pub sealed: String,
}

/// Answer to [`EndRequest`]. The node keeps the end until it is settled: a broker that starts anew knows of no submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndAnswer {
    /// The sub-token is revoked, or need not be.
    Settled {},
    /// The submission is not over, or its sub-token not revoked yet.
    Waits {
        /// When to tell it again, in milliseconds.
        wait: u64,
    },
}

/// Body of [`JOBS_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsRequest {
    /// The user.
    pub uid: u32,
}

/// Answer to [`JobsRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsAnswer {
    /// Lines of squeue in `submission_end::FORMAT`.
    pub lines: String,
}

/// Body of [`START_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRequest {
    /// A job that runs on this node.
    pub job: u32,
}

/// Answer to [`StartRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartAnswer {
    /// When it began by slurmctld's clock, Unix seconds. Absent: slurmctld does not know the job on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

/// The user of a login's request while nobody is verified: `(uid_t) -1`, which no account has.
pub const NOBODY: u32 = u32::MAX;

/// Body of [`PERMIT_PATH`]. The answer is a [`SitePermit`](crate::agent::budget::site::SitePermit).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitRequest {
    /// URL of the mytoken server.
    pub server: String,
    /// What the request is for.
    pub purpose: Purpose,
    /// Whose it is. [`NOBODY`] for a login that is not verified.
    pub uid: u32,
    /// Not zero for a login that was accepted: so many requests that were told before, for [`NOBODY`], are of this user, and none is new.
    /// Earlier versions write no such number, and take it for one request more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub accepted: u32,
    /// What the host tells beside that. Earlier versions tell nothing, and do not read it.
    #[serde(default, skip_serializing_if = "HostReport::is_empty")]
    pub report: HostReport,
}

impl PermitRequest {
    /// A request without anything else to tell.
    #[must_use]
    pub fn new(server: &str, purpose: Purpose, uid: u32) -> Self {
        Self { server: server.to_owned(), purpose, uid, accepted: 0, report: HostReport::default() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}
