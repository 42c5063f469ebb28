// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Debian releases of sites, and their differences.

use std::fmt;
use std::fs;
use std::str::FromStr;

use crate::{Error, Result};

/// A Debian release, with its Slurm and OpenSSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Debian 12: Slurm 22.05, OpenSSH 9.2.
    Bookworm,
    /// Debian 13: Slurm 24.11, OpenSSH 10.0.
    Trixie,
    /// Unstable: newest Slurm and OpenSSH.
    Sid,
}

impl Release {
    /// The default release of a site: the host's release if it is bookworm or trixie, else bookworm. A program that was
    /// built on the host needs a root of the same release or a newer one.
    #[must_use]
    pub fn of_this_host() -> Self {
        let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let host = os.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
        if host == "trixie" { Self::Trixie } else { Self::Bookworm }
    }

    /// The name in Debian's archive.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// Whether Slurm of this release knows `CgroupPlugin=disabled` (SLURM-29).
    #[must_use]
    pub fn slurm_knows_disabled_cgroups(self) -> bool {
        self != Self::Bookworm
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Release {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Bookworm, Self::Trixie, Self::Sid]
            .into_iter()
            .find(|release| release.name() == text)
            .ok_or_else(|| Error::Refused(format!("unknown release \"{text}\"; known are bookworm, trixie and sid")))
    }
}
