// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metrics of a broker, the page about them, the rules for Prometheus and the dashboard for Grafana know the same names.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use mytoken_wire::agent::{BudgetStatus, BudgetUse};
use mytokend::broker::metrics::text;
use mytokend::broker::status::{
    AnswerCounts, BrokerStatus, CertificateEnds, ConfigurationState, EscrowStatus, Nodes, RequestCounts, Slurmctld,
    Submissions, UnauthorizedCounts,
};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/admin/monitoring.md");
const RULES: &str = include_str!("../../../packaging/monitoring/mytoken-broker.rules.yml");
const DASHBOARD: &str = include_str!("../../../packaging/monitoring/mytoken-broker.dashboard.json");

fn status() -> BrokerStatus {
    BrokerStatus {
        cluster: "alpha".into(),
        version: Some("1.2.3".into()),
        keys: vec!["0a1b2c3d".into()],
        nodes: Nodes { enrolled: 12, blocked: 1, connected: 11 },
        submissions: Submissions { open: 3, to_revoke: 2, settled: 7 },
        slurmctld: Slurmctld { asked_ago: Some(31), trouble: None },
        requests: RequestCounts { granted: 40, failed: 2, refused: 1, unsent: 5 },
        answers: AnswerCounts { tokens: 90, later: 4, refused: 3, enrolled: 13, enrolments_refused: 6 },
        unauthorized: UnauthorizedCounts {
            other_node: 31,
            no_certificate: 32,
            certificate: 33,
            not_enrolled: 34,
            other_address: 35,
        },
        configuration: ConfigurationState { read: 1_799_000_000, trouble: None, refused: None },
        failing: Vec::new(),
        budgets: vec![BudgetStatus {
            server: "https://mytoken.example.org".into(),
            requests: 100,
            period: 60,
            own: false,
            left: 70,
            uses: vec![BudgetUse { kind: "login".into(), uid: Some(4711), requests: 30 }],
            omitted: 0,
        }],
        certificates: CertificateEnds { broker: 1_800_000_000, authority: 1_900_000_000 },
        escrow: EscrowStatus { on: true, texts: 8, bytes: 20_000, first_expiry: None },
    }
}

/// The names in a text, with the suffixes of samples.
fn names(text: &str) -> BTreeSet<&str> {
    let begins = text.match_indices("mytoken_broker_").map(|(begin, _)| text.split_at(begin).1);
    begins.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap()).collect()
}

/// The names of the samples of a broker.
fn samples(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap()).collect()
}

#[test]
fn the_metrics_are_those_of_the_status() {
    let text = text(&status(), "1.2.3").unwrap();
    for line in [
        "mytoken_broker_build_info{version=\"1.2.3\"} 1",
        "mytoken_broker_nodes{state=\"enrolled\"} 12",
        "mytoken_broker_nodes{state=\"blocked\"} 1",
        "mytoken_broker_connections 11",
        "mytoken_broker_enrolments_total{result=\"signed\"} 13",
        "mytoken_broker_enrolments_total{result=\"refused\"} 6",
        "mytoken_broker_submissions{state=\"open\"} 3",
        "mytoken_broker_submissions{state=\"to_revoke\"} 2",
        "mytoken_broker_submissions{state=\"settled\"} 7",
        "mytoken_broker_kept_credentials 8",
        "mytoken_broker_answers_total{result=\"token\"} 90",
        "mytoken_broker_answers_total{result=\"later\"} 4",
        "mytoken_broker_answers_total{result=\"refused\"} 3",
        "mytoken_broker_unauthorized_requests_total{reason=\"other_node\"} 31",
        "mytoken_broker_unauthorized_requests_total{reason=\"no_certificate\"} 32",
        "mytoken_broker_unauthorized_requests_total{reason=\"certificate\"} 33",
        "mytoken_broker_unauthorized_requests_total{reason=\"not_enrolled\"} 34",
        "mytoken_broker_unauthorized_requests_total{reason=\"other_address\"} 35",
        "mytoken_broker_requests_total{result=\"granted\"} 40",
        "mytoken_broker_requests_total{result=\"failed\"} 2",
        "mytoken_broker_requests_total{result=\"refused\"} 1",
        "mytoken_broker_requests_total{result=\"unsent\"} 5",
        "mytoken_broker_budget_requests{server=\"https://mytoken.example.org\"} 100",
        "mytoken_broker_budget_left{server=\"https://mytoken.example.org\"} 70",
        "mytoken_broker_budget_period_seconds{server=\"https://mytoken.example.org\"} 60",
        "mytoken_broker_slurmctld_up 1",
        "mytoken_broker_slurmctld_question_age_seconds 31",
        "mytoken_broker_configuration_up_to_date 1",
        "mytoken_broker_configuration_timestamp_seconds 1799000000",
        "mytoken_broker_certificate_end_timestamp_seconds{certificate=\"broker\"} 1800000000",
        "mytoken_broker_certificate_end_timestamp_seconds{certificate=\"authority\"} 1900000000",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 31, "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(!text.contains("4711") && !text.contains("alpha"), "a user or the cluster is named:\n{text}");
}

#[test]
fn trouble_is_shown() {
    let slurmctld = Slurmctld { asked_ago: Some(3), trouble: Some("it is away".into()) };
    let configuration = ConfigurationState { trouble: Some("jobs.toml is wrong".into()), ..status().configuration };
    let text = text(&BrokerStatus { slurmctld, configuration, ..status() }, "1").unwrap();
    for line in ["mytoken_broker_slurmctld_up 0", "mytoken_broker_configuration_up_to_date 0"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("away") && !text.contains("jobs.toml"), "{text}");
    let asked = |asked_ago, trouble| BrokerStatus { slurmctld: Slurmctld { asked_ago, trouble }, ..status() };
    let never = mytokend::broker::metrics::text(&asked(None, None), "1").unwrap();
    assert!(!never.contains("question_age"), "{never}");
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let text = text(&status(), "1").unwrap();
    let rows: BTreeSet<&str> =
        PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split(['{', '`']).next()).collect();
    assert_eq!(
        rows.iter().copied().filter(|name| name.starts_with("mytoken_")).collect::<BTreeSet<_>>(),
        samples(&text)
    );
}

#[test]
fn rules_and_dashboard_ask_for_what_a_broker_tells_and_every_metric_is_asked_for() {
    let text = text(&status(), "1").unwrap();
    let told = samples(&text);
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked: Vec<&str> = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(asked.len() > 8, "{asked:?}");
    let in_dashboard: BTreeSet<&str> = asked.iter().flat_map(|expression| names(expression)).collect();
    let in_rules = names(RULES);
    let unknown: Vec<_> = in_rules.union(&in_dashboard).filter(|name| !told.contains(**name)).collect();
    assert!(unknown.is_empty(), "no broker tells {unknown:?}");
    let unused: Vec<_> =
        told.iter().filter(|name| !in_dashboard.contains(**name) && !in_rules.contains(**name)).collect();
    assert!(unused.is_empty(), "nothing asks for {unused:?}");
}

#[test]
fn each_alert_says_what_to_do_and_the_page_has_it() {
    let alerts: Vec<&str> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 6, "{alerts:?}");
    for part in ["expr: ", "for: ", "severity: ", "summary: ", "description: "] {
        let count = RULES.lines().filter(|line| line.trim().starts_with(part)).count();
        assert_eq!(count, alerts.len(), "{part}");
    }
    let documented: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `Mytoken").map(|_| line.split('`').nth(1).unwrap()))
        .collect();
    assert_eq!(documented, alerts);
}

/// Prometheus itself reads the rules, and raises each alert in its situation and none in a good one.
#[test]
fn prometheus_raises_each_alert() {
    let run = |arguments: &[&str]| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/monitoring");
        Command::new("promtool").args(arguments).current_dir(here).output()
    };
    if run(&["--version"]).is_err() {
        return skipped::skip("promtool is not installed (it is in Debian's package prometheus)").unwrap();
    }
    for arguments in
        [&["check", "config", "../../../packaging/monitoring/prometheus.yml"][..], &["test", "rules", "alerts.yml"]]
    {
        let output = run(arguments).unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
    // No alert is left out.
    let situations = include_str!("alerts.yml");
    let alerts: Vec<&str> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), 12);
    for alert in alerts {
        assert!(situations.contains(&format!("alertname=\"{alert}\"")), "{alert}");
    }
}
