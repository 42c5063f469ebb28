// SPDX-License-Identifier: MIT OR Apache-2.0
//! Profiles of the site with windows, numbers and tools, and the user's own file, which narrows them.

use std::fs;
use std::process::Command;

use mytoken::restrictions::Clause;
use serde_json::Value;

use crate::harness::{AUDIENCE, SCOPE, TestSite, unix_time};

/// A site with the profile `staged`, whose user has logged in.
fn site() -> TestSite {
    let site = TestSite::new(60);
    fs::create_dir(site.config().join("jobs.d")).unwrap();
    let profile = format!(
        "[[profile]]\nname = 'staged'\nserver = 't'\nscope = '{SCOPE} compute.read'\naudience = '{AUDIENCE}'\nusages = 6\ntools = ['rclone']\n\
         windows = [{{ until = '2h' }}, {{ from = '10h', until = '20h' }}]\n"
    );
    fs::write(site.config().join("jobs.d/staged.toml"), profile).unwrap();
    site.log_in();
    site
}

/// Writes the user's own file.
fn write_own(site: &TestSite, text: &str) {
    let directory = site.home().join(".config/mytoken");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("jobs.toml"), text).unwrap();
}

/// The clauses of the sub-token in an answer, as the server made it.
fn clauses(site: &TestSite, answer: &Value) -> Vec<Clause> {
    let credential = site.open(answer["sealed"].as_str().unwrap_or_else(|| panic!("{answer}")));
    mytoken::token::unverified_claims(&credential.sub_token).unwrap().unverified().restrictions.clone()
}

/// Begin and end of clauses in hours from now, and their uses.
fn hours(clauses: &[Clause]) -> Vec<(Option<u64>, u64, Option<i64>)> {
    let now = unix_time();
    let after = |time: u64| (time.saturating_sub(now) + 1800) / 3600;
    clauses.iter().map(|clause| (clause.nbf.map(after), after(clause.exp.unwrap()), clause.usages_at)).collect()
}

#[test]
fn a_profile_with_windows_gives_a_clause_for_each() {
    let site = site();
    let printed = site.submit_with(&["--profile", "staged"]);
    assert!(printed.status.success(), "{printed:?}");
    assert_eq!(hours(&clauses(&site, &printed.line)), [(None, 2, Some(6)), (Some(10), 20, Some(6))]);
    assert_eq!(printed.line["tools"], serde_json::json!(["rclone"]));
    assert!(site.submit_with(&["--profile", "default"]).line["tools"].is_null());
}

/// Two further files; the user's mytoken allows one of them.
const FILES: &str = "files = [{ name = 'ce', scope = 'compute.read', audience = 'AUDIENCE' },
    { name = 'tape', scope = 'storage.read', audience = 'https://tape.example.org' }]";

#[test]
fn each_file_is_sealed_and_one_that_is_not_allowed_costs_no_other() {
    let site = site();
    let profile = format!(
        "[[profile]]\nname = 'several'\nserver = 't'\nscope = '{SCOPE}'\naudience = '{AUDIENCE}'\n{}\n",
        FILES.replace("AUDIENCE", AUDIENCE)
    );
    fs::write(site.config().join("jobs.d/several.toml"), profile).unwrap();
    let printed = site.submit_with(&["--profile", "several", "--required"]);
    assert!(printed.status.success(), "{printed:?}");
    assert_eq!(printed.line["several_files"], true);
    let notes = printed.line["notes"].to_string();
    assert!(
        notes.contains("no access token for its file \\\"tape\\\"") && notes.contains("tape.example.org"),
        "{notes}"
    );
    let asked: Vec<_> =
        clauses(&site, &printed.line).into_iter().map(|clause| (clause.scope, clause.audience)).collect();
    let audience = vec![AUDIENCE.to_owned()];
    assert_eq!(asked, [(SCOPE.to_owned(), audience.clone()), ("compute.read".to_owned(), audience)]);
    let sealed = site.open(printed.line["sealed"].as_str().unwrap());
    let names: Vec<_> = sealed.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["ce", "tape"], "a node tells of both");
    assert!(site.submit_with(&["--profile", "default"]).line["several_files"].is_null());
    // The user keeps one of them.
    write_own(&site, "[[profile]]\nname = 'several'\nfiles = [{ name = 'ce' }]\n");
    let printed = site.submit_with(&["--profile", "several"]);
    assert_eq!(site.open(printed.line["sealed"].as_str().unwrap()).files.len(), 1);
    assert!(!printed.line["notes"].to_string().contains("tape"), "{printed:?}");
    write_own(&site, "[[profile]]\nname = 'several'\nfiles = []\n");
    assert!(site.submit_with(&["--profile", "several"]).line["several_files"].is_null());
}

#[test]
fn the_users_own_file_narrows_and_never_widens() {
    let site = site();
    write_own(
        &site,
        &format!(
            "[[profile]]\nname = 'mine'\nbased_on = 'staged'\nscope = '{SCOPE}'\nusages = 9\nmax_lifetime = '12h'\nwindows = [{{ from = '1h', until = '99h' }}]\n\
             [[profile]]\nname = 'more'\nbased_on = 'default'\nscope = '{SCOPE} compute.read'\n"
        ),
    );
    let printed = site.submit_with(&["--profile", "mine"]);
    assert!(printed.status.success(), "{printed:?}");
    let made = clauses(&site, &printed.line);
    assert_eq!(hours(&made), [(Some(1), 2, Some(6)), (Some(10), 12, Some(6))]);
    assert!(made.iter().all(|clause| clause.scope == SCOPE && clause.audience == [AUDIENCE]), "{made:?}");
    assert_eq!(site.open(printed.line["sealed"].as_str().unwrap()).profile, "mine");
    let refused = site.submit_with(&["--profile", "more"]);
    assert_eq!(
        refused.line["error"],
        "profile \"more\" of ~/.config/mytoken/jobs.toml: the scope compute.read is not in the site's profile \"default\""
    );
    assert!(site.submit_with(&["--profile", "default"]).status.success(), "a mistake in one does not stop the others");
    let unknown = site.submit_with(&["--profile", "none"]);
    let known = "this cluster has: default, staged, mine, more";
    assert!(unknown.line["error"].as_str().is_some_and(|error| error.ends_with(known)), "{unknown:?}");
}

#[test]
fn an_own_file_that_cannot_be_used_gives_no_credential_and_one_sentence() {
    let site = site();
    let before = site.journal().len();
    for text in ["this is not TOML", "[[profile]]\nname = 'mine'\nserver = 'https://evil.example'\n", "\u{1b}[2J"] {
        write_own(&site, text);
        let refused = site.submit_with(&["--profile", "default"]);
        let error = refused.line["error"].as_str().unwrap();
        assert!(error.contains(".config/mytoken/jobs.toml:"), "{error}");
        assert!(!error.chars().any(char::is_control) && refused.stderr.is_empty(), "{refused:?}");
    }
    let own = site.home().join(".config/mytoken/jobs.toml");
    fs::remove_file(&own).unwrap();
    nix::unistd::mkfifo(&own, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let refused = site.submit_with(&["--profile", "default"]);
    assert!(refused.line["error"].is_string() && refused.took.as_secs() < 2, "a FIFO: {refused:?}");
    assert_eq!(site.journal().len(), before, "nothing was requested");
}

#[test]
fn a_submission_that_names_no_profile_gets_that_of_the_defaults() {
    let site = site();
    let defaults = "[cluster]\ndefault_partition = 'cpu'\n[[default]]\npartition = 'gpu'\nmytoken = 'required:staged'\n[[default]]\n\
                    partition = 'cpu'\nmytoken = 'off'\n";
    fs::write(site.config().join("jobs.d/defaults.toml"), defaults).unwrap();
    let profile_of = |arguments: &[&str]| {
        let printed = site.submit_with(arguments);
        assert!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
        let sealed = printed.line["sealed"].as_str().map(|sealed| site.open(sealed));
        assert_eq!(printed.line["off"], serde_json::json!(sealed.is_none().then_some(true)), "{printed:?}");
        let chosen = printed.line["chosen"].as_str().unwrap_or_default().to_owned();
        (sealed.map(|sealed| (sealed.profile, sealed.required)), chosen)
    };
    let made = |name: &str, required| Some((name.to_owned(), required));
    for (arguments, wanted, chosen) in [
        (&["--by-default", "--partition=gpu,big"][..], made("staged", true), "required:staged"),
        (&["--by-default", "--default=default", "--partition=gpu"], made("staged", true), "required:staged"),
        (&["--by-default", "--default=default", "--partition=big"], made("default", false), "default"),
        // Slurm's default partition.
        (&["--by-default", "--default=default"], None, ""),
        (&["--by-default", "--partition=big"], None, ""),
        (&["--partition=gpu"], made("staged", false), "staged"),
        (&["--partition=cpu", "--required"], made("default", true), "required:default"),
        (&["--profile=default", "--required"], made("default", true), ""),
    ] {
        assert_eq!(profile_of(arguments), (wanted, chosen.to_owned()), "{arguments:?}");
    }
    // The user's own file counts first.
    let own = "[[profile]]\nname = 'mine'\nbased_on = 'staged'\n[[default]]\npartition = 'gpu'\nmytoken = 'off'\n[[default]]\nmytoken = 'mine'\n";
    write_own(&site, own);
    assert_eq!(profile_of(&["--by-default", "--partition=gpu"]), (None, String::new()));
    assert_eq!(profile_of(&["--by-default"]), (made("mine", false), "mine".to_owned()));
    write_own(&site, "[[default]]\nmytoken = 'nothing'\n");
    let refused = site.submit_with(&["--by-default", "--partition=gpu"]);
    let error = refused.line["error"].as_str().unwrap();
    assert_eq!(error, "~/.config/mytoken/jobs.toml: [[default]] for any submission: there is no profile \"nothing\"");
    assert!(site.submit_with(&["--profile=default"]).status.success(), "it is not asked");
}

#[test]
fn a_failure_says_what_the_defaults_required() {
    // The user has not logged in.
    let site = TestSite::new(60);
    fs::create_dir(site.config().join("jobs.d")).unwrap();
    fs::write(site.config().join("jobs.d/defaults.toml"), "[[default]]\nmytoken = 'required'\n").unwrap();
    let refused = site.submit_with(&["--by-default"]);
    assert!(!refused.status.success() && refused.line["error"].is_string(), "{refused:?}");
    assert_eq!(refused.line["chosen"], "required:default");
    // Nor does an own file that cannot be read free the job of it.
    for broken in ["[[default", "[[default]]\nmytoken = 'nothing'\n"] {
        write_own(&site, broken);
        let refused = site.submit_with(&["--by-default"]);
        assert!(!refused.status.success(), "{refused:?}");
        assert!(refused.line["error"].as_str().unwrap().contains("/.config/mytoken/jobs.toml:"), "{refused:?}");
        assert_eq!(refused.line["chosen"], "required:default", "{broken}");
    }
}

#[test]
fn a_program_outside_slurm_gets_the_variables_of_the_tools() {
    let site = site();
    let shows = "echo \"$RCLONE_WEBDAV_BEARER_TOKEN_COMMAND|cat $BEARER_TOKEN_FILE\"";
    let mut run = Command::new(env!("CARGO_BIN_EXE_mytokenctl"));
    run.args(["run", "--profile", "staged", "--config"]).arg(site.config()).args(["--", "sh", "-c", shows]);
    run.env("HOME", site.home()).env("MYTOKEN_FILE", site.dir.path().join("mt"));
    let output = run.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (tool, file) = text.trim().split_once('|').unwrap();
    assert!(tool == file && tool.starts_with("cat /"), "{text} {}", String::from_utf8_lossy(&output.stderr));
}

/// Prints the names of the files, waits until both have another token, and prints what the further one is for.
const WITH_FILES: &str = r#"ls $MYTOKEN_TOKEN_DIR | sed "s/$(id -u)/U/"; test "$MYTOKEN_TOKEN_DIR" = "${BEARER_TOKEN_FILE%/*}" && echo beside
ce=$BEARER_TOKEN_FILE-ce; test -f $ce || exit 1
first=$(cat $ce) main=$(cat $BEARER_TOKEN_FILE)
for try in $(seq 300); do test "$(cat $ce)" = "$first" || test "$(cat $BEARER_TOKEN_FILE)" = "$main" || break; sleep 0.1; done
test $try -lt 300 && echo renewed
cut -d. -f2 $ce | tr _- /+ | sed 's/$/==/' | base64 -d 2>/dev/null | grep -o 'https://ce.example.org'
echo $MYTOKEN_TOKEN_DIR"#;

#[test]
fn a_program_outside_slurm_has_each_file_of_its_profile_and_a_refused_one_costs_no_other() {
    // A renewal has 3 s at least: a machine with much else to do needs more than one.
    let site = TestSite::new(12);
    site.control("/provider/policy", &serde_json::json!({"extra_resources": [AUDIENCE, "https://ce.example.org"]}));
    fs::create_dir(site.config().join("jobs.d")).unwrap();
    let profile = format!(
        "[[profile]]\nname = 'several'\nserver = 't'\nscope = '{SCOPE}'\naudience = '{AUDIENCE}'\nfiles = [\n\
         {{ name = 'ce', scope = '{SCOPE}', audience = 'https://ce.example.org' }},\n\
         {{ name = 'tape', scope = '{SCOPE}', audience = 'https://tape.example.org' }}]\n"
    );
    fs::write(site.config().join("jobs.d/several.toml"), profile).unwrap();
    let clause = serde_json::json!({"scope": "openid storage.read compute.read", "exp": unix_time() + 86_400});
    let mytoken = site.mytoken(&serde_json::json!({"restrictions": [clause]}));
    fs::write(site.dir.path().join("mt"), mytoken["mytoken"].as_str().unwrap()).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_mytokenctl"));
    run.args(["run", "--profile", "several", "--config"]).arg(site.config()).args(["--", "sh", "-c", WITH_FILES]);
    let output = run.env("HOME", site.home()).env("MYTOKEN_FILE", site.dir.path().join("mt")).output().unwrap();
    let (told, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let lines: Vec<&str> = text.lines().collect();
    let expected = ["bt_uU", "bt_uU-ce", "beside", "renewed", "https://ce.example.org"];
    assert!(lines.len() == 6 && lines[..5] == expected, "{text} {told}");
    assert!(told.starts_with("mytokenctl: no access token in the file \"tape\": "), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(!std::path::Path::new(lines.last().unwrap()).exists(), "all files went with the program");
    assert_eq!(site.sub_tokens().len(), 0, "one mytoken, and it was revoked");
}
