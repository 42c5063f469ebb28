// SPDX-License-Identifier: MIT OR Apache-2.0
//! The credential of a submission: what Slurm carries, and what becomes of it when the submission takes it and when it does not.

use std::path::Path;
use std::time::Duration;

use mytoken::http::{HttpClient, HttpSettings};
use mytoken::server::{Discovery, Server};
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Error, Secret};
use mytoken_wire::agent::Submitted;
use mytoken_wire::tools::Tool;

use super::followed::Follower;
use super::share::{SharePlace, SharedCredential};

/// What Slurm carries to the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSubmission {
    /// For `SLURM_MYTOKEN`.
    pub sealed: String,
    /// For `MYTOKEN_H`.
    pub handle: String,
}

/// The credential of a submission.
pub struct SubmittedCredential {
    /// What Slurm carries to the nodes.
    pub submission: SealedSubmission,
    /// The brokers keep it, and the job needs only its handle.
    pub registered: bool,
    /// The tools for which the job's environment names the token file.
    pub tools: Vec<Tool>,
    /// Whether the job has several token files.
    pub several_files: bool,
    /// What the user must know about it.
    pub notes: Vec<String>,
    /// Those of them that are true for each submission that shares it.
    pub(super) shared_notes: Vec<String>,
    /// `None`: an earlier submission made it.
    pub(super) sub_token: Option<CreatedToken>,
    /// Where it is kept for the next submissions.
    pub(super) place: Option<SharePlace>,
    /// What an agent needs to know to follow it.
    pub(super) about: Option<Submitted>,
    /// The agent that should follow it, and does not yet.
    pub(super) unfollowed: Option<Follower>,
}

/// A new sub-token, and how to revoke it.
pub(super) struct CreatedToken {
    pub sub_token: Secret,
    pub url: ServerUrl,
    pub discovery: Discovery,
    pub settings: HttpSettings,
}

/// How long a revocation is tried, and how long one request of it takes at most.
const REVOCATION: (Duration, Duration) = (Duration::from_secs(180), Duration::from_secs(20));

impl SubmittedCredential {
    /// The submission has taken the credential. If it is to be shared, the next submissions get it too. Returns the agent that must still be
    /// asked to follow it.
    #[must_use]
    pub fn taken(self) -> Option<Follower> {
        if let Some(place) = self.place {
            let SealedSubmission { sealed, handle } = self.submission;
            place.keep(SharedCredential { sealed, handle, notes: self.shared_notes });
        }
        self.unfollowed
    }

    /// Tells the agent of this host about the credential, which is for the running job `leader` or for those that it leads.
    #[must_use]
    pub fn follower(&self, runtime_dir: &Path, leader: u32) -> Follower {
        Follower::new(runtime_dir, self.about.clone().map(|about| Submitted { job: Some(leader), ..about }))
    }

    /// When the sub-token expires, Unix seconds.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.about.as_ref().map(|about| about.exp)
    }

    /// No job will use the credential: its sub-token is revoked if it was made for this submission. Tries again for three minutes while
    /// the server is not available.
    ///
    /// # Errors
    /// The last error. The sub-token then ends by its expiry.
    pub fn revoke(self) -> Result<(), Error> {
        // The next submission need not wait for this.
        drop(self.place);
        self.sub_token.map_or(Ok(()), |token| token.revoke())
    }
}

impl CreatedToken {
    /// Revokes it, as [`SubmittedCredential::revoke`].
    pub fn revoke(&self) -> Result<(), Error> {
        let (total, each) = REVOCATION;
        let deadline = Deadline::after(total);
        let mut pause = Duration::from_secs(1);
        loop {
            match self.revoke_once(deadline.at_most(each)) {
                Err(error) if error.is_unavailable() && deadline.remaining().is_some_and(|left| left > pause) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
                result => return result,
            }
        }
    }

    fn revoke_once(&self, deadline: Deadline) -> Result<(), Error> {
        let http = HttpClient::new(&self.settings)?;
        Server::from_discovery(&http, &self.url, self.discovery.clone())?.revoke(&self.sub_token, true, deadline)
    }
}
