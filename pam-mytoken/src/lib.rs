// SPDX-License-Identifier: GPL-3.0-or-later
//! Entry points only; what they do is in `mytoken`.
