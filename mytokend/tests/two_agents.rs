// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two agents with one runtime directory.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mytoken::config::FileTrust;
use mytoken::private_files::Owner;

/// A process that does not outlive a failed test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent(dir: &Path, socket: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mytokend"));
    command.args(["agent", "--stderr", "--config"]).arg(dir).arg("--runtime-dir").arg(dir.join("run"));
    command.arg("--socket").arg(dir.join(socket)).stderr(Stdio::piped());
    command
}

/// Starts an agent and waits until it listens.
fn start(dir: &Path, socket: &str) -> std::io::Result<Agent> {
    let child = Agent(agent(dir, socket).spawn()?);
    let begin = Instant::now();
    while UnixStream::connect(dir.join(socket)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the agent does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}

#[test]
fn the_second_agent_of_a_runtime_directory_is_refused_until_the_first_is_gone() {
    // Root reads no configuration below a directory that others can write, like /tmp.
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let refused = Owner::current().uid == 0 && FileTrust::ROOT.directory(built).is_err();
    let dir = tempfile::tempdir_in(if refused { Path::new("/run") } else { built }).unwrap();
    fs::write(dir.path().join("mytoken.toml"), "").unwrap();
    let mut first = start(dir.path(), "first.sock").unwrap();
    let pid = first.0.id();
    let second = agent(dir.path(), "second.sock").output().unwrap();
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && told.contains(&format!("another agent (process {pid}) uses")), "{told}");
    assert!(!dir.path().join("second.sock").exists());
    assert!(agent(dir.path(), "second.sock").arg("--check").status().unwrap().success());
    // Killed, it leaves the file, but not the lock.
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let mut told = String::new();
    first.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(!told.contains("stopped"), "{told}");
    start(dir.path(), "second.sock").unwrap();
}
