// SPDX-License-Identifier: MIT OR Apache-2.0
//! Input and result of a hook.

use crate::ffi::{Spank, SpankContext};
use crate::settings::HookSettings;

/// Input of a hook.
pub struct HookCall<'call> {
    /// Slurm's handle.
    pub spank: &'call Spank<'call>,
    /// The program.
    pub context: SpankContext,
    /// The plugin's arguments.
    pub settings: HookSettings,
}

impl HookCall<'_> {
    /// Registers the option `--mytoken` with Slurm. Only in `slurm_spank_init`.
    pub fn register_option(&self) {
        // Slurm prints its own reason.
        let _ = self.spank.register_option(
            c"mytoken",
            c"[PROFILE|off|required[:PROFILE]]",
            c"give the job a fresh access token ($BEARER_TOKEN_FILE) while it runs; required: do not run without one",
        );
    }
}

/// Result of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Slurm continues.
    Proceed,
    /// The user required a credential and there is none.
    Refuse,
}
