// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl status`: what is left of the requests to each mytoken server that has a limit.

use std::fmt::Write as _;

use mytoken_wire::agent::{BudgetStatus, BudgetUse};
use mytoken_wire::printable;

/// The kinds of requests in the agent's words, and for people.
const KINDS: [(&str, &str); 4] = [
    ("login", "logins"),
    ("token", "tokens of jobs and sessions"),
    ("revocation", "revocations"),
    ("submission", "submissions"),
];

/// Two lines for each server. `account_of` gives the account name of a uid.
#[must_use]
pub fn render(budgets: &[BudgetStatus], account_of: &dyn Fn(u32) -> Option<String>) -> String {
    let mut text = String::new();
    for budget in budgets {
        let BudgetStatus { server, requests, period, left, own, .. } = budget;
        let left = match (own, left) {
            (true, 1) => "you can send 1 more submission now; this host's limit is".to_owned(),
            (true, left) => format!("you can send {left} more submissions now; this host's limit is"),
            (false, left) => format!("{left} left of"),
        };
        let _ = writeln!(text, "REQUESTS to {}: {left} {requests} in {period} s", printable(server, 200));
        if !budget.uses.is_empty() {
            let _ = writeln!(text, "  sent: {}", sent(budget, account_of));
        }
    }
    text
}

/// `logins 2 (bob 2), submissions 31 (alice 30, bob 1)`.
fn sent(budget: &BudgetStatus, account_of: &dyn Fn(u32) -> Option<String>) -> String {
    let known = |kind: &str| KINDS.iter().any(|(own, _)| *own == kind);
    let others = budget.uses.iter().map(|used| used.kind.as_str()).filter(|kind| !known(kind)).map(|kind| (kind, kind));
    let mut kinds: Vec<(&str, &str)> = KINDS.into_iter().chain(others).collect();
    kinds.dedup();
    let mut parts: Vec<String> = Vec::new();
    for (kind, name) in kinds {
        let uses: Vec<&BudgetUse> = budget.uses.iter().filter(|used| used.kind == kind).collect();
        let total = uses.iter().fold(0_u32, |total, used| total.saturating_add(used.requests));
        let user = |uid: u32| account_of(uid).unwrap_or_else(|| uid.to_string());
        let users: Vec<String> =
            uses.iter().filter_map(|used| Some(format!("{} {}", user(used.uid?), used.requests))).collect();
        match (total, users.as_slice()) {
            (0, _) => {}
            (_, []) => parts.push(format!("{} {total}", printable(name, 40))),
            (_, _) if budget.own => parts.push(format!("{} {total}", printable(name, 40))),
            (_, users) => parts.push(format!("{} {total} ({})", printable(name, 40), users.join(", "))),
        }
    }
    if budget.omitted > 0 {
        parts.push(format!("and {} others", budget.omitted));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(kind: &str, uid: Option<u32>, requests: u32) -> BudgetUse {
        BudgetUse { kind: kind.into(), uid, requests }
    }

    #[test]
    fn root_sees_all_and_a_user_his_own() {
        let all = BudgetStatus {
            server: "https://mt.example.org".into(),
            requests: 100,
            period: 300,
            own: false,
            left: 54,
            uses: vec![
                used("login", Some(2002), 2),
                used("token", None, 9),
                used("submission", Some(2001), 30),
                used("submission", Some(7), 1),
                used("new\u{1b}", None, 4),
            ],
            omitted: 3,
        };
        let own = BudgetStatus {
            own: true,
            left: 1,
            uses: vec![used("submission", Some(2001), 30)],
            omitted: 0,
            ..all.clone()
        };
        let none = BudgetStatus { left: 17, uses: Vec::new(), ..own.clone() };
        let account = |uid| {
            [(2001, "alice"), (2002, "bob")].iter().find(|(own, _)| *own == uid).map(|(_, name)| (*name).to_owned())
        };
        let expected = "\
REQUESTS to https://mt.example.org: 54 left of 100 in 300 s
  sent: logins 2 (bob 2), tokens of jobs and sessions 9, submissions 31 (alice 30, 7 1), new? 4, and 3 others
REQUESTS to https://mt.example.org: you can send 1 more submission now; this host's limit is 100 in 300 s
  sent: submissions 30
REQUESTS to https://mt.example.org: you can send 17 more submissions now; this host's limit is 100 in 300 s
";
        assert_eq!(render(&[all, own, none], &account), expected);
        assert_eq!(render(&[], &account), "", "no server has a limit");
    }
}
