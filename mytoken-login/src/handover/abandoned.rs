// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records whose mytoken is to be revoked, because no session takes it, or because the session has ended.

use mytoken::Clock;
use mytoken::token::unverified_claims;
use mytoken_wire::agent::RenewalCredential;

use super::kept::UNREADABLE;
use super::name::{Content, RecordName};
use super::{Handover, Record, RecordError, SIZE_LIMIT, parse_handle};

/// A mytoken that was made for one session, which did not get it or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    /// 32 hexadecimal digits, the same whenever the record is read.
    pub id: String,
    /// The account.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// The mytoken, and the server that revokes it.
    pub renewal: RenewalCredential,
    /// Whether it is known whose the mytoken is. It is not known for a login with a link that ended before: then this is a mytoken, or the
    /// polling code of a link, that anybody at a prompt can have caused.
    pub verified: bool,
    /// Whether the login had a session.
    pub had_session: bool,
    /// When the record was written, Unix seconds.
    created: u64,
    /// The record.
    place: (String, String),
}

/// How long the polling code of a link is valid, in seconds (MT-30).
const CODE_LIFETIME: u64 = 300;

impl Abandoned {
    /// When it ends by itself, Unix seconds. `None`: that is not known. A polling code does not say when it ends.
    #[must_use]
    pub fn until(&self) -> Option<u64> {
        match unverified_claims(&self.renewal.mytoken) {
            Some(claims) => claims.unverified().exp,
            None if self.verified => None,
            None => Some(self.created.saturating_add(CODE_LIFETIME)),
        }
    }

    /// Whether a person has confirmed it. Anybody at a prompt can cause a polling code, but not the mytoken.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.verified || unverified_claims(&self.renewal.mytoken).is_some()
    }
}

impl Handover {
    /// The mytokens that are to be revoked. Their records stay until [`Self::settle`]. A record that cannot be read is kept in
    /// [`UNREADABLE`]; the second list says so.
    #[must_use]
    pub fn abandoned(&self, clock: &dyn Clock) -> (Vec<Abandoned>, Vec<RecordError>) {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        let Some(handover) = self.open_existing() else { return (found, problems) };
        for uid in handover.names().unwrap_or_default().into_iter().filter(|name| name != UNREADABLE) {
            let Ok(account) = handover.enter(&uid, self.owner, 0o700) else { continue };
            for file in account.names().unwrap_or_default() {
                let Ok(name) = file.parse::<RecordName>() else { continue };
                if name.content() == Content::Plain || !name.is_obsolete(clock.now()) {
                    continue;
                }
                let read = match account.read(&file, self.owner, 0o600, SIZE_LIMIT) {
                    Ok(Some(bytes)) => Record::read(&bytes),
                    Ok(None) => continue,
                    Err(error) => Err(RecordError::File(error)),
                };
                let of_session = name.content() == Content::OfSession;
                match read
                    .map(|record| (record.is_verified(), record.uid, record.gid, record.credential.own().cloned()))
                {
                    Ok((verified, owner, gid, Some(renewal))) => found.push(Abandoned {
                        id: name.id(),
                        uid: owner,
                        gid,
                        renewal,
                        verified,
                        created: name.created(),
                        had_session: of_session,
                        place: (uid.clone(), file),
                    }),
                    Ok((.., None)) => drop(account.remove(&file)),
                    Err(reason) => problems.push(self.keep(&handover, (&account, &uid, &file), &reason)),
                }
            }
        }
        (found, problems)
    }

    /// Removes the record: somebody else has noted durably that its mytoken is to be revoked.
    pub fn settle(&self, abandoned: &Abandoned) {
        let (uid, file) = &abandoned.place;
        let Some(handover) = self.open_existing() else { return };
        if let Ok(account) = handover.enter(uid, self.owner, 0o700) {
            let _ = account.remove(file);
        }
        // Fails when the directory is not empty.
        let _ = handover.remove_dir(uid);
    }

    /// Removes the record with this handle: nothing in it is to be revoked any more.
    pub fn discard(&self, handle: &str) {
        let (Some((uid, name)), Some(handover)) = (parse_handle(handle), self.open_existing()) else { return };
        if let Ok(account) = handover.enter(&uid, self.owner, 0o700) {
            let _ = account.remove(&name);
        }
        // Fails when the directory is not empty.
        let _ = handover.remove_dir(&uid);
    }
}
