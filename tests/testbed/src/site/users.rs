// SPDX-License-Identifier: MIT OR Apache-2.0
//! The users of a site.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::WithContext;
use crate::{Error, Result};

/// A user of the site: name and uid, which is also the gid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Account name.
    pub name: &'static str,
    /// User id and group id.
    pub uid: u32,
}

/// The users of a site, without root and system accounts.
pub const USERS: &[User] =
    &[User { name: "alice", uid: 2001 }, User { name: "bob", uid: 2002 }, User { name: "carol", uid: 2003 }];

/// The home directory of an account of the site.
#[must_use]
pub fn home(account: &str) -> PathBuf {
    if account == "root" { PathBuf::from("/root") } else { Path::new("/home").join(account) }
}

/// Creates the users and their home directories, and for each user an ssh key that can log in.
///
/// It appends to the account files directly, because `useradd` needs half a second.
pub(crate) fn create() -> Result<()> {
    let rows = |row: &dyn Fn(&User) -> String| USERS.iter().map(row).collect::<String>();
    append("/etc/passwd", &rows(&|u| format!("{0}:x:{1}:{1}:{0}:/home/{0}:/bin/bash\n", u.name, u.uid)))?;
    append("/etc/group", &rows(&|u| format!("{}:x:{}:\n", u.name, u.uid)))?;
    // `*` means no password.
    append("/etc/shadow", &rows(&|u| format!("{}:*:20000:0:99999:7:::\n", u.name)))?;
    append("/etc/gshadow", &rows(&|u| format!("{}:!::\n", u.name)))?;
    for user in USERS {
        create_home_with_key(user)?;
    }
    add_known_host()
}

fn create_home_with_key(user: &User) -> Result<()> {
    let home = home(user.name);
    let ssh = home.join(".ssh");
    let key = ssh.join("site_key");
    fs::create_dir_all(&ssh).with_context(|| format!("creating {}", ssh.display()))?;
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", user.name, "-f"])
        .arg(&key)
        .stdin(Stdio::null())
        .output()
        .with_context(|| "starting ssh-keygen".into())?;
    if !output.status.success() {
        return Err(Error::Refused(format!("ssh-keygen: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let authorized = ssh.join("authorized_keys");
    fs::copy(ssh.join("site_key.pub"), &authorized).with_context(|| format!("writing {}", authorized.display()))?;
    for (path, mode) in [(&home, 0o755), (&ssh, 0o700), (&authorized, 0o600)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("setting the mode of {}", path.display()))?;
    }
    for path in [&home, &ssh, &authorized, &key, &ssh.join("site_key.pub")] {
        chown(path, Some(user.uid), Some(user.uid))
            .with_context(|| format!("setting the owner of {}", path.display()))?;
    }
    Ok(())
}

/// Adds the site's host key to the known hosts of all users, so that ssh does not ask about it.
fn add_known_host() -> Result<()> {
    let key = fs::read_to_string("/etc/ssh/ssh_host_ed25519_key.pub").with_context(|| "reading the host key".into())?;
    append("/etc/ssh/ssh_known_hosts", &format!("testbed,192.0.2.10,127.0.0.1,localhost {key}"))
}

fn append(path: &str, text: &str) -> Result<()> {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("appending to {path}"))
}
