// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login with a token: from the prompt to the decision, and from there to the session.

mod settings;
mod template;

pub use settings::{
    AccountSettings, ExchangeSettings, Exchangeable, LoginSettings, Mapping, PromptSettings, Rule, SessionMytoken,
    SessionSettings,
};
pub use template::Template;
