// SPDX-License-Identifier: MIT OR Apache-2.0
//! An accepted login, its record, and the directories of records and sessions.
use std::path::{Path, PathBuf};

use mytoken::Secret;
use mytoken::private_files::Owner;
use mytoken_login::handover::{Claimant, Handover, Record};
use mytoken_login::session::Sessions;
use mytoken_login::{Accepted, Identity, LocalAccount, Process, SessionCredential};
use mytoken_wire::agent::RenewalCredential;
use mytoken_wire::clock::FixedClock;

pub const NOW: u64 = 1_800_000_000;

/// A login with a delegated mytoken. Its account `alice` has the user id of the user who runs the test.
pub fn accepted() -> Accepted {
    let me = Owner::current();
    Accepted {
        account: LocalAccount { name: "alice".into(), uid: me.uid, gid: me.gid, system: false },
        identity: Some(Identity {
            issuer: "op".into(),
            iss: "https://op.example.org".into(),
            sub: "s-1".into(),
            scopes: Vec::new(),
            claims: serde_json::Map::new(),
        }),
        rule: "hpc".into(),
        credential: Some(SessionCredential {
            access_token: Secret::new("the.access.token"),
            exp: NOW + 3_600,
            good_until: NOW + 3_630,
            lifetime: 3_500,
            renewal: Some(RenewalCredential {
                server: "testbed".into(),
                mytoken: Secret::new("the.my.token"),
                scope: "openid".into(),
                audience: "https://testbed".into(),
            }),
            delegated: true,
            for_session: false,
        }),
    }
}

/// The record of [`accepted`]. This process may take it.
pub fn record() -> Record {
    record_of(&accepted())
}

/// The record of a login. This process may take it.
pub fn record_of(accepted: &Accepted) -> Record {
    Record::new(accepted, "sshd", vec![Process::own().unwrap()], &FixedClock(NOW)).unwrap()
}

/// The login that owns [`record`].
pub fn claimant() -> Claimant<'static> {
    Claimant { user: "alice", service: "sshd", process: Process::own() }
}

/// A temporary `/run/mytoken` of the user who runs the test.
pub struct Runtime {
    pub path: PathBuf,
    pub handover: Handover,
    pub sessions: Sessions,
    _dir: tempfile::TempDir,
}

impl Runtime {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mytoken");
        let me = Owner::current();
        let handover = Handover::new(&path.join("handover"), me);
        let sessions = Sessions::new(&path, me);
        Self { path, handover, sessions, _dir: dir }
    }

    /// The directory of the records.
    pub fn records_dir(&self) -> PathBuf {
        self.path.join("handover")
    }

    /// The file of a handle: of `f:<uid>:<name>` it is `<uid>/<name>`.
    pub fn record_file(&self, handle: &str) -> PathBuf {
        let (uid, name) = handle.strip_prefix("f:").unwrap().split_once(':').unwrap();
        self.records_dir().join(uid).join(name)
    }

    /// The files of all records.
    pub fn record_files(&self) -> Vec<PathBuf> {
        let entries =
            |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let accounts = entries(&self.records_dir());
        accounts.iter().filter(|path| path.is_dir()).flat_map(|account| entries(account)).collect()
    }
}
