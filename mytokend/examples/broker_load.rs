// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays the agents of a large cluster against a broker, for `make bench`. Each node has a certificate, a connection and an address of its
//! own, below 127.0.0.0/8.
//!
//! `broker_load prepare AUTHORITY STATE_DIR NODES FILE` makes the certificates of n1 to nNODES, pins them in the register, and writes them to
//! FILE. `broker_load run AUTHORITY FILE BROKER JOB UID connected|at-once` reads a sealed credential on standard input, lets all nodes ask
//! for the token of JOB, and prints figures as JSON. `connected`: all nodes are connected before the first asks.
//!
//! `broker_load array AUTHORITY FILE BROKER ARRAY UID TASKS SECONDS ENDED SHOWN` lets the tasks of the job array ARRAY begin one after the
//! other within SECONDS, each on one of at most 1,000 nodes, and ask for its token. Then it renames ENDED to SHOWN, which is what slurmctld
//! is to show from now on, and all nodes tell the end.
#![allow(clippy::print_stdout, reason = "the benchmark that reads this waits for it")]

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use mytoken::config::FileTrust;
use mytokend::broker::identity::authority::read_certificates;
use mytokend::broker::identity::{Authority, CertificateRequest, NodeEntry, NodeName, Proof};
use mytokend::broker::messages::{
    END_PATH, EndAnswer, EndRequest, TOKEN_PATH, TokenAnswer, TokenOutcome, TokenRequest,
};
use mytokend::jobs::backoff;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;
use tokio::sync::{Barrier, Semaphore};
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsConnector;

type Failure = Box<dyn Error + Send + Sync>;

/// Time limit of an agent for a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Nodes that connect at the same time before a measurement of connected nodes. Clusters boot more slowly than this program.
const BOOTING: usize = 100;

/// When a node gives up.
const LIMIT: Duration = Duration::from_secs(120);

/// Life of the access tokens in seconds, for the pauses of agents.
const LIFE: u64 = 3600;

/// How long a node waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most nodes of an array. Each runs one task after the other.
const NODES_OF_ARRAY: usize = 1_000;

#[derive(Serialize, Deserialize)]
struct Node {
    key: String,
    certificate: String,
}

#[derive(Serialize)]
struct Figures {
    nodes: usize,
    /// Nodes without a token.
    failed: usize,
    /// An example of why.
    failure: Option<String>,
    /// Different tokens.
    tokens: usize,
    /// Connections and requests, with those that failed.
    attempts: u32,
    /// From the first connection to the last token.
    seconds: f64,
    /// From a node's request to its token; `at-once`: from the begin.
    median_s: f64,
    p99_s: f64,
    longest_s: f64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["prepare", authority, state_dir, nodes, file] => {
            prepare(Path::new(authority), Path::new(state_dir), nodes.parse()?, Path::new(file))
        }
        ["run", authority, file, broker, job, uid, mode @ ("connected" | "at-once")] => {
            let mut sealed = String::new();
            std::io::stdin().read_to_string(&mut sealed)?;
            let patience = u64::try_from(PATIENCE.as_millis())?;
            let (job, uid, sealed) = (job.parse()?, uid.parse()?, sealed.trim().to_owned());
            let body = serde_json::to_vec(&TokenRequest { job, uid, sealed, file: None, patience })?;
            let nodes: Vec<Node> = serde_json::from_slice(&std::fs::read(file)?)?;
            let clients = clients(Path::new(authority), &nodes)?;
            let (booting, barrier) = match *mode {
                "connected" => (Semaphore::new(BOOTING), Some(Barrier::new(nodes.len()))),
                _ => (Semaphore::new(nodes.len()), None),
            };
            let cluster = Cluster { broker: broker.parse()?, body: body.into(), booting, barrier };
            let figures = runtime()?.block_on(cluster.run(clients))?;
            println!("{}", serde_json::to_string(&figures)?);
            Ok(())
        }
        ["array", authority, file, broker, array, uid, tasks, seconds, ended, shown] => {
            let mut sealed = String::new();
            std::io::stdin().read_to_string(&mut sealed)?;
            let mut nodes: Vec<Node> = serde_json::from_slice(&std::fs::read(file)?)?;
            nodes.truncate(NODES_OF_ARRAY);
            let clients = clients(Path::new(authority), &nodes)?;
            let (booting, barrier) = (Semaphore::new(BOOTING), Some(Barrier::new(nodes.len())));
            let cluster = Arc::new(Cluster { broker: broker.parse()?, body: Bytes::new(), booting, barrier });
            let (id, uid, tasks, sealed) = (array.parse()?, uid.parse()?, tasks.parse()?, sealed.trim().to_owned());
            let array = Arc::new(Array { id, uid, sealed, tasks, within: Duration::from_secs(seconds.parse()?) });
            let (asked, tokens) = runtime()?.block_on(cluster.run_array(clients, &array, (ended, shown)))?;
            println!("{}", serde_json::json!({"asked": asked, "tokens": tokens}));
            Ok(())
        }
        _ => Err("see the beginning of broker_load.rs for the arguments".into()),
    }
}

/// A runtime, with as many connections as the system permits.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn prepare(directory: &Path, state_dir: &Path, nodes: u32, file: &Path) -> Result<(), Failure> {
    let (key, certificate) = (directory.join("broker-ca.key"), directory.join("broker-ca.pem"));
    let authority = Authority::load(&key, &certificate, FileTrust::current())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut all = Vec::new();
    for number in 1..=nodes {
        let node: NodeName = format!("n{number}").parse()?;
        let key = KeyPair::generate()?;
        let request = CertificateRequest::read(CertificateParams::default().serialize_request(&key)?.der())?;
        let certificate = authority.sign_node(&request, &node, now)?;
        let entry = NodeEntry {
            node: node.clone(),
            key: Some(request.key()),
            enrolled: now,
            proof: Some(Proof::Code),
            certificate_ends: certificate.ends,
            address: None,
        };
        // As a broker does it, but without waiting for the disk ten thousand times.
        write(&state_dir.join("nodes").join(format!("{node}.json")), &serde_json::to_vec(&entry)?)?;
        all.push(Node { key: key.serialize_pem(), certificate: certificate.pem });
    }
    write(file, &serde_json::to_vec(&all)?)
}

fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(content)?)
}

/// TLS settings of each node.
fn clients(directory: &Path, nodes: &[Node]) -> Result<Vec<TlsConnector>, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(&directory.join("broker-ca.pem"), FileTrust::current())? {
        roots.add(certificate)?;
    }
    let (roots, provider) = (Arc::new(roots), Arc::new(rustls::crypto::ring::default_provider()));
    let client = |node: &Node| -> Result<TlsConnector, Failure> {
        let key = PrivateKeyDer::from_pem_slice(node.key.as_bytes())?;
        let certificate = CertificateDer::from_pem_slice(node.certificate.as_bytes())?;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(config)))
    };
    nodes.iter().map(client).collect()
}

struct Cluster {
    broker: SocketAddr,
    body: Bytes,
    booting: Semaphore,
    /// All nodes wait here between connection and request.
    barrier: Option<Barrier>,
}

/// How it went for a node.
struct Outcome {
    token: Result<String, Failure>,
    attempts: u32,
    took: Duration,
    /// It stays open: the others' answers are still to come.
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Cluster {
    async fn run(self, clients: Vec<TlsConnector>) -> Result<Figures, Failure> {
        let nodes = clients.len();
        let (cluster, begin) = (Arc::new(self), Instant::now());
        let mut tasks = Vec::new();
        for (number, client) in (1..).zip(clients) {
            let cluster = Arc::clone(&cluster);
            tasks.push(tokio::spawn(async move { cluster.play(number, client, begin).await }));
        }
        let (mut tokens, mut times, mut attempts) = (Vec::new(), Vec::new(), 0);
        let (mut failure, mut connections) = (None, Vec::new());
        for task in tasks {
            let outcome = task.await?;
            attempts += outcome.attempts;
            connections.push(outcome.connection);
            match outcome.token {
                Ok(token) => {
                    tokens.push(token);
                    times.push(outcome.took.as_secs_f64());
                }
                Err(error) => failure = Some(error.to_string()),
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        drop(connections);
        times.sort_by(f64::total_cmp);
        let share = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied();
        let failed = nodes - tokens.len();
        tokens.sort_unstable();
        tokens.dedup();
        Ok(Figures {
            nodes,
            failed,
            failure,
            tokens: tokens.len(),
            attempts,
            seconds,
            median_s: share(50).unwrap_or_default(),
            p99_s: share(99).unwrap_or_default(),
            longest_s: share(100).unwrap_or_default(),
        })
    }

    /// A node tries until it has its token.
    async fn play(&self, number: u32, client: TlsConnector, begin: Instant) -> Outcome {
        let (mut attempts, mut kept, mut asked) = (0_u32, None, begin);
        let token = loop {
            attempts += 1;
            let attempt = async {
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => {
                        let _place = self.booting.acquire().await?;
                        timeout(CONNECT, self.connect(number, &client)).await??
                    }
                };
                if let (Some(barrier), true) = (&self.barrier, asked == begin) {
                    timeout(LIMIT, barrier.wait()).await.map_err(|_| "not all nodes could connect")?;
                    asked = Instant::now();
                }
                let token = self.token(&mut connection, self.body.clone()).await;
                kept = Some(connection).filter(|connection| !connection.is_closed());
                token
            };
            match attempt.await {
                Ok(token) => break Ok(token),
                Err(error) if begin.elapsed() > LIMIT => break Err(error),
                Err(_) => {
                    let pause = backoff(attempts, LIFE, None, None, rand::random());
                    tokio::time::sleep(pause.min(LIMIT.saturating_sub(begin.elapsed()))).await;
                }
            }
        };
        let took = asked.elapsed();
        Outcome { token, attempts, took, connection: kept }
    }

    async fn connect(&self, number: u32, client: &TlsConnector) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let [_, high, middle, low] = number.to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, high + 1, middle, low), 0)))?;
        let stream = socket.connect(self.broker).await?;
        stream.set_nodelay(true)?;
        let name = match self.broker.ip() {
            IpAddr::V4(address) => ServerName::from(IpAddr::V4(address)),
            IpAddr::V6(_) => return Err("the broker's address is not IPv4".into()),
        };
        let stream = client.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn token(&self, connection: &mut SendRequest<Full<Bytes>>, body: Bytes) -> Result<String, Failure> {
        match serde_json::from_slice::<TokenAnswer>(&self.ask(connection, TOKEN_PATH, body).await?)?.outcome {
            TokenOutcome::Token { token, .. } => Ok(token.expose().to_owned()),
            TokenOutcome::Later { reason, .. } | TokenOutcome::Refused { reason, .. } => Err(reason.into()),
        }
    }

    async fn ask(&self, connection: &mut SendRequest<Full<Bytes>>, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        connection.ready().await?;
        let host = self.broker.to_string();
        let request = Request::post(path).header("host", host).body(Full::new(body))?;
        let answer = connection.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(format!("status {status}").into()) }
    }

    /// Plays a job array. Returns the number of its tasks that have asked, and of different tokens.
    async fn run_array(
        self: Arc<Self>,
        clients: Vec<TlsConnector>,
        array: &Arc<Array>,
        (ended, shown): (&str, &str),
    ) -> Result<(u32, usize), Failure> {
        let nodes = u32::try_from(clients.len())?;
        let mut playing = Vec::new();
        for (number, client) in (1..).zip(clients) {
            let (cluster, array) = (Arc::clone(&self), Arc::clone(array));
            playing.push(tokio::spawn(async move { cluster.play_tasks(number, &client, nodes, &array).await }));
        }
        let (mut asked, mut tokens, mut connections) = (0, BTreeSet::new(), Vec::new());
        for node in playing {
            let (count, of_node, connection) = node.await??;
            asked += count;
            tokens.extend(of_node);
            connections.push(connection);
        }
        std::fs::rename(ended, shown)?;
        for (number, connection) in (1..).zip(&mut connections) {
            let (job, uid, sealed) = (array.id + number, array.uid, array.sealed.clone());
            let body = serde_json::to_vec(&EndRequest { job, uid, sealed })?;
            serde_json::from_slice::<EndAnswer>(&self.ask(connection, END_PATH, body.into()).await?)?;
        }
        Ok((asked, tokens.len()))
    }

    /// A node runs every task whose number is its own, or that by multiples of `nodes` higher.
    async fn play_tasks(
        &self,
        number: u32,
        client: &TlsConnector,
        nodes: u32,
        array: &Array,
    ) -> Result<(u32, BTreeSet<String>, SendRequest<Full<Bytes>>), Failure> {
        let mut connection = {
            let _place = self.booting.acquire().await?;
            timeout(CONNECT, self.connect(number, client)).await??
        };
        if let Some(barrier) = &self.barrier {
            timeout(LIMIT, barrier.wait()).await.map_err(|_| "not all nodes could connect")?;
        }
        let (begin, mut asked, mut tokens) = (tokio::time::Instant::now(), 0, BTreeSet::new());
        for task in (number..=array.tasks).step_by(usize::try_from(nodes)?) {
            sleep_until(begin + array.within.mul_f64(f64::from(task - 1) / f64::from(array.tasks))).await;
            let (job, uid, sealed) = (array.id + task, array.uid, array.sealed.clone());
            let patience = u64::try_from(PATIENCE.as_millis())?;
            let body = serde_json::to_vec(&TokenRequest { job, uid, sealed, file: None, patience })?;
            tokens.insert(self.token(&mut connection, body.into()).await?);
            asked += 1;
        }
        Ok((asked, tokens, connection))
    }
}

/// A job array. Task T is the job with its id plus T.
struct Array {
    id: u32,
    uid: u32,
    sealed: String,
    tasks: u32,
    /// The last task begins after this time.
    within: Duration,
}
