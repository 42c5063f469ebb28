// SPDX-License-Identifier: MIT OR Apache-2.0
//! The site's mytoken server records all requests in a journal.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::drive::people::control;
use crate::site::servers::CONTROL;
use crate::{Error, Result, Site};

/// The requests since the journal was last cleared, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal(Vec<Request>);

/// One request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Request {
    /// Unix time in seconds at which it was carried out.
    pub time: f64,
    /// Address of the client.
    pub peer: std::net::IpAddr,
    /// `mytoken`, `access_token`, `revocation`, `transfer`, `tokeninfo`, `discovery`, ...
    pub endpoint: String,
    /// `mytoken`, `transfer_code`, `oidc_flow`, ... if the request has a grant type.
    pub grant_type: Option<String>,
    /// The status of the answer; `None` if the server closed the connection instead.
    pub status: Option<u16>,
    /// So many milliseconds after the request was carried out, its answer was sent.
    #[serde(default)]
    pub late_ms: u64,
    /// Its answer was sent, or still waits to be: nothing closed the connection before.
    #[serde(default)]
    pub sent: bool,
    /// Fingerprint of the mytoken in the request.
    pub token: Option<String>,
    /// Fingerprint of the mytoken in the answer: of a new sub-token.
    pub made: Option<String>,
    /// `mom_id` of a new sub-token.
    pub mom_id: Option<String>,
}

/// What happened with one sub-token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubToken {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its `mom_id`.
    pub mom_id: String,
    /// Fingerprint of the mytoken that it was made of.
    pub parent: String,
    /// Number of access tokens that were granted to it.
    pub access_tokens: usize,
    /// Number of requests for an access token that were refused.
    pub refused: usize,
    /// Number of its revocations.
    pub revocations: usize,
    /// Number of those whose answer came late. Nobody waits for it: whoever sent one sends it again.
    pub late_revocations: usize,
    /// The answer with it was sent. Otherwise nobody knows it.
    pub sent: bool,
}

/// The fingerprint of a mytoken in the journal: the begin of its SHA-256.
#[must_use]
pub fn fingerprint(mytoken: &str) -> String {
    Sha256::digest(mytoken).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
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

    /// The sub-tokens, oldest first.
    #[must_use]
    pub fn each_sub_token(&self) -> Vec<SubToken> {
        let made = self.0.iter().filter(|request| request.is_sub_token());
        made.filter_map(|request| {
            let fingerprint = request.made.clone()?;
            let requests = |endpoint: &'static str, granted: bool| {
                let of = move |other: &&Request| {
                    other.endpoint == endpoint
                        && other.token.as_ref() == request.made.as_ref()
                        && other.is_granted() == granted
                };
                self.0.iter().filter(of)
            };
            let count = |endpoint, granted| requests(endpoint, granted).count();
            Some(SubToken {
                mom_id: request.mom_id.clone().unwrap_or_default(),
                parent: request.token.clone().unwrap_or_default(),
                access_tokens: count("access_token", true),
                refused: count("access_token", false),
                revocations: count("revocation", true),
                late_revocations: requests("revocation", true).filter(|request| request.late_ms > 0).count(),
                sent: request.sent,
                fingerprint,
            })
        })
        .collect()
    }

    /// Number of mytokens that were made from another one: the sub-tokens of submissions and logins.
    #[must_use]
    pub fn sub_tokens(&self) -> usize {
        self.0.iter().filter(|request| request.is_sub_token()).count()
    }
}

impl Request {
    /// Whether it made a mytoken of another one.
    fn is_sub_token(&self) -> bool {
        self.endpoint == "mytoken" && self.grant_type.as_deref() == Some("mytoken") && self.is_granted()
    }

    fn is_granted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}
