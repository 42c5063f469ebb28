// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every hook of the Slurm plugin under every fault. The job of a row runs through all hooks, so that each of them meets the fault: a job
//! without credential, one with, and one that requires it. No node is drained, no submission takes longer than its budget.
//!
//! `make test` plays each fault from before the submission on, and two of them at the start. `make matrix` plays every fault at
//! every moment: with `TESTBED_MATRIX=long`.

mod demanded;
mod rows;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rows::{Fault, HELPERS, Host, Moment, NODE, Required, Row, SUBMISSION};
use testbed::drive::people;
use testbed::site::command::CommandOutcome;
use testbed::site::daemon::Daemon;
use testbed::site::paths;
use testbed::site::services::agent;
use testbed::soak::clock;
use testbed::{Error, Options, Result, Site, story_with_own_servers, wait};

/// A submission takes at most so much longer than the one without credential at the same time: `submit_seconds` of the rows, and what a busy
/// machine makes of that.
const SUBMISSION_LIMIT: Duration = Duration::from_secs(3 + 3);

/// The time of a submission without credential.
const PLAIN_LIMIT: Duration = Duration::from_secs(10);

/// A row's jobs have ended within this time.
const ROW_LIMIT: Duration = Duration::from_secs(60);

/// A FUSE file system without a program that answers. Whoever looks into it waits until this ends.
const HANGING: &str = "exec 5<>/dev/fuse && mount -i -t fuse -o \
    fd=5,rootmode=40000,user_id=0,group_id=0,allow_other hanging /home/alice/.config && exec sleep 600";

/// Makes mytoken-submit wait less than the plugin does.
const DEADLINE: &str = "/etc/mytoken/jobs.d/deadline.toml";

/// The clock of the submit host's agent, and of this mytoken-submit.
const SUBMIT_CLOCK: &str = "login";
const WITH_SUBMIT_CLOCK: &str = "/usr/local/bin/with-submit-clock";

const PANICKING: &str = "/usr/local/lib/panicking/spank_mytoken.so";

/// Submits three jobs at once. `$1` is the option, `$2` more options. A job waits for the second step while there is a file `row.wait`.
const SUBMIT: &str = r#"
rm -f row.*.*
submit() {
  name=$1; shift
  t=$(date +%s%N)
  sbatch --parsable --overcommit -o row.$name.out "$@" --wrap "echo RAN; echo >row.$name.runs; \
    while [ -e row.wait ]; do sleep 0.1; done; srun -n1 --overlap echo STEP" >row.$name.id 2>row.$name.err
  echo "$? $((($(date +%s%N) - t) / 1000000))" >row.$name.end
}
submit plain $2 & submit wants $1 $2 & [ -z "$1" ] || submit requires $1=required $2 &
wait
"#;

/// Waits for the end of the jobs and prints a report.
const REPORT: &str = r#"
while squeue -h -u alice | grep -q .; do sleep 0.1; done
for name in plain wants requires; do
  [ -e row.$name.end ] || continue
  sed "s/^/$name end /" row.$name.end; sed "s/^/$name err /" row.$name.err
  id=$(cat row.$name.id); [ -n "$id" ] || continue
  scontrol -o show job $id | grep -o 'JobState=[A-Z]*' | sed "s/^/$name /"
  sed "s/^/$name out /" row.$name.out
done
"#;

#[test]
fn faults_on_the_node_fail_only_the_job_that_requires_its_credential() -> Result<()> {
    play(NODE)
}

#[test]
fn faults_at_the_submission_and_panics_fail_only_the_job_that_requires_its_credential() -> Result<()> {
    play(SUBMISSION)
}

/// The long form has every moment. The short one has the first, and the others for what a submission would see else: the outage, and the
/// panic that loses what a step knows.
fn moments(row: &Row, long: bool) -> Vec<Moment> {
    match row.fault {
        _ if long => Moment::ALL.to_vec(),
        Fault::Panic("init_post_opt") => Moment::ALL.to_vec(),
        Fault::Server("/outage", _) => vec![Moment::Submission, Moment::Start],
        _ => vec![Moment::Submission],
    }
}

fn play(rows: &[Row]) -> Result<()> {
    let long = std::env::var("TESTBED_MATRIX").is_ok_and(|form| form == "long");
    let options = Options { nodes: 1, request_limit: "10000/300s", ..Options::new()? };
    story_with_own_servers(options, |site| {
        people::first_mytoken(site, "alice")?;
        for (path, script) in HELPERS {
            site.write(path, &format!("#!/bin/sh\n{script}\n"), "0755")?;
        }
        if rows.iter().any(|row| matches!(row.fault, Fault::Clock(Host::Node, _))) {
            clock::install(site, &["n1"])?;
        }
        if rows.iter().any(|row| matches!(row.fault, Fault::Clock(Host::Submit, _))) {
            clock::start_again(site, SUBMIT_CLOCK, 0, Daemon::new("agent", [agent::PROGRAM, "agent"]))?;
            let program = "exec /usr/libexec/mytoken/mytoken-submit \"$@\"";
            let script = format!("#!/bin/sh\n{} {program}\n", clock::variables(SUBMIT_CLOCK));
            site.write(WITH_SUBMIT_CLOCK, &script, "0755")?;
        }
        let mut problems = String::new();
        // A site in a user namespace has the devices of its host only.
        let has_fuse = site.sh("root", "test -e /dev/fuse || mknod /dev/fuse c 10 229")?.success();
        for (row, moment) in rows.iter().flat_map(|row| moments(row, long).into_iter().map(move |moment| (row, moment)))
        {
            if matches!(row.fault, Fault::HangingHome) && !has_fuse {
                println!("not played: {}, because this site cannot have /dev/fuse", row.name);
                continue;
            }
            let begin = Instant::now();
            let report = play_row(site, row, moment)?;
            let wrong = judge(&report, moment.required(row));
            if !wrong.is_empty() {
                let _ = writeln!(problems, "{}, {moment:?}: {}", row.name, wrong.join("; "));
                eprintln!("{}, {moment:?}: {}\n{report}", row.name, wrong.join("; "));
            }
            eprintln!("{:>6.1} s  {}, {moment:?}", begin.elapsed().as_secs_f64(), row.name);
        }
        assert!(problems.is_empty(), "{problems}");
        let log = site.sh("root", "grep -i 'drain\\|panicked\\|injected-panic' /var/log/slurm/*.log")?;
        assert_eq!(log.stdout, "", "a node was drained, or a panic was printed");
        Ok(())
    })
}

/// Plays a row, and ends its fault.
fn play_row(site: &Site, row: &Row, moment: Moment) -> Result<String> {
    // After a panic in init the option is not registered.
    let no_option = matches!(row.fault, Fault::Panic("init")) && moment == Moment::Submission;
    let option = if no_option { "" } else { "--mytoken" };
    use_plugin(site, "spank_mytoken.so", "")?;
    if moment == Moment::Submission {
        begin(site, &row.fault)?;
    }
    let hold = if moment == Moment::Start { "--hold" } else { "" };
    let wait = if moment == Moment::Run { "touch" } else { "rm -f" };
    site.sh("alice", &format!("{wait} row.wait; set -- '{option}' '{hold}'; {SUBMIT}"))?;
    if moment == Moment::Start {
        begin(site, &row.fault)?;
        site.sh("alice", "scontrol release $(cat row.*.id)")?.ok()?;
    }
    if moment == Moment::Run {
        let all_run = "test $(ls row.*.runs | wc -l) = 3";
        site.wait_for("three jobs that run", ROW_LIMIT, "alice", all_run)?;
        begin(site, &row.fault)?;
        site.sh("alice", "rm row.wait")?.ok()?;
    }
    let started = Instant::now();
    let report =
        site.sh("alice", &format!("timeout {} bash -c '{}'", ROW_LIMIT.as_secs(), REPORT.replace('\'', "'\\''")))?;
    if !report.success() {
        return Err(Error::Refused(format!("{}, {moment:?}: after {:?} {report:?}", row.name, started.elapsed())));
    }
    // The epilogs meet the fault too.
    let idle = "test \"$(sinfo -h -N -o %T | tee /dev/stderr)\" = idle && test -z \"$(sinfo -h -R)\"";
    let is_idle = site.wait_for("an idle node", Duration::from_secs(30), "root", idle);
    end(site, &row.fault)?;
    is_idle.map(|_| report.stdout)
}

/// Slurm's programs that start from now on load this plugin.
fn use_plugin(site: &Site, plugin: &str, arguments: &str) -> Result<()> {
    let line = format!("optional {plugin} submit_seconds=3 agent_seconds=1 {arguments}\n");
    site.sh("root", "rm -f /etc/slurm/plugstack.conf.d/mytoken.conf")?.ok()?;
    site.write("/etc/slurm/plugstack.conf.d/mytoken.conf", &line, "0644")
}

fn panicking(site: &Site) -> Result<&'static str> {
    if !site.exists(PANICKING)? {
        let file = paths::target().join("tmp/panic-injection/debug/libspank_mytoken.so");
        let library = std::fs::read(&file)
            .map_err(|error| Error::Refused(format!("{}: {error}; run `make tools`", file.display())))?;
        let install = format!("mkdir -p $(dirname {PANICKING}) && cat >{PANICKING}");
        site.script("root", &install).stdin(library).run()?.ok()?;
    }
    Ok(PANICKING)
}

/// Runs a command of root where the agent is.
fn on_host(site: &Site, host: Host, command: &str) -> Result<CommandOutcome> {
    match host {
        Host::Node => site.on_node("n1", command),
        Host::Submit => site.sh("root", command),
    }
}

fn agent_of(host: Host) -> String {
    match host {
        Host::Node => agent::name("n1"),
        Host::Submit => "agent".to_owned(),
    }
}

fn signal(site: &Site, host: Host, signal: &str) -> Result<()> {
    // Without the brackets, pgrep finds the shell too.
    let arguments = match host {
        Host::Node => "agent [-]-node n1",
        Host::Submit => "mytokend agen[t]$",
    };
    on_host(site, host, &format!("kill -{signal} $(pgrep -f '{arguments}')"))?.ok().map(drop)
}

fn begin(site: &Site, fault: &Fault) -> Result<()> {
    match fault {
        Fault::Arguments(arguments) => use_plugin(site, "spank_mytoken.so", arguments),
        Fault::Panic(hook) => use_plugin(site, panicking(site)?, &format!("panic={hook}")),
        Fault::Server(path, body) => people::control(site, path, Some(body)).map(drop),
        Fault::StoppedAgent(host) => signal(site, *host, "STOP"),
        Fault::OtherAgent(host, program) => {
            site.stop(&agent_of(*host), "TERM")?;
            if program.is_empty() {
                return Ok(());
            }
            let listens = "use Socket; $SIG{CHLD} = $SIG{PIPE} = 'IGNORE'; my $p = '/run/mytoken/agent.sock'; unlink $p; \
                           socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un($p)) or die; chmod 0666, $p; listen($s, 9);";
            let other = Daemon::new("other", ["perl", "-e", &format!("{listens} {program}")]);
            site.start_daemon(if *host == Host::Node { other.on("n1") } else { other })?;
            wait::until("the other agent", ROW_LIMIT, || {
                Ok(on_host(site, *host, "test -S /run/mytoken/agent.sock")?.success().then_some(()))
            })
        }
        Fault::Clock(Host::Node, seconds) => clock::set(site, "n1", *seconds),
        Fault::Clock(Host::Submit, seconds) => {
            use_plugin(site, "spank_mytoken.so", &format!("submit={WITH_SUBMIT_CLOCK}"))?;
            clock::set(site, SUBMIT_CLOCK, *seconds)?;
            // The file with the difference must be readable for the user, too.
            let difference = format!("echo $(($({} date +%s) - $(date +%s)))", clock::variables(SUBMIT_CLOCK));
            let seen: i64 = site.sh("alice", &difference)?.ok()?.stdout.trim().parse().unwrap_or_default();
            assert!((seen - seconds).abs() <= 1, "the clock of mytoken-submit differs by {seen} s");
            Ok(())
        }
        Fault::Node(begin, _) => site.on_node("n1", begin)?.ok().map(drop),
        Fault::SubmitHost(begin, _) => site.sh("root", begin)?.ok().map(drop),
        Fault::HangingHome => {
            site.sh("root", "mkdir -p /etc/mytoken/jobs.d")?.ok()?;
            site.write(DEADLINE, "[submit]\ndeadline = \"2s\"\n", "0644")?;
            site.start_daemon(Daemon::new("hanging", ["sh", "-c", HANGING]))?;
            let is_there = "grep -q '^hanging /home/alice/.config fuse ' /proc/mounts";
            site.wait_for("the file system that hangs", ROW_LIMIT, "root", is_there).map(drop)
        }
    }
}

fn end(site: &Site, fault: &Fault) -> Result<()> {
    match fault {
        Fault::Arguments(_) | Fault::Panic(_) => Ok(()),
        Fault::Server(..) => {
            people::control(site, "/clear", Some("{}"))?;
            // Requests that hang keep the user's share of the agent's requests.
            let none = "test -z \"$(ss -Htn state established '( dport = :8443 )')\"";
            wait::until("the end of the agent's requests", ROW_LIMIT, || {
                Ok(site.on_node("n1", none)?.success().then_some(()))
            })
        }
        Fault::StoppedAgent(host) => signal(site, *host, "CONT"),
        Fault::OtherAgent(host, program) => {
            if !program.is_empty() {
                site.stop("other", "KILL")?;
            }
            site.restart(&agent_of(*host))?;
            wait::until("the agent", ROW_LIMIT, || {
                // Without --json its exit status is 1 when there is no credential.
                Ok(on_host(site, *host, "mytokenctl status --json >/dev/null")?.success().then_some(()))
            })
        }
        Fault::Clock(Host::Node, _) => clock::set(site, "n1", 0),
        Fault::Clock(Host::Submit, _) => clock::set(site, SUBMIT_CLOCK, 0),
        Fault::Node(_, end) => site.on_node("n1", end)?.ok().map(drop),
        Fault::SubmitHost(_, end) => site.sh("root", end)?.ok().map(drop),
        Fault::HangingHome => {
            site.stop("hanging", "KILL")?;
            site.sh("root", &format!("umount -l /home/alice/.config && rm {DEADLINE}"))?.ok().map(drop)
        }
    }
}

/// What is wrong in the report of a row.
fn judge(report: &str, required: Required) -> Vec<String> {
    let mut problems = Vec::new();
    let of = |job: &str, what: &str| -> Vec<&str> {
        let prefix = format!("{job} {what}");
        report.lines().filter_map(|line| line.strip_prefix(&prefix)).collect()
    };
    let mut wanted = |holds: bool, text: &str| {
        if !holds {
            problems.push(text.to_owned());
        }
    };
    let ran = |job: &str| {
        let lines = of(job, "out ");
        of(job, "JobState=") == ["COMPLETED"] && lines.contains(&"RAN") && lines.contains(&"STEP")
    };
    wanted(ran("plain") && of("plain", "out ").len() == 2, "the job without credential does not run as always");
    wanted(of("plain", "err ").is_empty(), "sbatch without the option prints something");
    wanted(ran("wants"), "the job that wants a credential does not run");
    wanted(of("wants", "err ").len() <= 1, "more than one line at the submission");
    let errors = of("requires", "err ").join("\n");
    match required {
        Required::Runs => wanted(ran("requires"), "the job that requires its credential does not run"),
        Required::NotTried => wanted(of("requires", "end ").is_empty(), "a job without the option was submitted"),
        Required::Refused(text) => {
            wanted(of("requires", "JobState=").is_empty(), "it was submitted");
            wanted(of("requires", "end ").iter().all(|end| !end.starts_with("0 ")), "sbatch exits with 0");
            wanted(errors.contains(text) && errors.contains("mytoken: "), "the refusal does not say why");
        }
        Required::Fails(text) => {
            let output = of("requires", "out ").join("\n");
            wanted(of("requires", "JobState=") == ["FAILED"], "it does not fail");
            wanted(!output.contains("RAN"), "its program ran");
            let told =
                output.contains("requires an access token and does not start without it") && output.contains(text);
            wanted(told, "its output does not say why");
        }
        Required::StepFails(text) => {
            let output = of("requires", "out ").join("\n");
            wanted(of("requires", "JobState=") == ["FAILED"], "it does not fail");
            wanted(output.contains("RAN") && !output.contains("STEP"), "its second step ran");
            wanted(output.contains(text), "its output does not say why");
        }
    }
    let time = |job: &str| -> Option<Duration> {
        let end = of(job, "end ").first()?.split_once(' ')?.1.parse().ok()?;
        Some(Duration::from_millis(end))
    };
    let plain = time("plain").unwrap_or(Duration::MAX);
    wanted(plain < PLAIN_LIMIT, "the submission without credential took long");
    // After a panic in init nothing is required.
    let is_in_time = |job: &str| time(job).is_none_or(|took| took < plain.saturating_add(SUBMISSION_LIMIT));
    wanted(
        time("wants").is_some() && is_in_time("wants") && is_in_time("requires"),
        "a submission took longer than its budget",
    );
    problems
}

#[test]
fn each_kind_of_harm_is_seen_in_a_report() {
    let good = "plain end 0 300\nplain JobState=COMPLETED\nplain out RAN\nplain out STEP\n\
                wants end 0 300\nwants JobState=COMPLETED\nwants out RAN\nwants out STEP\n";
    let refused = "requires end 1 300\nrequires err sbatch: error: mytoken: no credential: gone\n";
    let failed = "requires end 0 300\nrequires JobState=FAILED\nrequires out slurmstepd: error: mytoken: this job requires an access token \
                  and does not start without it: gone\n";
    let runs = "requires end 0 300\nrequires JobState=COMPLETED\nrequires out RAN\nrequires out STEP\n";
    let count = |report: String, required| judge(&report, required).len();
    assert_eq!(count(format!("{good}{refused}"), Required::Refused("gone")), 0);
    assert_eq!(count(format!("{good}{failed}"), Required::Fails("gone")), 0);
    assert_eq!(count(format!("{good}{runs}"), Required::Runs), 0);
    for (report, required) in [
        (format!("{good}{failed}"), Required::Refused("gone")),
        (format!("{good}{refused}"), Required::Fails("gone")),
        (format!("{good}{refused}"), Required::Refused("other reason")),
        (format!("{good}{failed}requires out RAN\n"), Required::Fails("gone")),
        (format!("{good}{failed}"), Required::Runs),
        (format!("{good}{failed}"), Required::StepFails("gone")),
        (format!("{good}{runs}"), Required::StepFails("")),
        (good.replace("plain JobState=COMPLETED", "plain JobState=FAILED"), Required::NotTried),
        (good.replace("wants JobState=COMPLETED", "wants JobState=CANCELLED"), Required::NotTried),
        (good.replace("wants out STEP\n", ""), Required::NotTried),
        (format!("{good}plain err mytoken: noise\n"), Required::NotTried),
        (format!("{good}plain out mytoken: noise\n"), Required::NotTried),
        (good.replace("wants end 0 300", "wants end 0 6300"), Required::NotTried),
        (good.replace("plain end 0 300", "plain end 0 10000"), Required::NotTried),
        (good.replace("wants end 0 300\n", ""), Required::NotTried),
        (format!("{good}{}", refused.replace("300", "6300")), Required::Refused("gone")),
    ] {
        assert_ne!(count(report.clone(), required), 0, "{required:?}\n{report}");
    }
}
