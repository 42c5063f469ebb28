// SPDX-License-Identifier: MIT OR Apache-2.0
//! The provider: its state, and changes at run time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::faults::{Endpoint, FaultOrder, ProviderFaults};
use super::keyring::Keyring;
use super::policy::{Client, Policy, Setup};
use super::refusal::refusal;
use super::request_log::RequestLog;
use super::state::ProviderState;
use crate::form::{Form, decode, first};
use crate::http::{Reply, Request, Response};
use crate::locked;

/// An OpenID provider.
pub struct Provider {
    pub(super) setup: Setup,
    clients: Mutex<Vec<Client>>,
    /// Path of the issuer URL.
    pub(super) base: String,
    pub(super) down: AtomicBool,
    pub(super) policy: Mutex<Policy>,
    pub(super) keys: Mutex<Keyring>,
    pub(super) state: Mutex<ProviderState>,
    pub(super) faults: Mutex<ProviderFaults>,
    pub(super) requests: RequestLog,
}

impl Provider {
    /// Creates a provider, and its first key if its folder contains none.
    ///
    /// # Errors
    /// The keys cannot be read or stored, or there is no client.
    pub fn new(setup: Setup) -> Result<Self, String> {
        if setup.clients.is_empty() {
            return Err("the provider needs a client: the mytoken server".into());
        }
        let issuer = url::Url::parse(&setup.issuer).map_err(|error| format!("{}: {error}", setup.issuer))?;
        Ok(Self {
            base: issuer.path().trim_end_matches('/').to_owned(),
            down: AtomicBool::new(false),
            keys: Mutex::new(Keyring::open(setup.folder.as_deref(), setup.policy.algorithm)?),
            policy: Mutex::new(setup.policy.clone()),
            clients: Mutex::new(setup.clients.clone()),
            setup,
            state: Mutex::default(),
            faults: Mutex::default(),
            requests: RequestLog::default(),
        })
    }

    /// The issuer URL.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.setup.issuer
    }

    /// The JWKS document.
    #[must_use]
    pub fn jwks(&self) -> Value {
        locked(&self.keys).jwks()
    }

    /// The current policy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        locked(&self.policy).clone()
    }

    /// Changes some members of the policy.
    ///
    /// # Errors
    /// A member or value is unknown, or a key for a new algorithm cannot be made.
    pub fn change_policy(&self, change: &Value) -> Result<(), String> {
        let mut policy = locked(&self.policy);
        let next = policy.with_changes(change)?;
        if next.algorithm != policy.algorithm {
            locked(&self.keys).add_signing_key(next.algorithm, false)?;
        }
        *policy = next;
        Ok(())
    }

    /// Adds a signing key and returns its id. With `drop_old` the older keys are removed from the JWKS.
    ///
    /// # Errors
    /// The key cannot be made or stored.
    pub fn rotate_keys(&self, drop_old: bool) -> Result<String, String> {
        let algorithm = locked(&self.policy).algorithm;
        locked(&self.keys).add_signing_key(algorithm, drop_old).map(|key| key.kid.clone())
    }

    /// Sets the fault of an endpoint.
    ///
    /// # Errors
    /// The fault is unknown.
    pub fn set_fault(&self, order: &FaultOrder) -> Result<(), String> {
        locked(&self.faults).set(order)
    }

    /// Whether the provider's port must be closed.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.down.load(Ordering::SeqCst) || locked(&self.faults).refuses()
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        locked(&self.faults).clear();
    }

    pub(super) fn now(&self) -> u64 {
        crate::unix_time()
    }

    /// Registers a client, in place of one with the same id.
    pub fn register(&self, client: Client) {
        let mut clients = locked(&self.clients);
        clients.retain(|one| one.id != client.id);
        clients.push(client);
    }

    pub(super) fn client(&self, id: &str) -> Option<Client> {
        locked(&self.clients).iter().find(|client| client.id == id).cloned()
    }

    /// The regular answer of an endpoint, or that of its fault if one is set.
    pub(super) fn answer_at(&self, endpoint: Endpoint, regular: impl FnOnce() -> Response) -> Reply {
        let fault = locked(&self.faults).take_for(endpoint);
        match fault {
            Some(fault) => fault.answer(regular),
            None => Reply::Answer(regular()),
        }
    }

    pub(super) fn with_client(&self, request: &Request, answer: impl FnOnce(&Client, &Form) -> Response) -> Response {
        let form = decode(&request.body);
        match self.authenticate(request, &form) {
            Some(client) => answer(&client, &form),
            None => refusal(401, "invalid_client", "client authentication failed")
                .with("WWW-Authenticate", "Basic realm=\"provider\""),
        }
    }

    /// Authenticates the client: by HTTP Basic, by the secret in the form, by a signature, or without a secret if it is public.
    fn authenticate(&self, request: &Request, form: &Form) -> Option<Client> {
        if let Some(proof) = first(form, "client_assertion") {
            return self.client_of_proof(proof, form);
        }
        let (id, secret) = match request.header("Authorization") {
            Some(header) => {
                let (id, secret) = basic(header)?;
                (id, Some(secret))
            }
            None => (first(form, "client_id")?.to_owned(), first(form, "client_secret").map(str::to_owned)),
        };
        self.client(&id).filter(|client| client.secret == secret && client.jwks.is_none())
    }
}

/// Name and password of a Basic header; both are form-encoded in it (RFC 6749, 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, value) = header.split_once(' ')?;
    let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':').filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let plain = |part: &str| decode(format!("={part}").as_bytes()).into_iter().next().map(|(_, value)| value);
    Some((plain(name)?, plain(password)?))
}
