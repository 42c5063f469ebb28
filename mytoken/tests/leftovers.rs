// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client leaves no threads and no open files, because it runs inside sshd. This file has only one test, because the test counts the
//! threads of the process.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod fake;

use std::io::Write;
use std::time::{Duration, Instant};

use fake::{Fake, Reply, authority};
use mytoken::Deadline;
use mytoken::http::{HttpClient, HttpSettings, Roots};

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

#[test]
fn threads_and_sockets_end_with_the_client() {
    let (ca, config) = authority("localhost", false);
    let mut roots = tempfile::NamedTempFile::new().unwrap();
    roots.write_all(ca.as_bytes()).unwrap();
    let mut silent = false;
    let fake = Fake::tls(config, move |_| {
        silent = !silent;
        let silence = if silent { Duration::ZERO } else { Duration::from_secs(2) };
        Reply { silence, ..Reply::new(200, "text/plain", "x") }
    });
    let settings = HttpSettings { roots: Roots::File(roots.path().into()), ..HttpSettings::default() };
    // A host name, so that getaddrinfo runs in its own thread.
    let url = format!("https://localhost:{}/", fake.address.port());
    // Before the first client of the process: tokio's feature `signal` would make it open a pair of sockets that stays.
    let before = (count("task"), count("fd"));
    let client = HttpClient::new(&settings).unwrap();
    assert_eq!(client.get(&url, None, Deadline::after(Duration::from_secs(10)), 64).unwrap().status, 200);
    assert!(count("task") > before.0, "the client has a thread while it lives");
    let late = client.get(&url, None, Deadline::after(Duration::from_millis(300)), 64);
    assert!(late.is_err(), "the second answer comes too late");
    drop(client);
    let tasks = count("task");
    assert_eq!(tasks, before.0, "threads");
    // The fake server runs in the same process and keeps its side of the late connection open until it has answered.
    let end = Instant::now() + Duration::from_secs(20);
    while count("fd") != before.1 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(count("fd"), before.1, "files and sockets");
}
