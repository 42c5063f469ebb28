// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only unsafe code of the crate: system calls for a forked child. None allocates memory, takes a lock or uses another thread.

use std::ffi::CStr;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_long, c_ulong, pid_t};
use nix::errno::Errno;

use crate::User;

#[cfg(target_pointer_width = "64")]
const IDENTITY: [c_long; 3] = [libc::SYS_setgroups, libc::SYS_setresgid, libc::SYS_setresuid];
/// The calls without a number know only ids of 16 bits.
#[cfg(target_pointer_width = "32")]
const IDENTITY: [c_long; 3] = [libc::SYS_setgroups32, libc::SYS_setresgid32, libc::SYS_setresuid32];

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It exited with this status.
    Exited(c_int),
    /// This signal killed it.
    Killed(c_int),
}

fn checked(result: c_int) -> Result<c_int, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

fn checked_long(result: c_long) -> Result<c_int, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(c_int::try_from(result).unwrap_or(c_int::MAX)) }
}

/// Forks. `Ok(0)`: this is the child. Its parent gets `signal` when it ends; 0: no signal, and only a wait with `__WALL` finds it (clone(2)).
///
/// Not fork(3): that runs handlers which the host has registered, and always sends `SIGCHLD`.
///
/// # Safety
/// The child has one thread, and may be the copy of a process with several: until it executes a program or ends, it calls only
/// async-signal-safe functions. It must not return to code of the host.
pub(crate) unsafe fn fork(signal: c_int) -> Result<pid_t, Errno> {
    let none: c_long = 0;
    let signal = c_long::from(signal);
    // SAFETY: flags without CLONE_VM copy the memory, so no stack is needed; the caller keeps the rest of the contract.
    #[cfg(not(target_arch = "s390x"))]
    let pid = unsafe { libc::syscall(libc::SYS_clone, signal, none, none, none, none) };
    // SAFETY: as above; here the stack comes before the flags (clone(2)).
    #[cfg(target_arch = "s390x")]
    let pid = unsafe { libc::syscall(libc::SYS_clone, none, signal, none, none, none) };
    checked_long(pid)
}

/// Ends this process at once, without the host's exit handlers.
pub(crate) fn exit(status: c_int) -> ! {
    // SAFETY: _exit(2) takes any status and does not return.
    unsafe { libc::_exit(status) }
}

/// Writes all bytes to a pipe. A pipe whose reader has gone ends a worker; the supervisor blocks the signal.
pub(crate) fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and the length are those of a slice.
        match unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } {
            written @ 1.. => bytes = bytes.get(usize::try_from(written).unwrap_or(0)..).unwrap_or_default(),
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Err(Errno::last()),
        }
    }
    Ok(())
}

/// Reads at most the length of `buffer`. 0: the end of the file.
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length are those of a slice that may be written to.
    let length = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(length).map_err(|_| Errno::last())
}

pub(crate) fn close(fd: RawFd) {
    // SAFETY: close(2) takes any number. The process is ours, and nothing in it owns the descriptor.
    unsafe { libc::close(fd) };
}

/// Closes all descriptors except `kept`, which are sorted.
pub(crate) fn close_others(kept: &[RawFd]) {
    let mut first = 0;
    for fd in kept {
        if *fd > first {
            close_range(first, *fd - 1);
        }
        first = first.max(fd.saturating_add(1));
    }
    close_range(first, c_int::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    let flags: c_long = 0;
    let (from, to) = (c_long::from(first), c_long::from(last));
    // SAFETY: close_range(2) takes any numbers, as `close` does.
    if unsafe { libc::syscall(libc::SYS_close_range, from, to, flags) } == 0 {
        return;
    }
    // Before Linux 5.9.
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: getrlimit(2) writes the structure.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) } == 0;
    // SAFETY: it was written.
    let most = if known { unsafe { limit.assume_init() }.rlim_max.min(1 << 20) } else { 1 << 16 };
    let most = RawFd::try_from(most).unwrap_or(1 << 20);
    for fd in first..=last.min(most) {
        close(fd);
    }
}

/// A copy of a descriptor with a number of 3 or more, which exec closes.
pub(crate) fn copy_above_standard(fd: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: fcntl(2) takes any descriptor and, for this command, a number.
    checked(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}

/// Makes `to` a copy of `fd`, which exec keeps.
pub(crate) fn copy_to(fd: RawFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: dup2(2) takes any numbers.
    checked(unsafe { libc::dup2(fd, to) }).map(drop)
}

extern "C" fn nothing(_: c_int) {}

/// Makes `SIGCHLD` interrupt [`wait_for_child`], and makes ended children stay until they are waited for.
pub(crate) fn notice_children() -> Result<(), Errno> {
    let handler: extern "C" fn(c_int) = nothing;
    set_handler(libc::SIGCHLD, handler as libc::sighandler_t)
}

fn set_handler(signal: c_int, handler: libc::sighandler_t) -> Result<(), Errno> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeros are a valid sigaction: no flags, an empty mask, the default action.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler;
    // SAFETY: the handler is a function of the expected type that does nothing, or SIG_DFL; the old action is not asked for.
    checked(unsafe { libc::sigaction(signal, action, ptr::null_mut()) }).map(drop)
}

/// Sets all signals to their default action, also those that the host ignores: exec would keep that. Not by libc, which refuses to touch
/// the two signals that it keeps for itself; a process may have inherited them as ignored, too.
pub(crate) fn reset_signals() {
    // All zeros are the default action in the kernel's structure, which is smaller than this.
    let default = [0_u64; 8];
    let none = ptr::null::<u64>();
    for signal in 1..=64 {
        let signal: c_long = signal;
        // SAFETY: the kernel reads one action, and writes none; its set of signals has 8 bytes. KILL and STOP are refused.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8_usize) };
    }
}

/// Lets all signals through.
pub(crate) fn unblock_signals() -> Result<(), Errno> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigemptyset(3) writes the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was written; the old mask is not asked for.
    checked(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut()) }).map(drop)
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The time is up, or perhaps a child has ended.
    Perhaps,
    /// Nobody reads the pipe any more.
    Unread,
}

/// Waits until a child ends, `pipe` has no reader, or the time is up. -1: there is no pipe.
pub(crate) fn wait_for_child(pipe: RawFd, time: Duration) -> Woken {
    let mut polled = libc::pollfd { fd: pipe, events: 0, revents: 0 };
    let seconds = libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX);
    let timeout = libc::timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() };
    let mut blocked = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigfillset(3) writes the set.
    unsafe { libc::sigfillset(blocked.as_mut_ptr()) };
    // SAFETY: the set was written, and the signal is valid.
    unsafe { libc::sigdelset(blocked.as_mut_ptr(), libc::SIGCHLD) };
    // SAFETY: one descriptor, and a time and a set that live until the call returns.
    let ready = unsafe { libc::ppoll(&raw mut polled, 1, &raw const timeout, blocked.as_ptr()) };
    if ready > 0 && polled.revents != 0 { Woken::Unread } else { Woken::Perhaps }
}

/// Whether a child has ended. It stays until it is reaped, and so does its process group.
pub(crate) fn has_ended(child: pid_t) -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = libc::id_t::try_from(child).unwrap_or_default();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: waitid(2) writes the structure, or leaves it as it is: all zeros.
    let result = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), options) };
    // SAFETY: all zeros are a valid siginfo_t.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid(2) has set the field, or it is zero.
    result == 0 && unsafe { info.si_pid() } == child
}

/// Waits for a child that has ended; without `block`, also when it has not: `Ok(None)`.
pub(crate) fn reap(child: pid_t, block: bool) -> Result<Option<End>, Errno> {
    let mut status = 0;
    let options = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: waitpid(2) writes the number.
        match checked(unsafe { libc::waitpid(child, &raw mut status, options) }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(None),
            Ok(_) if libc::WIFSIGNALED(status) => return Ok(Some(End::Killed(libc::WTERMSIG(status)))),
            Ok(_) => return Ok(Some(End::Exited(libc::WEXITSTATUS(status)))),
        }
    }
}

/// Sends `SIGKILL` to a process that has not been reaped; a negative number: to its group.
pub(crate) fn kill(target: pid_t) {
    // SAFETY: kill(2) takes any numbers.
    unsafe { libc::kill(target, libc::SIGKILL) };
}

/// Leaves the session of the host, with its terminal, and begins a process group.
pub(crate) fn begin_session() -> Result<(), Errno> {
    // SAFETY: setsid(2) takes nothing.
    checked(unsafe { libc::setsid() }).map(drop)
}

/// Makes root also the real user of this process, if it is root by a set-uid program: the caller of that may send no signals then.
pub(crate) fn be_wholly_root() {
    let root: c_long = 0;
    // SAFETY: the call itself, as in `become_user`; without the right it changes nothing.
    unsafe { libc::syscall(IDENTITY[2], root, root, root) };
}

/// Becomes `user` for good, without supplementary groups. Needs root.
///
/// Not the functions of libc: they change all threads that they know, and in a forked child these do not exist.
pub(crate) fn become_user(user: User) -> Result<(), Errno> {
    let [groups, gid, uid] = IDENTITY;
    let none: c_long = 0;
    let (group, owner) = (c_long::from(user.gid), c_long::from(user.uid));
    // SAFETY: no groups, so no list is read.
    checked_long(unsafe { libc::syscall(groups, none, ptr::null::<libc::gid_t>()) })?;
    // SAFETY: the call takes any ids.
    checked_long(unsafe { libc::syscall(gid, group, group, group) })?;
    // SAFETY: as above.
    checked_long(unsafe { libc::syscall(uid, owner, owner, owner) }).map(drop)
}

/// Keeps other processes of the user out of the memory of this one, and ends it with its parent. After [`become_user`], which resets both.
pub(crate) fn be_closed_and_dependent() -> Result<(), Errno> {
    let no: c_ulong = 0;
    // SAFETY: these commands of prctl(2) take a number.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, no) })?;
    let signal = libc::SIGKILL.unsigned_abs();
    // SAFETY: as above.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, c_ulong::from(signal)) }).map(drop)
}

/// A usual working directory, and files that only their owner can read.
pub(crate) fn reset_directory() -> Result<(), Errno> {
    // SAFETY: umask(2) takes any mode.
    unsafe { libc::umask(0o077) };
    // SAFETY: chdir(2) takes a NUL-terminated path.
    checked(unsafe { libc::chdir(c"/".as_ptr()) }).map(drop)
}

/// Sets usual limits and the usual priority: the caller of a set-uid program chooses those of the host, and could so choose what fails in a
/// command. Without the right to raise a hard limit the soft one is at
/// most that.
pub(crate) fn reset_limits() {
    let none = libc::RLIM_INFINITY;
    let limits = [
        (libc::RLIMIT_NPROC, none, none),
        (libc::RLIMIT_NOFILE, 1024, 4096),
        (libc::RLIMIT_FSIZE, none, none),
        (libc::RLIMIT_AS, none, none),
        (libc::RLIMIT_DATA, none, none),
        (libc::RLIMIT_STACK, 8 << 20, none),
        (libc::RLIMIT_CPU, none, none),
        (libc::RLIMIT_CORE, 0, 0),
    ];
    for (resource, soft, hard) in limits {
        let mut limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: setrlimit(2) reads the structure.
        if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
            continue;
        }
        // SAFETY: getrlimit(2) writes the structure.
        unsafe { libc::getrlimit(resource, &raw mut limit) };
        limit.rlim_cur = soft.min(limit.rlim_max);
        // SAFETY: as above.
        unsafe { libc::setrlimit(resource, &raw const limit) };
    }
    // SAFETY: setpriority(2) takes any numbers; 0 is this process.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
}

/// Leaves the session keyring of the host for an empty one. As root: a user's own quota could be used up. A kernel may have no keyrings.
pub(crate) fn leave_keyring() {
    const JOIN_SESSION_KEYRING: c_long = 1;
    // SAFETY: this command of keyctl(2) takes a name; without one it makes a keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>()) };
}

/// Executes a program with an empty environment. Returns only if that fails. `arguments` ends with a null pointer.
pub(crate) fn execute(program: &CStr, arguments: &[*const libc::c_char]) -> Errno {
    let environment = [ptr::null::<libc::c_char>()];
    if arguments.last().is_none_or(|last| !last.is_null()) {
        return Errno::EINVAL;
    }
    // SAFETY: a NUL-terminated path, and two lists of NUL-terminated texts that end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::last()
}

/// Opens a directory by its whole path, to open names below it. Links are followed.
pub(crate) fn open_directory(path: &CStr) -> Result<RawFd, Errno> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: open(2) takes a NUL-terminated path.
    checked(unsafe { libc::open(path.as_ptr(), flags) })
}

/// Opens a name in a directory. A symbolic link is an error, ELOOP: openat2(2) with `RESOLVE_NO_SYMLINKS`, which also keeps out of the magic
/// links of /proc. Before Linux 5.6, and where a container forbids it, `O_NOFOLLOW` is the same for a single name, but for its error.
pub(crate) fn open_below(directory: RawFd, name: &CStr, flags: c_int) -> Result<RawFd, Errno> {
    let flags = flags | libc::O_CLOEXEC;
    match open_strictly(directory, name, flags) {
        Err(Errno::ENOSYS | Errno::EPERM) => open_without_links(directory, name, flags),
        opened => opened,
    }
}

pub(crate) fn open_strictly(directory: RawFd, name: &CStr, flags: c_int) -> Result<RawFd, Errno> {
    let mut how = MaybeUninit::<libc::open_how>::zeroed();
    // SAFETY: all zeros are a valid open_how.
    let how = unsafe { how.assume_init_mut() };
    how.flags = u64::from(flags.unsigned_abs());
    how.resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH;
    let how: *const libc::open_how = how;
    let size = size_of::<libc::open_how>();
    // SAFETY: a NUL-terminated name, and a structure of this size.
    checked_long(unsafe { libc::syscall(libc::SYS_openat2, directory, name.as_ptr(), how, size) })
}

pub(crate) fn open_without_links(directory: RawFd, name: &CStr, flags: c_int) -> Result<RawFd, Errno> {
    // SAFETY: a NUL-terminated name.
    checked(unsafe { libc::openat(directory, name.as_ptr(), flags | libc::O_NOFOLLOW) })
}

/// Owner, mode and size of an open file.
pub(crate) fn status(fd: RawFd) -> Result<libc::stat, Errno> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: fstat(2) writes the structure.
    checked(unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: it was written.
    Ok(unsafe { status.assume_init() })
}
