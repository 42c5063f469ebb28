// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the pages say about hosts and archives: an administrator opens a firewall by it.

use std::fs;

use super::{documents, root};

/// The cells of a line of a table.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn the_hosts_that_call_the_mytoken_server_are_all_that_have_a_part_of_the_suite() {
    let page = fs::read_to_string(root().join("docs/admin/before-you-start.md")).unwrap();
    let (needs, changes) = page.split_once("## What changes on a host").unwrap();
    let ports: Vec<&str> = needs.lines().filter(|line| line.starts_with("| ") && line.contains("ort ")).collect();
    let [https, brokers] = ports[..] else { panic!("{ports:?}") };
    let (to_server, to_provider) = https.split_once("to the provider").unwrap();
    let hosts: Vec<&str> = changes
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(cells)
        .filter(|cells| cells[0] != "Host" && !cells[1].starts_with("nothing"))
        .map(|cells| cells[0])
        .collect();
    assert_eq!(hosts, ["login host", "submit host", "compute node", "broker"]);
    for host in hosts {
        assert!(to_server.contains(&format!("each {host}")), "{host}: {https}");
    }
    assert!(to_provider.contains("each login host") && brokers.contains("each compute node"), "{ports:?}");
    // One list: a second one could be another.
    let hardening = fs::read_to_string(root().join("docs/admin/hardening.md")).unwrap();
    assert!(hardening.contains("(before-you-start.md)") && !hardening.contains("submit hosts"), "{hardening}");
}

#[test]
fn no_page_calls_an_archive_static() {
    for (path, text) in documents() {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for said in ["statically linked", "static archive", "static tarball"] {
            assert!(!text.contains(said), "{}: {said}", path.display());
        }
    }
}
