// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services of a site, one file each.

pub mod accounting;
pub mod agent;
pub mod broker;
pub mod munge;
pub mod slurm;
pub mod sshd;
pub mod syslog;
pub mod testserver;
