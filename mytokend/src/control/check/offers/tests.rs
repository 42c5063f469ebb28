// SPDX-License-Identifier: MIT OR Apache-2.0
//! The document of the real server, with one member changed.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use mytoken::http::HttpClient;
use mytoken::urls::ServerUrl;
use serde_json::{Value, json};

use super::*;

const SHARED: &str = "[[server]]\nname = 't'\nurl = 'https://mt.example.org'\n\
                      [[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['https://x']\n";

const LOGIN: &str = "[exchange]\nserver = 't'\nscope = 'openid profile'\naudience = 'https://x'\n\
                     [[rule]]\nname = 'r'\nissuer = 'op'\ntemplate = '{sub}'\n";

const JOBS: &str = "[cluster]\nname = 'c'\n[[profile]]\nname = 'default'\nserver = 't'\n\
                    scope = 'storage.read'\naudience = 'https://x'\n";

const GRANTS: &str = "mytoken_endpoint_grant_types_supported";
const FORMS: &str = "response_types_supported";
const RESTRICTIONS: &str = "restriction_claims_supported";

/// A login.toml that accepts no transfer codes.
fn without_codes() -> String {
    LOGIN.replace("scope =", "accept = ['mytoken']\nscope =")
}

/// A login.toml that accepts links only.
fn with_links() -> String {
    LOGIN.replace("scope =", "accept = ['link']\nscope =")
}

fn document() -> Value {
    let captures: Value = serde_json::from_str(include_str!("../../../../../tests/captures/discovery.json")).unwrap();
    let text = captures["scenarios"][0]["steps"][0]["response"]["json"].to_string();
    let text = text.replace("${issuer}", "https://mt.example.org").replace("${op}", "https://op.example.org");
    serde_json::from_str(&text).unwrap()
}

/// The document with another value of a member; with `null`, without the member.
fn changed(member: &str, value: Value) -> Value {
    let mut document = document();
    if value.is_null() {
        document.as_object_mut().unwrap().remove(member).unwrap();
    } else {
        document[member] = value;
    }
    document
}

/// The findings about a document. An empty text: there is no such file.
fn found(document: Value, login: &str, jobs: &str) -> Findings {
    let shared: Shared = toml::from_str(SHARED).unwrap();
    let login: Option<LoginSettings> = (!login.is_empty()).then(|| toml::from_str(login).unwrap());
    let jobs: Option<JobsSettings> = (!jobs.is_empty()).then(|| toml::from_str(jobs).unwrap());
    let http = HttpClient::new(&shared.http_settings()).unwrap();
    let url = ServerUrl::parse("https://mt.example.org", false).unwrap();
    let server = Server::from_discovery(&http, &url, serde_json::from_value(document).unwrap()).unwrap();
    let (login, jobs) = (login.as_ref(), jobs.as_ref());
    let mut findings = Findings::default();
    findings.offers(&server, Configured { server: &shared.servers[0], shared: &shared, login, jobs }, "curl -v URL");
    for finding in &findings.findings {
        assert!(finding.text.starts_with("https://mt.example.org "), "{finding:?}");
        assert!(finding.fix.as_ref().unwrap().starts_with("curl -v URL   # "), "{finding:?}");
    }
    findings
}

/// Ids and levels.
fn ids(findings: &Findings) -> Vec<(&str, Severity)> {
    findings.findings.iter().map(|finding| (finding.id.as_deref().unwrap(), finding.level)).collect()
}

fn texts(findings: &Findings) -> String {
    findings.findings.iter().map(|finding| format!("{}\n", finding.text)).collect()
}

const NOTHING: &[(&str, Severity)] = &[];

#[test]
fn the_real_server_offers_all_that_is_used() {
    let more = "hosts = ['192.0.2.0/24']\nusages = 3\nwindows = [{ from = '1h', until = '2h' }]\n\
                files = [{ name = 'ce', scope = 'compute.read', audience = 'https://y' }]\n";
    for login in ["", LOGIN, &without_codes()] {
        for jobs in ["", JOBS, &format!("{JOBS}{more}")] {
            let findings = found(document(), login, jobs);
            assert_eq!(ids(&findings), NOTHING, "{login}{jobs}: {}", texts(&findings));
        }
    }
}

#[test]
fn a_server_without_revocation_is_found() {
    let id = "server-revocation";
    for (login, jobs, level, words) in [
        ("", "", Severity::Warning, "logout"),
        (&*without_codes(), "", Severity::Warning, "logout"),
        (LOGIN, "", Severity::Error, "refused logins"),
        (&*with_links(), "", Severity::Error, "refused logins"),
        ("", JOBS, Severity::Error, "ended jobs"),
        ("", &JOBS.replace("server = 't'", "server = 'other'"), Severity::Warning, "logout"),
    ] {
        let findings = found(changed("revocation_endpoint", json!(null)), login, jobs);
        assert_eq!(ids(&findings), [(id, level)], "{login}{jobs}");
        assert!(texts(&findings).contains(words), "{}", texts(&findings));
    }
}

#[test]
fn a_server_without_the_flow_of_links_is_an_error_where_logins_take_them() {
    for grants in
        [json!(["oidc_flow", "mytoken", "transfer_code"]), json!(["mytoken", "transfer_code", "polling_code"])]
    {
        for (login, level, words) in
            [(with_links(), Severity::Error, "log in with a link"), (without_codes(), Severity::Warning, "mytoken-ssh")]
        {
            let findings = found(changed(GRANTS, grants.clone()), &login, "");
            assert_eq!(ids(&findings), [("server-login-flow", level)], "{login}");
            assert!(texts(&findings).contains(words), "{}", texts(&findings));
        }
    }
}

#[test]
fn a_server_without_introspection_is_found_where_logins_take_codes() {
    let without = || changed("tokeninfo_endpoint", json!(null));
    assert_eq!(ids(&found(without(), LOGIN, "")), [("server-tokeninfo", Severity::Warning)]);
    assert_eq!(ids(&found(without(), &without_codes(), JOBS)), NOTHING);
}

#[test]
fn a_server_without_transfer_codes_is_found_where_logins_take_them() {
    for (member, value) in [
        ("token_transfer_endpoint", json!(null)),
        (FORMS, json!(["token", "short_token"])),
        // The client does not ask for a code that no list names.
        (FORMS, json!(null)),
        (GRANTS, json!(["oidc_flow", "mytoken", "polling_code"])),
        (GRANTS, json!(["oidc_flow", "transfer_code", "polling_code"])),
    ] {
        let findings = found(changed(member, value.clone()), LOGIN, "");
        assert_eq!(ids(&findings), [("server-transfer-codes", Severity::Warning)], "{member} {value}");
        assert!(texts(&findings).contains(member), "{}", texts(&findings));
        assert_eq!(ids(&found(changed(member, value), &without_codes(), "")), NOTHING, "{member}");
    }
}

#[test]
fn a_server_without_a_grant_or_form_is_found() {
    let (flow, child) = (("server-login-flow", Severity::Warning), ("server-sub-tokens", Severity::Error));
    for (member, value, jobs, expected) in [
        (GRANTS, json!(["mytoken", "transfer_code", "polling_code"]), "", &[flow][..]),
        (GRANTS, json!(["oidc_flow", "mytoken", "transfer_code"]), "", &[flow]),
        ("mytoken_endpoint_oidc_flows_supported", json!(["device"]), "", &[flow]),
        (FORMS, json!(["transfer_code"]), "", &[flow]),
        (FORMS, json!(["transfer_code"]), JOBS, &[flow, child]),
        (GRANTS, json!(["oidc_flow", "polling_code"]), JOBS, &[child]),
        (GRANTS, json!(["oidc_flow", "polling_code"]), "", NOTHING),
        // What the document does not say is no finding.
        (GRANTS, json!(null), JOBS, NOTHING),
        (GRANTS, json!("all"), JOBS, NOTHING),
        (FORMS, json!(null), JOBS, NOTHING),
        ("mytoken_endpoint_oidc_flows_supported", json!(null), JOBS, NOTHING),
    ] {
        let findings = found(changed(member, value.clone()), "", jobs);
        assert_eq!(ids(&findings), expected, "{member} {value} {jobs}: {}", texts(&findings));
    }
}

#[test]
fn a_restriction_that_a_profile_needs_is_found() {
    let error = ("server-restriction", Severity::Error);
    let all = ["nbf", "exp", "scope", "audience", "hosts", "usages_AT", "usages_other"];
    for (missing, more, expected) in [
        ("hosts", "", NOTHING),
        ("hosts", "hosts = ['192.0.2.0/24']\n", &[error]),
        ("usages_AT", "usages = 3\n", &[error]),
        // The client sends both numbers or none (MT-17).
        ("usages_other", "usages = 3\n", &[error]),
        ("nbf", "", NOTHING),
        ("nbf", "windows = [{ from = '1h', until = '2h' }]\n", &[error]),
        ("exp", "", &[error]),
        ("scope", "", &[error]),
        ("audience", "", &[error]),
    ] {
        let offered: Vec<&str> = all.into_iter().filter(|name| *name != missing).collect();
        let findings = found(changed(RESTRICTIONS, json!(offered)), "", &format!("{JOBS}{more}"));
        assert_eq!(ids(&findings), expected, "{missing} {more}");
        let words = format!("the restriction {missing}: submissions get no credential with the profile \"default\"");
        assert!(expected.is_empty() || texts(&findings).contains(&words), "{}", texts(&findings));
    }
    // Without a list the client makes no sub-token.
    assert_eq!(ids(&found(changed(RESTRICTIONS, json!(null)), "", JOBS)), [error]);
    let two = format!("{JOBS}{}", JOBS.replace("default", "two").replace("[cluster]\nname = 'c'\n", ""));
    let findings = found(changed(RESTRICTIONS, json!(["exp", "scope"])), "", &two);
    assert_eq!(ids(&findings), [error]);
    assert!(texts(&findings).contains("with the profiles \"default\", \"two\""), "{}", texts(&findings));
}

#[test]
fn a_restriction_that_logins_by_the_helper_need_is_found() {
    let without_uses = || changed(RESTRICTIONS, json!(["nbf", "exp", "scope", "audience", "hosts"]));
    let findings = found(without_uses(), LOGIN, JOBS);
    assert_eq!(ids(&findings), [("server-restriction", Severity::Warning)]);
    assert!(texts(&findings).contains("the restriction usages_AT: mytoken-ssh"), "{}", texts(&findings));
    assert_eq!(ids(&found(without_uses(), &without_codes(), JOBS)), NOTHING);
    let without_audience = changed(RESTRICTIONS, json!(["nbf", "exp", "scope", "usages_AT", "usages_other"]));
    assert!(texts(&found(without_audience, LOGIN, "")).contains("the restriction audience: mytoken-ssh"));
}

#[test]
fn a_scope_that_no_provider_lists_is_found() {
    let providers = |lists: &[(&str, Value)]| {
        let provider = |(host, scopes): &(&str, Value)| {
            let issuer = format!("https://{host}.example.org");
            json!({"issuer": issuer, "scopes_supported": scopes})
        };
        changed("providers_supported", lists.iter().map(provider).collect())
    };
    let warning = ("server-scope", Severity::Warning);
    let file = "files = [{ name = 'ce', scope = 'compute.read', audience = 'https://y' }]\n";
    for (lists, login, jobs, expected) in [
        (&[("op", json!(["storage.read"]))][..], "", JOBS.to_owned(), NOTHING),
        (&[("op", json!(["compute.read"]))], "", JOBS.to_owned(), &[warning]),
        // The clauses of a profile are for one provider each, whichever it is.
        (&[("op", json!(["profile"])), ("two", json!(["storage.read"]))], "", JOBS.to_owned(), NOTHING),
        (&[("op", json!(["storage.read"]))], "", format!("{JOBS}{file}"), &[warning]),
        (&[("op", json!(["storage.read", "compute.read"]))], "", format!("{JOBS}{file}"), NOTHING),
        (&[("op", json!([]))], LOGIN, JOBS.to_owned(), NOTHING),
        (&[("op", json!(null))], LOGIN, JOBS.to_owned(), NOTHING),
        (&[], "", JOBS.to_owned(), NOTHING),
        // Logins need it from a provider of their rules.
        (&[("op", json!(["profile"]))], LOGIN, String::new(), NOTHING),
        (&[("op", json!(["storage.read"]))], LOGIN, String::new(), &[warning]),
        (&[("op", json!(["storage.read"])), ("two", json!(["profile"]))], LOGIN, String::new(), &[warning]),
    ] {
        let findings = found(providers(lists), login, &jobs);
        assert_eq!(ids(&findings), expected, "{lists:?} {login}{jobs}: {}", texts(&findings));
    }
    let findings = found(providers(&[("op", json!(["profile"]))]), LOGIN, &format!("{JOBS}{file}"));
    let words = "all scopes of the profile \"default\" (missing: compute.read storage.read)";
    assert!(texts(&findings).contains(words), "{}", texts(&findings));
    let findings = found(providers(&[("op", json!(["storage.read"]))]), LOGIN, "");
    assert!(texts(&findings).contains("all scopes of [[exchange]] (missing: profile)"), "{}", texts(&findings));
}

#[test]
fn the_check_of_the_network_compares_each_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = changed("revocation_endpoint", json!(null)).to_string().replace("https://mt.example.org", &url);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let shared = format!("[http]\nallow_loopback_http = true\n[[server]]\nname = 't'\nurl = '{url}'\n");
    let mut findings = Findings::default();
    findings.network(&toml::from_str(&shared).unwrap(), None, Some(&toml::from_str(JOBS).unwrap()));
    assert_eq!(ids(&findings), [("server-revocation", Severity::Error)], "{}", texts(&findings));
    assert!(texts(&findings).contains("ended jobs"), "{}", texts(&findings));
    server.join().unwrap();
}
