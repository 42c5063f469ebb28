// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stage: an agent in a temporary directory, and what it talks to.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mytoken::files::Owner;
use mytoken::{Clock, Deadline, Secret, SystemClock};
use mytoken_wire::agent::{AgentError, Call, JobEnd, JobStart, JobStatus, Started, StatusQuery, ask};
use mytokend::agent::authority::{Admitted, Authority, Denied, Failure, Fresh};
use mytokend::agent::lease::Source;
use mytokend::agent::listener::Listener;
use mytokend::agent::places::Places;
use mytokend::agent::slurm::Controller;
use mytokend::agent::{Agent, Threads, Times};
use mytokend::log::Log;

/// What the played authority does next, and what it was asked.
#[derive(Default)]
pub struct Script {
    /// Life of the tokens in seconds.
    pub lifetime: u64,
    /// Every exchange fails like this.
    pub failure: Option<Failure>,
    /// Every exchange takes so long.
    pub delay: Duration,
    /// Number of exchanges.
    pub exchanges: usize,
    /// Sealed texts that were revoked.
    pub revoked: Vec<String>,
    /// What squeue says, in place of "running".
    pub lines: Option<String>,
    /// squeue takes so long.
    pub squeue_delay: Duration,
    /// The tokens come so many seconds before their expiry, or so many after it when negative; else with their whole life.
    pub left: Option<i64>,
    /// So many exchanges panic.
    pub panics: usize,
}

#[derive(Clone, Default)]
pub struct Shared(pub Arc<Mutex<Script>>);

impl Shared {
    pub fn with<T>(&self, work: impl FnOnce(&mut Script) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }
}

impl Authority for Shared {
    /// Sealed texts look like `user:handle`.
    fn admit(&self, start: &JobStart, sealed: &str, now: u64) -> Result<Admitted, Denied> {
        let (user, handle) = sealed.split_once(':').unwrap_or_default();
        if user != start.uid.to_string() {
            return Err(Denied { text: format!("made for user {user}"), required: false });
        }
        Ok(Admitted {
            profile: "data".into(),
            handle: handle.into(),
            required: handle.starts_with("required"),
            exp: now + if handle.starts_with("short") { 1 } else { 3600 },
            told: "sub-token: scopes a, audience b".into(),
        })
    }

    fn access_token(&self, _source: &Source, _comment: &str, _deadline: Deadline) -> Result<Fresh, Failure> {
        let (delay, failure, lifetime, number, left) = self.with(|script| {
            script.exchanges += 1;
            let left = script.left.unwrap_or(script.lifetime.try_into().unwrap());
            (script.delay, script.failure.clone(), script.lifetime, script.exchanges, left)
        });
        let panics = self.with(|script| {
            let panics = script.panics > 0;
            script.panics = script.panics.saturating_sub(1);
            panics
        });
        assert!(!panics, "played");
        std::thread::sleep(delay);
        match failure {
            Some(failure) => Err(failure),
            None => {
                let exp = SystemClock.now().saturating_add_signed(left);
                Ok(Fresh { token: Secret::new(format!("token-{number}")), exp, lifetime })
            }
        }
    }

    fn revoke(&self, source: &Source, _deadline: Deadline) -> Result<(), Failure> {
        let Source::Sealed(text) = source else { return Ok(()) };
        self.with(|script| script.revoked.push(text.clone()));
        Ok(())
    }
}

impl Controller for Shared {
    fn lines(&self, job: u32) -> Result<Option<String>, String> {
        std::thread::sleep(self.with(|script| script.squeue_delay));
        self.with(|script| Ok(Some(script.lines.clone().unwrap_or_else(|| format!("{job}|RUNNING|n1")))))
    }
}

/// A running agent.
pub struct Stage {
    pub dir: Arc<tempfile::TempDir>,
    pub script: Shared,
    doubt: Duration,
    running: Option<(Threads, JoinHandle<()>, UnixStream)>,
}

impl Stage {
    pub fn new(lifetime: u64) -> Self {
        Self::with_doubt(lifetime, Duration::from_secs(60))
    }

    /// Jobs never have a process here, so they are asked about after `doubt`.
    pub fn with_doubt(lifetime: u64, doubt: Duration) -> Self {
        let script = Shared::default();
        script.with(|script| script.lifetime = lifetime);
        let mut stage = Self { dir: Arc::new(tempfile::tempdir().unwrap()), script, doubt, running: None };
        stage.begin();
        stage
    }

    pub fn begin(&mut self) {
        let times = Times {
            start: Duration::from_millis(600),
            grace: Duration::from_millis(50),
            sweep: Duration::from_millis(100),
            doubt: self.doubt,
            ..Times::default()
        };
        let me = Owner::current();
        let places = Places::open(&self.dir.path().join("mytoken"), me).unwrap();
        let agent = Agent::new(
            "n1".into(),
            times,
            Box::new(self.script.clone()),
            Box::new(self.script.clone()),
            places,
            Log::stderr("test"),
        )
        .unwrap();
        let threads = Threads::start(&agent).unwrap();
        let listener = Listener::bind(&self.socket(), me.uid).unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let serving = std::thread::spawn(move || listener.serve(&agent, &stopped).unwrap());
        self.running = Some((threads, serving, stop));
    }

    pub fn end(&mut self) {
        let Some((threads, serving, stop)) = self.running.take() else { return };
        drop(stop);
        serving.join().unwrap();
        threads.stop();
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub fn ask<C: Call>(&self, request: &C) -> Result<C::Answer, AgentError> {
        ask(&self.socket(), request, Deadline::after(Duration::from_secs(5)))
    }

    pub fn start(&self, job: u32, handle: &str) -> Started {
        let uid = me().uid;
        self.start_with(&JobStart { sealed: Some(format!("{uid}:{handle}")), ..step(job) })
    }

    pub fn start_with(&self, start: &JobStart) -> Started {
        self.ask(start).unwrap()
    }

    pub fn finish(&self, job: u32) {
        self.ask(&JobEnd { job }).unwrap();
    }

    pub fn status(&self, job: u32) -> JobStatus {
        self.ask(&StatusQuery { job: Some(job) }).unwrap().jobs.remove(0)
    }

    pub fn words(&self, job: u32) -> Vec<String> {
        self.status(job).events.into_iter().map(|event| event.kind.to_string()).collect()
    }

    pub fn token(&self, job: u32) -> PathBuf {
        self.dir.path().join(format!("mytoken/jobs/{job}/bt_u{}", me().uid))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn me() -> Owner {
    Owner::current()
}

/// A step of this process's user, without a credential.
pub fn step(job: u32) -> JobStart {
    JobStart { job, step: 0, uid: me().uid, gid: me().gid, array_job: None, sealed: None, handle: None }
}

pub fn outage() -> Failure {
    Failure { text: "the provider is down".into(), temporary: true, retry_after: None }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(8), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}
