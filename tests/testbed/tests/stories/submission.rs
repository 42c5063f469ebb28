// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submissions: which of them make a credential, and what the user is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::people::{self, Session};
use testbed::drive::tokens;
use testbed::site::daemon::Daemon;
use testbed::site::servers::AUDIENCE;
use testbed::soak::clock;
use testbed::soak::records;
use testbed::soak::task::{RECORDS, Seen};
use testbed::{Options, Result, Site, story_with_own_servers, wait};

/// A site with a stored mytoken of alice and an empty journal. `job.sh` does nothing, `test.sh` has `--test-only` in it.
fn with_alice(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_with_own_servers(Options { nodes: 2, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        let scripts =
            "printf '#!/bin/sh\\ntrue\\n' >job.sh; sed '1a #SBATCH --test-only' job.sh >test.sh; chmod 755 *.sh";
        site.sh("alice", scripts)?.ok()?;
        Journal::clear(site)?;
        body(site)
    })
}

#[test]
fn no_spelling_of_test_only_makes_a_credential() -> Result<()> {
    with_alice(|site| {
        for (command, sub_tokens) in [
            ("sbatch --mytoken --test-only job.sh", 0),
            ("sbatch -N 1 --mytoken=required --test-only job.sh", 0),
            ("sbatch -n1 -J name --test --mytoken job.sh", 0),
            ("sbatch --comment x --te --mytoken job.sh", 0),
            ("sbatch --mytoken test.sh", 0),
            ("sbatch --mytoken <test.sh", 0),
            ("srun --mytoken -N 1 --test-only true", 0),
            ("sbatch --mytoken=required --test-only -N1 : -N1 job.sh", 0),
            ("srun --mytoken=required --test-only -N1 true : -N1 true", 0),
            // These are no tests.
            ("sbatch --mytoken --hold job.sh --test-only", 1),
            ("sbatch --mytoken --hold --comment --test-only job.sh", 1),
            ("srun --mytoken echo --test-only", 1),
        ] {
            Journal::clear(site)?;
            let outcome = site.sh("alice", command)?.ok()?;
            assert_eq!(Journal::read(site)?.sub_tokens(), sub_tokens, "{command}: {outcome:?}");
            assert_eq!(outcome.stderr.contains("to start at"), sub_tokens == 0, "{command}: {outcome:?}");
            assert!(!outcome.stderr.contains("mytoken:"), "{command}: {outcome:?}");
        }
        Ok(())
    })
}

#[test]
fn root_gets_no_credential_for_a_job_of_another_user() -> Result<()> {
    with_alice(|site| {
        // Root has a usable mytoken, so that only the option is the reason.
        let copy = "mkdir -p /root/.config && cp -r ~alice/.config/mytoken /root/.config && chown -R root: /root/.config && cp ~alice/job.sh /tmp";
        site.sh("root", copy)?.ok()?;
        for option in ["--uid=alice", "--uid alice", "--gid=$(id -g alice)"] {
            let name = &option[..5];
            let outcome = site.sh("root", &format!("cd /tmp; sbatch --hold --mytoken {option} job.sh"))?.ok()?;
            assert!(outcome.stderr.contains(&format!("no credential: with {name}")), "{outcome:?}");
            let refused = site.sh("root", &format!("cd /tmp; sbatch --hold --mytoken=required {option} job.sh"))?;
            assert!(refused.code == 1 && refused.stderr.contains(name), "{refused:?}");
        }
        assert_eq!(Journal::read(site)?.sub_tokens(), 0);
        site.sh("root", "cd /tmp; sbatch --hold --mytoken job.sh")?.ok()?;
        assert_eq!(Journal::read(site)?.sub_tokens(), 1, "root's own job gets one");
        Ok(())
    })
}

#[test]
fn the_job_says_in_its_output_why_it_has_no_credential() -> Result<()> {
    with_alice(|site| {
        site.sh("alice", "mv .config/mytoken .config/away")?.ok()?;
        for export in ["ALL", "NONE", "HOME"] {
            let command = format!("sbatch --mytoken --export={export} --wrap 'env; srun env'");
            let (job, told) = Job::submit(site, "alice", &command)?;
            let reason = "your session has none and ~/.config/mytoken holds no token for mytoken.testbed:8443";
            assert!(told.stderr.contains(&format!("no credential: {reason}")), "{told:?}");
            job.wait_for_end(site, Duration::from_secs(60))?;
            let output = job.output(site)?;
            assert_eq!(output.matches(&format!("mytoken: no access token: {reason}")).count(), 1, "{output}");
            assert!(!output.contains("SLURM_MYTOKEN"), "{output}");
        }
        Ok(())
    })
}

#[test]
fn a_job_has_neither_file_of_its_login_session() -> Result<()> {
    with_alice(|site| {
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed bash -s")?;
        let timeout = Duration::from_secs(60);
        for (option, files) in [("", 0), ("--mytoken", 2)] {
            let submission = format!("sbatch {option} --wrap 'env; srun env'");
            let told = session.run(&submission, timeout)?.ok()?;
            let job = Job::submitted("alice", &told)?;
            job.wait_for_end(site, timeout)?;
            let output = job.output(site)?;
            assert!(!output.contains("/run/mytoken/sessions"), "{output}");
            assert_eq!(output.matches("BEARER_TOKEN_FILE=/run/mytoken/jobs/").count(), files, "{output}");
        }
        let inside = "salloc sh -c 'env; echo ----; srun env' 2>/dev/null";
        let shown = session.run(inside, timeout)?.ok()?.stdout;
        let (shell, step) = shown.split_once("----").unwrap();
        assert!(shell.contains("MYTOKEN_FILE=/run/mytoken/sessions"), "{shell}");
        assert!(!step.contains("/run/mytoken/sessions"), "{step}");
        session.close()
    })
}

/// What the configuration and the user's own file say in the story below.
const PROFILES: &str = r#"
mkdir -p /etc/mytoken/jobs.d ~alice/.config/mytoken
cat >/etc/mytoken/jobs.d/wide.toml <<END
[[profile]]
name = "wide"
server = "testbed"
scope = "storage.read compute.read"
audience = "https://testbed"
max_lifetime = "2h"
[[default]]
partition = "main"
mytoken = "wide"
END
cat >~alice/.config/mytoken/jobs.toml <<END
[[profile]]
name = "mine"
based_on = "wide"
scope = "storage.read"
max_lifetime = "1h"
[[profile]]
name = "later"
based_on = "wide"
windows = [{ from = "1h", until = "3h" }]
[[default]]
account = "small"
mytoken = "mine"
END
chown alice: ~alice/.config/mytoken/jobs.toml
sed -i 's/^optional.*/& default=jobs.toml/' /usr/share/mytoken/plugstack.conf
"#;

#[test]
fn a_jobs_token_has_the_scopes_of_the_profile_that_the_defaults_choose() -> Result<()> {
    with_alice(|site| {
        site.sh("root", PROFILES)?.ok()?;
        // The claims of the job's access token, and the end of its credential in minutes from now.
        let show = "cut -d. -f2 $BEARER_TOKEN_FILE | { tr _- /+; echo ==; } | base64 -d 2>/dev/null | jq -r .scope\n\
                    mytokenctl status $SLURM_JOB_ID --json | jq -r '.jobs[0] | .profile + \" \" + (.credential_until / 60 - now / 60 | ceil | tostring)'\n\
                    srun --mytoken=$1 true; srun true\n";
        site.script("alice", "cat >show.sh").stdin(format!("#!/bin/bash\n{show}")).run()?.ok()?;
        let both = "compute.read storage.read";
        for (submission, profile, scopes, minutes) in [
            ("sbatch -p main", "wide", both, 120),
            ("sbatch -p main -A small", "mine", "storage.read", 60),
            ("sbatch -p main -A small --mytoken=wide", "wide", both, 120),
            ("MYTOKEN_PROFILE=mine sbatch -p main", "mine", "storage.read", 60),
        ] {
            let (job, told) = Job::submit(site, "alice", &format!("{submission} show.sh {profile}"))?;
            assert_eq!(told.stderr, "", "{submission}");
            job.wait_for_end(site, Duration::from_secs(60))?;
            let output = job.output(site)?;
            // The steps say nothing of the job's own profile.
            assert!(!output.contains("mytoken:"), "{submission}: {output}");
            let [shown, status, ..] = output.lines().collect::<Vec<_>>()[..] else { panic!("{submission}: {output}") };
            let mut shown: Vec<&str> = shown.split(' ').filter(|scope| both.contains(scope)).collect();
            shown.sort_unstable();
            assert_eq!(shown.join(" "), scopes, "{submission}: {output}");
            let left: u64 = status.strip_prefix(&format!("{profile} ")).and_then(|left| left.parse().ok()).unwrap_or(0);
            assert!((minutes - 5..=minutes).contains(&left), "{submission}: {output}");
        }
        // The window of the user's own profile, clipped to the site's longest life, has not begun.
        let (job, told) = Job::submit(site, "alice", "MYTOKEN_PROFILE=later sbatch --wrap 'ls $BEARER_TOKEN_FILE'")?;
        assert!(!told.stderr.contains("no credential"), "{told:?}");
        job.wait_for_end(site, Duration::from_secs(60))?;
        let output = job.output(site)?;
        assert!(output.contains("no access token yet: ") && output.contains("No such file"), "{output}");
        // Slurm's default partition is not seen, and the site has not named it.
        Journal::clear(site)?;
        for (submission, told) in [
            ("sbatch --hold --wrap true", ""),
            ("sbatch --hold -p main --mytoken=off --wrap true", ""),
            ("MYTOKEN_PROFILE=off sbatch --hold -p main --wrap true", ""),
            (
                "MYTOKEN_PROFILE='a b' sbatch --hold -p main --wrap true",
                "the variable MYTOKEN_PROFILE=\"a b\" is not valid",
            ),
            ("MYTOKEN_PROFILE=nope sbatch --hold --wrap true", "there is no profile \"nope\""),
        ] {
            let outcome = site.sh("alice", submission)?.ok()?;
            assert!(outcome.stderr.contains(told) && outcome.stderr.is_empty() == told.is_empty(), "{outcome:?}");
        }
        let refused = site.sh("alice", "MYTOKEN_PROFILE=required:nope sbatch --hold --wrap true")?;
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
        assert_eq!(Journal::read(site)?.sub_tokens(), 0);
        let listed =
            site.sh("alice", "mytokenctl profile list; mytokenctl profile show --partition=main --account=small")?;
        assert!(listed.stdout.contains("  account small   mine  ~/.config/mytoken/jobs.toml\n"), "{listed:?}");
        assert!(listed.stdout.contains("  partition main  wide  jobs.toml\n"), "{listed:?}");
        assert!(listed.stdout.contains("\nprofile      mine\n"), "{listed:?}");
        Ok(())
    })
}

/// More than the mytoken server's limit of 100 requests in 300 s.
const LOOP: usize = 120;

#[test]
fn a_loop_of_submissions_costs_few_requests() -> Result<()> {
    with_alice(|site| {
        site.script("root", "mkdir -p /etc/mytoken/jobs.d && cat >/etc/mytoken/jobs.d/share.toml")
            .stdin("[submit]\nshare_for = \"60s\"\n")
            .run()?
            .ok()?;
        let submissions =
            format!("for i in $(seq {LOOP}); do sbatch --hold --mytoken --output=/dev/null job.sh || exit 1; done");
        let outcome = site.script("alice", &submissions).timeout(Duration::from_secs(240)).run()?.ok()?;
        assert_eq!((outcome.stdout.lines().count(), outcome.stderr.as_str()), (LOOP, ""));
        let journal = Journal::read(site)?;
        let statuses: Vec<u16> = journal.requests().iter().filter_map(|request| request.status).collect();
        assert!(statuses.len() <= 10 && !statuses.contains(&429), "{statuses:?}");
        // Every job carries a credential, most of them the same.
        let carried = "for f in /var/spool/slurmctld/hash.*/job.*/environment; do tr '\\0' '\\n' <$f | grep -a ^SLURM_MYTOKEN=; done";
        let carried = site.sh("root", carried)?.ok()?.stdout;
        assert_eq!(carried.lines().count(), LOOP);
        assert_eq!(carried.lines().collect::<std::collections::BTreeSet<_>>().len(), journal.sub_tokens());
        Ok(())
    })
}

/// The states of the submissions that the agent of this host follows.
const FOLLOWED: &str = "cat /run/mytoken/state/submission-*.json";

#[test]
fn a_submission_is_followed_by_slurmctlds_clock_until_sbatch_has_ended() -> Result<()> {
    with_alice(|site| {
        let restart = |edit: &str| {
            site.sh("root", &format!("sed -i '{edit}' /etc/slurm/slurm.conf"))?.ok()?;
            site.stop("slurmctld", "TERM")?;
            site.restart("slurmctld")?;
            site.wait_for("slurmctld", Duration::from_secs(30), "root", "scontrol ping | grep -w UP")
        };
        clock::start_again(site, "slurmctld", 400, Daemon::new("slurmctld", ["slurmctld", "-D", "-i"]))?;
        clock::start_again(site, "login", 0, Daemon::new("agent", ["/usr/sbin/mytokend", "agent"]))?;
        site.wait_for("the agent", Duration::from_secs(30), "root", "mytokenctl status 2>&1 | grep 'has no job'")?;
        restart("1i MaxJobCount=2")?;
        // There is room for one job, since 26.05 for two.
        site.sh("alice", "for job in 1 2 3; do sbatch --hold --mytoken job.sh; done >jobs 2>&1 &")?.ok()?;
        site.wait_for("the second try", Duration::from_secs(30), "alice", "grep 'sleeping and retrying' jobs")?;
        // For the agent of the login host time passes faster. A reload makes it look.
        let mut passed = 0;
        let mut pass = || {
            passed += 300;
            clock::pass(site, "login", passed)?;
            site.sh("root", "kill -HUP $(pgrep -of 'mytokend agent$')")?.ok().map(drop)
        };
        pass()?;
        wait::until("what slurmctld said", Duration::from_secs(60), || {
            let states = site.sh("root", FOLLOWED)?.stdout;
            assert_eq!(Journal::read(site)?.granted("revocation"), 0, "its job may come, or waits");
            let all_asked = states.contains("\"tries\":") && !states.contains("\"tries\":0");
            Ok((all_asked && states.contains("\"progress\":\"waiting\"")).then_some(()))
        })?;
        restart("/^MaxJobCount/d")?;
        site.wait_for("the jobs", Duration::from_secs(60), "alice", "test $(grep -c Submitted jobs) = 3")?;
        site.sh("alice", "scancel --user alice")?.ok()?;
        wait::until("all revocations", Duration::from_secs(60), || {
            pass()?;
            Ok((Journal::read(site)?.granted("revocation") == 3).then_some(()))
        })
    })
}

/// Unix milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1000 + u64::from(since.subsec_millis())
}

/// What the task `tag` saw so far, with the times.
fn readings(site: &Site, tag: &str) -> Result<Vec<(u64, Seen)>> {
    let own = records::read(site)?.into_iter().find(|record| record.tag == tag);
    Ok(own.map(|record| record.readings()).unwrap_or_default())
}

#[test]
fn a_job_has_a_token_in_both_windows_of_its_mytoken_and_knows_why_not_in_between() -> Result<()> {
    /// Lifetime of access tokens in seconds.
    const LIFETIME: u64 = 3;
    with_alice(|site| {
        people::control(site, "/provider/lifetime", Some(&json!({"seconds": LIFETIME}).to_string()))?;
        site.sh("alice", &format!("mkdir {RECORDS}"))?.ok()?;
        let begin = now() / 1000;
        let (end, again) = (begin + 14, begin + 24);
        let (scope, audience) = ("openid profile storage.read", [AUDIENCE]);
        let clauses = json!([
            {"exp": end, "scope": scope, "audience": audience},
            {"nbf": again, "exp": begin + 300, "scope": scope, "audience": audience},
        ]);
        let mytoken = tokens::mytoken(site, "alice", &json!({"restrictions": clauses}))?;
        site.script("alice", "umask 077 && cat >mytoken").stdin(mytoken.as_str()).run()?.ok()?;
        let submit = |tag: &str, options: &str| {
            let task = format!("testbed soak-task {tag} 120");
            let command =
                format!("MYTOKEN_FILE=~/mytoken sbatch --mytoken -w n1 -n1 {options} --wrap '/usr/local/bin/{task}'");
            Job::submit(site, "alice", &command).map(|(job, _)| job)
        };
        let (first, second) = (submit("first", "")?, submit("second", "--hold")?);
        site.wait_for(
            "the end of the first window",
            Duration::from_secs(30),
            "root",
            &format!("test $(date +%s) -gt {end}"),
        )?;
        site.sh("alice", &format!("scontrol release {}", second.id))?.ok()?;
        let begun =
            wait::until("the second job", Duration::from_secs(60), || Ok(readings(site, "second")?.first().copied()))?;
        let why = "the credential gives access tokens again from 2";
        // The first job's last token is still valid. The second one has had none.
        let told_in_time = wait::until("the reason in the status", Duration::from_secs(60), || {
            let status = site.script("alice", &format!("mytokenctl status {}", second.id)).on("n1").run()?;
            let too_late = now() / 1000 >= again;
            Ok((too_late || status.stdout.contains(why)).then_some(!too_late))
        })?;
        assert!(told_in_time || begun.0 + 4_000 > again * 1000, "the status does not say why there is no token");
        for tag in ["first", "second"] {
            let in_second = |(time, seen): &(u64, Seen)| *time > again * 1000 && *seen == Seen::Valid;
            wait::until("a token in the second window", Duration::from_secs(60), || {
                Ok(readings(site, tag)?.iter().any(in_second).then_some(()))
            })?;
            let seen = readings(site, tag)?;
            let late = seen.iter().find(|reading| in_second(reading)).map(|(time, _)| time - again * 1000);
            assert!(late.is_some_and(|late| late < 12_000), "{tag}: {late:?} ms after the begin of the window");
            let in_first = seen.iter().any(|(time, seen)| *time < end * 1000 && *seen == Seen::Valid);
            assert_eq!(in_first, tag == "first", "{tag}: {seen:?}");
            // `exp` is inclusive (MT-08): the last request may be granted at the end of that second, and its token minted in the next one.
            let between = (end + 1 + LIFETIME) * 1000..again * 1000;
            let wrong = |(time, seen): &&(u64, Seen)| between.contains(time) && *seen != Seen::Missing;
            assert_eq!(seen.iter().find(wrong), None, "{tag}");
            assert!(seen.iter().all(|(_, seen)| *seen != Seen::Expired), "{tag}: {seen:?}");
        }
        if told_in_time {
            let output = second.output(site)?;
            assert!(output.contains(&format!("mytoken: no access token yet: {why}")), "{output}");
        } else {
            println!("not checked: what is said between the windows, because the second job began too late");
        }
        assert!(!first.output(site)?.contains("mytoken:"), "{:?}", first.output(site));
        Ok(())
    })
}
