// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of the command that runs this plugin, as Slurm itself has read them.
//!
//! sbatch, salloc and srun export their options as `opt`, and libslurm the functions that read them (SLURM-34). Reading the arguments here
//! would be a second parser: abbreviations, values in the next word, and the arguments of the user's program look alike.

use std::ffi::{CStr, c_char, c_void};

/// Whether the command line, the script or the environment has set the option `name`. `None` in a release that lacks the symbols. Only at
/// submission: elsewhere `opt` may be something else.
pub fn is_set(name: &CStr) -> Option<bool> {
    let (options, function) = (options()?, symbol(c"slurm_option_isset")?);
    // SAFETY: slurm_opt.h: `bool slurm_option_isset(slurm_opt_t *opt, const char *name)`, in every release since 20.11. The plugin does not
    // load in releases that it does not know (SLURM-01).
    let is_set =
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void, *const c_char) -> bool>(function) };
    Some(is_set(options, name.as_ptr()))
}

/// The value of the option `name`, if it is set.
pub fn value(name: &CStr) -> Option<String> {
    let (Some(true), Some(options), Some(function)) = (is_set(name), options(), symbol(c"slurm_option_get")) else {
        return None;
    };
    // SAFETY: slurm_opt.h: `char *slurm_option_get(slurm_opt_t *opt, const char *name)`, in every release since 20.11.
    let get = unsafe {
        std::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void, *const c_char) -> *mut c_char>(function)
    };
    let text = get(options, name.as_ptr());
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, so a NUL-terminated string. It is copied and stays allocated: only Slurm's own xfree could free it, and the command
    // asks once.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// The options of the program. `opt` is a name that a library may use too: only the program's own counts.
fn options() -> Option<*mut c_void> {
    symbol(c"opt").filter(|options| {
        // SAFETY: getauxval(3) takes any number. AT_PHDR is the address of the program's own headers.
        let program = file_of(unsafe { libc::getauxval(libc::AT_PHDR) } as *const c_void);
        program.is_some() && program == file_of(*options)
    })
}

/// The address at which the file is mapped that has `address`.
fn file_of(address: *const c_void) -> Option<*mut c_void> {
    let mut found = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: dladdr(3) accepts any address and fills the structure if it returns non-zero.
    (unsafe { libc::dladdr(address, &raw mut found) } != 0).then_some(found.dli_fbase)
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: dlsym(3) with a NUL-terminated name; the plugin must load also where the symbol is missing.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}
