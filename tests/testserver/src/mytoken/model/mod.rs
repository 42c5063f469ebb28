// SPDX-License-Identifier: MIT OR Apache-2.0
//! State and rules of the server, without HTTP: tokens, codes, clauses, capabilities, templates.

pub(crate) mod capabilities;
pub(crate) mod clause_json;
pub(crate) mod clauses;
pub(crate) mod codes;
pub(crate) mod guest_provider;
pub(crate) mod hosts;
pub(crate) mod jwt;
pub(crate) mod mytoken_request;
pub(crate) mod repeated_clauses;
pub(crate) mod rotation;
pub(crate) mod store;
pub(crate) mod templates;
pub(crate) mod tighten;
pub(crate) mod times;
pub(crate) mod token_answer;
pub(crate) mod upstream;
