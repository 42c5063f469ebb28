// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mytokens for ssh and Slurm.
