// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes and brokers of neighbouring versions: during an upgrade both are there. Nothing is negotiated. A new version may add paths and
//! members, which an older one does not know; the number in the paths is for a change that cannot be made so.

use std::fmt::Debug;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};

use mytoken::Clock as _;
use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, Owner};
use mytoken_wire::agent::UsedUp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::client::{BrokerClient, ClientError};
use super::super::connection_threads::ConnectionThreads;
use super::super::entrance::Entrance;
use super::super::identity::authority::{CERTIFICATE, KEY};
use super::super::identity::enrolment::Enrolments;
use super::super::identity::munge::{ConnectionAddress, NodeAddresses};
use super::super::identity::{Authority, BrokerTls, CertificateRequest, NodeName, Proof, Register, Repin, StateDir};
use super::super::messages::{
    CertificateAnswer, END_PATH, EnrolRequest, JobsAnswer, JobsRequest, KeepAnswer, KeepRequest, KeptAnswer,
    KeptRequest, PERMIT_PATH, PermitRequest, Refusal, RenewRequest, StartAnswer, StartRequest, TOKEN_PATH,
};
use super::super::server::Server;
use super::*;
use crate::agent::budget::ledger::Purpose;
use crate::agent::budget::report::{HostReport, ReportedRest, ReportedUse};
use crate::agent::budget::site::SitePermit;

/// The addresses of all names. `None`: no name server answers.
#[derive(Default)]
pub(super) struct Addresses {
    pub(super) of_all: Mutex<Option<Vec<IpAddr>>>,
    pub(super) questions: AtomicUsize,
}

impl NodeAddresses for Addresses {
    fn addresses(&self, _node: &NodeName) -> std::io::Result<Vec<IpAddr>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.of_all.lock().unwrap().clone().ok_or_else(|| std::io::ErrorKind::TimedOut.into())
    }
}

/// A broker that listens, and the connection of a node that is enrolled there.
pub(super) struct Connected {
    client: BrokerClient,
    pub(super) address: String,
    pub(super) register: Arc<Register>,
    pub(super) addresses: Arc<Addresses>,
    /// What the node shows.
    pub(super) shown: rustls::ClientConfig,
    /// Its certificate, and the broker's authority.
    pub(super) certificates: [CertificateDer<'static>; 2],
    /// What the broker logs of connections.
    pub(super) log: UnixDatagram,
    /// What the broker shows.
    tls: Arc<rustls::ServerConfig>,
    pub(super) test: TestBroker,
    /// The connections end when it is dropped.
    _stop: watch::Sender<()>,
    _temp: tempfile::TempDir,
}

pub(super) fn connected() -> Connected {
    connected_at(ConnectionAddress::Checked)
}

pub(super) fn connected_at(check: ConnectionAddress) -> Connected {
    let temp = tempfile::tempdir().unwrap();
    let now = SystemClock.now();
    Authority::create(&Directory::open(temp.path()).unwrap(), "testbed", now).unwrap();
    let [key, certificate] = [KEY, CERTIFICATE].map(|name| temp.path().join(name));
    let authority = Arc::new(Authority::load(&key, &certificate, FileTrust::user(Owner::current().uid)).unwrap());

    let state = StateDir::open_or_make(&temp.path().join("broker")).unwrap();
    let register = Arc::new(state.register(Arc::new(SystemClock)).unwrap());
    let files = StateDir::open_or_make(&temp.path().join("node")).unwrap().node_files("n1".parse().unwrap());
    let identity = files.load().unwrap();
    let request = CertificateRequest::read(&identity.request().unwrap()).unwrap();
    let signed = authority.sign_node(&request, files.node(), now).unwrap();
    let identity = files.store(identity, &signed.pem).unwrap();
    register.pin(files.node(), identity.key(), Proof::Code, authority.node_end(now), Repin::Refused).unwrap();

    let names = vec!["127.0.0.1".to_owned()];
    let tls = BrokerTls::new(Arc::clone(&authority), names, None, Arc::new(SystemClock)).unwrap();
    let shows = tls.config();
    let shown = identity.client_config(authority.certificates(), Arc::new(SystemClock)).unwrap();
    let own = CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap();
    let certificates = [own, authority.certificates()[0].clone()];
    let addresses: Arc<Addresses> = Arc::default();
    let enrolments = Enrolments {
        authority,
        register: Arc::clone(&register),
        cluster: "testbed".to_owned(),
        munge: None,
        resolver: Arc::clone(&addresses) as _,
        check,
        repin: Repin::Refused,
        codes: state.codes().unwrap(),
        attempts: Default::default(),
        clock: Arc::new(SystemClock),
    };
    let log_path = temp.path().join("log");
    let log = UnixDatagram::bind(&log_path).unwrap();
    let fakes = Fakes { life: 100, squeue: Mutex::new(Some(RUNNING.to_owned())), ..Fakes::default() };
    let test = TestBroker::with_log(fakes, Arc::new(SystemClock), Log::open_at("broker", &log_path));
    let entrance = Entrance::new(tls, enrolments, Arc::new(SystemClock), Arc::clone(&test.broker.log));
    let server = Server::new(Arc::clone(&test.broker), watch::channel(Arc::new(entrance)).1);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = watch::channel(());
    drop(ConnectionThreads::start(&server, &listener, &stopped).unwrap());
    let client = BrokerClient::new(vec![address.clone()], shown.clone()).unwrap();
    Connected {
        client,
        address,
        register,
        addresses,
        shown,
        certificates,
        log,
        tls: shows,
        test,
        _stop: stop,
        _temp: temp,
    }
}

impl Connected {
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ClientError> {
        self.client.post(path, body, Deadline::after(Duration::from_secs(20)))
    }

    /// What the node's agent says of a request that the broker does not answer.
    fn failure(&self, path: &str, body: &Value) -> String {
        self.post::<Value>(path, body).unwrap_err().to_string()
    }
}

/// A request for a token as the first version wrote it.
pub(super) fn first_request() -> Value {
    json!({"job": 1, "uid": 7, "sealed": "7:a", "patience": 20_000})
}

#[test]
fn a_node_of_a_later_version_is_served_and_told_what_the_broker_does_not_know() {
    let site = connected();
    let mut later = first_request();
    later["news"] = json!({"a": [1]});
    assert_eq!(said(site.post(TOKEN_PATH, &later).unwrap()), Ok("token-0".to_owned()));
    let mut purpose = json!({"server": "https://mytoken", "purpose": "news", "uid": 7});
    assert_eq!(site.post::<SitePermit>(PERMIT_PATH, &purpose), Ok(SitePermit::Unlimited {}));
    purpose["report"] =
        json!({"sent": [{"purpose": "news", "requests": 3, "news": 1}], "told": {"left": 1, "ends": 9}});
    assert_eq!(site.post::<SitePermit>(PERMIT_PATH, &purpose), Ok(SitePermit::Unlimited {}));
    let unknown = format!(
        "the broker {} answered 404: this broker does not know the request; it may be of an older version",
        site.address
    );
    assert_eq!(site.failure("/v2/token", &later), unknown);
    assert_eq!(site.failure("/v1/news", &later), unknown);
}

#[test]
fn a_node_of_an_earlier_version_is_served_and_told_if_that_cannot_be() {
    let site = connected();
    assert_eq!(said(site.post(TOKEN_PATH, &first_request()).unwrap()), Ok("token-0".to_owned()));
    let end = json!({"job": 1, "uid": 7, "sealed": "7:a"});
    assert!(matches!(site.post(END_PATH, &end), Ok(EndAnswer::Waits { .. })));
    let other_form = format!("the broker {} answered 400: the request has another form", site.address);
    assert_eq!(site.failure(TOKEN_PATH, &json!({"job": 1, "text": "7:a"})), other_form);
}

/// What a node of another version expects for an answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OtherAnswer {
    News {},
}

#[test]
fn a_node_that_cannot_read_an_answer_says_so_in_one_sentence() {
    let site = connected();
    let failure = site.post::<OtherAnswer>(TOKEN_PATH, &first_request()).unwrap_err();
    let sentence = format!("the answer of the broker {} cannot be read; it may be of another version", site.address);
    assert_eq!(failure.to_string(), sentence);
}

/// Answers each request with a page, as a proxy in front of a broker does that lacks a path. It has the broker's certificate. Returns its
/// address, and what it gets.
fn proxy(tls: &Arc<rustls::ServerConfig>) -> (String, Receiver<Vec<u8>>) {
    let (told, received) = channel();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, tls) = (listener.local_addr().unwrap().to_string(), Arc::clone(tls));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&tls)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let (mut request, mut part) = (Vec::new(), [0; 4096]);
            // Bodies are objects. What is not read would break the connection before the answer.
            while !request.ends_with(b"}") {
                match stream.read(&mut part) {
                    Ok(length @ 1..) => request.extend_from_slice(&part[..length]),
                    _ => break,
                }
            }
            let _ = told.send(request);
            let page = "<html>Not Found</html>";
            let head = format!("HTTP/1.1 404 x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", page.len());
            let _ = stream.write_all(format!("{head}{page}").as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (address, received)
}

#[test]
fn a_proxy_in_front_of_one_broker_keeps_no_node_from_the_other_one() {
    let site = connected();
    let (proxy, _) = proxy(&site.tls);
    let client = |brokers: &[&String]| {
        let brokers = brokers.iter().map(ToString::to_string).collect();
        BrokerClient::new(brokers, site.shown.clone()).unwrap()
    };
    let soon = || Deadline::after(Duration::from_secs(20));
    let both = client(&[&proxy, &site.address]);
    assert_eq!(said(both.post(TOKEN_PATH, &first_request(), soon()).unwrap()), Ok("token-0".to_owned()));
    assert_eq!(both.in_order(), [site.address.as_str(), proxy.as_str()], "the one that answered is asked from now on");
    let alone = client(&[&proxy]).post::<Value>(TOKEN_PATH, &first_request(), soon()).unwrap_err().to_string();
    assert_eq!(alone, format!("{proxy} answered 404, but not as a broker does; is a proxy in between?"));
    // One that lacks the path, and a proxy.
    let lacks = both.post::<Value>("/v1/news", &first_request(), soon()).unwrap_err().to_string();
    let page = format!("{proxy} (404, but not as a broker answers)");
    assert!(lacks.starts_with("no broker gave an answer that can be used: ") && lacks.ends_with(&page), "{lacks}");
    assert!(lacks.contains(&format!("{} (404: this broker does not know the request", site.address)), "{lacks}");
}

#[test]
fn each_broker_is_told_its_own_part_of_the_time() {
    let site = connected();
    let (proxy, received) = proxy(&site.tls);
    let both = BrokerClient::new(vec![proxy, site.address.clone()], site.shown.clone()).unwrap();
    let request =
        |part: Duration| TokenRequest { job: 1, uid: 7, sealed: "7:a".into(), file: None, patience: millis(part) };
    let answer = both.post_within(TOKEN_PATH, &request, Deadline::after(Duration::from_secs(20))).unwrap();
    assert_eq!(said(answer), Ok("token-0".to_owned()));
    let first = String::from_utf8(received.recv().unwrap()).unwrap();
    let first: TokenRequest = serde_json::from_str(first.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!((5_000..=10_000).contains(&first.patience), "{}", first.patience);
}

/// Fails if a message that has one more member is not the same message.
fn reads_from_later<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T) {
    let mut later = serde_json::to_value(message).unwrap();
    later["news"] = json!({"a": [1]});
    assert_eq!(&serde_json::from_value::<T>(later).unwrap(), message);
}

fn read<T: DeserializeOwned>(message: Value) -> T {
    serde_json::from_value(message).unwrap()
}

#[test]
fn members_of_a_later_version_are_not_read() {
    let (node, text): (NodeName, String) = ("n1".parse().unwrap(), "x".into());
    let code = Some(Secret::new("code"));
    reads_from_later(&EnrolRequest { node, request: text.clone(), munge: Some(text.clone()), code });
    reads_from_later(&RenewRequest { request: text.clone() });
    reads_from_later(&CertificateAnswer { certificate: text.clone() });
    reads_from_later(&Refusal { error: text.clone(), wait: Some(5) });
    reads_from_later(&TokenRequest { job: 1, uid: 7, sealed: text.clone(), file: None, patience: 5 });
    reads_from_later(&EndRequest { job: 1, uid: 7, sealed: text.clone() });
    reads_from_later(&KeepRequest { uid: 7, handle: text.clone(), sealed: text.clone(), follows: true });
    reads_from_later(&KeptRequest { uid: 7, handle: text.clone() });
    reads_from_later(&JobsRequest { uid: 7 });
    reads_from_later(&JobsAnswer { lines: text.clone() });
    reads_from_later(&StartRequest { job: 1 });
    reads_from_later(&StartAnswer { started: Some(5) });
    let sent = vec![ReportedUse { purpose: Purpose::Login, uid: None, requests: 3 }];
    let report = HostReport { sent, told: Some(ReportedRest { left: 5, of: 9, ends: 9 }) };
    reads_from_later(&report);
    reads_from_later(&PermitRequest { server: text, purpose: Purpose::Login, uid: 7, accepted: 2, report });

    let token = json!({"outcome": {"token": {"token": "t", "left": 5, "lifetime": 9, "news": 1}}, "news": 1});
    assert_eq!(said(read(token)), Ok("t".to_owned()));
    let later = json!({"outcome": {"later": {"reason": "r", "wait": 5, "news": 1}}});
    assert_eq!(said(read(later)), Err("later: r".to_owned()));
    assert_eq!(read::<EndAnswer>(json!({"settled": {"news": 1}})), EndAnswer::Settled {});
    assert_eq!(read::<EndAnswer>(json!({"waits": {"wait": 5, "news": 1}})), EndAnswer::Waits { wait: 5 });
    assert_eq!(read::<KeepAnswer>(json!({"kept": {"news": 1}})), KeepAnswer::Kept {});
    assert_eq!(read::<KeptAnswer>(json!({"unknown": {"news": 1}})), KeptAnswer::Unknown {});
    assert_eq!(read::<SitePermit>(json!({"granted": {"news": 1}})), SitePermit::Granted {});
    let wait = json!({"wait": {"wait": 5, "only_his": false, "this_host": true, "news": 1}});
    assert_eq!(read::<SitePermit>(wait), SitePermit::wait(5, UsedUp::Host));
}

#[test]
fn members_that_an_earlier_version_does_not_write_have_a_meaning() {
    let enrol: EnrolRequest = read(json!({"node": "n1", "request": "x"}));
    assert_eq!((enrol.munge, enrol.code), (None, None));
    assert_eq!(read::<TokenRequest>(first_request()).file, None);
    let permit: PermitRequest = read(json!({"server": "s", "purpose": "token", "uid": 7}));
    assert_eq!(permit, PermitRequest::new("s", Purpose::Token, 7));
    let written = json!({"server": "s", "purpose": "token", "uid": 7});
    assert_eq!(serde_json::to_value(&permit).unwrap(), written, "as an earlier version writes it");
    assert!(!read::<KeepRequest>(json!({"uid": 7, "handle": "h", "sealed": "x"})).follows);
    assert_eq!(read::<StartAnswer>(json!({})).started, None);
    let wait = json!({"wait": {"wait": 5, "only_his": true}});
    assert_eq!(read::<SitePermit>(wait), SitePermit::wait(5, UsedUp::User));
    assert_eq!(read::<Refusal>(json!({"error": "e"})).wait, None);
    let answer: TokenAnswer = read(json!({"outcome": {"refused": {"reason": "r"}}}));
    assert!(answer.admitted.is_none() && matches!(answer.outcome, TokenOutcome::Refused { required: false, .. }));
    let answer: TokenAnswer = read(json!({"outcome": {"later": {"reason": "r"}}}));
    assert!(matches!(answer.outcome, TokenOutcome::Later { wait: None, .. }));
}
