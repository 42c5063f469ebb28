// SPDX-License-Identifier: MIT OR Apache-2.0
//! How ssh gets the token: it runs this program as its askpass, which asks the wrapper that started ssh over a private socket.
//!
//! ssh closes all descriptors above 2 and hands its environment to `ProxyCommand` and `LocalCommand`, so neither a descriptor nor the
//! environment can carry the token (dossier `pam-ssh` 2.4). The environment carries the socket's path and a nonce.

mod directory;
pub mod instance;
pub mod message;
pub mod prompt;
pub mod service;
pub mod socket;
pub mod terminal;
