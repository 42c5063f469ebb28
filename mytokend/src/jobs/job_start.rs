// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a starting job gets access tokens for its credential.

use mytoken_wire::agent::JobStart;

use crate::jobs::sealed::JobCredential;

/// Why a job gets no access token. A sentence for the job's owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartRefusal {
    /// Another user sealed the text.
    #[error(
        "the credential was made for user {made_for}, but this job belongs to user {job}; a copied SLURM_MYTOKEN cannot be used"
    )]
    OtherUser {
        /// The user who submitted with it.
        made_for: u32,
        /// The user of the job that has it.
        job: u32,
    },
    /// The sealed text is for another cluster.
    #[error("the credential was made for the cluster \"{made_for}\", but this is the cluster \"{here}\"")]
    OtherCluster {
        /// Its cluster.
        made_for: String,
        /// The cluster of this node.
        here: String,
    },
    /// The sub-token has expired.
    #[error(
        "the credential expired at Unix time {exp} while the job waited in the queue; submit again (the administrator can raise cluster.max_pending in jobs.toml)"
    )]
    Expired {
        /// Its expiry.
        exp: u64,
    },
    /// The credential's server is not configured. Nothing is ever sent to such a server.
    #[error("the credential is from the mytoken server {server}, which mytoken.toml of this node does not name")]
    UnknownServer {
        /// Its URL.
        server: String,
    },
    /// There is a handle without a sealed text.
    #[error(
        "the job's environment has lost the credential: --export-file replaced the environment; submit without --export-file or add SLURM_MYTOKEN to that file"
    )]
    Lost,
    /// There is a handle without a sealed text, and brokers keep texts, but not this one.
    #[error(
        "the job has brought only a handle of its credential, and no broker keeps the credential: the environment was replaced, or the submission is over"
    )]
    NotKept,
    /// There is neither a handle nor a sealed text.
    #[error("the job has no credential")]
    Absent,
}

/// The sealed text of a starting job.
///
/// # Errors
/// [`StartRefusal::Lost`], [`StartRefusal::Absent`].
pub fn sealed_of(start: &JobStart) -> Result<&str, StartRefusal> {
    match (&start.sealed, &start.handle) {
        (Some(sealed), _) if !sealed.is_empty() => Ok(sealed),
        (_, Some(handle)) if !handle.is_empty() => Err(StartRefusal::Lost),
        _ => Err(StartRefusal::Absent),
    }
}

/// Checks an opened credential against its job. `servers` are the configured URLs, `now` is the time of the credential's server in Unix
/// seconds. If it is unknown, the server decides about the expiry.
///
/// # Errors
/// The first reason for a refusal.
pub fn check(
    credential: &JobCredential,
    uid: u32,
    cluster: &str,
    servers: &[&str],
    now: Option<u64>,
) -> Result<(), StartRefusal> {
    if credential.uid != uid {
        return Err(StartRefusal::OtherUser { made_for: credential.uid, job: uid });
    }
    if credential.cluster != cluster {
        return Err(StartRefusal::OtherCluster { made_for: credential.cluster.clone(), here: cluster.to_owned() });
    }
    if now.is_some_and(|now| credential.exp <= now) {
        return Err(StartRefusal::Expired { exp: credential.exp });
    }
    if !servers.contains(&credential.server.as_str()) {
        return Err(StartRefusal::UnknownServer { server: credential.server.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mytoken::Secret;

    fn sample() -> JobCredential {
        JobCredential {
            server: "https://mytoken.testbed:8443".into(),
            sub_token: Secret::new("a.b.c"),
            uid: 2001,
            cluster: "testbed".into(),
            id: "0".repeat(32),
            exp: 1000,
            profile: "default".into(),
            scope: "storage.read".into(),
            audience: "https://testbed".into(),
            required: false,
            made: 0,
            shared_for: 0,
            followed: false,
            files: Vec::new(),
            start_windows: Vec::new(),
        }
    }

    #[test]
    fn user_cluster_server_and_expiry_must_match() {
        let servers = ["https://mytoken.testbed:8443"];
        let with = |change: fn(&mut JobCredential)| {
            let mut credential = sample();
            change(&mut credential);
            check(&credential, 2001, "testbed", &servers, Some(999))
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|c| c.uid = 2002), Err(StartRefusal::OtherUser { made_for: 2002, job: 2001 }));
        assert!(matches!(with(|c| c.cluster = "other".into()), Err(StartRefusal::OtherCluster { .. })));
        assert_eq!(with(|c| c.exp = 999), Err(StartRefusal::Expired { exp: 999 }));
        assert_eq!(check(&sample(), 2001, "testbed", &servers, None), Ok(()));
        assert!(matches!(with(|c| c.server.push('/')), Err(StartRefusal::UnknownServer { .. })));
        assert!(matches!(with(|c| c.server = "https://evil.example".into()), Err(StartRefusal::UnknownServer { .. })));
    }

    #[test]
    fn a_handle_without_a_sealed_text_means_that_it_was_lost() {
        let start = |sealed: Option<&str>, handle: Option<&str>| JobStart {
            job: 1,
            sealed: sealed.map(str::to_owned),
            handle: handle.map(str::to_owned),
            ..JobStart::default()
        };
        assert_eq!(sealed_of(&start(Some("mt1.x"), None)), Ok("mt1.x"));
        assert_eq!(sealed_of(&start(None, Some("ab"))), Err(StartRefusal::Lost));
        assert_eq!(sealed_of(&start(Some(""), Some("ab"))), Err(StartRefusal::Lost));
        assert_eq!(sealed_of(&start(None, None)), Err(StartRefusal::Absent));
    }
}
