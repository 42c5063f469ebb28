// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages of a login: consent, the redirect from the provider, and the provider for guests.

mod consent;
mod guests;
mod redirect;
