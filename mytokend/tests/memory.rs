// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of an agent with many jobs: what each job keeps on the heap, and how many threads send its requests. Both are counted, so the
//! load of the machine changes neither.
#![allow(clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mytoken::private_files::Owner;
use mytoken::{Deadline, Secret};
use mytoken_wire::agent::{Answer, JobStart, JobState, RenewalCredential, Request};
use mytoken_wire::{FileName, SystemClock};
use mytokend::agent::credential_service::{Admitted, Charge, CredentialService, Denied, IssuedToken, RequestFailure};
use mytokend::agent::lease::LeaseCredential;
use mytokend::agent::login_processes::{Login, LoginMark};
use mytokend::agent::process::ProcessTable;
use mytokend::agent::runtime_dir::RuntimeDir;
use mytokend::agent::slurm::{Controller, ControllerFacts, SqueueError};
use mytokend::agent::{Agent, Configured, Intervals, Threads};
use mytokend::log::Log;

/// Bytes that are allocated now.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Length of a sealed credential and of an access token in the field, in bytes.
const TEXT: usize = 1_000;

/// Knows which threads have sent requests.
#[derive(Clone, Default)]
struct Services(Arc<Mutex<BTreeSet<String>>>);

impl CredentialService for Services {
    fn admit(&self, start: &JobStart, _sealed: &str) -> Result<Admitted, Denied> {
        Ok(Admitted {
            profile: "default".into(),
            handle: format!("{:032x}", start.job),
            required: false,
            made: 0,
            exp: u64::MAX / 1_000_000,
            windows: Vec::new(),
            start_windows: Vec::new(),
            submitted: None,
            followed: false,
            lane: "https://mytoken.example https://provider.example".into(),
            limited_uses: false,
            description: "sub-token: scopes storage.read:/, audience https://storage.example".into(),
            files: Vec::new(),
            is_provisional: false,
        })
    }

    fn access_token(
        &self,
        _credential: &LeaseCredential,
        _file: Option<&FileName>,
        _comment: &str,
        _charge: Charge,
        _deadline: Deadline,
    ) -> Result<IssuedToken, RequestFailure> {
        self.0.lock().unwrap().extend(std::thread::current().name().map(str::to_owned));
        Ok(IssuedToken { token: Secret::new("x".repeat(TEXT)), left: Duration::from_secs(36_000), lifetime: 36_000 })
    }

    fn lane_of(&self, _renewal: &RenewalCredential) -> String {
        String::new()
    }

    fn knows_server(&self, _name: &str) -> bool {
        true
    }

    fn revoke(&self, _: &LeaseCredential, _: Charge, _: Deadline) -> Result<(), RequestFailure> {
        Ok(())
    }

    fn server_time(&self, _server: &str) -> Option<u64> {
        None
    }

    fn key_ids(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Controller for Services {
    fn jobs_of(&self, _uid: u32) -> Result<String, SqueueError> {
        Ok(String::new())
    }

    fn start_of(&self, _job: u32) -> Result<Option<u64>, SqueueError> {
        Ok(None)
    }

    fn itself(&self) -> Option<ControllerFacts> {
        None
    }
}

impl ProcessTable for Services {
    fn start_time(&self, _pid: u32) -> Option<u64> {
        None
    }

    fn jobs_with_steps(&self) -> HashSet<u32> {
        HashSet::new()
    }

    fn login_of(&self, _pid: u32) -> Option<LoginMark> {
        None
    }

    fn have_processes(&self, logins: &[Login]) -> Vec<bool> {
        vec![false; logins.len()]
    }
}

#[test]
fn a_job_costs_little_memory_and_one_request_at_a_time_one_thread() {
    const JOBS: u32 = 300;
    let dir = tempfile::tempdir().unwrap();
    let me = Owner::current();
    let runtime_dir = RuntimeDir::open(&dir.path().join("mytoken"), me).unwrap();
    let services = Services::default();
    let (service, controller) = (Box::new(services.clone()), Box::new(services.clone()));
    let configured = Configured { intervals: Intervals::default(), service, controller };
    let (clock, processes) = (Arc::new(SystemClock), Box::new(services.clone()));
    let agent = Agent::new("n1".into(), configured, runtime_dir, clock, processes, Log::stderr("test")).unwrap();
    let threads = Threads::start(&agent).unwrap();
    let start = |job: u32| {
        let sealed = Some(format!("mt1.00000000.{}", "A".repeat(TEXT)));
        let (array_job, name, handle) = (None, None, Some(format!("{job:032x}")));
        let start = JobStart { job, step: 0, uid: me.uid, gid: me.gid, array_job, name, sealed, handle, at: None };
        match agent.answer(Request::JobStart(start), 0, true) {
            Answer::Started(started) => assert_eq!(started.state, JobState::Ready, "{:?}", started.reason),
            other => panic!("{other:?}"),
        }
    };
    start(1);
    let before = ALLOCATED.load(Ordering::Relaxed);
    (2..=JOBS).for_each(start);
    let each = (ALLOCATED.load(Ordering::Relaxed) - before) / usize::try_from(JOBS).unwrap();
    let used = services.0.lock().unwrap().clone();
    threads.stop();
    println!("{each} bytes for each job; {used:?}");
    // Of these, 2,000 are the two texts.
    assert!(each < 4_000, "{each} bytes for each job");
    // A thread may still be ending its last request when the next one comes.
    assert!(used.len() <= 6, "{used:?}");
}
