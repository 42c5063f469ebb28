// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider from which the mytoken server gets tokens.

use std::sync::Arc;

use crate::provider::link::{ProviderInfo, TokenEndpoint};

/// A provider of the mytoken server.
#[derive(Clone)]
pub struct Upstream {
    /// Name in the discovery document.
    pub name: String,
    /// Its URLs for browsers.
    pub info: ProviderInfo,
    /// Its token endpoint.
    pub link: Arc<dyn TokenEndpoint>,
}
