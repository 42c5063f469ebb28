// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a job on a node. A failing epilog drains the node, and a slow one keeps the node busy (SLURM-10). So the plugin makes one
//! call, of at most a second, and ignores its failure.

use std::ffi::CStr;
use std::time::Duration;

use mytoken_wire::Deadline;
use mytoken_wire::agent::{JobEnd, ask};
use mytoken_wire::clock::uptime_millis;

use crate::ffi::{Item, env, info};
use crate::hook::HookCall;
use crate::job_env::HANDLE_EPILOG;
use crate::missed::MissedFile;

/// Longest wait for the agent.
const TIME: Duration = Duration::from_secs(1);

/// The nodes of the job, in an epilog: the first name since Slurm 23, the second one before (SLURM-61).
const NODES: [&CStr; 2] = [c"SLURM_JOB_NODELIST", c"SLURM_NODELIST"];

/// Longest list of nodes in bytes. Slurm writes neighbours as ranges.
const NODES_LIMIT: usize = 16 * 1024;

/// Tells the agent that a job ended, if the job had a credential. Without an answer the end is recorded, and the record of its start stays:
/// perhaps no other agent knows the job's credential, and has to revoke it.
pub fn job_ended(call: &HookCall) {
    let Some(job) = call.spank.item(Item::Job) else {
        return;
    };
    // Every submission with a credential has a handle. A job without one may still have a directory: a user can set SLURM_MYTOKEN alone.
    if env(HANDLE_EPILOG).is_none() && !call.settings.jobs().join(job.to_string()).exists() {
        return;
    }
    let nodes =
        NODES.into_iter().find_map(|name| env(name)?.into_string().ok()).filter(|nodes| nodes.len() <= NODES_LIMIT);
    let (end, missed) = (JobEnd { job, nodes, at: Some(uptime_millis()) }, MissedFile::of(&call.settings, job));
    match ask(&call.settings.socket, &end, Deadline::after(TIME)) {
        Ok(_) => missed.remove(),
        Err(error) => {
            info(format_args!("job {job}: {error}"));
            // The agent also finds out by itself that the job has no process left, some minutes later.
            if let Err(error) = missed.write_end(end) {
                info(format_args!("job {job}: its end could not be recorded for the agent: {error}"));
            }
        }
    }
}
