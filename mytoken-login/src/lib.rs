// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login with a token: from the prompt to the decision, and from there to the session.
//!
//! [`authenticate()`] prompts for the token and decides. [`decide`] applies the rules; it is pure. [`handover`] passes the result from
//! sshd's auth child to the [`session`]. The network, the clock, the accounts and the conversation are traits; [`LoginResources`]
//! supplies the real implementations.
#![forbid(unsafe_code)]

mod account_name;
mod accounts;
mod authenticate;
pub mod budget;
mod checks;
mod claims_decision;
mod comment;
mod context;
mod conversation;
mod counted_requests;
mod credential;
mod exchange;
mod explain;
mod explain_lines;
mod fail_delay;
mod failure_line;
pub mod handover;
mod identity;
mod key_logins;
mod last_logins;
pub mod link;
mod log_line;
mod logged_decision;
mod login_time;
mod map_file;
pub mod mapper;
mod maps;
mod module_arguments;
pub mod oidc;
mod one_time_password;
mod refusal;
mod remote;
pub mod replay;
mod report;
mod resources;
mod rules;
mod runtime_dir;
mod server_tokens;
mod service;
mod service_state;
pub mod session;
mod settings;
#[cfg(test)]
#[path = "../../tests/skipped.rs"]
mod skipped;
mod template;
pub mod user_runtime_dir;
pub mod validation;

pub use account_name::{AccountName, InvalidAccountName, NameForm};
pub use accounts::{AccountDatabase, AccountEntry, AccountLookupFailed, LocalAccount, NssAccounts};
pub use authenticate::{authenticate, examine};
pub use checks::{Check, CheckVerdict, Checks, Setting, Subject};
pub use claims_decision::{ClaimsDecision, examine_claims};
pub use comment::CommentTemplate;
pub use context::{Attempt, ConfiguredServer, LoginContext};
pub use conversation::{AskError, Conversation, ConversationEnded, PLAIN_PROMPT, ask};
pub use credential::SessionCredential;
pub use explain::{Explanation, SettingPlaces};
pub use fail_delay::remaining_fail_delay;
pub use failure_line::failure_line;
pub use identity::Identity;
pub use key_logins::{KeyLogin, KeyLoginRules};
pub use last_logins::{GivenBy, LastLogin, LastLogins};
pub use log_line::escape_field;
pub use logged_decision::LoggedDecision;
pub use map_file::{LineError, MapFile};
pub use maps::{MapFileUnusable, Maps};
pub use module_arguments::ModuleArguments;
pub use mytoken::Process;
pub use refusal::{Level, Limit, Refusal, RefusalClass};
pub use remote::Remote;
pub use report::{Accepted, Report, RevocationResult, StepDurations};
pub use resources::LoginResources;
pub use rules::{
    AarcEntitlement, AarcFault, AarcForm, AssuranceExpression, AssuranceFault, ClaimPath, Decision, Requirement,
    RuleOutcome, RuleResult, decide,
};
pub use runtime_dir::open_runtime_dir;
pub use server_tokens::ServerTokens;
pub use service::TokenService;
pub use service_state::ServiceState;
pub use settings::{
    AccountPhaseSettings, AccountSettings, CommandSettings, ExchangeSettings, Exchangeable, KeyLogins, LinkQr,
    LinkSettings, LogSettings, LoginSettings, MapperSettings, Mapping, MotleyCueSettings, OnOutage, PromptSettings,
    Replay, ReplaySettings, Rule, SessionDirectory, SessionSettings, SessionStore, UserFileSettings,
};
pub use template::{AccountTemplate, MissingClaim};
