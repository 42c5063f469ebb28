// SPDX-License-Identifier: MIT OR Apache-2.0
//! A credential is for the cluster of this host. Slurm may send a job to each cluster that `--clusters` names, and nobody could follow it
//! there.

use super::error::SubmitError;

/// Refuses a submission that may go to another cluster than `own`. Nothing was requested yet.
///
/// # Errors
/// [`SubmitError::OtherCluster`].
pub(super) fn check(named: Option<&str>, own: &str) -> Result<(), SubmitError> {
    match named {
        Some(named) if named.split(',').any(|cluster| cluster.trim() != own) => {
            Err(SubmitError::OtherCluster { named: named.to_owned(), own: own.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_for_this_cluster_alone_gets_a_credential() {
        for named in [None, Some("blue"), Some(" blue,blue")] {
            assert!(check(named, "blue").is_ok(), "{named:?}");
        }
        for named in ["red", "blue,red", "all", ""] {
            let sentence = check(Some(named), "blue").unwrap_err().to_string();
            assert!(
                sentence.starts_with(&format!("--clusters={named} names another cluster than \"blue\"")),
                "{sentence}"
            );
        }
    }
}
