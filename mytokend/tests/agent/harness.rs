// SPDX-License-Identifier: MIT OR Apache-2.0
//! An agent in a temporary directory, with a clock that only the test moves, a fake mytoken server and a fake slurmctld.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use mytoken::private_files::Owner;
use mytoken::{Deadline, ScheduleClock, Secret};
use mytoken_wire::agent::{
    AgentError, Answer, Call, EventKind, HandOver, HandedOver, JobEnd, JobStart, JobStatus, RenewalCredential,
    ReplacePending, Request, Started, StatusQuery, ask,
};
use mytoken_wire::{FileName, JobName};
use mytokend::agent::credential_service::{Admitted, Charge, CredentialService, Denied, IssuedToken, RequestFailure};
use mytokend::agent::lease::LeaseCredential;
use mytokend::agent::listener::Listener;
use mytokend::agent::runtime_dir::RuntimeDir;
use mytokend::agent::{Agent, Threads};
use mytokend::jobs::{StartWindow, Window};
use mytokend::log::Log;

use crate::clock::FakeClock;
pub use crate::clock::{BEFORE_RENEWAL, EXPIRY, LIFETIME, MISSING, RENEWAL, SETTLE, SWEEP, eventually};
pub use crate::failures::{outage, revocation};
use crate::files::FileScript;
use crate::processes::FakeProcesses;
use crate::reload::configured;

/// Unix time when a test begins.
pub const NOW: u64 = 1_800_000_000;

/// The answers of the fake services, and the requests that they got.
#[derive(Default)]
pub struct ServiceScript {
    /// Every request for a token fails with this.
    pub failure: Option<RequestFailure>,
    /// How many requests for an access token it has answered.
    pub token_failures: usize,
    pub files: FileScript,
    pub held_start: crate::runs::HeldStart,
    /// Requests for tokens wait while this is set.
    pub hold_tokens: bool,
    /// The next request for a token waits while this is set, and no other one.
    pub hold_first: bool,
    /// Requests that wait for [`Self::hold_tokens`] go on waiting while this is set.
    pub hold_lane: bool,
    is_first_held: bool,
    /// This many requests for tokens panic.
    pub panics: usize,
    /// The server has told its time: [`NOW`] and the elapsed time of this clock.
    pub server_clock: Option<FakeClock>,
    /// The lane of new credentials.
    pub lane: String,
    /// The windows of new credentials.
    pub windows: Vec<Window>,
    /// Their windows that count from the start of a job.
    pub start_windows: Vec<StartWindow>,
    /// When jobs began, as slurmctld says.
    pub starts: HashMap<u32, u64>,
    /// slurmctld is asked in vain when jobs began.
    pub no_starts: bool,
    /// Number of these questions.
    pub start_questions: usize,
    /// Seconds between now and the expiry of new tokens, negative for the past; in place of [`LIFETIME`].
    pub left: Option<i64>,
    /// Number of requests for tokens.
    pub token_requests: usize,
    /// Who has caused each request, and its purpose.
    pub charges: Vec<Charge>,
    /// Every revocation fails with this.
    pub revocation_failure: Option<RequestFailure>,
    /// Revocations of credentials whose text ends with this wait.
    pub hold_revocations: Option<&'static str>,
    pub revocation_requests: usize,
    /// How long each of them takes.
    pub revocation_time: Duration,
    /// Sealed texts that were revoked.
    pub revoked: Vec<String>,
    /// Handles that the brokers were told to forget, and how often that fails from now on.
    pub forgotten: (Vec<String>, usize),
    /// The output of squeue, in place of "the job is running".
    pub squeue: Option<String>,
    /// Queries of slurmctld wait while this is set.
    pub hold_squeue: bool,
    /// Number of queries of slurmctld.
    pub queries: usize,
    /// slurmctld's clock: [`NOW`], the elapsed time of this clock, and these seconds. `None`: it cannot be asked.
    pub slurmctld: Option<(FakeClock, i64)>,
    pub message_timeout: Option<u64>,
    /// What the brokers say to a new credential of a job that waits. `None`: there are no brokers.
    pub handed: Option<HandOver>,
    /// What a broker tells of a credential with its next access token.
    pub learned: Option<Admitted>,
}

#[derive(Clone)]
pub struct FakeServices {
    pub script: Arc<(Mutex<ServiceScript>, Condvar)>,
}

impl FakeServices {
    pub fn with<T>(&self, work: impl FnOnce(&mut ServiceScript) -> T) -> T {
        let result = work(&mut self.script.0.lock().unwrap());
        self.script.1.notify_all();
        result
    }

    pub fn wait_while(&self, held: impl Fn(&ServiceScript) -> bool) {
        let script = self.script.0.lock().unwrap();
        drop(self.script.1.wait_while(script, |script| held(script)).unwrap());
    }
}

impl CredentialService for FakeServices {
    /// Sealed texts have the form `user:handle`.
    fn admit(&self, start: &JobStart, sealed: &str) -> Result<Admitted, Denied> {
        let (user, handle) = sealed.split_once(':').unwrap_or_default();
        crate::runs::hold_first(self);
        if user != start.uid.to_string() {
            let reason = format!("made for user {user}");
            return Err(Denied { reason, required: false, is_final: true, has_retired_key: false });
        }
        Ok(Admitted {
            profile: "data".into(),
            handle: handle.into(),
            required: handle.starts_with("required"),
            made: 0,
            exp: NOW + if handle.starts_with("short") { 1 } else { 2 * 86_400 },
            windows: self.with(|script| script.windows.clone()),
            start_windows: self.with(|script| script.start_windows.clone()),
            submitted: handle.starts_with("shared").then_some((NOW - 60, NOW + 60)),
            followed: handle.starts_with("followed"),
            lane: self.with(|script| script.lane.clone()),
            limited_uses: handle.starts_with("limited"),
            description: "sub-token: scopes a, audience b".into(),
            files: self.with(|script| script.files.admitted()),
            is_provisional: handle.starts_with("brokered"),
        })
    }

    fn access_token(
        &self,
        _source: &LeaseCredential,
        file: Option<&FileName>,
        _comment: &str,
        charge: Charge,
        _deadline: Deadline,
    ) -> Result<IssuedToken, RequestFailure> {
        if let Some(name) = file {
            let (is_first, panics) =
                self.with(|script| (script.files.is_first(), std::mem::take(&mut script.files.panics)));
            assert!(!panics, "on purpose");
            self.wait_while(|script| script.files.held || is_first && script.files.hold_first);
            return self.with(|script| script.files.token(name, script.failure.clone()));
        }
        let (number, panics, held) = self.with(|script| {
            script.token_requests += 1;
            script.charges.push(charge);
            let held = script.hold_first && !script.is_first_held;
            script.is_first_held |= held;
            let panics = script.panics > 0;
            script.panics -= usize::from(panics);
            (script.token_requests, panics, (held, script.hold_tokens))
        });
        assert!(!panics, "on purpose");
        self.wait_while(|script| script.hold_tokens || (held.0 && script.hold_first) || (held.1 && script.hold_lane));
        let (failure, left) = self.with(|script| {
            script.token_failures += usize::from(script.failure.is_some());
            (script.failure.clone(), script.left)
        });
        failure.map_or(Ok(()), Err)?;
        let left = left.unwrap_or(LIFETIME.try_into().unwrap()).try_into().unwrap_or(0);
        let left = Duration::from_secs(left);
        Ok(IssuedToken { token: Secret::new(format!("token-{number}")), left, lifetime: LIFETIME })
    }

    fn learned(&self, _credential: &LeaseCredential) -> Option<Admitted> {
        self.with(|script| script.learned.take())
    }

    fn replace_pending(&self, _uid: u32, _pending: &ReplacePending, _deadline: Deadline) -> HandedOver {
        HandedOver { outcome: self.with(|script| script.handed).unwrap_or(HandOver::Refused), reason: None }
    }

    fn decides_ends(&self) -> bool {
        self.with(|script| script.handed.is_some())
    }

    fn lane_of(&self, renewal: &RenewalCredential) -> String {
        renewal.server.clone()
    }

    fn knows_server(&self, name: &str) -> bool {
        name == "main"
    }

    fn revoke(&self, credential: &LeaseCredential, charge: Charge, _deadline: Deadline) -> Result<(), RequestFailure> {
        let text = match credential {
            LeaseCredential::Sealed(text) => text.clone(),
            LeaseCredential::SubToken { sub_token, .. } => sub_token.expose().to_owned(),
            LeaseCredential::Registered { handle, .. } => handle.clone(),
            LeaseCredential::Mytoken(renewal) => renewal.mytoken.expose().to_owned(),
        };
        self.with(|script| (script.revocation_requests += 1, script.charges.push(charge)));
        std::thread::sleep(self.with(|script| script.revocation_time));
        self.wait_while(|script| script.hold_revocations.is_some_and(|held| text.ends_with(held)));
        self.with(|script| match &script.revocation_failure {
            Some(failure) => Err(failure.clone()),
            None => {
                script.revoked.push(text);
                Ok(())
            }
        })
    }

    fn forget(&self, uid: u32, handle: &str, _deadline: Deadline) -> Result<(), String> {
        self.with(|script| crate::submission::forget(&mut script.forgotten, uid, handle))
    }

    fn server_time(&self, _server: &str) -> Option<u64> {
        self.with(|script| script.server_clock.as_ref().map(|clock| NOW + clock.elapsed().as_secs()))
    }

    fn key_ids(&self) -> Vec<String> {
        Vec::new()
    }
}

struct RunningAgent {
    agent: Arc<Agent>,
    threads: Threads,
    listener: JoinHandle<()>,
    stop: UnixStream,
}

pub struct TestAgent {
    pub dir: tempfile::TempDir,
    pub clock: FakeClock,
    pub processes: FakeProcesses,
    pub services: FakeServices,
    running: Option<RunningAgent>,
}

impl TestAgent {
    pub fn new() -> Self {
        let clock = FakeClock::default();
        let (processes, services) = (FakeProcesses::default(), FakeServices { script: Arc::default() });
        services.with(|script| script.slurmctld = Some((clock.clone(), 0)));
        let mut agent = Self { dir: tempfile::tempdir().unwrap(), clock, processes, services, running: None };
        agent.begin();
        agent
    }

    pub fn begin(&mut self) {
        let me = Owner::current();
        let runtime_dir =
            RuntimeDir::open(&self.dir.path().join("mytoken"), me).unwrap().with_users(&self.dir.path().join("users"));
        let (clock, processes) = (Arc::new(self.clock.clone()), Box::new(self.processes.clone()));
        let (configured, log) = (configured(&self.services), Log::stderr("test"));
        let agent = Agent::new("n1".into(), configured, runtime_dir, clock, processes, log).unwrap();
        let threads = Threads::start(&agent).unwrap();
        let socket = Listener::bind(&self.socket(), me.uid).unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let served = Arc::clone(&agent);
        let listener = std::thread::spawn(move || {
            let turn = |stopped| if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            socket.serve(&served, &stopped, None, turn).unwrap();
        });
        self.running = Some(RunningAgent { agent, threads, listener, stop });
    }

    pub fn end(&mut self) {
        let Some(RunningAgent { threads, listener, stop, .. }) = self.running.take() else { return };
        drop(stop);
        self.services.with(|script| {
            [script.hold_tokens, script.hold_first, script.hold_lane, script.hold_squeue] = [false; 4];
            (script.hold_revocations, script.files.held, script.files.hold_first) = (None, false, false);
        });
        listener.join().unwrap();
        threads.stop();
    }

    /// Replaces what the agent is configured for.
    pub fn reload(&self, services: &FakeServices) {
        self.running.as_ref().unwrap().agent.configure(configured(services));
    }

    pub fn move_clock(&self, time: Duration) {
        *self.clock.0.lock().unwrap() += time;
        if let Some(running) = &self.running {
            running.agent.clock_was_set();
        }
    }

    /// Sets the time of day, whether the agent runs or not. Elapsed time stays as it is.
    pub fn set_clock(&self, seconds: i64) {
        self.set_clock_unseen(seconds);
        if let Some(running) = &self.running {
            running.agent.clock_was_set();
            self.wait_until_idle();
        }
    }

    /// The schedule thread sleeps on.
    pub fn set_clock_unseen(&self, seconds: i64) {
        *self.clock.1.lock().unwrap() += seconds;
    }

    /// Moves the clock and waits until the agent has done everything that is due.
    pub fn advance(&self, time: Duration) {
        // A thread that writes a file has its last step after the answer. The clock would make it a thread that hangs.
        eventually("the end of work in files", || !self.agent().works_on_files());
        self.move_clock(time);
        self.wait_until_idle();
    }

    pub fn wait_until_idle(&self) {
        eventually("an idle agent", || self.agent().is_idle());
    }

    pub fn agent(&self) -> &Agent {
        &self.running.as_ref().unwrap().agent
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub fn ask<C: Call>(&self, request: &C) -> Result<C::Answer, AgentError> {
        ask(&self.socket(), request, Deadline::after(Duration::from_secs(30)))
    }

    /// The answer to a request of the user `caller`; `trusted` is true for root.
    pub fn answer(&self, request: Request, caller: u32, trusted: bool) -> Answer {
        self.running.as_ref().unwrap().agent.answer(request, caller, trusted)
    }

    pub fn start(&self, job: u32, handle: &str) -> Started {
        let uid = me().uid;
        self.start_with(&JobStart { sealed: Some(format!("{uid}:{handle}")), ..step(job) })
    }

    pub fn start_with(&self, start: &JobStart) -> Started {
        self.ask(start).unwrap()
    }

    pub fn finish(&self, job: u32) {
        self.ask(&JobEnd { job, ..JobEnd::default() }).unwrap();
    }

    pub fn status(&self, job: u32) -> JobStatus {
        self.ask(&StatusQuery { job: Some(JobName::Job(job)), all: false }).unwrap().jobs.remove(0)
    }

    /// The kinds of the job's events, oldest first.
    pub fn events(&self, job: u32) -> Vec<EventKind> {
        self.status(job).events.into_iter().map(|event| event.kind).collect()
    }

    pub fn last_event(&self, job: u32) -> EventKind {
        self.events(job).pop().unwrap()
    }

    pub fn has_event(&self, job: u32, kind: &EventKind) -> bool {
        self.events(job).contains(kind)
    }

    pub fn token(&self, job: u32) -> PathBuf {
        self.dir.path().join(format!("mytoken/jobs/{job}/bt_u{}", me().uid))
    }

    pub fn read_token(&self, job: u32) -> String {
        std::fs::read_to_string(self.token(job)).expect("there is a token file at every moment")
    }

    pub fn revoked(&self) -> usize {
        self.services.with(|script| script.revoked.len())
    }

    pub fn queries(&self) -> usize {
        self.services.with(|script| script.queries)
    }

    pub fn token_requests(&self) -> usize {
        self.services.with(|script| script.token_requests)
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn me() -> Owner {
    Owner::current()
}

/// A step of this process's user, without a credential.
pub fn step(job: u32) -> JobStart {
    JobStart { job, uid: me().uid, gid: me().gid, ..JobStart::default() }
}
