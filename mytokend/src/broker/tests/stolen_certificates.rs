// SPDX-License-Identifier: MIT OR Apache-2.0
//! The certificate of a node, with its key, at the node's addresses and at others.

use std::net::{IpAddr, Ipv4Addr};

use super::super::identity::munge::ConnectionAddress::{self, Checked, Ignored};
use super::super::identity::register::Origin;
use super::super::identity::{Proof, Repin, certificate};
use super::super::messages::TOKEN_PATH;
use super::versions::{Connected, connected_at, first_request};
use super::*;
use crate::log::Level;

const ENROLLED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The beginning of the lines about this.
const LINE: &str = "node n1 at 127.0.0.1, enrolled at 192.0.2.1: its requests are ";

/// A node that has enrolled at `address`, and connects from here. Its name has these addresses; `None`: no name server answers.
fn enrolled(check: ConnectionAddress, proof: Proof, address: IpAddr, name: Option<&[IpAddr]>) -> Connected {
    let site = connected_at(check);
    *site.addresses.of_all.lock().unwrap() = name.map(<[IpAddr]>::to_vec);
    let key = certificate::read(&site.certificates[0]).unwrap().key;
    let origin = Origin { proof, address: Some(address) };
    site.register.pin(&"n1".parse().unwrap(), key, origin, u64::MAX, Repin::Refused).unwrap();
    site
}

fn munge() -> Proof {
    Proof::Munge { address: ENROLLED }
}

/// Fails unless the node is served, with this line in the log, or with none.
fn assert_served(site: &Connected, line: Option<&str>) {
    for _ in 0..3 {
        assert_eq!(said(site.post(TOKEN_PATH, &first_request()).unwrap()), Ok("token-0".to_owned()));
    }
    site.test.broker.log.line(Level::Info, "the end");
    if let Some(line) = line {
        assert_eq!(site.line(), format!("{LINE}{line}"));
    }
    assert_eq!(site.line(), "the end");
    assert_eq!(site.test.broker.counts.unauthorized_counts().other_address, 0);
}

#[test]
fn a_node_is_served_where_it_has_enrolled_and_at_all_addresses_of_its_name() {
    let site = enrolled(Checked, munge(), HERE, None);
    assert_served(&site, None);
    assert_eq!(site.addresses.questions.load(Ordering::Relaxed), 0);
    let others: [IpAddr; 2] = [ENROLLED, "2001:db8::1".parse().unwrap()];
    let site = enrolled(Checked, munge(), ENROLLED, Some(&[others[0], others[1], HERE]));
    assert_served(&site, None);
    assert_eq!(site.addresses.questions.load(Ordering::Relaxed), 1, "the answer is kept");
}

#[test]
fn a_stolen_certificate_is_refused_elsewhere_and_logged_once() {
    let site = enrolled(Checked, munge(), ENROLLED, Some(&[ENROLLED]));
    for _ in 0..3 {
        let told = site.refusal(site.shown.clone());
        let reason = "answered 403: the connection comes from 127.0.0.1, which is not an address of the node n1";
        assert!(told.contains(reason), "{told}");
    }
    site.test.broker.log.line(Level::Info, "the end");
    assert_eq!(site.line(), format!("{LINE}refused, because its name does not have this address"));
    assert_eq!(site.line(), "the end");
    assert_eq!(site.test.broker.counts.unauthorized_counts().other_address, 3);
    assert_eq!(site.addresses.questions.load(Ordering::Relaxed), 1, "somebody who goes on asks no name server");
    // It was enrolled by an earlier version.
    let site = enrolled(Checked, munge(), ENROLLED, Some(&[ENROLLED]));
    let key = certificate::read(&site.certificates[0]).unwrap().key;
    site.register.pin(&"n1".parse().unwrap(), key, munge(), u64::MAX, Repin::Refused).unwrap();
    assert!(site.refusal(site.shown.clone()).contains("which is not an address of the node n1"));
}

#[test]
fn where_the_address_proves_nothing_another_one_is_logged_once() {
    let line = Some("served, but its name does not have this address");
    assert_served(&enrolled(Ignored, munge(), ENROLLED, Some(&[ENROLLED])), line);
    assert_served(&enrolled(Checked, Proof::Code, ENROLLED, Some(&[ENROLLED])), line);
    assert_served(&enrolled(Checked, Proof::Site, ENROLLED, Some(&[ENROLLED])), None);
}

#[test]
fn name_servers_that_do_not_answer_keep_no_node_out() {
    let site = enrolled(Checked, munge(), ENROLLED, None);
    assert_served(&site, Some("served, but its name cannot be looked up: timed out"));
}
