// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plugin is one file for all known releases of Slurm.

use super::host::{ALLOCATOR, Host, JOB_SCRIPT, REMOTE, SLURMD};

#[test]
fn the_same_file_is_accepted_by_every_known_release() {
    let stamps = ["160500", "170200", "170b00", "180500", "180b00", "190500", "190b00", "1a0500"];
    for (api, stamp) in (38..).zip(stamps) {
        let seen = Host::new(ALLOCATOR).with_api(api).line("load").run();
        assert!(seen.has(&format!("loaded mytoken {stamp}")), "API {api}: {:?}", seen.lines);
    }
}

#[test]
fn an_unknown_release_refuses_the_plugin() {
    for api in [37, 46] {
        let seen = Host::new(ALLOCATOR).with_api(api).line("load").run();
        assert!(seen.has("refused version 000000"), "API {api}: {:?}", seen.lines);
    }
}

#[test]
fn the_option_is_registered_where_options_exist() {
    for (context, wanted) in
        [(1, true), (REMOTE, true), (ALLOCATOR, true), (SLURMD, false), (JOB_SCRIPT, false), (9, false)]
    {
        let seen = Host::new(context).lines(&["load", "hook init"]).run();
        assert!(seen.has("hook init 0"));
        assert_eq!(seen.after("registered --mytoken").is_some(), wanted, "context {context}");
    }
}

#[test]
fn slurmd_logs_errors_in_plugstack_conf() {
    let seen = Host::new(SLURMD).lines(&["arg submt=/x", "load", "hook init"]).run();
    assert!(seen.all_zero());
    assert_eq!(seen.logs().len(), 1);
    assert!(
        seen.logs()[0].starts_with("error mytoken: plugstack.conf: argument \"submt=/x\" is unknown"),
        "{:?}",
        seen.logs()
    );
}
