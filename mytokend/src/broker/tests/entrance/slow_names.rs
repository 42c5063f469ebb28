// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests of nodes from other addresses than at their enrolment, while name servers do not answer.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::super::status::entrance_with;
use super::super::*;
use crate::broker::entrance::{Entrance, EntranceWork};
use crate::broker::identity::munge::NodeAddresses;
use crate::broker::identity::register::Origin;
use crate::broker::identity::{KeyHash, NodeName, Peer, Proof, Repin, Signer};
use crate::broker::messages::{PERMIT_PATH, TOKEN_PATH};

const ENROLLED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

/// A request that takes less did not wait for a name.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The patience of requests that are not expected to use it.
const LONG: Duration = Duration::from_secs(20);

/// Name servers that know the addresses of "quick" at once, and of others when they are released.
#[derive(Default)]
struct SlowNames {
    asked: Mutex<Vec<String>>,
    released: AtomicBool,
}

impl NodeAddresses for SlowNames {
    fn addresses(&self, node: &NodeName) -> std::io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(node.to_string());
        let begun = Instant::now();
        while node.as_str() != "quick" && !self.released.load(Ordering::SeqCst) && begun.elapsed() < 2 * LONG {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(vec![ENROLLED])
    }
}

/// A broker, and nodes that have enrolled elsewhere.
struct Site {
    entrance: Arc<Entrance>,
    work: EntranceWork,
    names: Arc<SlowNames>,
    test: TestBroker,
    _temp: tempfile::TempDir,
}

impl Site {
    fn new(patience: Duration) -> Self {
        let (test, temp) = (TestBroker::new(RUNNING), tempfile::tempdir().unwrap());
        let names = Arc::<SlowNames>::default();
        let entrance = Arc::new(entrance_with(temp.path(), &test.broker, Arc::clone(&names) as _));
        Self { entrance, work: EntranceWork::impatient(patience), names, test, _temp: temp }
    }

    fn enrol(&self, name: &str) {
        let (node, munge) = (name.parse().unwrap(), Proof::Munge { address: ENROLLED });
        let register = &self.entrance.enrolments().register;
        let origin = Origin { proof: munge, address: Some(ENROLLED) };
        register.pin(&node, KeyHash([1; 32]), origin, u64::MAX, Repin::Refused).unwrap();
    }

    /// Makes these requests at once. Returns whether they are served.
    fn requests(&self, path: &str, nodes: &[&str]) -> Vec<bool> {
        let (runtime, work, entrance) = (&self.test.runtime, &self.work, &self.entrance);
        std::thread::scope(|scope| {
            let request = |name: &&str| {
                let (node, key) = (name.parse().unwrap(), KeyHash([1; 32]));
                let peer = Peer { node, key, ends: u64::MAX, signer: Signer::Cluster };
                let checked = move || runtime.block_on(work.check_address(entrance, &peer, HERE, path)).is_ok();
                scope.spawn(checked)
            };
            let requests: Vec<_> = nodes.iter().map(request).collect();
            requests.into_iter().map(|request| request.join().unwrap()).collect()
        })
    }

    fn asked(&self) -> Vec<String> {
        self.names.asked.lock().unwrap().clone()
    }
}

/// The threads that wait for names end, so that the test does.
impl Drop for Site {
    fn drop(&mut self) {
        self.names.released.store(true, Ordering::SeqCst);
    }
}

#[test]
fn one_node_with_a_slow_name_takes_one_place() {
    let site = Site::new(Duration::from_millis(300));
    for name in ["slow", "quick"] {
        site.enrol(name);
    }
    assert_eq!(site.requests(TOKEN_PATH, &["slow"; 8]), [true; 8]);
    assert_eq!(site.requests(TOKEN_PATH, &["quick"]), [false], "its name is looked up, and has another address");
    assert_eq!(site.asked(), ["slow", "quick"]);
}

#[test]
fn a_permit_waits_less_and_no_request_waits_for_a_place() {
    let site = Site::new(LONG);
    let slow = ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"];
    for name in slow.iter().chain(&["quick"]) {
        site.enrol(name);
    }
    let begun = Instant::now();
    assert_eq!(site.requests(PERMIT_PATH, &slow), [true; 8]);
    assert_eq!(site.requests(TOKEN_PATH, &["quick"]), [true]);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(!site.asked().contains(&"quick".to_owned()));
}

#[test]
fn after_one_wait_the_node_waits_no_more() {
    let site = Site::new(Duration::from_secs(2));
    site.enrol("slow");
    assert_eq!(site.requests(TOKEN_PATH, &["slow"]), [true]);
    let begun = Instant::now();
    assert_eq!(site.requests(TOKEN_PATH, &["slow"]), [true]);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// Otherwise a copy of a certificate would be served elsewhere with the second of two requests.
#[test]
fn each_request_waits_for_the_look_up_of_its_name_that_runs() {
    let site = Site::new(LONG);
    site.enrol("slow");
    let served = std::thread::scope(|scope| {
        let requests = scope.spawn(|| site.requests(TOKEN_PATH, &["slow"; 3]));
        std::thread::sleep(Duration::from_millis(300));
        site.names.released.store(true, Ordering::SeqCst);
        requests.join().unwrap()
    });
    assert_eq!((served, site.asked().len()), (vec![false; 3], 1));
}
