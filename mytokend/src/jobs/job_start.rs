// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a starting job gets anything for the credential that it carries.

use mytoken_wire::agent::JobStart;

use crate::jobs::sealed::JobCredential;

/// Why a job gets nothing: a sentence for its owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartRefusal {
    /// The sealed text is another user's.
    #[error(
        "the credential was made for user {made_for}, and this job belongs to user {job}: a copied SLURM_MYTOKEN is worth nothing"
    )]
    OtherUser {
        /// Who submitted with it.
        made_for: u32,
        /// Whose job carries it.
        job: u32,
    },
    /// The sealed text is for another cluster.
    #[error("the credential was made for the cluster \"{made_for}\", and this is \"{here}\"")]
    OtherCluster {
        /// Where it was to be used.
        made_for: String,
        /// Where it was used.
        here: String,
    },
    /// The sub-token is past its expiry.
    #[error(
        "the credential expired at Unix time {exp} while the job waited in the queue; submit again (the administrator can raise cluster.max_pending in jobs.toml)"
    )]
    Expired {
        /// When.
        exp: u64,
    },
    /// The credential names a server that is not configured. Nothing is ever sent to such a server.
    #[error("the credential is from the mytoken server {server}, which mytoken.toml of this node does not name")]
    UnknownServer {
        /// Its URL.
        server: String,
    },
    /// There is a handle without a sealed text.
    #[error(
        "the job's environment does not hold the credential any more: --export-file replaced it; submit without --export-file or add SLURM_MYTOKEN to that file"
    )]
    Lost,
    /// There is neither.
    #[error("the job carries no credential")]
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

/// Checks an opened credential against the job that carries it. `servers` are the configured URLs.
///
/// # Errors
/// The first reason to refuse.
pub fn check(
    credential: &JobCredential,
    uid: u32,
    cluster: &str,
    servers: &[&str],
    now: u64,
) -> Result<(), StartRefusal> {
    if credential.uid != uid {
        return Err(StartRefusal::OtherUser { made_for: credential.uid, job: uid });
    }
    if credential.cluster != cluster {
        return Err(StartRefusal::OtherCluster { made_for: credential.cluster.clone(), here: cluster.to_owned() });
    }
    if credential.exp <= now {
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
        }
    }

    #[test]
    fn only_the_right_user_cluster_server_and_time_pass() {
        let servers = ["https://mytoken.testbed:8443"];
        let with = |change: fn(&mut JobCredential)| {
            let mut credential = sample();
            change(&mut credential);
            check(&credential, 2001, "testbed", &servers, 999)
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|c| c.uid = 2002), Err(StartRefusal::OtherUser { made_for: 2002, job: 2001 }));
        assert!(matches!(with(|c| c.cluster = "other".into()), Err(StartRefusal::OtherCluster { .. })));
        assert_eq!(with(|c| c.exp = 999), Err(StartRefusal::Expired { exp: 999 }));
        assert!(matches!(with(|c| c.server.push('/')), Err(StartRefusal::UnknownServer { .. })));
        assert!(matches!(with(|c| c.server = "https://evil.example".into()), Err(StartRefusal::UnknownServer { .. })));
    }

    #[test]
    fn a_handle_alone_tells_that_the_environment_was_replaced() {
        let start = |sealed: Option<&str>, handle: Option<&str>| JobStart {
            job: 1,
            step: 0,
            uid: 1,
            gid: 1,
            array_job: None,
            sealed: sealed.map(str::to_owned),
            handle: handle.map(str::to_owned),
        };
        assert_eq!(sealed_of(&start(Some("mt1.x"), None)), Ok("mt1.x"));
        assert_eq!(sealed_of(&start(None, Some("ab"))), Err(StartRefusal::Lost));
        assert_eq!(sealed_of(&start(Some(""), Some("ab"))), Err(StartRefusal::Lost));
        assert_eq!(sealed_of(&start(None, None)), Err(StartRefusal::Absent));
    }
}
