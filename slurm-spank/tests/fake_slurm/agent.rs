// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fake agent: a socket that answers each line with a fixed text, or misbehaves.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct FakeAgent {
    dir: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeAgent {
    /// Answers every request with `answer`; `None`: reads it and never answers.
    pub fn answering(answer: Option<&str>) -> Self {
        Self::serve(true, answer)
    }

    /// Closes every connection at once.
    pub fn closing_connections() -> Self {
        Self::serve(false, None)
    }

    /// Says that there is a token.
    pub fn ready() -> Self {
        Self::answering(Some(r#"{"v":1,"started":{"path":"/run/mytoken/jobs/4711/bt_u2001","state":"ready"}}"#))
    }

    /// Does not listen.
    pub fn down() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), requests: Arc::default() }
    }

    /// Listens again after `pause`, and answers with `answer`.
    pub fn restarting(pause: Duration, answer: &str) -> Self {
        let agent = Self::down();
        let (socket, answer) = (agent.socket(), answer.to_owned());
        std::thread::spawn(move || {
            // As after a kill: the socket's file exists, but no process listens.
            drop(UnixListener::bind(&socket));
            std::thread::sleep(pause);
            std::fs::remove_file(&socket).unwrap();
            let (mut stream, _) = UnixListener::bind(&socket).unwrap().accept().unwrap();
            let _ = BufReader::new(&stream).read_line(&mut String::new());
            let _ = writeln!(stream, "{answer}");
        });
        agent
    }

    fn serve(reads: bool, answer: Option<&str>) -> Self {
        let agent = Self::down();
        let listener = UnixListener::bind(agent.socket()).unwrap();
        let requests = Arc::clone(&agent.requests);
        let answer = answer.map(str::to_owned);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().flatten() {
                if !reads {
                    continue;
                }
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                requests.lock().unwrap().push(line.trim_end().to_owned());
                if let Some(answer) = &answer {
                    let _ = stream.write_all(answer.as_bytes());
                    let _ = stream.write_all(b"\n");
                } else {
                    kept.push(stream);
                }
            }
        });
        agent
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub fn argument(&self) -> String {
        format!("arg socket={}", self.socket().display())
    }

    /// The file that a step gets when the agent does not answer.
    pub fn file(&self, job: u32, uid: u32) -> String {
        self.dir.path().join(format!("jobs/{job}/bt_u{uid}")).display().to_string()
    }

    /// The requests, without the time that each of them tells.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|line| without_time(line)).collect()
    }
}

/// A request, or the record of one, without the time that it tells.
pub fn without_time(line: &str) -> String {
    let (begin, rest) = line.split_once(r#","at":"#).expect("it tells its time");
    format!("{begin}{}", rest.trim_start_matches(|byte: char| byte.is_ascii_digit()))
}
