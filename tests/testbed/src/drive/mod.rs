// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users and stories do at a site: log in, submit jobs, use a browser, make tokens, read the server's journal.

mod admission;
pub mod askpass;
pub mod cluster;
pub mod jobs;
pub mod journal;
pub mod machine;
pub mod people;
pub mod story;
pub mod tokens;
