// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a submission tells the user and the job, and what the job inherits of the session.

use super::host::{ALLOCATOR, FakeSubmit, HANDLE, Host, LOCAL, SEALED};
use super::submissions::{INSIDE, has_credential, submit};

/// The environment of a login session with a delegated mytoken.
const SESSION: [&str; 2] = [
    "env BEARER_TOKEN_FILE /run/mytoken/sessions/2001/a/bt_u2001",
    "env MYTOKEN_FILE /run/mytoken/sessions/2001/a/mt_u2001",
];

#[test]
fn a_job_does_not_inherit_the_files_of_the_session() {
    for option in [None, Some(""), Some("off")] {
        let program = FakeSubmit::good();
        let seen = submit(ALLOCATOR, &program, &SESSION, option);
        assert_eq!((seen.env("BEARER_TOKEN_FILE"), seen.env("MYTOKEN_FILE")), (None, None), "{option:?}");
        if option == Some("") {
            assert!(program.note("env").contains("MYTOKEN_FILE=/run/mytoken/sessions/2001/a/mt_u2001"));
        }
        let inside = [&SESSION[..], &INSIDE[..1]].concat();
        let seen = submit(LOCAL, &FakeSubmit::good(), &inside, None);
        assert_eq!((seen.env("BEARER_TOKEN_FILE"), seen.env("MYTOKEN_FILE")), (None, None), "srun inside a job");
    }
    let own = ["env BEARER_TOKEN_FILE /home/alice/bt", "env MYTOKEN_FILE /home/alice/mt"];
    let seen = submit(ALLOCATOR, &FakeSubmit::good(), &own, None);
    assert!(seen.env("BEARER_TOKEN_FILE").is_some() && seen.env("MYTOKEN_FILE").is_some());
}

#[test]
fn the_shell_of_salloc_keeps_the_files_of_its_session() {
    let program = FakeSubmit::good();
    let host = Host::new(ALLOCATOR).typed(&["salloc", "--mytoken"]).lines(&SESSION).line(&program.argument());
    let seen = host.lines(&["load", "hook init", "option-null", "hook init_post_opt"]).run();
    assert!(has_credential(&seen) && seen.env("BEARER_TOKEN_FILE").is_some() && seen.env("MYTOKEN_FILE").is_some());
}

#[test]
fn notes_are_shown_to_the_user() {
    let note = r#"it ends soon\nsecond line"#;
    let program = FakeSubmit::script(&format!(
        r#"printf '%s\n' '{{"v":1,"sealed":"{SEALED}","handle":"{HANDLE}","notes":["{note}","b","c","d","too many"]}}'"#
    ));
    let seen = submit(ALLOCATOR, &program, &[], Some(""));
    assert!(seen.all_zero() && has_credential(&seen));
    let lines = ["info mytoken: it ends soon?second line", "info mytoken: b", "info mytoken: c", "info mytoken: d"];
    assert_eq!(seen.logs(), lines);
    assert!(submit(ALLOCATOR, &program, &["set quiet"], Some("")).logs().is_empty());
    let failing = FakeSubmit::script(r#"printf '%s\n' '{"v":1,"error":"none"}'; exit 1"#);
    assert_eq!(submit(ALLOCATOR, &failing, &["set quiet"], Some("")).logs().len(), 1, "an error is no note");
}

#[test]
fn the_job_is_sent_the_reason_for_its_lack_of_a_credential() {
    let program = FakeSubmit::script(r#"printf '%s\n' '{"v":1,"error":"your session has\tnone"}'; exit 1"#);
    let seen = submit(ALLOCATOR, &program, &[], Some(""));
    assert_eq!(seen.env("SLURM_MYTOKEN_REASON"), Some("your session has?none"));
    let seen = submit(LOCAL, &program, &[], Some(""));
    assert_eq!(seen.env("SLURM_MYTOKEN_REASON"), None, "srun shows it on the same terminal");
    let inherited = ["env SLURM_MYTOKEN_REASON old"];
    assert_eq!(submit(ALLOCATOR, &program, &inherited, None).env("SLURM_MYTOKEN_REASON"), None);
    let endless = FakeSubmit::script(&format!(r#"printf '{{"v":1,"error":"{}"}}\n'; exit 1"#, "x".repeat(5000)));
    let seen = submit(ALLOCATOR, &endless, &[], Some(""));
    assert!(seen.env("SLURM_MYTOKEN_REASON").unwrap().len() <= 400, "a hostile server cannot fill the environment");
}

#[test]
fn scrontab_is_told_that_its_jobs_get_no_credential() {
    let line =
        "error mytoken: no credential: jobs of scrontab get none, because Slurm submits them without your session";
    for (option, returned, told) in [
        ("option-null", 0, true),
        ("option data", 0, true),
        ("option required", -1, true),
        ("option required:data", -1, true),
        ("option off", 0, false),
    ] {
        let program = FakeSubmit::good();
        // scrontab calls neither the submission hook nor anything else (SLURM-92).
        let host = Host::new(ALLOCATOR).typed(&["/usr/bin/scrontab", "-"]).line(&program.argument());
        let seen = host.lines(&["load", "hook init", option]).run();
        assert!(seen.has(&format!("option {returned}")), "{option}: {:?}", seen.lines);
        assert_eq!(seen.logs(), if told { vec![line] } else { vec![] }, "{option}");
        assert!(program.calls().is_empty());
    }
}
