// SPDX-License-Identifier: GPL-3.0-or-later
//! PAM's conversation with the user.

use mytoken_login::{Conversation, ConversationEnded, PLAIN_PROMPT};
use zeroize::Zeroizing;

use crate::context::PamContext;
use crate::ffi::{self, Style};

/// Longest prompt over ssh, in bytes: sshd and ssh have no limit, and a link with its QR code has about 2,300.
const SSH_PROMPT: usize = 8_192;

/// The conversation that the application supplies.
pub struct PamConversation<'a> {
    context: &'a PamContext<'a>,
}

impl<'a> PamConversation<'a> {
    /// The conversation of this call.
    pub fn new(context: &'a PamContext<'a>) -> Self {
        Self { context }
    }
}

impl Conversation for PamConversation<'_> {
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
        // An application without a user gives no answer.
        ffi::converse(self.context.pam, Style::PromptEchoOff, prompt).ok().flatten().ok_or(ConversationEnded)
    }

    fn show(&mut self, text: &str) {
        self.message(Style::ErrorMessage, text);
    }

    fn inform(&mut self, text: &str) {
        self.message(Style::TextInfo, text);
    }

    fn prompt_limit(&self) -> usize {
        if self.context.ssh_connection().is_some() { SSH_PROMPT } else { PLAIN_PROMPT }
    }
}

impl PamConversation<'_> {
    fn message(&self, style: Style, text: &str) {
        if !self.context.silent {
            let end = (0..=text.len().min(PLAIN_PROMPT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            let _ = ffi::converse(self.context.pam, style, text.get(..end).unwrap_or_default());
        }
    }
}
