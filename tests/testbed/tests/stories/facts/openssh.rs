// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proofs of `docs/facts/openssh-pam.md`: what sshd, PAM and ssh do without the product.
//!
//! `pam_exec` and `pam_debug` take the place of our module.

use testbed::drive::askpass;
use testbed::{Options, Release, Result, Site, story, story_with_own_servers};

/// Records its caller and the answer that it gets on standard input.
const RECORDER: &str = r#"#!/bin/sh
answer=
[ "$PAM_TYPE" = auth ] && answer=$(od -An -v -tx1 | tr -d ' \n')
parent=$(awk '/^PPid:/ { print $2 }' /proc/$PPID/status)
echo "$PAM_TYPE user=$PAM_USER caller=$PPID parent=$parent bytes=$((${#answer} / 2)) begins=$(printf %.6s "$answer") \
connection=${SSH_CONNECTION%% *} rhost=$PAM_RHOST" >>/root/seen
"#;

/// ssh with the keyboard-interactive method and one prompt.
const SSH: &str = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1";

/// A site without the product. Debian disables keyboard-interactive (SSH-13).
fn without_product() -> Result<Options> {
    let sshd_config = "KbdInteractiveAuthentication yes\nPasswordAuthentication yes";
    Ok(Options { nodes: 1, product: false, foreign: None, penalties: false, sshd_config, ..Options::new()? })
}

/// A story in a site whose sshd has this PAM stack.
fn with_stack(stack: &str, options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story(options, |site| {
        site.write("/root/recorder", RECORDER, "0700")?;
        site.write("/etc/pam.d/sshd", stack, "0644")?;
        body(site)
    })
}

/// A stack that accepts every login and records `auth` and `open_session`. It has `pam_permit` because `pam_exec` alone
/// returns `PAM_IGNORE` in `setcred`, which is a refusal (SSH-06).
const RECORDING: &str = "auth required pam_exec.so expose_authtok /root/recorder\nauth required pam_permit.so\n\
                         account required pam_permit.so\nsession required pam_exec.so type=open_session /root/recorder\n";

/// The values of `name` in the records of the PAM type `kind`.
fn recorded(site: &Site, kind: &str, name: &str) -> Result<Vec<String>> {
    let script = format!("sed -nE 's/^{kind} .*\\b{name}=([^ ]*).*/\\1/p' /root/seen");
    Ok(site.sh("root", &script)?.ok()?.lines().into_iter().map(str::to_owned).collect())
}

fn log_in(site: &Site, user: &str, answer: &str) -> Result<()> {
    let outcome = askpass::run_with_answers(site, "alice", &[answer], &format!("{SSH} {user}@testbed true"))?;
    println!("{outcome:?}");
    Ok(())
}

#[test]
fn keyboard_interactive_authenticates_in_a_child_of_the_process_that_opens_the_session() -> Result<()> {
    with_stack(RECORDING, without_product()?, |site| {
        log_in(site, "alice", "secret")?;
        let (auth, monitor) = (recorded(site, "auth", "caller")?, recorded(site, "open_session", "caller")?);
        assert!(auth.len() == 1 && auth != monitor, "{auth:?} {monitor:?}");
        assert_eq!(recorded(site, "auth", "parent")?, monitor);
        Ok(())
    })
}

#[test]
fn the_password_method_runs_all_phases_in_one_process() -> Result<()> {
    with_stack(RECORDING, without_product()?, |site| {
        let ssh = "ssh -o PreferredAuthentications=password -o NumberOfPasswordPrompts=1 testbed true";
        askpass::run_with_answers(site, "alice", &["secret"], ssh)?.ok()?;
        let (auth, session) = (recorded(site, "auth", "caller")?, recorded(site, "open_session", "caller")?);
        assert_eq!((auth.len(), &auth), (1, &session));
        Ok(())
    })
}

#[test]
fn every_phase_knows_the_clients_address() -> Result<()> {
    with_stack(RECORDING, without_product()?, |site| {
        let client = site.new_client()?;
        askpass::run_with_answers(site, "alice", &["secret"], &format!("{SSH} {} true", client.destination()))?.ok()?;
        let address = client.address().to_string();
        for kind in ["auth", "open_session"] {
            for name in ["connection", "rhost"] {
                assert_eq!(recorded(site, kind, name)?, [address.as_str()], "{kind} {name}");
            }
        }
        Ok(())
    })
}

/// `pam_exec` gets at most 511 bytes, so this test uses our module: it prints "cut" for an answer of 1023 bytes.
#[test]
fn ssh_cuts_an_answer_at_1023_bytes() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, penalties: false, ..Options::new()? }, |site| {
        for (length, is_cut) in [(1_022, false), (1_023, true), (1_024, true), (3_000, true)] {
            let answer = format!("eyJ{}", "x".repeat(length - 3));
            let outcome = askpass::run_with_answers(site, "alice", &[&answer], &format!("{SSH} testbed true"))?;
            assert_eq!(outcome.stderr.contains("cut"), is_cut, "{length}: {outcome:?}");
        }
        Ok(())
    })
}

#[test]
fn for_an_unknown_account_pam_gets_junk_instead_of_the_answer() -> Result<()> {
    with_stack(RECORDING, without_product()?, |site| {
        let outcome =
            askpass::run_with_answers(site, "alice", &["a".repeat(40).as_str()], &format!("{SSH} ghost@testbed true"))?;
        assert!(!outcome.success());
        assert_eq!(
            (recorded(site, "auth", "bytes")?, recorded(site, "auth", "begins")?),
            (vec!["40".into()], vec!["080a0d".into()])
        );
        Ok(())
    })
}

#[test]
fn a_failing_askpass_sends_three_empty_answers() -> Result<()> {
    let stack = "auth required pam_exec.so expose_authtok /root/recorder\nauth requisite pam_deny.so\naccount required pam_permit.so\n";
    with_stack(stack, without_product()?, |site| {
        let ssh = "ssh -o PreferredAuthentications=keyboard-interactive testbed true";
        assert!(!askpass::run_with_answers(site, "alice", &[], ssh)?.success());
        assert_eq!(recorded(site, "auth", "bytes")?, ["0", "0", "0"]);
        Ok(())
    })
}

#[test]
fn texts_before_a_prompt_are_glued_to_it_up_to_openssh_10_2() -> Result<()> {
    let stack = format!("auth optional pam_echo.so file=/etc/noon\n{RECORDING}");
    with_stack(&stack, without_product()?, |site| {
        site.write("/etc/noon", "maintenance at noon\n", "0644")?;
        log_in(site, "alice", "secret")?;
        let prompts = askpass::prompts(site, "alice")?;
        let [prompt] = &prompts[..] else { panic!("{prompts:?}") };
        let glued = prompt.starts_with("(alice@testbed) maintenance at noon\n");
        assert!(prompt.starts_with("(alice@testbed) "), "{prompt:?}");
        assert_eq!(glued, site.options().release != Release::Sid, "{prompt:?}");
        Ok(())
    })
}

#[test]
fn setcred_runs_the_stack_again_and_its_failure_ends_the_login() -> Result<()> {
    let rest = "account required pam_permit.so\nsession required pam_permit.so\n";
    with_stack("", without_product()?, |site| {
        let accepts = |auth: &str| -> Result<bool> {
            site.write("/etc/pam.d/sshd", &format!("{auth}{rest}"), "0644")?;
            Ok(site.sh("alice", &format!("{SSH} testbed true"))?.success())
        };
        assert!(accepts("auth required pam_debug.so\n")?);
        assert!(!accepts("auth required pam_debug.so cred=perm_denied\n")?);
        // PAM_IGNORE from the only module is a refusal too.
        assert!(!accepts("auth required pam_debug.so cred=ignore\n")?);
        // `setcred` of the first module, which did not authenticate, succeeds. So PAM does not call the second one,
        // which did.
        let second = "auth required pam_debug.so cred=perm_denied\n";
        assert!(accepts(&format!("auth sufficient pam_debug.so auth=auth_err\n{second}"))?);
        Ok(())
    })
}

#[test]
fn a_phase_that_only_returns_pam_ignore_is_refused() -> Result<()> {
    with_stack("", without_product()?, |site| {
        let accepts = |account: &str| -> Result<bool> {
            let stack = format!("auth required pam_permit.so\n{account}session required pam_permit.so\n");
            site.write("/etc/pam.d/sshd", &stack, "0644")?;
            Ok(site.sh("alice", &format!("{SSH} testbed true"))?.success())
        };
        let ignore = "account required pam_debug.so acct=ignore\n";
        assert!(!accepts(ignore)?);
        assert!(accepts(&format!("{ignore}account required pam_permit.so\n"))?);
        Ok(())
    })
}

#[test]
fn debug3_logs_the_pam_environment() -> Result<()> {
    let stack = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_env.so\n";
    with_stack(stack, Options { sshd_log_level: "DEBUG3", ..without_product()? }, |site| {
        site.write("/etc/environment", "HANDLE=f:2001:0123\n", "0644")?;
        site.sh("alice", &format!("{SSH} testbed true"))?.ok()?;
        let log = site.system_log()?;
        assert!(log.contains("HANDLE=f:2001:0123"), "{log}");
        Ok(())
    })
}

#[test]
fn ssh_passes_its_environment_on_and_closes_all_descriptors_above_2() -> Result<()> {
    with_stack("", without_product()?, |site| {
        let script = r#"ssh -o ProxyCommand='sh -c "echo $SECRET >seen; ls /proc/$PPID/fd >>seen"' nowhere 9</dev/null; cat seen"#;
        let seen = site.sh("alice", &format!("export SECRET=visible; {script}"))?;
        let lines = seen.lines();
        assert_eq!(lines.first(), Some(&"visible"), "{seen:?}");
        assert!(lines.contains(&"2") && !lines.contains(&"9"), "{seen:?}");
        Ok(())
    })
}

#[test]
fn ssh_uses_the_first_value_of_an_option() -> Result<()> {
    with_stack("", without_product()?, |site| {
        let resolved = site.sh("alice", "ssh -G -oPort=1 -oPort=2 TestBed 2>/dev/null")?.ok()?;
        let lines = resolved.lines();
        assert!(lines.contains(&"port 1") && lines.contains(&"hostname testbed"), "{resolved:?}");
        Ok(())
    })
}

#[test]
fn scp_and_sftp_disable_local_commands_and_since_10_shared_connections() -> Result<()> {
    with_stack("", without_product()?, |site| {
        site.write("/home/alice/fake", "#!/bin/sh\necho \"$@\" >~/args; exit 1\n", "0755")?;
        let is_before_10 = site.options().release == Release::Bookworm;
        for command in ["scp -S ~/fake /etc/hosts there:", "sftp -S ~/fake there"] {
            let arguments =
                site.sh("alice", &format!("rm -f args; {command} >/dev/null 2>&1 </dev/null; tr = ' ' <args"))?.ok()?;
            assert!(arguments.stdout.contains("-oPermitLocalCommand no "), "{command}: {arguments:?}");
            assert_eq!(arguments.stdout.contains("-oControlMaster no "), !is_before_10, "{command}: {arguments:?}");
        }
        Ok(())
    })
}

#[test]
fn since_10_6_ssh_rejects_a_user_name_with_a_backslash_on_the_command_line() -> Result<()> {
    with_stack("", without_product()?, |site| {
        let (name, is_before_10_6) = ("DOM\\dave", site.options().release != Release::Sid);
        let by_argument = site.run("alice", ["ssh", "-G", "-l", name, "testbed"])?;
        assert_eq!(by_argument.success(), is_before_10_6, "{by_argument:?}");
        site.script("alice", "cat >config").stdin(format!("User {name}\n")).run()?.ok()?;
        let by_file = site.run("alice", ["ssh", "-G", "-F", "config", "testbed"])?.ok()?;
        assert!(by_file.lines().contains(&&*format!("user {name}")), "{by_file:?}");
        Ok(())
    })
}

/// The helper contains these option letters and prompts.
#[test]
fn the_clients_have_the_options_and_prompts_that_the_helper_knows() -> Result<()> {
    with_stack("", without_product()?, |site| {
        for (program, texts) in [
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
            for text in texts {
                let search = site.script("root", &format!("grep -qaFf - $(command -v {program})"));
                assert!(search.stdin(format!("{text}\n")).run()?.success(), "{program}: {text:?}");
            }
        }
        Ok(())
    })
}
