// SPDX-License-Identifier: MIT OR Apache-2.0
//! A site does not change the host, however the site ends.
//!
//! A program of its own: beside stories that use the host, such as those that run podman, or while other sites end, a difference would
//! not be the fault of the site that is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use testbed::drive::machine::Machine;
use testbed::site::command;
use testbed::{Error, Options, Result, Site, can_hold_a_site, skip, wait};

const MARK: &str = "TESTBED_STORY";
const LISTENS: &str = "listens: ";

/// The state of the host that must not change, one line per item.
type HostState = BTreeSet<String>;

fn read_host_state() -> std::io::Result<HostState> {
    let mut host = HostState::new();
    for directory in ["/run", "/dev", "/sys/class/net"] {
        host.extend(names(directory)?.into_iter().map(|name| format!("{directory}/{name}")));
    }
    let etc = files_below(Path::new("/etc"))?;
    host.extend(etc.into_iter().map(|(path, metadata)| format!("{}: {metadata}", path.display())));
    // This file is often a link to a file outside /etc.
    host.insert(format!("resolver: {}", fs::read_to_string("/etc/resolv.conf").unwrap_or_default()));
    host.extend(mounts()?.into_iter().map(|mount| format!("mounted: {mount}")));
    host.extend(listeners()?.into_iter().map(|socket| format!("{LISTENS}{socket}")));
    host.insert(format!("name: {}", fs::read_to_string("/proc/sys/kernel/hostname")?));
    Ok(host)
}

fn names(directory: &str) -> std::io::Result<BTreeSet<String>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// All files below a directory with their metadata. The times of directories are left out, because another program may
/// have made a temporary file there.
fn files_below(directory: &Path) -> std::io::Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut remaining = vec![directory.to_owned()];
    while let Some(directory) = remaining.pop() {
        let entries = match fs::read_dir(&directory) {
            // Another program removed its temporary directory.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                // Another program removed its temporary file.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut metadata = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
            if meta.is_dir() {
                remaining.push(path.clone());
            } else {
                metadata += &format!(", {} bytes, changed at {}.{:09}", meta.size(), meta.ctime(), meta.ctime_nsec());
            }
            found.insert(path, metadata);
        }
    }
    Ok(found)
}

/// Mount points. The full lines contain ids that differ for each reader.
fn mounts() -> std::io::Result<BTreeSet<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect())
}

/// Local addresses and ports of listeners.
fn listeners() -> std::io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    // 0A is LISTEN of TCP, 07 is a UDP socket without a peer.
    for (protocol, listening) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let table = fs::read_to_string(Path::new("/proc/self/net").join(protocol))?;
        for row in table.lines().skip(1) {
            let mut columns = row.split_whitespace().skip(1);
            let (local, state) = (columns.next(), columns.nth(1));
            if let (Some(local), true) = (local, state == Some(listening)) {
                found.insert(format!("{protocol} {local}"));
            }
        }
    }
    Ok(found)
}

/// Starts `testbed exec` in its own process group, like the foreground group of a terminal. `mark` is in its
/// environment.
fn start_testbed(mark: &str, script: &str) -> Result<Child> {
    // Background jobs of a shell ignore SIGINT.
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

/// Whether a process lives in this process namespace ("pid:[4026532345]").
fn has_processes(namespace: &str) -> Result<bool> {
    let processes = fs::read_dir("/proc").map_err(|source| Error::Io { what: "listing /proc".into(), source })?;
    Ok(processes
        .flatten()
        .any(|process| fs::read_link(process.path().join("ns/pid")).is_ok_and(|link| link == Path::new(namespace))))
}

/// Whether a process has this mark. `unshare` and the first process of a site inherit it.
fn is_any_process_marked(mark: &str) -> Result<bool> {
    let processes = fs::read_dir("/proc").map_err(|source| Error::Io { what: "listing /proc".into(), source })?;
    let wanted = format!("{MARK}={mark}");
    Ok(processes.flatten().any(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    }))
}

fn host_state() -> Result<HostState> {
    read_host_state().map_err(|source| Error::Io { what: "reading the host's state".into(), source })
}

/// Checks that the host is unchanged. Other programs change it for a moment, so only a lasting difference counts.
fn check_unchanged(before: &HostState, how: &str) -> Result<()> {
    let mut different = Vec::new();
    let same = wait::until(how, Duration::from_secs(10), || {
        let after = host_state()?;
        // A listener of another program may have ended.
        let gone = before.difference(&after).filter(|line| !line.starts_with(LISTENS)).map(|line| format!("- {line}"));
        different = gone.chain(after.difference(before).map(|line| format!("+ {line}"))).collect();
        Ok(different.is_empty().then_some(()))
    });
    assert!(same.is_ok(), "{how}: {different:#?}");
    Ok(())
}

#[test]
fn a_changed_file_is_noticed() -> std::io::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("deep/hosts");
    fs::create_dir(dir.path().join("deep"))?;
    fs::write(&file, "one")?;
    let before = files_below(dir.path())?;
    assert_eq!((before.len(), &before), (2, &files_below(dir.path())?));
    // The clock of the file system ticks within this time.
    std::thread::sleep(Duration::from_millis(50));
    fs::write(&file, "two")?;
    assert_ne!(before, files_below(dir.path())?);
    Ok(())
}

#[test]
fn a_new_listener_is_noticed() -> std::io::Result<()> {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let found = listeners()?;
    for (protocol, address) in [("tcp", tcp.local_addr()?), ("udp", udp.local_addr()?)] {
        // The kernel prints the four bytes as one number in the machine's byte order.
        let local = format!("{protocol} {:08X}:{:04X}", u32::from_ne_bytes([127, 0, 0, 1]), address.port());
        assert!(found.contains(&local), "no {local} in {found:?}");
    }
    Ok(())
}

#[test]
fn a_site_leaves_the_host_unchanged() -> Result<()> {
    if let Err(reason) = can_hold_a_site() {
        return skip(&reason.to_string());
    }
    // The cached root file system is made first, because it stays on the host.
    let made = Command::new(env!("CARGO_BIN_EXE_testbed")).arg("root").status();
    assert!(made.is_ok_and(|status| status.success()));
    let before = host_state()?;

    let complete =
        start_testbed("to the end", "srun -N4 true && ssh -i .ssh/site_key testbed true && echo >/dev/shm/x")?;
    assert!(command::finish(complete)?.success());
    check_unchanged(&before, "after a run to its end")?;

    for signal in [Signal::SIGINT, Signal::SIGKILL, Signal::SIGTERM] {
        let mut running = start_testbed("half", "srun -N4 sleep 600 & readlink /proc/self/ns/pid; exec sleep 600")?;
        let mut namespace = String::new();
        let stdout = running.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
        for line in stdout.take(1) {
            namespace = line.map_err(|source| Error::Io { what: "reading its output".into(), source })?;
        }
        assert!(has_processes(&namespace)?, "the site did not start: {namespace:?}");

        let pid = Pid::from_raw(i32::try_from(running.id()).unwrap());
        // Ctrl-C reaches the whole group; a killed process cannot clean up.
        let sent = if signal == Signal::SIGINT { killpg(pid, signal) } else { kill(pid, signal) };
        sent.map_err(|errno| Error::Io { what: format!("sending {signal}"), source: errno.into() })?;
        running.wait().map_err(|source| Error::Io { what: "waiting for testbed".into(), source })?;
        wait::until(&format!("the end of all processes after {signal}"), Duration::from_secs(10), || {
            Ok((!has_processes(&namespace)?).then_some(()))
        })?;
        check_unchanged(&before, &format!("after {signal} half-way"))?;
    }
    Ok(())
}

#[test]
fn an_interrupted_start_leaves_nothing() -> Result<()> {
    if let Err(reason) = can_hold_a_site() {
        return skip(&reason.to_string());
    }
    let before = host_state()?;
    for milliseconds in [5, 20, 60, 120, 250] {
        let mark = format!("interrupted-{}-{milliseconds}", std::process::id());
        let mut starting = start_testbed(&mark, "sleep 600")?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        starting
            .kill()
            .and_then(|()| starting.wait())
            .map_err(|source| Error::Io { what: "killing testbed".into(), source })?;
        wait::until(&format!("the end of a site killed after {milliseconds} ms"), Duration::from_secs(10), || {
            Ok((!is_any_process_marked(&mark)?).then_some(()))
        })?;
    }
    check_unchanged(&before, "after five interrupted starts")
}

#[test]
fn a_site_can_run_in_a_chroot() -> Result<()> {
    if let Err(reason) = can_hold_a_site() {
        return skip(&reason.to_string());
    }
    let host = tempfile::tempdir().map_err(|source| Error::Io { what: "a temporary folder".into(), source })?;
    let script = "mount --rbind / \"$1\" && exec chroot \"$1\" \"$2\" exec --user alice -- srun hostname";
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120", "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(host.path())
        .arg(env!("CARGO_BIN_EXE_testbed"))
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Io { what: "starting a shell in a chroot".into(), source })?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout.trim(), "testbed", "{stderr}");
    Ok(())
}

/// Runs a shell script in the directory of this process's control group.
fn in_control_group(script: &str) -> Result<String> {
    let script = format!(
        "set -e; mount -t cgroup2 cgroup2 /sys/fs/cgroup; cd /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup); {script}"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", &script])
        .output()
        .map_err(|source| Error::Io { what: "looking at control groups".into(), source })?;
    assert!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_machine_removes_its_control_groups_and_those_of_killed_tests() -> Result<()> {
    let options = Options { systemd: true, product: false, nodes: 1, ..Options::new()? };
    if options.foreign.is_some() {
        return skip("it needs a site of its own");
    }
    let site = match Site::without_services(options) {
        Err(error @ Error::Impossible(_)) => return skip(&error.to_string()),
        site => site?,
    };
    match Machine::boot(&site) {
        Err(error @ Error::Impossible(_)) => return skip(&error.to_string()),
        machine => machine?,
    };
    // No process has an id beyond 4194304.
    in_control_group("mkdir -p testbed-4194305-machine/system.slice/some.service")?;
    let left = format!("find . -path './testbed-{}-*' -o -path './testbed-4194305-*'", site.init_pid());
    let groups = in_control_group(&left)?;
    assert!(groups.contains("system.slice/systemd-journald.service/cgroup.procs"), "{groups}");
    drop(site);
    assert_eq!(in_control_group(&left)?, "");
    Ok(())
}
