// SPDX-License-Identifier: GPL-3.0-or-later
//! Logins over ssh without a token, and what logins with one leave for them.

use mytoken::config::FileTrust;
use mytoken::{Clock, SystemClock};
use mytoken_login::{
    AccountDatabase, Conversation, GivenBy, KeyLogin, KeyLoginRules, KeyLogins, LastLogins, Level, LocalAccount,
    LoginSettings, MapperSettings, Mapping, NssAccounts, Refusal, Report, RuleOutcome, ServiceState, escape_field,
};

use crate::codes::AccountState;
use crate::context::PamContext;
use crate::conversation::PamConversation;

/// What the decision needs from the host.
pub(super) struct Host<'a> {
    /// Whose configuration counts.
    pub trust: FileTrust,
    pub logins: LastLogins,
    pub accounts: &'a dyn AccountDatabase,
    /// Unix seconds.
    pub now: u64,
}

fn with_host<T>(context: &PamContext<'_>, work: impl FnOnce(&Host<'_>) -> T) -> T {
    #[cfg(feature = "scripted")]
    if let Some(script) = super::scripted::read(context) {
        return work(&script.host());
    }
    #[cfg(not(feature = "scripted"))]
    let _ = context;
    let (logins, now) = (LastLogins::of_host(), SystemClock.now());
    work(&Host { trust: FileTrust::ROOT, logins, accounts: &NssAccounts, now })
}

/// Decides about a login without a token. The caller of `su` and `sudo` is logged in already, so only logins over ssh matter.
pub fn state(context: &PamContext<'_>) -> AccountState {
    if context.ssh_connection().is_none() {
        return AccountState::NotByToken;
    }
    with_host(context, |host| decide(context, host))
}

fn decide(context: &PamContext<'_>, host: &Host<'_>) -> AccountState {
    let Some(rules) = KeyLoginRules::read(&context.arguments.config, host.trust) else {
        return AccountState::NotByToken;
    };
    let service = context.service();
    let is_listed = match &context.arguments.services {
        Some(services) => services.contains(&service),
        None => rules.is_for(&service),
    };
    if !is_listed {
        return AccountState::NotByToken;
    }
    if let Some(error) = rules.unchecked(&host.logins) {
        let line = format!("key_logins cannot be read, and logins without a token are not checked: {error}");
        context.log(Level::Critical, &line);
        return AccountState::NotByToken;
    }
    let user = context.user().unwrap_or_default();
    let (uid, decided) = match host.accounts.entry(&user) {
        // sshd refuses an account that does not exist.
        Ok(None) => return AccountState::NotByToken,
        // It may have another name than the person has typed.
        Ok(Some(entry)) => {
            let account = rules.account(&entry.name, entry.uid, entry.gid);
            (Some(account.uid), rules.decide(&account, || host.logins.read(&account), host.now))
        }
        // sshd has found the account a moment ago.
        Err(error) => (None, KeyLogin::Unreadable(error.to_string())),
    };
    let (level, state) = match decided {
        KeyLogin::Allowed => return AccountState::NotByToken,
        KeyLogin::Refused { .. } => (Level::Notice, AccountState::AccountRefused),
        KeyLogin::NotRecent { .. } => (Level::Notice, AccountState::NoRecentLogin),
        KeyLogin::Unreadable(_) => (Level::Error, AccountState::LastLoginUnreadable),
        KeyLogin::Misconfigured(_) => (Level::Critical, AccountState::RuleUnusable),
    };
    if let Some(line) = decided.log_line(&user, uid, context.rhost().as_deref()) {
        context.log(level, &line);
    }
    if let Some((detail, sentence)) = decided.detail().zip(decided.sentence()) {
        context.log(level, &format!("user={} login without token refused: {detail}", escape_field(&user)));
        PamConversation::new(context).show(&sentence);
    }
    state
}

/// Keeps what a login with a token over ssh has shown about its account, if a rule for logins without one needs it. The
/// caller of `su` could stop it while it holds the lock.
pub fn record(context: &PamContext<'_>, settings: &LoginSettings, report: &Report, user: &str) {
    if settings.account.key_logins == KeyLogins::Ignore || context.ssh_connection().is_none() {
        return;
    }
    // Without an answer there is nothing to record, so nothing waits.
    let Some(deadline) = report.deadline else { return };
    let kept = with_host(context, |Host { logins, now, .. }| match &report.outcome {
        Ok(accepted) => logins.accepted(&accepted.account, given_by(settings, report), *now, deadline),
        // An account that waits for its approval is not the holder's yet.
        Err(Refusal::NotActive(state)) if *state != ServiceState::Pending => match report.uid {
            Some(uid) => logins.refused(&LocalAccount::new(user, uid, uid, &settings.accounts), *state, *now, deadline),
            None => Ok(()),
        },
        Err(_) => Ok(()),
    });
    if let Err(error) = kept {
        context.log(Level::Warning, &format!("user={} the login is not recorded: {error}", escape_field(user)));
    }
}

/// The report has the result of each rule in their order. Names do not tell rules apart: two can have the same.
fn given_by(settings: &LoginSettings, report: &Report) -> GivenBy {
    let gives = report.rules.iter().position(|result| matches!(result.outcome, RuleOutcome::Account { .. }));
    let mapping = gives.and_then(|place| settings.rules.get(place)).map(|rule| &rule.mapping);
    match mapping {
        Some(Mapping::Asked(MapperSettings::MotleyCue(_))) => GivenBy::MotleyCue,
        _ if settings.motley_cues().next().is_none() => GivenBy::WithoutMotleyCue,
        _ => GivenBy::OtherRule,
    }
}
