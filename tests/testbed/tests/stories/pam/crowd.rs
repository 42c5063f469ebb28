// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many simultaneous logins with tokens of a provider that does not answer. They go through PAM without sshd, which would be the
//! bottleneck, so that the module has them all at once. The crowd over ssh is in `dead_issuer`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use testbed::site::daemon::Daemon;
use testbed::{Error, Options, Result, Site, story_with_own_servers};

use super::dead_issuer::{AT_ONCE, DEADLINE, login, mute_server, one_node, signal_servers, times_of};
use super::login_with_key;
use crate::bad_tokens::attempt::{Driver, PROGRAM, STACKS};
use crate::bad_tokens::inputs;

/// Number of logins. A hundred, with `TESTBED_LONG=1`, make a machine with two cores so busy that stories beside this one fail.
fn size() -> usize {
    if Options::is_long() { 100 } else { 20 }
}

/// `fail_delay` of the site, which Linux-PAM varies by half, and what 100 processes at once cost on two cores.
const DELAY: Duration = Duration::from_secs(4);

/// Lets the module accept tokens of a second provider at this URL.
fn add_issuer(site: &Site, url: &str) -> Result<()> {
    site.sh("root", "mkdir -p /etc/mytoken/mytoken.d")?.ok()?;
    let issuer = format!("[[issuer]]\nname = \"dead\"\nurl = \"{url}\"\naudiences = [\"https://testbed\"]\n");
    site.write("/etc/mytoken/mytoken.d/dead.toml", &issuer, "0644")
}

/// All logins with this token at once, each from an address of its own, and how many ended with each result: the return code of the PAM
/// stack, or `late`.
fn crowd(site: &Site, token: &str) -> Result<BTreeMap<String, usize>> {
    let (limit, size) = ((DEADLINE + DELAY).as_secs(), size());
    let script = format!(
        r#"mkdir -p /root/crowd && cd /root/crowd && cat >token && printf '\0' >>token
for n in $(seq {size}); do
    {{ timeout {limit} {PROGRAM} {STACKS} sshd alice ssh rhost=203.0.113.$n <token >out.$n 2>&1 || echo late >>out.$n; }} &
done
wait
grep -hE '^(code |late)' out.*"#
    );
    let ended = site.script("root", &script).stdin(token).timeout(Duration::from_secs(60)).run()?.ok()?;
    let mut results = BTreeMap::new();
    for line in ended.lines() {
        *results.entry(line.trim().to_owned()).or_default() += 1;
    }
    Ok(results)
}

/// The crowd, with logins of others in its middle: by a token of the other provider whose keys are known, and by key.
fn check_a_crowd(site: &Site, dead: &str, other: &str) -> Result<()> {
    let driver = Driver::build(site)?;
    // Now this host knows the keys of the other provider.
    login(site, other)?.1.ok()?;
    let before = times_of(site, "accept")?.len();
    let results = std::thread::scope(|scope| -> Result<_> {
        let crowd = scope.spawn(|| crowd(site, dead));
        std::thread::sleep(Duration::from_secs(1));
        // Without sshd, which takes seconds on a busy machine: the crowd is refused after three seconds, and this one must be before that.
        let arguments = [STACKS, "sshd", "alice", "ssh", "rhost=198.51.100.1"];
        let during = driver.run(site, &arguments, &[other.to_owned()])?;
        assert_eq!(during.code, 0, "{}", during.output);
        assert!(!crowd.is_finished(), "the crowd had ended before the other login");
        login(site, other)?.1.ok()?;
        login_with_key(site, "bob", "true")?.ok()?;
        crowd.join().map_err(|_| Error::Refused("a thread of the story panicked".into()))?
    })?;
    let refused = times_of(site, "refuse")?;
    let longest = refused.iter().max().copied().unwrap_or_default();
    let accepted = times_of(site, "accept")?;
    let meanwhile = accepted.get(before..).unwrap_or_default();
    println!("{results:?}; the longest was refused after {longest} ms; others accepted after {meanwhile:?} ms");
    // PAM_AUTHINFO_UNAVAIL: an outage, and nobody's fault.
    assert_eq!(results, BTreeMap::from([("code 9".to_owned(), size())]), "{refused:?}");
    assert_eq!(refused.len(), size(), "{refused:?}");
    assert!(longest > 1_000, "none of them waited: {refused:?}");
    assert!(Duration::from_millis(longest) < DEADLINE + Duration::from_millis(500), "{refused:?}");
    assert_eq!(meanwhile.len(), 2, "{accepted:?}");
    assert!(meanwhile.iter().all(|ms| Duration::from_millis(*ms) < AT_ONCE), "{meanwhile:?}");
    let log = site.system_log()?;
    assert!(!log.lines().any(|line| line.contains("pam_mytoken(sshd:auth)") && line.contains(" user=bob ")), "{log}");
    Ok(())
}

/// The provider accepts connections and says nothing. The other one has stopped too: its keys are known, so nobody asks it.
#[test]
fn many_logins_with_tokens_of_a_silent_issuer_end_in_time_and_delay_nobody_else() -> Result<()> {
    story_with_own_servers(one_node("")?, |site| {
        let other = inputs::mint(site, &json!({}))?;
        let dead = inputs::mint(site, &json!({"claims": {"iss": "https://op.testbed:9443"}}))?;
        mute_server(site)?;
        add_issuer(site, "https://op.testbed:9443")?;
        login(site, &other)?.1.ok()?;
        signal_servers(site, "STOP")?;
        let checked = check_a_crowd(site, &dead, &other);
        signal_servers(site, "CONT")?;
        checked
    })
}

/// The name of the provider cannot be looked up: the name server says nothing. A look-up cannot be interrupted, so a login must leave it.
#[test]
fn many_logins_with_a_silent_name_server_end_in_time_and_delay_nobody_else() -> Result<()> {
    story_with_own_servers(one_node("")?, |site| {
        let other = inputs::mint(site, &json!({}))?;
        let dead = inputs::mint(site, &json!({"claims": {"iss": "https://absent.example.org"}}))?;
        let listen = "use Socket; socket(my $s, PF_INET, SOCK_DGRAM, 0); \
                      bind($s, sockaddr_in(53, inet_aton('127.0.0.1'))) or die; sleep 600";
        site.start_daemon(Daemon::new("mute-resolver", ["perl", "-e", listen]))?;
        site.wait_for("the mute name server", Duration::from_secs(20), "root", "ss -lun | grep -q 127.0.0.1:53")?;
        let resolver = "nameserver 127.0.0.1\noptions timeout:20 attempts:2\n";
        site.script("root", "cat >/etc/resolv.conf").stdin(resolver).run()?.ok()?;
        add_issuer(site, "https://absent.example.org")?;
        check_a_crowd(site, &dead, &other)
    })
}
