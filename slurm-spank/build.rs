// SPDX-License-Identifier: MIT OR Apache-2.0
//! Link options for a library that Slurm's daemons load, and the optional fixed version stamp.

use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SLURM_RELEASE");
    // SSH-29: nodelete. std registers destructors with pthread keys; Slurm unmaps plugins while its threads live (rust-lang/rust 91979).
    for option in ["-z,nodelete", "-z,relro", "-z,now", "-soname,spank_mytoken.so"] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{option}");
    }
    link_unwinder_statically()?;
    // One file serves every known release. `SLURM_RELEASE=24.11` builds a file for one release, which may be unknown.
    if let Ok(release) = env::var("SLURM_RELEASE") {
        let stamp = stamp(&release).ok_or(format!("SLURM_RELEASE={release:?} is not of the form YY.MM, like 24.11"))?;
        println!("cargo::rustc-env=SPANK_MYTOKEN_STAMP={stamp}");
    }
    Ok(())
}

/// Links the unwinder into the plugin, so that sbatch does not load `libgcc_s.so.1`: it took half of the plugin's load time. Rust's
/// std asks the linker for `-lgcc_s`. The first `libgcc_s.so` that the linker finds is a script that names the static halves of the
/// same library.
///
/// An unwinder of its own is sound because no unwinding crosses the plugin's border: every hook catches its panics, Slurm is C code
/// without exceptions, and Slurm cancels no thread that is in a hook (SLURM-23). The linker keeps the unwinder's symbols local, so
/// nothing else in the process binds to them.
fn link_unwinder_statically() -> Result<(), String> {
    // C libraries other than glibc have no libgcc_s or link it statically.
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return Ok(());
    }
    let out = env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?;
    let directory = Path::new(&out).join("unwinder");
    let script = directory.join("libgcc_s.so");
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&script, "INPUT(-lgcc_eh -lgcc)\n"))
        .map_err(|error| format!("{}: {error}", script.display()))?;
    // GNU ld and lld search directories of `-L` before their own, wherever it stands on the line.
    println!("cargo::rustc-cdylib-link-arg=-L{}", directory.display());
    Ok(())
}

/// Slurm compares `0x00MMmmuu` without the last byte (SLURM-01).
fn stamp(release: &str) -> Option<u32> {
    let (year, month) = release.split_once('.')?;
    let (year, month): (u8, u8) = (year.parse().ok()?, month.parse().ok()?);
    (year >= 21 && (1..=12).contains(&month)).then(|| u32::from(year) << 16 | u32::from(month) << 8)
}
