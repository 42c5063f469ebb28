// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` in a site, for the stories that break the site in many ways.

use serde_json::Value;
use testbed::site::command::CommandOutcome;
use testbed::{Error, Result, Site};

/// A problem that the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: String,
    pub text: String,
    pub fix: String,
}

/// Lets sshd read its configuration. It has done so when it has written its PID file again (SSH-35).
pub const RELOAD_SSHD: &str = "touch /run/reload; kill -HUP $(cat /run/sshd.pid); \
                               for i in $(seq 100); do test /run/sshd.pid -nt /run/reload && break; sleep 0.05; done; \
                               test /run/sshd.pid -nt /run/reload";

/// The problems that `mytokenctl check` finds, and its exit status.
pub fn findings(site: &Site, arguments: &str) -> Result<(Vec<Found>, i32)> {
    problems(&site.sh("root", &format!("mytokenctl check --json {arguments}"))?)
}

/// The problems in what `mytokenctl check --json` printed, and its exit status.
pub fn problems(checked: &CommandOutcome) -> Result<(Vec<Found>, i32)> {
    let problems = all(checked)?.into_iter().filter(|(level, _)| level != "ok");
    Ok((problems.map(|(_, found)| found).collect(), checked.code))
}

/// The same with notes, and with what works.
pub fn with_notes(checked: &CommandOutcome) -> Result<Vec<Found>> {
    Ok(all(checked)?.into_iter().map(|(_, found)| found).collect())
}

/// Levels and findings.
fn all(checked: &CommandOutcome) -> Result<Vec<(String, Found)>> {
    let report: Value =
        serde_json::from_str(&checked.stdout).map_err(|error| Error::Refused(format!("{error}: {checked:?}")))?;
    let all = report.get("findings").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |finding: &Value, key: &str| finding.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let found =
        |finding: &Value| Found { id: text(finding, "id"), text: text(finding, "text"), fix: text(finding, "fix") };
    Ok(all.iter().map(|finding| (text(finding, "level"), found(finding))).collect())
}

/// A site whose configuration has nothing to be warned about.
pub fn healthy(site: &Site) -> Result<()> {
    site.sh("root", "sed -i 's/^audiences = .*/&\\nrequired_scopes = [\"openid\"]/' /etc/mytoken/mytoken.toml")?
        .ok()?;
    Ok(())
}

/// Breaks the site with a command, and sees one kind of finding and the exit status.
pub fn sees_alone(site: &Site, arguments: &str, break_it: &str, id: &str, status: i32) -> Result<Vec<Found>> {
    site.sh("root", break_it)?.ok()?;
    let (found, code) = findings(site, arguments)?;
    // One fault of a file can concern several lines that name it.
    assert!(!found.is_empty() && found.iter().all(|found| found.id == id), "{break_it}: {found:#?}");
    assert_eq!(code, status, "{break_it}: {found:#?}");
    Ok(found)
}
