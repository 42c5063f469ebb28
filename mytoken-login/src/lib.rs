// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login with a token: from the prompt to the decision, and from there to the session.
//!
//! [`authenticate()`] asks and decides, [`decide`] is the pure heart of it, [`handover`] carries the result from sshd's auth child to
//! the [`session`]. The network, the clock, the accounts and the person come in as traits.
#![forbid(unsafe_code)]

mod account_name;
mod authenticate;
pub mod budget;
mod conversation;
mod credential;
mod decision;
mod explain;
mod fail_delay;
pub mod handover;
mod identity;
mod map_file;
mod maps;
pub mod oidc;
mod process;
mod refusal;
mod remote;
mod report;
mod server_tokens;
mod service;
pub mod session;
mod settings;
mod template;

pub use account_name::{AccountName, InvalidAccountName, NameForm};
pub use authenticate::{
    Accepted, Attempt, ConfiguredServer, Fact, Report, TakenBack, Times, World, authenticate, examine,
};
pub use conversation::{Asked, Conversation, Gone, ask};
pub use credential::SessionCredential;
pub use decision::{Decision, Finding, Requirement, Source, Step, Verdict, decide};
pub use explain::explain;
pub use fail_delay::hold;
pub use identity::{Account, Accounts, Identity, SystemAccounts};
pub use map_file::{MapFile, Mistake};
pub use maps::Maps;
pub use process::Process;
pub use refusal::{Class, Level, Refusal};
pub use remote::Remote;
pub use report::field;
pub use server_tokens::ServerTokens;
pub use service::{Exchanged, TokenService, Wanted};
pub use settings::{
    AccountSettings, ExchangeSettings, Exchangeable, LoginSettings, Mapping, PromptSettings, Rule, SessionMytoken,
    SessionSettings,
};
pub use template::Template;
