// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[budget]` of `login.toml`.

use mytoken::config::Duration;
use serde::Deserialize;

/// How many requests to the mytoken server may come from logins that were not accepted (yet).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BudgetTable")]
pub struct BudgetSettings {
    /// From one IPv4 address or one IPv6 /64, within `window`.
    pub per_address: usize,
    /// From all addresses together, within `window`. A third of it is reserved for addresses with a recently accepted login. It is
    /// below the mytoken server's limit for this host's address, so that accepted logins and the agent have requests left.
    pub per_host: usize,
    /// The period in which requests are counted.
    pub window: Duration,
}

impl BudgetSettings {
    /// Maximum number of requests in the ledger, which is read and written as a whole.
    pub const REQUESTS_LIMIT: usize = 10_000;

    /// The part of `per_host` for addresses without a recently accepted login.
    #[must_use]
    pub fn for_unknown_addresses(&self) -> usize {
        self.per_host - self.per_host / 3
    }
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { per_address: 15, per_host: 60, window: Duration::seconds(300) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetTable {
    per_address: Option<usize>,
    per_host: Option<usize>,
    window: Option<Duration>,
}

impl TryFrom<BudgetTable> for BudgetSettings {
    type Error = String;

    fn try_from(table: BudgetTable) -> Result<Self, String> {
        let default = Self::default();
        let settings = Self {
            per_address: table.per_address.unwrap_or(default.per_address),
            per_host: table.per_host.unwrap_or(default.per_host),
            window: table.window.unwrap_or(default.window),
        };
        if !(1..=86_400).contains(&settings.window.as_secs()) {
            return Err("window must be between \"1s\" and \"1d\"".to_owned());
        }
        if settings.per_address.max(settings.per_host) > Self::REQUESTS_LIMIT {
            return Err(format!("per_address and per_host can be at most {}", Self::REQUESTS_LIMIT));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_are_errors() {
        let read = |text: &str| toml::from_str::<BudgetSettings>(text).map_err(|error| error.message().to_owned());
        assert_eq!(read(""), Ok(BudgetSettings::default()));
        assert_eq!(read("per_host = 0").map(|settings| settings.per_host), Ok(0));
        for (text, part) in [
            ("window = \"0s\"", "window must be"),
            ("window = \"2d\"", "window must be"),
            ("per_host = 10001", "at most 10000"),
            ("per_adress = 1", "per_adress"),
        ] {
            assert!(read(text).is_err_and(|message| message.contains(part)), "{text}");
        }
    }
}
