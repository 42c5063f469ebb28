// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mytoken server with its provider, a user's home directory, and a fake ssh that shows prompts.

#[path = "../helper_command/mod.rs"]
mod helper_command;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mytoken::http::{HttpClient, HttpSettings, Roots};
use mytoken::server::{Granted, Server};
use mytoken::token_store::{StoredToken, TokenStore};
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Secret};
use nested_cargo::cargo_build;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::programs;

/// The audience of all tokens.
pub const AUDIENCE: &str = "https://testbed";

/// How the host asks for a token, and for the rest of one that comes in pieces.
pub const WHOLE_TOKEN: &str = "ask '(alice@testbed) Access Token: '
case $answer in @1/*) count=${answer#@1/}; count=${count%%:*}; piece=2
    while [ $piece -le $count ]; do ask \"(alice@testbed) Access Token ($piece/$count): \"; piece=$((piece+1)); done;;
esac";

/// Servers and home directory. The servers are stopped when it is dropped.
pub struct LoginSite {
    dir: TempDir,
    server: Child,
    endpoints: Value,
}

impl Drop for LoginSite {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Path of the test server. It is built first, because cargo does not build it for the tests of this package alone.
fn testserver() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_mytoken-ssh"));
        let built = cargo_build().args(["--workspace", "--bin", "testserver"]).status();
        assert!(built.unwrap().success());
        own.with_file_name("testserver")
    })
}

impl LoginSite {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        let mut command = Command::new(testserver());
        // ES256, because a debug build needs seconds to create an RSA key.
        let config = dir.path().join("config.json");
        fs::write(&config, r#"{"policy": {"algorithm": "ES256"}}"#).unwrap();
        command.arg("serve").arg("--dir").arg(dir.path().join("server")).arg("--config").arg(&config);
        for name in ["mytoken", "provider", "resource", "control"] {
            command.args([format!("--{name}-addr"), "127.0.0.1:0".into()]);
        }
        let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let endpoints = fs::read(dir.path().join("server/endpoints.json")).unwrap();
        let site = Self { endpoints: serde_json::from_slice(&endpoints).unwrap(), dir, server };
        site.make_home();
        site
    }

    fn make_home(&self) {
        for name in ["home", "home/.config", "home/.config/mytoken", "bin", "run"] {
            fs::create_dir(self.path(name)).unwrap();
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let config = format!(
            "server = \"{}\"\nca_file = \"{}\"\naudience = \"{AUDIENCE}\"\nscope = \"openid profile storage.read\"\nname = \"laptop\"\n",
            self.mytoken_url(),
            self.ca().display()
        );
        fs::write(self.path("home/.config/mytoken/config.toml"), config).unwrap();
        self.install_ssh(WHOLE_TOKEN);
    }

    /// Names another server in the user's configuration.
    pub fn configure_server(&self, url: &str) {
        let file = self.path("home/.config/mytoken/config.toml");
        let config = fs::read_to_string(&file).unwrap();
        let own = format!("server = \"{}\"", self.mytoken_url());
        assert!(config.contains(&own));
        fs::write(&file, config.replace(&own, &format!("server = \"{url}\""))).unwrap();
    }

    /// Adds lines to the user's configuration.
    pub fn configure(&self, lines: &str) {
        let file = self.path("home/.config/mytoken/config.toml");
        let config = fs::read_to_string(&file).unwrap();
        fs::write(&file, config + lines).unwrap();
    }

    /// The access tokens that the hosts got; the pieces of each are joined.
    pub fn access_tokens(&self) -> Vec<Secret> {
        let mut tokens: Vec<String> = Vec::new();
        for answer in self.answers() {
            match answer.split_once(':') {
                Some((mark, piece)) if !mark.starts_with("@1/") => tokens.last_mut().unwrap().push_str(piece),
                Some((_, piece)) => tokens.push(piece.to_owned()),
                None => tokens.push(answer),
            }
        }
        tokens.into_iter().map(Secret::new).collect()
    }

    /// Installs a fake ssh that runs the shell script `login`. In the script, `ask PROMPT` asks the askpass and appends
    /// the answer to the file `answers`.
    pub fn install_ssh(&self, login: &str) {
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in\n-V) echo OpenSSH_9.2p1, >&2; exit 0;;\n-G) printf 'host tb\\nuser alice\\nhostname testbed\\n'; exit 0;;\nesac\n\
             ask() {{ answer=$(\"$SSH_ASKPASS\" \"$1\"); [ -z \"$answer\" ] || echo \"$answer\" >> {}; }}\n{login}\n",
            self.path("answers").display()
        );
        programs::write(self.path("bin/ssh"), &script).unwrap();
    }

    /// The servers answer nobody any more.
    pub fn stop_server(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn mytoken_url(&self) -> &str {
        self.endpoints["mytoken"].as_str().unwrap()
    }

    pub fn url(&self) -> ServerUrl {
        ServerUrl::parse(self.mytoken_url(), false).unwrap()
    }

    fn ca(&self) -> PathBuf {
        self.path("server/ca.pem")
    }

    pub fn http(&self) -> HttpClient {
        HttpClient::new(&HttpSettings { roots: Roots::File(self.ca()), ..HttpSettings::default() }).unwrap()
    }

    /// Redeems a transfer code, as a host does.
    pub fn redeem(&self, code: &str) -> Result<Granted, mytoken::Error> {
        let http = self.http();
        Server::discover(&http, &self.url(), deadline()).unwrap().redeem(&Secret::new(code), deadline())
    }

    pub fn store(&self) -> TokenStore {
        TokenStore::open(&TokenStore::default_path(&self.path("home"))).unwrap()
    }

    pub fn stored(&self) -> Option<StoredToken> {
        self.store().token(&self.url()).unwrap()
    }

    /// The helper without a controlling terminal.
    pub fn helper(&self, args: &[&str]) -> Command {
        helper_command::without_terminal(self.dir.path(), &self.path("home"), args)
    }

    /// The helper as the process that tests send signals to.
    pub fn direct(&self, args: &[&str]) -> Command {
        helper_command::after("true", self.dir.path(), &self.path("home"), args)
    }

    /// The helper at the terminal that is its standard input.
    pub fn at_terminal(&self, args: &[&str]) -> Command {
        helper_command::at_terminal(self.dir.path(), &self.path("home"), args)
    }

    /// The server carries out the next request to `endpoint`, and answers more than a second later.
    pub fn delay_one(&self, endpoint: &str) {
        self.control("DELETE", "/journal", &Value::Null);
        let fault = json!({"name": "latency", "ms": 1_500, "endpoint": endpoint, "times": 1});
        self.control("POST", "/mytoken/fault", &fault);
    }

    /// The statuses of the server's answers at `endpoint`.
    pub fn answered(&self, endpoint: &str) -> Vec<Value> {
        let journal = self.control("GET", "/journal?service=mytoken", &Value::Null);
        let requests = journal.as_array().unwrap().iter().filter(|request| request["endpoint"] == endpoint);
        requests.map(|request| request["status"].clone()).collect()
    }

    /// Waits until a request to `endpoint` was carried out.
    pub fn wait_for_request(&self, endpoint: &str) {
        let start = Instant::now();
        while self.answered(endpoint).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "no request to {endpoint}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.helper(args).output().unwrap()
    }

    /// Starts `mytoken-ssh login` and reads the link.
    pub fn start_login(&self, args: &[&str]) -> (Child, BufReader<ChildStdout>, String) {
        self.start_login_after("true", args)
    }

    /// Starts `mytoken-ssh login` from a shell that has run `setup`, and reads the link.
    pub fn start_login_after(&self, setup: &str, args: &[&str]) -> (Child, BufReader<ChildStdout>, String) {
        let args = [&["login"], args].concat();
        let mut command = helper_command::after(setup, self.dir.path(), &self.path("home"), &args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut link = String::new();
        while !link.contains("/c/") {
            link.clear();
            if lines.read_line(&mut link).unwrap() == 0 {
                break;
            }
        }
        (child, lines, link.trim().to_owned())
    }

    /// Opens the link and confirms. `more` are options of the test server's browser.
    pub fn confirm(&self, link: &str, more: &[&str]) {
        let mut browser = Command::new(testserver());
        browser.args(["browser", link, "--user", "alice", "--ca"]).arg(self.ca()).args(more);
        assert!(browser.output().unwrap().status.success());
    }

    /// Runs a whole login. Returns its standard output after the link.
    pub fn login(&self, args: &[&str]) -> String {
        let (mut child, mut lines, link) = self.start_login(args);
        self.confirm(&link, &[]);
        let mut output = String::new();
        lines.read_to_string(&mut output).unwrap();
        assert!(child.wait().unwrap().success(), "{output}");
        output
    }

    /// Stores a mytoken without a login.
    pub fn store_mytoken(&self, capabilities: &[&str], rotation: &Value) -> StoredToken {
        let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600;
        let clause = json!({"exp": exp, "scope": "openid profile storage.read", "audience": [AUDIENCE]});
        let mut wanted = json!({"capabilities": capabilities, "restrictions": [clause], "name": "laptop", "user": "alice", "save": "mt"});
        if !rotation.is_null() {
            wanted["rotation"] = rotation.clone();
        }
        let answer = self.control("POST", "/mytoken/first-token", &wanted);
        let entry: StoredToken = serde_json::from_value(json!({
            "server": self.mytoken_url(), "issuer": self.endpoints["provider"], "name": "laptop", "mytoken": answer["mytoken"],
            "capabilities": capabilities, "restrictions": [clause], "rotation": rotation, "expires_at": exp, "created": 1,
        }))
        .unwrap();
        self.store().lock(deadline()).unwrap().put(&entry).unwrap();
        entry
    }

    /// Calls the test server's control API.
    pub fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let address = self.endpoints["control"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        let body = body.to_string();
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{head} {body}");
        serde_json::from_str(body).unwrap_or_default()
    }

    /// What the askpass answered to the fake ssh.
    pub fn answers(&self) -> Vec<String> {
        fs::read_to_string(self.path("answers")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// A time limit for one request.
pub fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
