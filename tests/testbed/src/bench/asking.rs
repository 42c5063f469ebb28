// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time and memory of logins that ask the provider about the access token, compared with the same question by curl.

use serde_json::json;

use super::amount::Amount;
use super::authentications;
use super::figure::{Figure, Goal};
use super::logins;
use super::statistics::compare;
use super::timing::{Measurement, Step};
use super::tokens::{self, ACCESS_TOKEN, Requests};
use crate::drive::people;
use crate::{Result, Site};

const CONFIGURATION: &str = "/etc/mytoken/mytoken.toml";

/// The client as which introspection is asked, and its secret.
const CLIENT: (&str, &str) = ("bench", "bench-secret");

/// Measures logins with a question at userinfo and with one at introspection, and the memory that an authentication needs.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let before = site.read(CONFIGURATION)?;
    let measured = measure_with_questions(site, amount, &before);
    // Later parts measure without questions, also after a failure here.
    site.write(CONFIGURATION, &before, "0644")?;
    measured
}

fn measure_with_questions(site: &Site, amount: &Amount, before: &str) -> Result<Vec<Figure>> {
    let (client, secret) = CLIENT;
    people::control(site, "/provider/client", Some(&json!({"id": client, "secret": secret}).to_string()))?;
    site.sh("root", &format!("umask 077; echo {secret} >/root/bench-secret"))?.ok()?;
    logins::prepare(site)?;
    tokens::prepare_questions(site, client, secret)?;
    // The site's only [[issuer]] is at the end of the file.
    let configure = |mode: &str| {
        let lines = format!(
            "validation = [\"local\", \"{mode}\"]\nclient_id = \"{client}\"\nclient_secret_file = \"/root/bench-secret\"\n"
        );
        site.write(CONFIGURATION, &format!("{before}{lines}"), "0644")
    };
    let mut figures = Vec::new();
    configure("introspection")?;
    let asked = (tokens::INTROSPECTIONS, tokens::curl_introspection());
    figures.extend(compare_logins(site, amount, "login_introspection_over_curl", asked)?);
    configure("userinfo")?;
    let asked = (tokens::USERINFOS, tokens::curl_userinfo());
    figures.extend(compare_logins(site, amount, "login_userinfo_over_curl", asked)?);
    let note = "highest memory of a process that authenticates by PAM with an access token and asks userinfo, as the auth child of sshd \
                does; baseline: the same with pam_permit";
    figures.extend(authentications::measure_memory(site, amount, note)?);
    Ok(figures)
}

/// Compares a login that asks one question with a login by key and the same question by curl.
fn compare_logins(
    site: &Site,
    amount: &Amount,
    name: &'static str,
    (kind, curl): (Requests, Step),
) -> Result<Option<Figure>> {
    let variants = [logins::by_token(ACCESS_TOKEN), logins::by_key(), curl].map(|step| vec![step]);
    let measurement = Measurement::new(amount.scale(30), variants);
    // Per round the module and curl each ask once.
    let questions = 2 * measurement.runs_per_variant();
    let times = tokens::check_requests(site, kind, questions, || measurement.run(site, "alice", &[]))?;
    let [ours, key, curl] = times.as_slice() else { return Ok(None) };
    let key_and_curl: Vec<f64> = key.iter().zip(curl).map(|(key, curl)| key + curl).collect();
    let note = "`ssh testbed true` with an access token that the PAM module asks the provider about; baseline: login with a key, plus one \
                curl that asks the same (discovery and provider's keys known to both)";
    let figure = |found| Figure::from_comparison(name, found, Goal::RatioPlus(1.1, 10.0), note);
    Ok(compare(ours, &key_and_curl).map(figure))
}
