// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client that is made when the first request needs it: loading the certificates takes milliseconds that most logins, with
//! cached keys, need not spend.

use std::cell::OnceCell;

use super::HttpError;
use super::{HttpClient, HttpSettings};

/// A client to be. It belongs to one operation, like the client itself.
pub struct LazyClient<'a> {
    settings: &'a HttpSettings,
    client: OnceCell<HttpClient>,
}

impl<'a> LazyClient<'a> {
    /// A client with these settings; nothing is opened yet.
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
