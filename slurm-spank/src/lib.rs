// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entry points only; what they do is in `mytoken`.
