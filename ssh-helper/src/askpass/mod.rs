// SPDX-License-Identifier: MIT OR Apache-2.0
//! How ssh gets the token: ssh runs this program as its askpass, and the askpass asks the wrapper that started ssh,
//! over a private socket.
//!
//! ssh closes all descriptors above 2 and passes its environment on to `ProxyCommand` and `LocalCommand`. So neither a
//! descriptor nor the environment can carry the token (SSH-20). The environment carries the path of the socket and a
//! nonce.

pub mod client;
pub mod directory;
pub mod message;
pub mod prompt;
pub mod responder;
pub mod server;
pub mod terminal;
