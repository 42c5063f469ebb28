// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages between the processes of the suite on one host: the agent's protocol, the answer of `mytoken-submit`, the prompts and
//! pieces of tokens over ssh, and the types that all of these need.
//!
//! The Slurm plugin loads only this crate of the suite into sbatch and slurmstepd. So this crate has no HTTP, no TLS, no configuration
//! and no encryption, and no features that would change an enum.
#![forbid(unsafe_code)]

// The agent runs on Linux only. Everything else that mytoken-ssh needs is POSIX.
#[cfg(target_os = "linux")]
pub mod agent;
#[cfg(target_os = "linux")]
mod base64url;
pub mod chunks;
pub mod clock;
pub mod credential_option;
pub mod defaults;
mod file_name;
mod handle;
pub mod hex;
pub mod issuer_mark;
mod job_name;
mod limited_read;
mod members;
pub mod paths;
mod plugin_settings;
mod printable;
pub mod profile;
pub mod sealed;
mod secret;
mod shell;
pub mod submission;
#[cfg(target_os = "linux")]
pub mod token_file;
pub mod tools;
pub mod version;

pub use clock::{Clock, Deadline, ScheduleClock, SystemClock};
pub use credential_option::CredentialOption;
pub use file_name::{FileName, MOST_FILES};
pub use handle::Handle;
pub use job_name::{JobName, NotAJob};
pub use limited_read::limited_read;
pub use members::Malformed;
#[cfg(fuzzing)]
pub use members::is_read_alike;
pub use plugin_settings::PluginSettings;
pub use printable::{is_printable, printable};
pub use profile::ProfileName;
pub use secret::Secret;
pub use shell::shell_word;
