// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a person's browser sees: the consent page, the way back from the provider, and the provider for guests.

mod consent;
mod guests;
mod redirect;
