// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proofs of `docs/facts` by the foreign programs themselves, and a check that the record is complete.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod checklist;
mod openssh;
mod probe;
mod record;
mod slurm;
mod squeue;
