// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent over its socket, with a fake clock, a fake mytoken server and a fake slurmctld.

#[cfg(test)]
mod clock;
#[cfg(test)]
mod end;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod files;
#[cfg(test)]
mod hanging_files;
mod hanging_requests;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod missed;
#[cfg(test)]
mod on_request;
#[cfg(test)]
#[path = "../../../tests/ordinary_user.rs"]
mod ordinary_user;
#[cfg(test)]
mod pending;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod renewal;
#[cfg(test)]
mod replaced;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod server_time;
#[cfg(test)]
mod session;
#[cfg(test)]
mod session_revocation;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
#[cfg(test)]
mod slurmctld_time;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod squeue;
#[cfg(test)]
mod start;
#[cfg(test)]
mod start_windows;
#[cfg(test)]
mod status;
#[cfg(test)]
mod store;
mod submission;
