// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control API of the tests: plain HTTP, JSON in and out, on a loopback address.
//!
//! | Request | Body | What it does |
//! |---|---|---|
//! | `GET /health` | | URLs of the servers |
//! | `GET /journal?service=mytoken\|provider\|resource` | | requests to that server, oldest first |
//! | `DELETE /journal?service=...` | | deletes the requests to that server, or to all servers without `service` |
//! | `POST /provider/fault` | `{"name", "endpoint"?, "argument"?, "times"?}` | see `provider::faults` |
//! | `POST /provider/requests` | | requests to the token and revocation endpoints since the last call, no secrets |
//! | `POST /provider/lifetime` | `{"seconds"}` | sets the lifetime of new access tokens |
//! | `POST /provider/policy` | members of `provider::policy::Policy` | changes them |
//! | `POST /provider/client` | `provider::policy::Client` | registers a client |
//! | `POST /provider/rotate` | `{"drop_old"?}` | adds a signing key: `{"kid"}` |
//! | `POST /provider/mint` | `provider::mint::TokenOrder` | makes a token to order: `{"token"}` |
//! | `POST /mytoken/fault` | `{"name", ...}` | see `mytoken::faults` |
//! | `POST /mytoken/first-token` | a `first_token` of the captures | logs in and gets a mytoken: the server's answer |
//! | `POST /outage` | `{"service", "on"}` | starts or ends an outage, which closes the port of the service |
//! | `POST /clear` | | ends all faults and outages |

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client::InProcess;
use crate::first_token;
use crate::form::{decode, first};
use crate::http::{Handler, Reply, Request, Response};
use crate::journal::{JournaledHandler, hide_secrets};
use crate::listener::Listening;
use crate::provider::Provider;

/// The functions of the mytoken server that the control API calls.
pub trait MytokenControl: Send + Sync {
    /// Sets a fault; `clear` ends all faults.
    ///
    /// # Errors
    /// The server does not know the fault.
    fn set_fault(&self, name: &str, args: &Value) -> Result<(), String>;

    /// The recorded requests, oldest first.
    fn journal(&self) -> Vec<Value>;

    /// Deletes the recorded requests.
    fn clear_journal(&self);
}

/// The servers of this process, with their journals and listeners.
pub struct Control {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The mytoken server.
    pub mytoken: Arc<dyn MytokenControl>,
    /// The requests to the provider over HTTP.
    pub provider_journal: Arc<JournaledHandler>,
    /// The requests to the resource server.
    pub resource_journal: Arc<JournaledHandler>,
    /// Listener of the mytoken server.
    pub mytoken_listening: Listening,
    /// Listener of the provider.
    pub provider_listening: Listening,
    /// Listener of the resource server.
    pub resource_listening: Listening,
    /// Calls the servers without a socket, for logins.
    pub in_process: InProcess,
    /// URL of the mytoken server.
    pub mytoken_url: String,
    /// The answer to `GET /health`.
    pub endpoints: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Service {
    Mytoken,
    Provider,
    Resource,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    service: Service,
    on: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lifetime {
    seconds: u64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeyRotation {
    drop_old: bool,
}

type ControlResult = Result<Value, String>;

impl Control {
    fn route(&self, request: &Request) -> Option<ControlResult> {
        let body = request.body.as_slice();
        Some(match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/health") => Ok(self.endpoints.clone()),
            ("GET", "/journal") => service_parameter(request).and_then(|service| {
                service
                    .map(|service| self.journal(&service))
                    .ok_or_else(|| "the query parameter service is missing".into())
            }),
            ("DELETE", "/journal") => service_parameter(request).map(|service| self.clear_journal(service.as_ref())),
            ("POST", "/provider/fault") => parse_body(body).and_then(|order| {
                self.provider.set_fault(&order)?;
                Ok(self.update_provider_port())
            }),
            ("POST", "/provider/requests") => Ok(self.take_provider_requests()),
            ("POST", "/provider/lifetime") => parse_body(body)
                .and_then(|Lifetime { seconds }| self.provider.change_policy(&json!({"lifetime": seconds})))
                .map(|()| json!({})),
            ("POST", "/provider/policy") => {
                parse_body::<Value>(body).and_then(|change| self.provider.change_policy(&change)).map(|()| json!({}))
            }
            ("POST", "/provider/client") => parse_body(body).map(|client| {
                self.provider.register(client);
                json!({})
            }),
            ("POST", "/provider/rotate") => parse_body(body)
                .and_then(|KeyRotation { drop_old }| self.provider.rotate_keys(drop_old))
                .map(|kid| json!({"kid": kid})),
            ("POST", "/provider/mint") => {
                parse_body(body).and_then(|order| self.provider.mint(&order)).map(|token| json!({"token": token}))
            }
            ("POST", "/mytoken/fault") => parse_body::<Value>(body).and_then(|args| {
                let name = args.get("name").and_then(Value::as_str).ok_or("the member name is missing")?;
                self.mytoken.set_fault(name, &args).map(|()| json!({}))
            }),
            ("POST", "/mytoken/first-token") => parse_body::<Value>(body).and_then(|wanted| {
                first_token::obtain(&self.in_process, &self.mytoken_url, self.provider.issuer(), &wanted)
            }),
            ("POST", "/outage") => parse_body(body).map(|outage| self.set_outage(&outage)),
            ("POST", "/clear") => self.clear(),
            _ => return None,
        })
    }

    fn journal(&self, service: &Service) -> Value {
        match service {
            Service::Mytoken => self.mytoken.journal(),
            Service::Provider => self.provider_journal.entries(),
            Service::Resource => self.resource_journal.entries(),
        }
        .into()
    }

    /// The mytoken server calls its provider inside this process, so these requests are not in the provider's journal.
    fn take_provider_requests(&self) -> Value {
        let mut requests = self.provider.take_requests();
        for form in requests.iter_mut().filter_map(|request| request.get_mut("form")?.as_object_mut()) {
            hide_secrets(form);
        }
        requests.into()
    }

    fn clear_journal(&self, service: Option<&Service>) -> Value {
        if matches!(service, None | Some(Service::Mytoken)) {
            self.mytoken.clear_journal();
        }
        if matches!(service, None | Some(Service::Provider)) {
            self.provider_journal.clear();
        }
        if matches!(service, None | Some(Service::Resource)) {
            self.resource_journal.clear();
        }
        json!({})
    }

    fn set_outage(&self, outage: &Outage) -> Value {
        match outage.service {
            Service::Mytoken => self.mytoken_listening.set_outage(outage.on),
            Service::Resource => self.resource_listening.set_outage(outage.on),
            Service::Provider => self.provider.set_outage(outage.on),
        }
        self.update_provider_port()
    }

    /// Closes the provider's port during an outage and under the fault `refused`, and opens it otherwise.
    fn update_provider_port(&self) -> Value {
        self.provider_listening.set_outage(self.provider.refuses());
        json!({})
    }

    fn clear(&self) -> ControlResult {
        self.mytoken.set_fault("clear", &json!({}))?;
        self.provider.clear_faults();
        self.provider.set_outage(false);
        self.mytoken_listening.set_outage(false);
        self.resource_listening.set_outage(false);
        Ok(self.update_provider_port())
    }
}

fn service_parameter(request: &Request) -> Result<Option<Service>, String> {
    let query = decode(request.query.as_deref().unwrap_or_default().as_bytes());
    first(&query, "service")
        .map(|name| serde_json::from_value(name.into()).map_err(|error| error.to_string()))
        .transpose()
}

/// Parses the body; an empty body counts as an empty object.
fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(if body.is_empty() { b"{}" } else { body }).map_err(|error| error.to_string())
}

impl Handler for Control {
    fn handle(&self, request: &Request) -> Reply {
        Reply::Answer(match self.route(request) {
            Some(Ok(answer)) => Response::json(200, &answer),
            Some(Err(reason)) => Response::json(400, &json!({"error": reason})),
            None => Response::json(404, &json!({"error": "the control API has no such request"})),
        })
    }
}
