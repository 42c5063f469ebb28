// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl`: shows credentials and logins, makes keys, checks a host, explains the decision about a login or a submission,
//! gives access tokens to programs.

pub mod agent_socket;
pub mod arguments;
pub mod attach;
pub mod broker_ca;
pub mod broker_status;
pub mod budgets;
pub mod check;
pub mod explain;
pub mod explain_submission;
pub mod key;
pub mod keygen;
pub mod last_refusal;
pub mod launch;
pub mod logins;
pub mod node;
pub mod other_nodes;
pub mod profile;
mod profile_defaults;
pub mod replace;
pub mod run;
pub mod standard_input;
pub mod status;
pub mod with_token;
