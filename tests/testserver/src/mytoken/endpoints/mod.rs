// SPDX-License-Identifier: MIT OR Apache-2.0
//! The endpoints of the API, one file each.

mod access_token;
mod discovery;
mod mytoken;
mod oidc_flow;
mod profiles;
mod redemption;
mod revocation;
mod settings;
mod tokeninfo;
mod transfer;
