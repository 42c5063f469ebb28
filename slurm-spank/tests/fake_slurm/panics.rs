// SPDX-License-Identifier: MIT OR Apache-2.0
//! A panic in each hook, in a build with `panic-injection`.

use super::agent::FakeAgent;
use super::host::{ALLOCATOR, FakeSubmit, HANDLE, Host, JOB_SCRIPT, LOCAL, SEALED, SLURMD, panicking_plugin};

fn assert_panic_is_not_printed(lines: &[String]) {
    assert!(!lines.iter().any(|line| line.contains("injected") || line.contains("panicked")), "{lines:?}");
}

#[test]
fn the_ordinary_build_has_no_panic_argument() {
    let seen = Host::new(SLURMD).lines(&["arg panic=init", "load", "hook init"]).run();
    assert!(seen.logs()[0].contains("\"panic=init\" is unknown"), "{:?}", seen.logs());
}

#[test]
fn submissions_survive_a_panic() {
    for context in [ALLOCATOR, LOCAL] {
        for hook in ["init", "option", "init_post_opt"] {
            let program = FakeSubmit::good();
            let host = Host::new(context)
                .with_plugin(panicking_plugin())
                .line(&program.argument())
                .line(&format!("arg panic={hook}"));
            let option = if hook == "init" { "env X y" } else { "option data" };
            let seen = host.lines(&["load", "hook init", option, "hook init_post_opt"]).run();
            assert!(seen.all_zero() && seen.status == Some(0), "{hook}: {:?}", seen.lines);
            // Without a panic there would be a credential.
            assert!(seen.env("SLURM_MYTOKEN").is_none(), "{hook}: {:?}", seen.lines);
            assert_eq!(seen.logs().len(), usize::from(hook != "init"), "{hook}: {:?}", seen.logs());
            assert_panic_is_not_printed(&seen.lines);
        }
    }
}

#[test]
fn required_is_enforced_after_a_panic() {
    let program = FakeSubmit::good();
    let host =
        Host::new(ALLOCATOR).with_plugin(panicking_plugin()).line(&program.argument()).line("arg panic=init_post_opt");
    assert_eq!(host.lines(&["load", "hook init", "option required", "hook init_post_opt"]).run().status, Some(1));
    let host = Host::new(ALLOCATOR).with_plugin(panicking_plugin()).line("arg panic=option");
    assert!(host.lines(&["load", "hook init", "option required"]).run().has("option -1"));
}

#[test]
fn without_the_option_a_panic_prints_nothing() {
    for hook in ["init", "init_post_opt"] {
        let host = Host::new(ALLOCATOR).with_plugin(panicking_plugin()).line(&format!("arg panic={hook}"));
        let seen = host.lines(&["load", "hook init", "hook init_post_opt"]).run();
        assert!(seen.all_zero() && seen.logs().is_empty(), "{:?}", seen.lines);
    }
}

#[test]
fn steps_survive_a_panic() {
    for hook in ["init", "option", "init_post_opt", "task_init"] {
        let agent = FakeAgent::ready();
        let host =
            Host::step(0).with_plugin(panicking_plugin()).line(&agent.argument()).line(&format!("arg panic={hook}"));
        let host = host.line(&format!("job SLURM_MYTOKEN {SEALED}")).lines(&["load", "hook init"]);
        let host = if hook == "init" { host } else { host.line("option data") };
        let seen = host.lines(&["hook init_post_opt", "task task_init"]).run();
        assert!(
            seen.all_zero() && seen.has("task hook 0") && seen.has("task status 0 signal 0"),
            "{hook}: {:?}",
            seen.lines
        );
        let wanted = format!("info mytoken: internal error in {hook}; the job continues without this plugin");
        let told = "error mytoken: no access token: internal error of the Slurm plugin; please tell the administrator";
        let lines = if hook == "init_post_opt" { vec![wanted.as_str(), told] } else { vec![wanted.as_str()] };
        assert_eq!(seen.logs(), lines);
        assert_panic_is_not_printed(&seen.lines);
    }
}

#[test]
fn a_step_that_requires_its_token_does_not_run_after_a_panic() {
    let option = "job SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken required:data";
    let credential = format!("job SLURM_MYTOKEN {SEALED}");
    for (lines, refused) in [
        (&[credential.as_str(), option][..], true),
        (&["job SLURM_MYTOKEN_WANTED 1", option], true),
        (&[credential.as_str()], false),
        // A job without a credential: the option was for another one.
        (&[option], false),
    ] {
        let agent = FakeAgent::ready();
        let host =
            Host::step(0).with_plugin(panicking_plugin()).line(&agent.argument()).line("arg panic=init_post_opt");
        let seen = host.lines(lines).lines(&["load", "hook init", "hook init_post_opt", "task task_init"]).run();
        let told = "error mytoken: this job requires an access token and does not start without it: internal error";
        assert!(seen.all_zero() || refused, "{lines:?}: {:?}", seen.lines);
        let ended = if refused { "task status 1 signal 0" } else { "task status 0 signal 0" };
        assert!(seen.has(ended) && seen.has("hook init_post_opt 0"), "{lines:?}: {:?}", seen.lines);
        assert_eq!(seen.logs().iter().any(|line| line.starts_with(told)), refused, "{:?}", seen.logs());
        assert_panic_is_not_printed(&seen.lines);
    }
}

#[test]
fn slurmd_and_epilogs_survive_a_panic() {
    let seen = Host::new(SLURMD).with_plugin(panicking_plugin()).lines(&["arg panic=init", "load", "hook init"]).run();
    assert!(seen.all_zero() && seen.logs().len() == 1);
    let seen = Host::new(JOB_SCRIPT)
        .with_plugin(panicking_plugin())
        .lines(&[
            "item 2 4711",
            &format!("env SPANK_MYTOKEN_H {HANDLE}"),
            "arg panic=job_epilog",
            "load",
            "hook job_epilog",
        ])
        .run();
    assert!(seen.all_zero() && seen.logs().len() == 1, "{:?}", seen.lines);
    assert_panic_is_not_printed(&seen.lines);
}
