// SPDX-License-Identifier: MIT OR Apache-2.0
//! Credentials at rest and on their way: files, the cluster's keys, sealed job credentials.

#[cfg(feature = "client")]
pub mod files;
pub mod keys;
pub mod sealed;
