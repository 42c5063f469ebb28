// SPDX-License-Identifier: MIT OR Apache-2.0
//! What foreign programs do, shown by themselves: the proofs of `docs/facts`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod openssh;
mod probe;
mod slurm;
