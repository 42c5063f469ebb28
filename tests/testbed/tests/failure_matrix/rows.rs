// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of the matrix.

/// A fault, and what becomes of a job that requires its credential. Other jobs always run.
pub struct Row {
    pub name: &'static str,
    pub fault: Fault,
    pub required: Required,
}

/// How a fault is made.
pub enum Fault {
    /// Arguments of the plugin in plugstack.conf.
    Arguments(&'static str),
    /// This hook of the plugin panics, in a build that can.
    Panic(&'static str),
    /// The path and the body of a request to the test server. `AtStart`: after the submission, before the job starts.
    Server(&'static str, &'static str),
    ServerAtStart(&'static str, &'static str),
    /// The node's agent is stopped (SIGSTOP).
    StoppedAgent,
    /// The node's agent has ended. A program in perl may listen in its place; it has the socket `$s`.
    OtherAgent(&'static str),
    /// The agent's clock differs by so many seconds.
    Clock(i64),
    /// Shell commands of root on the node, before and after.
    Node(&'static str, &'static str),
}

/// What becomes of a job that requires its credential.
#[derive(Debug, Clone, Copy)]
pub enum Required {
    /// It is not submitted. The message contains this.
    Refused(&'static str),
    /// It fails before its program starts. Its output contains this.
    Fails(&'static str),
    Runs,
    /// Without the option in `init` there is nothing to require.
    NotTried,
}

use Fault::{Arguments, Clock, Node, OtherAgent, Panic, Server, ServerAtStart, StoppedAgent};
use Required::{Fails, NotTried, Refused, Runs};

const fn row(name: &'static str, fault: Fault, required: Required) -> Row {
    Row { name, fault, required }
}

/// Faults on the node.
pub const NODE: &[Row] = &[
    row("no fault", Arguments(""), Runs),
    row("agent absent", OtherAgent(""), Fails("did not answer")),
    row("agent stopped", StoppedAgent, Fails("did not answer")),
    row(
        "agent answers garbage",
        OtherAgent(r#"while (accept(my $c, $s)) { sysread $c, my $line, 65536; syswrite $c, "\0garbage\n" }"#),
        Fails("does not understand the answer"),
    ),
    row(
        "agent answers without end",
        OtherAgent("while (accept(my $c, $s)) { 1 while syswrite $c, 'x' x 65536 }"),
        Fails("does not understand the answer"),
    ),
    row(
        "agent answers late",
        OtherAgent(
            "while (accept(my $c, $s)) { next if fork; close $s; sleep 5; syswrite $c, qq({\"v\":1,\"done\":{}}\\n); exit }",
        ),
        Fails("did not answer"),
    ),
    row(
        "disk full",
        Node(
            "mount -o remount,size=64k /run/mytoken; ! cat /dev/zero >/run/mytoken/ballast",
            "rm /run/mytoken/ballast; mount -o remount,size=50% /run/mytoken",
        ),
        Fails("got no token within 5 s"),
    ),
    row("clock a year ahead", Clock(366 * 86_400), Fails("expired")),
    row("clock an hour behind", Clock(-3600), Runs),
    row(
        "server out at the start",
        ServerAtStart("/outage", r#"{"service":"mytoken","on":true}"#),
        Fails("got no token within 5 s"),
    ),
];

/// Faults at the submission, and panics.
pub const SUBMISSION: &[Row] = &[
    row("helper killed", Arguments("submit=/usr/local/bin/killed"), Refused("was ended by signal 9")),
    row("helper hangs", Arguments("submit=/usr/local/bin/hanging"), Refused("did not answer within 3 s")),
    row("helper prints without end", Arguments("submit=/usr/local/bin/huge"), Refused("an answer that is too long")),
    row("helper missing", Arguments("submit=/nonexistent"), Refused("cannot be started")),
    row("server out", Server("/outage", r#"{"service":"mytoken","on":true}"#), Refused("mytoken.testbed")),
    row(
        "server slow",
        Server("/mytoken/fault", r#"{"name":"latency","ms":60000}"#),
        Refused("did not answer within 3 s"),
    ),
    row("panic in init", Panic("init"), NotTried),
    row("panic in the option", Panic("option"), Refused("internal error")),
    row("panic in init_post_opt", Panic("init_post_opt"), Refused("internal error")),
    row("panic in task_init", Panic("task_init"), Fails("internal error")),
    row("panic in job_epilog", Panic("job_epilog"), Runs),
];

/// The programs in place of mytoken-submit.
pub const HELPERS: &[(&str, &str)] = &[
    ("/usr/local/bin/killed", "kill -9 $$"),
    ("/usr/local/bin/hanging", "exec sleep 60"),
    ("/usr/local/bin/huge", "exec cat /dev/zero"),
];
