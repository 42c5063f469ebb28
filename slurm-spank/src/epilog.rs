// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a job on a node. An epilog that fails drains the node, one that takes long keeps it busy (SLURM-10): so one call of a second.

use std::time::Duration;

use mytoken_wire::Deadline;
use mytoken_wire::agent::{JobEnd, Request, ask_without_status};

use crate::carriers::HANDLE_EPILOG;
use crate::dispatch::Call;
use crate::ffi::{Item, info};

/// Longest wait for the agent.
const TIME: Duration = Duration::from_secs(1);

/// Tells the agent, for a job that had to do with it.
pub fn job_ended(call: &Call) {
    let Some(job) = call.spank.item(Item::Job) else {
        return;
    };
    // The handle is in the epilog of every honest submission; a job that came without one may still have made a directory.
    if std::env::var_os(HANDLE_EPILOG).is_none() && !call.settings.jobs().join(job.to_string()).exists() {
        return;
    }
    if let Err(error) =
        ask_without_status(&call.settings.socket, &Request::JobEnd(JobEnd { job }), Deadline::after(TIME))
    {
        // The agent finds out by itself that the job has no process left.
        info(&format!("job {job}: {error}"));
    }
}
