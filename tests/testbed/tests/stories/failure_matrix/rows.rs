// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of the matrix.

/// A fault, and what becomes of a job that requires its credential. Other jobs always run.
pub struct Row {
    pub name: &'static str,
    pub fault: Fault,
    /// For each [`Moment`].
    pub required: [Required; 3],
}

/// When a fault begins. It lasts until the jobs have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the submission.
    Submission,
    /// After the submission, before the job starts.
    Start,
    /// While the job runs, before its second step.
    Run,
}

impl Moment {
    pub const ALL: [Self; 3] = [Self::Submission, Self::Start, Self::Run];

    /// What becomes of a job that requires its credential.
    pub fn required(self, row: &Row) -> Required {
        let [submission, start, run] = row.required;
        match self {
            Self::Submission => submission,
            Self::Start => start,
            Self::Run => run,
        }
    }
}

/// How a fault is made.
pub enum Fault {
    /// Arguments of the plugin in plugstack.conf.
    Arguments(&'static str),
    /// This hook of the plugin panics, in a build that can.
    Panic(&'static str),
    /// The path and the body of a request to the test server.
    Server(&'static str, &'static str),
    /// The agent is stopped (SIGSTOP).
    StoppedAgent(Host),
    /// The agent has ended. A program in perl may listen in its place; it has the socket `$s`.
    OtherAgent(Host, &'static str),
    /// The clock of the product's programs differs by so many seconds.
    Clock(Host, i64),
    /// Shell commands of root on the node, before and after.
    Node(&'static str, &'static str),
    /// The same on the submit host.
    SubmitHost(&'static str, &'static str),
    /// The user's `~/.config` on the submit host is a file system that does not answer, and mytoken-submit waits 2 s.
    HangingHome,
}

/// Where the fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Node,
    Submit,
}

/// What becomes of a job that requires its credential.
#[derive(Debug, Clone, Copy)]
pub enum Required {
    /// It is not submitted. The message contains this.
    Refused(&'static str),
    /// It fails before its program starts. Its output contains this.
    Fails(&'static str),
    /// Its program runs, its second step does not. Its output contains this.
    StepFails(&'static str),
    Runs,
    /// Without the option in `init` there is nothing to require.
    NotTried,
}

use Fault::{Arguments, Clock, HangingHome, Node, OtherAgent, Panic, Server, StoppedAgent, SubmitHost};
use Required::{Fails, NotTried, Refused, Runs, StepFails};

/// A fault on the node. It makes no difference whether it begins before or after the submission. A job that runs keeps its token.
const fn node(name: &'static str, fault: Fault, required: Required) -> Row {
    Row { name, fault, required: [required, required, Runs] }
}

/// A fault of the program that submissions start.
const fn helper(name: &'static str, path: &'static str, required: Required) -> Row {
    Row { name, fault: Arguments(path), required: [required, Runs, Runs] }
}

const fn row(name: &'static str, fault: Fault, required: [Required; 3]) -> Row {
    Row { name, fault, required }
}

/// A fault of what the submit host has besides mytoken-submit: no job needs it.
const fn submit_host(name: &'static str, fault: Fault) -> Row {
    Row { name, fault, required: [Runs, Runs, Runs] }
}

/// Faults on the node.
pub const NODE: &[Row] = &[
    node("no fault", Arguments(""), Runs),
    node("agent absent", OtherAgent(Host::Node, ""), Fails("did not answer")),
    node("agent stopped", StoppedAgent(Host::Node), Fails("did not answer")),
    node("agent answers garbage", OtherAgent(Host::Node, GARBAGE), Fails("does not understand the answer")),
    node("agent answers without end", OtherAgent(Host::Node, ENDLESS), Fails("does not understand the answer")),
    node("agent answers late", OtherAgent(Host::Node, LATE), Fails("did not answer")),
    node(
        "disk full",
        Node(
            // A size below what is in use is refused, and without a limit the host's memory would be filled.
            "used=$(df -k --output=used /run/mytoken | tail -n 1) && mount -o remount,size=$((used + 16))k /run/mytoken && \
             ! cat /dev/zero >/run/mytoken/ballast",
            "rm /run/mytoken/ballast; mount -o remount,size=50% /run/mytoken",
        ),
        Fails("got no token within 5 s"),
    ),
    // The credential is valid by the server's clock. Certificates of the site are valid for decades.
    node("clock a year ahead", Clock(Host::Node, 366 * 86_400), Runs),
    node("clock an hour behind", Clock(Host::Node, -3600), Runs),
];

/// Agents that do not do what agents do.
const GARBAGE: &str = r#"while (accept(my $c, $s)) { sysread $c, my $line, 65536; syswrite $c, "\0garbage\n" }"#;
const ENDLESS: &str = "while (accept(my $c, $s)) { 1 while syswrite $c, 'x' x 65536 }";
const LATE: &str =
    "while (accept(my $c, $s)) { next if fork; close $s; sleep 5; syswrite $c, qq({\"v\":1,\"done\":{}}\\n); exit }";

/// Faults at the submission, and panics.
pub const SUBMISSION: &[Row] = &[
    helper("helper killed", "submit=/usr/local/bin/killed", Refused("was ended by signal 9")),
    helper("helper hangs", "submit=/usr/local/bin/hanging", Refused("did not answer within 3 s")),
    helper("helper prints without end", "submit=/usr/local/bin/huge", Refused("an answer that is too long")),
    helper("helper missing", "submit=/nonexistent", Refused("cannot be started")),
    row(
        "server out",
        Server("/outage", r#"{"service":"mytoken","on":true}"#),
        [Refused("mytoken.testbed"), Fails("got no token within 5 s"), Runs],
    ),
    row(
        "server slow",
        // Longer than the deadlines of the rows.
        Server("/mytoken/fault", r#"{"name":"latency","ms":9000}"#),
        [Refused("did not answer within 3 s"), Fails("no answer in time"), Runs],
    ),
    row("home directory full", SubmitHost(FILL_HOME, EMPTY_HOME), [Runs, Runs, Runs]),
    row(
        "home directory hangs",
        HangingHome,
        [Refused("the mytoken server or your home directory did not answer within 2 s"), Runs, Runs],
    ),
    submit_host("submit host's agent absent", OtherAgent(Host::Submit, "")),
    submit_host("submit host's agent stopped", StoppedAgent(Host::Submit)),
    submit_host("submit host's agent answers garbage", OtherAgent(Host::Submit, GARBAGE)),
    submit_host("submit host's agent answers without end", OtherAgent(Host::Submit, ENDLESS)),
    submit_host("submit host's agent answers late", OtherAgent(Host::Submit, LATE)),
    submit_host("submit host's clock a year ahead", Clock(Host::Submit, 366 * 86_400)),
    submit_host("submit host's clock an hour behind", Clock(Host::Submit, -3600)),
    row("panic in init", Panic("init"), [NotTried, Runs, Runs]),
    row("panic in the option", Panic("option"), [Refused("internal error"), Runs, Runs]),
    row(
        "panic in init_post_opt",
        Panic("init_post_opt"),
        [Refused("internal error"), Fails("internal error"), StepFails("internal error")],
    ),
    row(
        "panic in task_init",
        Panic("task_init"),
        [Fails("internal error"), Fails("internal error"), StepFails("internal error")],
    ),
    row("panic in job_epilog", Panic("job_epilog"), [Runs, Runs, Runs]),
];

/// What the product keeps in the home directory is in file systems of their own, so that the jobs' output has room.
const FILL_HOME: &str = "cd /home/alice && for name in .config .cache; do
    mkdir -p $name && chown --reference=. $name && cp -a $name /var/tmp/kept$name || exit 1
    mount -t tmpfs -o size=256k tmpfs $name && cp -a /var/tmp/kept$name/. $name || exit 1
    ! cat /dev/zero >$name/ballast || exit 1
done";

const EMPTY_HOME: &str =
    "umount -l /home/alice/.config /home/alice/.cache && rm -r /var/tmp/kept.config /var/tmp/kept.cache";

/// The programs in place of mytoken-submit.
pub const HELPERS: &[(&str, &str)] = &[
    ("/usr/local/bin/killed", "kill -9 $$"),
    ("/usr/local/bin/hanging", "exec sleep 60"),
    ("/usr/local/bin/huge", "exec cat /dev/zero"),
];
