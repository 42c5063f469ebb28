// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers that accept connections and say nothing, and logins that sshd ends meanwhile.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::drive::people::control;
use testbed::drive::{askpass, tokens};
use testbed::site::command::CommandOutcome;
use testbed::site::daemon::Daemon;
use testbed::{Error, Options, Release, Result, Site, story_with_own_servers};

use super::login_with_key;
use crate::bad_tokens::inputs;

/// `deadline` of the site.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// A login that waits for nothing is refused within this time. What is measured is the module's part: a busy machine takes seconds to connect.
pub(super) const AT_ONCE: Duration = Duration::from_secs(2);

/// A login after one that sshd has ended asks the server for its discovery document first, for this time.
const PROBE: Duration = Duration::from_secs(2);

/// `LoginGraceTime` of sshd where it ends logins, and the line for it.
const GRACE: Duration = Duration::from_secs(9);
const SHORT_GRACE: &str = "LoginGraceTime 9\n";

/// When a person answers whose login sshd ends. Until then there are less than the six seconds after which the module itself gives up, and
/// more than the three after which a request counts as one that waits long, also when a busy machine needs seconds to the prompt.
const THINKS: Duration = Duration::from_millis(3_500);

const UNAVAILABLE: &str = "unavailable at the moment";

/// A site whose sshd does not block addresses after refusals.
pub(super) fn one_node(sshd_config: &'static str) -> Result<Options> {
    Ok(Options { nodes: 1, penalties: false, sshd_config, ..Options::new()? })
}

/// One login with this answer from an address of its own, and how long ssh ran.
pub(super) fn login(site: &Site, answer: &str) -> Result<(Duration, CommandOutcome)> {
    login_of(site, answer, Duration::ZERO)
}

/// The same by a person who answers not before this time has passed.
fn login_of(site: &Site, answer: &str, thinks: Duration) -> Result<(Duration, CommandOutcome)> {
    let options = "-o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1";
    let from = format!("ANSWER_FROM=$(($(date +%s%3N) + {}))", thinks.as_millis());
    let command = format!("{from} ssh {options} {} true", site.new_client()?.destination());
    askpass::prepare(site, "alice", &[answer])?;
    let began = Instant::now();
    let outcome = askpass::run_with_prepared_answers(site, "alice", &command)?;
    Ok((began.elapsed(), outcome))
}

fn short_token(site: &Site) -> Result<String> {
    tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))
}

pub(super) fn signal_servers(site: &Site, signal: &str) -> Result<()> {
    site.sh("root", &format!("pkill -{signal} -f '[t]estserver serve'"))?.ok().map(drop)
}

/// The first login is ended by sshd and does not say a word. The second one, from another address, is refused at once after its probe.
/// Since OpenSSH 9.9 sshd waits up to four seconds longer than `LoginGraceTime`, by chance; then the first login may reach its own end.
fn check_the_second_knows(site: &Site, probe: Duration, answer: &str, sentence: &str) -> Result<()> {
    let (took, first) = login_of(site, answer, THINKS)?;
    println!("ended by sshd after {took:?}");
    assert!(
        !first.success() && took > GRACE - Duration::from_secs(1) && took < DEADLINE + AT_ONCE,
        "{took:?} {first:?}"
    );
    if site.options().release == Release::Bookworm {
        assert!(!first.stderr.contains(sentence), "{first:?}");
    }
    is_refused_within(site, probe + AT_ONCE, answer, sentence)
}

fn is_refused_within(site: &Site, limit: Duration, answer: &str, sentence: &str) -> Result<()> {
    let before = times_of_refusals(site)?.len();
    let (took, outcome) = login(site, answer)?;
    let times = times_of_refusals(site)?;
    println!("refused after {took:?}, the module's part in ms: {times:?}");
    assert!(!outcome.success() && outcome.stderr.contains(sentence), "{outcome:?}\n{}", site.logs());
    let decided = times.get(before).copied().unwrap_or(u64::MAX);
    assert!(Duration::from_millis(decided) < limit, "{times:?} {outcome:?}");
    Ok(())
}

#[test]
fn a_login_that_sshd_ends_tells_the_next_one_of_a_silent_server() -> Result<()> {
    story_with_own_servers(one_node(SHORT_GRACE)?, |site| {
        let token = short_token(site)?;
        login(site, &token)?.1.ok()?;
        signal_servers(site, "STOP")?;
        check_the_second_knows(site, PROBE, &token, UNAVAILABLE)?;
        let status = site.sh("root", "mytokenctl status --login")?.ok()?.stdout;
        assert!(status.contains("paused"), "{status}");
        // From a third address. The probe was silent, so nobody waits any more.
        is_refused_within(site, AT_ONCE, &token, UNAVAILABLE)?;
        let began = Instant::now();
        login_with_key(site, "alice", "true")?.ok()?;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        signal_servers(site, "CONT")?;
        testbed::wait::until("the end of the pause", Duration::from_secs(40), || {
            Ok(login(site, &token)?.1.success().then_some(()))
        })
    })
}

#[test]
fn a_login_that_sshd_ends_tells_the_next_one_of_a_silent_issuer() -> Result<()> {
    story_with_own_servers(one_node(SHORT_GRACE)?, |site| {
        let token = inputs::mint(site, &json!({}))?;
        let fault = json!({"name": "latency", "endpoint": "discovery", "argument": 60_000});
        control(site, "/provider/fault", Some(&fault.to_string()))?;
        check_the_second_knows(site, Duration::ZERO, &token, "cannot be fetched at the moment")
    })
}

/// A server at port 9443 of all names: the connection is there, and not one byte comes.
pub(super) fn mute_server(site: &Site) -> Result<()> {
    let listen = "use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); \
                  bind($s, sockaddr_in(9443, INADDR_ANY)) or die; listen($s, 99); my @c; while (accept(my $c, $s)) { push @c, $c }";
    site.start_daemon(Daemon::new("mute", ["perl", "-e", listen]))?;
    site.wait_for("the mute server", Duration::from_secs(20), "root", "ss -ltn | grep -q :9443").map(drop)
}

/// TLS stall.
#[test]
fn a_server_that_accepts_and_says_nothing_delays_one_login() -> Result<()> {
    story_with_own_servers(one_node("")?, |site| {
        let token = short_token(site)?;
        login(site, &token)?.1.ok()?;
        mute_server(site)?;
        site.sh("root", "sed -i s/mytoken.testbed:8443/mytoken.testbed:9443/ /etc/mytoken/mytoken.toml")?.ok()?;
        let (took, first) = login(site, &token)?;
        assert!(!first.success() && first.stderr.contains(UNAVAILABLE), "{first:?}");
        assert!(took > AT_ONCE, "{took:?}");
        let times = times_of_refusals(site)?;
        assert!(times.last().is_some_and(|ms| Duration::from_millis(*ms) < DEADLINE), "{times:?}");
        is_refused_within(site, AT_ONCE, &token, UNAVAILABLE)?;
        login_with_key(site, "alice", "true")?.ok().map(drop)
    })
}

/// Starts so many logins with random codes from each of ten addresses, and waits for them.
fn crowd(site: &Site, each: usize) -> Result<CommandOutcome> {
    let destinations = (0..10)
        .map(|_| Ok(format!("'{}'", site.new_client()?.destination_of("alice@testbed"))))
        .collect::<Result<Vec<_>>>()?
        .join(" ");
    let script = format!(
        r#"mkdir -p crowd && cd crowd
cat >ask <<'END'
#!/bin/sh
LC_ALL=C tr -dc 'a-km-zA-HJ-Z' </dev/urandom | head -c 8
END
chmod 755 ask
export SSH_ASKPASS=$PWD/ask SSH_ASKPASS_REQUIRE=force
for destination in {destinations}; do
    for login in $(seq {each}); do
        ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 $destination true 2>/dev/null &
    done
done
wait"#
    );
    site.script("carol", &script).timeout(Duration::from_secs(120)).run()
}

/// The `ms=` of all refusals in the log: the time from the answer to the decision.
fn times_of_refusals(site: &Site) -> Result<Vec<u64>> {
    times_of(site, "refuse")
}

/// The same of all decisions with this word: `accept` or `refuse`.
pub(super) fn times_of(site: &Site, decision: &str) -> Result<Vec<u64>> {
    let log = site.system_log()?;
    let wanted = format!("pam_mytoken(sshd:auth): {decision} ");
    let lines = log.lines().filter(|line| line.contains(&wanted));
    let ms = |line: &str| line.split(" ms=").nth(1)?.split(' ').next()?.parse().ok();
    Ok(lines.filter_map(ms).collect())
}

/// A hundred of them with `TESTBED_LONG=1`: they make a machine with two cores so busy that stories beside this one fail.
#[test]
fn a_crowd_of_logins_during_a_silence_ends_in_time_and_delays_no_key_login() -> Result<()> {
    let each = if Options::is_long() { 10 } else { 3 };
    story_with_own_servers(one_node("")?, |site| {
        let token = short_token(site)?;
        login(site, &token)?.1.ok()?;
        let key_login = || {
            let began = Instant::now();
            login_with_key(site, "bob", "true")?.ok()?;
            Ok::<_, Error>(began.elapsed())
        };
        let before = key_login()?;
        signal_servers(site, "STOP")?;
        let (waited, during) = std::thread::scope(|scope| -> Result<_> {
            let logins = scope.spawn(|| {
                let began = Instant::now();
                crowd(site, each).map(|_| began.elapsed())
            });
            std::thread::sleep(Duration::from_secs(4));
            let during = (0..3).map(|_| key_login()).collect::<Result<Vec<_>>>()?;
            let waited = logins.join().map_err(|_| Error::Refused("a thread of the story panicked".into()))??;
            Ok((waited, during))
        })?;
        signal_servers(site, "CONT")?;
        let times = times_of_refusals(site)?;
        let longest = times.iter().max().copied().unwrap_or_default();
        println!(
            "{} refusals, the longest after {longest} ms, all after {waited:?}; key login {before:?} before, {during:?} during",
            times.len()
        );
        assert!(times.len() > each * 8, "{times:?}");
        assert!(longest > 3_000, "none of them waited: {times:?}");
        // The machine is busy. A lock or a revocation after the deadline would add seconds.
        assert!(Duration::from_millis(longest) < DEADLINE + Duration::from_millis(500), "{times:?}");
        // The crowd itself slows down a machine with two cores, so times say little. The module has no part in these logins.
        let log = site.system_log()?;
        let of_bob = log.lines().filter(|line| line.contains("pam_mytoken(sshd:auth)") && line.contains(" user=bob "));
        assert_eq!(of_bob.collect::<Vec<_>>(), [""; 0]);
        Ok(())
    })
}
