// SPDX-License-Identifier: MIT OR Apache-2.0
//! No secret of a job outside of the places that are made for it: mytokens, access tokens and the cluster's private key are searched in
//! Slurm's state, spools, commands and database, in logs, in environments and arguments, and in the memory of Slurm's processes, which
//! is what their core files would contain. The sealed credential may be there; it shows that the right place is searched.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use mytokend::jobs::keys::PrivateKey;
use mytokend::jobs::sealed;
use serde_json::json;
use testbed::drive::jobs::Job;
use testbed::drive::people::control;
use testbed::drive::{askpass, tokens};
use testbed::site::plan::TESTBED_INSIDE;
use testbed::site::services::{accounting, agent};
use testbed::{Error, Options, Release, Result, Site, story_with_own_servers, wait};

/// The file with the patterns, for root only, outside of every place that is searched.
const PATTERNS: &str = "/dev/shm/patterns";

/// Length of a pattern before it is encoded.
const PIECE: usize = 24;

/// The beginning of a sealed credential, as a regular expression.
const SEALED: &str = "mt1\\.[0-9a-f]{8}\\.";

const TIMEOUT: Duration = Duration::from_secs(60);

/// The most talkative logs of Slurm.
const SLURM_LOGS: &str = "SlurmctldDebug=debug5\nSlurmdDebug=debug5\n";

/// Pieces of a secret as they could appear somewhere: plain, and inside of a longer text in base64 or hexadecimal digits.
fn patterns(secret: &[u8]) -> BTreeSet<String> {
    let last = secret.len().saturating_sub(PIECE);
    let pieces =
        [0, last / 2, last].into_iter().filter_map(|begin| secret.get(begin..(begin + PIECE).min(secret.len())));
    let mut found = BTreeSet::new();
    for piece in pieces {
        found
            .extend(std::str::from_utf8(piece).ok().filter(|text| !text.contains(char::is_control)).map(str::to_owned));
        found.insert(piece.iter().map(|byte| format!("{byte:02x}")).collect());
        // A piece may begin at each of the three positions of a group. Groups at the edge also have bits of other bytes.
        for shift in 0..3 {
            let whole = piece.get(shift..).unwrap_or_default();
            let whole = whole.get(..whole.len() / 3 * 3).unwrap_or_default();
            found.extend([STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)]);
        }
    }
    found
}

/// The part of a token that nobody can guess: a JWT's signature. Its header is the same in all tokens.
fn unguessable(token: &str) -> &str {
    token.trim().rsplit('.').next().unwrap_or_default()
}

/// Patterns for a token: its signature as text and as bytes, and its claims.
fn of_token(token: &str) -> BTreeSet<String> {
    let mut found = patterns(unguessable(token).as_bytes());
    found.extend(patterns(&URL_SAFE_NO_PAD.decode(unguessable(token)).unwrap_or_default()));
    let claims = token.split('.').nth(1).unwrap_or_default();
    found.extend(patterns(claims.as_bytes()));
    found
}

/// Number of lines that a place has with a pattern, and with the expression `control`.
fn search(site: &Site, node: Option<&str>, place: &str, control: &str) -> Result<(u64, u64)> {
    let script = format!(
        "{{ {place}; }} >/dev/shm/seen 2>/dev/null; grep -acFf {PATTERNS} /dev/shm/seen; grep -acE '{control}' /dev/shm/seen; rm /dev/shm/seen"
    );
    let command = site.script("root", &script).timeout(Duration::from_secs(120));
    let outcome = if let Some(node) = node { command.on(node) } else { command }.run()?;
    let counts: Vec<u64> = outcome.lines().iter().filter_map(|line| line.parse().ok()).collect();
    match counts[..] {
        [secrets, controls] => Ok((secrets, controls)),
        _ => Err(Error::Refused(format!("{place}: {outcome:?}"))),
    }
}

fn assert_absent(site: &Site, place: &str, control: &str) -> Result<()> {
    let (secrets, controls) = search(site, None, place, control)?;
    assert!(controls > 0, "`{place}` shows nothing that must be there: {control}");
    assert_eq!(secrets, 0, "`{place}` shows a secret");
    Ok(())
}

fn write_patterns(site: &Site, patterns: &BTreeSet<String>) -> Result<()> {
    assert!(patterns.iter().all(|pattern| pattern.len() >= 16), "a short pattern is everywhere: {patterns:?}");
    let lines: String = patterns.iter().map(|pattern| format!("{pattern}\n")).collect();
    site.script("root", &format!("umask 077; cat >{PATTERNS}")).stdin(lines).run()?.ok().map(drop)
}

/// A command that prints the memory of the processes with these names.
fn memory_of(programs: &str) -> String {
    format!("{TESTBED_INSIDE} dump-memory $(pgrep -x '{programs}')")
}

#[test]
fn no_secret_of_a_job_is_in_slurm_its_database_or_the_logs() -> Result<()> {
    let chosen = Options::new()?;
    // slurmdbd 24.11 ends at once with trixie's MariaDB 11.8.9: it does not understand the answer to `select @var := concat('')`.
    let accounting = chosen.release == Release::Bookworm;
    story_with_own_servers(Options { nodes: 2, accounting, sshd_log_level: "DEBUG3", ..chosen }, |site| {
        if accounting {
            accounting::start(site, SLURM_LOGS)?;
        } else {
            println!(
                "not searched: the database, because slurmdbd does not run with that of {}",
                site.options().release
            );
            accounting::restart_slurm(site, SLURM_LOGS)?;
        }
        let parent = tokens::mytoken(site, "alice", &json!({}))?;
        tokens::store(site, "alice", &parent)?;
        let key_file = site.read("/etc/mytoken/keys/cluster.key")?;
        let key = PrivateKey::parse(&key_file).map_err(|error| Error::Refused(error.to_string()))?;
        let key_text = key_file.split_whitespace().nth(1).unwrap_or_default();
        let mut secrets = of_token(&parent);
        secrets.extend(patterns(key_text.as_bytes()));
        secrets.extend(patterns(&URL_SAFE_NO_PAD.decode(key_text).unwrap_or_default()));
        write_patterns(site, &secrets)?;

        // While a submission waits for the server.
        control(site, "/mytoken/fault", Some(r#"{"name":"latency","ms":1500,"times":1}"#))?;
        let submit = "sbatch --mytoken --job-name=leak-scan --wrap 'echo $SLURM_MYTOKEN >sealed; srun sleep 300'";
        let submission = site.script("alice", submit).spawn()?;
        site.wait_for("the helper", TIMEOUT, "root", "pgrep -x mytoken-submit")?;
        let processes = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'";
        assert_absent(site, processes, "mytoken-submit")?;
        let submitted = testbed::site::command::finish(submission)?.ok()?;
        let job = Job::submitted("alice", &submitted)?;
        job.wait_for_start(site)?;
        let node = job.nodes(site)?.concat();
        job.wait_for_token(site, &node)?;

        let text = site.wait_for("the job's environment", TIMEOUT, "alice", "grep mt1 sealed")?.stdout;
        let credential = sealed::open(text.trim(), &key).map_err(|error| Error::Refused(error.to_string()))?;
        secrets.extend(of_token(credential.sub_token.expose()));
        let access_token = job.token(site, &node)?.unwrap_or_default();
        secrets.extend(of_token(&access_token));
        write_patterns(site, &secrets)?;
        // A login with an access token, for sshd's log.
        let login =
            "ssh -vvv -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed true";
        let own = tokens::access_token(site, "alice")?;
        secrets.extend(of_token(&own));
        write_patterns(site, &secrets)?;
        let chunks = askpass::split_token(&own);
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        askpass::run_with_answers(site, "alice", &chunks, login)?.ok()?;
        if accounting {
            site.wait_for(
                "the job in the database",
                TIMEOUT,
                "root",
                "mariadb slurm_acct_db -e 'select * from testbed_job_env_table' | grep mt1",
            )?;
        }

        // The search finds secrets in their own places, also in memory and in base64.
        let (found, _) = search(site, Some(&node), "cat /run/mytoken/jobs/*/bt_u*", ".")?;
        assert!(found > 0, "the search does not find the access token in its file");
        let (found, _) = search(site, None, "base64 -w0 /etc/mytoken/keys/cluster.key", ".")?;
        assert!(found > 0, "the search does not find the key in base64");
        let (found, _) = search(site, None, &memory_of("mytokend"), ".")?;
        assert!(found > 0, "the search does not find the key in the memory of the agents");

        let id = job.id;
        if accounting {
            for (place, control) in [
                (format!("sacct -j {id} --env-vars; sacct -j {id} --batch-script; sacct -j {id} -o all -P"), SEALED),
                ("mariadb-dump --all-databases".to_owned(), SEALED),
                ("cat /var/lib/mysql/ib* /var/lib/mysql/*/*".to_owned(), SEALED),
                ("cat /var/log/slurm/slurmdbd.log".to_owned(), "debug[345]:"),
            ] {
                assert_absent(site, &place, control)?;
            }
        }
        let slurm = "slurmctld|slurmd|slurmstepd|slurmdbd|srun|munged|mariadbd";
        for (place, control) in [
            ("grep -rahE . /var/spool/slurmctld /var/spool/slurmd.*".to_owned(), SEALED),
            (format!("scontrol -dd show job {id}; squeue -O all; scontrol write batch_script {id} -"), "leak-scan"),
            ("cat /var/log/slurm/slurmctld.log".to_owned(), "debug[345]:"),
            ("cat /var/log/slurm/slurmd.*.log".to_owned(), "debug[345]:"),
            ("cat /var/log/*.log".to_owned(), "sshd.*debug3:"),
            (processes.to_owned(), SEALED),
            (memory_of(slurm), SEALED),
            ("grep -rahE . /var/spool /var/log /tmp /run/testbed /run/slurm* /var/tmp".to_owned(), SEALED),
        ] {
            assert_absent(site, &place, control)?;
        }
        leave_no_core_files(site, &node)?;
        site.run("alice", ["scancel", &id.to_string()])?.ok().map(drop)
    })
}

/// An agent that crashes leaves no core file, although its limits would permit one. Where a crashing shell leaves none either, because
/// the host collects core files elsewhere, only the limit is checked.
fn leave_no_core_files(site: &Site, node: &str) -> Result<()> {
    let pid = format!("/run/testbed/pid/{}", agent::name(node));
    let limits = site.sh("root", &format!("grep 'Max core file size' /proc/$(cat {pid})/limits"))?.ok()?.stdout;
    let soft_limit = limits.split_whitespace().nth(4);
    assert_eq!(soft_limit, Some("0"), "the agent's limit for core files: {limits}");
    site.sh(
        "root",
        &format!(
            "prlimit --pid $(cat {pid}) --core=unlimited 2>/dev/null; touch /dev/shm/before; kill -ABRT $(cat {pid})"
        ),
    )?
    .ok()?;
    site.sh("root", "cd /var/tmp && ulimit -c unlimited && bash -c 'kill -ABRT $$'")?;
    if !site.sh("root", "rm /var/tmp/core*")?.success() {
        println!("not searched: core files, which this host collects elsewhere");
    }
    wait::until("the end of the agent", TIMEOUT, || Ok((!site.is_running(&agent::name(node))?).then_some(())))?;
    let cores = site.sh("root", "find / -xdev -name 'core*' -type f -newer /dev/shm/before")?.stdout;
    assert_eq!(cores, "", "core files");
    Ok(())
}

#[test]
fn pieces_of_a_secret_are_found_in_other_encodings() {
    let secret = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let patterns = patterns(secret);
    for before in ["", "a", "ab"] {
        let text = STANDARD_NO_PAD.encode([before.as_bytes(), secret].concat());
        assert!(patterns.iter().any(|pattern| text.contains(pattern)), "{before}");
    }
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(patterns.iter().any(|pattern| hex.contains(pattern)));
    assert!(patterns.iter().any(|pattern| "xyz0123456789abcdefghijklmn".contains(pattern)));
}
