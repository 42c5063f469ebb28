// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of the command that runs this plugin, as Slurm itself has read them.
//!
//! sbatch, salloc and srun export their options as `opt`, and libslurm the functions that read them (SLURM-34). Reading the arguments here
//! would be a second parser: abbreviations, values in the next word, and the arguments of the user's program look alike.

use std::ffi::{CStr, c_char, c_void};

/// Whether the command line or the environment has set the option `name`. `false` in a release that lacks the symbols. Only at submission:
/// elsewhere `opt` may be something else.
pub fn is_set(name: &CStr) -> bool {
    let (Some(options), Some(function)) = (symbol(c"opt"), symbol(c"slurm_option_isset")) else { return false };
    // SAFETY: slurm_opt.h: `bool slurm_option_isset(slurm_opt_t *opt, const char *name)`, in every release since 20.11.
    let is_set =
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void, *const c_char) -> bool>(function) };
    is_set(options, name.as_ptr())
}

/// The value of the option `name`, if it is set.
pub fn value(name: &CStr) -> Option<String> {
    let (true, Some(options), Some(function)) = (is_set(name), symbol(c"opt"), symbol(c"slurm_option_get")) else {
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

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: dlsym(3) with a NUL-terminated name; the plugin must load also where the symbol is missing.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}
