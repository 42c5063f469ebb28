// SPDX-License-Identifier: MIT OR Apache-2.0
//! A site in a temporary directory: test server, configuration, keys, a user's home, an agent.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mytoken::config::{FileTrust, Shared};
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::private_files::Owner;
use mytoken::server::{AccessTokenRequest, Server, refuse_rotation};
use mytoken::token_store::{StoredToken, TokenStore};
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken::{Deadline, Error, Secret};
use mytoken_wire::agent::{AgentError, Call, EventKind, JobEnd, JobStart, JobStatus, Started, StatusQuery, ask};
use mytokend::control::keygen::keygen;
use mytokend::jobs::keys::PrivateKey;
use mytokend::jobs::sealed::{JobCredential, open};
use nested_cargo::cargo_build;
use serde_json::{Value, json};

use crate::programs;

/// Scopes and audience of the site's profile.
pub const SCOPE: &str = "storage.read";
pub const AUDIENCE: &str = "https://testbed";

pub struct TestSite {
    pub dir: tempfile::TempDir,
    endpoints: Value,
    server: Child,
    agent: Option<Child>,
}

/// Result of `mytoken-submit`.
#[derive(Debug)]
pub struct Printed {
    pub status: ExitStatus,
    pub line: Value,
    pub stderr: String,
    pub took: Duration,
}

/// The test server: the program in the variable `TESTSERVER`, or a build in the profile of the programs under test. An existing program may
/// be old, so cargo checks it.
fn testserver() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(given) = std::env::var_os("TESTSERVER") {
            return given.into();
        }
        let folder = Path::new(env!("CARGO_BIN_EXE_mytokend")).parent().unwrap();
        let mut build = cargo_build();
        build.args(["--workspace", "--bin", "testserver", "--target-dir"]).arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the test server cannot be built");
        folder.join("testserver")
    })
}

/// A directory that the programs under test trust, and to which every user has a way. For root this is neither /tmp nor /root.
fn trusted_directory() -> tempfile::TempDir {
    let candidates = [Path::new(env!("CARGO_TARGET_TMPDIR")), Path::new("/run")];
    let for_all = |directory: &Path| {
        directory.ancestors().all(|part| fs::metadata(part).is_ok_and(|metadata| metadata.mode() & 0o1 != 0))
    };
    let trusted =
        candidates.into_iter().find(|directory| FileTrust::ROOT.directory(directory).is_ok() && for_all(directory));
    match trusted {
        Some(directory) if Owner::current().uid == 0 => tempfile::tempdir_in(directory).unwrap(),
        _ => tempfile::tempdir().unwrap(),
    }
}

impl TestSite {
    pub fn new(lifetime: u64) -> Self {
        let dir = trusted_directory();
        let path = dir.path().to_owned();
        let free = "127.0.0.1:0";
        let mut server = Command::new(testserver())
            .args(["serve", "--at-lifetime", &lifetime.to_string(), "--resource-audience", AUDIENCE, "--dir"])
            .arg(path.join("server"))
            .args(["--mytoken-addr", free, "--provider-addr", free, "--resource-addr", free, "--control-addr", free])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready.trim(), "ready");
        let endpoints: Value = serde_json::from_slice(&fs::read(path.join("server/endpoints.json")).unwrap()).unwrap();
        fs::create_dir(path.join("home")).unwrap();
        let site = Self { dir, endpoints, server, agent: None };
        site.configure(&path);
        site
    }

    fn configure(&self, path: &Path) {
        let config = self.config();
        fs::create_dir(&config).unwrap();
        keygen(&config.join("keys"), "site").unwrap();
        let (ca, server) = (self.endpoint("ca"), self.endpoint("mytoken"));
        fs::write(
            config.join("mytoken.toml"),
            format!("[http]\nca_file = '{ca}'\n[[server]]\nname = 't'\nurl = '{server}'\n"),
        )
        .unwrap();
        let (keys, squeue, run) = (config.join("keys"), path.join("squeue"), path.join("run"));
        let jobs = format!(
            "[cluster]\nname = 'site'\npublic_key_file = '{0}/cluster.pub'\nprivate_key_file = '{0}/cluster.key'\n\
             [submit]\ndeadline = '3s'\nshare_for = '0s'\n[agent]\nruntime_dir = '{1}'\nsqueue = '{2}'\nrequest_deadline = '5s'\n\
             [[profile]]\nname = 'default'\nserver = 't'\nscope = '{SCOPE}'\naudience = '{AUDIENCE}'\n",
            keys.display(),
            run.display(),
            squeue.display(),
        );
        fs::write(config.join("jobs.toml"), jobs).unwrap();
        self.squeue_prints("1|1|RUNNING|1|N/A|n1|n1");
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn endpoint(&self, name: &str) -> &str {
        self.endpoints[name].as_str().unwrap()
    }

    /// Sets the output of the fake squeue for every job.
    pub fn squeue_prints(&self, lines: &str) {
        let (path, fresh) = (self.dir.path().join("squeue"), self.dir.path().join("squeue.new"));
        programs::write(&fresh, &format!("#!/bin/sh\necho '{lines}'\n")).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    pub fn control(&self, path: &str, body: &Value) -> Value {
        let settings = HttpSettings { loopback_http: true, ..HttpSettings::default() };
        let http = HttpClient::new(&settings).unwrap();
        let url = format!("{}{path}", self.endpoint("control"));
        let answer = http.post_json(&url, body, soon(), 1 << 20).unwrap();
        assert!((200..300).contains(&answer.status), "{path}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Requests to the mytoken server.
    pub fn journal(&self) -> Vec<Value> {
        let settings = HttpSettings { loopback_http: true, ..HttpSettings::default() };
        let url = format!("{}/journal?service=mytoken", self.endpoint("control"));
        let answer = HttpClient::new(&settings).unwrap().get(&url, None, soon(), 1 << 20).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub fn clear_journal(&self) {
        let url = self.endpoint("control").trim_start_matches("http://").to_owned();
        let mut control = std::net::TcpStream::connect(url).unwrap();
        control.write_all(b"DELETE /journal?service=mytoken HTTP/1.0\r\nHost: control\r\n\r\n").unwrap();
        control.read_to_end(&mut Vec::new()).unwrap();
    }

    pub fn requests(&self, endpoint: &str) -> usize {
        self.journal().iter().filter(|request| request["endpoint"] == endpoint).count()
    }

    /// A new mytoken of alice, with these members of the request changed.
    pub fn mytoken(&self, change: &Value) -> Value {
        let mut request = json!({
            "user": "alice", "capabilities": ["AT", "create_mytoken", "tokeninfo"],
            "restrictions": [{"scope": "openid storage.read compute.read", "audience": [AUDIENCE], "exp": unix_time() + 86_400}],
        });
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.control("/mytoken/first-token", &request)
    }

    /// Writes a mytoken of alice to the session's file.
    pub fn log_in(&self) {
        let granted = self.mytoken(&json!({}));
        fs::write(self.dir.path().join("mt"), granted["mytoken"].as_str().unwrap()).unwrap();
    }

    /// Puts a mytoken into the store of mytoken-ssh.
    pub fn store(&self, granted: &Value) {
        let store = TokenStore::open(&TokenStore::default_path(&self.home())).unwrap();
        let entry = StoredToken {
            server: ServerUrl::parse(self.endpoint("mytoken"), false).unwrap(),
            issuer: IssuerUrl::parse(self.endpoint("provider"), false).unwrap(),
            name: "laptop".into(),
            mytoken: Secret::new(granted["mytoken"].as_str().unwrap()),
            mom_id: String::new(),
            capabilities: serde_json::from_value(granted["capabilities"].clone()).unwrap(),
            restrictions: serde_json::from_value(granted["restrictions"].clone()).unwrap(),
            rotation: serde_json::from_value(granted["rotation"].clone()).unwrap(),
            expires_at: None,
            created: 1,
            trouble: None,
            ca_file: None,
        };
        store.lock(soon()).unwrap().put(&entry).unwrap();
    }

    pub fn stored(&self) -> Secret {
        self.entry().mytoken
    }

    /// The entry of the store of mytoken-ssh.
    pub fn entry(&self) -> StoredToken {
        let store = TokenStore::open(&TokenStore::default_path(&self.home())).unwrap();
        let server = ServerUrl::parse(self.endpoint("mytoken"), false).unwrap();
        store.token(&server).unwrap().unwrap()
    }

    fn submission(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mytoken-submit"));
        command
            .args(["--context", "sbatch", "--config"])
            .arg(self.config())
            .args(arguments)
            .env_clear()
            .env("HOME", self.home())
            .env("MYTOKEN_FILE", self.dir.path().join("mt"))
            .stdin(Stdio::null());
        command
    }

    pub fn submit_with(&self, arguments: &[&str]) -> Printed {
        let begin = Instant::now();
        let output = self.submission(arguments).output().unwrap();
        let took = begin.elapsed();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        let line: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(line["v"], 1);
        Printed { status: output.status, line, stderr: String::from_utf8(output.stderr).unwrap(), took }
    }

    /// A submission whose answer is not read: the reader goes `after` its start.
    pub fn submit_without_reader(&self, after: Duration) -> Child {
        let mut child = self.submission(&["--profile", "default"]).stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(after);
        drop(child.stdout.take());
        child
    }

    /// The processes of `mytoken-submit`, and the workers of `mytokenctl attach`, that belong to this site.
    pub fn submitting(&self) -> Vec<PathBuf> {
        let config = self.config();
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let mine = |path: &PathBuf| {
            let line = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            line.contains("mytoken-submit") && line.contains(config.to_str().unwrap())
        };
        processes.filter(mine).collect()
    }

    /// The names of the sub-tokens of the session's mytoken that are alive, as the server lists them.
    pub fn sub_tokens(&self) -> Vec<String> {
        let token = fs::read_to_string(self.dir.path().join("mt")).unwrap();
        let shared = Shared::load(&self.config(), FileTrust::current()).unwrap();
        let http = HttpClient::new(&shared.http_settings()).unwrap();
        let url = format!("{}/api/v0/tokeninfo", self.endpoint("mytoken"));
        let query = json!({"action": "subtokens", "mytoken": token});
        let answer = http.post_json(&url, &query, soon(), 1 << 20).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let children = answer["mytokens"]["children"].as_array().cloned().unwrap_or_default();
        children.iter().map(|child| child["token"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// A successful submission: sealed text and handle.
    pub fn submit(&self) -> (String, String) {
        let printed = self.submit_with(&["--profile", "default"]);
        assert!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
        let text = |name: &str| printed.line[name].as_str().unwrap().to_owned();
        (text("sealed"), text("handle"))
    }

    pub fn open(&self, sealed: &str) -> JobCredential {
        let key = PrivateKey::load(&self.config().join("keys/cluster.key"), FileTrust::current()).unwrap();
        open(sealed, &key).unwrap()
    }

    /// Requests an access token with a sub-token.
    pub fn access_token(&self, token: &Secret) -> Result<Secret, Error> {
        let shared = Shared::load(&self.config(), FileTrust::current()).unwrap();
        let http = HttpClient::new(&shared.http_settings()).unwrap();
        let server = Server::discover(&http, &shared.server_url("t").unwrap(), soon()).unwrap();
        let request = AccessTokenRequest { mytoken: token, scope: SCOPE, audience: AUDIENCE, comment: "test" };
        server.access_token(&request, &mut refuse_rotation, soon()).map(|access| access.token)
    }

    /// Revokes a mytoken.
    pub fn revoke(&self, token: &Secret) {
        let shared = Shared::load(&self.config(), FileTrust::current()).unwrap();
        let http = HttpClient::new(&shared.http_settings()).unwrap();
        let server = Server::discover(&http, &shared.server_url("t").unwrap(), soon()).unwrap();
        server.revoke(token, true, soon()).unwrap();
    }

    /// Sends the token in the file to the resource server. Returns the status of its answer.
    pub fn use_token(&self, file: &Path) -> u16 {
        let token = Secret::new(fs::read_to_string(file).unwrap());
        let shared = Shared::load(&self.config(), FileTrust::current()).unwrap();
        let http = HttpClient::new(&shared.http_settings()).unwrap();
        http.get(&format!("{}/data", self.endpoint("resource")), Some(&token), soon(), 1 << 16).unwrap().status
    }

    pub fn begin_agent(&mut self) {
        let agent = Command::new(env!("CARGO_BIN_EXE_mytokend"))
            .args(["agent", "--stderr", "--node", "n1", "--config"])
            .arg(self.config())
            .stderr(fs::File::create(self.dir.path().join("agent.log")).unwrap())
            .spawn()
            .unwrap();
        self.agent = Some(agent);
        eventually("the agent's answer", || self.ask(&StatusQuery::default()).is_ok());
    }

    /// Ends the agent with SIGTERM.
    pub fn end_agent(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(agent.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        agent.wait().unwrap()
    }

    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().and_then(|()| agent.wait()).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    pub fn ask<C: Call>(&self, request: &C) -> Result<C::Answer, AgentError> {
        ask(&self.socket(), request, soon())
    }

    pub fn start(&self, job: u32, uid: u32, sealed: &str) -> Started {
        let gid = Owner::current().gid;
        let start = JobStart { job, uid, gid, sealed: Some(sealed.into()), ..JobStart::default() };
        self.ask(&start).unwrap()
    }

    pub fn end(&self, job: u32) {
        self.ask(&JobEnd { job, ..JobEnd::default() }).unwrap();
    }

    pub fn status(&self, job: u32) -> JobStatus {
        self.ask(&StatusQuery { job: Some(mytoken_wire::JobName::Job(job)), all: false }).unwrap().jobs.remove(0)
    }

    pub fn has_event(&self, job: u32, kind: &EventKind) -> bool {
        self.status(job).events.iter().any(|event| event.kind == *kind)
    }

    /// A value of the agent's memory (`VmRSS`, `VmHWM`) in KiB.
    pub fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.as_ref().unwrap().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn ctl(&self, arguments: &[&str]) -> (String, bool) {
        let output = Command::new(env!("CARGO_BIN_EXE_mytokenctl")).args(arguments).output().unwrap();
        (
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
            output.status.success(),
        )
    }
}

impl Drop for TestSite {
    fn drop(&mut self) {
        for child in self.agent.iter_mut().chain([&mut self.server]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

pub fn unix_time() -> u64 {
    use mytoken::Clock;
    mytoken::SystemClock.now()
}

pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(40), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
