// SPDX-License-Identifier: MIT OR Apache-2.0
//! See docs/architecture.md.
fn main() {}
