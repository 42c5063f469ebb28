// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server against which scenarios are played, with the access to its provider.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::command;
use super::outcome::Stop;
use super::provider_access::ProviderAccess;
use crate::client::{Fetch, HttpClient};
use crate::http::{Handler, Reply, Request, Response};
use crate::listener::{self, Listening};
use crate::mytoken::{Config, Limit, Server, Upstream};
use crate::provider::Provider;
use crate::provider::policy::{Client, Policy, Setup};
use crate::provider::users::Users;

/// A mytoken server.
pub(super) struct Target {
    /// Its URL.
    pub issuer: String,
    /// Issuer URL of its first provider.
    pub op: String,
    /// Its discovery document.
    pub endpoints: Map<String, Value>,
    /// The client for its requests.
    pub network: HttpClient,
    /// Access to its provider, if there is any.
    pub provider: Option<ProviderAccess>,
    /// A command that gets first tokens, instead of logins.
    pub first_token_command: Option<String>,
    browser: Option<BrowserAccess>,
    listening: Vec<Listening>,
}

/// How a user logs in at the provider.
enum BrowserAccess {
    /// A call of the provider in this process.
    Call(Arc<Provider>),
    /// The command of `--browser`.
    Command(String),
}

/// The commands of the caller for a foreign server.
#[derive(Debug, Default, Clone)]
pub(super) struct Commands {
    /// Logs a user in at the provider.
    pub browser: Option<String>,
    /// Sets faults of the provider and prints its requests.
    pub provider_faults: Option<String>,
    /// Gets first tokens.
    pub first_token: Option<String>,
}

/// A handler that is set later: a server needs its URL, and so its port, before it is made.
#[derive(Default)]
struct DeferredHandler(OnceLock<Arc<dyn Handler>>);

impl Handler for DeferredHandler {
    fn handle(&self, request: &Request) -> Reply {
        self.0.get().map_or(Reply::Close, |handler| handler.handle(request))
    }
}

impl Target {
    /// Starts a provider and a mytoken server in this process, on free ports. All providers read their keys from the
    /// same folder, because making keys takes long.
    pub(super) fn start(keys: &Path, server_config: Option<&Value>) -> Result<Self, String> {
        let start_listener = || {
            let handler = Arc::new(DeferredHandler::default());
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listening = listener::spawn(address, None, Arc::clone(&handler) as Arc<dyn Handler>)
                .map_err(|error| format!("cannot listen on {address}: {error}"))?;
            Ok::<_, String>((handler, format!("http://{}", listening.address()), listening))
        };
        let (provider_handler, op, provider_listening) = start_listener()?;
        let (server_handler, issuer, server_listening) = start_listener()?;
        let provider = Arc::new(provider(&op, keys, &issuer)?);
        let upstream = Upstream { name: "OP".into(), info: provider.info()?, link: Arc::clone(&provider) as _ };
        let mut config = Config::captured(&issuer, vec![upstream]);
        config.limit = server_config.map(limit).transpose()?.flatten();
        let server: Arc<dyn Handler> = Arc::new(Server::new(config)?);
        let taken = |_| String::from("the listener has a server already");
        provider_handler.0.set(Arc::clone(&provider) as _).map_err(taken)?;
        server_handler.0.set(server).map_err(taken)?;
        let mut target = Self::discover(issuer, Some(op), HttpClient::new(None)?)?;
        target.browser = Some(BrowserAccess::Call(Arc::clone(&provider)));
        target.provider = Some(ProviderAccess::Own(provider));
        target.listening = vec![provider_listening, server_listening];
        Ok(target)
    }

    /// Connects to a foreign server.
    pub(super) fn connect(url: &str, ca: Option<&Path>, commands: Commands) -> Result<Self, String> {
        let mut target = Self::discover(url.trim_end_matches('/').to_owned(), None, HttpClient::new(ca)?)?;
        target.provider = commands.provider_faults.map(ProviderAccess::Command);
        target.browser = commands.browser.map(BrowserAccess::Command);
        target.first_token_command = commands.first_token;
        Ok(target)
    }

    fn discover(issuer: String, op: Option<String>, network: HttpClient) -> Result<Self, String> {
        let url = format!("{issuer}/.well-known/mytoken-configuration");
        let answer = network.fetch("GET", &url, &[("Accept", "application/json")], &[])?;
        let endpoints: Map<String, Value> =
            serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))?;
        let first = endpoints.get("providers_supported").and_then(|providers| providers.pointer("/0/issuer"));
        let op = op
            .or_else(|| first.and_then(Value::as_str).map(str::to_owned))
            .ok_or_else(|| format!("{url}: the list of providers is empty"))?;
        Ok(Self {
            issuer,
            op,
            endpoints,
            network,
            provider: None,
            first_token_command: None,
            browser: None,
            listening: Vec::new(),
        })
    }

    /// Whether the replay itself gets first tokens by logins, so that their history is known.
    pub(super) fn logs_in_itself(&self) -> bool {
        self.first_token_command.is_none()
    }

    /// Logs in at the provider of an authorization request; returns the URL to which the browser is sent.
    pub(super) fn log_in(&self, authorization_uri: &str, user: &str) -> Result<String, Stop> {
        if authorization_uri.starts_with(&format!("{}/", self.issuer)) {
            // The provider for guests shows no page.
            let answer = self.browse(authorization_uri)?;
            return answer
                .header("Location")
                .map(str::to_owned)
                .ok_or_else(|| "the provider for guests refused the login".into());
        }
        match &self.browser {
            Some(BrowserAccess::Call(provider)) => Ok(provider.log_in_at(authorization_uri, user)?),
            Some(BrowserAccess::Command(command)) => {
                redirect_of(&self.issuer, &command::run(command, &[authorization_uri, user], b"")?)
            }
            None => Err(Stop::Unplayable("needs a login: give --browser, or --first-token for first tokens".into())),
        }
    }

    /// Opens a URL as a browser does.
    pub(super) fn browse(&self, url: &str) -> Result<Response, String> {
        self.network.fetch("GET", url, &[("User-Agent", "browser/1.0"), ("Accept", "text/html")], &[])
    }
}

/// Checks the URL that a browser command printed: it must be the server's `/redirect`.
fn redirect_of(issuer: &str, printed: &str) -> Result<String, Stop> {
    let last = printed.lines().next_back().unwrap_or_default().trim();
    let below = last.strip_prefix(issuer).and_then(|path| path.strip_prefix("/redirect"));
    if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('?')) {
        return Ok(last.to_owned());
    }
    Err(Stop::Differs(format!("the browser command must print the URL of {issuer}/redirect that it was sent to")))
}

/// The provider of the captures. It makes keys in the folder if there are none.
pub(super) fn provider(issuer: &str, keys: &Path, mytoken: &str) -> Result<Provider, String> {
    let client = Client {
        id: "mytoken".into(),
        secret: Some("mytoken-secret".into()),
        jwks: None,
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
