// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the findings about PAM.

use std::collections::HashMap;
use std::path::PathBuf;

use super::super::host::Ran;
use super::super::{CheckFinding, Severity};
use super::*;
use mytoken::config::{ConfigError, DIRECTORY};

struct Files(HashMap<PathBuf, String>);

impl Host for Files {
    fn read(&self, path: &Path) -> Option<String> {
        self.0.get(path).cloned()
    }
    /// It has all modules but some.
    fn exists(&self, path: &Path) -> bool {
        path.starts_with("/usr/lib64/security")
            && !["mytokn", "nosuch", "\r"].iter().any(|no| path.to_string_lossy().contains(no))
    }
    fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
        Ran::Missing
    }
    /// Files with this word in their text can be changed by others.
    fn trusted(&self, path: &Path) -> Result<(), ConfigError> {
        let changeable = self.0.get(path).is_some_and(|text| text.contains("# changeable"));
        let (file, reason, fix) = (path.display().to_string(), "its mode is wrong".into(), "mend it".into());
        if changeable { Err(ConfigError::Unsafe { file, reason, fix }) } else { Ok(()) }
    }
}

fn found(from: &str, to: &str) -> Vec<String> {
    found_in("/etc/pam.d", from, to).into_iter().filter_map(|finding| finding.id).collect()
}

/// The stacks that pam-auth-update writes with our profiles, and nothing but them in `/etc/pam.d/other`, as on Debian. `sshd`: the text of
/// the service's own file, if it has one.
fn managed(sshd: Option<&str>) -> HashMap<PathBuf, String> {
    let guard = "[success=ignore default=1] pam_succeed_if.so quiet service = sshd";
    let ours = "pam_mytoken.so services=sshd";
    let outage = "authinfo_unavail=ignore service_err=ignore user_unknown=ignore";
    let includes = "@include common-auth\n@include common-account\n@include common-session\n";
    let files = [
        (
            "common-auth",
            format!(
                "auth {guard}\nauth [success=2 {outage} default=die] {ours}\nauth [success=1 default=ignore] pam_unix.so nullok\n\
                 auth requisite pam_deny.so\nauth required pam_permit.so\n"
            ),
        ),
        (
            "common-account",
            format!(
                "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\n\
                 account required pam_permit.so\naccount {guard}\naccount required {ours}\n"
            ),
        ),
        (
            "common-session",
            format!(
                "session [default=1] pam_permit.so\nsession requisite pam_deny.so\nsession required pam_permit.so\n\
                 session required pam_unix.so\nsession optional pam_systemd.so\nsession {guard}\nsession optional {ours}\n"
            ),
        ),
        ("other", includes.to_owned()),
        ("sshd", sshd.unwrap_or_default().to_owned()),
    ];
    let files = files.into_iter().filter(|(name, _)| *name != "sshd" || sshd.is_some());
    files.map(|(name, text)| (Path::new("/etc/pam.d").join(name), text)).collect()
}

/// What is found of these files.
fn found_of(files: HashMap<PathBuf, String>) -> Vec<CheckFinding> {
    let mut findings = Findings::default();
    findings.pam(&Files(files), "sshd", Path::new(DIRECTORY), Some(&["sshd".to_owned()]));
    findings.findings.into_iter().filter(|finding| finding.level != Severity::Ok).collect()
}

/// SSH-42.
#[test]
fn a_login_that_is_asked_through_other_has_no_finding() {
    for sshd in [
        None,
        Some(""),
        Some("@include common-account\n@include common-session\n"),
        Some("@include common-auth\n"),
        Some("@include common-auth\n@include common-account\n@include common-session\n"),
    ] {
        assert_eq!(found_of(managed(sshd)), [], "{sshd:?}");
    }
    let mut without = managed(None);
    without.insert("/etc/pam.d/other".into(), "auth required pam_deny.so\n@include common-account\n".into());
    let found = found_of(without);
    let texts: Vec<&str> = found.iter().map(|finding| &*finding.text).collect();
    let reason = "(/etc/pam.d/sshd has no line of this group, so libpam takes those of other)";
    assert_eq!(
        texts,
        [
            &*format!("the auth stack of sshd has no pam_mytoken.so: tokens are not asked for {reason}"),
            &*format!("the session stack of sshd has no pam_mytoken.so: sessions get no access token {reason}"),
        ]
    );
    assert!(
        found[0].fix.as_ref().unwrap().starts_with("cat /usr/share/mytoken/pam-sshd.example   # write its auth lines")
    );
}

/// A file may have nothing but other files in it. What one command mends is one fault.
#[test]
fn files_with_includes_alone_are_looked_at_and_one_command_is_one_finding() {
    let sshd = "@include common-auth\n@include common-account\n@include common-session\n# changeable\n";
    let mut files = managed(Some(sshd));
    for also in [false, true] {
        if also {
            files.get_mut(Path::new("/etc/pam.d/common-auth")).unwrap().push_str("# changeable\n");
        }
        let found = found_of(files.clone());
        let ids: Vec<_> = found.iter().filter_map(|finding| finding.id.as_deref()).collect();
        assert_eq!(ids, ["pam-file-writable"], "{found:?}");
    }
}

/// What is found when the line `from` of the shipped example is `to` instead.
fn found_in(directory: &str, from: &str, to: &str) -> Vec<CheckFinding> {
    let example = include_str!("../../../../../packaging/pam-sshd.example");
    assert!(example.contains(from), "{from}");
    let common = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_unix.so\nsession optional pam_systemd.so\n";
    let mut files = HashMap::from([(Path::new(directory).join("sshd"), example.replacen(from, to, 1))]);
    for name in ["common-auth", "common-account", "common-session", "common-password"] {
        let group = name.trim_start_matches("common-");
        let lines: Vec<&str> = common.lines().filter(|line| line.starts_with(group)).collect();
        files.insert(Path::new("/etc/pam.d").join(name), lines.join("\n"));
    }
    found_of(files)
}

#[test]
fn a_fault_of_one_group_hides_none_of_another() {
    let open = "account  optional     pam_mytoken.so";
    for (further, id) in [
        ("session optional pam_mail.so\r", "pam-line"),
        ("session [success=40 default=ignore] pam_mail.so", "pam-jump"),
    ] {
        let mut ids = found("account  required     pam_mytoken.so", &format!("{open}\n{further}"));
        ids.sort_unstable();
        assert_eq!(ids, [id, "pam-refused-token-logs-in"]);
    }
    let include = &found_in("/etc/pam.d", "@include common-password", "@include common-password\r")[0];
    assert!(!include.text.contains('\r') && include.text.starts_with("/etc/pam.d/sshd has line ends"), "{include:?}");
}

#[test]
fn the_shipped_example_has_no_finding() {
    assert_eq!(found("auth ", "auth "), Vec::<String>::new());
    let missing = found_in("/nonexistent", "auth ", "auth ");
    let ids: Vec<_> = missing.iter().filter_map(|finding| finding.id.as_deref()).collect();
    assert_eq!(ids, ["pam-line"], "a file that does not exist is one fault");
    // SUSE's place for the files of packages.
    assert!(found_in("/usr/lib/pam.d", "auth ", "auth ").is_empty());
}

#[test]
fn a_file_that_others_can_change_is_told_with_a_command_for_it() {
    let found = found_in("/etc/pam.d", "auth ", "# changeable\nauth ");
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!(finding.id.as_deref(), Some("pam-file-writable"));
    assert_eq!(finding.text, "/etc/pam.d/sshd: its mode is wrong; who can change it logs in as anybody");
    assert_eq!(finding.fix.as_deref(), Some("mend it"));
}

#[test]
fn each_fault_of_a_stack_is_found_alone() {
    let ours =
        "[success=done authinfo_unavail=ignore service_err=ignore user_unknown=ignore default=die]  pam_mytoken.so";
    let both = format!("auth     {ours}\nauth     requisite    pam_deny.so");
    // In front of the block that pam-auth-update writes: a jump over two lines leads to success.
    let jumps = |outage: &str| {
        format!(
            "auth [success=2 authinfo_unavail={outage} default=die] pam_mytoken.so\n\
             auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so"
        )
    };
    let before = |line: &str| format!("{line}\nauth {ours}");
    for (from, to, id) in [
        (&format!("auth     {ours}")[..], "", "pam-auth-missing"),
        ("account  required     pam_mytoken.so", "", "pam-account-missing"),
        ("session  optional     pam_mytoken.so", "", "pam-session-missing"),
        ("session  optional     pam_mytoken.so", "session optional /opt/pam_mytoken.so", "pam-module-file"),
        (ours, "optional pam_mytoken.so\nauth sufficient pam_permit.so", "pam-refused-token-logs-in"),
        (ours, "sufficient pam_mytoken.so", "pam-refused-token-falls-through"),
        // After its other answers the shipped line asks the next one.
        ("auth     requisite    pam_deny.so", "auth required pam_permit.so", "pam-login-without-token"),
        ("auth     requisite    pam_deny.so", "auth optional pam_shells.so", "pam-login-without-token"),
        ("auth     requisite    pam_deny.so", "@include common-auth", ""),
        ("auth     requisite    pam_deny.so", "auth required pam_radius_auth.so", ""),
        ("auth     requisite    pam_deny.so", "auth required pam_env.so", ""),
        ("auth     requisite    pam_deny.so", "auth required pam_motd.so", ""),
        // SSH-41: it counts the failure and refuses nobody, and these two succeed.
        (
            "auth     requisite    pam_deny.so",
            "auth required pam_faillock.so authfail\nauth required pam_permit.so",
            "pam-login-without-token",
        ),
        ("auth     requisite    pam_deny.so", "auth optional pam_cap.so", "pam-login-without-token"),
        ("auth     requisite    pam_deny.so", "auth optional pam_echo.so hello", "pam-login-without-token"),
        ("auth     requisite    pam_deny.so", "auth required pam_nologin.so", ""),
        ("auth     requisite    pam_deny.so", "auth required pam_nologin.so successok", "pam-login-without-token"),
        (&both[..], &jumps("ignore")[..], ""),
        (&both[..], &jumps("2")[..], "pam-login-without-token"),
        (&both[..], &jumps("ignore user_unknown=2")[..], "pam-login-without-token"),
        (&both[..], &jumps("ignore conv_err=2")[..], "pam-login-without-token"),
        (&both[..], &jumps("ignore auth_err=2")[..], "pam-refused-token-logs-in"),
        (&both[..], &jumps("ignore auth_err=ignore")[..], "pam-refused-token-falls-through"),
        (ours, "required pam_mytoken.so", "pam-accepted-token-refused"),
        ("auth     requisite    pam_deny.so", "auth requisit pam_deny.so", "pam-line"),
        ("@include common-session", "session optional pam_mytoken.so\n@include common-session", "pam-session-order"),
        ("pam_env.so envfile=", "pam_env.so user_readenv=1 envfile=", "pam-user-environment"),
        ("@include common-password", "account include no-such", "pam-line"),
        ("@include common-password", "session include no-such", "pam-line"),
        ("[success=done", "[sucess=done", "pam-line"),
        ("auth     requisite    pam_deny.so", "auth requisite pam_deny.so\r", "pam-line"),
        ("@include common-password", "@include common-password\r", "pam-line"),
        ("@include common-password", "session optional pam_mail.so dir=/x\r", "pam-line"),
        ("pam_loginuid.so", "pam_nosuch.so", "pam-module-file"),
        ("account  required     pam_nologin.so", "-account required pam_nosuch.so", "pam-module-file"),
        (&format!("auth     {ours}")[..], "auth required pam_mytokn.so", "pam-module-file"),
        ("session  optional     pam_mytoken.so", "session optional pam_mytokn.so", "pam-module-file"),
        ("account  required     pam_mytoken.so", "account optional pam_mytoken.so", "pam-refused-token-logs-in"),
        ("account  required     pam_nologin.so", "account required pam_deny.so", "pam-accepted-token-refused"),
        // A jump out of the stack fails it.
        (
            ours,
            "[success=9 authinfo_unavail=ignore service_err=ignore user_unknown=ignore default=die] pam_mytoken.so",
            "pam-jump",
        ),
        ("account  required     pam_nologin.so", "account [success=9 default=ignore] pam_nologin.so", "pam-jump"),
        ("account  required     pam_mytoken.so", "account [success=9 ignore=9 default=die] pam_mytoken.so", "pam-jump"),
        ("session  optional     pam_mytoken.so", "session [success=9 default=ignore] pam_mytoken.so", "pam-jump"),
        ("pam_loginuid.so", "pam_loginuid.so\nsession [success=40 default=ignore] pam_limits.so", "pam-jump"),
        ("account  required     pam_nologin.so", "account sufficient pam_permit.so", "pam-line-not-reached"),
        ("account  required     pam_nologin.so", "account [default=1] pam_nologin.so", "pam-line-not-reached"),
        (
            "session  optional     pam_mytoken.so",
            "session [default=1] pam_permit.so\nsession optional pam_mytoken.so",
            "pam-line-not-reached",
        ),
        (
            &format!("auth     {ours}")[..],
            &format!("auth [default=1] pam_env.so\nauth {ours}")[..],
            "pam-line-not-reached",
        ),
        (
            &format!("auth     {ours}")[..],
            &format!("auth [success=2 default=ignore] pam_unix.so\nauth {ours}")[..],
            "pam-password-first",
        ),
        ("@include common-password", "@include sshd", "pam-line"),
        ("account  required     pam_mytoken.so", "account required pam_mytoken.so dbug", "pam-argument"),
        (ours, &format!("{ours} services=su,login")[..], "pam-service"),
        (ours, &format!("{ours} services=su,sshd")[..], ""),
        ("account  required     pam_mytoken.so", "account required pam_mytoken.so config=/srv", "pam-configuration"),
        ("session  optional     pam_mytoken.so", "session optional pam_mytoken.so services=", "pam-argument"),
        // Not in the way.
        ("session  optional     pam_keyinit.so", "session optional pam_nosuch.so", ""),
        ("account  required     pam_nologin.so", "account sufficient pam_usertype.so issystem", ""),
        // For some logins, or with another credential, they end the stack before our line. For others they do not.
        ("account  required     pam_nologin.so", "account sufficient pam_localuser.so", ""),
        ("account  required     pam_nologin.so", "account [success=1 default=ignore] pam_access.so", ""),
        (ours, &before("sufficient pam_radius_auth.so")[..], ""),
        (ours, &before("requisite pam_radius_auth.so")[..], ""),
        (ours, &before("sufficient pam_env.so")[..], ""),
        (ours, &before("sufficient pam_permit.so")[..], "pam-login-without-token"),
        (ours, &before("sufficient pam_rootok.so")[..], "pam-login-without-token"),
        (ours, &before("requisite pam_deny.so")[..], "pam-line-not-reached"),
        (ours, &before("required pam_motd.so")[..], "pam-accepted-token-refused"),
        (ours, &before("sufficient pam_succeed_if.so user ingroup wheel")[..], "pam-login-without-token"),
    ] {
        let found = found_in("/etc/pam.d", from, to);
        let ids: Vec<&str> = found.iter().filter_map(|finding| finding.id.as_deref()).collect();
        assert_eq!(ids, Vec::from_iter((!id.is_empty()).then_some(id)), "{to}");
        assert!(found.iter().all(|finding| finding.fix.is_some()), "{found:?}");
    }
}

/// The line to which it is due can be in another file than ours.
#[test]
fn the_line_that_opens_or_closes_a_stack_is_named_and_opened() {
    let includes = "@include common-auth\n@include common-account\n@include common-session\n";
    let auth = "/etc/pam.d/common-auth:2";
    let account = "/etc/pam.d/common-account:5";
    let past = format!("without a token: libpam does not come to pam_mytoken.so in {auth}");
    for (first, id, text) in [
        ("auth sufficient pam_permit.so", "pam-login-without-token", format!("pam_permit.so lets everybody in {past}")),
        (
            "auth [success=4 default=ignore] pam_shells.so",
            "pam-login-without-token",
            format!("pam_shells.so lets everybody in {past}"),
        ),
        (
            "auth sufficient pam_access.so",
            "pam-login-without-token",
            format!("pam_access.so lets some people in {past}"),
        ),
        (
            "auth required pam_deny.so",
            "pam-accepted-token-refused",
            "pam_deny.so in /etc/pam.d/sshd:1 refuses it".to_owned(),
        ),
        (
            "auth required pam_motd.so",
            "pam-accepted-token-refused",
            "pam_motd.so in /etc/pam.d/sshd:1 refuses it".to_owned(),
        ),
        (
            "auth requisite pam_deny.so",
            "pam-line-not-reached",
            format!(
                "{auth}: libpam never comes to this line of the auth stack after pam_deny.so in /etc/pam.d/sshd:1:"
            ),
        ),
        (
            "auth [default=2] pam_env.so",
            "pam-line-not-reached",
            format!("{auth}: libpam never comes to this line of the auth stack after pam_env.so in /etc/pam.d/sshd:1:"),
        ),
        (
            "account required pam_deny.so",
            "pam-accepted-token-refused",
            "pam_deny.so in /etc/pam.d/sshd:1 refuses it".to_owned(),
        ),
        (
            "account sufficient pam_permit.so",
            "pam-line-not-reached",
            format!(
                "{account}: libpam never comes to this line of the account stack after pam_permit.so in /etc/pam.d/sshd:1:"
            ),
        ),
        (
            "session sufficient pam_permit.so",
            "pam-line-not-reached",
            "/etc/pam.d/common-session:7: libpam never comes to this line of the session stack after pam_permit.so"
                .to_owned(),
        ),
    ] {
        let found = found_of(managed(Some(&format!("{first}\n{includes}"))));
        let [finding] = &found[..] else { panic!("{first}: {found:?}") };
        assert_eq!(finding.id.as_deref(), Some(id), "{first}: {finding:?}");
        assert!(finding.text.contains(&text), "{first}: {}", finding.text);
        assert!(
            id != "pam-login-without-token" || finding.text.starts_with("/etc/pam.d/sshd:1: "),
            "{first}: {}",
            finding.text
        );
        assert_eq!(finding.fix.as_deref(), Some("${EDITOR:-vi} +1 /etc/pam.d/sshd"), "{first}");
    }
    // Behind our line, in another file: the fallback of pam-auth-update is not reached then.
    let mut files = managed(Some(
        "@include common-auth\nauth required pam_permit.so\n@include common-account\n@include common-session\n",
    ));
    let ours = "auth [success=done user_unknown=ignore default=die] pam_mytoken.so services=sshd\n";
    files.insert("/etc/pam.d/common-auth".into(), ours.to_owned());
    let found = found_of(files.clone());
    let open = "no later line asks for another credential; pam_permit.so in /etc/pam.d/sshd:2 lets it in";
    assert!(found.len() == 1 && found[0].text.ends_with(open), "{found:?}");
    assert_eq!(found[0].fix.as_deref(), Some("${EDITOR:-vi} +2 /etc/pam.d/sshd"));
    let required = ours.replace("success=done", "success=ok");
    files.insert("/etc/pam.d/common-auth".into(), required);
    let sshd = files.get_mut(Path::new("/etc/pam.d/sshd")).unwrap();
    *sshd = sshd.replace("pam_permit", "pam_deny");
    let found = found_of(files.clone());
    assert!(
        found.len() == 1 && found[0].text.ends_with("asks for more, pam_deny.so in /etc/pam.d/sshd:2"),
        "{found:?}"
    );
    assert_eq!(found[0].fix.as_deref(), Some("${EDITOR:-vi} +2 /etc/pam.d/sshd"));
    files.insert("/etc/pam.d/common-auth".into(), ours.replace("success=done", "success=bad"));
    *files.get_mut(Path::new("/etc/pam.d/sshd")).unwrap() = includes.to_owned();
    let found = found_of(files);
    assert!(found.len() == 1 && found[0].text.ends_with("the control field of this line does not let it"), "{found:?}");
    assert_eq!(found[0].fix.as_deref(), Some("${EDITOR:-vi} +1 /etc/pam.d/common-auth"));
}

#[test]
fn a_stack_without_our_line_that_asks_for_nothing_is_told_as_open() {
    let ids = |auth: &str| {
        let found = found_of(managed(Some(&format!("{auth}@include common-account\n@include common-session\n"))));
        found.into_iter().map(|finding| format!("{} {}", finding.id.unwrap(), finding.text)).collect::<Vec<_>>()
    };
    let open = ids("auth required pam_shells.so\nauth sufficient pam_permit.so\nauth required pam_unix.so\n");
    assert!(open.len() == 2 && open[0].starts_with("pam-auth-missing "), "{open:?}");
    assert_eq!(open[1], "pam-login-without-token /etc/pam.d/sshd:2: pam_permit.so lets everybody in without a token");
    for closed in ["auth required pam_unix.so\n", "auth sufficient pam_radius_auth.so\nauth requisite pam_deny.so\n"] {
        assert_eq!(ids(closed).len(), 1, "{closed}");
    }
    // Who calls su is root for it, and not for sshd.
    let su = format!("auth sufficient pam_rootok.so\n{}", &managed(None)[Path::new("/etc/pam.d/other")]);
    let mut files: HashMap<_, _> =
        managed(None).into_iter().map(|(path, text)| (path, text.replace("sshd", "su"))).collect();
    files.insert("/etc/pam.d/su".into(), su);
    let mut findings = Findings::default();
    findings.pam(&Files(files), "su", Path::new(DIRECTORY), Some(&["su".to_owned()]));
    assert_eq!(findings.problems().count(), 0, "{findings:?}");
}

/// The line that goes with it, which is a condition, stays.
#[test]
fn a_line_that_is_missing_in_what_pam_auth_update_writes_comes_back_with_it() {
    let includes = "@include common-auth\n@include common-account\n@include common-session\n";
    for (group, place) in [("auth", None), ("account", Some(4)), ("session", Some(6))] {
        let mut files = managed(Some(includes));
        let text = files.get_mut(Path::new(&format!("/etc/pam.d/common-{group}"))).unwrap();
        *text = text.lines().filter(|line| !line.contains("pam_mytoken")).map(|line| format!("{line}\n")).collect();
        let found = found_of(files.clone());
        let [finding] = &found[..] else { panic!("{group}: {found:?}") };
        assert_eq!(finding.id, Some(format!("pam-{group}-missing")), "{finding:?}");
        assert_eq!(finding.fix.as_deref(), Some("pam-auth-update --enable mytoken mytoken-session"), "{group}");
        let left =
            place.map(|line| format!("; /etc/pam.d/common-{group}:{line} is there without the line that it is for: "));
        assert_eq!(finding.text.contains("is there without"), left.is_some(), "{finding:?}");
        assert!(finding.text.contains(&left.unwrap_or_default()), "{finding:?}");
        // A stack of another service that fails of itself.
        for (_, text) in files.iter_mut() {
            *text = text.replace("service = sshd", "service = login");
        }
        let found = found_of(files);
        assert_eq!(found.iter().any(|finding| finding.id.as_deref() == Some("pam-jump")), place.is_some(), "{found:?}");
    }
}
