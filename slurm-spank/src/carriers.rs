// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a credential travels from the submission to the nodes.
//!
//! The ciphertext goes in the environment variable `SLURM_MYTOKEN`: a name with this prefix survives every `--export` (SLURM-11), rests in one
//! 0600 file and not in slurmctld's memory (SLURM-12). A random handle goes by job control: it reaches epilogs, and jobs with
//! `--export-file`, where it explains the missing ciphertext. Both are hostile input on a node: anybody can set them.

use std::ffi::CStr;
use std::path::Path;

use crate::ffi::{Spank, set_env, unset_env};

/// The ciphertext, in the environment of submission and job.
pub const SEALED: &CStr = c"SLURM_MYTOKEN";
/// The handle as job-control variable.
pub const HANDLE_CONTROL: &CStr = c"MYTOKEN_H";
/// The handle in a step.
pub const HANDLE_STEP: &CStr = c"SLURM_SPANK_MYTOKEN_H";
/// The handle in an epilog.
pub const HANDLE_EPILOG: &str = "SPANK_MYTOKEN_H";
/// The option's value, which sbatch and salloc put into the job's environment, and from which commands inside the job import it (SLURM-16).
pub const OPTION: &CStr = c"SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken";
/// The name of the file with the access token (WLCG bearer token discovery).
pub const TOKEN_FILE: &CStr = c"BEARER_TOKEN_FILE";
/// An access token itself, which shadows the file.
pub const TOKEN: &CStr = c"BEARER_TOKEN";

/// Longest ciphertext in bytes.
pub const SEALED_LIMIT: u16 = 16 * 1024;

/// Ciphertext and handle, checked for their form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    sealed: String,
    handle: String,
}

impl Credential {
    /// Takes both when they look as they should.
    pub fn parse(sealed: &str, handle: &str) -> Result<Self, &'static str> {
        if !is_sealed(sealed) {
            return Err("its sealed credential is malformed");
        }
        if !is_handle(handle) {
            return Err("its handle is malformed");
        }
        Ok(Self { sealed: sealed.to_owned(), handle: handle.to_owned() })
    }

    /// Places both for the job that is about to be submitted. The handle also goes into this process's environment, because the
    /// steps of srun's own allocation do not see job-control variables (SLURM-13).
    pub fn place(&self, spank: &Spank) -> Result<(), &'static str> {
        let placed = set_env(SEALED, &self.sealed)
            && set_env(HANDLE_STEP, &self.handle)
            && spank.set_job_control(HANDLE_CONTROL, &self.handle);
        if placed { Ok(()) } else { Err("Slurm did not take the credential") }
    }
}

/// Removes what an outer job has left in this environment: it is that job's credential, not ours to send along. `jobs` is the
/// directory of the agent's files: a session's `BEARER_TOKEN_FILE` is none of our business.
pub fn remove_inherited(jobs: &Path) {
    unset_env(SEALED);
    unset_env(HANDLE_STEP);
    let file = TOKEN_FILE.to_str().ok().and_then(std::env::var_os);
    if file.is_some_and(|file| Path::new(&file).starts_with(jobs)) {
        unset_env(TOKEN_FILE);
    }
}

/// Whether `text` has the form of a sealed credential: `mt1.<8 hex>.<base64url>`.
pub fn is_sealed(text: &str) -> bool {
    let mut parts = text.split('.');
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() <= usize::from(SEALED_LIMIT)
        && parts.next() == Some("mt1")
        && parts.next().is_some_and(|key| key.len() == 8 && is_hex(key))
        && parts.next().is_some_and(|body| !body.is_empty() && body.bytes().all(base64url))
        && parts.next().is_none()
}

/// Whether `text` has the form of a handle: 128 bits in hexadecimal.
pub fn is_handle(text: &str) -> bool {
    text.len() == 32 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether this process runs inside a job.
pub fn inside_job() -> bool {
    std::env::var_os("SLURM_JOB_ID").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_forms_pass() {
        let handle = "0123456789abcdef".repeat(2);
        assert!(is_sealed("mt1.0a1b2c3d.AZaz09-_") && is_handle(&handle));
        let long = format!("mt1.0a1b2c3d.{}", "A".repeat(usize::from(SEALED_LIMIT)));
        for wrong in [
            "",
            "mt1..A",
            "mt1.0a1b2c3d.",
            "mt2.0a1b2c3d.A",
            "mt1.0A1b2c3d.A",
            "mt1.0a1b2c3d.A=",
            "mt1.0a1b2c3d.A\n",
            "mt1.0a1b2c3d.A.B",
            "mt1.0a1b2c3d",
            &long,
        ] {
            assert!(!is_sealed(wrong), "{wrong:.40}");
        }
        for wrong in ["", "0123", &handle.to_uppercase(), &format!("{handle}0"), "../../../../etc/passwd0123456789a"] {
            assert!(!is_handle(wrong), "{wrong}");
        }
    }
}
