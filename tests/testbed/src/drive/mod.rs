// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people and stories do at a site: log in, submit jobs, open a browser, make tokens, read the server's journal.

pub mod askpass;
pub mod jobs;
pub mod journal;
pub mod people;
pub mod story;
pub mod tokens;
