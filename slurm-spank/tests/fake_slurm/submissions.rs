// SPDX-License-Identifier: MIT OR Apache-2.0
//! sbatch, salloc and srun.

use std::time::Duration;

use super::host::{ALLOCATOR, HANDLE, Host, LOCAL, SEALED, Seen, Submit};

/// A submission with `--mytoken` as given (`None`: without the option), after `before`.
fn submit(context: u32, submit: &Submit, before: &[&str], option: Option<&str>) -> Seen {
    let host = Host::new(context).line(&submit.argument()).lines(before).lines(&["load", "hook init"]);
    let host = match option {
        None => host,
        Some("") => host.line("option-null"),
        Some(value) => host.line(&format!("option {value}")),
    };
    host.line("hook init_post_opt").run()
}

fn carries(seen: &Seen) -> bool {
    let control = format!("control MYTOKEN_H {HANDLE} 1");
    let (sealed, handle) = (seen.env("SLURM_MYTOKEN"), seen.env("SLURM_SPANK_MYTOKEN_H"));
    let found = (sealed == Some(SEALED), handle == Some(HANDLE), seen.has(&control));
    assert!(found == (true, true, true) || (sealed, handle, found.2) == (None, None, false), "{:?}", seen.lines);
    found.0
}

#[test]
fn a_user_who_does_not_ask_gets_nothing_and_starts_nothing() {
    let program = Submit::good();
    for option in [None, Some("off")] {
        let seen = submit(ALLOCATOR, &program, &["env BEARER_TOKEN mine"], option);
        assert!(seen.all_zero() && !carries(&seen) && seen.logs().is_empty());
        assert_eq!(seen.env("BEARER_TOKEN"), Some("mine"));
    }
    assert!(program.calls().is_empty());
}

#[test]
fn the_option_runs_mytoken_submit_and_places_both_carriers() {
    for (option, called) in [
        ("", "--profile default --context sbatch"),
        ("data", "--profile data --context sbatch"),
        ("required", "--profile default --required --context sbatch"),
        ("required:data", "--profile data --required --context sbatch"),
    ] {
        let program = Submit::good();
        let seen = submit(ALLOCATOR, &program, &[], Some(option));
        assert!(seen.all_zero() && carries(&seen), "{:?}", seen.lines);
        assert!(seen.logs().is_empty(), "{:?}", seen.logs());
        assert_eq!(program.calls(), [called]);
    }
}

#[test]
fn mytoken_submit_is_told_which_command_was_typed() {
    for (context, typed, called) in
        [(ALLOCATOR, "/usr/bin/salloc", "salloc"), (ALLOCATOR, "sbatch", "sbatch"), (LOCAL, "/opt/slurm/srun", "srun")]
    {
        let program = Submit::good();
        Host::new(context)
            .typed(&[typed])
            .line(&program.argument())
            .lines(&["load", "hook init", "option-null", "hook init_post_opt"])
            .run();
        assert_eq!(program.calls(), [format!("--profile default --context {called}")]);
    }
}

#[test]
fn the_site_can_make_it_the_default_and_the_user_can_say_no() {
    let program = Submit::good();
    assert!(carries(&submit(ALLOCATOR, &program, &["arg default=site"], None)));
    assert!(carries(&submit(ALLOCATOR, &program, &["arg default=site"], Some(""))));
    assert!(!carries(&submit(ALLOCATOR, &program, &["arg default=site"], Some("off"))));
    assert!(!carries(&submit(ALLOCATOR, &program, &["arg default=off"], None)));
    assert_eq!(program.calls(), ["--profile site --context sbatch", "--profile site --context sbatch"]);
}

#[test]
fn the_child_gets_the_environment_and_a_pipe_and_nothing_else() {
    let program = Submit::good();
    // SIGTERM blocked, SIGUSR1 ignored, standard input closed in the parent; other descriptors are inherited from the test.
    let seen =
        submit(ALLOCATOR, &program, &["env MYTOKEN_FILE /home/alice/mt", "block 15", "ignore 10", "close 0"], Some(""));
    assert!(carries(&seen), "{:?}", seen.lines);
    assert!(program.note("env").contains("MYTOKEN_FILE=/home/alice/mt\n"));
    let fds = program.note("fds");
    let open: Vec<_> = fds.lines().filter_map(|line| line.split_once(" -> ")).collect();
    // The shell itself holds its script open, dash as descriptor 10, bash as 255.
    let foreign: Vec<_> = open
        .iter()
        .filter(|(_, to)| {
            *to != "/dev/null" && !to.starts_with("pipe:") && !to.ends_with("/mytoken-submit") && !to.ends_with("/fds")
        })
        .collect();
    assert!(foreign.is_empty(), "{fds}");
    assert_eq!(open.iter().filter(|(_, to)| to.starts_with("pipe:")).count(), 1, "{fds}");
    // glibc leaves two real-time signals of its own ignored in a spawned process.
    let signals = |kind| {
        let note = program.note("signals");
        let line = note.lines().find_map(|line| line.strip_prefix(kind)).map(str::trim);
        u64::from_str_radix(line.unwrap(), 16).unwrap() & 0x7fff_ffff
    };
    assert_eq!((signals("SigBlk:"), signals("SigIgn:")), (0, 0));
}

#[test]
fn a_failing_mytoken_submit_costs_a_line_and_not_the_job() {
    let program =
        Submit::script(r#"printf '{"v":1,"error":"your session has none. Run: mytoken-ssh login"}\n'; exit 1"#);
    let seen = submit(ALLOCATOR, &program, &[], Some(""));
    assert!(seen.all_zero() && !carries(&seen) && seen.status == Some(0));
    let wanted = "error mytoken: no credential: your session has none. Run: mytoken-ssh login (submitting without)";
    assert_eq!(seen.logs(), [wanted]);
}

#[test]
fn required_refuses_the_submission_with_one_line() {
    let program =
        Submit::script(r#"printf '{"v":1,"error":"your session has none. Run: mytoken-ssh login"}\n'; exit 1"#);
    for context in [ALLOCATOR, LOCAL] {
        let seen = submit(context, &program, &[], Some("required"));
        assert_eq!(seen.status, Some(1), "{:?}", seen.lines);
        assert_eq!(seen.logs(), ["error mytoken: no credential: your session has none. Run: mytoken-ssh login"]);
        // SLURM-06: Slurm drops the answer of an optional plugin's hook, so there must be none.
        assert!(seen.after("hook init_post_opt").is_none());
    }
}

#[test]
fn a_mytoken_submit_that_misbehaves_is_named_and_its_output_is_not_repeated() {
    for (body, wanted) in [
        ("echo hidden-text", "gave an answer that this plugin does not understand"),
        ("true", "gave no answer"),
        ("kill -9 $$", "was ended by signal 9"),
        ("yes 0123456789abcdef0123456789abcdef | tr -d '\\n'", "gave an answer that is too long"),
        (
            r#"printf '{"v":1,"sealed":"mt1.hidden text","handle":"x"}\n'"#,
            "answered, but its sealed credential is malformed",
        ),
        (r#"printf '{"v":9,"sealed":"hidden"}\n'"#, "speaks version 9, this plugin version 1"),
        (r#"printf '{"v":1,"error":"a\\u001b[2Jb\\nc"}\n'"#, "no credential: a?[2Jb?c (submitting without)"),
    ] {
        let program = Submit::script(body);
        let seen = submit(ALLOCATOR, &program, &[], Some(""));
        assert!(seen.all_zero() && !carries(&seen), "{body}: {:?}", seen.lines);
        assert_eq!(seen.logs().len(), 1, "{body}: {:?}", seen.logs());
        assert!(seen.logs()[0].contains(wanted) && !seen.logs()[0].contains("hidden"), "{body}: {:?}", seen.logs());
        assert!(!program.lives(), "{body}");
    }
}

#[test]
fn a_mytoken_submit_that_hangs_is_killed_in_time() {
    // The second one closes its output and goes on, the third leaves a grandchild that keeps the pipe open.
    for body in ["exec sleep 600", "exec >&-; exec sleep 600", "sleep 600 & exec sleep 600"] {
        let program = Submit::script(body);
        let seen = submit(ALLOCATOR, &program, &["arg submit_seconds=1"], Some(""));
        assert!(seen.all_zero() && !carries(&seen));
        assert!(seen.logs()[0].contains("did not answer within 1 s"), "{:?}", seen.logs());
        assert!(seen.took >= Duration::from_secs(1) && seen.took < Duration::from_secs(4), "{:?}", seen.took);
        assert!(!program.lives(), "{body}");
    }
}

#[test]
fn a_mytoken_submit_that_drips_does_not_stretch_the_deadline() {
    let program = Submit::script("while :; do printf x; sleep 0.2; done");
    let seen = submit(ALLOCATOR, &program, &["arg submit_seconds=1"], Some(""));
    assert!(seen.logs()[0].contains("did not answer within 1 s"), "{:?}", seen.logs());
    assert!(seen.took < Duration::from_secs(4), "{:?}", seen.took);
}

#[test]
fn a_host_that_ignores_the_death_of_children_changes_nothing() {
    let program = Submit::good();
    assert!(carries(&submit(ALLOCATOR, &program, &["ignore 17"], Some("required"))));
    let program = Submit::script("exec sleep 600");
    let seen = submit(ALLOCATOR, &program, &["ignore 17", "arg submit_seconds=1"], Some(""));
    assert!(seen.logs()[0].contains("did not answer"), "{:?}", seen.logs());
    assert!(!program.lives());
}

#[test]
fn a_missing_mytoken_submit_is_named() {
    let seen = Host::new(ALLOCATOR)
        .lines(&["arg submit=/nowhere/mytoken-submit", "load", "hook init", "option-null", "hook init_post_opt"])
        .run();
    assert!(seen.all_zero());
    assert_eq!(
        seen.logs(),
        [
            "error mytoken: no credential: /nowhere/mytoken-submit cannot be started: No such file or directory (os error 2) (submitting without)"
        ]
    );
}

#[test]
fn a_wrong_plugin_argument_is_quoted_to_those_who_ask_and_hidden_from_others() {
    let program = Submit::good();
    let quiet = submit(ALLOCATOR, &program, &["arg submit_seconds=soon"], None);
    assert!(quiet.all_zero() && quiet.logs().is_empty());
    let seen = submit(ALLOCATOR, &program, &["arg submit_seconds=soon"], Some(""));
    assert!(seen.all_zero() && seen.logs()[0].contains("\"submit_seconds=soon\""), "{:?}", seen.logs());
    assert_eq!(submit(ALLOCATOR, &program, &["arg submit_seconds=soon"], Some("required")).status, Some(1));
    assert!(program.calls().is_empty());
}

#[test]
fn a_wrong_option_is_quoted_and_ends_the_command() {
    let program = Submit::good();
    let seen = submit(ALLOCATOR, &program, &[], Some("../x"));
    assert!(seen.has("option -1"), "{:?}", seen.lines);
    assert!(seen.logs()[0].contains("--mytoken=\"../x\""), "{:?}", seen.logs());
}

#[test]
fn the_token_itself_does_not_ride_along_with_a_credential() {
    let program = Submit::good();
    let before =
        ["env BEARER_TOKEN mine", "env BEARER_TOKEN_FILE /run/mytoken/sessions/2001/a/bt_u2001", "env MYTOKEN_FILE /x"];
    let seen = submit(ALLOCATOR, &program, &before, Some(""));
    assert_eq!(seen.env("BEARER_TOKEN"), None);
    assert_eq!(seen.env("MYTOKEN_FILE"), Some("/x"));
    assert!(seen.env("BEARER_TOKEN_FILE").is_some());
}

/// What sbatch, salloc and srun find in their environment inside job 7.
const INSIDE: [&str; 6] = [
    "env SLURM_JOB_ID 7",
    "env SLURM_MYTOKEN mt1.ffffffff.T0xE",
    "env SLURM_SPANK_MYTOKEN_H ffffffffffffffffffffffffffffffff",
    "env SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken required:old",
    "env BEARER_TOKEN_FILE /run/mytoken/jobs/7/bt_u2001",
    "env MYTOKEN_FILE /x",
];

#[test]
fn a_nested_submission_sends_nothing_of_the_outer_job_along() {
    let program = Submit::good();
    let seen = submit(ALLOCATOR, &program, &INSIDE, None);
    assert!(seen.all_zero() && !carries(&seen) && seen.logs().is_empty(), "{:?}", seen.lines);
    // Gone before Slurm could import it, so that the outer job's `required` is not this job's.
    assert_eq!(seen.env("SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken"), None);
    assert_eq!(seen.env("BEARER_TOKEN_FILE"), None);
    assert!(program.calls().is_empty());
}

#[test]
fn a_nested_submission_that_asks_gets_its_own() {
    let program = Submit::good();
    let seen = submit(ALLOCATOR, &program, &INSIDE, Some("new"));
    assert!(carries(&seen), "{:?}", seen.lines);
    assert_eq!(program.calls(), ["--profile new --context sbatch"]);
    let program = Submit::script("exit 1");
    let seen = submit(ALLOCATOR, &program, &INSIDE, Some("new"));
    assert!(seen.all_zero() && !carries(&seen), "{:?}", seen.lines);
}

#[test]
fn a_job_in_the_environment_outside_of_a_job_is_removed_too() {
    let program = Submit::good();
    let seen = submit(ALLOCATOR, &program, &INSIDE[1..3], None);
    assert!(!carries(&seen), "{:?}", seen.lines);
}

#[test]
fn srun_inside_a_job_starts_nothing_and_keeps_the_credential_of_the_job() {
    let program = Submit::good();
    for option in [None, Some("required"), Some("off")] {
        let seen = submit(LOCAL, &program, &INSIDE, option);
        assert!(seen.all_zero() && seen.logs().is_empty(), "{:?}", seen.lines);
        assert_eq!(seen.env("SLURM_MYTOKEN"), Some("mt1.ffffffff.T0xE"));
        assert_eq!(seen.env("SLURM_SPANK_MYTOKEN_H"), Some("ffffffffffffffffffffffffffffffff"));
        assert_eq!(seen.env("SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken"), Some("required:old"));
    }
    assert!(program.calls().is_empty());
}

#[test]
fn srun_inside_a_job_without_credential_says_so_to_those_who_ask() {
    let program = Submit::good();
    let seen = submit(LOCAL, &program, &INSIDE[..1], Some(""));
    assert!(seen.all_zero() && seen.logs()[0].contains("submitted without --mytoken"), "{:?}", seen.logs());
    assert_eq!(submit(LOCAL, &program, &INSIDE[..1], Some("required")).status, Some(1));
    assert!(program.calls().is_empty());
}

#[test]
fn the_components_of_a_heterogeneous_job_share_one_credential() {
    let program = Submit::good();
    let seen = Host::new(ALLOCATOR)
        .line(&program.argument())
        .lines(&["load", "hook init", "option-null", "hook init_post_opt", "hook init_post_opt"])
        .run();
    assert!(seen.all_zero() && carries(&seen));
    assert_eq!(program.calls().len(), 1);
    let controls = seen.lines.iter().filter(|line| line.starts_with("control MYTOKEN_H")).count();
    assert_eq!(controls, 2, "each component has job-control variables of its own");
}

#[test]
fn a_failure_is_told_once_per_heterogeneous_job() {
    let program = Submit::script("exit 1");
    let seen = Host::new(ALLOCATOR)
        .line(&program.argument())
        .lines(&["load", "hook init", "option-null", "hook init_post_opt", "hook init_post_opt"])
        .run();
    assert!(seen.all_zero());
    assert_eq!((seen.logs().len(), program.calls().len()), (1, 1));
}

#[test]
fn only_the_first_component_can_ask() {
    let program = Submit::good();
    let start = ["load", "hook init", "hook init_post_opt"];
    let ask = |option: &str| {
        Host::new(ALLOCATOR).line(&program.argument()).lines(&start).lines(&[option, "hook init_post_opt"]).run()
    };
    let seen = ask("option-null");
    assert!(
        seen.all_zero() && !carries(&seen) && seen.logs()[0].contains("the first component must have --mytoken"),
        "{:?}",
        seen.logs()
    );
    assert_eq!(ask("option required").status, Some(1));
    assert!(program.calls().is_empty());
}

#[test]
fn a_test_run_of_sbatch_gets_no_credential() {
    for (typed, calls) in [
        (&["sbatch", "--mytoken", "--test-only", "job.sh"][..], 0),
        (&["sbatch", "--mytoken", "job.sh", "--test-only"][..], 1),
        (&["sbatch", "--mytoken", "--", "--test-only"][..], 1),
    ] {
        let program = Submit::good();
        let seen = Host::new(ALLOCATOR)
            .typed(typed)
            .line(&program.argument())
            .lines(&["load", "hook init", "option required", "hook init_post_opt"])
            .run();
        assert!(seen.all_zero());
        assert_eq!(program.calls().len(), calls, "{typed:?}");
    }
}
