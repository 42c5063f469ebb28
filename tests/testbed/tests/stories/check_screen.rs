// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` on a host that works is one screen of a terminal.

use testbed::{Options, Result, story};

use crate::checked::healthy;

/// The terminal.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

#[test]
fn what_works_is_told_on_one_screen() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let checked = site.sh("root", "mytokenctl check")?;
        let screen = &checked.stdout;
        assert!(checked.code == 0 && screen.ends_with("0 errors, 0 warnings\n"), "{screen}");
        // Otherwise a check that sees little would pass.
        for part in ["configuration", "sshd", "PAM", "public key", "private key", "issuer", "mytoken server", "agent"] {
            assert!(screen.lines().any(|line| line.starts_with(part)), "{part}: {screen}");
        }
        assert!(screen.contains("\nSlurm ") && screen.contains("\nSlurm plugin "), "{screen}");
        // A long line takes several rows. The last row is the shell's.
        let rows: usize = screen.lines().map(|line| line.chars().count().div_ceil(COLUMNS).max(1)).sum();
        assert!(rows < ROWS, "{rows} rows of {COLUMNS} columns:\n{screen}");
        Ok(())
    })
}
