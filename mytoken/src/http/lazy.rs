// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client that is made only when the first request needs it. Loading the certificates takes milliseconds, and most logins send no
//! request, because the keys are cached.

use std::cell::OnceCell;

use super::HttpError;
use super::{HttpClient, HttpSettings};

/// Makes the client on first use. It belongs to one operation, like the client itself.
pub struct LazyClient<'a> {
    settings: &'a HttpSettings,
    client: OnceCell<HttpClient>,
}

impl<'a> LazyClient<'a> {
    /// Keeps the settings; opens nothing.
    #[must_use]
    pub fn new(settings: &'a HttpSettings) -> Self {
        Self { settings, client: OnceCell::new() }
    }

    /// The client.
    ///
    /// # Errors
    /// As [`HttpClient::new`].
    pub fn get(&self) -> Result<&HttpClient, HttpError> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => {
                let made = HttpClient::new(self.settings)?;
                Ok(self.client.get_or_init(|| made))
            }
        }
    }
}
