// SPDX-License-Identifier: GPL-3.0-or-later
//! PAM's conversation with the user.

use mytoken_login::{Conversation, ConversationEnded};
use zeroize::Zeroizing;

use crate::context::PamContext;
use crate::ffi::{self, Style};

/// Longest message, in bytes: classic applications cut at 512 (`PAM_MAX_MSG_SIZE`, SSH-28).
const TEXT_LIMIT: usize = 500;

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
        if !self.context.silent {
            let end = (0..=text.len().min(TEXT_LIMIT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            let _ = ffi::converse(self.context.pam, Style::ErrorMessage, text.get(..end).unwrap_or_default());
        }
    }
}
