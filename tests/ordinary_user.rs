// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an ordinary user would see, in tests that may be run by root.

use std::panic::resume_unwind;

use nix::libc;

const NOBODY: libc::c_ulong = 65_534;

/// Runs `work` in a thread that is an ordinary user's for good: nobody's when root asks, else the caller's.
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

/// By system calls, which concern the calling thread; glibc's functions would change all threads of the process (SSH-30).
fn become_nobody() {
    // SAFETY: no group is read with the length 0.
    let groups = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) };
    // SAFETY: the arguments are numbers, and Rust keeps nothing by the user.
    let group = unsafe { libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY) };
    // SAFETY: as above.
    let user = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    assert_eq!((groups, group, user), (0, 0, 0), "{}", std::io::Error::last_os_error());
}
