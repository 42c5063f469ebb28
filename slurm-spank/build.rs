// SPDX-License-Identifier: MIT OR Apache-2.0
//! Link options of a library that lives inside other people's daemons, and the optional fixed version stamp.

use std::env;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SLURM_RELEASE");
    // nodelete: std registers destructors with pthread keys; Slurm unmaps plugins while its threads live (rust-lang/rust 91979).
    for option in ["-z,nodelete", "-z,relro", "-z,now", "-soname,spank_mytoken.so"] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{option}");
    }
    // One file serves every release; `SLURM_RELEASE=24.11` makes one for a release that the table does not know.
    if let Ok(release) = env::var("SLURM_RELEASE") {
        let stamp = stamp(&release).ok_or(format!("SLURM_RELEASE={release:?} is not of the form YY.MM, like 24.11"))?;
        println!("cargo::rustc-env=SPANK_MYTOKEN_STAMP={stamp}");
    }
    Ok(())
}

/// Slurm compares `0x00MMmmuu` without the last byte.
fn stamp(release: &str) -> Option<u32> {
    let (year, month) = release.split_once('.')?;
    let (year, month): (u8, u8) = (year.parse().ok()?, month.parse().ok()?);
    (year >= 21 && (1..=12).contains(&month)).then(|| u32::from(year) << 16 | u32::from(month) << 8)
}
