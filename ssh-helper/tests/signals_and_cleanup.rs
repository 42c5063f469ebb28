// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ignored signals stay ignored, and the helper removes its own directories only.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "clippy recognises test code only by its attribute")]

mod test_home;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use test_home::{TOKEN, TestHome};

/// Starts the helper from a shell that has run `setup`, and waits until it has started ssh.
fn start(home: &TestHome, setup: &str) -> Child {
    let token = home.path("token");
    let mut command = home.command_after(setup, &["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&home.path("started"));
    child
}

fn wait_for(file: &Path) {
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "{} did not appear", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The names in the runtime directory.
fn names(home: &TestHome) -> Vec<String> {
    let entries = fs::read_dir(home.path("run")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An ssh that runs until the file `go` exists, for 20 seconds at most.
const WAIT_FOR_GO: &str = "touch $out/started; for i in $(seq 1000); do [ -e $out/go ] && exit 7; sleep 0.02; done";

#[test]
fn ignored_signals_stay_ignored_in_helper_and_ssh() {
    let home = TestHome::new(&format!("kill -HUP $$; kill -INT $$; kill -QUIT $$; {WAIT_FOR_GO}"), TOKEN);
    let mut child = start(&home, "trap '' HUP INT QUIT");
    for signal in ["HUP", "INT", "QUIT"] {
        send(signal, &child);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(child.try_wait().unwrap(), None);
    fs::write(home.path("go"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_signal_that_is_not_ignored_ends_ssh() {
    let home = TestHome::new(WAIT_FOR_GO, TOKEN);
    let mut child = start(&home, "trap '' HUP");
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(home.runtime_directory_is_empty());
}

#[test]
fn a_command_that_hangs_keeps_nobody_when_ssh_has_ended() {
    let home = TestHome::new("ask '(alice@testbed) Access Token: '", TOKEN);
    fs::create_dir_all(home.path(".config/mytoken")).unwrap();
    home.program("slow", &format!("touch {}; exec sleep 60", home.path("asked").display()));
    fs::write(home.path(".config/mytoken/hosts.toml"), "[[host]]\npattern = \"tb\"\ncommand = [\"slow\"]\n").unwrap();
    let mut child = home.command(&["ssh", "tb"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&home.path("asked"));
    let begin = Instant::now();
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(!told.contains("40 s"), "{told}");
}

#[test]
fn the_next_run_removes_only_the_directory_of_a_killed_helper() {
    let home = TestHome::new(WAIT_FOR_GO, TOKEN);
    let mut killed = start(&home, "true");
    let left = names(&home);
    assert_eq!(left.len(), 1);
    send("KILL", &killed);
    killed.wait().unwrap();
    assert_eq!(names(&home), left);

    // Files, links and directories with such a name that no run has created.
    let run = home.path("run");
    let target = home.path("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(target.join("socket"), "").unwrap();
    symlink(&target, run.join("mytoken-ssh-link")).unwrap();
    fs::write(run.join("mytoken-ssh-file"), "").unwrap();
    let others = ["mytoken-ssh-open", "mytoken-ssh-full", "mytoken-ssh-nobody", "other"];
    for name in others {
        fs::create_dir(run.join(name)).unwrap();
        fs::set_permissions(run.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(run.join("mytoken-ssh-full/thesis"), "").unwrap();
    fs::set_permissions(run.join("mytoken-ssh-open"), fs::Permissions::from_mode(0o755)).unwrap();
    let root = nix::unistd::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(run.join("mytoken-ssh-nobody"), Some(65_534), None).unwrap();
    }
    fs::remove_file(home.path("started")).unwrap();
    // A run that has not ended.
    let mut living = start(&home, "true");
    let found = names(&home);
    assert!(!found.contains(&left[0]), "{found:?}");

    let after = TestHome::new("exit 0", TOKEN);
    let token = after.path("token");
    let mut command = after.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
    assert!(command.env("XDG_RUNTIME_DIR", &run).status().unwrap().success());
    assert_eq!(names(&home), found);
    for name in ["mytoken-ssh-link", "mytoken-ssh-file", "mytoken-ssh-open", "mytoken-ssh-full", "other"] {
        assert!(found.iter().any(|found| found == name), "{name}: {found:?}");
    }
    assert_eq!(found.iter().any(|found| found == "mytoken-ssh-nobody"), root, "{found:?}");
    assert!(run.join("mytoken-ssh-full/thesis").exists() && target.join("socket").exists());
    fs::write(home.path("go"), "").unwrap();
    assert_eq!(living.wait().unwrap().code(), Some(7));
}

#[test]
fn the_path_of_the_temporary_directory_may_be_long() {
    for length in [60, 90, 107, 108, 300, 1000] {
        let home = TestHome::new("ask '(alice@testbed) Access Token: '; exit 7", TOKEN);
        let mut directory = home.path("tmp");
        while directory.as_os_str().len() < length {
            directory.push("x".repeat((length - directory.as_os_str().len()).clamp(2, 200) - 1));
        }
        fs::create_dir_all(&directory).unwrap();
        let token = home.path("token");
        let mut command = home.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
        let output = command.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", &directory).output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{length}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(home.answers(), [format!("[0] {TOKEN}")], "{length}");
        assert!(home.read("listing").contains("srw------- "), "{length}: {}", home.read("listing"));
        assert!(fs::read_dir(&directory).unwrap().next().is_none(), "{length}");
    }
}
