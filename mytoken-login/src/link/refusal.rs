// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a login with a link is refused.

use crate::refusal::Refusal;

/// Why a login with a link is refused. `Display` is the sentence for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    /// Another login with a link waits. The sentence is the same for each cause: it must not show who logs in just now.
    #[error("another login with a link is waiting here; finish or end it, or try again in two minutes")]
    Busy(
        /// What it shares with this one.
        Busy,
    ),
    /// The person declined on the consent page.
    #[error("the login was declined in the browser")]
    Declined,
    /// Nobody confirmed in time, or the provider refused.
    #[error("the login was not confirmed in the browser in time; connect again")]
    NotConfirmed,
    /// The link is over, and an earlier answer of the server was lost. It may have been the mytoken, which nobody here knows then.
    #[error(
        "the mytoken server did not answer, and the link is not valid any more; if you have confirmed it, a mytoken of that name may \
         exist: revoke it on the server's page, and try again"
    )]
    AnswerLost,
    /// The person, or the server, changed the rights on the consent page.
    #[error("the confirmed mytoken has more rights than this host asked for ({0}); confirm without changes")]
    Broader(
        /// What is broader.
        String,
    ),
}

/// What a login shares with another one that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// The account.
    Account,
    /// The address.
    Address,
    /// The host: too many wait.
    Host,
}

impl LinkRefusal {
    /// One word for the log.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Busy(_) => "link_busy",
            Self::Declined => "link_declined",
            Self::NotConfirmed => "link_not_confirmed",
            Self::AnswerLost => "link_answer_lost",
            Self::Broader(_) => "link_broader",
        }
    }

    /// The details for the log.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Busy(Busy::Account) => Some("the account".to_owned()),
            Self::Busy(Busy::Address) => Some("the address".to_owned()),
            Self::Busy(Busy::Host) => Some("the host".to_owned()),
            Self::Broader(what) => Some(what.clone()),
            Self::Declined | Self::NotConfirmed | Self::AnswerLost => None,
        }
    }
}

impl From<LinkRefusal> for Refusal {
    fn from(refusal: LinkRefusal) -> Self {
        Self::Link(refusal)
    }
}
