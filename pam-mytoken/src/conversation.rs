// SPDX-License-Identifier: GPL-3.0-or-later
//! The person behind PAM's conversation.

use mytoken_login::{Conversation, Gone};
use zeroize::Zeroizing;

use crate::ffi::{self, Style};
use crate::host::Host;

/// Longest text that is said, in bytes: classic applications cut at 512 (`PAM_MAX_MSG_SIZE`, SSH-28).
const TEXT_LIMIT: usize = 500;

/// Talks through the application.
pub struct Person<'a> {
    host: &'a Host<'a>,
}

impl<'a> Person<'a> {
    /// The person at this host.
    pub fn new(host: &'a Host<'a>) -> Self {
        Self { host }
    }
}

impl Conversation for Person<'_> {
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, Gone> {
        // No answer at all is what an application gives that has nobody to ask.
        ffi::converse(self.host.pam, Style::PromptEchoOff, prompt).ok().flatten().ok_or(Gone)
    }

    fn tell(&mut self, text: &str) {
        if !self.host.silent {
            let end = (0..=text.len().min(TEXT_LIMIT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            let _ = ffi::converse(self.host.pam, Style::ErrorMessage, text.get(..end).unwrap_or_default());
        }
    }
}
