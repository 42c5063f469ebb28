// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the generated files to their places below `packaging`.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the build may end when nobody reads what it prints"
)]

use std::{fs, io};

fn main() -> io::Result<()> {
    for file in manual::generated()? {
        let path = manual::packaging().join(&file.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &file.text)?;
        println!("packaging/{}", file.path.display());
    }
    Ok(())
}
