// SPDX-License-Identifier: MIT OR Apache-2.0
//! Root file systems: one directory per Debian release. mmdebstrap creates it once; later it is only read.
//!
//! `<target>/roots/<name>/` is the root. `<name>.stamp` contains its recipe. The lock on `<name>.lock` is shared while
//! a site uses the root, and exclusive while the root is created.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::WithContext;
use crate::site::emulation::{REGISTERED, USER_NAMESPACE};
use crate::site::paths;
use crate::{Error, Release, Result};

/// Packages of a site, in addition to Debian's essential packages.
const SITE_PACKAGES: &[&str] = &[
    "slurmctld",
    "slurmd",
    "slurm-client",
    "munge",
    "openssh-server",
    "openssh-client",
    "curl",
    "ca-certificates",
    "procps",
    "iproute2",
    "mount",
    "jq",
    "expect",
    "pamtester",
    "keyutils",
];

/// Packages of a site that boots systemd, in addition to [`SITE_PACKAGES`].
const SYSTEMD_PACKAGES: &[&str] = &["systemd", "systemd-sysv", "dbus", "libpam-systemd"];

/// What Ansible needs on the hosts that it sets up, in addition to [`SYSTEMD_PACKAGES`].
const ANSIBLE_PACKAGES: &[&str] = &["python3", "python3-apt"];
/// Packages of a site with fail2ban, in addition to those of a site that boots systemd.
const FAIL2BAN_PACKAGES: &[&str] = &["fail2ban", "python3-systemd", "nftables"];

/// Packages of a site with real storage servers, their clients and slurmrestd, in addition to [`SITE_PACKAGES`].
const CLIENTS_PACKAGES: &[&str] = &[
    "apache2",
    "libapache2-mod-oauth2",
    "bubblewrap",
    "davix",
    "gfal2-plugin-file",
    "gfal2-plugin-http",
    "gfal2-util-scripts",
    "rclone",
    "slurmrestd",
    "xrootd-client",
    "xrootd-client-http-plugins",
    "xrootd-scitokens-plugins",
    "xrootd-server",
];

/// Packages of a site with other ssh clients than OpenSSH's, in addition to [`SITE_PACKAGES`]: programs, programs that run
/// ssh, and libraries with a compiler for programs that use them.
const SSH_CLIENTS_PACKAGES: &[&str] = &[
    "dropbear-bin",
    "git",
    "rsync",
    "putty-tools",
    "sshpass",
    "oidc-agent-cli",
    "python3-asyncssh",
    "python3-paramiko",
    "libssh-dev",
    "libssh2-1-dev",
    "gcc",
    "libc6-dev",
];

/// Packages of a site whose jobs are recorded in a database, in addition to [`SITE_PACKAGES`].
const ACCOUNTING_PACKAGES: &[&str] = &["slurmdbd", "mariadb-server"];

/// Those of [`SITE_PACKAGES`] that are for arm64 in an emulated site.
const ARM64_PACKAGES: &[&str] =
    &["slurmctld", "slurmd", "slurm-client", "munge", "openssh-server", "openssh-client", "pamtester"];

/// How a root file system is made.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: String,
    /// The root that is copied first, and without which this one takes twice as long.
    base: Option<Box<Self>>,
    arguments: Vec<String>,
    /// Whether programs for arm64 run while the root is made.
    emulated: bool,
}

impl Recipe {
    /// The root of a site of this release.
    #[must_use]
    pub fn site(release: Release) -> Self {
        Self::with_packages(release.name(), release, SITE_PACKAGES)
    }

    /// The roots of `make test`.
    #[must_use]
    pub fn of_stories(release: Release) -> Vec<Self> {
        [
            Self::site,
            Self::systemd_site,
            Self::ansible_site,
            Self::fail2ban_site,
            Self::python_site,
            Self::node_site,
            Self::clients_site,
            Self::ssh_clients_site,
            Self::accounting_site,
            Self::adopting_site,
        ]
        .map(|recipe| recipe(release))
        .into()
    }

    /// The root of a site that boots systemd.
    #[must_use]
    pub fn systemd_site(release: Release) -> Self {
        Self::site(release).with("systemd", release, SYSTEMD_PACKAGES)
    }

    /// The same with what Ansible needs.
    #[must_use]
    pub fn ansible_site(release: Release) -> Self {
        Self::systemd_site(release).with("ansible", release, ANSIBLE_PACKAGES)
    }

    /// A site that boots systemd with fail2ban, and what it needs to read the journal and to ban.
    #[must_use]
    pub fn fail2ban_site(release: Release) -> Self {
        Self::systemd_site(release).with("fail2ban", release, FAIL2BAN_PACKAGES)
    }

    /// The root of a site with Python.
    #[must_use]
    pub fn python_site(release: Release) -> Self {
        Self::site(release).with("python", release, &["python3"])
    }

    /// The root of a site with Node.
    #[must_use]
    pub fn node_site(release: Release) -> Self {
        Self::site(release).with("node", release, &["nodejs"])
    }

    /// The root of a site with the data clients and storage servers of Debian.
    #[must_use]
    pub fn clients_site(release: Release) -> Self {
        Self::site(release).with("clients", release, CLIENTS_PACKAGES)
    }

    /// The root of a site with other ssh clients than OpenSSH's.
    #[must_use]
    pub fn ssh_clients_site(release: Release) -> Self {
        Self::site(release).with("ssh-clients", release, SSH_CLIENTS_PACKAGES)
    }

    /// The root of a site with slurmdbd and its database.
    #[must_use]
    pub fn accounting_site(release: Release) -> Self {
        Self::site(release).with("accounting", release, ACCOUNTING_PACKAGES)
    }

    /// The root of a site whose sshd puts sessions into jobs.
    #[must_use]
    pub fn adopting_site(release: Release) -> Self {
        Self::site(release).with("adopt", release, &["libpam-slurm-adopt"])
    }

    /// This root with more packages. `name` and the release make its name.
    fn with(self, name: &str, release: Release, packages: &[&str]) -> Self {
        let install = format!(
            "--customize-hook=chroot \"$1\" apt-get --yes --no-install-recommends install {}",
            packages.join(" ")
        );
        let mut arguments = vec!["--variant=custom".to_owned(), format!("--setup-hook={COPY_BASE}"), install];
        arguments.extend(apt_options(release));
        arguments.push(release.name().to_owned());
        Self { name: format!("{release}-{name}"), base: Some(Box::new(self)), arguments, emulated: false }
    }

    /// In sid, bsdutils with the program `script` is no longer essential.
    fn with_packages(name: &str, release: Release, packages: &[&str]) -> Self {
        let packages = packages.iter().chain((release == Release::Sid).then_some(&"bsdutils")).copied();
        let include = format!("--include={}", packages.collect::<Vec<_>>().join(","));
        let mut arguments = vec!["--variant=apt".to_owned(), include];
        arguments.extend(apt_options(release));
        arguments.push(release.name().to_owned());
        Self { name: name.to_owned(), base: None, arguments, emulated: false }
    }

    /// The root of a site with sshd and Slurm for arm64. The rest of the system is as on the host, so that the test servers run in it.
    #[must_use]
    pub fn emulated_site(release: Release) -> Self {
        let (emulated, native): (Vec<&str>, Vec<&str>) =
            SITE_PACKAGES.iter().partition(|package| ARM64_PACKAGES.contains(package));
        let mut recipe = Self::with_packages(&format!("{release}-arm64"), release, &native);
        let install = emulated.iter().map(|package| format!(" {package}:arm64")).collect::<String>();
        let options = [
            "--architectures=amd64,arm64".to_owned(),
            // Before the packages for arm64, whose scripts need it.
            "--include=qemu-user-static".to_owned(),
            format!("--customize-hook=chroot \"$1\" apt-get --yes --no-install-recommends install{install}"),
        ];
        recipe.arguments.splice(0..0, options);
        recipe.emulated = true;
        recipe
    }

    /// A root with the oldest compiler that the workspace supports (MSRV): bookworm without its security archive,
    /// because that has a newer compiler.
    #[must_use]
    pub fn oldest_compiler() -> Self {
        let packages = "--include=rustc-web,cargo-web,gcc,libc6-dev,ca-certificates,libpam0g";
        Self {
            name: "msrv".to_owned(),
            base: None,
            arguments: ["--variant=apt", packages, "bookworm", "deb http://deb.debian.org/debian bookworm main"]
                .map(str::to_owned)
                .to_vec(),
            emulated: false,
        }
    }

    /// A root with a compiler and the sources of its standard library.
    #[must_use]
    pub fn library_sources() -> Self {
        Self::with_packages(
            "portable",
            Release::Trixie,
            &["rustc", "cargo", "rust-src", "gcc", "libc6-dev", "ca-certificates"],
        )
    }

    /// The root of an older release: Debian 11 has glibc 2.31.
    #[must_use]
    pub fn older_glibc() -> Self {
        let arguments = ["--variant=apt", "bullseye"].map(str::to_owned).to_vec();
        Self { name: "bullseye".to_owned(), base: None, arguments, emulated: false }
    }

    /// A root with rpm, sshd, systemd's tools and Debian's reference policy of `SELinux`, for the RPM packages. Installing the policy
    /// takes a minute.
    #[must_use]
    pub fn rpm() -> Self {
        let packages = ["rpm", "systemd", "openssh-server", "selinux-policy-default", "policycoreutils", "setools"];
        Self::with_packages("rpm", Release::Bookworm, &packages)
    }
}

/// mmdebstrap's hook that copies another root into the new one, before apt does anything.
const COPY_BASE: &str = "cp --archive \"$TESTBED_BASE\"/. \"$1\"";

/// On a snapshot mirror the index of unstable can be older than its Valid-Until allows. Signatures are still checked.
fn apt_options(release: Release) -> Option<String> {
    (release == Release::Sid).then(|| "--aptopt=Acquire::Check-Valid-Until \"false\"".to_owned())
}

/// A complete root file system. While this value exists, a lock prevents its replacement.
#[derive(Debug)]
pub struct Root {
    directory: PathBuf,
    _shared: Flock<File>,
}

impl Root {
    /// The directory of the root. It must not be written to.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens the root of this recipe. Creates it first if it is missing or has another recipe.
    ///
    /// # Errors
    /// When mmdebstrap is missing or fails, or the cache cannot be written.
    pub fn open(recipe: &Recipe) -> Result<Self> {
        let roots = paths::roots();
        fs::create_dir_all(&roots).with_context(|| format!("creating {}", roots.display()))?;
        let directory = roots.join(&recipe.name);
        let stamp = roots.join(format!("{}.stamp", recipe.name));
        let wanted = recipe_text(recipe);
        loop {
            let shared = lock(&roots, &recipe.name, FlockArg::LockShared)?;
            if directory.is_dir() && fs::read_to_string(&stamp).is_ok_and(|made_by| made_by == wanted) {
                return Ok(Self { directory, _shared: shared });
            }
            drop(shared);
            let _exclusive = lock(&roots, &recipe.name, FlockArg::LockExclusive)?;
            // Another process may have created the root while this one waited for the lock.
            if !fs::read_to_string(&stamp).is_ok_and(|made_by| made_by == wanted) {
                create(recipe, &roots, &directory)?;
                replace_file(&stamp, &wanted)?;
            }
        }
    }
}

fn recipe_text(recipe: &Recipe) -> String {
    let mirror = env::var("TESTBED_MIRROR").unwrap_or_default();
    let base = recipe.base.as_deref().map(recipe_text).unwrap_or_default();
    format!("{base}mmdebstrap {} {mirror}\n", recipe.arguments.join(" "))
}

/// Waits for the lock on the directory `name` below `roots`.
pub(super) fn lock(roots: &Path, name: &str, how: FlockArg) -> Result<Flock<File>> {
    let path = roots.join(format!("{name}.lock"));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let at_once = match how {
        FlockArg::LockExclusive => FlockArg::LockExclusiveNonblock,
        _ => FlockArg::LockSharedNonblock,
    };
    let waiting = |errno: Errno| Error::Io { what: format!("waiting for {}", path.display()), source: errno.into() };
    match Flock::lock(file, at_once) {
        Err((file, Errno::EWOULDBLOCK)) => {
            eprintln!("testbed: another process makes or uses {}; waiting for it", path.with_extension("").display());
            Flock::lock(file, how).map_err(|(_, errno)| waiting(errno))
        }
        locked => locked.map_err(|(_, errno)| waiting(errno)),
    }
}

/// dpkg waits for the disk after each file, which is half of the time that a root takes. A root is not used before all of it is there.
/// This is no part of the recipe, because the root is the same.
const UNSAFE: &str = "--dpkgopt=force-unsafe-io";

/// Creates the root in another directory and renames it, so that an interrupted run leaves no incomplete root.
fn create(recipe: &Recipe, roots: &Path, directory: &Path) -> Result<()> {
    if !crate::site::host::has_program("mmdebstrap") {
        return Err(Error::Refused("mmdebstrap is missing; run `make toolchain`".into()));
    }
    let base = recipe.base.as_deref().map(Root::open).transpose()?;
    let fresh = roots.join(format!("{}.new", recipe.name));
    remove(&fresh)?;
    eprintln!("testbed: making the root file system {} (about 30 s, once)", recipe.name);
    let log_path = roots.join(format!("{}.log", recipe.name));
    let log = File::create(&log_path).with_context(|| format!("creating {}", log_path.display()))?;
    // mmdebstrap expects the suite, then the directory, then mirrors.
    let suite_at = recipe.arguments.iter().position(|argument| !argument.starts_with('-')).unwrap_or_default();
    let (before, after) = recipe.arguments.split_at((suite_at + 1).min(recipe.arguments.len()));
    // In its own PID and mount namespaces, mmdebstrap ends when this process ends, even by SIGKILL, and its mounts stay
    // off the host.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    command.args(recipe.emulated.then_some(USER_NAMESPACE).into_iter().flatten());
    command
        .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(recipe.emulated.then_some(REGISTERED).into_iter().flatten())
        .arg("mmdebstrap")
        .arg(UNSAFE)
        .args(before)
        .arg(&fresh)
        .args(after)
        .args(env::var("TESTBED_MIRROR"))
        .envs(base.as_ref().map(|base| ("TESTBED_BASE", base.directory())))
        .stdin(Stdio::null())
        .stdout(log.try_clone().with_context(|| "sharing the log".into())?)
        .stderr(log);
    let status = command.status().with_context(|| "starting mmdebstrap".into())?;
    if !status.success() {
        let text = fs::read_to_string(&log_path).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        return Err(Error::Refused(format!(
            "mmdebstrap ended with {status}; the end of {}:\n{tail}",
            log_path.display()
        )));
    }
    remove(directory)?;
    fs::rename(&fresh, directory).with_context(|| format!("renaming {}", fresh.display()))
}

/// Removes a directory, which need not exist.
pub(super) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn replace_file(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("stamp.new");
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, path))
        .with_context(|| format!("writing {}", path.display()))
}
