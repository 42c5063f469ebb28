// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider as the mytoken server knows it.

use std::sync::Arc;

use crate::provider::link::{ProviderInfo, TokenEndpoint};

/// A provider that the server gets tokens from.
#[derive(Clone)]
pub struct Upstream {
    /// Name in the discovery document.
    pub name: String,
    /// Its URLs for browsers.
    pub info: ProviderInfo,
    /// Its token endpoint.
    pub link: Arc<dyn TokenEndpoint>,
}
