// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins over real ssh: with the helper, and with tokens typed at the prompt.

use std::collections::BTreeSet;
use std::time::Duration;

use mytoken::capabilities::Capabilities;
use serde_json::{Value, json};
use testbed::drive::journal::Journal;
use testbed::drive::people::{self, Session};
use testbed::drive::{askpass, tokens};
use testbed::{Error, Need, Options, Result, Site, story, story_needing, story_with_own_servers};

/// Plain ssh to the site, which authenticates only by the prompt.
const PLAIN_SSH: &str = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed";

/// Logins need no cluster.
fn one_node() -> Result<Options> {
    Ok(Options { nodes: 1, ..Options::new()? })
}

/// A shell command that calls the resource server with the session's access token and prints the status.
fn call() -> String {
    people::call("-s -o /dev/null -w '%{http_code}'")
}

fn set_token_lifetime(site: &Site, seconds: u32) -> Result<()> {
    people::control(site, "/provider/lifetime", Some(&json!({"seconds": seconds}).to_string())).map(drop)
}

/// The files of all sessions.
fn session_files(site: &Site) -> Result<String> {
    Ok(site.sh("root", "find /run/mytoken/sessions -mindepth 2 2>/dev/null")?.stdout)
}

#[test]
fn a_first_mytoken_by_link_and_browser_logs_in_without_password_and_key() -> Result<()> {
    story_needing(&[Need::Browser], one_node()?, |site| {
        people::log_in_by_link(site, "alice", &people::login_command(site))?;
        let inside =
            site.sh("alice", "mytoken-ssh ssh testbed 'id -un; wc -l <$BEARER_TOKEN_FILE; echo \"<$MYTOKEN_FILE>\"'")?;
        let log = site.system_log()?;
        assert!(log.contains("Accepted keyboard-interactive/pam for alice"), "{inside:?}");
        assert!(!log.contains("Accepted publickey") && !log.contains("Accepted password"), "{log}");
        // The access token has no line break. There is no mytoken without --delegate.
        assert_eq!(inside.ok()?.lines(), ["alice", "0", "<>"]);
        Ok(())
    })
}

#[test]
fn a_session_holds_an_access_token_that_services_accept() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        let called = site.sh("alice", &format!("mytoken-ssh ssh testbed '{}'", call().replace('\'', "'\\''")))?.ok()?;
        assert_eq!(called.stdout, "200");
        Ok(())
    })
}

#[test]
fn a_delegated_mytoken_may_do_less_than_the_stored_one() -> Result<()> {
    story(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        let inside =
            site.sh("alice", "mytoken-ssh ssh --delegate testbed 'stat -c %a:%U $MYTOKEN_FILE; cat $MYTOKEN_FILE'")?;
        let lines = inside.ok()?;
        let [mode, delegated] = lines.lines()[..] else { return Err(Error::Refused(lines.stdout)) };
        assert_eq!(mode, "600:alice");

        let (stored, delegated) =
            (tokens::introspect(site, &tokens::stored(site, "alice")?)?, tokens::introspect(site, delegated)?);
        let (all, some) = (capabilities(&stored)?, capabilities(&delegated)?);
        assert!(some.within(&all) && !all.within(&some), "{some:?} of {all:?}");
        assert!(some.has("create_mytoken"), "jobs of the session need it: {some:?}");
        assert!(latest_expiry(&delegated) < latest_expiry(&stored), "{delegated}\n{stored}");
        Ok(())
    })
}

fn capabilities(introspection: &Value) -> Result<Capabilities> {
    let listed = introspection.pointer("/token/capabilities").and_then(Value::as_array);
    Capabilities::new(listed.into_iter().flatten().filter_map(Value::as_str))
        .map_err(|error| Error::Refused(error.to_string()))
}

/// The latest expiry of its clauses. A clause without expiry counts as the maximum.
fn latest_expiry(introspection: &Value) -> u64 {
    let clauses = introspection.pointer("/token/restrictions").and_then(Value::as_array);
    let expiries = clauses.into_iter().flatten().map(|clause| clause.get("exp").and_then(Value::as_u64));
    expiries.map(|expiry| expiry.unwrap_or(u64::MAX)).max().unwrap_or(u64::MAX)
}

#[test]
fn a_session_keeps_its_access_token_fresh_while_it_is_open() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        set_token_lifetime(site, 15)?;
        people::first_mytoken(site, "alice")?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed bash -s")?;
        let check_repeatedly = format!(
            "for i in $(seq 23); do echo $(sha256sum <$BEARER_TOKEN_FILE | cut -c1-8) $({}); sleep 2; done",
            call()
        );
        let outcome = session.run(&check_repeatedly, Duration::from_secs(100))?;
        let tokens: BTreeSet<&str> = outcome.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(outcome.stdout.lines().all(|line| line.ends_with(" 200")), "a call was refused:\n{}", outcome.stdout);
        assert!(tokens.len() >= 4, "the token was not renewed:\n{}", outcome.stdout);
        session.close()
    })
}

#[test]
fn logout_removes_the_sessions_files_and_ends_renewal() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        set_token_lifetime(site, 15)?;
        people::first_mytoken(site, "alice")?;
        let session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed bash -s")?;
        let during = session_files(site)?;
        assert!(during.contains("/bt_u2001") && during.contains("/mt_u2001"), "{during}");
        session.close()?;
        site.wait_for(
            "the end of the session's files",
            Duration::from_secs(10),
            "root",
            "test -z \"$(find /run/mytoken/sessions -mindepth 2)\"",
        )?;
        let status = site.sh("alice", "mytokenctl status")?.ok()?.stdout;
        assert!(status.lines().last().is_some_and(|line| line.contains("removed")), "{status}");
        Journal::clear(site)?;
        // An agent that still knew the session would renew its access token within this time.
        std::thread::sleep(Duration::from_secs(12));
        assert_eq!(Journal::read(site)?.requests(), [], "the agent still renews the session's token");
        Ok(())
    })
}

#[test]
fn scp_and_sftp_go_through_the_helper() -> Result<()> {
    story(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        let copied = "echo treasure >here && mytoken-ssh scp here testbed:there && cat there \
                      && printf 'get there back\\n' >batch && mytoken-ssh sftp -oBatchMode=no -b batch testbed >&2 && cat back";
        assert_eq!(site.sh("alice", copied)?.ok()?.lines(), ["treasure", "treasure"]);
        // Each source is a connection of its own, also with the old protocol, and so are both ends of a copy.
        let several = "mkdir -p got && cp here more && mytoken-ssh scp testbed:there testbed:more got && cat got/there got/more \
                       && mytoken-ssh scp -O testbed:there testbed:more got && mytoken-ssh scp testbed:there testbed:copy && cat copy";
        assert_eq!(site.sh("alice", several)?.ok()?.lines(), ["treasure"; 3]);
        Ok(())
    })
}

#[test]
fn a_double_dash_reaches_ssh_wherever_it_stands() -> Result<()> {
    story(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        for line in ["testbed -- echo there", "-- testbed echo there", "-v -- alice@testbed echo there"] {
            let outcome = site.sh("alice", &format!("mytoken-ssh ssh --delegate {line}"))?.ok()?;
            assert_eq!(outcome.stdout, "there\n", "{line}");
        }
        let injected = "'-oProxyCommand=touch injected' testbed";
        for start in ["mytoken-ssh", "mytoken-ssh ssh", "mytoken-ssh ssh --delegate", "mytoken-ssh ssh -v"] {
            let outcome = site.sh("alice", &format!("{start} -- {injected}; ls injected"))?;
            assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{start}: {outcome:?}");
        }
        Ok(())
    })
}

/// The program that PAM runs on a hostile host. It redeems the transfer code and refuses the login.
fn hostile(site: &Site) -> String {
    let ca = tokens::ca_of_server(site).map(|ca| format!("--cacert {ca}")).unwrap_or_default();
    let server = tokens::server(site);
    format!(
        r#"#!/bin/sh
code=$(tr -d '\000\n')
printf '{{"grant_type": "transfer_code", "transfer_code": "%s"}}' "$code" |
    curl -sS {ca} -H 'Content-Type: application/json' -d @- {server}/api/v0/token/my >>/root/stolen
exit 1
"#
    )
}

#[test]
fn a_mytoken_redeemed_by_a_hostile_host_is_revoked_after_its_refusal() -> Result<()> {
    story(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        site.sh("alice", "echo 'prompts = [\"Password:\"]' >>.config/mytoken/config.toml")?.ok()?;
        site.write("/root/hostile", &hostile(site), "0700")?;
        let stack = "auth required pam_exec.so expose_authtok /root/hostile\naccount required pam_permit.so\n";
        site.write("/etc/pam.d/sshd", stack, "0644")?;
        let outcome = site.sh("alice", "mytoken-ssh ssh --delegate testbed echo inside")?;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (255, ""), "{outcome:?}");
        assert!(!outcome.stderr.contains("was not revoked"), "{outcome:?}");
        let stolen = site.sh("root", "jq -er .mytoken /root/stolen")?.ok()?.stdout;
        assert!(!tokens::is_valid(site, stolen.trim())?, "the host's mytoken is still valid");
        Ok(())
    })
}

#[test]
fn a_session_that_exits_with_255_keeps_its_mytoken() -> Result<()> {
    story(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        // alice's own LocalCommand must run too.
        let own = "-oPermitLocalCommand=yes '-oLocalCommand=echo \"%n\" >mine'";
        let inside =
            site.sh("alice", &format!("mytoken-ssh ssh --delegate {own} testbed 'cat $MYTOKEN_FILE; exit 255'"))?;
        assert!(inside.code == 255 && inside.stderr.is_empty(), "{inside:?}");
        assert_eq!(site.sh("alice", "cat mine")?.ok()?.stdout, "testbed\n");
        assert!(tokens::is_valid(site, inside.stdout.trim())?, "the session's mytoken was revoked");
        Ok(())
    })
}

#[test]
fn a_long_token_is_sent_under_any_prompt_and_locale() -> Result<()> {
    story_needing(&[Need::FirstToken], one_node()?, |site| {
        let mytoken = tokens::mytoken(site, "alice", &json!({}))?;
        assert!(askpass::split_token(&mytoken).len() >= 2, "the mytoken is short enough for one answer");
        site.script("alice", "umask 077; cat >token; mkdir -p .config/mytoken").stdin(mytoken).run()?.ok()?;
        let login = site.read("/etc/mytoken/login.toml")?;
        for prompt in ["Access Token::", "Token:\\t", "Jeton d'acc\u{e8}s\u{a0}:"] {
            site.write("/etc/mytoken/login.toml", &format!("{login}\n[prompt]\ntext = \"{prompt}\"\n"), "0644")?;
            let config = format!("prompts = [\"{prompt}\"]\n");
            site.script("alice", "cat >.config/mytoken/config.toml").stdin(config).run()?.ok()?;
            for locale in ["C", "C.UTF-8"] {
                let outcome =
                    site.sh("alice", &format!("LC_ALL={locale} mytoken-ssh ssh --token-file token testbed id -un"))?;
                assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "alice\n"), "{prompt:?} {locale}: {outcome:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn nohup_keeps_a_connection_without_a_session() -> Result<()> {
    story(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        let open = "nohup mytoken-ssh ssh -o ControlMaster=yes -o ControlPath=~/control -N testbed >/dev/null 2>&1 & \
            for i in $(seq 100); do [ -S control ] && break; sleep 0.1; done; ls control";
        site.sh("alice", open)?.ok()?;
        let hang_up = "pkill -HUP -x mytoken-ssh; pkill -HUP -x ssh; sleep 1; ssh -S ~/control testbed echo still there; \
            ssh -S ~/control -O exit testbed";
        let outcome = site.sh("alice", hang_up)?.ok()?;
        assert_eq!(outcome.stdout, "still there\n", "{outcome:?}");
        Ok(())
    })
}

#[test]
fn a_mytoken_delegated_for_scp_is_revoked_afterwards() -> Result<()> {
    story(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        site.write("/etc/ssh/sshrc", "cat \"$MYTOKEN_FILE\" >~/delegated\n", "0644")?;
        site.sh("alice", "echo x >here && mytoken-ssh scp --delegate here testbed:there")?.ok()?;
        let delegated = site.sh("alice", "cat delegated")?.ok()?.stdout;
        assert!(delegated.len() > 100 && !tokens::is_valid(site, delegated.trim())?, "{}", delegated.len());
        Ok(())
    })
}

#[test]
fn every_kind_of_token_typed_at_the_prompt_logs_in() -> Result<()> {
    story_needing(&[Need::FirstToken], one_node()?, |site| {
        let mytoken = tokens::mytoken(site, "alice", &json!({}))?;
        let pieces = askpass::split_token(&mytoken);
        assert!(pieces.len() >= 2, "the mytoken is short enough for one answer");
        let kinds = [
            ("an access token", vec![tokens::access_token(site, "alice")?]),
            ("a short token", vec![tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?]),
            ("a mytoken in pieces", pieces),
            ("a transfer code", vec![tokens::transfer_code(site, &mytoken)?]),
        ];
        let refused: Vec<String> = kinds
            .iter()
            .filter_map(|(kind, answers)| {
                let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
                match askpass::run_with_answers(
                    site,
                    "alice",
                    &answers,
                    &format!("{PLAIN_SSH} cat '$BEARER_TOKEN_FILE'"),
                ) {
                    Ok(outcome) if outcome.success() && outcome.stdout.matches('.').count() == 2 => None,
                    other => Some(format!("{kind}: {other:?}")),
                }
            })
            .collect();
        assert!(refused.is_empty(), "{}", refused.join("\n"));
        Ok(())
    })
}

/// The host verifies the access token by keys that it has, and leaves it to the session.
#[test]
fn a_login_by_the_helper_costs_the_host_no_request() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        // Which scopes the host needs, this mytoken leaves open.
        let open = site.sh("alice", "mytoken-ssh doctor testbed")?.ok()?.stdout;
        assert!(open.contains("gets a transfer code: your mytoken leaves its audience or scope open"), "{open}");
        people::name_scope_of_host(site, "alice")?;
        // The host fetches the provider's keys.
        site.sh("alice", "mytoken-ssh ssh testbed true")?.ok()?;
        Journal::clear(site)?;
        let login = site
            .sh("alice", "mytoken-ssh ssh testbed 'id -un; cat $BEARER_TOKEN_FILE; echo; echo \"<$MYTOKEN_FILE>\"'")?;
        let login = login.ok()?;
        let [user, token, mytoken] = login.lines()[..] else { return Err(Error::Refused(login.stdout)) };
        assert_eq!((user, mytoken), ("alice", "<>"));
        assert_eq!(token.split('.').count(), 3, "{token}");
        // Those of the helper.
        let journal = Journal::read(site)?;
        let asked: Vec<&str> = journal.requests().iter().map(|request| request.endpoint.as_str()).collect();
        assert_eq!(asked, ["discovery", "access_token"]);
        let doctor = site.sh("alice", "mytoken-ssh doctor testbed")?.ok()?.stdout;
        assert!(doctor.contains("host    ✓ alice@testbed gets an access token for https://testbed\n"), "{doctor}");
        assert!(!doctor.contains(" ! ") && !doctor.contains('✗'), "{doctor}");
        let log = site.system_log()?;
        let accepted = log.lines().rfind(|line| line.contains("accept user=alice")).unwrap_or_default();
        assert!(accepted.contains(" token=at:") && accepted.contains("(exchange 0,"), "{accepted}");
        Ok(())
    })
}

#[test]
fn a_code_of_the_helper_is_typed_into_any_ssh() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        for (option, mytoken) in [("", "none"), ("--delegate=1h ", "own")] {
            let code = site.sh("alice", &format!("mytoken-ssh code {option}testbed"))?.ok()?;
            assert!(code.stderr.contains("for one login to testbed within "), "{code:?}");
            let look =
                "id -un; test -s $BEARER_TOKEN_FILE && echo token; test -s \"$MYTOKEN_FILE\" && echo own || echo none";
            let log_in = format!("{PLAIN_SSH} '{look}'");
            let login = askpass::run_with_answers(site, "alice", &[code.stdout.trim()], &log_in)?.ok()?;
            assert_eq!(login.lines(), ["alice", "token", mytoken], "{option}");
        }
        Ok(())
    })
}

#[test]
fn a_transfer_code_works_once() -> Result<()> {
    story_needing(&[Need::FirstToken], one_node()?, |site| {
        let code = tokens::transfer_code(site, &tokens::mytoken(site, "alice", &json!({}))?)?;
        let log_in = format!("{PLAIN_SSH} echo inside");
        let first = askpass::run_with_answers(site, "alice", &[&code], &log_in)?;
        let second = askpass::run_with_answers(site, "alice", &[&code], &log_in)?;
        assert_eq!((first.code, second.code), (0, 255), "{first:?}\n{second:?}");
        assert!(
            second.stderr.contains("the transfer code is unknown, expired or already used; create a new one"),
            "{second:?}"
        );
        Ok(())
    })
}

#[test]
fn bobs_token_is_refused_for_alices_account_in_one_sentence() -> Result<()> {
    story_needing(&[Need::FirstToken], one_node()?, |site| {
        people::first_mytoken(site, "bob")?;
        let outcome = site.sh("bob", "mytoken-ssh ssh alice@testbed echo inside")?;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (255, ""), "{outcome:?}");
        let sentence = "your identity is valid but not mapped to the account \"alice\". It maps to \"bob\"";
        assert_eq!(outcome.stderr.matches(sentence).count(), 1, "{outcome:?}");
        Ok(())
    })
}

#[test]
fn the_helper_answers_only_the_token_prompt() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        Journal::clear(site)?;
        askpass::prepare(site, "alice", &["wrong password", "wrong passphrase"])?;
        let helper = |arguments: &str| {
            askpass::run_with_prepared_answers(
                site,
                "alice",
                &format!("mytoken-ssh ssh -o NumberOfPasswordPrompts=1 {arguments} echo inside"),
            )
        };
        // An unknown host key, without a terminal to confirm it.
        let unknown_host = helper("-o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile=/dev/null testbed")?;
        // PAM asks for a password.
        site.write("/etc/pam.d/sshd", "auth required pam_unix.so\naccount required pam_permit.so\n", "0644")?;
        let password = helper("testbed")?;
        site.sh(
            "alice",
            "ssh-keygen -q -t ed25519 -N 'much secret' -f locked && cat locked.pub >>.ssh/authorized_keys",
        )?
        .ok()?;
        // The key has a passphrase.
        let locked =
            helper("-o PreferredAuthentications=publickey -o IdentityFile=locked -o IdentitiesOnly=yes testbed")?;
        // The helper passed these two prompts on to the user's own askpass.
        let prompts = askpass::prompts(site, "alice")?;
        assert!(
            matches!(&prompts[..], [word, phrase] if word.ends_with("Password: ") && phrase.contains("passphrase")),
            "{prompts:?}\n{unknown_host:?}\n{password:?}\n{locked:?}"
        );
        assert_eq!(Journal::read(site)?.sub_tokens(), 0, "a token was made for another prompt");
        assert!([unknown_host, password, locked].iter().all(|outcome| outcome.code == 255), "a login succeeded");
        Ok(())
    })
}
