// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time of a login with a token, compared with a login with a key.

use super::amount::Amount;
use super::figure::{Figure, Goal};
use super::statistics::compare;
use super::timing::{Measurement, Step};
use super::tokens::{self, ACCESS_TOKEN, SHORT_TOKEN};
use crate::site::services::sshd::USER_KEY;
use crate::{Result, Site};

/// The askpass script of the bench. At every prompt it prints the file that `BENCH_TOKEN` names.
const ASKPASS: &str = "/home/alice/bench/askpass";

/// Measures logins with an access token, a short token and a key.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    prepare(site)?;
    let variants =
        [by_token(ACCESS_TOKEN), by_token(SHORT_TOKEN), by_key(), tokens::curl_exchange()].map(|step| vec![step]);
    let measurement = Measurement::new(amount.scale(60), variants);
    // Per round the module and curl each send one exchange; the other two variants send none.
    let exchanges = 2 * measurement.runs_per_variant();
    let times = tokens::check_requests(site, tokens::EXCHANGES, exchanges, || measurement.run(site, "alice", &[]))?;
    let [access, short, key, curl] = times.as_slice() else { return Ok(Vec::new()) };
    let key_and_curl: Vec<f64> = key.iter().zip(curl).map(|(key, curl)| key + curl).collect();
    let at = "`ssh testbed true` with an access token by a shell script as askpass; baseline: with a key. Provider's keys are cached";
    let mytoken = "the same with a short token, which the PAM module exchanges; baseline: login with a key, plus one curl that POSTs the \
                   same exchange (discovery and provider's keys known to both)";
    Ok([
        compare(access, key)
            .map(|found| Figure::from_comparison("login_at_minus_publickey_ms", found, Goal::Difference(10.0), at)),
        compare(short, &key_and_curl).map(|found| {
            Figure::from_comparison("login_mytoken_over_curl", found, Goal::RatioPlus(1.1, 10.0), mytoken)
        }),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// Makes the askpass script.
pub(super) fn prepare(site: &Site) -> Result<()> {
    let script = format!("printf '#!/bin/sh\\nexec cat \"$BENCH_TOKEN\"\\n' >{ASKPASS} && chmod 700 {ASKPASS}");
    site.sh("alice", &script)?.ok().map(drop)
}

pub(super) fn by_token(file: &str) -> Step {
    Step::new("ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed true")
        .env("SSH_ASKPASS", ASKPASS)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("BENCH_TOKEN", file)
}

pub(super) fn by_key() -> Step {
    Step::new(&format!("ssh -o PreferredAuthentications=publickey -o BatchMode=yes -i {USER_KEY} testbed true"))
}
