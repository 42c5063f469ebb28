// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken server's history of the session's mytoken and its sub-tokens. The server has no history of a revoked
//! mytoken.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::Narrator;
use crate::drive::journal::Journal;
use crate::drive::people::Session;
use crate::drive::tokens;
use crate::{Result, Site, wait};

/// The job's sub-token at the server.
pub(super) struct SubToken {
    /// The session's mytoken, from which it was made.
    parent: String,
    /// Its `mom_id`.
    mom_id: String,
    /// Revocations granted before the job's end.
    revocations: usize,
}

impl SubToken {
    /// Waits until the session's mytoken has one sub-token with an event, and shows the server's history.
    pub(super) fn find(site: &Site, narrator: &mut Narrator, session: &mut Session) -> Result<Option<Self>> {
        let parent = session.run("cat \"$MYTOKEN_FILE\"", Duration::from_secs(10))?.ok()?.stdout.trim().to_owned();
        let children = wait::until("the sub-token's history", Duration::from_secs(10), || {
            let used = tokens::history(site, &parent, &["children"])?;
            Ok(used.pointer("/events/0").is_some().then(|| mom_ids(&used)))
        })?;
        show_history(site, narrator, &tokens::history(site, &parent, &["this", "children"])?)?;
        let mut children = children.into_iter();
        let (Some(mom_id), None) = (children.next(), children.next()) else { return Ok(None) };
        narrator.say(&format!("{} is the job's sub-token.", mom_id.get(..8).unwrap_or(&mom_id)));
        Ok(Some(Self { parent, mom_id, revocations: revocations(site)? }))
    }

    /// Waits until the server no longer lists the sub-token, and shows the history. Returns whether exactly one
    /// revocation was granted.
    pub(super) fn is_revoked(&self, site: &Site, narrator: &mut Narrator) -> Result<bool> {
        let gone = wait::until("the revocation", Duration::from_secs(20), || {
            let children = mom_ids(&tokens::history(site, &self.parent, &["children"])?);
            Ok((!children.contains(&self.mom_id)).then_some(()))
        });
        show_history(site, narrator, &tokens::history(site, &self.parent, &["this", "children"])?)?;
        Ok(gone.is_ok() && revocations(site)? == self.revocations + 1)
    }
}

/// The `mom_id`s in a history.
fn mom_ids(history: &Value) -> BTreeSet<String> {
    let events = history.get("events").and_then(Value::as_array);
    events.into_iter().flatten().filter_map(|event| event.get("mom_id")?.as_str().map(str::to_owned)).collect()
}

fn revocations(site: &Site) -> Result<usize> {
    let journal = Journal::read(site)?;
    Ok(journal
        .requests()
        .iter()
        .filter(|request| request.endpoint == "revocation" && request.status == Some(204))
        .count())
}

/// Shows a history, oldest first, without the requests for the history itself.
fn show_history(site: &Site, narrator: &mut Narrator, history: &Value) -> Result<()> {
    let line = ".events // [] | reverse[] | select(.event != \"tokeninfo_history\") \
                | \"\\(.time|todate)  mytoken \\(.mom_id[:8])  \\(.event)  \\(.comment // \"\")\"";
    let lines = site.command("root", ["jq", "-r", line]).stdin(history.to_string()).run()?;
    narrator.show(
        "alice@testbed",
        "request the history of $MYTOKEN_FILE and its sub-tokens from the mytoken server",
        &lines,
    );
    Ok(())
}
