// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands of `mytoken-ssh` against the test server.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "clippy recognises test code only by its attribute")]

mod access_token;
mod code;
mod doctor;
mod hosts;
mod import;
mod login;
mod login_site;
mod login_token;
mod mytoken_sources;
#[path = "../../../tests/programs.rs"]
mod programs;
mod revocation;
mod rotation;
mod status;
