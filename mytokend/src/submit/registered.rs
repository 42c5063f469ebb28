// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives the sealed credential of a submission to the brokers, through the agent of this host, so that its jobs need only its handle.

use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::agent::{Register, ask};
use mytoken_wire::paths::AGENT_SOCKET_NAME;

use super::{JobTime, SealedSubmission, SubmitConfig, SubmitError, SubmitRequest};

/// Longest wait for the agent, which waits for the brokers.
const AGENT_TIME: Duration = Duration::from_secs(4);

/// Whether the brokers keep the credential, and what the user must know.
///
/// # Errors
/// [`SubmitError::ExportFile`]: they do not, and the job cannot carry it.
pub(super) fn register(
    config: &SubmitConfig,
    request: &SubmitRequest,
    submission: &SealedSubmission,
    deadline: Deadline,
) -> Result<(bool, Option<String>), SubmitError> {
    // What is submitted some time later would be over before its job is there.
    if !config.jobs.broker.escrow || request.job != JobTime::Now {
        return Ok((false, None));
    }
    let SealedSubmission { sealed, handle } = submission.clone();
    let socket = config.jobs.agent.runtime_dir.join(AGENT_SOCKET_NAME);
    match ask(&socket, &Register { handle, sealed }, deadline.at_most(AGENT_TIME)) {
        Ok(_) => Ok((true, None)),
        Err(error) if request.export_file => {
            Err(SubmitError::ExportFile(format!(", and no broker keeps it ({error})")))
        }
        Err(error) => {
            let note = format!("no broker keeps the credential, so the job carries it in its environment: {error}");
            Ok((false, Some(note)))
        }
    }
}
