// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl broker status`: asks the broker on this host, and shows its answer.

use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mytoken::time_format::TimeFormat;
use mytoken_wire::printable;

use super::budgets;
use crate::broker::status::{BrokerStatus, EscrowStatus, SOCKET};

/// Exit status when no broker answers.
pub const NO_BROKER: u8 = 3;

/// Time limit of each read: the broker reads a file for each node.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longest answer in bytes.
const LIMIT: u64 = 1024 * 1024;

/// Why there is no status. A sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStatus {
    /// No broker answers.
    #[error("no broker answers at {socket}: {reason}")]
    Away {
        /// Path of its socket.
        socket: String,
        /// Why.
        reason: String,
    },
    /// The answer has another form.
    #[error("the answer of the broker at {0} is not understood; it may be of another version")]
    Answer(
        /// Path of its socket.
        String,
    ),
}

/// Asks the broker with this runtime directory.
///
/// # Errors
/// [`NoStatus`].
pub fn ask(runtime_dir: &Path) -> Result<BrokerStatus, NoStatus> {
    let path = runtime_dir.join(SOCKET);
    let socket = path.display().to_string();
    let mut answer = Vec::new();
    let read = UnixStream::connect(&path).and_then(|stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.take(LIMIT).read_to_end(&mut answer)
    });
    match read {
        Err(error) => Err(NoStatus::Away { socket, reason: error.to_string() }),
        // A broker that stops does this.
        Ok(0) => Err(NoStatus::Away { socket, reason: "it closed the connection".to_owned() }),
        Ok(_) => serde_json::from_slice(&answer).map_err(|_| NoStatus::Answer(socket)),
    }
}

/// The status for a terminal. `account_of` gives the account name of a uid.
#[must_use]
pub fn render(status: &BrokerStatus, times: TimeFormat, account_of: &dyn Fn(u32) -> Option<String>) -> String {
    let BrokerStatus { cluster, nodes, submissions, slurmctld, requests, answers, unauthorized, certificates, .. } =
        status;
    let mut text = format!("BROKER of the cluster {}\n", printable(cluster, 100));
    // A broker of the first version tells neither.
    if let Some(version) = &status.version {
        let _ = writeln!(text, "version: {}", printable(version, 50));
        let _ = writeln!(text, "keys: {}", printable(&status.keys.join(" "), 2_000));
    }
    let _ =
        writeln!(text, "nodes: {} enrolled, {} blocked, {} connected", nodes.enrolled, nodes.blocked, nodes.connected);
    let _ = writeln!(
        text,
        "submissions: {} open, {} to revoke, {} settled",
        submissions.open, submissions.to_revoke, submissions.settled
    );
    let asked = slurmctld.asked_ago.map_or_else(|| "not asked yet".to_owned(), |ago| format!("asked {ago} s ago"));
    let trouble = slurmctld.trouble.as_ref().map(|trouble| format!(", without an answer: {}", printable(trouble, 300)));
    let _ = writeln!(text, "slurmctld: {asked}{}", trouble.unwrap_or_default());
    let _ = writeln!(
        text,
        "requests to mytoken servers: {} granted, {} failed, {} refused, {} not sent for lack of a permit",
        requests.granted, requests.failed, requests.refused, requests.unsent
    );
    for failing in &status.failing {
        let (server, reason) = (printable(&failing.server, 200), printable(&failing.reason, 300));
        let _ = writeln!(text, "  {server}: the last {} failed, {} s ago: {reason}", failing.failed, failing.ago);
    }
    let _ = writeln!(
        text,
        "answers to nodes: {} tokens, {} later, {} refused; enrolments: {} signed, {} refused",
        answers.tokens, answers.later, answers.refused, answers.enrolled, answers.enrolments_refused
    );
    let _ = writeln!(
        text,
        "unauthorized requests: {} for jobs of other nodes, {} without a certificate, {} with one that does not count, {} of nodes that are not enrolled, {} from another address",
        unauthorized.other_node,
        unauthorized.no_certificate,
        unauthorized.certificate,
        unauthorized.not_enrolled,
        unauthorized.other_address
    );
    if let Some(trouble) = &status.configuration.trouble {
        let (read, refused) = (times.minutes(status.configuration.read), status.configuration.refused);
        let reload =
            refused.map_or_else(String::new, |at| format!("the reload of {} was refused: ", times.minutes(at)));
        let _ = writeln!(text, "configuration: that of {read}, because {reload}{}", printable(trouble, 500));
    }
    let _ = writeln!(
        text,
        "certificates: the broker's until {}, the authority's until {}",
        times.minutes(certificates.broker),
        times.minutes(certificates.authority)
    );
    let _ = writeln!(text, "escrow: {}", escrow(&status.escrow, times));
    text + &budgets::render(&status.budgets, account_of)
}

fn escrow(escrow: &EscrowStatus, times: TimeFormat) -> String {
    let on = if escrow.on { "on" } else { "off" };
    if escrow.texts == 0 {
        return format!("{on}, no credentials");
    }
    let first = escrow.first_expiry.map(|expiry| format!(", the first expires {}", times.minutes(expiry)));
    format!("{on}, {} credentials, {} bytes{}", escrow.texts, escrow.bytes, first.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::broker::status::{
        AnswerCounts, CertificateEnds, ConfigurationState, FailingServer, Nodes, OF_FIRST_VERSION, RequestCounts,
        Slurmctld, Submissions, UnauthorizedCounts,
    };

    #[test]
    fn the_status_is_for_people() {
        let status = BrokerStatus {
            cluster: "alpha".into(),
            version: Some("1.2.3\u{1b}".into()),
            keys: vec!["0a1b2c3d".into(), "4e5f6071".into()],
            nodes: Nodes { enrolled: 12, blocked: 1, connected: 11 },
            submissions: Submissions { open: 3, to_revoke: 2, settled: 7 },
            slurmctld: Slurmctld { asked_ago: Some(31), trouble: None },
            requests: RequestCounts { granted: 40, failed: 2, refused: 1, unsent: 0 },
            failing: vec![FailingServer {
                server: "https://m.example".into(),
                failed: 2,
                ago: 7,
                reason: "the server\u{1b} is away".into(),
            }],
            answers: AnswerCounts { tokens: 90, later: 4, refused: 3, enrolled: 13, enrolments_refused: 2 },
            unauthorized: UnauthorizedCounts {
                other_node: 5,
                no_certificate: 6,
                certificate: 7,
                not_enrolled: 8,
                other_address: 9,
            },
            configuration: ConfigurationState { read: 1_799_000_000, trouble: None, refused: None },
            budgets: Vec::new(),
            certificates: CertificateEnds { broker: 1_800_000_000, authority: 1_900_000_000 },
            escrow: EscrowStatus { on: true, texts: 5, bytes: 12_000, first_expiry: Some(1_800_000_000) },
        };
        let expected = "\
BROKER of the cluster alpha
version: 1.2.3?
keys: 0a1b2c3d 4e5f6071
nodes: 12 enrolled, 1 blocked, 11 connected
submissions: 3 open, 2 to revoke, 7 settled
slurmctld: asked 31 s ago
requests to mytoken servers: 40 granted, 2 failed, 1 refused, 0 not sent for lack of a permit
  https://m.example: the last 2 failed, 7 s ago: the server? is away
answers to nodes: 90 tokens, 4 later, 3 refused; enrolments: 13 signed, 2 refused
unauthorized requests: 5 for jobs of other nodes, 6 without a certificate, 7 with one that does not count, 8 of nodes that are not enrolled, 9 from another address
certificates: the broker's until 2027-01-15 08:00, the authority's until 2030-03-17 17:46
escrow: on, 5 credentials, 12000 bytes, the first expires 2027-01-15 08:00
";
        let times = TimeFormat::utc(1_799_000_000);
        assert_eq!(render(&status, times, &|_| None), expected);
        let away = Slurmctld { asked_ago: Some(3), trouble: Some("slurmctld\u{1b} is away".into()) };
        let trouble = Some("jobs.toml is wrong".into());
        let configuration = ConfigurationState { trouble, refused: Some(1_799_000_600), ..status.configuration };
        let escrow = EscrowStatus::default();
        let text = render(&BrokerStatus { slurmctld: away, configuration, escrow, ..status }, times, &|_| None);
        assert!(text.ends_with("\nescrow: off, no credentials\n"), "{text}");
        let refused = "configuration: that of 18:13, because the reload of 18:23 was refused: jobs.toml is wrong\n";
        assert!(text.contains(refused), "{text}");
        assert!(text.contains("slurmctld: asked 3 s ago, without an answer: slurmctld? is away\n"), "{text}");
    }

    #[test]
    fn a_broker_of_the_first_version_is_shown_without_what_it_does_not_tell() {
        let first: BrokerStatus = serde_json::from_str(OF_FIRST_VERSION).unwrap();
        let text = render(&first, TimeFormat::utc(1_799_000_000), &|_| None);
        assert!(text.contains("alpha\nnodes: 12 enrolled"), "{text}");
        assert!(text.contains("configuration: that of 18:13, because jobs.toml is wrong\n"), "{text}");
    }

    #[test]
    fn without_a_broker_there_is_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let said = ask(dir.path()).unwrap_err().to_string();
        assert!(said.contains("no broker answers at ") && said.contains("broker.sock: "), "{said}");
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let answers = |text: &'static str| {
            let listener = listener.try_clone().unwrap();
            let answered = std::thread::spawn(move || listener.accept().unwrap().0.write_all(text.as_bytes()));
            let read = ask(dir.path());
            answered.join().unwrap().unwrap();
            read
        };
        assert_eq!(answers(OF_FIRST_VERSION).map(|status| status.nodes.enrolled), Ok(12));
        assert!(matches!(answers("x"), Err(NoStatus::Answer(_))));
        assert!(matches!(answers(""), Err(NoStatus::Away { .. })));
    }
}
