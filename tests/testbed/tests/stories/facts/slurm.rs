// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proofs of `docs/facts/slurm.md`: what Slurm does with a small plugin (`probe.c`) that shares no code with the
//! product.

use std::time::Duration;

use testbed::{Options, Release, Result};

use super::probe::{
    Call, PLUGIN, calls, clear_calls, compile, configure, restart_slurmd, run_job, with_probe, without_product,
};

/// Step ids of the batch step (`SLURM_BATCH_SCRIPT`) and of the external step (`SLURM_EXTERN_CONT`).
const BATCH: &str = "4294967291";
const EXTERN: &str = "4294967292";
/// `NO_VAL`: the job is not in an array.
const NO_VAL: &str = "4294967294";

#[test]
fn names_that_begin_with_slurm_survive_every_export() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        site.write("/home/alice/exported", "FOO=bar\0", "0644")?;
        for (export, expected) in [
            ("", ["s", "p", "j"]),
            ("--export=NONE", ["s", "-", "j"]),
            ("--export=NIL", ["s", "-", "j"]),
            ("--export=FOO=bar", ["s", "-", "j"]),
            ("--export-file=exported", ["-", "-", "j"]),
        ] {
            clear_calls(site)?;
            run_job(site, export, "true")?;
            let steps = calls(site, "init_post_opt")?;
            let batch: Vec<&Call> = steps.iter().filter(|call| call.get("step") == BATCH).collect();
            let [batch] = batch[..] else { panic!("{export}: {} batch steps", batch.len()) };
            let seen = ["SLURM_PROBE", "PROBE", "SLURM_SPANK_PROBE_J"].map(|name| batch.get(name));
            assert_eq!(seen, expected, "{export}");
            let epilogs = calls(site, "job_epilog")?;
            assert_eq!(epilogs.iter().map(|call| call.get("SPANK_PROBE_J")).collect::<Vec<_>>(), ["j"], "{export}");
        }
        Ok(())
    })
}

#[test]
fn steps_of_sruns_own_allocation_see_no_job_control_variable() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        site.sh("alice", "srun true")?.ok()?;
        let steps = calls(site, "init_post_opt")?;
        let step = steps.iter().find(|call| call.get("context") == "2").unwrap();
        assert_eq!((step.get("SLURM_PROBE"), step.get("SLURM_SPANK_PROBE_J")), ("s", "-"));
        Ok(())
    })
}

#[test]
fn the_option_callback_is_not_reliable_on_a_node() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        site.write("/home/alice/exported", "FOO=bar\0", "0644")?;
        let is_22_05 = site.options().release == Release::Bookworm;
        for (export, is_called) in [
            ("", true),
            ("--export=NONE", !is_22_05),
            ("--export=NIL", !is_22_05),
            ("--export=FOO=bar", !is_22_05),
            ("--export-file=exported", false),
        ] {
            clear_calls(site)?;
            run_job(site, &format!("--probe=word {export}"), "true")?;
            let was_called = calls(site, "option")?.iter().any(|call| call.get("remote") == "1");
            assert_eq!(was_called, is_called, "{export}");
        }
        Ok(())
    })
}

#[test]
fn a_command_inside_a_job_imports_the_jobs_option() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        run_job(site, "--probe", "sbatch --hold --wrap true >/dev/null; srun true")?;
        let options = calls(site, "option")?;
        for program in ["sbatch", "srun"] {
            let arguments: Vec<&str> =
                options.iter().filter(|call| call.get("program") == program).map(|call| call.get("argument")).collect();
            // alice typed the option only for the first sbatch. The other commands imported it.
            let expected: &[&str] = if program == "sbatch" { &["NULL", "(null)"] } else { &["(null)"] };
            assert_eq!(arguments, expected, "{program}");
        }
        Ok(())
    })
}

#[test]
fn the_submission_hook_runs_once_per_component_and_for_test_only() -> Result<()> {
    with_probe("optional probe", Options { nodes: 2, ..without_product()? }, |site| {
        for (options, times) in [("--hold -n1 : -n1", 2), ("--test-only", 1)] {
            clear_calls(site)?;
            site.sh("alice", &format!("printf '#!/bin/sh\\ntrue\\n' >it; sbatch {options} it"))?.ok()?;
            let hooks = calls(site, "init_post_opt")?;
            assert_eq!(hooks.iter().filter(|call| call.get("context") == "3").count(), times, "{options}");
            assert!(hooks.iter().all(|call| call.get("job") == "-"), "{options}: a hook knows the job id");
        }
        Ok(())
    })
}

#[test]
fn array_ids_of_a_job_outside_and_inside_an_array() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        run_job(site, "", "srun true")?;
        let steps = calls(site, "init_post_opt")?;
        let steps: Vec<&Call> = steps.iter().filter(|call| call.get("context") == "2").collect();
        let [batch, step] = steps[..] else { panic!("{} steps", steps.len()) };
        assert_eq!((batch.get("array"), batch.get("arraytask")), ("0", NO_VAL));
        assert_eq!((step.get("array"), step.get("arraytask")), (step.get("job"), NO_VAL));
        clear_calls(site)?;
        run_job(site, "--array=7", "true")?;
        let steps = calls(site, "init_post_opt")?;
        assert_eq!(steps.iter().find(|call| call.get("step") == BATCH).unwrap().get("arraytask"), "7");
        Ok(())
    })
}

#[test]
fn the_external_step_has_no_environment() -> Result<()> {
    with_probe("optional probe", Options { prolog_flags: "Contain", ..without_product()? }, |site| {
        run_job(site, "--probe", "true")?;
        let steps = calls(site, "init_post_opt")?;
        let external = steps.iter().find(|call| call.get("step") == EXTERN).unwrap();
        let seen = ["SLURM_PROBE", "PROBE", "SLURM_SPANK_PROBE_J"].map(|name| external.get(name));
        assert_eq!(seen, ["-"; 3]);
        Ok(())
    })
}

#[test]
fn messages_of_early_hooks_go_to_slurmds_log_and_of_later_ones_to_the_job() -> Result<()> {
    with_probe("optional probe say", without_product()?, |site| {
        let output = run_job(site, "", "true")?;
        let log = site.sh("root", "cat /var/log/slurm/slurmd.*.log")?.ok()?.stdout;
        for (hook, in_output) in [("init", false), ("init_post_opt", false), ("user_init", true), ("task_init", true)] {
            let line = format!("probe: message of {hook}\n");
            assert_eq!(output.contains(&line), in_output, "{hook}: {output}");
            assert!(in_output || log.contains(&line), "{hook}: {log}");
        }
        Ok(())
    })
}

#[test]
fn user_and_thread_count_of_each_hook() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        run_job(site, "", "srun true")?;
        let uids = |hook: &str, context: &str| -> Result<Vec<String>> {
            let calls = calls(site, hook)?;
            Ok(calls
                .iter()
                .filter(|call| call.get("context") == context)
                .map(|call| call.get("uid").to_owned())
                .collect())
        };
        assert_eq!(
            (uids("init_post_opt", "2")?, uids("task_init", "2")?),
            (vec!["0".to_owned(); 2], vec!["2001".to_owned(); 2])
        );
        let threads = |hook: &str, program: &str| -> Result<Vec<u32>> {
            let calls = calls(site, hook)?;
            let calls = calls.iter().filter(|call| call.get("program") == program);
            Ok(calls.filter_map(|call| call.get("threads").parse().ok()).collect())
        };
        assert!(threads("init_post_opt", "slurmstepd")?.iter().all(|count| *count > 1));
        assert!(threads("task_init", "slurmstepd")?.iter().all(|count| *count == 1));
        assert!(threads("init_post_opt", "sbatch")?.iter().all(|count| *count == 1));
        let has_threads = threads("init_post_opt", "srun")?.iter().all(|count| *count > 1);
        assert_eq!(has_threads, site.options().release == Release::Sid);
        for hook in ["init", "init_post_opt", "user_init", "task_init"] {
            let calls = calls(site, hook)?;
            assert!(!calls.is_empty() && calls.iter().all(|call| call.get("main") == "1"), "{hook}");
        }
        Ok(())
    })
}

#[test]
fn effect_of_a_failing_hook() -> Result<()> {
    with_probe("optional probe fail=init_post_opt", without_product()?, |site| {
        // Slurm ignores the failure, at the submission and on the node.
        assert_eq!(run_job(site, "", "echo RAN")?, "RAN\n");
        configure(site, "required probe fail=task_init")?;
        assert_eq!(run_job(site, "", "echo RAN")?.matches("RAN").count(), 0);
        assert_eq!(site.sh("root", "sinfo -h -N -o %T")?.ok()?.stdout, "idle\n", "task_init drained the node");
        // This sbatch reads an empty plugstack.conf, so that only the node loads the plugin.
        site.sh("root", "cp -r /etc/slurm /etc/slurm-client; : >/etc/slurm-client/plugstack.conf")?.ok()?;
        configure(site, "required probe fail=user_init")?;
        site.sh("alice", "SLURM_CONF=/etc/slurm-client/slurm.conf sbatch --wrap true")?.ok()?;
        site.wait_for("a drained node", Duration::from_secs(30), "root", "sinfo -h -N -o %T | grep drain").map(drop)
    })
}

#[test]
fn a_missing_required_plugin_drains_the_node() -> Result<()> {
    with_probe("", without_product()?, |site| {
        site.sh("root", "cp -r /etc/slurm /etc/slurm-client")?.ok()?;
        site.write("/etc/slurm/plugstack.conf", "required /usr/local/lib/missing.so\n", "0644")?;
        site.sh("alice", "SLURM_CONF=/etc/slurm-client/slurm.conf sbatch --wrap true")?.ok()?;
        site.wait_for("a drained node", Duration::from_secs(30), "root", "sinfo -h -N -o %T | grep drain").map(drop)
    })
}

#[test]
fn the_environment_is_stored_once_and_job_control_per_job() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        site.sh("alice", "sbatch --array=1-3 --wrap 'sleep 60'")?.ok()?;
        let state = "/var/spool/slurmctld";
        let three = format!("test $(grep -ao PROBE_J=j {state}/job_state | wc -l) -ge 3");
        site.wait_for("the records", Duration::from_secs(30), "root", &three)?;
        let files =
            site.sh("root", &format!("grep -rla SLURM_PROBE=s {state} | xargs stat -c '%a %U %n'"))?.ok()?.stdout;
        assert!(
            files.lines().count() == 1 && files.starts_with("600 ") && files.ends_with("/environment\n"),
            "{files}"
        );
        Ok(())
    })
}

#[test]
fn a_failing_epilog_drains_its_node() -> Result<()> {
    with_probe("required probe fail=job_epilog", without_product()?, |site| {
        run_job(site, "", "true")?;
        site.wait_for("a drained node", Duration::from_secs(30), "root", "sinfo -h -N -o %T | grep drain").map(drop)
    })
}

#[test]
fn an_abort_in_a_root_hook_leaves_the_job_running() -> Result<()> {
    with_probe("optional probe abort=user_init", without_product()?, |site| {
        let id = site.sh("alice", "sbatch --parsable --wrap true")?.ok()?.stdout;
        site.wait_for("the abort", Duration::from_secs(20), "root", "grep '^user_init' /var/probe")?;
        std::thread::sleep(Duration::from_secs(5));
        let state = site.sh("root", &format!("squeue -h -o %T -j {}; pgrep -c slurmstepd", id.trim()))?.stdout;
        assert_eq!(state, "RUNNING\n0\n");
        Ok(())
    })
}

#[test]
fn a_job_is_completing_during_its_epilog_even_before_a_requeue() -> Result<()> {
    with_probe("optional probe slow=job_epilog", without_product()?, |site| {
        let state = "squeue -h --states=all -o %T -j 1";
        site.sh("alice", "sbatch --requeue --wrap 'sleep 60'")?.ok()?;
        site.wait_for("the job", Duration::from_secs(20), "root", "squeue -h -t R | grep .")?;
        site.sh("root", "scontrol requeue 1")?.ok()?;
        site.wait_for("the epilog", Duration::from_secs(20), "root", "grep '^job_epilog' /var/probe")?;
        assert_eq!(site.sh("root", state)?.ok()?.stdout, "COMPLETING\n");
        site.wait_for("the queue", Duration::from_secs(30), "root", "squeue -h -t PD | grep .")?;
        // Slurm delays the next start: a node refuses a launch credential from the second in which the job was killed.
        let times = site.sh("root", "date +%s -d $(squeue -h -j 1 -o %S); date +%s")?.ok()?.stdout;
        let times: Vec<u64> = times.lines().filter_map(|line| line.parse().ok()).collect();
        let [start, now] = times[..] else { panic!("{times:?}") };
        assert!((60..180).contains(&start.saturating_sub(now)), "{times:?}");
        Ok(())
    })
}

#[test]
fn components_of_a_heterogeneous_job_have_the_environment_of_the_first() -> Result<()> {
    with_probe("optional probe", Options { nodes: 2, ..without_product()? }, |site| {
        run_job(site, "-N1 : -N1", "srun --het-group=0,1 true")?;
        let steps = calls(site, "init_post_opt")?;
        let steps: Vec<&Call> = steps.iter().filter(|call| call.get("context") == "2").collect();
        assert_eq!(steps.len(), 3, "expected the batch step and one step per component");
        assert!(steps.iter().all(|call| call.get("SLURM_PROBE") == "s"), "{:?}", site.read("/var/probe"));
        assert_eq!(calls(site, "job_epilog")?.len(), 2);
        Ok(())
    })
}

#[test]
fn an_optional_plugin_can_refuse_an_argument_of_its_option() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        let outcome = site.sh("alice", "sbatch --probe=wrong --wrap true")?;
        assert!(!outcome.success() && outcome.stdout.is_empty(), "{outcome:?}");
        Ok(())
    })
}

#[test]
fn slurmd_logs_an_error_for_an_unregistered_option() -> Result<()> {
    with_probe("optional probe", without_product()?, |site| {
        let errors = || -> Result<usize> {
            run_job(site, "--probe", "srun true")?;
            let log = site.sh("root", "cat /var/log/slurm/slurmd.*.log")?.ok()?.stdout;
            Ok(log.matches("option \"probe\" not found").count())
        };
        assert_eq!(errors()?, 0);
        configure(site, "optional probe blind")?;
        assert!(errors()? > 0);
        Ok(())
    })
}

#[test]
fn slurmd_checks_for_an_epilog_only_at_its_start() -> Result<()> {
    with_probe("", without_product()?, |site| {
        configure(site, "optional probe")?;
        run_job(site, "", "true")?;
        assert_eq!((calls(site, "job_epilog")?.len(), calls(site, "task_init")?.len()), (0, 1));
        restart_slurmd(site)?;
        run_job(site, "", "true")?;
        assert_eq!(calls(site, "job_epilog")?.len(), 1);
        Ok(())
    })
}

#[test]
fn a_plugin_of_another_release_is_not_loaded() -> Result<()> {
    with_probe("", without_product()?, |site| {
        let other = if site.options().release == Release::Bookworm { Release::Trixie } else { Release::Bookworm };
        site.script("root", &format!("cat >{PLUGIN}")).stdin(compile(other)?).run()?.ok()?;
        configure(site, "optional probe")?;
        let submitted = site.sh("alice", "sbatch --wrap true")?.ok()?;
        assert!(submitted.stderr.contains("Incompatible"), "{submitted:?}");
        assert_eq!(site.read("/var/probe")?, "");
        configure(site, "required probe")?;
        assert!(!site.sh("alice", "sbatch --wrap true")?.success());
        Ok(())
    })
}
