// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs of a site's users: submission, end, and the agents' events about them.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::drive::people::call;
use crate::site::command::CommandOutcome;
use crate::{Error, Result, Site, wait};

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id; for an array the id of the array.
    pub id: u32,
    /// The user who submitted it.
    pub user: String,
}

/// The report of a task of [`calling_script`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    /// The node of the task.
    pub node: String,
    /// Calls that the resource server accepted.
    pub accepted: u32,
    /// Calls that the resource server refused.
    pub refused: u32,
    /// Number of different access tokens in the file.
    pub tokens: u32,
}

/// One line of `mytokenctl status`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// The kind: `opened`, `started`, `renewed`, `retry`, `refused`, `removed`, `revoked`, `left`, ...
    pub what: String,
    /// The message.
    pub text: String,
    /// How often the event was repeated without another one between.
    #[serde(default = "once")]
    pub times: usize,
}

fn once() -> usize {
    1
}

/// A shell script of a task: calls the resource server with the token in `$BEARER_TOKEN_FILE` every second, for
/// `seconds`, and prints a report.
#[must_use]
pub fn calling_script(seconds: u32) -> String {
    format!("end=$((SECONDS + {seconds}))\n{}", calling_script_while("(( SECONDS < end ))"))
}

/// The same, while the shell's `condition` is true.
#[must_use]
pub fn calling_script_while(condition: &str) -> String {
    format!(
        r#"node=$SLURMD_NODENAME accepted=0 refused=0 tokens=0 last=
while {condition}; do
  token=$(cat "$BEARER_TOKEN_FILE")
  [[ $token == "$last" ]] || tokens=$((tokens+1)); last=$token
  code=$({call})
  if [[ $code == 200 ]]; then accepted=$((accepted+1)); else refused=$((refused+1)); fi
  sleep 1
done
echo "calls: $node $accepted $refused $tokens"
"#,
        call = call("-s -o /dev/null -w %{http_code} --max-time 10")
    )
}

/// A shell command that searches the arguments of all processes on its host while the shell's `condition` is true. It
/// prints arguments that contain a token, up to the begin of the token.
#[must_use]
pub fn argv_watch(condition: &str) -> String {
    format!(
        "while {condition}; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | \
         grep -aoE '.{{0,60}}eyJ[A-Za-z0-9_-]{{8}}'; done"
    )
}

/// The reports of the tasks of [`calling_script`], sorted by node.
#[must_use]
pub fn calls(output: &str) -> Vec<Calls> {
    let mut found: Vec<Calls> =
        output.lines().filter_map(|line| line.strip_prefix("calls: ")).filter_map(parse_calls).collect();
    found.sort_by(|one, two| one.node.cmp(&two.node));
    found
}

fn parse_calls(line: &str) -> Option<Calls> {
    let mut words = line.split(' ');
    let node = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    Some(Calls { node, accepted: number()?, refused: number()?, tokens: number()? })
}

impl Job {
    /// Submits a job with `command`, an sbatch that prints `Submitted batch job N`. Returns its output too.
    ///
    /// # Errors
    /// When it submitted no job.
    pub fn submit(site: &Site, user: &str, command: &str) -> Result<(Self, CommandOutcome)> {
        let outcome = site.sh(user, command)?.ok()?;
        Ok((Self::submitted(user, &outcome)?, outcome))
    }

    /// The job of an sbatch of `user`, from its output.
    ///
    /// # Errors
    /// When the output names no job.
    pub fn submitted(user: &str, outcome: &CommandOutcome) -> Result<Self> {
        let id = outcome.stdout.lines().find_map(|line| line.strip_prefix("Submitted batch job "));
        match id.and_then(|id| id.trim().parse().ok()) {
            Some(id) => Ok(Self { id, user: user.to_owned() }),
            None => Err(Error::Refused(format!(
                "`{}` submitted no job:\n{}{}",
                outcome.command, outcome.stdout, outcome.stderr
            ))),
        }
    }

    /// Waits until it has an access token on `node`.
    ///
    /// # Errors
    /// When it has none within a minute.
    pub fn wait_for_token(&self, site: &Site, node: &str) -> Result<()> {
        wait::until(&format!("the access token of job {} on {node}", self.id), Duration::from_secs(60), || {
            Ok(self.token(site, node)?.map(drop))
        })
    }

    /// The access token in the job's file on `node`.
    ///
    /// # Errors
    /// When the command could not be run.
    pub fn token(&self, site: &Site, node: &str) -> Result<Option<String>> {
        let read = site.on_node(node, &format!("cat /run/mytoken/jobs/{}/bt_u*", self.id))?;
        Ok(read.success().then_some(read.stdout).filter(|token| !token.is_empty()))
    }

    /// Waits until it runs.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub fn wait_for_start(&self, site: &Site) -> Result<()> {
        let running = format!("squeue -h -j {} -t R -o %N | grep n", self.id);
        site.wait_for(&format!("the start of job {}", self.id), Duration::from_secs(60), "root", &running).map(drop)
    }

    /// Waits until it has left the queue.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait_for_end(&self, site: &Site, limit: Duration) -> Result<()> {
        let has_ended = format!("test -z \"$(squeue -h -j {})\"", self.id);
        site.wait_for(&format!("the end of job {}", self.id), limit, "root", &has_ended).map(drop)
    }

    /// Its nodes, in order.
    ///
    /// # Errors
    /// When slurmctld does not know the job.
    pub fn nodes(&self, site: &Site) -> Result<Vec<String>> {
        let list = format!("scontrol show hostnames \"$(squeue -h -t all -j {} -o %N)\"", self.id);
        Ok(site.sh("root", &list)?.ok()?.lines().into_iter().map(str::to_owned).collect())
    }

    /// Its output, from `slurm-ID.out`.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn output(&self, site: &Site) -> Result<String> {
        Ok(site.sh(&self.user, &format!("cat slurm-{}.out", self.id))?.ok()?.stdout)
    }

    /// The job's output so far. Empty while there is no such file: the agent has the job's token before the script runs.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn output_so_far(&self, site: &Site) -> Result<String> {
        let file = format!("slurm-{}.out", self.id);
        Ok(site.sh(&self.user, &format!("! test -e {file} || cat {file}"))?.ok()?.stdout)
    }

    /// The events of the job from the agent of `node`, as the job's owner sees them, oldest first. Empty if the agent
    /// does not know the job.
    ///
    /// # Errors
    /// When the answer cannot be parsed.
    pub fn events(&self, site: &Site, node: &str) -> Result<Vec<Event>> {
        // The exit status says whether the job has a valid token.
        let outcome = site.script(&self.user, &format!("mytokenctl status {} --json", self.id)).on(node).run()?;
        let status: Value = serde_json::from_str(&outcome.stdout)
            .map_err(|error| Error::Refused(format!("mytokenctl status --json: {error}:\n{outcome:?}")))?;
        let Some(events) = status.pointer("/jobs/0/events") else { return Ok(Vec::new()) };
        serde_json::from_value(events.clone()).map_err(|error| Error::Refused(format!("events: {error}: {events}")))
    }

    /// Waits until each of `nodes` has removed the job's directory and its agent has decided about the sub-token.
    /// Returns the last event of each agent.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub fn wait_until_settled(&self, site: &Site, nodes: &[String]) -> Result<Vec<String>> {
        nodes
            .iter()
            .map(|node| {
                let what = format!("the end of job {} on {node}", self.id);
                wait::until(&what, Duration::from_secs(60), || {
                    let is_removed = site.on_node(node, &format!("test ! -e /run/mytoken/jobs/{}", self.id))?.success();
                    let last = self.events(site, node)?.pop().map(|event| event.what).unwrap_or_default();
                    let is_settled = ["revoked", "left", "kept"].contains(&last.as_str());
                    Ok((is_removed && is_settled).then_some(last))
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_tasks_are_sorted_by_node() {
        let found = calls("noise\ncalls: n2 3 1 2\ncalls: n1 4 0 2\ncalls: broken\n");
        let expected = |node: &str, accepted, refused| Calls { node: node.into(), accepted, refused, tokens: 2 };
        assert_eq!(found, [expected("n1", 4, 0), expected("n2", 3, 1)]);
    }
}
