// SPDX-License-Identifier: MIT OR Apache-2.0
//! The OpenID provider. It answers like the provider of the captures. Tests choose its users, its policy and its
//! faults.

mod authorize;
mod client_proof;
pub mod faults;
mod grants;
pub mod inspection;
mod keyring;
pub mod keys;
pub mod link;
pub mod mint;
mod own_client;
pub mod policy;
pub mod random;
mod refusal;
mod request_log;
mod routes;
mod server;
mod state;
pub mod tokens;
pub mod users;

pub use server::Provider;

#[cfg(test)]
pub(crate) mod tests;
