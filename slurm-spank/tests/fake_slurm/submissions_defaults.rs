// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submissions without the option: the user's variable, and the defaults of the site.

use super::host::{ALLOCATOR, FakeSubmit, HANDLE, Host, HostOutput, LOCAL, SEALED};
use super::submissions::{INSIDE, has_credential, submit};

/// The option's variable, as steps read it.
fn noted(seen: &HostOutput) -> Option<&str> {
    seen.env("SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken")
}

#[test]
fn the_variable_stands_for_the_option() {
    for (variable, default, option, call, note) in [
        ("data", "off", None, Some("--profile=data --context=sbatch"), Some("data")),
        ("required:data", "off", None, Some("--profile=data --context=sbatch --required"), Some("required:data")),
        ("required", "site", None, Some("--default=site --context=sbatch --required"), Some("required")),
        ("data", "jobs.toml", None, Some("--profile=data --context=sbatch"), Some("data")),
        ("off", "site", None, None, None),
        ("off", "jobs.toml", None, None, None),
        ("", "off", None, None, None),
        ("", "site", None, Some("--default=site --context=sbatch --by-default"), None),
        // The option counts first.
        ("data", "site", Some("other"), Some("--profile=other --context=sbatch"), None),
        ("data", "site", Some(""), Some("--default=site --context=sbatch"), None),
        ("data", "site", Some("off"), None, None),
        ("off", "off", Some("other"), Some("--profile=other --context=sbatch"), None),
        ("not valid", "off", Some("other"), Some("--profile=other --context=sbatch"), None),
    ] {
        let program = FakeSubmit::good();
        let before = [format!("env MYTOKEN_PROFILE {variable}"), format!("arg default={default}")];
        let seen = submit(ALLOCATOR, &program, &before.each_ref().map(String::as_str), option);
        assert!(seen.all_zero() && seen.logs().is_empty(), "{variable} {default} {option:?} {:?}", seen.lines);
        assert_eq!(program.calls(), call.into_iter().collect::<Vec<_>>(), "{variable} {default} {option:?}");
        assert_eq!(has_credential(&seen), call.is_some());
        // Slurm itself notes an option that was typed.
        assert_eq!(noted(&seen).filter(|text| !text.is_empty()), note, "{variable} {default} {option:?}");
    }
}

#[test]
fn a_variable_that_is_not_valid_is_told_once_and_the_job_is_submitted() {
    let program = FakeSubmit::good();
    let before = ["env MYTOKEN_PROFILE ../x", "arg default=site"];
    let seen = submit(ALLOCATOR, &program, &before, None);
    assert!(seen.all_zero() && seen.status == Some(0) && !has_credential(&seen), "{:?}", seen.lines);
    assert_eq!(
        seen.logs(),
        [
            "error mytoken: no credential: the variable MYTOKEN_PROFILE=\"../x\" is not valid; use PROFILE, off, required or required:PROFILE (submitting without)"
        ]
    );
    assert!(seen.env("SLURM_MYTOKEN_REASON").is_some_and(|reason| reason.contains("MYTOKEN_PROFILE")));
    let twice = Host::new(ALLOCATOR).line(&program.argument()).lines(&before);
    let twice = twice.lines(&["load", "hook init", "hook init_post_opt", "hook init_post_opt"]).run();
    assert_eq!((twice.all_zero(), twice.logs().len()), (true, 1), "two components");
    let test = submit(ALLOCATOR, &program, &[&before[..], &["set test-only"]].concat(), None);
    assert!(test.all_zero() && test.logs().is_empty(), "nothing is submitted");
    assert!(program.calls().is_empty());
}

#[test]
fn steps_of_a_job_do_not_read_the_variable() {
    let program = FakeSubmit::good();
    for variable in ["other", "required", "required:other", "off", "../x"] {
        let variable = format!("env MYTOKEN_PROFILE {variable}");
        // In a job with a credential, in one without, and from another session.
        for before in [&INSIDE[..], &INSIDE[..1], &["jobid 7", "arg default=site"]] {
            let seen = submit(LOCAL, &program, &[before, &[variable.as_str()]].concat(), None);
            assert!(seen.all_zero() && seen.status == Some(0) && seen.logs().is_empty(), "{variable} {:?}", seen.lines);
        }
    }
    assert!(program.calls().is_empty());
    // A submission inside the job is a new one.
    assert!(has_credential(&submit(ALLOCATOR, &program, &[&INSIDE[..], &["env MYTOKEN_PROFILE new"]].concat(), None)));
    assert_eq!(program.calls(), ["--profile=new --context=sbatch"]);
}

#[test]
fn the_defaults_are_told_where_the_job_goes() {
    for (set, call) in [
        ("set partition=a,b", "--partition=a,b --context=sbatch --by-default"),
        ("set account=bio", "--account=bio --context=sbatch --by-default"),
        ("set comment=x", "--context=sbatch --by-default"),
    ] {
        let program = FakeSubmit::good();
        let seen = submit(ALLOCATOR, &program, &[set, "arg default=jobs.toml"], None);
        assert!(seen.all_zero() && has_credential(&seen), "{:?}", seen.lines);
        assert_eq!(program.calls(), [call]);
    }
    let silent = FakeSubmit::good();
    let host = Host::new(ALLOCATOR).silent().lines(&[&silent.argument(), "arg default=jobs.toml"]);
    assert!(host.lines(&["load", "hook init", "hook init_post_opt"]).run().all_zero());
    assert_eq!(silent.calls(), ["--context=sbatch --by-default"], "a Slurm that does not say it");
}

#[test]
fn the_defaults_may_say_that_there_is_no_credential() {
    let program = FakeSubmit::script(r#"echo '{"v":1,"off":true}'"#);
    let seen = Host::new(ALLOCATOR)
        .lines(&[&program.argument(), "arg default=jobs.toml", "env BEARER_TOKEN mine"])
        .lines(&["load", "hook init", "hook init_post_opt", "hook init_post_opt"])
        .run();
    assert!(seen.all_zero() && !has_credential(&seen) && seen.logs().is_empty(), "{:?}", seen.lines);
    assert_eq!((seen.env("BEARER_TOKEN"), noted(&seen)), (Some("mine"), None));
    assert_eq!(program.calls().len(), 1, "the first component decides");
}

#[test]
fn a_credential_that_the_defaults_require_is_required() {
    let answer = |more: &str| format!(r#"printf '%s\n' '{{"v":1,"chosen":"required:data",{more}}}'"#);
    let good = FakeSubmit::script(&answer(&format!(r#""sealed":"{SEALED}","handle":"{HANDLE}""#)));
    let seen = submit(ALLOCATOR, &good, &["arg default=jobs.toml"], None);
    assert!(seen.all_zero() && has_credential(&seen), "{:?}", seen.lines);
    assert_eq!(noted(&seen), Some("required:data"), "the steps find it there");
    let failing = FakeSubmit::script(&(answer(r#""error":"none""#) + "; exit 1"));
    let seen = submit(ALLOCATOR, &failing, &["arg default=jobs.toml"], None);
    assert_eq!((seen.status, seen.logs()), (Some(1), vec!["error mytoken: no credential: none"]));
}
