// SPDX-License-Identifier: MIT OR Apache-2.0
//! A panic in each hook, in a build with `panic-injection`.

use super::agent::Agent;
use super::host::{ALLOCATOR, HANDLE, Host, JOB_SCRIPT, LOCAL, SEALED, SLURMD, Submit, panicking};

fn quiet(lines: &[String]) {
    assert!(!lines.iter().any(|line| line.contains("injected") || line.contains("panicked")), "{lines:?}");
}

#[test]
fn the_ordinary_build_knows_no_panic_argument() {
    let seen = Host::new(SLURMD).lines(&["arg panic=init", "load", "hook init"]).run();
    assert!(seen.logs()[0].contains("\"panic=init\" is unknown"), "{:?}", seen.logs());
}

#[test]
fn submissions_survive() {
    for context in [ALLOCATOR, LOCAL] {
        for hook in ["init", "option", "init_post_opt"] {
            let program = Submit::good();
            let host = Host::new(context)
                .with_plugin(panicking())
                .line(&program.argument())
                .line(&format!("arg panic={hook}"));
            let option = if hook == "init" { "env X y" } else { "option data" };
            let seen = host.lines(&["load", "hook init", option, "hook init_post_opt"]).run();
            assert!(seen.all_zero() && seen.status == Some(0), "{hook}: {:?}", seen.lines);
            // The panic was there: the credential is not.
            assert!(seen.env("SLURM_MYTOKEN").is_none(), "{hook}: {:?}", seen.lines);
            assert_eq!(seen.logs().len(), usize::from(hook != "init"), "{hook}: {:?}", seen.logs());
            quiet(&seen.lines);
        }
    }
}

#[test]
fn a_demand_is_not_forgotten() {
    let program = Submit::good();
    let host = Host::new(ALLOCATOR).with_plugin(panicking()).line(&program.argument()).line("arg panic=init_post_opt");
    assert_eq!(host.lines(&["load", "hook init", "option required", "hook init_post_opt"]).run().status, Some(1));
    let host = Host::new(ALLOCATOR).with_plugin(panicking()).line("arg panic=option");
    assert!(host.lines(&["load", "hook init", "option required"]).run().has("option -1"));
}

#[test]
fn those_who_do_not_ask_hear_nothing() {
    for hook in ["init", "init_post_opt"] {
        let host = Host::new(ALLOCATOR).with_plugin(panicking()).line(&format!("arg panic={hook}"));
        let seen = host.lines(&["load", "hook init", "hook init_post_opt"]).run();
        assert!(seen.all_zero() && seen.logs().is_empty(), "{:?}", seen.lines);
    }
}

#[test]
fn steps_survive() {
    for hook in ["init", "option", "init_post_opt", "task_init"] {
        let agent = Agent::ready();
        let host = Host::step(0).with_plugin(panicking()).line(&agent.argument()).line(&format!("arg panic={hook}"));
        let host = host.line(&format!("job SLURM_MYTOKEN {SEALED}")).lines(&["load", "hook init"]);
        let host = if hook == "init" { host } else { host.line("option data") };
        let seen = host.lines(&["hook init_post_opt", "task task_init"]).run();
        assert!(
            seen.all_zero() && seen.has("task hook 0") && seen.has("task status 0 signal 0"),
            "{hook}: {:?}",
            seen.lines
        );
        let wanted = format!("info mytoken: internal error in {hook}; the job continues without this plugin");
        assert_eq!(seen.logs(), [wanted.as_str()]);
        quiet(&seen.lines);
    }
}

#[test]
fn slurmd_and_epilogs_survive() {
    let seen = Host::new(SLURMD).with_plugin(panicking()).lines(&["arg panic=init", "load", "hook init"]).run();
    assert!(seen.all_zero() && seen.logs().len() == 1);
    let seen = Host::new(JOB_SCRIPT)
        .with_plugin(panicking())
        .lines(&[
            "item 2 4711",
            &format!("env SPANK_MYTOKEN_H {HANDLE}"),
            "arg panic=job_epilog",
            "load",
            "hook job_epilog",
        ])
        .run();
    assert!(seen.all_zero() && seen.logs().len() == 1, "{:?}", seen.lines);
    quiet(&seen.lines);
}
