// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first process of a site: builds its root and network, then waits for the end of the site.
//!
//! It runs in new namespaces (made by `unshare`, see `namespace`) and ends at the end of its standard input, which the
//! kernel closes when the process that holds the site ends in any way. Then the kernel kills everything inside.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, fchdir, pivot_root, sethostname};

use crate::error::WithContext;
use crate::site::emulation;
use crate::site::plan::{HOST_NAME, Installation, Network, Plan, SERVER_NAMES, STATE_DIR};
use crate::site::users;
use crate::{Error, Result};

/// Character devices of a site, with their numbers. They are new nodes: through bind mounts of the host's nodes, a
/// `chmod` inside would change the host.
const DEVICES: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Builds the site of this plan, prints `ready PID` (its process id on the host) and waits until standard input ends.
///
/// # Errors
/// When a part of the site could not be built.
pub fn run(plan: &Plan) -> Result<()> {
    // `/proc` is still the host's here, so this is the process id on the host.
    let host_pid = fs::read_link("/proc/self").with_context(|| "reading /proc/self".into())?;
    let new_root = mount_overlay(plan)?;
    mount_kernel_file_systems(&new_root, plan.emulated)?;
    if plan.emulated {
        emulation::register(&new_root)?;
    }
    for (outside, inside) in &plan.binds {
        bind(outside, &new_root.join(inside.strip_prefix("/").unwrap_or(inside)))?;
    }
    match &plan.install {
        None => {}
        Some(Installation::Make { repository, profile }) => make_install(repository, profile, &new_root)?,
        Some(Installation::Packages { files, layer }) => {
            install_packages(files, &new_root, plan.emulated)?;
            // At this point the upper directory contains only what the packages changed.
            if let Some(layer) = layer {
                run_to_end(Command::new("cp").arg("-a").arg(plan.mount_point.join("upper")).arg(layer))?;
            }
        }
    }
    let resolver = fs::read("/etc/resolv.conf").unwrap_or_default();
    enter_root(&new_root)?;
    sethostname(HOST_NAME).with_context(|| "setting the host name".into())?;
    write_names(plan.network, &resolver)?;
    if plan.network == Network::Own {
        create_network(plan.network)?;
    }
    create_run_directories()?;
    if plan.users {
        users::create()?;
    }

    let mut out = io::stdout();
    writeln!(out, "ready {}", host_pid.display())
        .and_then(|()| out.flush())
        .with_context(|| "writing to standard output".into())?;
    wait_for_end_of_input()
}

/// Mounts an overlay of the cached root and a memory file system.
fn mount_overlay(plan: &Plan) -> Result<PathBuf> {
    let base = &plan.mount_point;
    mount_at(Some("tmpfs"), base, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    let new_root = base.join("root");
    for directory in ["upper", "work", "root"] {
        make_directory(&base.join(directory), 0o755)?;
    }
    // The options of an overlay cannot hold a colon or a comma: links with short names instead of paths.
    chdir(base).with_context(|| format!("entering {}", base.display()))?;
    symlink(&plan.root, "lower").with_context(|| "linking the root file system".into())?;
    let lower = match &plan.layer {
        Some(layer) => symlink(layer, "layer").map(|()| "layer:lower").with_context(|| "linking the layer".into())?,
        None => "lower",
    };
    // In a user namespace an overlay cannot use its usual extended attributes.
    let attributes = if plan.emulated { ",userxattr" } else { "" };
    let options = format!("lowerdir={lower},upperdir=upper,workdir=work{attributes}");
    mount_at(Some("overlay"), &new_root, Some("overlay"), MsFlags::empty(), Some(&options))?;
    Ok(new_root)
}

fn mount_kernel_file_systems(new_root: &Path, in_user_namespace: bool) -> Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    mount_at(Some("proc"), &new_root.join("proc"), Some("proc"), quiet, None)?;
    // hwloc reads /sys/devices. A new sysfs has the site's network and does not have the host's cgroups.
    mount_at(Some("sysfs"), &new_root.join("sys"), Some("sysfs"), quiet | MsFlags::MS_RDONLY, None)?;
    mount_at(
        Some("tmpfs"),
        &new_root.join("run"),
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=755"),
    )?;
    let dev = new_root.join("dev");
    mount_at(Some("tmpfs"), &dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"))?;
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        if in_user_namespace {
            // Here no node can be made. The bind mount is read-only, so that `chmod` fails; writing to the device works.
            bind(&Path::new("/dev").join(name), &path)?;
            continue;
        }
        mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(*major, *minor))
            .with_context(|| format!("making {}", path.display()))?;
        set_mode(&path, 0o666)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name)).with_context(|| format!("making /dev/{name}"))?;
    }
    make_directory(&dev.join("pts"), 0o755)?;
    make_directory(&dev.join("shm"), 0o1777)?;
    mount_at(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::MS_NOSUID,
        Some("newinstance,gid=5,mode=620,ptmxmode=666"),
    )?;
    mount_at(Some("tmpfs"), &dev.join("shm"), Some("tmpfs"), quiet, Some("mode=1777"))
}

fn bind(outside: &Path, inside: &Path) -> Result<()> {
    if outside.is_dir() {
        make_directory(inside, 0o755)?;
    } else {
        File::create(inside).with_context(|| format!("creating {}", inside.display()))?;
    }
    mount(Some(outside), inside, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("binding {}", outside.display()))?;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, inside, None::<&str>, read_only, None::<&str>)
        .with_context(|| format!("binding {}", outside.display()))
}

/// Installs the files of the packages, without their scripts, into this site's own layer of the overlay.
fn make_install(repository: &Path, profile: &str, new_root: &Path) -> Result<()> {
    let mut make = Command::new("make");
    make.args(["--silent", "--no-print-directory", "-C"])
        .arg(repository)
        .arg("install")
        .arg(format!("DESTDIR={}", new_root.display()))
        .arg(format!("PROFILE={profile}"))
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    run_to_end(&mut make)
}

/// Installs packages with their scripts, as an administrator does.
fn install_packages(files: &[PathBuf], new_root: &Path, emulated: bool) -> Result<()> {
    let directory = new_root.join("run/packages");
    make_directory(&directory, 0o755)?;
    for file in files {
        let name = file.file_name().unwrap_or_default();
        fs::copy(file, directory.join(name)).with_context(|| format!("copying {}", file.display()))?;
    }
    let (for_all, others): (Vec<_>, Vec<_>) =
        files.iter().partition(|file| emulated && file.to_string_lossy().ends_with("_all.deb"));
    dpkg(new_root, &[], &others)?;
    if !for_all.is_empty() {
        // In a root for amd64, mytoken-sshd-config (for all architectures) depends on the module for amd64.
        dpkg(new_root, &["--force-depends"], &for_all)?;
    }
    fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))
}

/// Installs these packages, of which there are copies in `/run/packages`.
fn dpkg(new_root: &Path, options: &[&str], files: &[&PathBuf]) -> Result<()> {
    let mut dpkg = Command::new("chroot");
    dpkg.arg(new_root).arg("dpkg").args(options).arg("--install").env_clear();
    dpkg.envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("DEBIAN_FRONTEND", "noninteractive")]);
    dpkg.args(files.iter().map(|file| Path::new("/run/packages").join(file.file_name().unwrap_or_default())));
    run_to_end(&mut dpkg)
}

fn run_to_end(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {line}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        command: line,
        status: output.status.to_string(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Makes `new_root` the root and unmounts the host's root. `chroot` is not enough, because `nsenter` enters the root of
/// the namespace.
fn enter_root(new_root: &Path) -> Result<()> {
    let entering = || format!("entering {}", new_root.display());
    let new_root = File::open(new_root).with_context(entering)?;
    // If the host is in a chroot, the root of the namespace is above it. `setns` moves this process there.
    let own = File::open("/proc/self/ns/mnt").with_context(entering)?;
    setns(own, CloneFlags::CLONE_NEWNS).with_context(entering)?;
    fchdir(&new_root).with_context(entering)?;
    pivot_root(".", ".").with_context(|| "changing the root".into())?;
    umount2(".", MntFlags::MNT_DETACH).with_context(|| "leaving the host's root".into())?;
    chdir("/").with_context(|| "entering /".into())
}

fn write_names(network: Network, resolver: &[u8]) -> Result<()> {
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n{} {HOST_NAME} {}\n",
        network.address(),
        SERVER_NAMES.join(" ")
    );
    write("/etc/hosts", hosts.as_bytes())?;
    write("/etc/hostname", format!("{HOST_NAME}\n").as_bytes())?;
    // In its own network the site has no resolver. An empty file lets look-ups fail at once.
    write("/etc/resolv.conf", if network == Network::Callers { resolver } else { b"" })
}

/// Makes a `veth` pair with both ends in the site. A `dummy` device would be enough, but a kernel may lack that type.
fn create_network(network: Network) -> Result<()> {
    let address = format!("{}/24", network.address());
    let steps: [&[&str]; 5] = [
        &["link", "set", "lo", "up"],
        &["link", "add", "site0", "type", "veth", "peer", "name", "site1"],
        &["addr", "add", &address, "dev", "site0"],
        &["link", "set", "site0", "up"],
        &["link", "set", "site1", "up"],
    ];
    for step in steps {
        let output =
            Command::new("ip").args(step).stdin(Stdio::null()).output().with_context(|| "starting ip".into())?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Refused(format!("ip {}: {reason}", step.join(" "))));
        }
    }
    Ok(())
}

fn create_run_directories() -> Result<()> {
    for (path, mode) in [
        (STATE_DIR, 0o755),
        ("/run/testbed/pid", 0o755),
        ("/run/testbed/nodes", 0o755),
        ("/run/lock", 0o1777),
        ("/run/sshd", 0o755),
        ("/run/munge", 0o755),
        ("/run/mytoken", 0o711),
    ] {
        make_directory(Path::new(path), mode)?;
    }
    Ok(())
}

/// Reaps orphaned processes until standard input ends.
fn wait_for_end_of_input() -> Result<()> {
    std::thread::spawn(|| {
        loop {
            // The first process inherits all orphans. Without children `wait` fails, so it is called again later.
            if nix::sys::wait::wait().is_err() {
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        }
    });
    io::copy(&mut io::stdin().lock().take(u64::MAX), &mut io::sink())
        .map(drop)
        .with_context(|| "waiting for the end of the site".into())
}

fn mount_at(source: Option<&str>, at: &Path, kind: Option<&str>, flags: MsFlags, options: Option<&str>) -> Result<()> {
    mount(source, at, kind, flags, options)
        .with_context(|| format!("mounting {} on {}", kind.unwrap_or("-"), at.display()))
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

fn write(path: &str, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("writing {path}"))
}
