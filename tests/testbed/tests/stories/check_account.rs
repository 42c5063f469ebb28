// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check`: accounts that the account stack keeps out, compared with real logins by token.

use std::time::{Duration, Instant};

use testbed::bench::c_program;
use testbed::drive::people;
use testbed::{Options, Result, Site, story};

use crate::checked::{RELOAD_SSHD, findings, healthy, sees_alone};

const SHUT_OUT: &str = "pam-account-shut-out";
const PASSWORD: &str = "pam-password-expired";
const UNKNOWN: &str = "pam-account-unknown";

/// A line before the others of the account stack.
fn line(line: &str) -> String {
    format!("sed -i '0,/^account/s,,account {line}\\n&,' /etc/pam.d/sshd")
}

/// How alice is kept out, the id of the one finding, and a part of its text.
fn rows() -> Vec<(String, &'static str, &'static str)> {
    let access = |rule: &str, file: &str| format!("{}; echo '{rule}' >>{file}", line("required pam_access.so"));
    let conf = "/etc/security/access.conf";
    vec![
        ("chage -E 0 alice".into(), SHUT_OUT, "pam_unix.so returns acct_expired (\"Your account has expired"),
        ("chage -E 2020-01-01 alice".into(), SHUT_OUT, "acct_expired"),
        ("chage -d 2020-01-01 -M 10 -I 10 alice".into(), SHUT_OUT, "pam_unix.so returns"),
        ("chage -d 0 alice".into(), PASSWORD, "/etc/pam.d/common-account:"),
        ("chage -d 2020-01-01 -M 10 alice".into(), PASSWORD, "new_authtok_reqd"),
        ("sed -i /^alice:/d /etc/shadow".into(), SHUT_OUT, "pam_unix.so returns"),
        (access("-:alice:ALL", conf), SHUT_OUT, "pam_access.so returns perm_denied"),
        (access("-:ALL EXCEPT root:ALL EXCEPT LOCAL", conf), SHUT_OUT, "pam_access.so returns perm_denied"),
        (access("-:(alice):ALL", "/etc/security/access.d/a.conf"), SHUT_OUT, "pam_access.so"),
        (
            format!("{}; echo '-:alice:ALL' >/root/access", line("required pam_access.so accessfile=/root/access")),
            SHUT_OUT,
            "pam_access.so",
        ),
        (line("required pam_access.so accessfile=/etc/nosuch"), SHUT_OUT, "pam_access.so returns"),
        (
            format!("{}; echo 'sshd;*;alice;!Al0000-2400' >>/etc/security/time.conf", line("required pam_time.so")),
            SHUT_OUT,
            "pam_time.so returns perm_denied",
        ),
        (
            format!(
                "{}; echo alice >/root/denied",
                line("required pam_listfile.so item=user sense=deny file=/root/denied onerr=fail")
            ),
            SHUT_OUT,
            "pam_listfile.so returns",
        ),
        (line("required pam_succeed_if.so quiet uid < 2000"), SHUT_OUT, "pam_succeed_if.so returns"),
        (format!("{}; usermod -s /bin/dash alice", line("required pam_shells.so")), SHUT_OUT, "pam_shells.so returns"),
        // Only one of the two decides.
        (
            format!(
                "{}; {}",
                line("required pam_debug.so acct=acct_expired"),
                line("optional pam_debug.so acct=perm_denied")
            ),
            SHUT_OUT,
            "pam_debug.so returns acct_expired",
        ),
    ]
}

/// Alice is let in.
fn legal() -> Vec<String> {
    vec![
        "usermod -L alice".into(),
        "passwd -d alice".into(),
        "chage -d 2020-01-01 -M 99999 alice".into(),
        format!("{}; echo '-:alice:10.0.0.0/8' >>/etc/security/access.conf", line("required pam_access.so")),
        line("optional pam_succeed_if.so quiet uid < 2000"),
        line("[success=ok acct_expired=ignore default=die] pam_debug.so acct=acct_expired"),
    ]
}

const SAVE: &str = "mkdir /root/kept; cp -a /etc/shadow /etc/passwd /etc/shells /etc/security /etc/pam.d /etc/mytoken /root/kept/; \
                    mkdir -p /etc/security/access.d; sed -i /dash/d /etc/shells";
const MEND: &str =
    "rm -f /etc/security/access.d/*; cd /root/kept; cp -p shadow passwd /etc/; cp -a security pam.d mytoken /etc/";

fn logs_in(site: &Site) -> Result<bool> {
    Ok(site.sh("alice", "timeout 30 mytoken-ssh ssh testbed true")?.code == 0)
}

#[test]
fn whom_the_account_stack_keeps_out_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, request_limit: "", penalties: false, ..Options::new()? }, |site| {
        healthy(site)?;
        people::first_mytoken(site, "alice")?;
        site.sh("root", SAVE)?.ok()?;
        assert!(logs_in(site)?);
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        for (break_it, id, text) in rows() {
            let found = sees_alone(site, "--as alice", &break_it, id, 1)?;
            assert!(found.len() == 1 && found[0].text.contains(text), "{break_it}: {found:?}");
            assert!(!logs_in(site)?, "{break_it}");
            assert_eq!(findings(site, "")?.0, [], "{break_it}: it is about alice");
            let pasted = site.sh("root", &found[0].fix.replace("${EDITOR:-vi}", "ls"))?;
            // There is no line to show of what does not exist.
            let nothing = break_it.contains("/etc/shadow") || break_it.contains("/etc/nosuch");
            assert!(nothing || !pasted.stdout.is_empty(), "{break_it}: {pasted:?}");
            site.sh("root", MEND)?.ok()?;
        }
        for legal in legal() {
            site.sh("root", &legal)?.ok()?;
            assert_eq!(findings(site, "--as alice")?, (vec![], 0), "{legal}");
            assert!(logs_in(site)?, "{legal}");
            site.sh("root", MEND)?.ok()?;
        }
        networks_of_pam_access(site)?;
        accounts_of_map_files(site)?;
        what_is_not_asked(site)
    })
}

/// From where alice is let in is no fault, and told.
fn networks_of_pam_access(site: &Site) -> Result<()> {
    let rules = "printf '+:alice:198.51.100.0/24 .example.org\\n-:ALL:ALL\\n' >>/etc/security/access.conf";
    site.sh("root", &format!("{}; {rules}", line("required pam_access.so")))?.ok()?;
    assert_eq!(findings(site, "--as alice")?, (vec![], 0));
    let screen = site.sh("root", "mytokenctl check --as alice")?.ok()?.stdout;
    let told = "lets \"alice\" in from 198.51.100.1, x.example.org, and not from 127.0.0.1, 192.0.2.1: ";
    assert!(screen.contains(told), "{screen}");
    site.sh("root", MEND)?.ok()?;
    Ok(())
}

/// Who has left may have a line in a map file. That all are kept out is an error.
fn accounts_of_map_files(site: &Site) -> Result<()> {
    let map = "sed -i \"s,^template = .*,map_file = '/etc/mytoken/users.map',\" /etc/mytoken/login.toml; \
               printf 'op s-1 alice\\nop s-2 bob\\n' >/etc/mytoken/users.map; chage -E 0 alice";
    site.sh("root", map)?.ok()?;
    assert_eq!(findings(site, "")?, (vec![], 0));
    let screen = site.sh("root", "mytokenctl check")?.ok()?.stdout;
    assert!(screen.contains("it lets \"bob\" of the map files in, and not alice"), "{screen}");
    let found = sees_alone(site, "", "chage -E 0 bob", SHUT_OUT, 2)?;
    assert!(
        found.iter().all(|one| one.text.contains("none of the 2 accounts") && one.fix.starts_with("chage -l alice")),
        "{found:?}"
    );
    site.sh("root", MEND)?.ok()?;
    Ok(())
}

/// Asking must change nothing, and must end.
fn what_is_not_asked(site: &Site) -> Result<()> {
    let spy = format!(
        "{}; {}; {}",
        line("required pam_faillock.so"),
        line("required pam_exec.so /usr/bin/touch /root/ran"),
        "printf 'auth required pam_faillock.so authfail\\nauth required pam_deny.so\\n' >/etc/pam.d/failing; \
         yes wrong | pamtester failing alice authenticate; faillock --user alice >/root/failures; grep -q \" V$\" /root/failures"
    );
    site.sh("root", &spy)?.ok()?;
    let screen = site.sh("root", "mytokenctl check --as alice")?.ok()?.stdout;
    assert!(
        screen.contains("lets \"alice\" in; not asked, because this could change something: pam_exec, pam_faillock"),
        "{screen}"
    );
    let after = site.sh("root", "faillock --user alice | cmp - /root/failures && echo the same; ls /root /run")?.stdout;
    assert!(
        after.starts_with("the same\n") && !after.contains("\nran\n") && !after.contains("mytoken-check-"),
        "{after}"
    );
    site.sh("root", MEND)?.ok()?;
    let hangs = format!("mkfifo /root/fifo; {}", line("required pam_access.so accessfile=/root/fifo"));
    let found = sees_alone(site, "--as alice", &hangs, UNKNOWN, 1)?;
    assert!(found.iter().all(|one| one.text.contains("did not answer in time")), "{found:?}");
    let left = site.sh("root", "ls /run; pgrep -fa 'only[-]account'")?.stdout;
    assert!(!left.contains("mytoken-check-") && !left.contains("only-account"), "{left}");
    site.sh("root", MEND)?.ok()?;
    Ok(())
}

/// A service of NSS that gives no answer, as sssd when a part of it hangs.
const SILENT_SERVICE: &str = "#include <unistd.h>\nint _nss_silent_getpwnam_r(void) { for (;;) pause(); }\n";

/// One that refuses, as nslcd or sssd when it does not run.
const REFUSING_SERVICE: &str = "#include <errno.h>\n#include <stddef.h>\n\
    int _nss_refusing_getpwnam_r(const char *name, void *account, char *buffer, size_t length, int *error) \
    { *error = ECONNREFUSED; return -1; }\n";

/// One that is slow, and knows no group.
const SLOW_SERVICE: &str = "#include <unistd.h>\nint _nss_slow_getgrgid_r(void) { usleep(100000); return 0; }\n";

/// Lets a service of NSS answer before or after the files.
fn services(database: &str, services: &str) -> String {
    format!("sed -i /^{database}:/d /etc/nsswitch.conf; echo '{database}: {services}' >>/etc/nsswitch.conf")
}

#[test]
fn a_look_up_without_an_answer_is_told_and_does_not_hold_up_the_check() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        for (name, source) in [("silent", SILENT_SERVICE), ("refusing", REFUSING_SERVICE), ("slow", SLOW_SERVICE)] {
            let library = format!("/usr/lib/x86_64-linux-gnu/libnss_{name}.so.2");
            c_program::install(site, source, &["-shared", "-fPIC"], &library)?;
        }
        let map = "sed -i \"s,^template = .*,map_file = '/etc/mytoken/users.map',\" /etc/mytoken/login.toml; \
                   printf 'op s-1 alice\\nop s-2 carola\\nop s-3 bob\\n' >/etc/mytoken/users.map";
        let silent = services("passwd", "files silent");
        let begin = Instant::now();
        for arguments in ["", "--as alice"] {
            let found = sees_alone(site, arguments, &format!("{map}; {silent}"), "nss-no-answer", 1)?;
            let reason = "the look-up of the account \"carola\" needed more than 5 s: ";
            assert!(found.len() == 1 && found[0].text.starts_with(reason), "{found:?}");
            let shown = site.sh("root", &found[0].fix.replace("timeout 60", "timeout 2"))?.stdout;
            assert!(shown.contains("passwd: files silent") && shown.ends_with("\n124\n"), "{found:?} {shown}");
        }
        // alice is in a file, and the check is about her.
        let denied = "/etc/ssh/sshd_config.d/01-denied.conf";
        site.sh("root", &format!("echo 'DenyUsers alice' >{denied}; {RELOAD_SSHD}"))?.ok()?;
        let (found, status) = findings(site, "--as alice")?;
        let ids: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
        assert_eq!((ids, status), (vec!["sshd-accounts-shut-out", "nss-no-answer"], 1));
        site.sh("root", &format!("rm {denied}; {RELOAD_SSHD}"))?.ok()?;
        let refused = site.sh("root", "mytokenctl check --as carola")?;
        assert!(refused.code == 3 && refused.stderr.contains("\"carola\" needed more than 5 s"), "{refused:?}");
        assert!(begin.elapsed() < Duration::from_secs(120), "{:?}", begin.elapsed());
        // Such an account is not one that does not exist.
        let found = sees_alone(site, "", &services("passwd", "files refusing"), "nss-no-answer", 1)?;
        assert!(found.iter().all(|one| one.text.contains("\"carola\" failed: ECONNREFUSED")), "{found:?}");
        sees_alone(site, "", &services("passwd", "files"), "map-file-account", 1)?;
        // All groups of alice together need more than 5 s, and none of them alone.
        let groups = "sed -i /carola/d /etc/mytoken/users.map; seq 7001 7060 | sed 's/.*/g&:x:&:alice/' >>/etc/group";
        let allowed = format!("echo 'AllowGroups g7060' >{denied}; {RELOAD_SSHD}");
        site.sh("root", &format!("{groups}; {}; {allowed}", services("group", "slow files")))?.ok()?;
        let begin = Instant::now();
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        assert!(begin.elapsed() > Duration::from_secs(6), "{:?}", begin.elapsed());
        Ok(())
    })
}
