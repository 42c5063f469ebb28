// SPDX-License-Identifier: MIT OR Apache-2.0
//! Credentials at rest and on their way: files, the user's token store, the cluster's keys, sealed job credentials.

#[cfg(feature = "client")]
pub mod files;
pub mod keys;
pub mod sealed;
#[cfg(feature = "client")]
pub mod store;
