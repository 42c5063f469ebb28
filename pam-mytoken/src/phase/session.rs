// SPDX-License-Identifier: GPL-3.0-or-later
//! `open_session` installs the session's credential, `close_session` removes it.

use std::path::Path;
use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::Owner;
use mytoken::{Deadline, SystemClock};
use mytoken_login::handover::{Claimant, Record};
use mytoken_login::session::{Installed, Sessions, register, revoked_at_end, unregister};
use mytoken_login::{Level, LoginSettings, Process, SessionSettings, escape_field};
use mytoken_wire::agent::{SessionEnded, SessionPlace};
use mytoken_wire::paths::{AGENT_SOCKET, RUNTIME};
use pamsm::PamError;

use super::records::records;
use super::revocation;
use crate::codes::{self, LoginMethod};
use crate::context::PamContext;

/// How long the agent, which runs on this host, may take. A login does not wait for an agent that hangs.
const AGENT_TIME_LIMIT: Duration = Duration::from_secs(2);

/// Opens the session of a login with a token. A problem with its credential does not fail the session, unless `required` is set.
pub fn open_session(context: &PamContext<'_>) -> PamError {
    let Some(handle) = context.handle() else { return codes::session(LoginMethod::Other) };
    context.remove_handle();
    let (user, service) = (context.user().unwrap_or_default(), context.service());
    let claimant = Claimant { user: &user, service: &service, process: Process::own() };
    let warn = |reason: String| {
        context.log(Level::Warning, &format!("user={} session without credential: {reason}", escape_field(&user)));
    };
    let settings = settings(context);
    let is_required = || settings.as_ref().is_ok_and(|settings| settings.required);
    let record = match records().take(&handle, &claimant, &SystemClock) {
        Ok(record) => record,
        Err(error) => {
            // The agent revokes a mytoken that was made for this session alone.
            warn(error.to_string());
            return without(is_required());
        }
    };
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            give_up(context, &record, &warn, &error.to_string());
            return without(false);
        }
    };
    match sessions().install(&record, &settings) {
        Ok(Some(installed)) => register_session(context, &record, &settings, &installed),
        Ok(None) => without_credential(context, &record),
        Err(error) => {
            give_up(context, &record, &warn, &error.to_string());
            return without(settings.required);
        }
    }
    codes::session(LoginMethod::Token)
}

/// The session of a login by token gets no credential.
fn without(is_required: bool) -> PamError {
    if is_required { codes::without_required_credential() } else { codes::session(LoginMethod::Token) }
}

/// Revokes the mytoken of a record that was taken, for the session gets nothing of it.
fn give_up(context: &PamContext<'_>, record: &Record, warn: &dyn Fn(String), reason: &str) {
    warn(reason.to_owned());
    let is_revoked = revocation::revoke_delegated(context, &record.credential, Deadline::after(revocation::TIME_LIMIT));
    match revocation::leave_to_agent(&records(), record, is_revoked) {
        Ok(true) => context.log(Level::Info, "the record of the login stays: the agent revokes its mytoken"),
        Ok(false) => {}
        Err(error) => {
            let line = format!("the record of the login cannot be left to the agent: {error}");
            context.log(Level::Warning, &line);
        }
    }
}

fn settings(context: &PamContext<'_>) -> Result<SessionSettings, mytoken::Error> {
    let directory = &context.arguments.config;
    Ok(LoginSettings::load(directory, FileTrust::ROOT, &Shared::load(directory, FileTrust::ROOT)?)?.session)
}

/// Exports the paths of the credential, and registers the session at the agent.
fn register_session(context: &PamContext<'_>, record: &Record, settings: &SessionSettings, installed: &Installed) {
    for (name, path) in [("BEARER_TOKEN_FILE", &installed.bearer_token_file), ("MYTOKEN_FILE", &installed.mytoken_file)]
    {
        if let Some(path) = path {
            context.export(name, &path.to_string_lossy());
        }
    }
    let deadline = Deadline::after(AGENT_TIME_LIMIT);
    let agent = register(Path::new(AGENT_SOCKET), record, settings, installed, std::process::id(), deadline);
    let place = if installed.place == SessionPlace::User { "user" } else { "run" };
    let ignored = agent.as_deref().unwrap_or_default();
    if !ignored.is_empty() {
        context.log(
            Level::Warning,
            &format!(
                "user={} session={} the agent ignores {} of [session], because it is of an earlier release; restart mytokend",
                escape_field(&record.user),
                installed.session,
                ignored.join(", "),
            ),
        );
    }
    // Without an agent that sees to it nobody would remove the files later. At the end its answer counts, if it gives one.
    let is_agents = (settings.retain || settings.linger) && agents_at_end(&agent);
    let fate = if is_agents { "leave" } else { "remove" };
    context.store_session(&format!("{}:{}:{}:{place}:{fate}", installed.session, record.uid, record.gid));
    if !agent_revokes(&agent) && revoked_at_end(record, settings).is_some() {
        store_for_end(context, record);
    }
    let (level, renewal) = match agent {
        Ok(_) if record.credential.renewal.is_some() => (Level::Info, "the agent renews it".to_owned()),
        Ok(_) => (Level::Info, "not renewed: the login was without a mytoken".to_owned()),
        Err(error) => (Level::Warning, format!("not renewed: {error}")),
    };
    context.log(
        level,
        &format!(
            "session user={} uid={} issuer={} sub={} session={} credential until {} ({renewal})",
            escape_field(&record.user),
            record.uid,
            escape_field(&record.issuer),
            escape_field(&record.sub),
            installed.session,
            record.credential.exp
        ),
    );
}

/// Whether the agent sees to the files of a session after its end: it has registered the session, and knows what of `[session]` is about them.
fn agents_at_end<E>(registered: &Result<Vec<&'static str>, E>) -> bool {
    registered.as_ref().is_ok_and(|ignored| !ignored.iter().any(|key| ["linger", "retain", "directory"].contains(key)))
}

/// Whether the agent revokes the session's mytoken at its end, if that is configured.
fn agent_revokes<E>(registered: &Result<Vec<&'static str>, E>) -> bool {
    registered.as_ref().is_ok_and(|ignored| !ignored.contains(&"revoke_at_logout"))
}

/// The session gets nothing, as configured. What was made for it alone has no use any more.
fn without_credential(context: &PamContext<'_>, record: &Record) {
    if record.credential.own().is_some() {
        if let Err(error) = records().store_for_revocation(record) {
            let line = format!("the delegated mytoken could not be revoked, although no session gets it: {error}");
            context.log(Level::Warning, &line);
        }
    }
    let line = format!(
        "session user={} uid={} issuer={} sub={} session=- without credential, as configured",
        escape_field(&record.user),
        record.uid,
        escape_field(&record.issuer),
        escape_field(&record.sub),
    );
    context.log(Level::Info, &line);
}

/// Leaves the record for the agent, which does not know the session: it revokes the mytoken when this process has ended.
fn store_for_end(context: &PamContext<'_>, record: &Record) {
    let stored = match Process::own() {
        Some(process) => records().store_for_end(record, process).map_err(|error| error.to_string()),
        None => Err("this process cannot be read in /proc".to_owned()),
    };
    if let Err(reason) = stored {
        context.log(Level::Warning, &format!("the session's mytoken will not be revoked at its end: {reason}"));
    }
}

/// Ends the session that this process opened.
pub fn close_session(context: &PamContext<'_>) -> PamError {
    let Some(session) = context.session() else { return codes::session(LoginMethod::Other) };
    let mut parts = session.split(':');
    if let (Some(session), Some(Ok(uid)), Some(Ok(gid))) =
        (parts.next(), parts.next().map(str::parse), parts.next().map(str::parse))
    {
        // The agent comes first: it must not write into a directory that is being removed. Without an agent there is no writer.
        let answer = unregister(Path::new(AGENT_SOCKET), session, Deadline::after(AGENT_TIME_LIMIT));
        if let Err(error) = &answer {
            context.log(Level::Debug, &error.to_string());
        }
        let place = if parts.next() == Some("user") { SessionPlace::User } else { SessionPlace::Run };
        if !files_stay(answer.ok(), parts.next() == Some("leave")) {
            sessions().remove(session, Owner { uid, gid }, place);
        }
    }
    codes::session(LoginMethod::Token)
}

/// Whether the session's files stay at its end, as the agent says. It may know the session although its answer at the begin came too late,
/// or have lost it since. `planned` is what follows from the begin: for an agent that is away or does not tell.
fn files_stay(answer: Option<SessionEnded>, planned: bool) -> bool {
    answer.and_then(|answer| answer.lasts).unwrap_or(planned)
}

fn sessions() -> Sessions {
    Sessions::new(Path::new(RUNTIME), Owner::ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_mytoken_are_left_only_to_an_agent_that_sees_to_them() {
        for (registered, files, mytoken) in [
            (Ok(vec![]), true, true),
            (Ok(vec!["revoke_at_logout"]), true, false),
            (Ok(vec!["linger"]), false, true),
            (Ok(vec!["revoke_at_logout", "retain"]), false, false),
            (Ok(vec!["directory"]), false, true),
            (Err(()), false, false),
        ] {
            assert_eq!(agents_at_end(&registered), files, "{registered:?}");
            assert_eq!(agent_revokes(&registered), mytoken, "{registered:?}");
        }
    }

    #[test]
    fn the_agents_answer_decides_whether_the_files_of_a_session_stay() {
        for (lasts, planned, stay) in [
            // The answer at the begin came too late.
            (Some(true), false, true),
            // The agent has lost the session, and would never remove its files.
            (Some(false), true, false),
            // An agent of an earlier release.
            (None, true, true),
            (None, false, false),
        ] {
            assert_eq!(files_stay(Some(SessionEnded { lasts }), planned), stay, "{lasts:?} {planned}");
        }
        assert!(files_stay(None, true) && !files_stay(None, false), "no agent");
    }
}
