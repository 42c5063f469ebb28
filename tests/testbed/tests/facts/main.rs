// SPDX-License-Identifier: MIT OR Apache-2.0
//! `docs/facts`: what foreign programs do, shown by themselves, and that the record of it is complete.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod openssh;
mod probe;
mod record;
mod slurm;
