// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken that a login requests: options of the command line, then the user's configuration, then what the last login at this server
//! got, then defaults.

use mytoken::capabilities::{AT, CREATE_MYTOKEN, Capabilities, TOKENINFO_HISTORY, TOKENINFO_INTROSPECT};
use mytoken::restrictions::Clause;
use mytoken::token_store::StoredToken;

use crate::command_line::LoginOptions;
use crate::error::Error;
use crate::settings::UserConfig;

/// Default lifetime in seconds: 30 days.
const DEFAULT_LIFETIME: u64 = 30 * 86_400;

/// The mytoken that a login requests.
pub struct RequestedMytoken {
    /// Name in the server's lists.
    pub name: String,
    /// What it may do.
    pub capabilities: Capabilities,
    /// Its only clause.
    pub clause: Clause,
}

impl RequestedMytoken {
    /// Combines options, configuration and the last login at time `now`.
    pub fn new(options: &LoginOptions, user: &UserConfig, last: Option<&StoredToken>, now: u64) -> Result<Self, Error> {
        let clause = last.and_then(|last| last.restrictions.first());
        let asked = (!options.scope.is_empty()).then(|| options.scope.join(" "));
        let scope = asked.or_else(|| user.scope.clone()).or_else(|| clause.map(|clause| clause.scope.clone()));
        let scope = scope.unwrap_or_default();
        let audience = options.audience.clone().or_else(|| user.audience.clone());
        let audience = audience.or_else(|| clause.map(|clause| clause.audience.join(" "))).unwrap_or_default();
        let names = if options.capability.is_empty() { &user.capabilities } else { &options.capability };
        let capabilities = match last {
            _ if !names.is_empty() => Capabilities::new(names.clone())?,
            Some(last) => last.capabilities.clone(),
            None => Capabilities::new(default_capabilities())?,
        };
        let lifetime = options.lifetime.or(user.lifetime).map_or(DEFAULT_LIFETIME, |lifetime| lifetime.as_secs());
        let clause = Clause {
            exp: Some(now.saturating_add(lifetime)),
            scope: scope.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            audience: audience.split_ascii_whitespace().map(str::to_owned).collect(),
            ..Clause::default()
        };
        let name = options.name.clone().or_else(|| user.name.clone());
        let name = name.or_else(|| last.map(|last| last.name.clone())).unwrap_or_else(host_name);
        Ok(Self { name, capabilities, clause })
    }
}

fn default_capabilities() -> Vec<String> {
    [AT, CREATE_MYTOKEN, TOKENINFO_INTROSPECT, TOKENINFO_HISTORY].map(str::to_owned).to_vec()
}

/// Name of this machine.
fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "mytoken-ssh".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::askpass::prompt::DEFAULT;
    use crate::sample;
    use mytoken::config::Duration;

    #[test]
    fn the_sample_of_config_toml_has_every_key_with_its_default() {
        sample::check("config.toml", |mut user: UserConfig| {
            user.lifetime.get_or_insert(Duration::seconds(DEFAULT_LIFETIME));
            if user.capabilities.is_empty() {
                user.capabilities = default_capabilities();
            }
            if user.prompts.is_empty() {
                user.prompts = vec![DEFAULT.to_owned()];
            }
            user
        });
    }

    #[test]
    fn options_take_precedence_over_the_configuration_and_defaults() {
        let user: UserConfig =
            toml::from_str("name = 'laptop'\nscope = 'a'\naudience = 'https://x'\nlifetime = '2h'").unwrap();
        let configured = RequestedMytoken::new(&LoginOptions::default(), &user, None, 1_000).unwrap();
        assert_eq!((configured.name.as_str(), configured.clause.scope.as_str()), ("laptop", "a"));
        assert_eq!((configured.clause.exp, configured.clause.audience), (Some(8_200), vec!["https://x".to_owned()]));
        assert!(configured.capabilities.has(AT) && configured.capabilities.has(TOKENINFO_HISTORY));

        let options = LoginOptions {
            scope: vec!["b".into(), "c  d".into()],
            capability: vec![AT.into()],
            ..LoginOptions::default()
        };
        let chosen = RequestedMytoken::new(&options, &user, None, 1_000).unwrap();
        assert_eq!((chosen.clause.scope.as_str(), chosen.capabilities.to_string()), ("b c d", AT.to_owned()));

        let default = RequestedMytoken::new(&LoginOptions::default(), &UserConfig::default(), None, 1_000).unwrap();
        assert_eq!(default.clause.exp, Some(1_000 + DEFAULT_LIFETIME));
    }

    #[test]
    fn a_second_login_asks_for_what_the_first_one_got() {
        let last: StoredToken = serde_json::from_value(serde_json::json!({
            "server": "https://mt.example.org", "issuer": "https://op.example.org", "name": "laptop", "mytoken": "x.y.z",
            "capabilities": ["AT"], "restrictions": [{"exp": 500, "scope": "a b", "audience": ["https://x"]}],
            "expires_at": 500, "created": 1,
        }))
        .unwrap();
        let of = |options: LoginOptions, user: &UserConfig| {
            let requested = RequestedMytoken::new(&options, user, Some(&last), 1_000).unwrap();
            let clause = requested.clause;
            assert_eq!(clause.exp, Some(1_000 + DEFAULT_LIFETIME));
            (requested.name, requested.capabilities.to_string(), clause.scope, clause.audience.join(" "))
        };
        let wanted = |name: &str, capabilities: &str, scope: &str, audience: &str| {
            (name.to_owned(), capabilities.to_owned(), scope.to_owned(), audience.to_owned())
        };
        let (none, no_user) = (LoginOptions::default, UserConfig::default());
        assert_eq!(of(none(), &no_user), wanted("laptop", "AT", "a b", "https://x"));
        let scope = LoginOptions { scope: vec!["c".into()], ..none() };
        assert_eq!(of(scope, &no_user), wanted("laptop", "AT", "c", "https://x"));
        let any = LoginOptions { scope: vec![String::new()], audience: Some(String::new()), ..none() };
        assert_eq!(of(any, &no_user), wanted("laptop", "AT", "", ""));
        let user: UserConfig = toml::from_str("name = 'desk'\nscope = 'd'\ncapabilities = ['create_mytoken']").unwrap();
        assert_eq!(of(none(), &user), wanted("desk", "create_mytoken", "d", "https://x"));
    }
}
