// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs parts of a test as an ordinary user, even if root runs the tests.

use std::panic::resume_unwind;

use nix::libc;

const NOBODY: libc::c_ulong = 65_534;

/// Runs `work` in a thread without root's rights: as `nobody` if root runs the test, otherwise as the caller.
pub fn as_ordinary_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if nix::unistd::geteuid().is_root() {
                become_nobody();
            }
            work()
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Uses system calls, which change only this thread: glibc's functions change all threads of the process (SSH-30).
fn become_nobody() {
    // SAFETY: with length 0 the pointer is not read.
    let groups = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) };
    // SAFETY: the arguments are numbers, and Rust has no state that depends on the user.
    let group = unsafe { libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY) };
    // SAFETY: as above.
    let user = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    assert_eq!((groups, group, user), (0, 0, 0), "{}", std::io::Error::last_os_error());
}
