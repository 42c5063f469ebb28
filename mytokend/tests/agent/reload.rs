// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reload of the agent's configuration.

use std::time::Duration;

use mytokend::agent::{Configured, Intervals};

use crate::harness::{FakeServices, RENEWAL, TestAgent, outage};

/// The configuration of an agent with these services.
pub fn configured(services: &FakeServices) -> Configured {
    let (service, controller) = (Box::new(services.clone()), Box::new(services.clone()));
    // A busy machine may hold up a test for longer than an answer usually waits.
    let patience = Duration::from_secs(30);
    let intervals = Intervals { file_patience: patience, look_patience: patience, ..Intervals::default() };
    Configured { intervals, service, controller }
}

#[test]
fn a_reload_keeps_the_leases_and_renews_them_with_the_new_configuration() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    // The servers of the old configuration are out from now on.
    agent.services.with(|script| script.failure = Some(outage()));
    let new = FakeServices { script: std::sync::Arc::default() };
    agent.reload(&new);
    assert_eq!(agent.read_token(7), "token-1");
    agent.advance(RENEWAL);
    assert_eq!(agent.token_requests(), 1, "the old server was asked again");
    assert_eq!(new.with(|script| script.token_requests), 1);
    // The new server counts from the beginning, too.
    assert_eq!(agent.read_token(7), "token-1");
    agent.finish(7);
    agent.advance(RENEWAL);
    assert!(!agent.token(7).exists());
    assert!(new.with(|script| script.queries) > 0 && agent.queries() == 0);
}
