// SPDX-License-Identifier: MIT OR Apache-2.0
//! A site: its root file system and namespaces, its users and addresses, and the services that run in it.

pub mod addresses;
pub mod command;
pub(crate) mod control_groups;
pub(crate) mod controls;
pub mod daemon;
pub mod earlier;
pub(crate) mod emulation;
pub mod foreign;
pub(crate) mod host;
pub mod init;
pub mod memory;
pub mod namespace;
pub(crate) mod options;
pub mod packages;
pub mod paths;
pub mod plan;
mod product;
mod product_config;
pub(crate) mod release;
pub mod root;
pub(crate) mod running;
pub mod servers;
pub mod services;
mod startup;
pub mod users;
