// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken server, faithful to the captures of mytoken 0.10.2.

mod answer;
mod body;
mod credential;
mod endpoints;
mod faults;
mod issue;
mod journal;
mod limit;
mod model;
mod pages;
mod paths;
mod quirks;
mod routes;
mod server;
mod successor;

#[cfg(test)]
mod tests;

pub use answer::ApiError;
pub use limit::{LOOPBACK, Limit};
pub use model::codes::mom_id;
pub use model::jwt::unverified_claims;
pub use model::upstream::Upstream;
pub use quirks::Quirks;
pub use server::{Config, Server, unix_now};
