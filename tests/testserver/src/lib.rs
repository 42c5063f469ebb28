// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of the test server: an OpenID provider, a mytoken server that answers as the captured original does,
//! and the player of the captures.

pub mod browser;
pub mod http;
pub mod mytoken;
pub mod provider;
pub mod replay;
pub mod serve;
