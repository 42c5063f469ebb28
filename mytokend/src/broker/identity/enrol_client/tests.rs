// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node that enrols at brokers over TLS.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use mytoken::ScheduleClock;
use mytoken::SystemClock;
use mytoken::private_files::{Directory, Owner};
use rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::broker::identity::authority::{self, Authority};
use crate::broker::identity::enrolment::{EnrolmentRefusal, Enrolments, RefusalKind};
use crate::broker::identity::munge::{ConnectionAddress, NodeAddresses};
use crate::broker::identity::{BrokerTls, NodeName, Repin, StateDir};
use crate::broker::messages::Refusal;

/// The clock of all hosts, some seconds ahead.
#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> u64 {
        SystemClock.now() + self.0.load(Ordering::Relaxed)
    }
}

impl ScheduleClock for TestClock {
    fn unix_millis(&self) -> u64 {
        self.now() * 1000
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed() + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

struct Local;

impl NodeAddresses for Local {
    fn addresses(&self, _node: &NodeName) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

fn node() -> NodeName {
    "n1".parse().unwrap()
}

/// A broker that only enrols nodes.
struct TestBroker {
    enrolments: Arc<Enrolments>,
    address: String,
}

impl TestBroker {
    fn start(dir: &std::path::Path, name: &str, clock: Arc<TestClock>) -> Self {
        let trust = FileTrust::user(Owner::current().uid);
        let keys = [authority::KEY, authority::CERTIFICATE].map(|file| dir.join(file));
        let authority = Arc::new(Authority::load(&keys[0], &keys[1], trust).unwrap());
        let state = StateDir::open_or_make(&dir.join(name)).unwrap();
        let enrolments = Arc::new(Enrolments {
            authority: Arc::clone(&authority),
            register: Arc::new(state.register(Arc::clone(&clock) as _).unwrap()),
            cluster: "testbed".to_owned(),
            munge: None,
            resolver: Arc::new(Local),
            check: ConnectionAddress::Checked,
            repin: Repin::Refused,
            codes: state.codes().unwrap(),
            attempts: Default::default(),
            clock: Arc::clone(&clock) as _,
        });
        let tls = BrokerTls::new(authority, vec!["127.0.0.1".to_owned()], None, clock).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = Arc::clone(&enrolments);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(&tls, &serving, stream.unwrap());
            }
        });
        Self { enrolments, address }
    }

    fn code(&self) -> Secret {
        Secret::new(self.enrolments.codes.issue(&node(), SystemClock.now()).unwrap().as_str())
    }
}

/// Answers one request.
fn answer(tls: &BrokerTls, enrolments: &Enrolments, stream: TcpStream) -> std::io::Result<()> {
    let connection = ServerConnection::new(tls.config()).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let stream = stream.get_mut();
    let peer = tls.peer(&stream.conn).unwrap();
    let done = match (first.split(' ').nth(1).unwrap(), peer) {
        (ENROL_PATH, None) => {
            let message: EnrolRequest = serde_json::from_slice(&body).unwrap();
            let from = Ipv4Addr::LOCALHOST.into();
            let attempt = enrolments.begin(from);
            attempt.and_then(|attempt| enrolments.enrol(&message, from, attempt)).map(|enrolled| enrolled.certificate)
        }
        (RENEW_PATH, Some(peer)) => enrolments.renew_by(&serde_json::from_slice(&body).unwrap(), &peer),
        (_, Some(peer)) if enrolments.admit(&peer).is_ok() => {
            return write(stream, 404, &serde_json::json!({"error": "no such path"}));
        }
        _ => return write(stream, 403, &serde_json::json!({"error": "this is not an enrolled node"})),
    };
    match done {
        Ok(signed) => write(stream, 200, &CertificateAnswer { certificate: signed.pem }),
        Err(refusal) => {
            let wait = if let RefusalKind::Wait(wait) = refusal.kind() {
                Some(u64::try_from(wait.as_millis()).unwrap())
            } else {
                None
            };
            write(stream, status(&refusal), &Refusal { error: refusal.to_string(), wait })
        }
    }
}

fn status(refusal: &EnrolmentRefusal) -> u16 {
    match refusal.kind() {
        RefusalKind::Refused => 403,
        RefusalKind::Wait(_) => 429,
        RefusalKind::Unavailable => 503,
    }
}

fn write(stream: &mut impl std::io::Write, status: u16, body: &impl Serialize) -> std::io::Result<()> {
    let body = serde_json::to_string(body)?;
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())?;
    stream.flush()
}

struct Node {
    settings: BrokerSettings,
    files: NodeFiles,
    clock: Arc<TestClock>,
}

impl Node {
    fn client(&self) -> EnrolClient<'_> {
        let trust = FileTrust::user(Owner::current().uid);
        let (settings, files) = (&self.settings, &self.files);
        EnrolClient { settings, cluster: "testbed", files, trust, clock: Arc::clone(&self.clock) as _ }
    }

    fn enrol(&self, code: &Secret) -> Result<Obtained, EnrolClientError> {
        self.client().enrol(NodeProof::Code(code), soon())
    }

    fn is_known(&self, broker: &str) -> Result<bool, ClientError> {
        let ca = read_certificates(&self.settings.ca_file, FileTrust::user(Owner::current().uid)).unwrap();
        let tls = self.files.load().unwrap().client_config(&ca, Arc::clone(&self.clock) as _).unwrap();
        EnrolClient::is_known_at(broker, tls, soon())
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn site() -> (tempfile::TempDir, [TestBroker; 2], Node) {
    let temp = tempfile::tempdir().unwrap();
    Authority::create(&Directory::open(temp.path()).unwrap(), "testbed", SystemClock.now()).unwrap();
    let clock = Arc::new(TestClock::default());
    let brokers = ["one", "two"].map(|name| TestBroker::start(temp.path(), name, Arc::clone(&clock)));
    // Nothing listens on port 9.
    let away = std::iter::once("127.0.0.1:9".to_owned());
    let settings = BrokerSettings {
        names: away.chain(brokers.iter().map(|broker| broker.address.clone())).collect(),
        ca_file: temp.path().join(authority::CERTIFICATE),
        ..BrokerSettings::default()
    };
    let files = StateDir::open_or_make(&temp.path().join("node")).unwrap().node_files(node());
    (temp, brokers, Node { settings, files, clock })
}

#[test]
fn a_node_enrols_with_a_code_of_any_broker_and_is_known_there() {
    let (_temp, [one, two], node) = site();
    let code = two.code();
    assert_eq!(node.is_known(&two.address), Ok(false));
    let obtained = node.enrol(&code).unwrap();
    assert_eq!(obtained.broker, two.address);
    assert!(matches!(obtained.identity.enrolment(SystemClock.now()), Enrolment::Valid { .. }));
    assert_eq!((node.is_known(&two.address), node.is_known(&one.address)), (Ok(true), Ok(false)));
    assert_eq!(node.enrol(&code).unwrap().broker, two.address, "the first answer may have been lost");
    assert_eq!(node.is_known(&two.address), Ok(true));
    assert_eq!(node.enrol(&one.code()).unwrap().broker, one.address);
    assert_eq!((node.is_known(&one.address), node.is_known(&two.address)), (Ok(true), Ok(true)));
    two.enrolments.register.remove(&self::node()).unwrap();
    assert_eq!(node.is_known(&two.address), Ok(false));
    let refused = node.enrol(&code).unwrap_err().to_string();
    assert!(refused.contains("answered 403: the one-time code is not valid for the node n1"), "{refused}");
    assert!(node.is_known("127.0.0.1:9").unwrap_err().to_string().starts_with("no broker can be reached"));
}

#[test]
fn a_node_hears_how_long_a_broker_wants_it_to_wait() {
    let (_temp, [one, two], node) = site();
    let wrong = Secret::new("0000");
    assert_eq!(node.enrol(&wrong).unwrap_err().wait(), None);
    for broker in [&one, &two] {
        // All failures that an address may have.
        while broker.enrolments.attempts.begin(Ipv4Addr::LOCALHOST.into(), node.clock.elapsed()).is_ok() {}
    }
    let wait = node.enrol(&wrong).unwrap_err().wait().unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(6), "{wait:?}");
}

#[test]
fn a_certificate_is_renewed_by_a_broker_that_knows_the_node() {
    let (_temp, [_, two], node) = site();
    assert!(matches!(node.client().renew(soon()), Err(EnrolClientError::NotEnrolled)));
    node.enrol(&two.code()).unwrap();
    let early = node.client().renew(soon()).unwrap_err().to_string();
    assert!(early.contains("answered 403"), "{early}");
    node.clock.0.store(180 * 86_400, Ordering::Relaxed);
    let obtained = node.client().renew(soon()).unwrap();
    assert_eq!(obtained.broker, two.address);
    let Enrolment::Valid { ends, .. } = node.files.load().unwrap().enrolment(node.clock.now()) else { panic!() };
    assert!(ends >= node.clock.now() + authority::NODE_LIFE - 60, "{ends}");
}

#[test]
fn a_fault_of_this_host_is_told_and_no_broker_is_asked() {
    let (temp, [one, _], mut node) = site();
    std::fs::remove_file(temp.path().join("broker-ca.pem")).unwrap();
    let missing = node.enrol(&one.code()).unwrap_err().to_string();
    assert!(missing.contains("broker-ca.pem") && missing.contains("broker.ca_file"), "{missing}");
    node.settings.names.clear();
    let none = node.enrol(&one.code()).unwrap_err().to_string();
    assert!(none.contains("no broker is named"), "{none}");
}

#[test]
fn a_broker_of_another_authority_is_sent_nothing() {
    let (temp, [one, _], node) = site();
    for file in [authority::KEY, authority::CERTIFICATE] {
        std::fs::remove_file(temp.path().join(file)).unwrap();
    }
    Authority::create(&Directory::open(temp.path()).unwrap(), "testbed", SystemClock.now()).unwrap();
    let code = one.code();
    let refused = node.enrol(&code).unwrap_err().to_string();
    assert!(refused.starts_with("no broker can be reached") && refused.contains("certificate"), "{refused}");
    assert!(one.enrolments.codes.check(&self::node(), code.expose(), SystemClock.now()).is_ok());
}
