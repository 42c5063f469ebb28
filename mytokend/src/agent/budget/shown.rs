// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people see of the budgets.

use mytoken_wire::agent::{BudgetStatus, BudgetUse};

use super::Budgets;

/// Most entries of a server in the status.
const SHOWN: usize = 20;

impl Budgets {
    /// What is left at each server with a limit. `only`: for this user.
    #[must_use]
    pub fn status(&self, only: Option<u32>) -> Vec<BudgetStatus> {
        let now = self.now();
        let servers = self.servers();
        // What is assumed is no fact.
        let known = servers.iter().filter(|(_, server)| !server.ledger.is_assumed(now));
        let limited = known.filter_map(|(url, server)| Some((url, &server.ledger, server.ledger.limit(now)?)));
        limited
            .map(|(url, ledger, limit)| {
                let mut uses: Vec<BudgetUse> = ledger
                    .uses(only, now)
                    .into_iter()
                    .map(|(kind, uid, requests)| BudgetUse { kind: kind.to_owned(), uid, requests })
                    .collect();
                let omitted = uses.len().saturating_sub(SHOWN);
                uses.truncate(SHOWN);
                BudgetStatus {
                    server: url.clone(),
                    requests: limit.requests,
                    period: limit.period.div_ceil(1000),
                    own: only.is_some(),
                    left: only.map_or_else(|| ledger.left(now), |uid| ledger.left_for(uid, now)),
                    uses,
                    omitted,
                }
            })
            .collect()
    }
}
