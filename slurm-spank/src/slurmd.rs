// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmd itself: it loads the plugin because `slurm_spank_init` exists (SLURM-04), and is the place where an administrator reads what is wrong.

use crate::ffi::error;
use crate::hook::HookCall;

/// Says what is wrong in plugstack.conf.
pub fn init(call: &HookCall) {
    for problem in &call.settings.problems {
        error(problem);
    }
}
