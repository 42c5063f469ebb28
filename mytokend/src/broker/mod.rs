// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker: the only holder of the cluster's private key.

pub mod identity;
