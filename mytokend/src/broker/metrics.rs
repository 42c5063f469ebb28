// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker's status as metrics for Prometheus (`OpenMetrics` 1.0). No label names a user, a job or a node: their number has no limit, and
//! whoever reaches the port can read them.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::status::BrokerStatus;

/// Media type of [`text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Begin of all names.
const PREFIX: &str = "mytoken_broker";

type Labels = Vec<(&'static str, String)>;

/// The status as text.
///
/// # Errors
/// None that is known: the library's type has one.
pub fn text(status: &BrokerStatus, version: &str) -> Result<String, fmt::Error> {
    let mut metrics = Metrics { registry: Registry::with_prefix(PREFIX) };
    let build = Info::new(vec![("version", version.to_owned())]);
    metrics.registry.register("build", "Version of the broker", build);
    metrics.nodes(status);
    metrics.submissions(status);
    metrics.requests(status);
    metrics.budgets(status);
    metrics.hosts_and_files(status);
    let mut text = String::new();
    encode(&mut text, &metrics.registry)?;
    Ok(text)
}

struct Metrics {
    registry: Registry,
}

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, value: impl TryInto<i64>) {
        self.registry.register(name, help, ConstGauge::new(number(value)));
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, i64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.registry.register(name, help, family);
    }

    fn counters(&mut self, name: &str, help: &str, label: &'static str, values: &[(&str, u64)]) {
        let family = Family::<Labels, Counter<u64, AtomicU64>>::default();
        for (of, value) in values {
            family.get_or_create(&vec![(label, (*of).to_owned())]).inc_by(*value);
        }
        self.registry.register(name, help, family);
    }

    fn nodes(&mut self, status: &BrokerStatus) {
        let nodes = status.nodes;
        self.gauges(
            "nodes",
            "Nodes in the register",
            states(&[("enrolled", nodes.enrolled), ("blocked", nodes.blocked)]),
        );
        self.gauge("connections", "Connections with a node's certificate; a node has one", nodes.connected);
        let answers = status.answers;
        let help = "Nodes that asked for a certificate";
        let results = [("signed", answers.enrolled), ("refused", answers.enrolments_refused)];
        self.counters("enrolments", help, "result", &results);
    }

    fn submissions(&mut self, status: &BrokerStatus) {
        let submissions = status.submissions;
        let of = [("open", submissions.open), ("to_revoke", submissions.to_revoke), ("settled", submissions.settled)];
        self.gauges("submissions", "Submissions in memory", states(&of));
        let answers = status.answers;
        let results = [("token", answers.tokens), ("later", answers.later), ("refused", answers.refused)];
        self.counters("answers", "Answers to nodes that asked for the token of a job", "result", &results);
        let unauthorized = status.unauthorized;
        let reasons = [
            ("other_node", unauthorized.other_node),
            ("no_certificate", unauthorized.no_certificate),
            ("certificate", unauthorized.certificate),
            ("not_enrolled", unauthorized.not_enrolled),
            ("other_address", unauthorized.other_address),
        ];
        let help = "Requests of somebody who has no right to what he asks for";
        self.counters("unauthorized_requests", help, "reason", &reasons);
        self.gauge("kept_credentials", "Sealed credentials that are kept for jobs (escrow)", status.escrow.texts);
    }

    fn requests(&mut self, status: &BrokerStatus) {
        let requests = status.requests;
        let results = [
            ("granted", requests.granted),
            ("failed", requests.failed),
            ("refused", requests.refused),
            ("unsent", requests.unsent),
        ];
        self.counters("requests", "Requests to mytoken servers", "result", &results);
    }

    fn budgets(&mut self, status: &BrokerStatus) {
        let of = |figure: fn(&mytoken_wire::agent::BudgetStatus) -> i64| {
            let server =
                |budget: &mytoken_wire::agent::BudgetStatus| (vec![("server", budget.server.clone())], figure(budget));
            status.budgets.iter().map(server).collect::<Vec<_>>()
        };
        let (requests, left) = (of(|budget| budget.requests.into()), of(|budget| budget.left.into()));
        let period = of(|budget| number(budget.period));
        self.gauges(
            "budget_requests",
            "Requests that this broker and the hosts that ask it may send in a period",
            requests,
        );
        self.gauges("budget_left", "Requests of the budget that are left", left);
        self.gauges("budget_period_seconds", "Length of the period of a budget", period);
    }

    fn hosts_and_files(&mut self, status: &BrokerStatus) {
        let slurmctld = &status.slurmctld;
        let up = slurmctld.asked_ago.is_some() && slurmctld.trouble.is_none();
        self.gauge("slurmctld_up", "Whether slurmctld answered the last question", i64::from(up));
        if let Some(ago) = slurmctld.asked_ago {
            self.gauge("slurmctld_question_age_seconds", "Time since the last question to slurmctld", ago);
        }
        let configuration = &status.configuration;
        let good = i64::from(configuration.trouble.is_none());
        self.gauge("configuration_up_to_date", "Whether the files could be used when they were last read", good);
        let help = "When the configuration in use was read, Unix time";
        self.gauge("configuration_timestamp_seconds", help, configuration.read);
        let ends = status.certificates;
        let ends = [("broker", ends.broker), ("authority", ends.authority)];
        let ends = ends.map(|(of, end)| (vec![("certificate", of.to_owned())], number(end)));
        self.gauges("certificate_end_timestamp_seconds", "When a certificate ends, Unix time", ends);
    }
}

fn states(of: &[(&str, usize)]) -> Vec<(Labels, i64)> {
    of.iter().map(|(state, count)| (vec![("state", (*state).to_owned())], number(*count))).collect()
}

fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
