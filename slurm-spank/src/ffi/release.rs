// SPDX-License-Identifier: MIT OR Apache-2.0
//! One file for every Slurm release: the version stamp is written while the library is loaded.
//!
//! Slurm (21.08 and later) refuses a plugin whose `plugin_version` has another major.minor than itself, and reads it after dlopen has
//! run the constructors (SLURM-01). The interface between the two has not changed since 21.08, only this number has.

use std::ffi::c_long;
use std::sync::atomic::{AtomicU32, Ordering};

/// The name under which Slurm knows the plugin; part of the names of option variables.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static plugin_name: [u8; 8] = *b"mytoken\0";

/// Selects the relaxed comparison of versions.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static plugin_type: [u8; 6] = *b"spank\0";

/// `0x00MMmm00`. With 0 Slurm refuses the plugin with its own message.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static plugin_version: AtomicU32 = AtomicU32::new(fixed_stamp());

/// Runs when the library is loaded, before Slurm reads the version.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = set_version;

mytoken_wire::version_note!();

extern "C" fn set_version() {
    if fixed_stamp() == 0 {
        plugin_version.store(api_number().and_then(stamp_of).unwrap_or(0), Ordering::Relaxed);
    }
}

/// The API number of the Slurm in this process, from `slurm_api_version()`, which `slurm.h` declares as `long`.
fn api_number() -> Option<u32> {
    // SAFETY: dlsym(3) with a NUL-terminated name; the plugin must load also where the symbol is missing.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"slurm_api_version".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: slurm.h: `long slurm_api_version(void)`, in every release since 2.0.
    let version = unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> c_long>(symbol) };
    u32::try_from(version() >> 16).ok()
}

/// The version stamp for an API number. There is none for a release on which the plugin was never tested, and Slurm refuses it.
fn stamp_of(api: u32) -> Option<u32> {
    let (year, month) = match api {
        38 => (22, 5),
        39 => (23, 2),
        40 => (23, 11),
        41 => (24, 5),
        42 => (24, 11),
        43 => (25, 5),
        44 => (25, 11),
        45 => (26, 5),
        _ => return None,
    };
    Some(year << 16 | month << 8)
}

/// The stamp of a build for one release (`SLURM_RELEASE=24.11`), or 0.
const fn fixed_stamp() -> u32 {
    match option_env!("SPANK_MYTOKEN_STAMP") {
        Some(text) => match u32::from_str_radix(text, 10) {
            Ok(stamp) => stamp,
            Err(_) => 0,
        },
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_numbers_give_the_stamps_that_slurm_compares() {
        let stamps: Vec<_> = (36..48).map(|api| stamp_of(api).unwrap_or(0)).collect();
        let wanted =
            [0, 0, 0x16_0500, 0x17_0200, 0x17_0b00, 0x18_0500, 0x18_0b00, 0x19_0500, 0x19_0b00, 0x1a_0500, 0, 0];
        assert_eq!(stamps, wanted);
    }
}
