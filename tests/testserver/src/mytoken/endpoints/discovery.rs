// SPDX-License-Identifier: MIT OR Apache-2.0
//! The discovery document (MT-01).

use serde_json::{Value, json};

use crate::mytoken::server::Server;

impl Server {
    pub(crate) fn configuration(&self) -> Value {
        let issuer = &self.config.issuer;
        let at = |path: &str| format!("{issuer}{path}");
        let providers: Vec<Value> = self
            .upstreams
            .iter()
            .map(|upstream| {
                json!({
                    "issuer": upstream.info.issuer,
                    "name": upstream.name,
                    "scopes_supported": upstream.info.scopes,
                })
            })
            .collect();
        json!({
            "issuer": issuer,
            "access_token_endpoint": at("/api/v0/token/access"),
            "token_endpoint": at("/api/v0/token/access"),
            "mytoken_endpoint": at("/api/v0/token/my"),
            "tokeninfo_endpoint": at("/api/v0/tokeninfo"),
            "revocation_endpoint": at("/api/v0/token/revoke"),
            "usersettings_endpoint": at("/api/v0/settings"),
            "notifications_endpoint": at("/api/v0/notifications"),
            "token_transfer_endpoint": at("/api/v0/token/transfer"),
            "profiles_endpoint": at("/api/v0/pt"),
            "jwks_uri": at("/jwks"),
            "providers_supported": providers,
            "token_signing_alg_value": "ES512",
            "service_documentation": "https://mytoken-docs.data.kit.edu/",
            "version": "0.10.2",
            "tokeninfo_endpoint_actions_supported": ["introspect", "event_history", "subtokens", "list_mytokens"],
            "access_token_endpoint_grant_types_supported": ["mytoken"],
            "mytoken_endpoint_grant_types_supported": ["oidc_flow", "mytoken", "transfer_code", "polling_code"],
            "mytoken_endpoint_oidc_flows_supported": ["authorization_code"],
            "response_types_supported": ["token", "short_token", "transfer_code"],
            "restriction_claims_supported": [
                "nbf", "exp", "scope", "audience", "hosts", "geoip_allow", "geoip_disallow", "usages_AT", "usages_other",
            ],
        })
    }
}
