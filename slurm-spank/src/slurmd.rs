// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmd itself: it loads the plugin because `slurm_spank_init` exists (SLURM-04), and is the place where an administrator reads what is wrong.

use crate::dispatch::Call;
use crate::ffi::error;

/// Says what is wrong in plugstack.conf.
pub fn init(call: &Call) {
    for problem in &call.settings.problems {
        error(problem);
    }
}
