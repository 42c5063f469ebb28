// SPDX-License-Identifier: MIT OR Apache-2.0
//! README's quick starts, word by word: the lines of its code blocks run on a machine with the packages.

use std::time::Duration;

use testbed::drive::cluster::{Cluster, NODE, cluster_story};
use testbed::drive::machine::{Machine, machine_story};
use testbed::drive::people::{self, Session};
use testbed::drive::{askpass, jobs};
use testbed::site::servers::PROVIDER;
use testbed::site::services::testserver;
use testbed::{Error, Options, Release, Result, Site, wait};

use crate::built_packages::{bring_packages, difference, etc, login_by_key};
use crate::written::{Step, document, steps, ways_back};

const SHELL: &str = "Quick start: a researcher at the shell";
const JOB: &str = "Quick start: a researcher with a job";
const FIRST_LOGIN: &str = "The first login with a token";
const FIRST_JOB: &str = "The first job with a token";

const SHORT: Duration = Duration::from_secs(20);

const PASSWORD: &str = "correct horse";
const BY_PASSWORD: &str = "ssh -o PreferredAuthentications=password -o NumberOfPasswordPrompts=1 testbed id -un";
const BY_PROMPT: &str =
    "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed id -un";

fn readme() -> Result<String> {
    document("README.md")
}

/// The text between a heading and the next one.
fn section<'a>(readme: &'a str, heading: &str) -> Result<&'a str> {
    let titled = |text: &&str| text.trim_start_matches('#').trim_start().starts_with(&format!("{heading}\n"));
    readme.split("\n#").find(titled).ok_or_else(|| Error::Refused(format!("README has no heading \"{heading}\"")))
}

/// One of a section's steps, by its first words.
fn step(section: &str, begin: &str) -> Result<String> {
    steps(section)
        .into_iter()
        .map(|step| step.text)
        .find(|text| text.starts_with(begin))
        .ok_or_else(|| Error::Refused(format!("README has no line that begins with `{begin}`")))
}

/// Runs a step as root, in the directory with the packages.
fn as_administrator(machine: &Machine<'_>, step: &str) -> Result<()> {
    let outcome = machine.sh_with_answers(&format!("cd /root/packages\n{step}"), "y\n")?;
    eprintln!("# {step}\n{}{}", outcome.stdout, outcome.stderr);
    if step.starts_with("mytokenctl check") && outcome.code == 1 {
        // README names the warning of Debian 12's own stack.
        let known = outcome.stdout.contains("user_readenv") && outcome.stdout.ends_with("\n0 errors, 1 warning\n");
        assert!(known && Options::new()?.release == Release::Bookworm, "{outcome:?}");
        return Ok(());
    }
    outcome.ok().map(drop)
}

fn bobs_password(site: &Site, ssh: &str) -> Result<bool> {
    let login = askpass::run_with_answers(site, "bob", &[PASSWORD], ssh)?;
    Ok(login.success() && login.stdout == "bob\n")
}

/// A job's state and exit code, when it has ended.
fn job_output(session: &mut Session, id: u32) -> Result<String> {
    let wait = format!(
        "for i in $(seq 300); do state=$(scontrol show job {id} | grep -o 'JobState=[A-Z]*'); \
         case $state in *PENDING|*RUNNING|*COMPLETING) sleep 0.1;; *) break;; esac; done; echo $state; cat slurm-{id}.out"
    );
    Ok(session.run(&wait, Duration::from_secs(50))?.stdout)
}

/// Runs one of README's submissions in a session, with a job that does what README's researcher does at the shell.
fn job(session: &mut Session, submission: &str) -> Result<u32> {
    let submitted = session.run(submission, Duration::from_secs(30))?;
    let job = jobs::Job::submitted("alice", &submitted)?;
    let output = job_output(session, job.id)?;
    assert!(output.contains("COMPLETED") && output.contains("alice"), "{submission}: {output}");
    Ok(job.id)
}

#[test]
fn every_line_of_the_quick_starts_works_and_every_step_can_be_taken_back() -> Result<()> {
    let readme = readme()?;
    let (shell, job_lines) = (section(&readme, SHELL)?, section(&readme, JOB)?);
    let (first_login, first_job) = (section(&readme, FIRST_LOGIN)?, section(&readme, FIRST_JOB)?);
    machine_story(|site, machine| {
        // A site as it is before: Slurm, passwords over ssh, an authority that the host trusts.
        machine.trust_the_servers()?;
        machine.wait_for_slurm()?;
        machine.sh(&format!("echo 'bob:{PASSWORD}' | chpasswd"))?.ok()?;
        bring_packages(site)?;
        let before = etc(site)?;
        assert!(bobs_password(site, BY_PASSWORD)?, "the machine is not as Debian ships it");

        for step in steps(first_login) {
            as_administrator(machine, &step.text)?;
            login_by_key(site)?;
            // Passwords work until the step of which README says that it ends them.
            if step.text.starts_with("pam-auth-update") {
                assert!(!bobs_password(site, BY_PROMPT)? && !bobs_password(site, BY_PASSWORD)?);
            } else if step.text.starts_with("systemctl reload ssh") {
                assert!(bobs_password(site, BY_PROMPT)?, "after {step:?}");
            } else if !step.text.starts_with("mytokenctl check") {
                assert!(bobs_password(site, BY_PASSWORD)?, "after {step:?}");
            }
        }

        as_administrator(machine, &step(shell, "apt install")?)?;
        people::log_in_by_link(site, "alice", &step(shell, "mytoken-ssh login")?)?;
        let mut session = Session::open(site, "alice", &step(shell, "mytoken-ssh ssh")?)?;
        let curl = step(shell, "sed ")?;
        let data = session.run(&curl, Duration::from_secs(20))?;
        assert!(data.success() && data.stdout.contains("alice"), "{data:?}");

        for step in steps(first_job) {
            as_administrator(machine, &step.text)?;
            assert!(session.run(&curl, Duration::from_secs(20))?.success(), "after {step:?}");
            let without_token = session.run("srun -Q echo ran", Duration::from_secs(30))?;
            assert_eq!(without_token.stdout, "ran\n", "after {step:?}");
        }
        let script = format!("cat >job.sh <<'EOF'\n#!/bin/bash\n{curl}\nEOF");
        session.run(&script, Duration::from_secs(10))?.ok()?;
        job(&mut session, &step(job_lines, "sbatch --mytoken ")?)?;
        let id = job(&mut session, &step(job_lines, "sbatch --mytoken=required")?)?;
        let status = step(job_lines, "mytokenctl status")?.replace("4711", &id.to_string());
        wait::until("the end of the job's credential", Duration::from_secs(60), || {
            let shown = session.run(&status, Duration::from_secs(20))?.ok()?.stdout;
            Ok((shown.contains(&id.to_string()) && shown.contains("revoked")).then_some(()))
        })?;
        session.close()?;

        // README.Debian: while the mytoken server is out, the next line of the stack asks for the password.
        site.stop(testserver::NAME, "KILL")?;
        let login = askpass::run_with_answers(site, "bob", &["abcdefgh", PASSWORD], BY_PROMPT)?;
        assert_eq!(login.stdout, "bob\n", "{login:?} {:?}", askpass::prompts(site, "bob")?);

        for command in ways_back(first_job).into_iter().chain(ways_back(first_login)) {
            as_administrator(machine, &command)?;
            login_by_key(site)?;
        }
        assert!(bobs_password(site, BY_PASSWORD)?, "the way back is not complete");
        let left: Vec<String> = difference(&before, &etc(site)?).into_iter().map(str::to_owned).collect();
        assert!(left.iter().all(|line| line.starts_with("./mytoken/")), "{left:#?}");
        assert_eq!(machine.sh("dpkg --verify; systemctl --failed --no-legend")?.stdout, "");
        Ok(())
    })
}

/// What README says about a cluster of several hosts, which the next story does.
const SEVERAL_HOSTS: &str = "On a cluster, copy the login host's `mytoken.toml` to one node, and run all this there. \
    Then copy that node's `/etc/mytoken` to other hosts (`keys/cluster.key` only to nodes, or to brokers), and run \
    1, 3 and 4 there; 4 without `slurmd` on hosts that are no nodes.";

/// Copies files from one machine to another, by the home directories that both have.
fn copy(from: &Machine<'_>, to: &Machine<'_>, directory: &str, files: &str) -> Result<()> {
    from.sh(&format!("umask 077 && tar -C {directory} -cf /home/copied.tar {files}"))?.ok()?;
    to.sh(&format!("mkdir -p {directory} && tar -C {directory} -xf /home/copied.tar && rm /home/copied.tar"))?
        .ok()
        .map(drop)
}

#[test]
fn the_first_job_runs_on_another_host_as_readme_says() -> Result<()> {
    let readme = readme()?;
    let (first_login, first_job) = (section(&readme, FIRST_LOGIN)?, section(&readme, FIRST_JOB)?);
    let (shell, job_lines) = (section(&readme, SHELL)?, section(&readme, JOB)?);
    let words = first_job.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(SEVERAL_HOSTS), "README no longer says what this story does: {SEVERAL_HOSTS}");
    cluster_story(false, |site, Cluster { login_host, node }| {
        for machine in [login_host, node] {
            machine.trust_the_servers()?;
        }
        login_host.wait_for_slurm()?;
        bring_packages(site)?;
        copy(login_host, node, "/root", "packages")?;
        let etc_of_node =
            || Ok::<_, Error>(node.sh("cd /etc && find . -type f -exec sha256sum {} + | sort")?.ok()?.stdout);
        let (before, before_on_node) = (etc(site)?, etc_of_node()?);

        for step in steps(first_login) {
            as_administrator(login_host, &step.text)?;
        }
        copy(login_host, node, "/etc/mytoken", "mytoken.toml")?;
        for step in steps(first_job) {
            as_administrator(node, &step.text)?;
        }
        copy(node, login_host, "/etc/mytoken", "--exclude=keys/cluster.key .")?;
        for step in steps(first_job) {
            let number = step.text.rsplit_once(" # ").map(|(_, number)| number.trim());
            match number {
                Some("1" | "3") => as_administrator(login_host, &step.text)?,
                Some("4") => as_administrator(login_host, &step.text.replace(" slurmd", ""))?,
                _ => {}
            }
        }
        assert!(!site.exists("/etc/mytoken/keys/cluster.key")?, "the private key is on the login host");
        login_host.wait_for_slurm()?;
        for machine in [login_host, node] {
            as_administrator(machine, "mytokenctl check")?;
        }

        as_administrator(login_host, &step(shell, "apt install")?)?;
        people::log_in_by_link(site, "alice", &step(shell, "mytoken-ssh login")?)?;
        let mut session = Session::open(site, "alice", &step(shell, "mytoken-ssh ssh")?)?;
        let curl = step(shell, "sed ")?;
        session
            .run(&format!("printf '#!/bin/bash\\nhostname\\n' >job.sh; cat >>job.sh <<'EOF'\n{curl}\nEOF"), SHORT)?
            .ok()?;
        let id = job(&mut session, &step(job_lines, "sbatch --mytoken=required")?)?;
        let output = session.run(&format!("cat slurm-{id}.out"), SHORT)?.stdout;
        assert!(output.starts_with(&format!("{NODE}\n")), "{output}");
        let status = step(job_lines, "mytokenctl status")?.replace("4711", &id.to_string());
        wait::until("the end of the job's credential", Duration::from_secs(60), || {
            let shown = node.sh(&format!("setpriv --reuid=alice --regid=alice --init-groups {status}"))?.ok()?.stdout;
            Ok((shown.contains(&id.to_string()) && shown.contains("revoked")).then_some(()))
        })?;
        session.close()?;

        for (machine, ways) in [(node, ways_back(first_job)), (login_host, ways_back(first_job))] {
            for command in ways {
                as_administrator(machine, &command)?;
            }
        }
        for command in ways_back(first_login) {
            as_administrator(login_host, &command)?;
        }
        as_administrator(node, "apt purge mytokend")?;
        login_by_key(site)?;
        login_host.wait_for_slurm()?;
        let (after, after_on_node) = (etc(site)?, etc_of_node()?);
        let left = difference(&before, &after).into_iter().chain(difference(&before_on_node, &after_on_node));
        let others: Vec<&str> = left.filter(|line| !line.contains("./mytoken/")).collect();
        assert_eq!(others, [""; 0]);
        for machine in [login_host, node] {
            assert_eq!(machine.sh("dpkg --verify; systemctl --failed --no-legend")?.stdout, "");
        }
        Ok(())
    })
}

#[test]
fn the_quick_start_has_as_few_commands_as_the_project_promises() -> Result<()> {
    let readme = readme()?;
    let count = |heading| {
        let steps = steps(section(&readme, heading)?);
        let commands = steps.iter().filter(|step| step.configuration == 0).count();
        Ok::<_, Error>((commands, steps.iter().map(|step| step.configuration).sum::<usize>()))
    };
    assert_eq!(count(FIRST_LOGIN)?, (5, 12));
    assert_eq!(count(FIRST_JOB)?, (4, 7));
    for heading in [SHELL, JOB, FIRST_LOGIN, FIRST_JOB] {
        for step in steps(section(&readme, heading)?) {
            assert!(!step.text.contains("example.org"), "NAMES lacks a name of {step:?}");
        }
    }
    assert_eq!(ways_back(section(&readme, FIRST_LOGIN)?).len(), 4, "the check needs none");
    assert_eq!(ways_back(section(&readme, FIRST_JOB)?).len(), 4);
    Ok(())
}

#[test]
fn the_readme_fits_a_screen_in_width_and_200_lines() -> Result<()> {
    let readme = readme()?;
    assert!(readme.lines().count() <= 200, "{} lines", readme.lines().count());
    let long: Vec<&str> = readme.lines().filter(|line| line.chars().count() > 100).collect();
    assert_eq!(long, [""; 0]);
    Ok(())
}

#[test]
fn steps_are_commands_with_their_continued_lines_and_files() {
    let text = "Title\n\ntext\n\n```\none \\\n  more\n\ncat >f <<'END'\na\nb\nEND\ntwo https://op.example.org\n```\n\n1. x\n   Back: `u\n   v`\n2. y\n   Back: `w`\n";
    let step = |text: &str, configuration| Step { text: text.to_owned(), configuration };
    assert_eq!(
        steps(text),
        [step("one \\\n  more", 0), step("cat >f <<'END'\na\nb\nEND\n", 2), step(&format!("two {PROVIDER}"), 0)]
    );
    assert_eq!(ways_back(text), ["w", "u    v"]);
    assert!(section(&format!("# A\n## {text}## B\nc\n"), "Title").is_ok_and(|found| found.ends_with("`w`")));
}
