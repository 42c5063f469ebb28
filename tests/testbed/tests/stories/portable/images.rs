// SPDX-License-Identifier: MIT OR Apache-2.0
//! The container images of `make image`, run by podman.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use testbed::{Error, Result, can_hold_a_site, has_program, skip};

use super::{built, run, temporary};

/// Podman's options for containers in these tests, which may themselves run in a container without a hierarchy of cgroups for them, and
/// with lower limits than podman sets.
const RUN: &[&str] = &[
    "run",
    "--rm",
    "--network",
    "none",
    "--cgroups",
    "disabled",
    "--ulimit",
    "nofile=1024:4096",
    "--ulimit",
    "nproc=512:512",
];

/// As `mytokend.service` limits the agent.
const LIMITED: &[&str] = &[
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "all",
    "--cap-add",
    "chown,dac_override,fowner,setgid,setuid",
    "--security-opt",
    "no-new-privileges",
];

/// The health check of the page on container images.
const HEALTH: &str = "mytokenctl status --json >/dev/null";

/// podman with a store of its own.
struct Podman {
    store: tempfile::TempDir,
    image: String,
}

impl Podman {
    /// With the image of a package loaded; `None` after the test was recorded as skipped.
    fn with(package: &str) -> Result<Option<Self>> {
        let Some(archives) = built("image", ".oci.tar")? else { return Ok(None) };
        if !has_program("podman") {
            return skip("podman is not installed").map(|()| None);
        }
        match can_hold_a_site() {
            Err(error @ Error::Impossible(_)) => return skip(&error.to_string()).map(|()| None),
            other => other?,
        }
        let name = format!("{package}-{}.oci.tar", env!("CARGO_PKG_VERSION"));
        let archive = archives.iter().find(|archive| archive.file_name().is_some_and(|file| *file == *name));
        let archive = archive.ok_or_else(|| Error::Refused(format!("{name} is not among {archives:?}")))?;
        let podman = Self { store: temporary()?, image: format!("localhost/{package}:{}", env!("CARGO_PKG_VERSION")) };
        podman.ok(&["load", "--quiet", "--input", &archive.display().to_string()])?;
        Ok(Some(podman))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // crun does not run where cgroups of both versions are mounted. Here it sees those of version 2.
        let script = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; \
                      exec podman --root \"$0/store\" --runroot \"$0/run\" --storage-driver vfs \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(self.store.path())
            .args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Result<Output> {
        run(&mut self.command(arguments))
    }

    /// The standard output of a command of podman that must succeed.
    fn ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The standard output of a container.
    fn run(&self, options: &[&str], arguments: &[&str]) -> Result<String> {
        self.ok(&[RUN, options, &[&self.image], arguments].concat())
    }

    /// The image has the licences of all crates in its programs, which must come with each copy. It has no file that is setuid or setgid,
    /// and nothing of the host that made it.
    fn holds_what_it_should(&self, package: &str) -> Result<()> {
        let look = format!(
            "test -s /usr/share/doc/{package}/copyright && zcat -f /usr/share/doc/{package}/THIRD-PARTY.txt*; \
             find / -xdev -type f -perm /6000"
        );
        let seen = self.run(&["--user", "0", "--entrypoint", "/bin/sh"], &["-c", &look])?;
        assert_eq!(seen.strip_prefix(include_str!("../../../../../THIRD-PARTY.txt")), Some(""), "{package}");
        // Not in a container, where podman puts files of its own over these.
        let mounted = self.ok(&["image", "mount", &self.image])?;
        let etc = Path::new(mounted.trim()).join("etc");
        assert!(etc.join("os-release").exists(), "{}", etc.display());
        for file in ["hostname", "resolv.conf"] {
            assert!(!etc.join(file).exists(), "{package} has /etc/{file}");
        }
        Ok(())
    }

    fn label(&self, name: &str) -> Result<String> {
        let format = format!("{{{{index .Labels \"org.opencontainers.image.{name}\"}}}}");
        Ok(self.ok(&["image", "inspect", "--format", &format, &self.image])?.trim().to_owned())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.output(&["rm", "--all", "--force", "--time", "0"]);
    }
}

/// The directories that an agent is given: its configuration, and the runtime directory of the host.
fn agent_directories(folder: &Path) -> Result<[PathBuf; 2]> {
    let io = |source| Error::Io { what: "writing the agent's files".into(), source };
    let (etc, run) = (folder.join("etc"), folder.join("run"));
    for (directory, mode) in [(&etc, 0o755), (&run, 0o711)] {
        fs::create_dir(directory).map_err(io)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).map_err(io)?;
    }
    let settings = "[[server]]\nname = \"mytoken\"\nurl = \"https://mytoken.example.org\"\n\n[[issuer]]\nname = \"op\"\n\
                    url = \"https://op.example.org\"\naudiences = [\"https://cluster.example.org\"]\n";
    fs::write(etc.join("mytoken.toml"), settings).map_err(io)?;
    fs::set_permissions(etc.join("mytoken.toml"), fs::Permissions::from_mode(0o644)).map_err(io)?;
    Ok([etc, run])
}

#[test]
fn the_client_runs_without_root_and_brings_ssh() -> Result<()> {
    let Some(podman) = Podman::with("mytoken-ssh")? else { return Ok(()) };
    let version = podman.run(&[], &["--version"])?;
    assert_eq!(version.trim(), concat!("mytoken-ssh ", env!("CARGO_PKG_VERSION")));
    let look = "id -u; ssh -V 2>&1 | cut -d. -f1; touch ~/file && echo writable; \
                test -s /etc/ssl/certs/ca-certificates.crt && echo certificates";
    let seen = podman.run(&["--entrypoint", "/bin/sh"], &["-c", look])?;
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[1].starts_with("OpenSSH_"), "{seen}");
    assert_eq!((lines[0], &lines[2..]), ("1000", &["writable", "certificates"][..]), "{seen}");
    podman.holds_what_it_should("mytoken-ssh")?;
    for (label, expected) in
        [("title", "mytoken-ssh"), ("version", env!("CARGO_PKG_VERSION")), ("licenses", "MIT OR Apache-2.0")]
    {
        assert_eq!(podman.label(label)?, expected);
    }
    Ok(())
}

#[test]
fn the_agent_tells_its_health_and_ends_when_podman_stops_it() -> Result<()> {
    let Some(podman) = Podman::with("mytokend")? else { return Ok(()) };
    let folder = temporary()?;
    let [etc, run] = agent_directories(folder.path())?;
    let mounts = [format!("{}:/etc/mytoken:ro", etc.display()), format!("{}:/run/mytoken", run.display())];
    podman.holds_what_it_should("mytokend")?;
    let options = [
        "--detach",
        "--name",
        "agent",
        "--volume",
        &mounts[0],
        "--volume",
        &mounts[1],
        "--health-cmd",
        HEALTH,
        "--health-interval",
        "disable",
    ];
    podman.run(&[&options[..], LIMITED].concat(), &[])?;
    let mut answer = podman.output(&["exec", "agent", "mytokenctl", "status", "--json"])?;
    for _ in 0..50 {
        if answer.status.success() {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
        answer = podman.output(&["exec", "agent", "mytokenctl", "status", "--json"])?;
    }
    assert!(answer.status.success(), "{answer:?}\n{:?}", podman.output(&["logs", "agent"])?);
    assert!(run.join("agent.sock").exists(), "the host's programs find the socket");
    podman.ok(&["healthcheck", "run", "agent"])?;
    fs::remove_file(run.join("agent.sock"))
        .map_err(|source| Error::Io { what: "removing the socket".into(), source })?;
    assert!(!podman.output(&["healthcheck", "run", "agent"])?.status.success(), "nobody can reach this agent");
    let begin = Instant::now();
    podman.ok(&["stop", "--time", "30", "agent"])?;
    assert!(begin.elapsed() < Duration::from_secs(25), "the agent was killed, because it did not end");
    Ok(())
}

#[test]
fn agent_and_broker_say_what_they_lack() -> Result<()> {
    for image in ["mytokend", "mytokend-broker"] {
        let Some(podman) = Podman::with(image)? else { return Ok(()) };
        let output = podman.output(&[RUN, &[&podman.image]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("/etc/mytoken/mytoken.toml"), "{output:?}");
    }
    Ok(())
}

#[test]
fn the_broker_brings_the_programs_that_it_asks_and_no_key() -> Result<()> {
    let Some(podman) = Podman::with("mytokend-broker")? else { return Ok(()) };
    // Slurm's programs do nothing without a slurm.conf.
    let look = "for program in squeue scontrol munge unmunge; do \
                    ldd $(command -v $program) | grep 'not found' || echo $program; \
                done; unmunge --version | cut -d- -f1; id -u; ls -A /etc/munge";
    let seen = podman.run(&["--entrypoint", "/bin/sh"], &["-c", look])?;
    assert_eq!(seen, "squeue\nscontrol\nmunge\nunmunge\nmunge\n0\n");
    podman.holds_what_it_should("mytokend")?;
    assert_eq!(podman.label("title")?, "mytokend-broker");
    Ok(())
}
