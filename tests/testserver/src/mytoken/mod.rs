// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken server, faithful to the captures of mytoken 0.10.2.
