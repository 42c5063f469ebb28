// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a running broker tells root: one JSON answer on a socket for each connection. It has no token, and of users only how many requests
//! they have used.

mod counts;

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mytoken_wire::agent::BudgetStatus;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::Broker;
use super::entrance::Entrance;
use super::submission::End;
use crate::agent::budget::Budgets;
pub(super) use counts::Reason;
pub use counts::{Connected, Counts};

/// Name of the socket in the runtime directory.
pub const SOCKET: &str = "broker.sock";

/// Time limit of each write.
const ANSWER: Duration = Duration::from_secs(5);

/// Pause after a failed accept: the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(200);

/// What `mytokenctl broker status --json` prints. Names never change their meaning. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Name of the cluster.
    pub cluster: String,
    /// Version of the program. The first brokers did not tell it.
    #[serde(default)]
    pub version: Option<String>,
    /// Ids of the cluster's keys whose credentials the broker opens: the key that was on disk when it read its configuration, the further
    /// ones, then those that were replaced since it started.
    #[serde(default)]
    pub keys: Vec<String>,
    /// The nodes.
    pub nodes: Nodes,
    /// The submissions in memory.
    pub submissions: Submissions,
    /// The last question to slurmctld.
    pub slurmctld: Slurmctld,
    /// Requests to mytoken servers since the start.
    pub requests: RequestCounts,
    /// Mytoken servers whose last requests have failed.
    #[serde(default)]
    pub failing: Vec<FailingServer>,
    /// Answers to nodes since the start.
    #[serde(default)]
    pub answers: AnswerCounts,
    /// Requests since the start of somebody who has no right to what he asks for.
    #[serde(default)]
    pub unauthorized: UnauthorizedCounts,
    /// The configuration that is in use.
    #[serde(default)]
    pub configuration: ConfigurationState,
    /// What is left at each mytoken server with a limit.
    pub budgets: Vec<BudgetStatus>,
    /// When certificates end.
    pub certificates: CertificateEnds,
    /// The sealed credentials that are kept for jobs.
    #[serde(default)]
    pub escrow: EscrowStatus,
}

/// The nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// Nodes that are enrolled.
    pub enrolled: usize,
    /// Nodes that are kept out.
    pub blocked: usize,
    /// Connections with a node's certificate. A node has one.
    pub connected: usize,
}

/// The submissions in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submissions {
    /// Jobs of them run, or may still come.
    pub open: usize,
    /// They are over, and their sub-tokens are to be revoked.
    pub to_revoke: usize,
    /// They are over, and remembered for an hour.
    pub settled: usize,
}

/// The last question to slurmctld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slurmctld {
    /// Seconds since it was asked. `None`: never.
    pub asked_ago: Option<u64>,
    /// Why there was no answer.
    pub trouble: Option<String>,
}

/// Requests to mytoken servers since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Those that were granted.
    pub granted: u64,
    /// Those that failed and are tried again.
    pub failed: u64,
    /// Those that were refused for good.
    pub refused: u64,
    /// Those that were not sent, because the budget had no permit.
    pub unsent: u64,
}

/// A mytoken server whose last requests have failed. One with a single user's provider that is away looks the same: see the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingServer {
    /// Its URL.
    pub server: String,
    /// How many requests have failed since the last one that was granted. They are tried again.
    pub failed: u64,
    /// Seconds since the last of them.
    pub ago: u64,
    /// Why it failed.
    pub reason: String,
}

/// Answers to nodes since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerCounts {
    /// Access tokens.
    pub tokens: u64,
    /// There was no token yet, and the node asks again.
    pub later: u64,
    /// A job was refused: the credential cannot be used, or slurmctld does not show the job on the node.
    pub refused: u64,
    /// Nodes that got a certificate, also a next one.
    pub enrolled: u64,
    /// Enrolments that were refused, also for the number of attempts.
    pub enrolments_refused: u64,
}

/// Requests since the start of somebody who has no right to what he asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnauthorizedCounts {
    /// A node asked for the token of a job that slurmctld does not show there. These are among [`AnswerCounts::later`], if the node has
    /// waited for the answer.
    pub other_node: u64,
    /// The connection has no certificate.
    pub no_certificate: u64,
    /// Connections with a certificate that is not of a node, has expired, or does not belong to the key of the other end.
    pub certificate: u64,
    /// The node was removed or blocked, or is enrolled with another key.
    pub not_enrolled: u64,
    /// The connection comes from an address that is not one of the node.
    pub other_address: u64,
}

/// The configuration that is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationState {
    /// When it was read, Unix seconds.
    pub read: u64,
    /// Why a later one cannot be used.
    pub trouble: Option<String>,
    /// When the last reload was refused for this reason, Unix seconds.
    #[serde(default)]
    pub refused: Option<u64>,
}

/// When certificates end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateEnds {
    /// The broker's own, which it renews itself.
    pub broker: u64,
    /// The authority's.
    pub authority: u64,
}

/// The sealed credentials that a broker keeps for jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowStatus {
    /// Whether new ones are taken.
    pub on: bool,
    /// Their number.
    pub texts: usize,
    /// Size of their files in bytes.
    pub bytes: u64,
    /// When the first of them expires, Unix seconds. `None`: there is none, or it is not known.
    pub first_expiry: Option<u64>,
}

impl Broker {
    /// The configuration was read now, or cannot be used for this reason.
    pub(super) fn configured(&self, read: Result<(), String>) {
        self.counts.configured(self.clock.unix_millis() / 1000, read);
    }

    fn submissions(&self) -> Submissions {
        let mut found = Submissions::default();
        for submission in self.state().submissions.values() {
            match submission.end {
                End::Open { .. } => found.open += 1,
                End::Revoking { .. } => found.to_revoke += 1,
                End::Settled { .. } => found.settled += 1,
            }
        }
        found
    }

    /// The status.
    #[must_use]
    pub fn status(&self, entrance: &Entrance, budgets: &Budgets) -> BrokerStatus {
        let enrolments = entrance.enrolments();
        let entries = enrolments.register.list().entries;
        let blocked = entries.iter().filter(|entry| entry.is_blocked()).count();
        let answered = self.questions.last();
        let asked = answered.jobs.is_some() || answered.trouble.is_some();
        let asked_ago = asked.then(|| self.clock.elapsed().saturating_sub(answered.asked).as_secs());
        BrokerStatus {
            cluster: enrolments.cluster.clone(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            // Not those of the last reload, which may have been refused.
            keys: self.service().key_ids(),
            nodes: Nodes { enrolled: entries.len() - blocked, blocked, connected: self.counts.connected() },
            submissions: self.submissions(),
            slurmctld: Slurmctld { asked_ago, trouble: answered.trouble },
            requests: self.counts.requests(),
            failing: self.counts.failing(self.clock.elapsed()),
            answers: self.counts.answers(),
            unauthorized: self.counts.unauthorized_counts(),
            configuration: self.counts.configuration(),
            budgets: budgets.status(None),
            certificates: CertificateEnds { broker: entrance.tls().own_end(), authority: enrolments.authority.ends() },
            escrow: self.escrow_status(),
        }
    }
}

/// Makes the socket in `directory`, of which the caller holds the lock. It is inside a runtime of tokio.
///
/// # Errors
/// The system's.
pub fn listen(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Tells the status, one connection after the other. It never ends.
pub async fn serve(
    listener: UnixListener,
    broker: Arc<Broker>,
    entrance: watch::Receiver<Arc<Entrance>>,
    budgets: Arc<Budgets>,
) {
    let me = nix::unistd::geteuid().as_raw();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == me) {
            continue;
        }
        let Ok(stream) = stream.into_std() else { continue };
        let (broker, budgets, entrance) = (Arc::clone(&broker), Arc::clone(&budgets), Arc::clone(&entrance.borrow()));
        // Whoever asks sees a connection without an answer.
        let _ = tokio::task::spawn_blocking(move || tell(stream, &broker.status(&entrance, &budgets))).await;
    }
}

fn tell(mut stream: UnixStream, status: &BrokerStatus) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(&serde_json::to_vec(status)?)
}

/// The status of a broker that tells neither its version nor its keys, for tests.
#[cfg(test)]
pub(crate) const OF_FIRST_VERSION: &str = r#"{
    "cluster": "alpha",
    "nodes": {"enrolled": 12, "blocked": 1, "connected": 11},
    "submissions": {"open": 3, "to_revoke": 2, "settled": 7},
    "slurmctld": {"asked_ago": 31, "trouble": null},
    "requests": {"granted": 40, "failed": 2, "refused": 1, "unsent": 0},
    "configuration": {"read": 1799000000, "trouble": "jobs.toml is wrong"},
    "budgets": [],
    "certificates": {"broker": 1800000000, "authority": 1900000000}
}"#;
