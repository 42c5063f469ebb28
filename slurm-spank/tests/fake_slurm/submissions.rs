// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hooks in sbatch, salloc and srun.

use super::host::{ALLOCATOR, FakeSubmit, HANDLE, Host, HostOutput, LOCAL, SEALED};

/// A submission with this value of `--mytoken` (`None`: without the option), after the script lines `before`.
pub(crate) fn submit(context: u32, submit: &FakeSubmit, before: &[&str], option: Option<&str>) -> HostOutput {
    let host = Host::new(context).line(&submit.argument()).lines(before).lines(&["load", "hook init"]);
    let host = match option {
        None => host,
        Some("") => host.line("option-null"),
        Some(value) => host.line(&format!("option {value}")),
    };
    host.line("hook init_post_opt").run()
}

pub(crate) fn has_credential(seen: &HostOutput) -> bool {
    let control = format!("control MYTOKEN_H {HANDLE} 1");
    let (sealed, handle) = (seen.env("SLURM_MYTOKEN"), seen.env("SLURM_SPANK_MYTOKEN_H"));
    let found = (sealed == Some(SEALED), handle == Some(HANDLE), seen.has(&control));
    assert!(found == (true, true, true) || (sealed, handle, found.2) == (None, None, false), "{:?}", seen.lines);
    found.0
}

#[test]
fn without_the_option_nothing_is_set_or_started() {
    let program = FakeSubmit::good();
    for option in [None, Some("off")] {
        let seen = submit(ALLOCATOR, &program, &["env BEARER_TOKEN mine"], option);
        assert!(seen.all_zero() && !has_credential(&seen) && seen.logs().is_empty());
        assert_eq!(seen.env("BEARER_TOKEN"), Some("mine"));
    }
    assert!(program.calls().is_empty());
}

#[test]
fn the_option_runs_mytoken_submit_and_sets_the_variables() {
    for (option, called) in [
        ("", "--context=sbatch"),
        ("data", "--profile=data --context=sbatch"),
        ("required", "--context=sbatch --required"),
        ("required:data", "--profile=data --context=sbatch --required"),
    ] {
        let program = FakeSubmit::good();
        let seen = submit(ALLOCATOR, &program, &[], Some(option));
        assert!(seen.all_zero() && has_credential(&seen), "{:?}", seen.lines);
        assert!(seen.logs().is_empty(), "{:?}", seen.logs());
        assert_eq!(program.calls(), [called]);
    }
}

#[test]
fn mytoken_submit_gets_the_name_of_the_command() {
    for (context, typed, called) in
        [(ALLOCATOR, "/usr/bin/salloc", "salloc"), (ALLOCATOR, "sbatch", "sbatch"), (LOCAL, "/opt/slurm/srun", "srun")]
    {
        let program = FakeSubmit::good();
        Host::new(context)
            .typed(&[typed])
            .line(&program.argument())
            .lines(&["load", "hook init", "option-null", "hook init_post_opt"])
            .run();
        assert_eq!(program.calls(), [format!("--context={called}")]);
    }
}

#[test]
fn a_default_of_the_site_applies_unless_the_user_says_off() {
    let program = FakeSubmit::good();
    assert!(has_credential(&submit(ALLOCATOR, &program, &["arg default=site"], None)));
    assert!(has_credential(&submit(ALLOCATOR, &program, &["arg default=site"], Some(""))));
    assert!(!has_credential(&submit(ALLOCATOR, &program, &["arg default=site"], Some("off"))));
    assert!(!has_credential(&submit(ALLOCATOR, &program, &["arg default=off"], None)));
    assert_eq!(program.calls(), ["--default=site --context=sbatch --by-default", "--default=site --context=sbatch"]);
}

#[test]
fn the_child_inherits_only_the_environment_and_a_pipe() {
    let program = FakeSubmit::good();
    // The host has SIGTERM blocked, SIGUSR1 ignored and standard input closed. It inherits other descriptors from the test.
    let seen =
        submit(ALLOCATOR, &program, &["env MYTOKEN_FILE /home/alice/mt", "block 15", "ignore 10", "close 0"], Some(""));
    assert!(has_credential(&seen), "{:?}", seen.lines);
    assert!(program.note("env").contains("MYTOKEN_FILE=/home/alice/mt\n"));
    let fds = program.note("fds");
    let open: Vec<_> = fds.lines().filter_map(|line| line.split_once(" -> ")).collect();
    // The shell has its script open: dash as descriptor 10, bash as 255.
    let foreign: Vec<_> = open
        .iter()
        .filter(|(_, to)| {
            *to != "/dev/null" && !to.starts_with("pipe:") && !to.ends_with("/mytoken-submit") && !to.ends_with("/fds")
        })
        .collect();
    assert!(foreign.is_empty(), "{fds}");
    assert_eq!(open.iter().filter(|(_, to)| to.starts_with("pipe:")).count(), 1, "{fds}");
    // In a spawned process, two real-time signals of glibc stay ignored.
    let signals = |kind| {
        let note = program.note("signals");
        let line = note.lines().find_map(|line| line.strip_prefix(kind)).map(str::trim);
        u64::from_str_radix(line.unwrap(), 16).unwrap() & 0x7fff_ffff
    };
    assert_eq!((signals("SigBlk:"), signals("SigIgn:")), (0, 0));
}

#[test]
fn only_users_of_the_option_see_an_invalid_plugin_argument() {
    let program = FakeSubmit::good();
    let quiet = submit(ALLOCATOR, &program, &["arg submit_seconds=soon"], None);
    assert!(quiet.all_zero() && quiet.logs().is_empty());
    let seen = submit(ALLOCATOR, &program, &["arg submit_seconds=soon"], Some(""));
    assert!(seen.all_zero() && seen.logs()[0].contains("\"submit_seconds=soon\""), "{:?}", seen.logs());
    assert_eq!(submit(ALLOCATOR, &program, &["arg submit_seconds=soon"], Some("required")).status, Some(1));
    assert!(program.calls().is_empty());
}

#[test]
fn an_invalid_option_is_quoted_and_ends_the_command() {
    let program = FakeSubmit::good();
    let seen = submit(ALLOCATOR, &program, &[], Some("../x"));
    assert!(seen.has("option -1"), "{:?}", seen.lines);
    assert!(seen.logs()[0].contains("--mytoken=\"../x\""), "{:?}", seen.logs());
}

#[test]
fn with_a_credential_the_variable_of_the_token_is_removed() {
    let program = FakeSubmit::good();
    let before =
        ["env BEARER_TOKEN mine", "env BEARER_TOKEN_FILE /run/mytoken/sessions/2001/a/bt_u2001", "env MYTOKEN_FILE /x"];
    let seen = submit(ALLOCATOR, &program, &before, Some(""));
    assert_eq!(seen.env("BEARER_TOKEN"), None);
    assert_eq!(seen.env("MYTOKEN_FILE"), Some("/x"));
    assert_eq!(seen.env("BEARER_TOKEN_FILE"), None, "the file of the session");
}

/// The environment of sbatch, salloc and srun inside job 7.
pub(crate) const INSIDE: [&str; 6] = [
    "env SLURM_JOB_ID 7",
    "env SLURM_MYTOKEN mt1.ffffffff.T0xE",
    "env SLURM_SPANK_MYTOKEN_H ffffffffffffffffffffffffffffffff",
    "env SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken required:old",
    "env BEARER_TOKEN_FILE /run/mytoken/jobs/7/bt_u2001",
    "env MYTOKEN_FILE /x",
];

#[test]
fn a_nested_submission_drops_the_credential_of_the_outer_job() {
    let program = FakeSubmit::good();
    let seen = submit(ALLOCATOR, &program, &INSIDE, None);
    assert!(seen.all_zero() && !has_credential(&seen) && seen.logs().is_empty(), "{:?}", seen.lines);
    // Removed before Slurm imports it: the outer job's `required` must not apply to this job.
    assert_eq!(seen.env("SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken"), None);
    assert_eq!(seen.env("BEARER_TOKEN_FILE"), None);
    assert!(program.calls().is_empty());
}

#[test]
fn a_nested_submission_with_the_option_gets_its_own_credential() {
    let program = FakeSubmit::good();
    let seen = submit(ALLOCATOR, &program, &INSIDE, Some("new"));
    assert!(has_credential(&seen), "{:?}", seen.lines);
    assert_eq!(program.calls(), ["--profile=new --context=sbatch"]);
    let program = FakeSubmit::script("exit 1");
    let seen = submit(ALLOCATOR, &program, &INSIDE, Some("new"));
    assert!(seen.all_zero() && !has_credential(&seen), "{:?}", seen.lines);
}

#[test]
fn a_credential_in_the_environment_outside_a_job_is_removed() {
    let program = FakeSubmit::good();
    let seen = submit(ALLOCATOR, &program, &INSIDE[1..3], None);
    assert!(!has_credential(&seen), "{:?}", seen.lines);
}

#[test]
fn srun_inside_a_job_keeps_the_credential_of_the_job() {
    let program = FakeSubmit::good();
    for option in [None, Some("required")] {
        let seen = submit(LOCAL, &program, &INSIDE, option);
        assert!(seen.all_zero() && seen.logs().is_empty(), "{:?}", seen.lines);
        assert_eq!(seen.env("SLURM_MYTOKEN"), Some("mt1.ffffffff.T0xE"));
        assert_eq!(seen.env("SLURM_SPANK_MYTOKEN_H"), Some("ffffffffffffffffffffffffffffffff"));
        assert_eq!(seen.env("SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken"), Some("required:old"));
    }
    assert!(program.calls().is_empty());
}

#[test]
fn srun_for_a_step_of_another_job_requests_no_credential() {
    let program = FakeSubmit::good();
    // `srun --jobid=7` in a login session, with the option and with a default profile of the site.
    for (option, logs, is_wanted) in [
        (None, 0, None),
        (Some("off"), 0, None),
        (Some(""), 0, Some("1")),
        (Some("required"), 0, Some("1")),
        (Some("other"), 1, Some("1")),
    ] {
        let seen = submit(LOCAL, &program, &["jobid 7", "arg default=site"], option);
        assert!(seen.all_zero() && seen.status == Some(0), "{option:?} {:?}", seen.lines);
        assert_eq!((seen.logs().len(), seen.env("SLURM_MYTOKEN_WANTED")), (logs, is_wanted), "{option:?}");
        assert_eq!(seen.env("SLURM_MYTOKEN"), None, "{option:?}");
    }
    // In another job: that job's credential does not go to the step.
    let seen = submit(LOCAL, &program, &[&INSIDE[..], &["jobid 8"]].concat(), None);
    assert_eq!((seen.env("SLURM_MYTOKEN"), seen.env("SLURM_SPANK_MYTOKEN_H")), (None, None));
    // Slurm takes the variable of its own job for the option.
    let seen = submit(LOCAL, &program, &[&INSIDE[..], &["jobid 7"]].concat(), None);
    assert_eq!(seen.env("SLURM_MYTOKEN"), Some("mt1.ffffffff.T0xE"));
    assert!(program.calls().is_empty());
}

#[test]
fn srun_says_that_a_step_does_not_choose_its_profile() {
    let program = FakeSubmit::good();
    for (option, count) in [("new", 1), ("required:new", 1), ("old", 0), ("required:old", 0)] {
        let seen = submit(LOCAL, &program, &INSIDE, Some(option));
        assert!(seen.all_zero() && has_credential_of_the_job(&seen), "{option} {:?}", seen.lines);
        let told = seen.logs().iter().filter(|line| line.contains("a job has one profile")).count();
        assert_eq!((told, seen.logs().len()), (count, count), "{option} {:?}", seen.logs());
    }
    assert!(program.calls().is_empty());
}

#[test]
fn srun_says_that_a_step_cannot_be_without_the_token_of_its_job() {
    let program = FakeSubmit::good();
    let seen = submit(LOCAL, &program, &INSIDE, Some("off"));
    assert!(seen.all_zero() && has_credential_of_the_job(&seen), "{:?}", seen.lines);
    assert!(seen.logs().len() == 1 && seen.logs()[0].contains("--mytoken=off"), "{:?}", seen.logs());
    let without = submit(LOCAL, &program, &["env SLURM_JOB_ID 7"], Some("off"));
    assert!(without.all_zero() && without.logs().is_empty(), "{:?}", without.logs());
}

fn has_credential_of_the_job(seen: &HostOutput) -> bool {
    seen.env("SLURM_MYTOKEN") == Some("mt1.ffffffff.T0xE")
}

#[test]
fn srun_with_the_option_reports_that_the_job_has_no_credential() {
    let program = FakeSubmit::good();
    let seen = submit(LOCAL, &program, &INSIDE[..1], Some(""));
    assert!(seen.all_zero() && seen.logs()[0].contains("submitted without --mytoken"), "{:?}", seen.logs());
    assert_eq!(submit(LOCAL, &program, &INSIDE[..1], Some("required")).status, Some(1));
    assert!(program.calls().is_empty());
}

#[test]
fn the_components_of_a_heterogeneous_job_share_one_credential() {
    let program = FakeSubmit::good();
    let seen = Host::new(ALLOCATOR)
        .line(&program.argument())
        .lines(&["load", "hook init", "option-null", "hook init_post_opt", "hook init_post_opt"])
        .run();
    assert!(seen.all_zero() && has_credential(&seen));
    assert_eq!(program.calls().len(), 1);
    let controls = seen.lines.iter().filter(|line| line.starts_with("control MYTOKEN_H")).count();
    assert_eq!(controls, 2, "each component has its own job-control variables");
}

#[test]
fn a_failure_is_reported_once_per_heterogeneous_job() {
    let program = FakeSubmit::script("exit 1");
    let seen = Host::new(ALLOCATOR)
        .line(&program.argument())
        .lines(&["load", "hook init", "option-null", "hook init_post_opt", "hook init_post_opt"])
        .run();
    assert!(seen.all_zero());
    assert_eq!((seen.logs().len(), program.calls().len()), (1, 1));
}

#[test]
fn only_the_first_component_can_request_a_credential() {
    let program = FakeSubmit::good();
    let start = ["load", "hook init", "hook init_post_opt"];
    let ask = |option: &str| {
        Host::new(ALLOCATOR).line(&program.argument()).lines(&start).lines(&[option, "hook init_post_opt"]).run()
    };
    let seen = ask("option-null");
    assert!(
        seen.all_zero() && !has_credential(&seen) && seen.logs()[0].contains("the first component must have --mytoken"),
        "{:?}",
        seen.logs()
    );
    assert_eq!(ask("option required").status, Some(1));
    assert!(program.calls().is_empty());
}

#[test]
fn a_later_component_cannot_choose_another_credential() {
    for (first, later, refused) in [
        ("option data", "option data", false),
        ("option data", "option-null", false),
        ("option required:data", "option data", false),
        ("option data", "option other", true),
        ("option data", "option off", true),
        ("option data", "option required", true),
        ("option-null", "option other", true),
    ] {
        let program = FakeSubmit::good();
        let start = ["load", "hook init", first, "hook init_post_opt", later, "hook init_post_opt"];
        let seen = Host::new(ALLOCATOR).line(&program.argument()).lines(&start).run();
        assert_eq!(seen.status, Some(i32::from(refused)), "{first} {later}: {:?}", seen.lines);
        let told = seen.logs().iter().any(|line| line.contains("the first component chooses for all"));
        assert_eq!((told, program.calls().len()), (refused, 1), "{:?}", seen.logs());
    }
}

#[test]
fn a_job_that_a_requeued_job_submits_is_in_its_first_run() {
    let program = FakeSubmit::good();
    let inside = ["env SLURM_JOB_ID 7", "env SLURM_RESTART_COUNT 1"];
    assert_eq!(submit(ALLOCATOR, &program, &inside, Some("")).env("SLURM_RESTART_COUNT"), None);
    let without = submit(ALLOCATOR, &program, &inside, None);
    assert_eq!(without.env("SLURM_RESTART_COUNT"), Some("1"), "without a credential, nothing of Slurm's is touched");
}

/// The number of calls of mytoken-submit by `words`, when Slurm has parsed these as the option `set`.
fn calls_of(words: &[&str], set: Option<&str>, silent: bool) -> usize {
    let program = FakeSubmit::good();
    let host = Host::new(ALLOCATOR).typed(words).line(&program.argument());
    let host = if silent { host.silent() } else { host };
    let host = set.into_iter().fold(host, |host, option| host.line(&format!("set {option}")));
    let seen = host.lines(&["load", "hook init", "option required", "hook init_post_opt"]).run();
    assert!(seen.all_zero());
    program.calls().len()
}

#[test]
fn a_test_gets_no_credential_if_slurm_has_parsed_it_as_one() {
    assert_eq!(calls_of(&["sbatch", "-N", "1", "--test", "job.sh"], Some("test-only"), false), 0);
    assert_eq!(calls_of(&["sbatch", "job.sh"], Some("test-only"), false), 0, "the script has it");
    assert_eq!(calls_of(&["sbatch", "--comment", "--test-only", "job.sh"], Some("comment"), false), 1);
}

#[test]
fn without_the_options_of_slurm_the_command_line_shows_a_test() {
    assert_eq!(calls_of(&["sbatch", "--mytoken", "--test-only", "job.sh"], None, true), 0);
    assert_eq!(calls_of(&["sbatch", "--mytoken", "job.sh", "--test-only"], None, true), 1);
}

#[test]
fn a_test_of_a_heterogeneous_job_is_silent_and_proceeds() {
    let program = FakeSubmit::good();
    let seen = Host::new(ALLOCATOR)
        .lines(&[&program.argument(), "set test-only", "load", "hook init", "option required"])
        .lines(&["hook init_post_opt", "set other", "hook init_post_opt"])
        .run();
    assert!(seen.all_zero() && seen.logs().is_empty(), "{:?}", seen.lines);
    assert!(program.calls().is_empty());
}

#[test]
fn mytoken_submit_is_told_that_the_job_would_lose_its_credential() {
    let lines = ["set export-file=vars"];
    let refusing = FakeSubmit::script(r#"printf '{"v":1,"error":"--export-file replaces it"}\n'; exit 1"#);
    let seen = submit(ALLOCATOR, &refusing, &lines, Some(""));
    assert!(seen.all_zero() && !has_credential(&seen), "{:?}", seen.lines);
    assert_eq!(seen.logs(), ["error mytoken: no credential: --export-file replaces it (submitting without)"]);
    assert_eq!(submit(ALLOCATOR, &refusing, &lines, Some("required")).status, Some(1));
    assert!(refusing.calls()[0].contains("--export-file"), "{:?}", refusing.calls());

    let usual = FakeSubmit::good();
    assert!(has_credential(&submit(ALLOCATOR, &usual, &[], Some(""))));
    assert!(!usual.calls()[0].contains("--export-file"), "{:?}", usual.calls());
}

#[test]
fn the_environment_of_a_job_whose_credential_the_brokers_keep_has_only_the_handle() {
    let registered = FakeSubmit::script(&format!(r#"printf '{{"v":1,"handle":"{HANDLE}","registered":true}}\n'"#));
    let before = ["set export-file=vars", &format!("env SLURM_MYTOKEN {SEALED}")];
    let seen = submit(ALLOCATOR, &registered, &before, Some("required"));
    assert!(seen.all_zero() && seen.has(&format!("control MYTOKEN_H {HANDLE} 1")), "{:?}", seen.lines);
    assert_eq!((seen.env("SLURM_SPANK_MYTOKEN_H"), seen.env("SLURM_MYTOKEN")), (Some(HANDLE), None));
}

#[test]
fn mytoken_submit_is_told_for_which_clusters_the_job_is() {
    let program = FakeSubmit::good();
    assert!(submit(ALLOCATOR, &program, &["set clusters=blue,red"], Some("")).all_zero());
    assert!(program.calls()[0].contains("--clusters=blue,red "), "{:?}", program.calls());
}

#[test]
fn a_job_of_another_user_gets_no_credential() {
    let program = FakeSubmit::good();
    for option in ["uid", "gid"] {
        let set = format!("set {option}");
        let seen = submit(ALLOCATOR, &program, &[&set], Some(""));
        assert!(seen.all_zero() && !has_credential(&seen), "{:?}", seen.lines);
        let [line] = seen.logs()[..] else { panic!("{:?}", seen.logs()) };
        assert!(line.contains(&format!("with --{option}")) && line.contains("submit as the job's user"), "{line}");
        assert_eq!(submit(ALLOCATOR, &program, &[&set], Some("required")).status, Some(1));
    }
    assert!(program.calls().is_empty());
}
