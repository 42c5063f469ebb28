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

/// Asks the broker with this runtime directory.
///
/// # Errors
/// A sentence.
pub fn ask(runtime_dir: &Path) -> Result<BrokerStatus, String> {
    let socket = runtime_dir.join(SOCKET);
    let failed = |reason: String| format!("no broker answers at {}: {reason}", socket.display());
    let mut answer = Vec::new();
    UnixStream::connect(&socket)
        .and_then(|stream| {
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.take(LIMIT).read_to_end(&mut answer)
        })
        .map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&answer).map_err(|_| failed("it says nothing that this version understands".to_owned()))
}

/// The status for a terminal. `account_of` gives the account name of a uid.
#[must_use]
pub fn render(status: &BrokerStatus, times: TimeFormat, account_of: &dyn Fn(u32) -> Option<String>) -> String {
    let BrokerStatus { cluster, nodes, submissions, slurmctld, requests, answers, certificates, .. } = status;
    let mut text = format!("BROKER of the cluster {}\n", printable(cluster, 100));
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
    let _ = writeln!(
        text,
        "answers to nodes: {} tokens, {} later, {} refused; enrolments: {} signed, {} refused",
        answers.tokens, answers.later, answers.refused, answers.enrolled, answers.enrolments_refused
    );
    if let Some(trouble) = &status.configuration.trouble {
        let read = times.minutes(status.configuration.read);
        let _ = writeln!(text, "configuration: that of {read}, because {}", printable(trouble, 500));
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
    use super::*;
    use crate::broker::status::{
        AnswerCounts, CertificateEnds, ConfigurationState, Nodes, RequestCounts, Slurmctld, Submissions,
    };

    #[test]
    fn the_status_is_for_people() {
        let status = BrokerStatus {
            cluster: "alpha".into(),
            nodes: Nodes { enrolled: 12, blocked: 1, connected: 11 },
            submissions: Submissions { open: 3, to_revoke: 2, settled: 7 },
            slurmctld: Slurmctld { asked_ago: Some(31), trouble: None },
            requests: RequestCounts { granted: 40, failed: 2, refused: 1, unsent: 0 },
            answers: AnswerCounts { tokens: 90, later: 4, refused: 3, enrolled: 13, enrolments_refused: 2 },
            configuration: ConfigurationState { read: 1_799_000_000, trouble: None },
            budgets: Vec::new(),
            certificates: CertificateEnds { broker: 1_800_000_000, authority: 1_900_000_000 },
            escrow: EscrowStatus { on: true, texts: 5, bytes: 12_000, first_expiry: Some(1_800_000_000) },
        };
        let expected = "\
BROKER of the cluster alpha
nodes: 12 enrolled, 1 blocked, 11 connected
submissions: 3 open, 2 to revoke, 7 settled
slurmctld: asked 31 s ago
requests to mytoken servers: 40 granted, 2 failed, 1 refused, 0 not sent for lack of a permit
answers to nodes: 90 tokens, 4 later, 3 refused; enrolments: 13 signed, 2 refused
certificates: the broker's until 2027-01-15 08:00, the authority's until 2030-03-17 17:46
escrow: on, 5 credentials, 12000 bytes, the first expires 2027-01-15 08:00
";
        let times = TimeFormat::utc(1_799_000_000);
        assert_eq!(render(&status, times, &|_| None), expected);
        let away = Slurmctld { asked_ago: Some(3), trouble: Some("slurmctld\u{1b} is away".into()) };
        let configuration = ConfigurationState { trouble: Some("jobs.toml is wrong".into()), ..status.configuration };
        let escrow = EscrowStatus::default();
        let text = render(&BrokerStatus { slurmctld: away, configuration, escrow, ..status }, times, &|_| None);
        assert!(text.ends_with("\nescrow: off, no credentials\n"), "{text}");
        assert!(text.contains("configuration: that of 18:13, because jobs.toml is wrong\n"), "{text}");
        assert!(text.contains("slurmctld: asked 3 s ago, without an answer: slurmctld? is away\n"), "{text}");
    }

    #[test]
    fn without_a_broker_there_is_a_sentence() {
        let empty = tempfile::tempdir().unwrap();
        let said = ask(empty.path()).unwrap_err();
        assert!(said.contains("no broker answers at ") && said.contains("broker.sock: "), "{said}");
    }
}
