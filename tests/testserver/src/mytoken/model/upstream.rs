// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider as the mytoken server knows it.

use std::sync::Arc;

use crate::provider::link::{ProviderInfo, TokenEndpoint};

/// A provider the server has tokens from.
#[derive(Clone)]
pub struct Upstream {
    /// Name in the discovery document.
    pub name: String,
    /// How to reach it with a browser.
    pub info: ProviderInfo,
    /// How to reach it from here.
    pub link: Arc<dyn TokenEndpoint>,
}
