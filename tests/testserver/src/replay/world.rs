// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers a scenario is played against.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use crate::client::{Fetch, Network};
use crate::http::{Handler, Reply, Request};
use crate::listener::{self, Listening};
use crate::mytoken::{Config, Limit, Server, Upstream};
use crate::provider::Provider;
use crate::provider::link::ProviderControl;
use crate::provider::policy::{Client, Policy, Setup};
use crate::provider::users::Users;

/// A mytoken server and what can be done to its provider.
pub(super) struct World {
    pub issuer: String,
    pub op: String,
    pub endpoints: Map<String, Value>,
    pub network: Network,
    /// Only of an own provider.
    pub control: Option<Arc<dyn ProviderControl>>,
    _listening: Vec<Listening>,
}

/// A listener has a port before the server behind it can know its own URL.
#[derive(Default)]
struct Later(OnceLock<Arc<dyn Handler>>);

impl Handler for Later {
    fn handle(&self, request: &Request) -> Reply {
        self.0.get().map_or(Reply::Close, |handler| handler.handle(request))
    }
}

impl World {
    /// An own provider and an own mytoken server on free ports. All of them read their provider's keys from the
    /// same folder: making them takes a while.
    pub(super) fn own(keys: &Path, server_config: Option<&Value>) -> Result<Self, String> {
        let start = || {
            let later = Arc::new(Later::default());
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listening = listener::spawn(address, None, Arc::clone(&later) as Arc<dyn Handler>)
                .map_err(|error| format!("cannot listen on {address}: {error}"))?;
            Ok::<_, String>((later, format!("http://{}", listening.address()), listening))
        };
        let (provider_later, op, provider_listening) = start()?;
        let (server_later, issuer, server_listening) = start()?;
        let provider = Arc::new(provider(&op, keys, &issuer)?);
        let upstream = Upstream { name: "OP".into(), info: provider.info()?, link: Arc::clone(&provider) as _ };
        let mut config = Config::captured(&issuer, vec![upstream]);
        config.limit = server_config.map(limit).transpose()?.flatten();
        let server: Arc<dyn Handler> = Arc::new(Server::new(config)?);
        let taken = |_| String::from("the listener has a server already");
        provider_later.0.set(Arc::clone(&provider) as _).map_err(taken)?;
        server_later.0.set(server).map_err(taken)?;
        Self::known(issuer, Some(op), Network::new(None)?, Some(provider), vec![provider_listening, server_listening])
    }

    /// Somebody else's server.
    pub(super) fn other(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        Self::known(url.trim_end_matches('/').to_owned(), None, Network::new(ca)?, None, Vec::new())
    }

    fn known(
        issuer: String,
        op: Option<String>,
        network: Network,
        control: Option<Arc<dyn ProviderControl>>,
        listening: Vec<Listening>,
    ) -> Result<Self, String> {
        let url = format!("{issuer}/.well-known/mytoken-configuration");
        let answer = network.fetch("GET", &url, &[("Accept", "application/json")], &[])?;
        let endpoints: Map<String, Value> =
            serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))?;
        let first = endpoints.get("providers_supported").and_then(|providers| providers.pointer("/0/issuer"));
        let op = op
            .or_else(|| first.and_then(Value::as_str).map(str::to_owned))
            .ok_or_else(|| format!("{url}: no provider"))?;
        Ok(Self { issuer, op, endpoints, network, control, _listening: listening })
    }
}

/// The provider of the captures. It makes its keys in the folder if there are none.
pub(super) fn provider(issuer: &str, keys: &Path, mytoken: &str) -> Result<Provider, String> {
    let client = Client {
        id: "mytoken".into(),
        secret: Some("mytoken-secret".into()),
        redirect_uris: vec![format!("{mytoken}/redirect")],
    };
    Provider::new(Setup {
        issuer: issuer.to_owned(),
        folder: Some(keys.to_owned()),
        clients: vec![client],
        users: Users::default(),
        policy: Policy::default(),
    })
}

/// The request limit of a capture's `server_config`.
fn limit(config: &Value) -> Result<Option<Limit>, String> {
    let Some(limits) = config.get("request_limits").filter(|limits| limits.get("enabled") == Some(&Value::Bool(true)))
    else {
        return Ok(None);
    };
    let number = |name: &str| limits.get(name).and_then(Value::as_i64).ok_or_else(|| format!("{name} is missing"));
    let exempt = limits.get("always_allow").and_then(Value::as_array).into_iter().flatten();
    Ok(Some(Limit {
        requests: u64::try_from(number("max_requests")?).map_err(|error| error.to_string())?,
        window: number("window")?,
        exempt: exempt.filter_map(|address| address.as_str().map(str::to_owned)).collect(),
    }))
}
