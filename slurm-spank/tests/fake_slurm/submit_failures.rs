// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the hooks of sbatch, salloc and srun do when `mytoken-submit` fails, hangs or is missing.

use std::time::Duration;

use super::host::{ALLOCATOR, FakeSubmit, Host, LOCAL};
use super::submissions::{has_credential, submit};

#[test]
fn a_failing_mytoken_submit_prints_one_line_and_the_job_is_submitted() {
    let program =
        FakeSubmit::script(r#"printf '{"v":1,"error":"your session has none. Run: mytoken-ssh login"}\n'; exit 1"#);
    let seen = submit(ALLOCATOR, &program, &[], Some(""));
    assert!(seen.all_zero() && !has_credential(&seen) && seen.status == Some(0));
    let wanted = "error mytoken: no credential: your session has none. Run: mytoken-ssh login (submitting without)";
    assert_eq!(seen.logs(), [wanted]);
}

#[test]
fn required_refuses_the_submission_with_one_line() {
    let program =
        FakeSubmit::script(r#"printf '{"v":1,"error":"your session has none. Run: mytoken-ssh login"}\n'; exit 1"#);
    for context in [ALLOCATOR, LOCAL] {
        let seen = submit(context, &program, &[], Some("required"));
        assert_eq!(seen.status, Some(1), "{:?}", seen.lines);
        assert_eq!(seen.logs(), ["error mytoken: no credential: your session has none. Run: mytoken-ssh login"]);
        // SLURM-06: Slurm ignores the result of an optional plugin's hook, so the hook must not return.
        assert!(seen.after("hook init_post_opt").is_none());
    }
}

#[test]
fn an_error_about_mytoken_submit_does_not_quote_its_output() {
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
        let program = FakeSubmit::script(body);
        let seen = submit(ALLOCATOR, &program, &[], Some(""));
        assert!(seen.all_zero() && !has_credential(&seen), "{body}: {:?}", seen.lines);
        assert_eq!(seen.logs().len(), 1, "{body}: {:?}", seen.logs());
        assert!(seen.logs()[0].contains(wanted) && !seen.logs()[0].contains("hidden"), "{body}: {:?}", seen.logs());
        assert!(!program.is_running(), "{body}");
    }
}

#[test]
fn a_hanging_mytoken_submit_is_killed_at_the_deadline() {
    // The second program closes its output and continues. The third leaves a grandchild that keeps the pipe open.
    for body in ["exec sleep 600", "exec >&-; exec sleep 600", "sleep 600 & exec sleep 600"] {
        let program = FakeSubmit::script(body);
        let seen = submit(ALLOCATOR, &program, &["arg submit_seconds=1"], Some(""));
        assert!(seen.all_zero() && !has_credential(&seen));
        assert!(seen.logs()[0].contains("did not answer within 1 s"), "{:?}", seen.logs());
        assert!(seen.took >= Duration::from_secs(1) && seen.took < Duration::from_secs(4), "{:?}", seen.took);
        assert!(!program.is_running(), "{body}");
    }
}

#[test]
fn slow_output_does_not_extend_the_deadline() {
    let program = FakeSubmit::script("while :; do printf x; sleep 0.2; done");
    let seen = submit(ALLOCATOR, &program, &["arg submit_seconds=1"], Some(""));
    assert!(seen.logs()[0].contains("did not answer within 1 s"), "{:?}", seen.logs());
    assert!(seen.took < Duration::from_secs(4), "{:?}", seen.took);
}

#[test]
fn a_host_that_ignores_sigchld_changes_nothing() {
    let program = FakeSubmit::good();
    assert!(has_credential(&submit(ALLOCATOR, &program, &["ignore 17"], Some("required"))));
    let program = FakeSubmit::script("exec sleep 600");
    let seen = submit(ALLOCATOR, &program, &["ignore 17", "arg submit_seconds=1"], Some(""));
    assert!(seen.logs()[0].contains("did not answer"), "{:?}", seen.logs());
    assert!(!program.is_running());
}

#[test]
fn a_descriptor_above_a_lowered_limit_changes_nothing() {
    let program = FakeSubmit::good();
    assert!(has_credential(&submit(ALLOCATOR, &program, &["limit 40"], Some("required"))));
}

#[test]
fn a_missing_mytoken_submit_is_reported() {
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
