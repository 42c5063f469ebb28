// SPDX-License-Identifier: MIT OR Apache-2.0
//! What sshd, PAM and ssh do without anything of ours: the proofs of `docs/facts/openssh-pam.md`.
//!
//! `pam_exec` and `pam_debug` stand where our module stands.

use testbed::drive::typist;
use testbed::{Options, Release, Result, Site, story, story_with_own_servers};

/// Notes who calls it, and the answer that it gets on standard input.
const WITNESS: &str = r#"#!/bin/sh
answer=
[ "$PAM_TYPE" = auth ] && answer=$(od -An -v -tx1 | tr -d ' \n')
parent=$(awk '/^PPid:/ { print $2 }' /proc/$PPID/status)
echo "$PAM_TYPE user=$PAM_USER caller=$PPID parent=$parent bytes=$((${#answer} / 2)) begins=$(printf %.6s "$answer") \
connection=${SSH_CONNECTION%% *} rhost=$PAM_RHOST" >>/root/seen
"#;

/// ssh by the keyboard-interactive method, once.
const SSH: &str = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1";

/// Everything but the product. Debian switches keyboard-interactive off (SSH-13).
fn bare() -> Result<Options> {
    let sshd_config = "KbdInteractiveAuthentication yes\nPasswordAuthentication yes";
    Ok(Options { nodes: 1, product: false, foreign: None, penalties: false, sshd_config, ..Options::new()? })
}

/// A site whose sshd has this stack.
fn with_stack(stack: &str, options: Options, tell: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story(options, |site| {
        site.write("/root/witness", WITNESS, "0700")?;
        site.write("/etc/pam.d/sshd", stack, "0644")?;
        tell(site)
    })
}

/// A stack that accepts every login and records `auth` and `session`. `pam_exec` alone has no opinion in `setcred`, which would be a refusal.
const WITNESSED: &str = "auth required pam_exec.so expose_authtok /root/witness\nauth required pam_permit.so\n\
                         account required pam_permit.so\nsession required pam_exec.so type=open_session /root/witness\n";

/// The records of the witness of one type: the values by their names.
fn recorded(site: &Site, kind: &str, name: &str) -> Result<Vec<String>> {
    let script = format!("sed -nE 's/^{kind} .*\\b{name}=([^ ]*).*/\\1/p' /root/seen");
    Ok(site.sh("root", &script)?.ok()?.lines().into_iter().map(str::to_owned).collect())
}

fn log_in(site: &Site, user: &str, answer: &str) -> Result<()> {
    let said = typist::type_into(site, "alice", &[answer], &format!("{SSH} {user}@testbed true"))?;
    println!("{said:?}");
    Ok(())
}

#[test]
fn keyboard_interactive_authenticates_in_a_child_of_the_process_that_opens_the_session() -> Result<()> {
    with_stack(WITNESSED, bare()?, |site| {
        log_in(site, "alice", "secret")?;
        let (auth, monitor) = (recorded(site, "auth", "caller")?, recorded(site, "open_session", "caller")?);
        assert!(auth.len() == 1 && auth != monitor, "{auth:?} {monitor:?}");
        assert_eq!(recorded(site, "auth", "parent")?, monitor);
        Ok(())
    })
}

#[test]
fn the_password_method_does_all_in_one_process() -> Result<()> {
    with_stack(WITNESSED, bare()?, |site| {
        let ssh = "ssh -o PreferredAuthentications=password -o NumberOfPasswordPrompts=1 testbed true";
        typist::type_into(site, "alice", &["secret"], ssh)?.ok()?;
        let (auth, session) = (recorded(site, "auth", "caller")?, recorded(site, "open_session", "caller")?);
        assert_eq!((auth.len(), &auth), (1, &session));
        Ok(())
    })
}

#[test]
fn every_phase_knows_the_clients_address() -> Result<()> {
    with_stack(WITNESSED, bare()?, |site| {
        let office = site.new_client()?;
        typist::type_into(site, "alice", &["secret"], &format!("{SSH} {} true", office.destination()))?.ok()?;
        let address = office.address().to_string();
        for kind in ["auth", "open_session"] {
            for name in ["connection", "rhost"] {
                assert_eq!(recorded(site, kind, name)?, [address.as_str()], "{kind} {name}");
            }
        }
        Ok(())
    })
}

/// `pam_exec` sees 511 bytes at most, so our module counts here: it says "cut" for exactly as many as ssh sends.
#[test]
fn ssh_cuts_an_answer_at_1023_bytes() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, penalties: false, ..Options::new()? }, |site| {
        for (length, is_cut) in [(1_022, false), (1_023, true), (1_024, true), (3_000, true)] {
            let answer = format!("eyJ{}", "x".repeat(length - 3));
            let said = typist::type_into(site, "alice", &[&answer], &format!("{SSH} testbed true"))?;
            assert_eq!(said.stderr.contains("cut"), is_cut, "{length}: {said:?}");
        }
        Ok(())
    })
}

#[test]
fn an_account_that_does_not_exist_gets_junk_for_an_answer() -> Result<()> {
    with_stack(WITNESSED, bare()?, |site| {
        let said = typist::type_into(site, "alice", &["a".repeat(40).as_str()], &format!("{SSH} ghost@testbed true"))?;
        assert!(!said.success());
        assert_eq!(
            (recorded(site, "auth", "bytes")?, recorded(site, "auth", "begins")?),
            (vec!["40".into()], vec!["080a0d".into()])
        );
        Ok(())
    })
}

#[test]
fn an_askpass_that_fails_answers_nothing_three_times() -> Result<()> {
    let stack = "auth required pam_exec.so expose_authtok /root/witness\nauth requisite pam_deny.so\naccount required pam_permit.so\n";
    with_stack(stack, bare()?, |site| {
        let ssh = "ssh -o PreferredAuthentications=keyboard-interactive testbed true";
        assert!(!typist::type_into(site, "alice", &[], ssh)?.success());
        assert_eq!(recorded(site, "auth", "bytes")?, ["0", "0", "0"]);
        Ok(())
    })
}

#[test]
fn texts_before_a_prompt_are_glued_to_it_up_to_openssh_10_2() -> Result<()> {
    let stack = format!("auth optional pam_echo.so file=/etc/noon\n{WITNESSED}");
    with_stack(&stack, bare()?, |site| {
        site.write("/etc/noon", "maintenance at noon\n", "0644")?;
        log_in(site, "alice", "secret")?;
        let prompts = typist::prompts(site, "alice")?;
        let [prompt] = &prompts[..] else { panic!("{prompts:?}") };
        let glued = prompt.starts_with("(alice@testbed) maintenance at noon\n");
        assert!(prompt.starts_with("(alice@testbed) "), "{prompt:?}");
        assert_eq!(glued, site.options().release != Release::Sid, "{prompt:?}");
        Ok(())
    })
}

#[test]
fn setcred_walks_the_stack_anew_and_its_failure_ends_the_login() -> Result<()> {
    let rest = "account required pam_permit.so\nsession required pam_permit.so\n";
    with_stack("", bare()?, |site| {
        let is_let_in = |auth: &str| -> Result<bool> {
            site.write("/etc/pam.d/sshd", &format!("{auth}{rest}"), "0644")?;
            Ok(site.sh("alice", &format!("{SSH} testbed true"))?.success())
        };
        assert!(is_let_in("auth required pam_debug.so\n")?);
        assert!(!is_let_in("auth required pam_debug.so cred=perm_denied\n")?);
        // Alone, "no opinion" is a refusal too.
        assert!(!is_let_in("auth required pam_debug.so cred=ignore\n")?);
        // The first module did not authenticate; its success keeps the second, which did, from being called.
        let second = "auth required pam_debug.so cred=perm_denied\n";
        assert!(is_let_in(&format!("auth sufficient pam_debug.so auth=auth_err\n{second}"))?);
        Ok(())
    })
}

#[test]
fn no_opinion_alone_is_a_refusal() -> Result<()> {
    with_stack("", bare()?, |site| {
        let is_let_in = |account: &str| -> Result<bool> {
            let stack = format!("auth required pam_permit.so\n{account}session required pam_permit.so\n");
            site.write("/etc/pam.d/sshd", &stack, "0644")?;
            Ok(site.sh("alice", &format!("{SSH} testbed true"))?.success())
        };
        let ignore = "account required pam_debug.so acct=ignore\n";
        assert!(!is_let_in(ignore)?);
        assert!(is_let_in(&format!("{ignore}account required pam_permit.so\n"))?);
        Ok(())
    })
}

#[test]
fn debug3_shows_the_pam_environment() -> Result<()> {
    let stack = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_env.so\n";
    with_stack(stack, Options { sshd_log_level: "DEBUG3", ..bare()? }, |site| {
        site.write("/etc/environment", "HANDLE=f:2001:0123\n", "0644")?;
        site.sh("alice", &format!("{SSH} testbed true"))?.ok()?;
        let log = site.read("/var/log/all.log")?;
        assert!(log.contains("HANDLE=f:2001:0123"), "{log}");
        Ok(())
    })
}

#[test]
fn ssh_hands_its_environment_on_and_closes_all_descriptors_above_2() -> Result<()> {
    with_stack("", bare()?, |site| {
        let look = r#"ssh -o ProxyCommand='sh -c "echo $SECRET >seen; ls /proc/$PPID/fd >>seen"' nowhere 9</dev/null; cat seen"#;
        let seen = site.sh("alice", &format!("export SECRET=shown; {look}"))?;
        let lines = seen.lines();
        assert_eq!(lines.first(), Some(&"shown"), "{seen:?}");
        assert!(lines.contains(&"2") && !lines.contains(&"9"), "{seen:?}");
        Ok(())
    })
}

#[test]
fn ssh_takes_the_first_value_of_an_option() -> Result<()> {
    with_stack("", bare()?, |site| {
        let resolved = site.sh("alice", "ssh -G -oPort=1 -oPort=2 TestBed 2>/dev/null")?.ok()?;
        let lines = resolved.lines();
        assert!(lines.contains(&"port 1") && lines.contains(&"hostname testbed"), "{resolved:?}");
        Ok(())
    })
}

#[test]
fn scp_and_sftp_switch_local_commands_off_and_since_10_shared_connections_too() -> Result<()> {
    with_stack("", bare()?, |site| {
        site.write("/home/alice/fake", "#!/bin/sh\necho \"$@\" >~/args; exit 1\n", "0755")?;
        let shares = site.options().release == Release::Bookworm;
        for command in ["scp -S ~/fake /etc/hosts there:", "sftp -S ~/fake there"] {
            let asked =
                site.sh("alice", &format!("rm -f args; {command} >/dev/null 2>&1 </dev/null; tr = ' ' <args"))?.ok()?;
            assert!(asked.stdout.contains("-oPermitLocalCommand no "), "{command}: {asked:?}");
            assert_eq!(asked.stdout.contains("-oControlMaster no "), !shares, "{command}: {asked:?}");
        }
        Ok(())
    })
}

#[test]
fn since_10_6_no_account_with_a_backslash_is_taken_from_the_command_line() -> Result<()> {
    with_stack("", bare()?, |site| {
        let (name, old) = ("DOM\\dave", site.options().release != Release::Sid);
        let typed = site.run("alice", ["ssh", "-G", "-l", name, "testbed"])?;
        assert_eq!(typed.success(), old, "{typed:?}");
        site.script("alice", "cat >config").stdin(format!("User {name}\n")).run()?.ok()?;
        let written = site.run("alice", ["ssh", "-G", "-F", "config", "testbed"])?.ok()?;
        assert!(written.lines().contains(&&*format!("user {name}")), "{written:?}");
        Ok(())
    })
}

/// What the helper knows of the clients by heart.
#[test]
fn options_of_scp_and_sftp_and_words_of_ssh() -> Result<()> {
    with_stack("", bare()?, |site| {
        for (program, words) in [
            ("scp", &["12346ABCTdfOpqRrstvD:F:J:M:P:S:c:i:l:o:X:"][..]),
            ("sftp", &["1246AafhNpqrvCc:D:i:l:o:s:S:b:B:F:J:P:R:X:"]),
            (
                "ssh",
                &[
                    "The authenticity of host '",
                    "(yes/no/[fingerprint])? ",
                    "(yes/no)? ",
                    "Please type 'yes' or 'no': ",
                    "Please type 'yes', 'no' or the fingerprint: ",
                    "Accept updated hostkeys? (yes/no): ",
                ],
            ),
        ] {
            for word in words {
                let looked = site.script("root", &format!("grep -qaFf - $(command -v {program})"));
                assert!(looked.stdin(format!("{word}\n")).run()?.success(), "{program}: {word:?}");
            }
        }
        Ok(())
    })
}
