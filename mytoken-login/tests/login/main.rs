// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins and their parts against fake servers. They are one program: each further one would link all libraries again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod access_token;
mod access_token_settings;
mod access_token_signatures;
mod answers;
mod documented_log;
mod ended_logins;
mod ended_validations;
mod explain_screens;
#[path = "../../../mytoken/tests/fake/mod.rs"]
mod fake;
mod handover_record;
mod handover_sweep;
mod link_server;
mod login_budget;
mod login_time;
mod motley_cue;
mod provider_fixture;
mod provider_keys;
mod provider_pages;
mod repeated_tokens;
mod replay;
mod sample;
mod script;
mod script_runs;
mod server_discovery;
mod session;
mod session_fixture;
mod several_servers;
#[path = "../../../tests/skipped.rs"]
mod skipped;
mod support;
mod texts;
mod told_requests;
mod validation;
mod validation_client;
mod validation_opaque;
