// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random numbers for ids that cannot be guessed.

use rand::RngExt;
use rand::distr::{Distribution, StandardUniform};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

/// A random value from the kernel. This process keeps no generator, because it may be sshd and may fork.
///
/// # Panics
/// If the kernel returns no random bytes. Linux always does.
#[must_use]
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    UnwrapErr(SysRng).random()
}
