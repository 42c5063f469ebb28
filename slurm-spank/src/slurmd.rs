// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmd loads the plugin because `slurm_spank_init` exists (SLURM-04). Administrators look for errors in its log.

use crate::ffi::error;
use crate::hook::HookCall;

/// Logs the errors in the plugin's arguments in plugstack.conf.
pub fn init(call: &HookCall) {
    for problem in &call.settings.problems {
        error(format_args!("{problem}"));
    }
}
