// SPDX-License-Identifier: MIT OR Apache-2.0
//! The OpenID provider.

pub mod link;
