// SPDX-License-Identifier: MIT OR Apache-2.0
//! Job credentials: what is asked for at submission, when it is renewed, when it ends. Pure: clock and randomness come in.

pub mod settings;
