// SPDX-License-Identifier: GPL-3.0-or-later
//! Linking of a module that sshd loads and unloads.

use std::path::{Path, PathBuf};

fn main() {
    // nodelete: std registers thread-local destructors. glibc would call them even after pam_end has unmapped the module (SSH-29).
    for argument in ["-Wl,-soname,pam_mytoken.so", "-Wl,-z,nodelete", "-Wl,-z,relro", "-Wl,-z,now"] {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    if let Err(error) = find_libpam() {
        println!("cargo::warning=libpam.so was not found ({error}); install libpam0g-dev or pam-devel");
    }
}

/// Without the development package there is no `libpam.so` for the linker, but the library itself is on every machine with PAM.
/// Its interface is old and stable, so a link to it is enough.
fn find_libpam() -> std::io::Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("TARGET") != variable("HOST") {
        return Ok(()); // the linker of a cross build has its own directories
    }
    let triplet = format!("{}-linux-gnu", variable("CARGO_CFG_TARGET_ARCH"));
    let directories: Vec<PathBuf> = [
        format!("/usr/lib/{triplet}"),
        format!("/lib/{triplet}"),
        "/usr/lib64".into(),
        "/lib64".into(),
        "/usr/lib".into(),
    ]
    .iter()
    .map(PathBuf::from)
    .collect();
    if directories.iter().any(|directory| directory.join("libpam.so").exists()) {
        return Ok(());
    }
    let Some(library) = directories.iter().map(|directory| directory.join("libpam.so.0")).find(|path| path.exists())
    else {
        return Err(std::io::ErrorKind::NotFound.into());
    };
    let out = variable("OUT_DIR");
    let link = Path::new(&out).join("libpam.so");
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(library, &link)?;
    println!("cargo::rustc-link-search=native={out}");
    Ok(())
}
