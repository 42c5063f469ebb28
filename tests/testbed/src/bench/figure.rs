// SPDX-License-Identifier: MIT OR Apache-2.0
//! A figure of the bench, its goal, and the table.

use std::fmt;

use serde::Serialize;

use super::statistics::Comparison;

/// One line of the table and of `bench.json`. A member that does not apply is `None`, in JSON `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    /// Its name. A name must not change, so that runs can be compared.
    pub(super) name: &'static str,
    /// The value of the product: a median or a size.
    pub(super) ours: Option<f64>,
    /// The baseline.
    pub(super) baseline: Option<f64>,
    /// Median of the pairs' ratios.
    pub(super) ratio: Option<f64>,
    /// Median of the pairs' differences.
    pub(super) difference: Option<f64>,
    /// Unit of `ours`, `baseline`, `difference` and `spread`.
    pub(super) unit: &'static str,
    /// Number of pairs or samples; 0 if the figure could not be measured.
    pub(super) n: usize,
    /// Interquartile range of the pairs' differences.
    pub(super) spread: Option<f64>,
    #[serde(skip)]
    goal: Goal,
    #[serde(skip)]
    note: String,
}

/// The upper limit for a figure. A missed goal is shown in the table; it is not an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// No goal, because nothing was measured.
    None,
    /// Maximum of `ours`.
    Value(f64),
    /// Maximum of `difference`: `ours` minus `baseline`.
    Difference(f64),
    /// Maximum of `ratio`: `ours` divided by `baseline`.
    Ratio(f64),
    /// Maximum of `ours`, as a multiple of `baseline` (first number) plus a constant (second number).
    RatioPlus(f64, f64),
}

impl Figure {
    /// A figure from a comparison in milliseconds.
    pub(super) fn from_comparison(name: &'static str, found: Comparison, goal: Goal, note: &str) -> Self {
        Self {
            name,
            ours: Some(found.ours),
            baseline: Some(found.baseline),
            ratio: Some(found.ratio),
            difference: Some(found.difference),
            unit: "ms",
            n: found.n,
            spread: Some(found.spread),
            goal,
            note: note.to_owned(),
        }
    }

    /// The same figure with another unit. The values are not converted.
    pub(super) fn in_unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// A single value, e.g. a size.
    pub(super) fn value(name: &'static str, ours: f64, unit: &'static str, goal: f64, note: &str) -> Self {
        Self {
            ours: Some(ours),
            unit,
            n: 1,
            note: note.to_owned(),
            goal: Goal::Value(goal),
            ..Self::missing(name, unit, "")
        }
    }

    /// A figure that could not be measured, with the reason.
    pub(super) fn missing(name: &'static str, unit: &'static str, reason: &str) -> Self {
        Self {
            name,
            ours: None,
            baseline: None,
            ratio: None,
            difference: None,
            unit,
            n: 0,
            spread: None,
            goal: Goal::None,
            note: reason.to_owned(),
        }
    }

    /// Adds a baseline: the same value without load, measured once.
    pub(super) fn with_baseline(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self.difference = self.ours.map(|ours| ours - baseline);
        self.ratio = self.ours.map(|ours| ours / baseline);
        self
    }

    /// Whether the figure was measured.
    pub(super) fn is_measured(&self) -> bool {
        self.n > 0
    }

    /// Whether the goal is met; `None` when nothing was measured.
    pub(super) fn is_met(&self) -> Option<bool> {
        Some(match self.goal {
            Goal::None => return None,
            Goal::Value(most) => self.ours? <= most,
            Goal::Difference(most) => self.difference? <= most,
            Goal::Ratio(most) => self.ratio? <= most,
            Goal::RatioPlus(times, plus) => self.ours? <= times * self.baseline? + plus,
        })
    }
}

/// The whole table. Below it is the note of each figure.
pub(super) struct Table<'a>(pub(super) &'a [Figure]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<32} {:>10} {:>10} {:>10} {:>7} {:>8} {:>5} {:<5}  goal",
            "name", "ours", "baseline", "difference", "ratio", "spread", "n", "unit"
        )?;
        for figure in self.0 {
            let met = match figure.is_met() {
                Some(true) => "met",
                Some(false) => "not met",
                None => "not measured",
            };
            writeln!(
                f,
                "{:<32} {:>10} {:>10} {:>10} {:>7} {:>8} {:>5} {:<5}  {}: {met}",
                figure.name,
                format_value(figure.ours, 2),
                format_value(figure.baseline, 2),
                format_value(figure.difference, 2),
                format_value(figure.ratio, 3),
                format_value(figure.spread, 2),
                figure.n,
                figure.unit,
                figure.goal
            )?;
        }
        writeln!(
            f,
            "\nours, baseline: medians; difference, ratio: medians of the pairs, each measured in a random order;"
        )?;
        writeln!(f, "spread: interquartile range of the differences of the pairs.")?;
        self.0.iter().try_for_each(|figure| writeln!(f, "  {}: {}", figure.name, figure.note))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("-"),
            Self::Value(most) => write!(f, "ours <= {most}"),
            Self::Difference(most) => write!(f, "difference <= {most}"),
            Self::Ratio(most) => write!(f, "ratio <= {most}"),
            Self::RatioPlus(times, plus) => write!(f, "ours <= {times} x baseline + {plus}"),
        }
    }
}

/// Formats a value. Whole numbers from 100 on have no decimals.
fn format_value(value: Option<f64>, digits: usize) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.fract() == 0.0 && value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.digits$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(ours: f64, baseline: f64, goal: Goal) -> Figure {
        let found =
            Comparison { ours, baseline, difference: ours - baseline, ratio: ours / baseline, spread: 0.5, n: 9 };
        Figure::from_comparison("x", found, goal, "a note")
    }

    #[test]
    fn a_goal_is_met_at_its_limit_and_not_beyond() {
        for (goal, baseline, at, beyond) in [
            // goal, baseline, largest value that meets it, a value that misses it
            (Goal::Difference(10.0), 100.0, 110.0, 110.1),
            (Goal::Ratio(1.5), 100.0, 150.0, 150.1),
            (Goal::RatioPlus(1.5, 10.0), 100.0, 160.0, 160.1),
            (Goal::Value(7.0), 1.0, 7.0, 7.1),
        ] {
            assert_eq!(timed(at, baseline, goal).is_met(), Some(true), "{goal}");
            assert_eq!(timed(beyond, baseline, goal).is_met(), Some(false), "{goal}");
        }
        assert_eq!(Figure::missing("x", "ms", "why").is_met(), None);
    }

    #[test]
    fn json_has_the_agreed_members_and_nulls() {
        let members = ["name", "ours", "baseline", "ratio", "difference", "unit", "n", "spread"];
        for figure in [Figure::value("so", 7.0, "bytes", 9.0, ""), timed(2.0, 1.0, Goal::Ratio(1.0))] {
            let json = serde_json::to_value(&figure).unwrap();
            let object = json.as_object().unwrap();
            assert_eq!(object.len(), members.len());
            assert!(members.iter().all(|member| object.contains_key(*member)), "{json}");
        }
        let size = serde_json::to_value(Figure::value("so", 7.0, "bytes", 9.0, "")).unwrap();
        assert!(size["baseline"].is_null() && size["ratio"].is_null() && size["spread"].is_null(), "{size}");
    }

    #[test]
    fn the_table_marks_missed_goals_and_missing_figures() {
        let figures = [timed(200.0, 100.0, Goal::Ratio(1.1)), Figure::missing("y", "ms", "no sshd")];
        let table = Table(&figures).to_string();
        assert!(table.contains("ratio <= 1.1: not met") && table.contains("x: a note"), "{table}");
        assert!(table.contains("not measured") && table.contains("y: no sshd"), "{table}");
    }
}
