// SPDX-License-Identifier: GPL-3.0-or-later
//! `open_session` and `close_session`: the session's credential comes and goes.

use std::path::Path;
use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::files::Owner;
use mytoken::{Deadline, SystemClock};
use mytoken_login::handover::{Login, Record};
use mytoken_login::session::{Installed, RUNTIME, Sessions, register, unregister};
use mytoken_login::{Level, LoginSettings, Process, SessionSettings, field};
use mytoken_wire::paths::AGENT_SOCKET;
use pamsm::PamError;

use super::{handover, revocation};
use crate::codes;
use crate::host::Host;

/// How long the agent may take. It is on this machine; a login does not wait for one that hangs.
const AGENT: Duration = Duration::from_secs(2);

/// Opens the session of a login with a token. Nothing in it can fail the session.
pub fn open_session(host: &Host<'_>) -> PamError {
    let Some(handle) = host.handle() else { return codes::session(false) };
    host.forget_handle();
    let (user, service) = (host.user().unwrap_or_default(), host.service());
    let login = Login { user: &user, service: &service, process: Process::own() };
    let warn = |reason: String| {
        host.log(Level::Warning, &format!("user={} session without credential: {reason}", field(&user)));
    };
    let record = match handover().take(&handle, &login, &SystemClock) {
        Ok(record) => record,
        Err(fault) => {
            warn(fault.to_string());
            return codes::session(true);
        }
    };
    match settings(host).and_then(|settings| Ok(sessions().install(&record, &settings)?)) {
        Ok(installed) => begin(host, &record, &installed),
        Err(error) => {
            warn(error.to_string());
            revocation::revoke_delegated(host, &record.credential);
        }
    }
    codes::session(true)
}

fn settings(host: &Host<'_>) -> Result<SessionSettings, mytoken::Error> {
    let directory = &host.arguments.config;
    Ok(LoginSettings::load(directory, FileTrust::ROOT, &Shared::load(directory, FileTrust::ROOT)?)?.session)
}

fn begin(host: &Host<'_>, record: &Record, installed: &Installed) {
    for (name, path) in [("BEARER_TOKEN_FILE", &installed.bearer_token_file), ("MYTOKEN_FILE", &installed.mytoken_file)]
    {
        if let Some(path) = path {
            host.export(name, &path.to_string_lossy());
        }
    }
    host.remember_session(&format!("{}:{}:{}", installed.session, record.uid, record.gid));
    let agent = register(Path::new(AGENT_SOCKET), record, installed, std::process::id(), Deadline::after(AGENT));
    let (level, renewal) = match agent {
        Ok(()) if record.credential.renewal.is_some() => (Level::Info, "in the agent's hands".to_owned()),
        Ok(()) => (Level::Info, "not renewed: there is no mytoken".to_owned()),
        Err(error) => (Level::Warning, format!("not renewed: {error}")),
    };
    host.log(
        level,
        &format!(
            "session user={} uid={} issuer={} sub={} session={} credential until {} ({renewal})",
            field(&record.user),
            record.uid,
            field(&record.issuer),
            field(&record.sub),
            installed.session,
            record.credential.exp
        ),
    );
}

/// Ends the session that this process opened.
pub fn close_session(host: &Host<'_>) -> PamError {
    let Some(remembered) = host.session() else { return codes::session(false) };
    let mut parts = remembered.split(':');
    if let (Some(session), Some(Ok(uid)), Some(Ok(gid))) =
        (parts.next(), parts.next().map(str::parse), parts.next().map(str::parse))
    {
        // The agent first: it must not write into a directory that is being removed. Without an agent there is nothing to stop.
        if let Err(error) = unregister(Path::new(AGENT_SOCKET), session, Deadline::after(AGENT)) {
            host.log(Level::Debug, &error.to_string());
        }
        sessions().remove(session, Owner { uid, gid });
    }
    codes::session(true)
}

fn sessions() -> Sessions {
    Sessions::new(Path::new(RUNTIME), Owner::ROOT)
}
