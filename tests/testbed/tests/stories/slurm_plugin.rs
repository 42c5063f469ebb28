// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Slurm plugin in real Slurm, without an agent or with one that hangs.
//! A shell script takes the place of `mytoken-submit`; other stories run the real program and the real agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testbed::site::command::CommandOutcome;
use testbed::site::daemon::Daemon;
use testbed::site::paths;
use testbed::{Error, Options, Result, Site, story};

const PLUGIN: &str = "/usr/local/lib/spank_mytoken.so";
const SUBMIT: &str = "/usr/local/bin/submit";
const SEALED: &str = "mt1.0123abcd.QUJDREVG";
const HANDLE: &str = "00112233445566778899aabbccddeeff";
/// The variables that carry a credential.
const CREDENTIAL_VARIABLES: &str = "SLURM_MYTOKEN SLURM_SPANK_MYTOKEN_H BEARER_TOKEN_FILE";

/// The plugin from `make build`.
fn product_plugin() -> PathBuf {
    paths::target().join(paths::product_profile()).join("libspank_mytoken.so")
}

/// The plugin with the cargo feature `panic-injection`, from `make tools`.
fn panicking_plugin() -> PathBuf {
    paths::target().join("tmp/panic-injection/debug/libspank_mytoken.so")
}

/// A story in a site of two nodes whose Slurm loads the plugin `file` with these arguments.
fn with_plugin(file: &Path, arguments: &str, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story(Options { product: false, nodes: 2, ..Options::new()? }, |site| {
        let library = std::fs::read(file)
            .map_err(|error| Error::Refused(format!("{}: {error}; run `make build tools`", file.display())))?;
        site.script("root", &format!("cat >{PLUGIN}")).stdin(library).run()?.ok()?;
        let answer = format!(r#"{{"v":1,"sealed":"{SEALED}","handle":"{HANDLE}"}}"#);
        site.write(SUBMIT, &format!("#!/bin/sh\necho '{answer}'\n"), "0755")?;
        configure(site, arguments)?;
        body(site)
    })
}

/// Writes plugstack.conf and restarts slurmd, which checks for an epilog only when it starts (SLURM-04).
fn configure(site: &Site, arguments: &str) -> Result<()> {
    site.write(
        "/etc/slurm/plugstack.conf",
        &format!("optional {PLUGIN} submit={SUBMIT} agent_seconds=1 {arguments}\n"),
        "0644",
    )?;
    for node in site.nodes() {
        site.stop(&format!("slurmd.{node}"), "TERM")?;
        site.restart(&format!("slurmd.{node}"))?;
    }
    wait_for_idle_nodes(site)
}

/// Waits until no job is left and every node is idle, neither drained nor down.
fn wait_for_idle_nodes(site: &Site) -> Result<()> {
    let script = "squeue -h | tee /dev/stderr | grep -q . && exit 1; sinfo -h -N -o '%N %T %E' | tee /dev/stderr | grep -vw idle && exit 1; true";
    site.wait_for("idle nodes", Duration::from_secs(30), "root", script).map(drop)
}

/// Submits a job that runs `script` and waits for its end. Standard output has the job's output, then its state.
fn run_job(site: &Site, options: &str, script: &str) -> Result<CommandOutcome> {
    let submission = format!(
        "cat >job.sh; rm -f job.out; id=$(sbatch --parsable -o job.out {options} job.sh) || exit 9
         while squeue -h -j $id 2>/dev/null | grep -q .; do sleep 0.1; done
         cat job.out; scontrol -o show job $id | grep -o 'JobState=[A-Z]*\\|ExitCode=[0-9:]*'"
    );
    site.script("alice", &submission).stdin(format!("#!/bin/sh\n{script}\n")).run()
}

/// A script that prints the values of these variables. Each line begins with `place`.
fn print_variables(place: &str) -> String {
    format!("printenv {CREDENTIAL_VARIABLES} | sed \"s/^/{place} /\"\n")
}

/// The lines of a job's output that begin with `place`, without it.
fn lines_of<'a>(outcome: &'a CommandOutcome, place: &str) -> Vec<&'a str> {
    outcome.lines().iter().filter_map(|line| line.strip_prefix(place)?.strip_prefix(' ')).collect()
}

fn names_token_file(outcome: &CommandOutcome) -> bool {
    outcome.stdout.contains("/run/mytoken/jobs/") && outcome.stdout.contains("/bt_u2001")
}

#[test]
fn the_plugin_is_loaded_silently_by_every_command_and_daemon() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        for command in ["sbatch", "srun", "salloc"] {
            let help = site.run("alice", [command, "--help"])?.ok()?;
            assert!(help.stdout.contains("--mytoken=[PROFILE|off|required[:PROFILE]]"), "{help:?}");
            assert_eq!(help.stderr, "", "{command}");
        }
        run_job(site, "-N2", "srun true")?.ok()?;
        let log = site.sh("root", "cat /var/log/slurm/*.log")?.ok()?.stdout;
        let messages: Vec<_> =
            log.lines().filter(|line| line.contains("mytoken") || line.contains("ncompatible")).collect();
        assert!(messages.is_empty(), "{messages:?}");
        let mapped = site.sh("root", &format!("grep -l {PLUGIN} /proc/[0-9]*/maps | wc -l"))?.ok()?;
        assert_eq!(mapped.stdout.trim(), "2", "expected the two slurmd to map the plugin");
        Ok(())
    })
}

#[test]
fn the_plugin_does_not_change_the_environment_of_a_job_without_the_option() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        let script = "env | sort; srun -N2 -l env | sort";
        let names = |outcome: &CommandOutcome| -> Vec<String> {
            outcome.lines().iter().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect()
        };
        let with = run_job(site, "-N2", script)?.ok()?;
        site.write("/etc/slurm/plugstack.conf", "", "0644")?;
        let without = run_job(site, "-N2", script)?.ok()?;
        assert!(with.stdout.contains("JobState=COMPLETED") && without.stdout.contains("JobState=COMPLETED"));
        assert_eq!(names(&with), names(&without));
        assert!(!with.stdout.to_lowercase().contains("mytoken"), "{}", with.stdout);
        Ok(())
    })
}

#[test]
fn every_export_option_carries_the_credential_to_every_node() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        let script = format!("{}srun /bin/sh -c '{}'", print_variables("batch"), print_variables("step").trim_end());
        for export in ["", "--export=NONE", "--export=NIL", "--export=FOO=bar"] {
            let outcome = run_job(site, &format!("--mytoken -N2 {export}"), &script)?.ok()?;
            assert!(outcome.stdout.contains("JobState=COMPLETED"), "{export}: {outcome:?}");
            for (place, times) in [("batch", 1), ("step", 2)] {
                let values = lines_of(&outcome, place);
                let count = |wanted: &str| values.iter().filter(|value| value.starts_with(wanted)).count();
                assert_eq!(count(HANDLE), times, "{export} {place}: {outcome:?}");
                assert_eq!(count(SEALED), times, "{export} {place}: {outcome:?}");
                assert_eq!(count("/run/mytoken/jobs/"), times, "{export} {place}: {outcome:?}");
            }
        }
        wait_for_idle_nodes(site)
    })
}

#[test]
fn notes_are_for_those_who_do_not_ask_for_quiet() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        let answer = format!(r#"{{"v":1,"sealed":"{SEALED}","handle":"{HANDLE}","notes":["it ends soon"]}}"#);
        site.write(SUBMIT, &format!("#!/bin/sh\necho '{answer}'\n"), "0755")?;
        for command in
            ["sbatch OPTION --mytoken --wrap true", "srun OPTION --mytoken true", "salloc OPTION --mytoken true"]
        {
            for (option, notes) in [("", 1), ("-Q", 0), ("--quiet", 0)] {
                let outcome = site.sh("alice", &command.replace("OPTION", option))?.ok()?;
                assert_eq!(outcome.stderr.matches("mytoken: it ends soon").count(), notes, "{option}: {outcome:?}");
            }
        }
        wait_for_idle_nodes(site)
    })
}

#[test]
fn srun_and_salloc_carry_the_credential() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        let script = format!("printenv {CREDENTIAL_VARIABLES}");
        for argv in [
            vec!["srun", "--mytoken", "-N2", "sh", "-c", &script],
            vec!["salloc", "--mytoken", "-N2", "srun", "sh", "-c", &script],
        ] {
            let outcome = site.command("alice", argv).run()?.ok()?;
            for wanted in [SEALED, HANDLE] {
                assert_eq!(outcome.lines().iter().filter(|line| **line == wanted).count(), 2, "{outcome:?}");
            }
            assert!(names_token_file(&outcome), "{outcome:?}");
        }
        wait_for_idle_nodes(site)
    })
}

#[test]
fn a_job_submitted_by_a_job_inherits_nothing() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        site.write("/home/alice/inner.sh", "#!/bin/sh\nenv | grep -i token\necho DONE\n", "0755")?;
        let inner = "rm -f inner.out; sbatch -o inner.out inner.sh
                     for i in $(seq 100); do grep -q DONE inner.out && break; sleep 0.1; done; sed 's/^/inner /' inner.out";
        let outcome = run_job(site, "--mytoken=data -n1", &format!("{}{inner}", print_variables("outer")))?.ok()?;
        assert_eq!(lines_of(&outcome, "outer").len(), 3, "{outcome:?}");
        assert_eq!(lines_of(&outcome, "inner"), ["DONE"], "{outcome:?}");
        assert!(outcome.stdout.contains("JobState=COMPLETED"), "{outcome:?}");
        wait_for_idle_nodes(site)
    })
}

#[test]
fn the_defaults_are_told_the_partition_and_account_that_a_submission_names() -> Result<()> {
    with_plugin(&product_plugin(), "default=jobs.toml", |site| {
        let told = "/var/tmp/told";
        site.write(SUBMIT, &format!("#!/bin/sh\necho \"$@\" >>{told}\necho '{{\"v\":1,\"off\":true}}'\n"), "0755")?;
        let partitions = "for name in gpu cpu; do scontrol create partitionname=$name nodes=ALL; done";
        site.sh("root", &format!("{partitions}; install -m 666 /dev/null {told}"))?.ok()?;
        let scripts = "for line in 'p gpu' 'A bio' '-partition=gpu,cpu'; do printf '#!/bin/sh\\n#SBATCH -%s\\ntrue\\n' \"$line\" >\"${line%[ =]*}.sh\"; done";
        site.sh("alice", scripts)?.ok()?;
        let mut wrong = Vec::new();
        for (command, wanted) in [
            ("sbatch --hold --wrap true", ""),
            ("sbatch --hold -p gpu --wrap true", "--partition=gpu"),
            ("sbatch --hold --part gpu --accou bio --wrap true", "--partition=gpu --account=bio"),
            ("sbatch --hold -pgpu,cpu --wrap true", "--partition=gpu,cpu"),
            ("sbatch --hold -A BIO --wrap true", "--account=BIO"),
            ("sbatch --hold p.sh", "--partition=gpu"),
            ("sbatch --hold A.sh", "--account=bio"),
            ("sbatch --hold ./-partition.sh", "--partition=gpu,cpu"),
            ("sbatch --hold -p cpu p.sh", "--partition=cpu"),
            ("SBATCH_PARTITION=cpu SBATCH_ACCOUNT=chem sbatch --hold p.sh", "--partition=cpu --account=chem"),
            ("SBATCH_PARTITION=cpu sbatch --hold -p gpu --wrap true", "--partition=gpu"),
            ("SLURM_PARTITION=cpu SALLOC_PARTITION=cpu sbatch --hold --wrap true", ""),
            ("sbatch --hold -p gpu : -p cpu p.sh", "--partition=gpu"),
            ("salloc -p gpu -A bio true", "--partition=gpu --account=bio"),
            ("SALLOC_PARTITION=gpu SALLOC_ACCOUNT=bio salloc true", "--partition=gpu --account=bio"),
            ("srun -p gpu true", "--partition=gpu"),
            ("SLURM_PARTITION=gpu SLURM_ACCOUNT=bio srun true", "--partition=gpu --account=bio"),
            ("srun sh -c 'echo -p cpu'", ""),
            ("srun -p gpu sbatch --hold --wrap true", "--partition=gpu/"),
        ] {
            site.sh("root", &format!("truncate -s0 {told}"))?.ok()?;
            let outcome = site.sh("alice", command)?.ok()?;
            let seen = site.sh("root", &format!("sed 's/ *--context=.*//' {told} | paste -sd/"))?.ok()?.stdout;
            if seen.trim() != wanted || outcome.stderr.contains("mytoken:") {
                wrong.push(format!("{command}: {} {}", seen.trim(), outcome.stderr));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    })
}

#[test]
fn required_without_credential_is_refused_with_one_line_and_nothing_is_submitted() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        site.write(
            SUBMIT,
            "#!/bin/sh\necho '{\"v\":1,\"error\":\"your session has none. Run: mytoken-ssh login\"}'; exit 1\n",
            "0755",
        )?;
        for (command, argv) in [
            ("sbatch", ["sbatch", "--mytoken=required", "--wrap", "true"].to_vec()),
            ("srun", ["srun", "--mytoken=required", "true"].to_vec()),
            ("salloc", ["salloc", "--mytoken=required", "true"].to_vec()),
        ] {
            let outcome = site.command("alice", argv).run()?;
            assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
            let wanted =
                format!("{command}: error: mytoken: no credential: your session has none. Run: mytoken-ssh login\n");
            assert_eq!(outcome.stderr, wanted);
        }
        // This job gets the first job id, so none was submitted before.
        let allowed = site.command("alice", ["sbatch", "--parsable", "--mytoken", "--wrap", "true"]).run()?.ok()?;
        assert_eq!(allowed.stdout.trim(), "1", "{allowed:?}");
        assert!(allowed.stderr.ends_with("Run: mytoken-ssh login (submitting without)\n"), "{allowed:?}");
        wait_for_idle_nodes(site)
    })
}

#[test]
fn without_an_agent_only_the_job_that_requires_its_token_fails() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        let sentence = "error: mytoken: this job requires an access token and does not start without it";
        let outcome = run_job(site, "--mytoken=required -N2", "echo RAN")?.ok()?;
        assert!(outcome.stdout.contains(sentence) && !outcome.stdout.contains("RAN"), "{outcome:?}");
        assert!(outcome.stdout.contains("JobState=FAILED") && outcome.stdout.contains("ExitCode=1:0"), "{outcome:?}");
        let outcome = site.run("alice", ["srun", "--mytoken=required", "-n4", "-N2", "echo", "RAN"])?;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
        assert_eq!(outcome.stderr.matches(sentence).count(), 2, "one line per node: {outcome:?}");
        wait_for_idle_nodes(site)?;
        assert_eq!(site.run("alice", ["srun", "-N2", "echo", "fine"])?.ok()?.stdout, "fine\nfine\n");
        Ok(())
    })
}

#[test]
fn a_missing_or_hanging_agent_does_not_affect_jobs() -> Result<()> {
    with_plugin(&product_plugin(), "", |site| {
        let script = format!("{}srun /bin/sh -c '{}'", print_variables("batch"), print_variables("step").trim_end());
        let down = run_job(site, "--mytoken -N2", &script)?.ok()?;
        assert!(down.stdout.contains("JobState=COMPLETED") && names_token_file(&down), "{down:?}");
        wait_for_idle_nodes(site)?;
        // This agent listens but never accepts a connection, and its queue is full.
        let hang = "use Socket; my $path = '/run/mytoken/agent.sock'; socket(my $s, PF_UNIX, SOCK_STREAM, 0); \
                    bind($s, sockaddr_un($path)) or die; chmod(0666, $path); listen($s, 0); \
                    socket(my $c, PF_UNIX, SOCK_STREAM, 0); connect($c, sockaddr_un($path)) or die; sleep 600";
        for node in site.nodes() {
            site.start_daemon(Daemon::new(&format!("hang.{node}"), ["perl", "-e", hang]).on(&node))?;
        }
        let hangs = run_job(site, "--mytoken -N2", &format!("date +%s\n{script}\ndate +%s"))?.ok()?;
        assert!(hangs.stdout.contains("JobState=COMPLETED") && names_token_file(&hangs), "{hangs:?}");
        let times: Vec<u64> = hangs.lines().iter().filter_map(|line| line.parse().ok()).collect();
        let took = times.last().zip(times.first()).map_or(u64::MAX, |(end, start)| end - start);
        assert!((1..=4).contains(&took), "the step should wait one second for the agent: {hangs:?}");
        wait_for_idle_nodes(site)
    })
}

#[test]
fn a_panic_in_any_hook_does_not_affect_jobs_and_nodes() -> Result<()> {
    with_plugin(&panicking_plugin(), "", |site| {
        for hook in ["init", "option", "init_post_opt", "task_init", "job_epilog"] {
            site.sh("root", "truncate -s0 /var/log/slurm/slurmd.*.log")?.ok()?;
            configure(site, &format!("panic={hook}"))?;
            // After a panic in init the option is not registered.
            let option = if hook == "init" { "" } else { "--mytoken" };
            for options in ["-N2".to_owned(), format!("-N2 {option}")] {
                let outcome = run_job(site, &options, "echo RAN; srun echo STEP")?.ok()?;
                let lines = outcome.lines();
                let count = |word: &str| lines.iter().filter(|line| **line == word).count();
                assert_eq!((count("RAN"), count("STEP")), (1, 2), "{hook} {options}: {outcome:?}");
                assert!(outcome.stdout.contains("JobState=COMPLETED"), "{hook} {options}: {outcome:?}");
                assert!(!outcome.stdout.contains("panic") && !outcome.stderr.contains("panic"), "{hook}: {outcome:?}");
            }
            let direct =
                site.command("alice", format!("srun -N2 {option} echo STEP").split_whitespace()).run()?.ok()?;
            assert_eq!(direct.stdout, "STEP\nSTEP\n", "{hook}: {direct:?}");
            wait_for_idle_nodes(site)?;
            let log = site.sh("root", "cat /var/log/slurm/slurmd.*.log")?.ok()?.stdout;
            assert!(log.contains(&format!("internal error in {hook};")), "the panic in {hook} did not happen:\n{log}");
            assert!(!log.contains("injected-panic-text") && !log.contains("panicked"), "{log}");
        }
        Ok(())
    })
}
