// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proofs of what `docs/facts/slurm.md` says of squeue's output.

use std::time::Duration;

use testbed::site::daemon::Daemon;
use testbed::soak::clock;
use testbed::{Release, Result, story};

use super::probe::without_product;

#[test]
fn squeue_and_ps_show_no_text_chosen_by_the_user() -> Result<()> {
    story(without_product()?, |site| {
        let columns = "squeue -h -o '%T|%N|%B'; ps -eo args | grep -o '^slurmstepd: .*'";
        site.sh("alice", "sbatch --job-name='x JobState=PENDING' --wrap 'sleep 60'")?.ok()?;
        site.wait_for("the job", Duration::from_secs(20), "root", "squeue -h -t R | grep .")?;
        let batch = site.sh("root", columns)?.ok()?.stdout;
        assert!(batch.contains("RUNNING|n1|n1\n") && batch.contains("slurmstepd: [1.batch]"), "{batch}");
        let job = site.sh("root", "scontrol -o show job 1")?.ok()?.stdout;
        assert!(job.contains("JobName=x JobState=PENDING"), "{job}");
        site.sh("root", "scancel 1")?.ok()?;
        // Without a batch script `%B` is the host on which the command ran.
        site.sh("alice", "srun sleep 60 >/dev/null 2>&1 &")?.ok()?;
        site.wait_for("the step", Duration::from_secs(20), "root", "squeue -h -t R -j 2 | grep .")?;
        let step = site.sh("root", "squeue -h -j 2 -o '%T|%N|%B'")?.ok()?.stdout;
        assert_eq!(step, "RUNNING|n1|testbed\n");
        Ok(())
    })
}

/// The list that the agent asks for.
const OF_USER: &str = "SLURM_TIME_FORMAT=%s squeue --noheader --states=all --format '%A|%i|%T|%V|%N' --user";

#[test]
fn squeue_lists_a_users_jobs_with_the_ids_of_arrays_and_heterogeneous_jobs() -> Result<()> {
    story(without_product()?, |site| {
        let jobs = || -> Result<Vec<String>> {
            let output = site.sh("root", &format!("date +%s; {OF_USER} 2001"))?.ok()?.stdout;
            let mut lines = output.lines();
            let now: i64 = lines.next().and_then(|now| now.parse().ok()).unwrap_or_default();
            let shown = lines.map(|line| {
                let fields: Vec<&str> = line.split('|').collect();
                let [id, shown, state, submitted, nodes] = fields[..] else { panic!("{line}") };
                let ago = now - submitted.parse::<i64>().unwrap();
                assert!((0..60).contains(&ago), "{line}");
                format!("{id} {shown} {state} {nodes}")
            });
            let mut shown: Vec<String> = shown.map(|line| line.trim().to_owned()).collect();
            shown.sort_unstable();
            Ok(shown)
        };
        site.sh("alice", "sbatch --hold --array=1-3%2 --wrap 'sleep 60'")?.ok()?;
        assert_eq!(jobs()?, ["1 1_[1-3%2] PENDING"]);
        site.sh("root", "scontrol release 1")?.ok()?;
        site.wait_for("two tasks", Duration::from_secs(20), "root", "test $(squeue -h -t R | wc -l) = 2")?;
        let running = jobs()?;
        assert!(
            running.len() == 3
                && running[0].ends_with("PENDING")
                && running[0].starts_with("1 1_")
                && running[1].starts_with("2 1_1 RUNNING n"),
            "{running:?}"
        );
        site.sh("root", "scancel 1")?.ok()?;
        site.wait_for("the end", Duration::from_secs(20), "root", "! squeue -h | grep .")?;
        // A task that never began is a list with one number in 26.05.
        let cancelled = if site.options().release == Release::Sid { "1 1_[3%2] CANCELLED" } else { "1 1_3 CANCELLED" };
        assert!(jobs()?.contains(&cancelled.to_owned()), "{:?}", jobs()?);
        site.sh("alice", "sbatch --hold -N1 --wrap 'sleep 60' : --hold -N1")?.ok()?;
        let both = jobs()?;
        let shows = |text: &str| both.iter().any(|line| line == text);
        assert!(shows("4 4+0 PENDING") && shows("5 4+1 PENDING"), "{both:?}");
        Ok(())
    })
}

#[test]
fn squeue_for_a_user_without_an_account_refuses_or_lists_the_jobs_of_the_uid() -> Result<()> {
    story(without_product()?, |site| {
        let unknown = site.sh("root", &format!("{OF_USER} 54321"))?;
        let is_refused = site.options().release != Release::Sid;
        assert_eq!(unknown.stderr.contains("Invalid user"), is_refused, "{unknown:?}");
        assert!(unknown.stdout.is_empty(), "{unknown:?}");
        let none = site.sh("root", &format!("{OF_USER} 2001"))?;
        assert!(none.code == 0 && none.stdout.is_empty() && none.stderr.is_empty(), "{none:?}");
        // What an empty list means on a host that lacks the account of a user with jobs.
        site.sh("alice", "sbatch --hold --wrap true")?.ok()?;
        let without_alice = format!(
            "grep -v ^alice: /etc/passwd >/dev/shm/passwd && unshare --mount sh -c 'mount --bind /dev/shm/passwd /etc/passwd && \
             ! getent passwd 2001 && {}'",
            format_args!("{} 2001", OF_USER.replace('\'', "\""))
        );
        let hidden = site.sh("root", &without_alice)?;
        assert_eq!(hidden.stderr.contains("Invalid user"), is_refused, "{hidden:?}");
        assert_eq!(hidden.stdout.contains("PENDING"), !is_refused, "{hidden:?}");
        Ok(())
    })
}

#[test]
fn scontrol_and_squeue_print_times_of_slurmctlds_clock() -> Result<()> {
    story(without_product()?, |site| {
        clock::start_again(site, "slurmctld", 4_000, Daemon::new("slurmctld", ["slurmctld", "-D", "-i"]))?;
        site.wait_for("slurmctld", Duration::from_secs(30), "root", "scontrol ping | grep -w UP")?;
        site.sh("alice", "sbatch --hold --wrap true")?.ok()?;
        let ask = "export SLURM_TIME_FORMAT=%s; date +%s; squeue -h -o %V; scontrol show config | head -n 1; date +%s";
        // By a user, too: the agent of a login host is root, but slurmctld may run as another user.
        let told = site.sh("alice", ask)?.ok()?.stdout;
        let lines: Vec<&str> = told.lines().collect();
        let [before, submitted, now, after] = lines[..] else { panic!("{told}") };
        let now = now.strip_prefix("Configuration data as of ").unwrap_or_default();
        let [before, submitted, now, after] = [before, submitted, now, after].map(|time| time.parse::<u64>().unwrap());
        assert!((before + 4_000..=after + 4_000).contains(&now), "{told}");
        assert!((now - 60..=now).contains(&submitted), "{told}");
        let timeout = site.sh("alice", "scontrol show config | grep ^MessageTimeout")?.ok()?.stdout;
        assert_eq!(timeout.split_whitespace().collect::<Vec<_>>(), ["MessageTimeout", "=", "10", "sec"]);
        Ok(())
    })
}

#[test]
fn squeue_tells_on_which_host_a_job_was_submitted() -> Result<()> {
    story(without_product()?, |site| {
        site.sh("alice", "sbatch --hold --array=1-3 --wrap true; srun sleep 60 >/dev/null 2>&1 &")?.ok()?;
        site.wait_for("the step", Duration::from_secs(20), "root", "squeue -h -t R -j 2 | grep .")?;
        for job in ["1", "2"] {
            let ask = format!("squeue --noheader --states=all --Format=JobID:20,AllocNodes:80 --jobs {job}");
            let told = site.sh("root", &ask)?.ok()?.stdout;
            let words: Vec<&str> = told.split_whitespace().collect();
            assert_eq!(words, [job, "testbed"], "{told}");
            assert_eq!(told.find("testbed"), Some(20), "{told}");
        }
        let shown = site.sh("root", "scontrol -o show job 1")?.ok()?.stdout;
        assert!(shown.contains("AllocNode:Sid=testbed:"), "{shown}");
        site.sh("alice", "scancel 1 2")?.ok().map(drop)
    })
}

#[test]
fn squeue_tells_when_the_present_run_of_a_job_began() -> Result<()> {
    story(without_product()?, |site| {
        let ask = |job: u32| -> Result<Option<u64>> {
            let ask = format!("SLURM_TIME_FORMAT=%s squeue -h --states=all -o '%A|%S' --jobs {job}");
            let told = site.sh("root", &ask)?.ok()?.stdout;
            let line = |line: &str| line.trim().split_once('|').map(|(id, start)| (id.to_owned(), start.to_owned()));
            let own = told.lines().filter_map(line).find(|(id, _)| *id == job.to_string());
            Ok(own.unwrap_or_else(|| panic!("{told}")).1.parse().ok())
        };
        let now = || -> Result<u64> { Ok(site.sh("root", "date +%s")?.ok()?.stdout.trim().parse().unwrap()) };
        let run = |job: u32| {
            site.wait_for(
                "the job",
                Duration::from_secs(30),
                "root",
                &format!("squeue -h -t R -j {job} -o %A | grep -qx {job}"),
            )
        };
        site.sh(
            "alice",
            "sbatch --hold --wrap true; sbatch --requeue --wrap 'sleep 600'; sbatch --array=1-2 --wrap 'sleep 600'",
        )?
        .ok()?;
        assert_eq!(ask(1)?, None, "a job that waits");
        run(2)?;
        let first = ask(2)?.unwrap();
        assert!((first..first + 60).contains(&now()?));
        // The array's own number is that of one of its tasks.
        run(3)?;
        assert!(ask(3)?.is_some_and(|start| start >= first));
        site.sh("root", "scontrol requeue 2; sleep 3; scontrol update jobid=2 starttime=now")?.ok()?;
        run(2)?;
        assert!(ask(2)?.is_some_and(|second| second > first));
        Ok(())
    })
}

#[test]
fn sbatch_tries_again_while_slurmctld_has_no_room() -> Result<()> {
    story(without_product()?, |site| {
        let restart = |edit: &str| {
            site.sh("root", &format!("sed -i '{edit}' /etc/slurm/slurm.conf"))?.ok()?;
            site.stop("slurmctld", "TERM")?;
            site.restart("slurmctld")?;
            site.wait_for("slurmctld", Duration::from_secs(30), "root", "scontrol ping | grep -w UP")
        };
        restart("1i MaxJobCount=2")?;
        // Up to 24.11 there is room for one job.
        site.sh("alice", "for job in 1 2 3; do sbatch --hold --wrap true; done >jobs 2>&1 &")?.ok()?;
        site.wait_for("the second try", Duration::from_secs(30), "alice", "grep 'sleeping and retrying' jobs")?;
        site.sh("alice", "pgrep -x sbatch")?.ok()?;
        restart("/^MaxJobCount/d")?;
        site.wait_for("the jobs", Duration::from_secs(60), "alice", "test $(grep -c Submitted jobs) = 3")?;
        Ok(())
    })
}

#[test]
fn a_job_that_ended_in_its_prolog_looks_like_one_that_ran() -> Result<()> {
    story(without_product()?, |site| {
        let columns = "squeue -h --states=all -o '%T|%N|%B|%r' -j";
        let prolog = |line: &str| -> Result<()> {
            let edit = format!("sed -i '/^Prolog/d' /etc/slurm/slurm.conf; sed -i '1i {line}' /etc/slurm/slurm.conf");
            site.sh("root", &edit)?.ok()?;
            for daemon in ["slurmctld", "slurmd.n1"] {
                site.stop(daemon, "TERM")?;
                site.restart(daemon)?;
            }
            let idle = "scontrol update nodename=n1 state=resume 2>/dev/null; test \"$(sinfo -h -N -o %T)\" = idle";
            site.wait_for("an idle node", Duration::from_secs(60), "root", idle).map(drop)
        };
        // Submits a job, waits for one of these lines, and returns it.
        let until = |job: &str, lines: &str| -> Result<String> {
            let command = format!("{columns} {job} | grep -xE '{lines}'");
            let found = site.wait_for(lines, Duration::from_secs(30), "root", &command)?;
            Ok(found.stdout.trim().to_owned())
        };
        let submit = |options: &str| -> Result<String> {
            let said = site.sh("alice", &format!("sbatch --parsable {options} --wrap 'touch ran; sleep 60'"))?.ok()?;
            Ok(said.stdout.trim().to_owned())
        };
        site.write("/usr/local/bin/fails", "#!/bin/sh\nexit 1\n", "0755")?;
        site.write("/usr/local/bin/slow", "#!/bin/sh\nsleep 8\n", "0755")?;
        for (line, state) in [("#", "RUNNING"), ("Prolog=/usr/local/bin/slow", "RUNNING")] {
            prolog(line)?;
            let job = submit("")?;
            until(&job, &format!("{state}\\|n1\\|n1\\|None"))?;
            site.sh("root", &format!("sleep 2; scancel {job}"))?.ok()?;
            assert_eq!(until(&job, "CANCELLED.*")?, "CANCELLED|n1|n1|None", "{line}");
            let ran = site.sh("alice", "rm ran")?.success();
            assert_eq!(ran, line == "#", "{line}");
        }
        prolog("PrologSlurmctld=/usr/local/bin/slow")?;
        let job = submit("")?;
        until(&job, "CONFIGURING\\|n1\\|n1\\|None")?;
        site.sh("root", &format!("scancel {job}"))?.ok()?;
        assert_eq!(until(&job, "CANCELLED.*")?, "CANCELLED|n1|n1|None");
        for (line, reason) in [
            ("Prolog=/usr/local/bin/fails", "launch failed requeued held"),
            ("PrologSlurmctld=/usr/local/bin/fails", "None"),
        ] {
            prolog(line)?;
            let (once, again) = (submit("--no-requeue")?, submit("--requeue")?);
            assert_eq!(until(&once, "CANCELLED.*")?, "CANCELLED|n1|n1|None", "{line}");
            // Its node was drained by the first one.
            site.sh("root", "scontrol update nodename=n1 state=resume 2>/dev/null; true")?.ok()?;
            until(&again, &format!("PENDING\\|\\|n/a\\|({reason}|BeginTime)"))?;
            let times = site.sh("root", &format!("scontrol show job {again} | grep -o 'Restarts=[0-9]*'"))?.ok()?;
            assert_ne!(times.stdout.trim(), "Restarts=0", "{line}");
            site.sh("root", &format!("scancel {again}"))?.ok()?;
        }
        site.sh("alice", "test ! -e ran")?.ok().map(drop)
    })
}
