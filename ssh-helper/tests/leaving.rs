// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the helper changes of its surroundings: signals that were ignored, directories that were left behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

mod world;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use world::{TOKEN, World};

/// The helper in a shell that has begun with `setup`; it is the child itself.
fn start(world: &World, setup: &str) -> Child {
    let token = world.path("token");
    let mut command = Command::new("env");
    command
        .args([
            "--default-signal=HUP,INT,QUIT",
            "sh",
            "-c",
            &format!("{setup}; exec \"$@\""),
            "sh",
            env!("CARGO_BIN_EXE_mytoken-ssh"),
        ])
        .args(["ssh", "--token-file", token.to_str().unwrap(), "tb"])
        .env("PATH", format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap()))
        .env("HOME", world.dir.path())
        .env("XDG_RUNTIME_DIR", world.path("run"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().unwrap();
    wait_for(&world.path("started"));
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
fn names(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path("run")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An ssh that lives until it may go.
const LONG_LIVED: &str = "touch $out/started; for i in $(seq 1000); do [ -e $out/go ] && exit 7; sleep 0.02; done";

#[test]
fn ignored_signals_stay_ignored_for_helper_and_ssh() {
    let world = World::new(&format!("kill -HUP $$; kill -INT $$; kill -QUIT $$; {LONG_LIVED}"), TOKEN);
    let mut child = start(&world, "trap '' HUP INT QUIT");
    for signal in ["HUP", "INT", "QUIT"] {
        send(signal, &child);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(child.try_wait().unwrap(), None);
    fs::write(world.path("go"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn what_is_not_ignored_still_ends_ssh() {
    let world = World::new(LONG_LIVED, TOKEN);
    let mut child = start(&world, "trap '' HUP");
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(world.nothing_is_left());
}

#[test]
fn what_a_killed_helper_left_is_swept_by_the_next_and_nothing_else() {
    let world = World::new(LONG_LIVED, TOKEN);
    let mut killed = start(&world, "true");
    let left = names(&world);
    assert_eq!(left.len(), 1);
    send("KILL", &killed);
    killed.wait().unwrap();
    assert_eq!(names(&world), left);

    // Things of the same name that are not the helper's.
    let run = world.path("run");
    let precious = world.path("precious");
    fs::create_dir(&precious).unwrap();
    fs::set_permissions(&precious, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(precious.join("socket"), "").unwrap();
    symlink(&precious, run.join("mytoken-ssh-link")).unwrap();
    fs::write(run.join("mytoken-ssh-file"), "").unwrap();
    let mine = ["mytoken-ssh-open", "mytoken-ssh-full", "mytoken-ssh-nobody", "other"];
    for name in mine {
        fs::create_dir(run.join(name)).unwrap();
        fs::set_permissions(run.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(run.join("mytoken-ssh-full/thesis"), "").unwrap();
    fs::set_permissions(run.join("mytoken-ssh-open"), fs::Permissions::from_mode(0o755)).unwrap();
    let root = nix::unistd::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(run.join("mytoken-ssh-nobody"), Some(65_534), None).unwrap();
    }
    fs::remove_file(world.path("started")).unwrap();
    // One that lives.
    let mut living = start(&world, "true");
    let found = names(&world);
    assert!(!found.contains(&left[0]), "{found:?}");

    let after = World::new("exit 0", TOKEN);
    let token = after.path("token");
    let mut command = after.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
    assert!(command.env("XDG_RUNTIME_DIR", &run).status().unwrap().success());
    assert_eq!(names(&world), found);
    for name in ["mytoken-ssh-link", "mytoken-ssh-file", "mytoken-ssh-open", "mytoken-ssh-full", "other"] {
        assert!(found.iter().any(|found| found == name), "{name}: {found:?}");
    }
    assert_eq!(found.iter().any(|found| found == "mytoken-ssh-nobody"), root, "{found:?}");
    assert!(run.join("mytoken-ssh-full/thesis").exists() && precious.join("socket").exists());
    fs::write(world.path("go"), "").unwrap();
    assert_eq!(living.wait().unwrap().code(), Some(7));
}

#[test]
fn a_long_path_of_temporary_files_is_no_hindrance() {
    for length in [60, 90, 107, 108, 300, 1000] {
        let world = World::new("ask '(alice@testbed) Access Token: '; exit 7", TOKEN);
        let mut directory = world.path("tmp");
        while directory.as_os_str().len() < length {
            directory.push("x".repeat((length - directory.as_os_str().len()).clamp(2, 200) - 1));
        }
        fs::create_dir_all(&directory).unwrap();
        let token = world.path("token");
        let mut command = world.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
        let output = command.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", &directory).output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{length}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(world.answers(), [format!("[0] {TOKEN}")], "{length}");
        assert!(world.read("listing").contains("srw------- "), "{length}: {}", world.read("listing"));
        assert!(fs::read_dir(&directory).unwrap().next().is_none(), "{length}");
    }
}
