// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routes of the provider.

use super::authorize;
use super::faults::Endpoint;
use super::server::Provider;
use crate::form::decode;
use crate::http::{Handler, Reply, Request, Response};

impl Handler for Provider {
    fn handle(&self, request: &Request) -> Reply {
        let path = request.path.strip_prefix(self.base.as_str()).unwrap_or_default();
        let query = request.query.as_deref().unwrap_or_default();
        match (request.method.as_str(), path) {
            ("GET", "/.well-known/openid-configuration") => self.answer_at(Endpoint::Discovery, || {
                Response::json(200, &authorize::discovery(self.issuer(), &self.policy().scopes))
            }),
            ("GET", "/jwks") => self.answer_at(Endpoint::Jwks, || Response::json(200, &self.jwks())),
            ("GET", "/authorize") => self.answer_at(Endpoint::Authorization, || self.login_page(query)),
            ("POST", "/authorize") => self.answer_at(Endpoint::Authorization, || self.log_in(request)),
            ("POST", "/token") => {
                self.requests.record("token", request.header("Authorization"), &decode(&request.body));
                self.answer_at(Endpoint::Token, || {
                    self.with_client(request, |client, form| self.grant_tokens(client, form))
                })
            }
            ("POST", "/revoke") => {
                self.requests.record("revocation", request.header("Authorization"), &decode(&request.body));
                self.answer_at(Endpoint::Revocation, || {
                    self.with_client(request, |client, form| self.revoke_token(client, form))
                })
            }
            ("GET" | "POST", "/userinfo") => self.answer_at(Endpoint::Userinfo, || self.userinfo(request)),
            ("POST", "/introspect") => self.answer_at(Endpoint::Introspection, || {
                self.with_client(request, |client, form| self.introspect(client, form))
            }),
            _ => Reply::Answer(Response::json(404, &serde_json::json!({"error": "not_found"}))),
        }
    }
}
