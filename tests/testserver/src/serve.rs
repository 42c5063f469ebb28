// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testserver serve`: runs the provider, the mytoken server, the resource server and the control API until SIGTERM.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use url::Url;

use crate::client::InProcess;
use crate::control::{Control, MytokenControl};
use crate::http::Handler;
use crate::journal::JournaledHandler;
use crate::listener;
use crate::mytoken;
use crate::provider::Provider;
use crate::provider::policy::{Client, Policy, Setup};
use crate::provider::random::random;
use crate::provider::users::Users;
use crate::resource::ResourceServer;
use crate::tls;

/// Arguments of `testserver serve`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Folder for keys, certificates (`ca.pem`) and `endpoints.json`.
    #[arg(long)]
    dir: PathBuf,
    /// Further settings as JSON: `clients`, `policy`, `users`, `resource_audiences`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Users and their claims, JSON or TOML.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Lifetime of access tokens in seconds.
    #[arg(long, value_name = "SECONDS")]
    at_lifetime: Option<u64>,
    /// Audience that the resource server accepts in addition to its URL; may be repeated.
    #[arg(long, value_name = "AUDIENCE")]
    resource_audience: Vec<String>,
    /// Request limit of the mytoken server per client address. 100/300s is the default of the original; here the
    /// default is no limit.
    #[arg(long, value_name = "N/SECONDSs")]
    request_limit: Option<mytoken::Limit>,
    /// Address or network without a request limit; may be repeated.
    #[arg(long, value_name = "NETWORK", default_values = mytoken::LOOPBACK)]
    request_limit_exempt: Vec<String>,
    /// Use HTTP instead of HTTPS.
    #[arg(long)]
    plain: bool,
    /// Address of the mytoken server; port 0 takes a free one, here and below.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    mytoken_addr: SocketAddr,
    /// Its URL for clients; by default made from the address.
    #[arg(long, value_name = "URL")]
    mytoken_url: Option<String>,
    /// Address of the provider.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8444")]
    provider_addr: SocketAddr,
    /// Its issuer URL; by default made from the address.
    #[arg(long, value_name = "URL")]
    provider_url: Option<String>,
    /// Address of the resource server.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8445")]
    resource_addr: SocketAddr,
    /// Its URL, which is also an audience; by default made from the address.
    #[arg(long, value_name = "URL")]
    resource_url: Option<String>,
    /// Address of the control API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9440")]
    control_addr: SocketAddr,
}

/// The settings file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ServeSettings {
    clients: Vec<Client>,
    policy: Option<Value>,
    users: Option<Value>,
    resource_audiences: Vec<String>,
}

/// Runs the servers until SIGTERM or SIGINT.
///
/// # Errors
/// The reason why they could not be started.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    fs::create_dir_all(&options.dir).map_err(|error| format!("{}: {error}", options.dir.display()))?;
    let (control_socket, control_address) = bound(options.control_addr)?;
    if !control_address.ip().is_loopback() {
        return Err("the control API may only listen on a loopback address".into());
    }
    let file = options.dir.join("endpoints.json");
    // A file of an earlier run would announce servers that do not run yet.
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", file.display()));
        }
        _ => {}
    }
    let control = start(options, control_address)?;
    let endpoints = control.endpoints.to_string();
    // The handlers must be there before the servers are announced: without a handler, the first process of a PID namespace does not
    // get the signal.
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| error.to_string())?;
    let listening = listener::spawn_on(control_socket, None, Arc::new(control))
        .map_err(|error| format!("{control_address}: {error}"))?;
    fs::write(&file, endpoints).map_err(|error| format!("{}: {error}", file.display()))?;
    // The parent may have closed the pipe already.
    let _ = writeln!(std::io::stdout(), "ready").and_then(|()| std::io::stdout().flush());
    let _ = signals.forever().next();
    drop(listening);
    Ok(ExitCode::SUCCESS)
}

/// Socket, address and URL of a server.
struct ServiceAddress {
    /// From the start: another server would take the port while this one makes its keys.
    socket: TcpListener,
    address: SocketAddr,
    url: String,
}

impl ServiceAddress {
    fn of(address: SocketAddr, url: Option<&str>, plain: bool) -> Result<Self, String> {
        let (socket, address) = bound(address)?;
        let scheme = if plain { "http" } else { "https" };
        let url = url.map_or_else(|| format!("{scheme}://{address}"), |url| url.trim_end_matches('/').to_owned());
        let parsed = Url::parse(&url).map_err(|error| format!("{url}: {error}"))?;
        if parsed.scheme() == scheme {
            Ok(Self { socket, address, url })
        } else {
            Err(format!("{url}: the scheme must be {scheme}"))
        }
    }

    /// The host of the URL and the address, for the certificate.
    fn names(&self) -> Vec<String> {
        let host = Url::parse(&self.url)
            .ok()
            .and_then(|url| url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned()));
        let address = Some(self.address.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
        host.into_iter().chain(address).collect()
    }
}

/// A socket at the address, with a free port in the place of port 0. The URLs contain the port, so it must be known before a server listens. Ports from
/// 32768 on are not used: the kernel could give one to an outgoing connection before the server listens.
fn bound(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    if address.port() != 0 {
        let socket = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
        return Ok((socket, address));
    }
    let mut last = String::new();
    for _ in 0..100 {
        let number = std::process::id().wrapping_mul(31).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let candidate = SocketAddr::new(address.ip(), u16::try_from(20_000 + number % 12_000).unwrap_or(20_000));
        match TcpListener::bind(candidate) {
            Ok(socket) => return Ok((socket, candidate)),
            Err(error) => last = format!("{candidate}: {error}"),
        }
    }
    Err(last)
}

fn start(options: &Options, control: SocketAddr) -> Result<Control, String> {
    let settings = settings(options)?;
    let service = |address, url: &Option<String>| ServiceAddress::of(address, url.as_deref(), options.plain);
    let mytoken_at = service(options.mytoken_addr, &options.mytoken_url)?;
    let provider_at = service(options.provider_addr, &options.provider_url)?;
    let resource_at = service(options.resource_addr, &options.resource_url)?;

    let provider = Arc::new(provider(options, &settings, &provider_at.url, &mytoken_at.url)?);
    let upstream = mytoken::Upstream { name: "OP".into(), info: provider.info()?, link: provider.clone() };
    let mut mytoken_config = mytoken::Config::captured(&mytoken_at.url, vec![upstream]);
    let limit = options.request_limit.clone();
    mytoken_config.limit = limit.map(|limit| mytoken::Limit { exempt: options.request_limit_exempt.clone(), ..limit });
    let mytoken = Arc::new(mytoken::Server::new(mytoken_config)?);
    let audiences = [std::slice::from_ref(&resource_at.url), &settings.resource_audiences, &options.resource_audience];
    let resource = ResourceServer { issuer: provider.clone(), audiences: audiences.concat() };
    let provider_journal = Arc::new(JournaledHandler::of(provider.clone()));
    let resource_journal = Arc::new(JournaledHandler::of(Arc::new(resource)));

    let services = [&mytoken_at, &provider_at, &resource_at];
    let mut names: Vec<String> = services.iter().flat_map(|service| service.names()).collect();
    names.extend(["localhost".into(), "127.0.0.1".into()]);
    names.sort();
    names.dedup();
    let tls = if options.plain { None } else { Some(tls::server_config(&options.dir, &names)?) };
    let listen = |socket: TcpListener, address: SocketAddr, handler: Arc<dyn Handler>| {
        listener::spawn_on(socket, tls.clone(), handler).map_err(|error| format!("{address}: {error}"))
    };
    Ok(Control {
        mytoken_listening: listen(mytoken_at.socket, mytoken_at.address, mytoken.clone())?,
        provider_listening: listen(provider_at.socket, provider_at.address, provider_journal.clone())?,
        resource_listening: listen(resource_at.socket, resource_at.address, resource_journal.clone())?,
        in_process: InProcess::default()
            .with(&mytoken_at.url, mytoken.clone())
            .with(&provider_at.url, provider_journal.clone()),
        endpoints: json!({
            "mytoken": mytoken_at.url, "provider": provider_at.url, "resource": resource_at.url,
            "control": format!("http://{control}"), "ca": (!options.plain).then(|| options.dir.join(tls::CA_FILE)),
        }),
        mytoken_url: mytoken_at.url,
        provider,
        mytoken,
        provider_journal,
        resource_journal,
    })
}

fn settings(options: &Options) -> Result<ServeSettings, String> {
    let Some(path) = &options.config else { return Ok(ServeSettings::default()) };
    let named = |reason: String| format!("{}: {reason}", path.display());
    let text = fs::read(path).map_err(|error| named(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| named(error.to_string()))
}

fn provider(options: &Options, settings: &ServeSettings, url: &str, mytoken_url: &str) -> Result<Provider, String> {
    let users = match (&options.users, &settings.users) {
        (Some(path), _) => Users::read(path)?,
        (None, Some(users)) => Users::from_json(users.clone())?,
        (None, None) => Users::default(),
    };
    let mut policy = Policy::default();
    if let Some(change) = &settings.policy {
        policy = policy.with_changes(change)?;
    }
    if let Some(seconds) = options.at_lifetime {
        policy.lifetime = seconds;
    }
    let mut clients = vec![Client {
        id: "mytoken".into(),
        secret: Some(random()?),
        jwks: None,
        redirect_uris: vec![format!("{mytoken_url}/redirect")],
    }];
    clients.extend(settings.clients.iter().cloned());
    Provider::new(Setup { issuer: url.to_owned(), folder: Some(options.dir.clone()), clients, users, policy })
}

impl MytokenControl for mytoken::Server {
    fn set_fault(&self, name: &str, args: &Value) -> Result<(), String> {
        Self::set_fault(self, name, args)
    }

    fn journal(&self) -> Vec<Value> {
        Self::journal(self)
    }

    fn clear_journal(&self) {
        Self::clear_journal(self);
    }
}
