// SPDX-License-Identifier: MIT OR Apache-2.0
//! Declarations from `slurm/spank.h`, unchanged from 22.05 to 26.05, and a safe handle around them.
//!
//! Only symbols of Slurm 21.08 are linked. Rust links with `BIND_NOW` (SLURM-02): a release that lacks one of the symbols could not load
//! the plugin at all. Newer symbols would need dlsym.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::marker::PhantomData;

/// `ESPANK_ENV_NOEXIST`, the same number since 21.08.
const ENV_NOEXIST: c_uint = 3004;

/// `struct spank_option`.
#[repr(C)]
struct RawOption {
    name: *const c_char,
    arginfo: *const c_char,
    usage: *const c_char,
    has_arg: c_int,
    val: c_int,
    cb: OptionCallback,
}

/// `spank_opt_cb_f`: value, argument or NULL, whether on a node.
pub(super) type OptionCallback = unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int;

// SAFETY: the signatures are as in slurm/spank.h of every release that the plugin serves; `spank_context` takes no arguments and only
// reads.
unsafe extern "C" {
    safe fn spank_context() -> c_uint;
    fn spank_get_item(spank: *mut c_void, item: c_uint, ...) -> c_uint;
    fn spank_getenv(spank: *mut c_void, name: *const c_char, buffer: *mut c_char, length: c_int) -> c_uint;
    fn spank_setenv(spank: *mut c_void, name: *const c_char, value: *const c_char, overwrite: c_int) -> c_uint;
    fn spank_unsetenv(spank: *mut c_void, name: *const c_char) -> c_uint;
    fn spank_job_control_setenv(
        spank: *mut c_void,
        name: *const c_char,
        value: *const c_char,
        overwrite: c_int,
    ) -> c_uint;
    fn spank_option_register(spank: *mut c_void, option: *const RawOption) -> c_uint;
    fn slurm_error(format: *const c_char, ...);
    fn slurm_info(format: *const c_char, ...);
}

/// In which program a hook runs (`spank_context_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpankContext {
    /// srun.
    Local,
    /// slurmstepd, for a step of a job.
    Remote,
    /// sbatch, salloc, scrontab.
    Allocator,
    /// slurmd itself.
    Slurmd,
    /// The process of a prolog or epilog.
    JobScript,
    /// Any other program. The plugin does nothing there.
    Other,
}

impl SpankContext {
    /// The context of this process.
    pub fn now() -> Self {
        match spank_context() {
            1 => Self::Local,
            2 => Self::Remote,
            3 => Self::Allocator,
            4 => Self::Slurmd,
            5 => Self::JobScript,
            _ => Self::Other,
        }
    }

    /// Whether standard error is the submitting user's.
    pub fn is_client(self) -> bool {
        matches!(self, Self::Local | Self::Allocator)
    }
}

/// The items (`spank_item_t`) in use; all of them are 32-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// `S_JOB_UID`.
    Uid = 0,
    /// `S_JOB_GID`.
    Gid = 1,
    /// `S_JOB_ID`.
    Job = 2,
    /// `S_JOB_STEPID`.
    Step = 3,
    /// `S_TASK_ID`: the task's number on this node.
    Task = 11,
    /// `S_JOB_ARRAY_ID`.
    ArrayJob = 30,
    /// `S_JOB_ARRAY_TASK_ID`.
    ArrayTask = 31,
}

/// A variable of the job's environment.
#[derive(Debug, PartialEq, Eq)]
pub enum JobEnv {
    /// Not there.
    Absent,
    /// Longer than asked for, or not UTF-8.
    Unusable,
    /// Its value.
    Text(String),
}

/// The handle that Slurm gives to a hook, for the time of the call.
pub struct Spank<'call>(*mut c_void, PhantomData<&'call ()>);

impl Spank<'_> {
    /// Wraps the handle of a call.
    ///
    /// # Safety
    /// `handle` is the `spank_t` that Slurm passed to the running hook; the value does not outlive that call.
    pub(super) unsafe fn of(handle: *mut c_void) -> Self {
        Self(handle, PhantomData)
    }

    /// The item's value, when this context has it.
    pub fn item(&self, item: Item) -> Option<u32> {
        let mut value: u32 = 0;
        // SAFETY: spank.h: for each of `Item` the third argument is a pointer to uid_t, gid_t or uint32_t, all 32 bits wide on Linux.
        let code = unsafe { spank_get_item(self.0, item as c_uint, &raw mut value) };
        (code == 0).then_some(value)
    }

    /// A variable of the job's environment, at most `limit` bytes long. Only on a node.
    pub fn job_env(&self, name: &CStr, limit: u16) -> JobEnv {
        let mut buffer = vec![0_u8; usize::from(limit) + 1];
        let length = c_int::from(limit) + 1;
        // SAFETY: spank_getenv writes at most `length` bytes, which is the buffer's size, with a NUL; name is NUL-terminated.
        let code = unsafe { spank_getenv(self.0, name.as_ptr(), buffer.as_mut_ptr().cast(), length) };
        match code {
            0 => {}
            ENV_NOEXIST => return JobEnv::Absent,
            _ => return JobEnv::Unusable,
        }
        let text = CStr::from_bytes_until_nul(&buffer).ok().and_then(|text| text.to_str().ok());
        text.map_or(JobEnv::Unusable, |text| JobEnv::Text(text.to_owned()))
    }

    /// Sets a variable in the environment of the job's tasks. Only on a node.
    #[must_use]
    pub fn set_job_env(&self, name: &CStr, value: &str) -> bool {
        // SAFETY: spank_setenv copies both NUL-terminated strings.
        CString::new(value).is_ok_and(|value| unsafe { spank_setenv(self.0, name.as_ptr(), value.as_ptr(), 1) } == 0)
    }

    /// Removes a variable from the environment of the job's tasks. Only on a node.
    pub fn unset_job_env(&self, name: &CStr) {
        // SAFETY: the name is NUL-terminated. The result only says whether the variable existed.
        unsafe { spank_unsetenv(self.0, name.as_ptr()) };
    }

    /// Sets a job-control variable: `SPANK_<name>` in epilogs, `SLURM_SPANK_<name>` in steps. Only at submission.
    #[must_use]
    pub fn set_job_control(&self, name: &CStr, value: &str) -> bool {
        // SAFETY: spank_job_control_setenv copies both NUL-terminated strings.
        CString::new(value)
            .is_ok_and(|value| unsafe { spank_job_control_setenv(self.0, name.as_ptr(), value.as_ptr(), 1) } == 0)
    }

    /// Registers an option with an optional argument. Only in `slurm_spank_init`.
    #[must_use]
    pub(super) fn register(&self, name: &CStr, arginfo: &CStr, usage: &CStr, callback: OptionCallback) -> bool {
        const OPTIONAL_ARGUMENT: c_int = 2;
        let option = RawOption {
            name: name.as_ptr(),
            arginfo: arginfo.as_ptr(),
            usage: usage.as_ptr(),
            has_arg: OPTIONAL_ARGUMENT,
            val: 0,
            cb: callback,
        };
        // SAFETY: Slurm copies the strings before it returns; the callback stays mapped because the library is linked nodelete.
        unsafe { spank_option_register(self.0, &raw const option) == 0 }
    }
}

/// Prints an error. At submission it is `sbatch: error: mytoken: TEXT`. On a node it goes to the job's standard error from `user_init` on,
/// and to slurmd's log before (SLURM-22).
pub fn error(text: fmt::Arguments<'_>) {
    let line = printable(text);
    // SAFETY: printf(3): the format has one %s and gets one NUL-terminated string.
    unsafe { slurm_error(c"mytoken: %s".as_ptr(), line.as_ptr()) };
}

/// Writes a line to the user's terminal at submission, and to slurmd's log on a node, where the user never sees it.
pub fn info(text: fmt::Arguments<'_>) {
    let line = printable(text);
    // SAFETY: as in `error`.
    unsafe { slurm_info(c"mytoken: %s".as_ptr(), line.as_ptr()) };
}

/// One line of bounded length without control characters: some texts come from other programs.
fn printable(text: fmt::Arguments<'_>) -> CString {
    const LONGEST: usize = 600;
    CString::new(mytoken_wire::printable(&text.to_string(), LONGEST)).unwrap_or_default()
}
