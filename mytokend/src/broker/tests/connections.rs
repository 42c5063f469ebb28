// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections at a broker's port.

use std::net::TcpStream;

use super::super::messages::TOKEN_PATH;
use super::super::strangers::MOST;
use super::versions::{Connected, connected, first_request};
use super::*;

impl Connected {
    fn token(&self) -> String {
        said(self.post(TOKEN_PATH, &first_request()).unwrap()).unwrap()
    }

    /// The timers of the connections at the broker's port that are open, as the kernel shows them: 02 is that of keepalive.
    fn timers(&self) -> Vec<String> {
        let port: u16 = self.address.rsplit(':').next().unwrap().parse().unwrap();
        let port = format!(":{port:04X}");
        let timer = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[1].ends_with(&port) && words[3] == "01").then(|| words[5][..2].to_owned())
        };
        std::fs::read_to_string("/proc/self/net/tcp").unwrap().lines().skip(1).filter_map(timer).collect()
    }
}

#[test]
fn the_kernel_asks_a_node_that_says_nothing_whether_it_is_there() {
    let site = connected();
    assert_eq!(site.token(), "token-0");
    // For a moment the kernel may wait for the confirmation of the answer.
    let mut looks = (0..500).map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        site.timers()
    });
    assert!(looks.any(|timers| timers == ["02"]), "{:?}", site.timers());
}

#[test]
fn connections_that_say_nothing_keep_no_node_from_the_broker() {
    let site = connected();
    let silent: Vec<TcpStream> = (0..MOST + 20).map(|_| TcpStream::connect(&site.address).unwrap()).collect();
    // One of them that the broker accepts only now may take the node's place, with little probability.
    let answer = (0..3).find_map(|_| site.post(TOKEN_PATH, &first_request()).ok());
    assert_eq!(said(answer.expect("the node has a place")).unwrap(), "token-0");
    drop(silent);
}
