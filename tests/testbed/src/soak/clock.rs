// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that can be set: an agent with a preloaded library adds the number in a file to the time of day. The other
//! processes of the site keep the time of the host.

use std::process::{Command, Stdio};

use crate::error::WithContext;
use crate::site::daemon::Daemon;
use crate::site::plan::STATE_DIR;
use crate::site::services::agent;
use crate::{Error, Result, Site};

/// Linux has no time of day per namespace. The file is mapped, so that the agent sees each change.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile const long *offset;

__attribute__((constructor)) static void open_offset(void) {
    const char *path = getenv("TESTBED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset = page;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int status = (int)syscall(SYS_clock_gettime, id, now);
    if (status == 0 && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return status;
}
"#;

const LIBRARY: &str = "/usr/local/lib/testbed-clock.so";

fn file_of(node: &str) -> String {
    format!("{STATE_DIR}/clock.{node}")
}

/// Compiles the library and starts the agents of these nodes again with it.
///
/// # Errors
/// When there is no compiler, or an agent does not start.
pub fn install(site: &Site, nodes: &[&str]) -> Result<()> {
    site.script("root", &format!("cat >{LIBRARY}")).stdin(compile()?).run()?.ok()?;
    for node in nodes {
        set(site, node, 0)?;
        site.stop(&agent::name(node), "TERM")?;
        let argv = [agent::PROGRAM, "agent", "--node", node];
        let daemon = Daemon::new(&agent::name(node), argv).on(node);
        site.start_daemon(daemon.env("LD_PRELOAD", LIBRARY).env("TESTBED_CLOCK", &file_of(node)))?;
    }
    Ok(())
}

/// Sets the agent's clock ahead of the host's by this number of seconds; negative numbers set it back.
///
/// # Errors
/// When the file cannot be written.
pub fn set(site: &Site, node: &str, seconds: i64) -> Result<()> {
    let write = format!("test -e {0} || truncate -s 8 {0}; dd of={0} conv=notrunc status=none", file_of(node));
    site.script("root", &write).stdin(seconds.to_ne_bytes()).run()?.ok().map(drop)
}

fn compile() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().with_context(|| "a temporary folder".into())?;
    let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
    std::fs::write(&source, SOURCE).with_context(|| format!("writing {}", source.display()))?;
    let output = Command::new("cc")
        .args(["-Os", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .stdin(Stdio::null())
        .output()
        .with_context(|| "starting cc".into())?;
    if !output.status.success() {
        return Err(Error::Refused(format!("cc: {}", String::from_utf8_lossy(&output.stderr))));
    }
    std::fs::read(&library).with_context(|| format!("reading {}", library.display()))
}
