// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attacks and accidents at the prompt do not affect other logins.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::drive::journal::Journal;
use testbed::drive::{askpass, people, tokens};
use testbed::site::addresses::ClientAddress;
use testbed::site::command::CommandOutcome;
use testbed::{Error, Options, Result, Site, story_with_own_servers};

/// `fail_delay` and `[budget] per_address` of the site.
const FAIL_DELAY: Duration = Duration::from_secs(1);
const PER_ADDRESS: usize = 15;

/// Additional time for a login while ten loops of ssh run.
const BUSY: Duration = Duration::from_secs(4);

/// Duration of the guessing in seconds. The environment variable `HOSTILE_SECONDS` overrides it.
const HOSTILE_SECONDS: u64 = 20;

/// A PAM stack with a fallback for outages. The fallback records that it was used.
const WITH_FALLBACK: &str = "\
auth [success=done authinfo_unavail=ignore user_unknown=ignore ignore=ignore default=die] pam_mytoken.so
auth required pam_exec.so quiet /usr/local/bin/fallback
account required pam_mytoken.so
account required pam_unix.so
session required pam_limits.so
session optional pam_mytoken.so
";

fn one_node() -> Result<Options> {
    Ok(Options { nodes: 1, ..Options::new()? })
}

fn install_fallback(site: &Site) -> Result<()> {
    site.write("/etc/pam.d/sshd", WITH_FALLBACK, "0644")?;
    site.write("/usr/local/bin/fallback", "#!/bin/sh\ntouch /tmp/fallback-was-used\nexit 1\n", "0755")
}

fn timed(act: impl FnOnce() -> Result<CommandOutcome>) -> Result<(Duration, CommandOutcome)> {
    let began = Instant::now();
    let outcome = act()?;
    Ok((began.elapsed(), outcome))
}

/// Logs in with a short token at the prompt, which the module has to exchange.
fn login_with_token(site: &Site, token: &str, options: &str) -> Result<CommandOutcome> {
    askpass::run_with_answers(
        site,
        "alice",
        &[token],
        &format!("ssh -o PreferredAuthentications=keyboard-interactive {options} true"),
    )
}

fn login_with_key(site: &Site, client: &ClientAddress) -> Result<CommandOutcome> {
    site.sh("bob", &format!("ssh -o BatchMode=yes -i .ssh/site_key {} true", client.destination()))
}

fn short_token(site: &Site) -> Result<String> {
    tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))
}

/// Runs ten loops of ssh with random codes and returns the number of codes.
fn guess(site: &Site, from: &ClientAddress, seconds: u64) -> Result<usize> {
    let script = format!(
        r#"mkdir -p guess && cd guess && : >count
cat >ask <<'END'
#!/bin/sh
echo >>"$(dirname "$0")/count"
LC_ALL=C tr -dc 'a-km-zA-HJ-Z' </dev/urandom | head -c 8
END
chmod 755 ask
for loop in 0 1 2 3 4 5 6 7 8 9; do
    timeout {seconds} sh -c 'while :; do SSH_ASKPASS=$PWD/ask SSH_ASKPASS_REQUIRE=force ssh -o PreferredAuthentications=keyboard-interactive {destination} true; done' 2>/dev/null &
done
wait
wc -l <count"#,
        destination = from.destination_of("alice@testbed")
    );
    let outcome = site.script("carol", &script).timeout(Duration::from_secs(seconds + 60)).run()?.ok()?;
    outcome.stdout.trim().parse().map_err(|_| Error::Refused(format!("no number: {outcome:?}")))
}

#[test]
fn guessed_codes_use_up_the_budget_of_their_address_only() -> Result<()> {
    let seconds = std::env::var("HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(HOSTILE_SECONDS);
    // With penalties sshd would block the address before the budget of requests is spent.
    story_with_own_servers(Options { penalties: false, ..one_node()? }, |site| {
        install_fallback(site)?;
        let (attacker, office) = (site.new_client()?, site.new_client()?);
        let token = short_token(site)?;
        let by_token = || timed(|| login_with_token(site, &token, &office.destination())?.ok());
        let by_key = || timed(|| login_with_key(site, &office)?.ok());
        let (token_before, key_before) = (by_token()?.0, by_key()?.0);
        Journal::clear(site)?;
        let guessing = std::thread::scope(|scope| -> Result<_> {
            let guesses = scope.spawn(|| guess(site, &attacker, seconds));
            std::thread::sleep(Duration::from_secs(seconds / 2));
            let during: Vec<_> = (0..3).map(|_| Ok((by_token()?.0, by_key()?.0))).collect::<Result<_>>()?;
            let guesses = guesses.join().map_err(|_| Error::Refused("a thread of the story panicked".into()))??;
            Ok((guesses, during))
        });
        let (guesses, during) = guessing?;
        let journal = Journal::read(site)?;
        let redeemed = journal.requests_to("mytoken");
        println!(
            "{guesses} guesses in {seconds} s: {redeemed} requests; token login {token_before:?} before, key login {key_before:?}; during: {during:?}"
        );
        assert!(guesses > PER_ADDRESS * 2, "only {guesses} guesses");
        assert_eq!(redeemed, PER_ADDRESS, "{:?}", journal.requests());
        assert!(journal.requests().iter().all(|request| request.status != Some(429)), "{:?}", journal.requests());
        assert!(!site.exists("/tmp/fallback-was-used")?, "a spent budget led to the fallback");
        // The loops slow down a machine with two cores. A login that waited for a budget would take much longer.
        for (token, key) in during {
            assert!(token < token_before * 3 + BUSY, "{token:?} instead of {token_before:?}");
            assert!(key < key_before * 3 + BUSY, "{key:?} instead of {key_before:?}");
        }
        let status = site.sh("root", "mytokenctl status --login")?.ok()?.stdout;
        assert!(status.contains(&format!("{} ", attacker.address())) && status.contains("15 of 15  spent"), "{status}");
        let log = site.system_log()?;
        assert!(log.contains("reason=budget_address"), "{log}");
        // Only root can read the status.
        let refused = site.sh("alice", "mytokenctl status --login")?;
        assert!(!refused.success() && refused.stderr.contains("only root can see the logins"), "{refused:?}");
        Ok(())
    })
}

#[test]
fn many_valid_logins_from_one_address_are_accepted() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = short_token(site)?;
        Journal::clear(site)?;
        for _ in 0..PER_ADDRESS + 5 {
            login_with_token(site, &token, "testbed")?.ok()?;
        }
        assert_eq!(Journal::read(site)?.granted("access_token"), PER_ADDRESS + 5);
        Ok(())
    })
}

#[test]
fn a_429_opens_no_fallback_and_delays_no_login() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        install_fallback(site)?;
        let token = short_token(site)?;
        login_with_token(site, &token, "testbed")?.ok()?;
        Journal::clear(site)?;
        people::control(site, "/mytoken/fault", Some(r#"{"name": "429", "retry_after": 9}"#))?;
        for attempt in 0..3 {
            // Each login has its own address, because sshd blocks an address after several refusals.
            let destination = site.new_client()?.destination();
            let (took, outcome) =
                timed(|| login_with_token(site, &token, &format!("-o NumberOfPasswordPrompts=1 {destination}")))?;
            assert!(
                !outcome.success() && outcome.stderr.contains("too many logins at the moment"),
                "{attempt}: {outcome:?}"
            );
            assert!(took < Duration::from_secs(5), "{attempt}: {took:?}");
        }
        assert_eq!(Journal::read(site)?.requests().len(), 1, "a 429 is remembered");
        assert!(!site.exists("/tmp/fallback-was-used")?);
        let status = site.sh("root", "mytokenctl status --login")?.ok()?.stdout;
        assert!(status.contains("answered 429, too many requests; next request in"), "{status}");
        people::control(site, "/clear", Some("{}"))?;
        testbed::wait::until("the end of the wait", Duration::from_secs(20), || {
            Ok(login_with_token(site, &token, &site.new_client()?.destination())?.success().then_some(()))
        })
    })
}

#[test]
fn an_outage_ends_the_prompts_of_the_connection() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = short_token(site)?;
        login_with_token(site, &token, "testbed")?.ok()?;
        people::control(site, "/outage", Some(r#"{"service": "mytoken", "on": true}"#))?;
        let three = [token.as_str(), token.as_str(), token.as_str()];
        let ssh = "ssh -o PreferredAuthentications=keyboard-interactive testbed true";
        let (took, outcome) = timed(|| askpass::run_with_answers(site, "alice", &three, ssh))?;
        assert!(!outcome.success() && took < FAIL_DELAY * 4, "{took:?} {outcome:?}");
        assert_eq!(outcome.stderr.matches("unavailable at the moment").count(), 1, "{outcome:?}");
        assert_eq!(askpass::prompts(site, "alice")?.len(), 1, "prompted again although the server is unavailable");
        // A new connection prompts again: the server may be back.
        askpass::run_with_answers(site, "alice", &[token.as_str()], ssh)?;
        assert_eq!(askpass::prompts(site, "alice")?.len(), 1);
        Ok(())
    })
}

/// ssh asks three times, and a person or an askpass gives the same token each time.
#[test]
fn three_prompts_with_the_same_token_cost_one_exchange() -> Result<()> {
    let options = Options { sshd_config: "PasswordAuthentication yes\n", ..one_node()? };
    story_with_own_servers(options, |site| {
        let token = short_token(site)?;
        login_with_token(site, &token, "testbed")?.ok()?;
        // Keyboard-interactive has a process per attempt, the password method one process for all (SSH-01, SSH-02).
        for method in ["keyboard-interactive", "password"] {
            Journal::clear(site)?;
            let before = site.system_log()?.matches("reason=repeated").count();
            let destination = site.new_client()?.destination_of("bob@testbed");
            let ssh = format!("ssh -o PreferredAuthentications={method} {destination} true");
            let outcome = askpass::run_with_answers(site, "alice", &[token.as_str(); 3], &ssh)?;
            assert!(!outcome.success(), "{method}: {outcome:?}");
            assert_eq!(askpass::prompts(site, "alice")?.len(), 3, "{method}: {outcome:?}");
            assert_eq!(Journal::read(site)?.requests_to("access_token"), 1, "{method}");
            let log = site.system_log()?;
            assert!(log.contains("reason=not_mapped"), "{method}: {log}");
            assert_eq!(log.matches("reason=repeated").count() - before, 2, "{method}: {log}");
        }
        // A new connection asks the server again.
        login_with_token(site, &token, "testbed")?.ok().map(drop)
    })
}

#[test]
fn every_refusal_takes_the_fail_delay_also_for_unknown_accounts() -> Result<()> {
    story_with_own_servers(Options { penalties: false, ..one_node()? }, |site| {
        let foreign = people::control(
            site,
            "/provider/mint",
            Some(&json!({"claims": {"iss": "https://evil.example", "aud": "x"}}).to_string()),
        )?;
        let foreign: serde_json::Value =
            serde_json::from_str(&foreign).map_err(|error| Error::Refused(error.to_string()))?;
        let foreign = foreign.get("token").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let short = "aBcDeFgH".repeat(8);
        let answers: [(&str, &str); 9] = [
            ("a space", " "),
            ("a tab", "\t"),
            ("a word", "hunter2!"),
            ("a code", "AbCdEfGh"),
            ("a short token", &short),
            ("an opaque text", "0123456789abcdef0123456789"),
            ("a broken JWT", "eyJhbGciOiJFUzI1NiJ9.e30"),
            ("a foreign token", &foreign),
            ("pieces out of order", "@2/3:abc"),
        ];
        for user in ["alice", "no-such-user"] {
            // Each login has its own address, because sshd and the module limit the refusals of an address.
            let log_in = |answer: &str| {
                let destination = site.new_client()?.destination_of(&format!("{user}@testbed"));
                let options = "-o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1";
                timed(|| log_in_with_exact_answer(site, answer, &format!("ssh {options} {destination} true")))
            };
            for (what, answer) in answers {
                let (took, outcome) = log_in(answer)?;
                let refused = !outcome.success() && outcome.stderr.contains("Permission denied");
                assert!(refused && took >= FAIL_DELAY, "{what} for {user}: {took:?} {outcome:?}");
            }
            // One of several attempts must be fast: the machine may be busy.
            let times: Vec<Duration> = (0..4).map(|_| log_in("").map(|(took, _)| took)).collect::<Result<_>>()?;
            assert!(times.iter().any(|took| *took < FAIL_DELAY), "an empty answer for {user}: {times:?}");
        }
        Ok(())
    })
}

/// Runs ssh with this exact answer. The module `askpass` cannot send an empty line.
fn log_in_with_exact_answer(site: &Site, answer: &str, ssh: &str) -> Result<CommandOutcome> {
    site.script("alice", "cat >answer && printf '#!/bin/sh\\ncat \"$HOME/answer\"; echo\\n' >ask && chmod 755 ask")
        .stdin(answer)
        .run()?
        .ok()?;
    site.sh("alice", &format!("SSH_ASKPASS=$HOME/ask SSH_ASKPASS_REQUIRE=force {ssh}"))
}

#[test]
fn a_mytoken_redeemed_by_a_refused_login_is_revoked() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let parent = tokens::mytoken(site, "alice", &json!({}))?;
        let child = tokens::child(site, &parent, &["AT", "create_mytoken", "tokeninfo"])?;
        let code = tokens::transfer_code(site, &child)?;
        assert!(tokens::is_valid(site, &child)?);
        Journal::clear(site)?;
        let ssh = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 bob@testbed true";
        let outcome = askpass::run_with_answers(site, "alice", &[code.as_str()], ssh)?;
        assert!(!outcome.success() && outcome.stderr.contains("its mytoken was revoked"), "{outcome:?}");
        assert_eq!(Journal::read(site)?.granted("revocation"), 1);
        assert!(!tokens::is_valid(site, &child)? && tokens::is_valid(site, &parent)?);
        let log = site.system_log()?;
        assert!(log.contains("reason=not_mapped") && log.contains("redeemed=revoked"), "{log}");
        Ok(())
    })
}

#[test]
fn a_redeemed_mytoken_without_a_session_is_revoked() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let parent = tokens::mytoken(site, "alice", &json!({}))?;
        // As on a full disk, the login's record (handover) or the session's files (sessions) cannot be written.
        for directory in ["handover", "sessions"] {
            let child = tokens::child(site, &parent, &["AT", "create_mytoken", "tokeninfo"])?;
            let code = tokens::transfer_code(site, &child)?;
            assert!(tokens::is_valid(site, &child)?);
            let (path, saved) = (format!("/run/mytoken/{directory}"), format!("/run/mytoken/{directory}.saved"));
            site.sh("root", &format!("mv {path} {saved} 2>/dev/null; touch {path}"))?.ok()?;
            Journal::clear(site)?;
            let ssh =
                "ssh -o PreferredAuthentications=keyboard-interactive testbed 'echo in without $BEARER_TOKEN_FILE'";
            let outcome = askpass::run_with_answers(site, "alice", &[code.as_str()], ssh)?.ok()?;
            assert_eq!(outcome.stdout, "in without\n", "{directory}");
            assert_eq!(Journal::read(site)?.granted("revocation"), 1, "{directory}");
            assert!(!tokens::is_valid(site, &child)? && tokens::is_valid(site, &parent)?, "{directory}");
            let log = site.system_log()?;
            assert!(
                log.contains("session without credential")
                    && log.contains("the delegated mytoken was revoked: no session gets it"),
                "{log}"
            );
            site.sh("root", &format!("rm {path}; mv {saved} {path} 2>/dev/null; true"))?.ok()?;
        }
        Ok(())
    })
}
