// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a submission gets no credential.

use mytoken::Error;
use mytoken_wire::agent::UsedUp;

use crate::jobs::SealError;

/// Why a mytoken cannot be the parent of a job's sub-token. The text follows "the mytoken of your session".
#[derive(Debug, thiserror::Error)]
pub enum UnusableMytoken {
    /// Its file cannot be read.
    #[error("cannot be read ({0})")]
    Unreadable(#[from] std::io::Error),
    /// It is not a JWT with a mytoken's claims.
    #[error("is malformed (not a mytoken in the form of a JWT)")]
    Malformed,
    /// Another server issued it.
    #[error("was issued by another mytoken server")]
    OtherServer,
    /// It has expired.
    #[error("has expired")]
    Expired,
    /// It rotates. All its users would have to store the successor under one lock, as the store does.
    #[error("is replaced at each use and cannot be shared by a file")]
    Rotates,
    /// It lacks the capability `create_mytoken`.
    #[error("may not make sub-tokens (it lacks the capability create_mytoken)")]
    MissingCapability,
    /// It lacks the capability `AT`, so its sub-tokens do too.
    #[error("gives no access tokens (it lacks the capability AT)")]
    NoAccessTokens,
    /// All its restrictions begin later. The text is the time.
    #[error("is not valid before {0}")]
    NotYet(String),
}

impl SubmitError {
    /// Whether a mytoken is unusable because of the time of day.
    pub(super) fn is_about_time(&self) -> bool {
        let about_time =
            |why: &Option<UnusableMytoken>| matches!(why, Some(UnusableMytoken::Expired | UnusableMytoken::NotYet(_)));
        matches!(self, Self::NoMytoken { session, stored, .. } if about_time(session) || about_time(stored))
    }
}

/// Why a submission gets no credential. A sentence for the user who submits.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// `jobs.toml` has no such profile.
    #[error("there is no profile \"{}\"; this cluster has: {known}", name.escape_debug())]
    UnknownProfile {
        /// Its name.
        name: String,
        /// The names in `jobs.toml`.
        known: String,
    },
    /// The job may go to another cluster.
    #[error(
        "--clusters={} names another cluster than \"{own}\", and only this one can open the credential; submit on a login host of the other cluster",
        mytoken_wire::printable(named, 200)
    )]
    OtherCluster {
        /// What the user has named.
        named: String,
        /// This cluster.
        own: String,
    },
    /// The user's own `jobs.toml` cannot be used. The text is a sentence.
    #[error("{0}")]
    OwnProfiles(String),
    /// The user has no mytoken that can make the sub-token.
    #[error("{} and {}. Run: mytoken-ssh login", session_reason(session.as_ref()), stored_reason(server, stored.as_ref()))]
    NoMytoken {
        /// Host of the mytoken server.
        server: String,
        /// Why the session's mytoken cannot be used; `None` when there is none.
        session: Option<UnusableMytoken>,
        /// Why the mytoken in the store cannot be used; `None` when there is none.
        stored: Option<UnusableMytoken>,
    },
    /// The job would not get the credential: `--export-file`. The text says why no broker keeps it, if one was asked.
    #[error(
        "--export-file replaces the job's environment, and the credential with it{0}; use --export=NAME,... instead"
    )]
    ExportFile(String),
    /// The caller has given up, and nothing was requested.
    #[error("the submission did not wait for its credential")]
    Abandoned,
    /// The server has a request limit, and the share of it that the user may use is used up.
    #[error("{}", no_permit(server, until, *used_up))]
    NoPermit {
        /// Name of the server in `mytoken.toml`.
        server: String,
        /// When there will be a permit again.
        until: String,
        /// Whose share it is.
        used_up: UsedUp,
    },
    /// The server refused the use of the mytoken.
    #[error("{error}; {limits}")]
    Restricted {
        /// Its refusal.
        error: Error,
        /// When, where and how often the mytoken may be used.
        limits: String,
    },
    /// Configuration, store, network or server.
    #[error(transparent)]
    Client(#[from] Error),
    /// The credential could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

mytoken::impl_from_part_errors!(
    SubmitError::Client: mytoken::config::ConfigError,
    mytoken::http::HttpError,
    mytoken::token_store::StoreError,
);

fn no_permit(server: &str, until: &str, used_up: UsedUp) -> String {
    match used_up {
        UsedUp::User => format!(
            "the site's budget of requests to the mytoken server \"{server}\" is used up for you until {until}; submit again then, or put the loop into an array"
        ),
        UsedUp::Host => format!(
            "the share of this host in the site's budget of requests to the mytoken server \"{server}\" is used up until {until}; submit again then"
        ),
        UsedUp::All => format!(
            "the site's budget of requests to the mytoken server \"{server}\" is used up until {until}; submit again then"
        ),
    }
}

fn session_reason(unusable: Option<&UnusableMytoken>) -> String {
    unusable.map_or_else(|| "your session has none".to_owned(), |why| format!("the mytoken of your session {why}"))
}

fn stored_reason(server: &str, unusable: Option<&UnusableMytoken>) -> String {
    unusable.map_or_else(
        || format!("~/.config/mytoken holds no token for {server}"),
        |why| format!("the one in ~/.config/mytoken for {server} {why}"),
    )
}
