// SPDX-License-Identifier: MIT OR Apache-2.0
//! The nodes of a submission's jobs, for the time when slurmctld does not tell them any more: it has forgotten the job, or the job is back
//! in the queue (SLURM-61). Without them, every node of a job would revoke the sub-token first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::host_list;

/// Number of nodes that revoke one after the other. More need not be known.
pub const RANKS: usize = 3;

/// What a node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNodes {
    /// The first nodes of the submission's first jobs by job id. All nodes of the submission see the same ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    first: BTreeMap<u32, Vec<String>>,
    /// This node is among the nodes of a job that ran here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    named: bool,
    /// slurmctld was asked which jobs share the credential, when no further one could take it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    asked: bool,
}

impl KnownNodes {
    /// Remembers the nodes `list` of a job that has ended on `node`. `runs_script`: the batch script ran here.
    pub fn remember_own(&mut self, job: u32, list: &str, node: &str, runs_script: bool) {
        self.named |= host_list::contains(list, node);
        self.remember(job, list, runs_script.then_some(node));
    }

    /// Remembers the nodes `list` of a job, and the host of its batch script.
    pub fn remember(&mut self, job: u32, list: &str, batch_host: Option<&str>) {
        let mut names = host_list::first_names(list, RANKS);
        if names.is_empty() {
            return;
        }
        if let Some(host) = batch_host {
            names.retain(|name| name != host);
            names.insert(0, host.to_owned());
            names.truncate(RANKS);
        }
        self.first.insert(job, names);
        while self.first.len() > RANKS {
            self.first.pop_last();
        }
    }

    /// Whether slurmctld should be asked now which jobs share the credential: when no further one can take it, until it answers. Later a job
    /// that was requeued has another time of submission. `submitted` is the time in which they were submitted, `now` is Unix seconds.
    #[must_use]
    pub fn is_to_ask(&self, submitted: Option<(u64, u64)>, now: u64) -> bool {
        !self.asked && submitted.is_some_and(|(_, end)| end < now)
    }

    /// slurmctld has answered at `now` which jobs share the credential.
    pub fn asked_at(&mut self, submitted: Option<(u64, u64)>, now: u64) {
        self.asked |= self.is_to_ask(submitted, now);
    }

    /// Whether slurmctld was asked which jobs share the credential, when no further one could take it.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.asked
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Whether no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Whether the nodes of `job` are known.
    #[must_use]
    pub fn has(&self, job: u32) -> bool {
        self.first.contains_key(&job)
    }

    /// Whether this node is among the nodes of a job that ran here. If not: nobody told, or agent and slurmd have different names.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// The rank of `node`: the nodes in `shown` revoke first, then the known ones. `None` after the first [`RANKS`] nodes.
    #[must_use]
    pub fn rank_after(&self, shown: &[String], node: &str) -> Option<usize> {
        let mut names: Vec<&String> = Vec::new();
        for name in shown.iter().chain(self.first.values().flatten()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.iter().take(RANKS).position(|name| *name == node)
    }
}
