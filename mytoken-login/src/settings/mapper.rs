// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mappers of `[[rule]]`: see [`crate::mapper`].

/// A mapper of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapperSettings {}

impl std::fmt::Display for MapperSettings {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}
