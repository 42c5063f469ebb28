// SPDX-License-Identifier: GPL-3.0-or-later
//! `open_session` installs the session's credential, `close_session` removes it.

use std::path::Path;
use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::Owner;
use mytoken::{Deadline, SystemClock};
use mytoken_login::handover::{Claimant, Record};
use mytoken_login::session::{Installed, Sessions, register, unregister};
use mytoken_login::{Level, LoginSettings, Process, SessionSettings, escape_field};
use mytoken_wire::paths::{AGENT_SOCKET, RUNTIME};
use pamsm::PamError;

use super::records::records;
use super::revocation;
use crate::codes::{self, LoginMethod};
use crate::context::PamContext;

/// How long the agent, which runs on this host, may take. A login does not wait for an agent that hangs.
const AGENT_TIME_LIMIT: Duration = Duration::from_secs(2);

/// Opens the session of a login with a token. A problem with its credential does not fail the session.
pub fn open_session(context: &PamContext<'_>) -> PamError {
    let Some(handle) = context.handle() else { return codes::session(LoginMethod::Other) };
    context.remove_handle();
    let (user, service) = (context.user().unwrap_or_default(), context.service());
    let claimant = Claimant { user: &user, service: &service, process: Process::own() };
    let warn = |reason: String| {
        context.log(Level::Warning, &format!("user={} session without credential: {reason}", escape_field(&user)));
    };
    let record = match records().take(&handle, &claimant, &SystemClock) {
        Ok(record) => record,
        Err(error) => {
            // The delegated mytoken of the record is not revoked; see `RecordError`.
            warn(error.to_string());
            return codes::session(LoginMethod::Token);
        }
    };
    match settings(context).and_then(|settings| Ok(sessions().install(&record, &settings)?)) {
        Ok(installed) => register_session(context, &record, &installed),
        Err(error) => {
            warn(error.to_string());
            revocation::revoke_delegated(context, &record.credential, Deadline::after(revocation::TIME_LIMIT));
        }
    }
    codes::session(LoginMethod::Token)
}

fn settings(context: &PamContext<'_>) -> Result<SessionSettings, mytoken::Error> {
    let directory = &context.arguments.config;
    Ok(LoginSettings::load(directory, FileTrust::ROOT, &Shared::load(directory, FileTrust::ROOT)?)?.session)
}

/// Exports the paths of the credential, and registers the session at the agent.
fn register_session(context: &PamContext<'_>, record: &Record, installed: &Installed) {
    for (name, path) in [("BEARER_TOKEN_FILE", &installed.bearer_token_file), ("MYTOKEN_FILE", &installed.mytoken_file)]
    {
        if let Some(path) = path {
            context.export(name, &path.to_string_lossy());
        }
    }
    context.store_session(&format!("{}:{}:{}", installed.session, record.uid, record.gid));
    let agent =
        register(Path::new(AGENT_SOCKET), record, installed, std::process::id(), Deadline::after(AGENT_TIME_LIMIT));
    let (level, renewal) = match agent {
        Ok(()) if record.credential.renewal.is_some() => (Level::Info, "the agent renews it".to_owned()),
        Ok(()) => (Level::Info, "not renewed: the login was without a mytoken".to_owned()),
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

/// Ends the session that this process opened.
pub fn close_session(context: &PamContext<'_>) -> PamError {
    let Some(session) = context.session() else { return codes::session(LoginMethod::Other) };
    let mut parts = session.split(':');
    if let (Some(session), Some(Ok(uid)), Some(Ok(gid))) =
        (parts.next(), parts.next().map(str::parse), parts.next().map(str::parse))
    {
        // The agent comes first: it must not write into a directory that is being removed. Without an agent there is no writer.
        if let Err(error) = unregister(Path::new(AGENT_SOCKET), session, Deadline::after(AGENT_TIME_LIMIT)) {
            context.log(Level::Debug, &error.to_string());
        }
        sessions().remove(session, Owner { uid, gid });
    }
    codes::session(LoginMethod::Token)
}

fn sessions() -> Sessions {
    Sessions::new(Path::new(RUNTIME), Owner::ROOT)
}
