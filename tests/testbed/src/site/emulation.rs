// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs for arm64 in a site: the kernel starts them by qemu-user.
//!
//! The kernel is told so in a user namespace (Linux 6.7 and later), and forgets it with the namespace: the host does not change. All
//! ids in this namespace are those of the host.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};

use crate::error::WithContext;
use crate::site::host;
use crate::{Error, Result};

/// Where the kernel's list of formats is mounted.
const LIST: &str = "proc/sys/fs/binfmt_misc";

/// Executables and libraries of arm64, for the kernel's list (`binfmt_misc` in the kernel's documents). Debian's package
/// qemu-user-static has the program. `P` and `C`: argv\[0\] stays, and set-user-id programs keep their meaning.
const FORMAT: &str = ":qemu-aarch64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\
                      \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:\
                      /usr/bin/qemu-aarch64-static:PC";

/// Runs its arguments in a new user namespace. Only a process outside can map all ids, so a second process waits for the namespace.
const IN_USER_NAMESPACE: &str = r#"
before=$(readlink /proc/self/ns/user)
{
    until [ "$(readlink /proc/$$/ns/user)" != "$before" ]; do sleep 0.01; done
    echo 0 0 4294967295 >/proc/$$/uid_map && echo 0 0 4294967295 >/proc/$$/gid_map
} </dev/null >/dev/null &
exec unshare --user sh -c 'until grep -q . /proc/self/gid_map; do sleep 0.01; done; exec "$@"' sh "$@""#;

/// Adds a format, its first argument, to the list and runs the other arguments.
const WITH_FORMAT: &str = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc &&
                           printf %s \"$1\" >/proc/sys/fs/binfmt_misc/register && shift && exec \"$@\"";

/// The beginning of a command that runs the rest in a new user namespace.
pub(crate) const USER_NAMESPACE: [&str; 4] = ["sh", "-c", IN_USER_NAMESPACE, "sh"];

/// The beginning of a command that runs the rest with the format registered, in the mount namespace of the caller.
pub(crate) const REGISTERED: [&str; 5] = ["sh", "-c", WITH_FORMAT, "sh", FORMAT];

/// Registers the format in the caller's user namespace. `root` has `/proc` mounted.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn register(root: &Path) -> Result<()> {
    let list = root.join(LIST);
    mount(Some("binfmt_misc"), &list, Some("binfmt_misc"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting binfmt_misc on {}", list.display()))?;
    fs::write(list.join("register"), FORMAT).with_context(|| "registering programs for arm64".into())
}

/// Checks that this machine can hold a site with programs for arm64.
///
/// # Errors
/// [`Error::Impossible`] with the reason when it cannot.
pub fn can_emulate() -> Result<()> {
    host::can_hold_a_site()?;
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::Impossible("emulation of arm64 is prepared for x86_64 only".into()));
    }
    let [shell, rest @ ..] = USER_NAMESPACE;
    let probe = Command::new(shell)
        .args(rest)
        .args(["unshare", "--mount", "--pid", "--fork", "--mount-proc"])
        .args(REGISTERED)
        .arg("true")
        .stdin(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Error::Impossible(format!(
            "the kernel has no list of formats per user namespace (binfmt_misc, Linux 6.7): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
        Err(error) => Err(Error::Impossible(format!("sh: {error}"))),
    }
}
