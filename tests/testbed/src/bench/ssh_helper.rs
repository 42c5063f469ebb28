// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cost of the ssh helper: its start, and a login with the access token that it gets.

use super::amount::Amount;
use super::figure::{Figure, Goal};
use super::logins::by_key;
use super::statistics::compare;
use super::timing::{Measurement, Step};
use super::tokens::{self, MYTOKEN};
use crate::{Result, Site};

/// Measures its start with a stored mytoken and no request, and logins with it.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    site.sh("alice", &format!("rm -rf .config/mytoken && mytoken-ssh import <{MYTOKEN}"))?.ok()?;
    let start = [vec![Step::new("mytoken-ssh status")], vec![Step::new("/bin/true")]];
    let starts = Measurement::new(amount.scale(200), start).run(site, "alice", &[])?;
    let login = Step::new("mytoken-ssh ssh -o PreferredAuthentications=keyboard-interactive testbed true");
    let measurement =
        Measurement::new(amount.scale(60), [vec![login], vec![by_key(), tokens::curl_discovery_and_exchange()]]);
    let exchanges = 2 * measurement.runs_per_variant();
    let logins = tokens::check_requests(site, tokens::EXCHANGES, exchanges, || measurement.run(site, "alice", &[]))?;
    let start_note = "`mytoken-ssh status` with one stored mytoken; baseline: `/bin/true`";
    let login_note = "`mytoken-ssh ssh testbed true`: an access token from the stored mytoken, sent at the prompt; baseline: login with a key, \
                      plus one curl that asks for discovery and POSTs the same exchange in one connection";
    let [helper, nothing] = starts.as_slice() else { return Ok(Vec::new()) };
    let [ours, baseline] = logins.as_slice() else { return Ok(Vec::new()) };
    Ok([
        compare(helper, nothing)
            .map(|found| Figure::from_comparison("helper_start_ms", found, Goal::Difference(10.0), start_note)),
        compare(ours, baseline)
            .map(|found| Figure::from_comparison("helper_login_over_curl", found, Goal::Difference(50.0), login_note)),
    ]
    .into_iter()
    .flatten()
    .collect())
}
