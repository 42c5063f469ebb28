// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random numbers for names that cannot be guessed.

use rand::RngExt;
use rand::distr::{Distribution, StandardUniform};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

/// A random value from the kernel. No generator is kept in this process, which may be sshd and may fork.
///
/// # Panics
/// When the kernel gives none, which Linux does not do.
#[must_use]
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    UnwrapErr(SysRng).random()
}
