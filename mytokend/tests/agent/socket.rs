// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may ask, and what happens to those who ask badly.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use mytoken::agent::{Answer, LINE_LIMIT, Request};

use crate::play::{Stage, step};

fn raw(stage: &Stage, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(stage.socket()).unwrap();
    // The agent may hang up on too long a line.
    let _ = stream.write_all(bytes);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn everybody_may_connect() {
    let stage = Stage::new(3600);
    let mode = std::fs::metadata(stage.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
}

#[test]
fn what_is_no_request_is_refused_without_being_repeated() {
    let stage = Stage::new(3600);
    for (line, word) in [
        ("\n", "no request"),
        ("{\"v\":1}\n", "knows"),
        ("{\"v\":2,\"call\":\"status\"}\n", "version 1"),
        ("{\"v\":1,\"call\":\"job_end\",\"job\":\"eyJhbGciOiJIUzI1NiJ9\"}\n", "knows"),
        ("{\"v\":1,\"call\":\"rm\"}\n", "knows"),
    ] {
        let answer = raw(&stage, line.as_bytes());
        assert!(answer.contains("\"error\"") && answer.contains(word) && !answer.contains("eyJ"), "{line}: {answer}");
    }
    let answer = raw(&stage, &vec![b'x'; LINE_LIMIT + 5000]);
    assert!(answer.is_empty() || answer.contains("at most"), "{answer}");
    assert!(matches!(stage.ask(&Request::Status { job: None }), Ok(Answer::Status(_))), "the agent lives");
}

#[test]
fn an_ordinary_user_sees_only_what_is_his() {
    let stage = Stage::new(3600);
    stage.start(7, "h1");
    // As root this test can become another user in a child process; as an ordinary user nobody else is there to ask.
    if crate::play::me().uid != 0 {
        return;
    }
    std::fs::set_permissions(stage.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = r#"
import os, socket, sys
os.setgid(65534); os.setuid(65534)
for line in ('{"v":1,"call":"status"}', '{"v":1,"call":"job_end","job":7}'):
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(line.encode() + b"\n")
    print(s.makefile().readline().strip())
"#;
    let output = std::process::Command::new("python3").args(["-c", script]).arg(stage.socket()).output();
    let Ok(output) = output else { return };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some(r#"{"v":1,"status":{"node":"n1","jobs":[]}}"#), "{output:?}");
    assert!(lines.next().unwrap().contains("only root"), "{said}");
    assert!(stage.token(7).exists());
}

#[test]
fn a_list_of_very_many_jobs_still_fits_into_an_answer() {
    let stage = Stage::new(3600);
    for job in 1..=600 {
        stage.start_with(step(job));
    }
    let Answer::Status(status) = stage.ask(&Request::Status { job: None }).unwrap() else { panic!() };
    assert!(
        status.omitted > 0 && status.jobs.len() + status.omitted == 600,
        "{} {}",
        status.jobs.len(),
        status.omitted
    );
}
