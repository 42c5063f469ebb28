// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that can be set: a daemon with a preloaded library adds the first number in a file to the time of day, and
//! the second one also to the time since boot. The other processes of the site keep the time of the host.

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
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const long *offset;

__attribute__((constructor)) static void open_offset(void) {
    const char *path = getenv("TESTBED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, 2 * sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset = page;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int status = (int)syscall(SYS_clock_gettime, id, now);
    if (status != 0 || !offset) return status;
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) now->tv_sec += offset[0] + offset[1];
    if (id == CLOCK_BOOTTIME) now->tv_sec += offset[1];
    return status;
}

time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds) *seconds = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
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
    nodes.iter().try_for_each(|node| start_again(site, node, 0, agent::daemon(site, agent::PROGRAM, node)))
}

/// Starts a daemon again with a clock of its own, whose name is `clock`. It is `seconds` ahead of the host's.
///
/// # Errors
/// When there is no compiler, or the daemon does not start.
pub fn start_again(site: &Site, clock: &str, seconds: i64, daemon: Daemon) -> Result<()> {
    let there = site.sh("root", &format!("test -e {LIBRARY}"))?.success();
    if !there {
        site.script("root", &format!("cat >{LIBRARY}")).stdin(compile()?).run()?.ok()?;
    }
    set(site, clock, seconds)?;
    site.stop(daemon.name(), "TERM")?;
    site.start_daemon(daemon.env("LD_PRELOAD", LIBRARY).env("TESTBED_CLOCK", &file_of(clock)))
}

/// The variables that give a program this clock, as assignments for a shell. The clock must exist.
#[must_use]
pub fn variables(clock: &str) -> String {
    format!("LD_PRELOAD={LIBRARY} TESTBED_CLOCK={}", file_of(clock))
}

/// Sets a clock ahead of the host's by this number of seconds; negative numbers set it back.
///
/// # Errors
/// When the file cannot be written.
pub fn set(site: &Site, clock: &str, seconds: i64) -> Result<()> {
    write(site, clock, 0, seconds)
}

/// For the daemon with this clock, these seconds have passed since it started.
///
/// # Errors
/// When the file cannot be written.
pub fn pass(site: &Site, clock: &str, seconds: i64) -> Result<()> {
    write(site, clock, 1, seconds)
}

fn write(site: &Site, clock: &str, place: u8, seconds: i64) -> Result<()> {
    let dd = format!("dd of={} bs=8 seek={place} conv=notrunc status=none", file_of(clock));
    let script = format!("test -e {0} || truncate -s 16 {0}; {dd}", file_of(clock));
    site.script("root", &script).stdin(seconds.to_ne_bytes()).run()?.ok().map(drop)
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
