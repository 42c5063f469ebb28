// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user does with `mytoken-ssh`, against the test server.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

mod login;
mod mint;
mod site;
mod taking_back;
