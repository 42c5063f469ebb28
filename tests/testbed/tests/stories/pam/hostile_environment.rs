// SPDX-License-Identifier: MIT OR Apache-2.0
//! su and sudo run with root's rights and the environment of their caller. Nothing in it has an effect on the module.
//!
//! The program is a set-uid copy of `tests/pam_driver`. `RUST_MIN_STACK` is the exception, see docs/security.md.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use testbed::drive::tokens;
use testbed::site::daemon::Daemon;
use testbed::site::servers::{CA, MYTOKEN_SERVER};
use testbed::{Result, Site, story_with_own_servers};

use super::harm::install_panicking;
use super::one_node;
use crate::bad_tokens::attempt::{self, Driver, PROGRAM, PamResult, STACKS};
use crate::bad_tokens::inputs;

const SET_UID: &str = "/usr/local/bin/set_uid_driver";

/// Values of `security/_pam_types.h`.
const PAM_SUCCESS: i32 = 0;
const PAM_SERVICE_ERR: i32 = 3;
const PAM_SYSTEM_ERR: i32 = 4;
const PAM_AUTH_ERR: i32 = 7;

/// What the caller of su can set. A proxy on port 3128 notes each connection.
const HOSTILE: &[(&str, &str)] = &[
    ("http_proxy", "http://127.0.0.1:3128"),
    ("https_proxy", "http://127.0.0.1:3128"),
    ("HTTPS_PROXY", "http://127.0.0.1:3128"),
    ("all_proxy", "http://127.0.0.1:3128"),
    ("ALL_PROXY", "http://127.0.0.1:3128"),
    ("SSL_CERT_FILE", "/home/alice/empty.pem"),
    ("SSL_CERT_DIR", "/home/alice/empty"),
    ("LD_PRELOAD", "/home/alice/hostile.so"),
    ("LD_LIBRARY_PATH", "/home/alice"),
    ("LD_DEBUG", "all"),
    ("LD_DEBUG_OUTPUT", "/home/alice/debug/ld"),
    ("RUST_BACKTRACE", "full"),
    ("RUST_LIB_BACKTRACE", "full"),
    ("RUST_LOG", "trace"),
    ("LANG", "de_DE.UTF-8"),
    ("LC_ALL", "de_DE.UTF-8"),
    ("LANGUAGE", "de"),
    ("LOCALEDIR", "/home/alice"),
    ("TMPDIR", "/home/alice/empty"),
    ("HOME", "/home/alice/empty"),
    ("XDG_CONFIG_HOME", "/home/alice/empty"),
    ("XDG_RUNTIME_DIR", "/home/alice/empty"),
    ("MYTOKEN_CONFIG", "/home/alice/empty"),
    ("SSH_CONNECTION", "198.51.100.66 1 198.51.100.67 22"),
    ("PAM_MYTOKEN_HANDLE", "00112233445566778899aabbccddeeff"),
    ("IFS", "/"),
];

/// The same variables for `env`, with `more`, of which a later one wins.
fn variables(more: &[(&str, &str)]) -> String {
    HOSTILE.iter().chain(more).map(|(name, value)| format!("{name}='{value}' ")).collect()
}

/// alice calls the set-uid program with these variables only.
fn call(site: &Site, variables: &str, answer: &str) -> Result<PamResult> {
    let command = format!("env -i {variables} {SET_UID} {STACKS} su alice local");
    let outcome = site.script("alice", &command).stdin(attempt::terminated(&[answer.to_owned()])).run()?.ok()?;
    attempt::parse_result(outcome.stdout + &outcome.stderr)
}

fn prepare(site: &Site, arguments: &str) -> Result<()> {
    Driver::build(site)?;
    site.sh("root", &format!("cp {PROGRAM} {SET_UID} && chown root:root {SET_UID} && chmod 4755 {SET_UID}"))?.ok()?;
    let stack = format!("auth required pam_mytoken.so services=su {arguments}\naccount required pam_mytoken.so\n");
    site.write(&format!("{STACKS}/su"), &stack, "0644")?;
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pam_driver/hostile.c");
    attempt::install_compiled(site, "/home/alice/hostile.so", &[source], &["-shared", "-fPIC"], &[])?;
    site.sh("alice", "mkdir empty debug && touch empty.pem")?.ok()?;
    let listen = "use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); \
                  bind($s, sockaddr_in(3128, INADDR_ANY)) or die; listen($s, 99); $| = 1; \
                  while (accept(my $c, $s)) { print \"connection\\n\"; close $c }";
    site.start_daemon(Daemon::new("hostile-proxy", ["perl", "-e", listen]))?;
    site.wait_for("the proxy", Duration::from_secs(20), "root", "ss -ltn | grep -q :3128").map(drop)
}

/// Traces of an effect: connections to the proxy, the loaded library, files of the dynamic linker, files in the caller's directories.
fn traces(site: &Site) -> Result<String> {
    let script =
        "grep -c connection /var/log/hostile-proxy.log; cd /home/alice; ls loaded debug/* empty/* 2>/dev/null; true";
    Ok(site.sh("root", script)?.ok()?.stdout)
}

#[test]
fn the_environment_of_a_callers_su_has_no_effect() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        prepare(site, "")?;
        // It would remove the records of logins that have no session.
        site.stop("agent", "TERM")?;
        let token = inputs::mint(site, &json!({}))?;
        let forged = inputs::mint(site, &json!({"foreign_key": true}))?;
        let short = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        // The first one fetches the issuer's keys, the second one exchanges.
        for (name, answer, code) in [
            ("an access token", token.as_str(), PAM_SUCCESS),
            ("a short token", short.as_str(), PAM_SUCCESS),
            ("a forged token", forged.as_str(), PAM_AUTH_ERR),
            ("a word", "nonsense", PAM_AUTH_ERR),
        ] {
            let hostile = call(site, &variables(&[]), answer)?;
            assert_eq!(hostile.code, code, "{name}: {}", hostile.output);
            let quiet = call(site, "PATH=/usr/bin", answer)?;
            assert_eq!(quiet.output, hostile.output, "{name}");
        }
        assert_eq!(traces(site)?, "0\n");
        // Only root can have written there.
        site.sh("root", "find /run/mytoken/handover/2001 -type f -user root | grep -q .")?.ok()?;

        // Controls: the same environment has its effect on other programs.
        let control =
            format!("env -i {} curl -s {MYTOKEN_SERVER}/; env -i {} true; true", variables(&[]), variables(&[]));
        site.sh("alice", &control)?.ok()?;
        let seen = traces(site)?;
        assert!(!seen.starts_with("0\n") && seen.contains("loaded") && seen.contains("debug/ld"), "{seen}");
        Ok(())
    })
}

/// Somebody who brings his own certificates would see the tokens of others, and decide about them.
#[test]
fn a_caller_of_su_cannot_bring_certificates() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        prepare(site, "")?;
        let short = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        let other = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -days 2 \
                     -keyout /dev/null -out /etc/ssl/other-ca.pem 2>/dev/null && chmod 644 /etc/ssl/other-ca.pem && \
                     mkdir /home/alice/certificates && cp /etc/ssl/testbed-ca.pem /home/alice/certificates && \
                     openssl rehash /home/alice/certificates && chown -R alice: /home/alice/certificates";
        site.sh("root", other)?.ok()?;
        let own = [("SSL_CERT_FILE", CA), ("SSL_CERT_DIR", "/home/alice/certificates")];
        // A control: these variables make other programs trust the servers.
        let own_only = format!("SSL_CERT_FILE={CA} SSL_CERT_DIR=/home/alice/certificates");
        let probe = format!("{MYTOKEN_SERVER}/.well-known/mytoken-configuration");
        site.sh("alice", &format!("env -i {own_only} curl -sSf -o /dev/null {probe}"))?.ok()?;

        let configure = |from: &str, to: &str| {
            site.sh("root", &format!("sed -i 's|{from}|{to}|' /etc/mytoken/mytoken.toml"))?.ok().map(drop)
        };
        configure(CA, "/etc/ssl/other-ca.pem")?;
        let result = call(site, &variables(&own), &short)?;
        assert_eq!(result.code, PAM_SERVICE_ERR, "{}", result.output);
        let log = site.system_log()?;
        let refusal = log.lines().rfind(|line| line.contains("refuse user=alice")).unwrap_or_default();
        assert!(refusal.contains("certificate"), "{refusal}");
        Ok(())
    })
}

#[test]
fn a_panic_in_su_shows_nothing_to_its_caller() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        install_panicking(site)?;
        prepare(site, "panic=authenticate")?;
        let result = call(site, &variables(&[]), "nonsense")?;
        assert_eq!((result.code, result.output.as_str()), (PAM_SYSTEM_ERR, "code 4\n"));
        Ok(())
    })
}
