// SPDX-License-Identifier: MIT OR Apache-2.0
//! The site's mytoken server records all requests in a journal.

use serde::Deserialize;

use crate::drive::people::control;
use crate::site::servers::CONTROL;
use crate::{Error, Result, Site};

/// The requests since the journal was last cleared, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal(Vec<Request>);

/// One request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Request {
    /// Unix time of the answer in seconds.
    pub time: f64,
    /// Address of the client.
    pub peer: std::net::IpAddr,
    /// `mytoken`, `access_token`, `revocation`, `transfer`, `tokeninfo`, `discovery`, ...
    pub endpoint: String,
    /// `mytoken`, `transfer_code`, `oidc_flow`, ... if the request has a grant type.
    pub grant_type: Option<String>,
    /// The status of the answer; `None` if the server closed the connection instead.
    pub status: Option<u16>,
}

impl Journal {
    /// Reads the journal.
    ///
    /// # Errors
    /// When the control API refuses.
    pub fn read(site: &Site) -> Result<Self> {
        let text = control(site, "/journal?service=mytoken", None)?;
        serde_json::from_str(&text).map(Self).map_err(|error| Error::Refused(format!("the journal: {error}: {text}")))
    }

    /// Clears the journal.
    ///
    /// # Errors
    /// When the control API refuses.
    pub fn clear(site: &Site) -> Result<()> {
        let url = format!("{CONTROL}/journal");
        site.run("root", ["curl", "-sS", "--fail-with-body", "--max-time", "20", "-X", "DELETE", &url])?.ok().map(drop)
    }

    /// The requests.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.0
    }

    /// Number of requests to this endpoint that were answered with 2xx.
    #[must_use]
    pub fn granted(&self, endpoint: &str) -> usize {
        self.0.iter().filter(|request| request.endpoint == endpoint && request.is_granted()).count()
    }

    /// Number of requests to this endpoint.
    #[must_use]
    pub fn requests_to(&self, endpoint: &str) -> usize {
        self.0.iter().filter(|request| request.endpoint == endpoint).count()
    }

    /// Number of mytokens that were made from another one: the sub-tokens of submissions and logins.
    #[must_use]
    pub fn sub_tokens(&self) -> usize {
        let is_sub_token =
            |request: &&Request| request.endpoint == "mytoken" && request.grant_type.as_deref() == Some("mytoken");
        self.0.iter().filter(is_sub_token).filter(|request| request.is_granted()).count()
    }
}

impl Request {
    fn is_granted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}
