// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl`: what a user or administrator sees of the agent, the keys, the configuration and a login's decision.

pub mod check;
pub mod explain;
pub mod keygen;
pub mod logins;
pub mod moment;
pub mod status;
