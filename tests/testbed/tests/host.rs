// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host under a site: the same before and after, however the site ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use testbed::{Error, Result, can_hold_a_site, command, skip, wait};

const MARK: &str = "TESTBED_STORY";

/// What of the host must not change.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    accounts: Vec<Vec<u8>>,
    etc: BTreeSet<String>,
    run: BTreeSet<String>,
    dev: BTreeSet<String>,
    mounts: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    listeners: BTreeSet<String>,
    name: String,
}

impl Host {
    fn now() -> std::io::Result<Self> {
        Ok(Self {
            accounts: ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/hosts", "/etc/resolv.conf"]
                .map(|path| fs::read(path).unwrap_or_default())
                .to_vec(),
            etc: names("/etc")?,
            run: names("/run")?,
            dev: names("/dev")?,
            mounts: mounts()?,
            interfaces: names("/sys/class/net")?,
            listeners: listeners()?,
            name: fs::read_to_string("/proc/sys/kernel/hostname")?,
        })
    }
}

fn names(directory: &str) -> std::io::Result<BTreeSet<String>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Mount points; the ids in the full lines differ from reader to reader.
fn mounts() -> std::io::Result<BTreeSet<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect())
}

/// Local addresses and ports that wait for connections or datagrams.
fn listeners() -> std::io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for protocol in ["tcp", "tcp6"] {
        let table = fs::read_to_string(Path::new("/proc/self/net").join(protocol))?;
        for row in table.lines().skip(1) {
            let mut columns = row.split_whitespace().skip(1);
            let (local, state) = (columns.next(), columns.nth(1));
            // 0A is LISTEN.
            if let (Some(local), Some("0A")) = (local, state) {
                found.insert(format!("{protocol} {local}"));
            }
        }
    }
    Ok(found)
}

/// `testbed exec` in a process group of its own, which stands for a terminal's foreground group.
/// `mark` is in its environment.
fn testbed(mark: &str, script: &str) -> Result<Child> {
    // A shell's background job inherits SIGINT ignored.
    Command::new("env")
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_testbed")])
        .env(MARK, mark)
        .args(["exec", "--user", "alice", "--", "bash", "-c", script])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Io { what: "starting testbed".into(), source })
}

/// Whether any process lives in this process namespace ("pid:[4026532345]").
fn is_inhabited(namespace: &str) -> Result<bool> {
    let processes = fs::read_dir("/proc").map_err(|source| Error::Io { what: "listing /proc".into(), source })?;
    Ok(processes
        .flatten()
        .any(|process| fs::read_link(process.path().join("ns/pid")).is_ok_and(|link| link == Path::new(namespace))))
}

/// Whether any process was started with this mark; `unshare` and the first process of a site inherit it.
fn is_anybody_marked(mark: &str) -> Result<bool> {
    let processes = fs::read_dir("/proc").map_err(|source| Error::Io { what: "listing /proc".into(), source })?;
    let wanted = format!("{MARK}={mark}");
    Ok(processes.flatten().any(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    }))
}

fn host() -> Result<Host> {
    Host::now().map_err(|source| Error::Io { what: "looking at the host".into(), source })
}

/// Other programs of the machine come and go meanwhile, so a difference counts when it stays.
fn unchanged(before: &Host, how: &str) -> Result<()> {
    let mut after = host()?;
    let same = wait::until(how, Duration::from_secs(10), || {
        after = host()?;
        Ok((*before == after).then_some(()))
    });
    assert!(same.is_ok(), "{how}: before {before:#?}\nafter {after:#?}");
    Ok(())
}

#[test]
fn nothing_of_the_host_is_touched() -> Result<()> {
    if let Err(reason) = can_hold_a_site() {
        return skip(&reason.to_string());
    }
    // Made first: the cache of root file systems is the one thing that stays.
    let made = Command::new(env!("CARGO_BIN_EXE_testbed")).arg("root").status();
    assert!(made.is_ok_and(|status| status.success()));
    let before = host()?;

    let whole = testbed("to the end", "srun -N4 true && ssh -i .ssh/site_key testbed true && echo >/dev/shm/x")?;
    assert!(command::finish(whole)?.success());
    unchanged(&before, "after a run to its end")?;

    for signal in [Signal::SIGINT, Signal::SIGKILL, Signal::SIGTERM] {
        let mut half = testbed("half", "srun -N4 sleep 600 & readlink /proc/self/ns/pid; exec sleep 600")?;
        let mut namespace = String::new();
        let stdout = half.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
        for line in stdout.take(1) {
            namespace = line.map_err(|source| Error::Io { what: "reading its output".into(), source })?;
        }
        assert!(is_inhabited(&namespace)?, "no site came up: {namespace:?}");

        let pid = Pid::from_raw(i32::try_from(half.id()).unwrap());
        // Ctrl-C reaches the whole group; a killed process gets no chance to tidy up.
        let sent = if signal == Signal::SIGINT { killpg(pid, signal) } else { kill(pid, signal) };
        sent.map_err(|errno| Error::Io { what: format!("sending {signal}"), source: errno.into() })?;
        half.wait().map_err(|source| Error::Io { what: "waiting for testbed".into(), source })?;
        wait::until(&format!("the end of all processes after {signal}"), Duration::from_secs(10), || {
            Ok((!is_inhabited(&namespace)?).then_some(()))
        })?;
        unchanged(&before, &format!("after {signal} half-way"))?;
    }
    Ok(())
}

#[test]
fn an_interrupted_start_leaves_nothing() -> Result<()> {
    if let Err(reason) = can_hold_a_site() {
        return skip(&reason.to_string());
    }
    let before = host()?;
    for milliseconds in [5, 20, 60, 120, 250] {
        let mark = format!("interrupted-{}-{milliseconds}", std::process::id());
        let mut starting = testbed(&mark, "sleep 600")?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        starting
            .kill()
            .and_then(|()| starting.wait())
            .map_err(|source| Error::Io { what: "killing testbed".into(), source })?;
        wait::until(&format!("the end of a site killed after {milliseconds} ms"), Duration::from_secs(10), || {
            Ok((!is_anybody_marked(&mark)?).then_some(()))
        })?;
    }
    unchanged(&before, "after five interrupted starts")
}

#[test]
fn a_host_may_be_a_chroot() -> Result<()> {
    if let Err(reason) = can_hold_a_site() {
        return skip(&reason.to_string());
    }
    let host = tempfile::tempdir().map_err(|source| Error::Io { what: "a temporary folder".into(), source })?;
    let script = "mount --rbind / \"$1\" && exec chroot \"$1\" \"$2\" exec --user alice -- srun hostname";
    let said = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(host.path())
        .arg(env!("CARGO_BIN_EXE_testbed"))
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Io { what: "starting a shell in a chroot".into(), source })?;
    let (stdout, stderr) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(stdout.trim(), "testbed", "{stderr}");
    Ok(())
}
