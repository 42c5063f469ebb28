// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the sealed credentials of submissions, and gives them to the nodes of their jobs. Who asks needs the handle, which is random. The
//! text is of no use to him unless slurmctld says that the job runs on his node: that is judged when he asks for a token with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mytoken::Error;
use mytoken_wire::Handle;

use super::Broker;
use super::disk_work::DiskWork;
use super::escrow::{Escrow, KeptText, Reserved, TextKey};
use super::identity::StateDir;
use super::messages::{ForgetAnswer, ForgetRequest, KeepAnswer, KeepRequest, KeptAnswer, KeptRequest};
use super::places::{NO_ROOM, submission};
use super::settings::BrokerSettings;
use super::status::EscrowStatus;
use super::submission::{End, Submission};
use super::submission_key::{SubmissionKey, name_of};
use crate::log::Level;

/// A submission that was just registered is not judged before this time is over: slurmctld does not know its job yet.
const HOLD: Duration = Duration::from_secs(600);

/// The texts, and whether new ones are taken.
#[derive(Debug, Default)]
pub(super) struct Kept {
    escrow: OnceLock<Arc<Escrow>>,
    takes: AtomicBool,
    /// Nodes get texts that the kernel has in memory while a disk hangs that is written to.
    reads: DiskWork,
    writes: DiskWork,
}

impl Broker {
    /// Gives jobs the texts that are kept in `broker.state_dir`, and takes new ones if `broker.escrow` says so.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn configure_escrow(&self, settings: &BrokerSettings) -> Result<(), Error> {
        if self.kept.escrow.get().is_none() {
            self.use_escrow(StateDir::open_or_make(&settings.state_dir)?.escrow()?);
        }
        self.take_texts(settings.escrow);
        Ok(())
    }

    /// The same at a reload: jobs are served all the same.
    pub(super) fn reload_escrow(&self, settings: &BrokerSettings) {
        if let Err(error) = self.configure_escrow(settings) {
            self.log.line(Level::Error, &format!("broker.escrow cannot be used: {error}"));
        }
    }

    /// The texts that an earlier run has left. From now on jobs get them.
    pub(super) fn use_escrow(&self, escrow: Escrow) {
        for key in escrow.keys() {
            if escrow.submission(&key).is_some_and(|own| self.has_revoked(&own)) {
                // The last run ended before it removed the text.
                escrow.forget(&key);
                continue;
            }
            match escrow.get(&key) {
                Ok(Some(text)) if text.follows => {
                    if let Err(reason) = self.follow(&text.host, key.uid, &text.sealed) {
                        let name = name_of(key.uid, &key.handle);
                        let text = format!("{name}: its kept credential cannot be opened: {reason}");
                        self.log.line_of(key.uid, Level::Error, &text);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let name = name_of(key.uid, &key.handle);
                    let text = format!("{name}: its kept credential is damaged; its job gets no token");
                    self.log.line_of(key.uid, Level::Error, &text);
                }
                Err(error) => self.log.line_of(key.uid, Level::Error, &error.to_string()),
            }
        }
        let _ = self.kept.escrow.set(Arc::new(escrow));
    }

    /// Whether `broker.escrow` is set: new texts are taken.
    pub(super) fn take_texts(&self, takes: bool) {
        self.kept.takes.store(takes, Ordering::Relaxed);
    }

    /// How many texts there are, and more about them.
    #[must_use]
    pub fn escrow_status(&self) -> EscrowStatus {
        let on = self.kept.takes.load(Ordering::Relaxed);
        self.kept.escrow.get().map_or(EscrowStatus { on, ..EscrowStatus::default() }, |escrow| escrow.status(on))
    }

    /// Keeps the sealed credential of a submission that was made on `host`. It waits for the disk, for a limited time.
    pub async fn keep(&self, host: &str, request: &KeepRequest) -> KeepAnswer {
        self.try_to_keep(host, request).await.map_or_else(
            |reason| {
                let text = format!("host {host}, uid {}: a credential is not kept: {reason}", request.uid);
                if self.told.is_new_of(host, &text, self.clock.elapsed()) {
                    self.log.line_of(request.uid, Level::Warning, &text);
                }
                KeepAnswer::Refused { reason }
            },
            |()| KeepAnswer::Kept {},
        )
    }

    async fn try_to_keep(&self, host: &str, request: &KeepRequest) -> Result<(), String> {
        let KeepRequest { uid, handle, sealed, follows } = request;
        let escrow = self.kept.escrow.get().filter(|_| self.kept.takes.load(Ordering::Relaxed));
        let escrow = escrow.ok_or("broker.escrow is not set in the jobs.toml of the broker")?;
        let handle = Handle::parse(handle).ok_or("a submission's handle is 32 hexadecimal digits")?.to_string();
        let admitted = self.admit(0, *uid, sealed).map_err(|denied| denied.reason)?;
        if admitted.handle != handle {
            return Err("the credential was made for another submission".to_owned());
        }
        let key = TextKey { uid: *uid, handle };
        // The agent of the submission's host follows it, if it could.
        let follows = *follows && !admitted.followed;
        let own = SubmissionKey::new(*uid, &admitted.handle, sealed);
        if follows && !self.state().has_room(&own, host) {
            return Err(NO_ROOM.to_owned());
        }
        let (host_name, server) = (host.to_owned(), admitted.server().to_owned());
        let text = KeptText { sealed: sealed.clone(), exp: admitted.exp, follows, host: host_name, server };
        match escrow.reserve(&key, &text).map_err(|error| error.to_string())? {
            Reserved::Kept => {
                let (escrow, key) = (Arc::clone(escrow), key.clone());
                let same = self.kept.reads.run(move || escrow.check_same(&key, &text.sealed)).await;
                same.map_err(|trouble| trouble.to_string())?.map_err(|error| error.to_string())?;
            }
            Reserved::Free(writer, claim) => match self.kept.writes.run(move || writer.write()).await {
                Ok(written) => written.map_err(|error| error.to_string())?,
                Err(_) if claim.give_up() => {}
                Err(trouble) => return Err(trouble.to_string()),
            },
        }
        if follows { self.follow(host, *uid, sealed) } else { Ok(()) }
    }

    /// The sealed credential that is kept for a job. It waits for the disk, for a limited time.
    ///
    /// # Errors
    /// A sentence, when the disk cannot be read.
    pub async fn kept(&self, request: &KeptRequest) -> Result<KeptAnswer, String> {
        let handle = Handle::parse(&request.handle).map(|handle| handle.to_string());
        let (Some(handle), Some(escrow)) = (handle, self.kept.escrow.get()) else { return Ok(KeptAnswer::Unknown {}) };
        let key = TextKey { uid: request.uid, handle };
        if !escrow.has(&key) {
            return Ok(KeptAnswer::Unknown {});
        }
        let escrow = Arc::clone(escrow);
        let found = self.kept.reads.run(move || escrow.get(&key)).await.map_err(|trouble| trouble.to_string())?;
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.map_or(KeptAnswer::Unknown {}, |text| KeptAnswer::Sealed(text.sealed)))
    }

    /// The agent of `host`, where a submission was made, has seen its end.
    #[must_use]
    pub fn forget(&self, host: &str, request: &ForgetRequest) -> ForgetAnswer {
        let handle = Handle::parse(&request.handle).map(|handle| handle.to_string());
        let (Some(handle), Some(escrow)) = (handle, self.kept.escrow.get()) else { return ForgetAnswer::Forgotten {} };
        let key = TextKey { uid: request.uid, handle };
        // One that this broker revokes: it asks slurmctld itself, and forgets the text after the revocation.
        let is_own = |known: &Submission| !matches!(known.end, End::Settled { .. });
        let own = escrow.submission(&key);
        let is_followed = own.is_some_and(|own| self.state().submissions.get(&own).is_some_and(is_own));
        if is_followed || !escrow.forget_of(host, &key) {
            return ForgetAnswer::Stays {};
        }
        ForgetAnswer::Forgotten {}
    }

    /// The submission is over, so its text is not needed any more. It does not wait for the disk.
    pub(super) fn forget_kept(&self, key: &SubmissionKey) {
        if let Some(escrow) = self.kept.escrow.get() {
            escrow.forget_submission(key);
        }
    }

    /// Removes the files of texts that are not needed any more; with `expires`, also those whose sub-tokens have expired.
    pub(super) fn sweep_kept(&self, expires: bool) {
        let Some(escrow) = self.kept.escrow.get() else { return };
        if expires {
            let times = self.expiry_times();
            escrow.expire(|server| times.at(server));
        }
        if let Err(error) = escrow.sweep() {
            let text = format!("a credential that is not needed any more could not be removed: {error}");
            if self.told.is_new(&text, self.clock.elapsed()) {
                self.log.line(Level::Error, &text);
            }
        }
    }

    /// Revokes the sub-token when slurmctld shows no job that could have it.
    fn follow(&self, host: &str, uid: u32, sealed: &str) -> Result<(), String> {
        let admitted = self.admit(0, uid, sealed).map_err(|denied| denied.reason)?;
        let key = SubmissionKey::new(uid, &admitted.handle, sealed);
        let from = self.clock.elapsed().saturating_add(HOLD);
        let mut state = self.state();
        let submission = submission(&mut state, &key, sealed, &admitted, host).ok_or(NO_ROOM)?;
        submission.judged_from = submission.judged_from.max(from);
        Ok(())
    }
}
