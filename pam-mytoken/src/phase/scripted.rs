// SPDX-License-Identifier: GPL-3.0-or-later
//! Test builds only, feature `scripted`: if the configuration has a file `script.toml`, it supplies what a login takes from its host and from
//! the network. `tests/scripts.rs` plays the login scripts with it, without root and without a network.

#[path = "../../../mytoken-login/tests/login/answers.rs"]
mod answers;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use mytoken::config::{Duration, FileTrust, IssuerSettings};
use mytoken::private_files::Owner;
use mytoken::server::AccessTokenRequest;
use mytoken::{Deadline, Secret};
use mytoken_login::budget::{Allowance, BudgetSettings};
use mytoken_login::mapper::{self, Given, Mapper, Mappers};
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable, Rejection};
use mytoken_login::validation::{PresentedToken, Validator};
use mytoken_login::{
    AccountDatabase, AccountEntry, AccountLookupFailed, Attempt, ConfiguredServer, LastLogins, LocalAccount,
    LoginContext, LoginSettings, MapFile, MapperSettings, Maps, MotleyCueSettings, Refusal, TokenService,
};
use mytoken_wire::clock::FixedClock;
use pamsm::PamError;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::authenticate::decide;
use super::key_login::Host;
use crate::context::PamContext;

/// The directory of the records, once a script has begun.
static RECORDS: OnceLock<PathBuf> = OnceLock::new();

/// Whether the transfer code was redeemed.
static REDEEMED: AtomicBool = AtomicBool::new(false);

/// `script.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    /// Unix seconds.
    now: u64,
    /// The content of `login.toml`.
    login: String,
    /// The table `[[issuer]]`.
    issuer: String,
    /// The map file `/etc/mytoken/users.map`.
    map: String,
    /// Accounts with their user ids. The look-up of `broken` fails.
    accounts: BTreeMap<String, u32>,
    jwks: String,
    /// Whether the keys must be fetched.
    cold: bool,
    keys_unavailable: bool,
    /// URL of the mytoken server.
    server: String,
    /// Name of its answer to an exchange, instead of `access_token`.
    answers: Option<String>,
    /// Name of its answer to a revocation.
    revokes: Option<String>,
    /// Answers of the provider about a token, as JSON.
    userinfo: Option<String>,
    introspection: Option<String>,
    access_token: String,
    transfer_code: String,
    /// The mytoken of the transfer code.
    mytoken: String,
    /// What each mapper answers.
    mapper: String,
    /// The file in which the requests are noted.
    requests: PathBuf,
    /// The directory of the records.
    records: PathBuf,
    /// The directory of the last logins.
    logins: PathBuf,
}

/// The directory of the records, if a script has begun.
pub(super) fn records() -> Option<&'static Path> {
    RECORDS.get().map(PathBuf::as_path)
}

/// The script of the configuration.
pub(super) fn read(context: &PamContext<'_>) -> Option<Script> {
    let text = fs::read_to_string(context.arguments.config.join("script.toml")).ok()?;
    toml::from_str(&text).ok()
}

/// Runs a login of the script. `None`: there is no script.
pub(super) fn log_in(context: &PamContext<'_>, attempt: &Attempt) -> Option<PamError> {
    let script = read(context)?;
    RECORDS.get_or_init(|| script.records.clone());
    let mut settings: LoginSettings = toml::from_str(&script.login).ok()?;
    settings.fail_delay = Duration::seconds(0);
    let issuers = [toml::from_str::<IssuerSettings>(&script.issuer).ok()?];
    let mut maps = Maps::default();
    maps.insert(Path::new("/etc/mytoken/users.map"), Ok(MapFile::parse(script.map.as_bytes())));
    let budget = BudgetSettings::default();
    let login = LoginContext {
        settings: &settings,
        issuers: &issuers,
        servers: &[ConfiguredServer { name: "testbed", url: &script.server, tokens: &script }],
        used_tokens: None,
        accounts: &script,
        maps: &maps,
        mappers: &script,
        keys: &script,
        userinfo: &Asked { script: &script, endpoint: "GET userinfo_endpoint", answer: script.userinfo.as_deref() },
        introspection: &Asked {
            script: &script,
            endpoint: "POST introspection_endpoint",
            answer: script.introspection.as_deref(),
        },
        link: None,
        clock: &FixedClock(script.now),
        began: std::time::Instant::now(),
    };
    Some(decide(context, attempt, &login, &Allowance::uncounted(&budget)))
}

impl Script {
    /// What the account phase takes from the host.
    pub(super) fn host(&self) -> Host<'_> {
        let owner = Owner::current();
        let (trust, logins) = (FileTrust::user(owner.uid), LastLogins::new(&self.logins, owner));
        Host { trust, logins, accounts: self, now: self.now }
    }

    fn note(&self, request: &str) {
        let file = File::options().append(true).create(true).open(&self.requests);
        let _ = file.and_then(|mut file| file.write_all(format!("{request}\n").as_bytes()));
    }
}

impl Mappers for Script {
    fn mapper<'a>(&'a self, settings: &'a MapperSettings) -> Box<dyn Mapper + 'a> {
        Box::new(ScriptedMapper { script: self, settings })
    }

    fn redeem(
        &self,
        settings: &MotleyCueSettings,
        _: &LocalAccount,
        _: &Secret,
        _: Deadline,
    ) -> Result<Given, Refusal> {
        self.note(&format!("redeem at {}", settings.url));
        answers::mapper_answer(&self.mapper)
    }
}

/// The mapper of a rule.
struct ScriptedMapper<'a> {
    script: &'a Script,
    settings: &'a MapperSettings,
}

impl Mapper for ScriptedMapper<'_> {
    fn gives(&self, _: &mapper::Asked<'_>, _: Deadline) -> Result<Given, Refusal> {
        self.script.note(&format!("ask {}", self.settings));
        answers::mapper_answer(&self.script.mapper)
    }
}

impl TokenService for Script {
    fn redeem(&self, code: &Secret, _: Deadline) -> Result<Secret, Refusal> {
        self.note("POST mytoken_endpoint transfer_code");
        if code.expose() != self.transfer_code || REDEEMED.swap(true, Ordering::Relaxed) {
            return Err(answers::code_refused(&self.server).into());
        }
        Ok(Secret::new(self.mytoken.as_str()))
    }

    fn exchange(&self, _: &AccessTokenRequest<'_>, _: bool, _: Deadline) -> Result<Secret, Refusal> {
        self.note("POST access_token_endpoint");
        match self.answers.as_deref().and_then(|name| answers::exchange_error(name, &self.server)) {
            Some(error) => Err(error.into()),
            None => Ok(Secret::new(self.access_token.as_str())),
        }
    }

    fn revoke(&self, _: &Secret, _: Deadline) -> Result<(), Refusal> {
        self.note("POST revocation_endpoint");
        match self.revokes.as_deref().and_then(|name| answers::revocation_error(name, &self.server)) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

impl KeySource for Script {
    fn keys(&self, issuer: &IssuerSettings, freshness: KeyFreshness, _: Deadline) -> Result<KeySet, KeysUnavailable> {
        if self.cold || freshness == KeyFreshness::Newest {
            self.note("GET jwks_uri");
        }
        if self.keys_unavailable {
            return Err(KeysUnavailable { reason: format!("{} cannot be reached", issuer.url) });
        }
        KeySet::parse(self.jwks.as_bytes()).map_err(|error| KeysUnavailable { reason: error.to_string() })
    }
}

/// An endpoint of the provider.
struct Asked<'a> {
    script: &'a Script,
    endpoint: &'static str,
    answer: Option<&'a str>,
}

impl Validator for Asked<'_> {
    fn validate(&self, _: PresentedToken<'_>, _: &IssuerSettings, _: Deadline) -> Result<Map<String, Value>, Refusal> {
        self.script.note(self.endpoint);
        let claims = self.answer.and_then(|answer| serde_json::from_str::<Map<String, Value>>(answer).ok());
        let claims = claims.ok_or_else(|| Refusal::System("the script has no answer".into()))?;
        if claims.get("active") == Some(&Value::Bool(false)) { Err(Rejection::Inactive.into()) } else { Ok(claims) }
    }
}

impl AccountDatabase for Script {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        if name == "broken" {
            return Err(AccountLookupFailed { reason: "NSS does not answer".into() });
        }
        Ok(self.accounts.get(name).map(|uid| (*uid, *uid)))
    }

    /// As SSSD does it with `case_sensitive = false`.
    fn entry(&self, name: &str) -> Result<Option<AccountEntry>, AccountLookupFailed> {
        let name = name.to_lowercase();
        Ok(self.find(&name)?.map(|(uid, gid)| AccountEntry { name, uid, gid }))
    }
}
