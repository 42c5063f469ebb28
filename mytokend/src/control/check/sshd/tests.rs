// SPDX-License-Identifier: MIT OR Apache-2.0

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::host::Person;
use super::super::nss::NoAnswer;
use super::files::MAIN;
use super::*;

struct Sshd(Ran);

/// A host with files, and an sshd that answers by its arguments.
#[derive(Default)]
pub(super) struct Site {
    files: HashMap<PathBuf, String>,
    /// When paths were changed.
    pub times: HashMap<PathBuf, u64>,
    /// What is in the arguments, and the answer; the first one counts.
    pub answers: Vec<(&'static str, String)>,
    /// The shell of its accounts, if it is another one than /bin/sh.
    pub shell: Option<&'static str>,
}

impl Site {
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        Self { files, ..Self::default() }
    }
}

impl Host for Site {
    fn read(&self, path: &Path) -> Option<String> {
        self.files.get(path).cloned()
    }
    fn exists(&self, path: &Path) -> bool {
        self.files.keys().any(|file| file.starts_with(path))
    }
    fn run(&self, _program: &Path, arguments: &[&str]) -> Ran {
        let arguments = arguments.join(" ");
        let answer = self.answers.iter().find(|(part, _)| arguments.contains(part));
        answer.map_or(Ran::Missing, |(_, text)| Ran::Output(text.clone()))
    }
    fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
        let pattern = glob::Pattern::new(pattern.to_str().unwrap()).unwrap();
        self.files.keys().filter(|file| pattern.matches_path(file)).cloned().collect()
    }
    fn last_change(&self, path: &Path) -> Option<SystemTime> {
        self.times.get(path).map(|seconds| UNIX_EPOCH + Duration::from_secs(*seconds))
    }
    fn person(&self, name: &str) -> Result<Option<Person>, NoAnswer> {
        let uid = match name {
            "alice" => 2_001,
            "bob" => 2_002,
            "dora" => 2_003,
            "daemon" => 2,
            "away" => return Err(NoAnswer("the look-up did not answer".to_owned())),
            _ => return Ok(None),
        };
        let shell = self.shell.unwrap_or("/bin/sh").into();
        Ok(Some(Person { uid, gid: uid, shell }))
    }
    /// The groups of dora cannot be looked up.
    fn groups(&self, name: &str, _gid: u32) -> Result<Vec<String>, NoAnswer> {
        let groups: &[&str] = match name {
            "alice" => &["staff", "hpc"],
            "bob" => &["users"],
            "dora" => return Err(NoAnswer("the look-up did not answer".to_owned())),
            _ => &[],
        };
        Ok(groups.iter().map(ToString::to_string).collect())
    }
    fn has_group(&self, name: &str) -> bool {
        name == "hpc"
    }
    fn addresses(&self) -> Vec<IpAddr> {
        ["10.9.0.5", "2001:db8::5"].map(|address| address.parse().unwrap()).to_vec()
    }
    fn member(&self, group: &str) -> Option<String> {
        (group == "hpc").then(|| "carol".to_owned())
    }
}

/// Levels, ids and texts, without what works.
pub(super) fn shown(findings: &Findings) -> Vec<String> {
    let of_interest = findings.findings.iter().filter(|finding| finding.id.as_deref() != Some("sshd-ok"));
    of_interest
        .map(|finding| format!("{:?} {}: {}", finding.level, finding.id.as_deref().unwrap(), finding.text))
        .collect()
}

pub(super) const TEMPLATE: &str = "[[rule]]\nname = 'r'\nissuer = 'op'\ntemplate = '{sub}'\n";

#[test]
fn blocks_for_addresses_are_asked_for_and_told() {
    let off = HEALTHY.replace("kbdinteractiveauthentication yes", "kbdinteractiveauthentication no");
    let config = "Match Address 10.0.0.0/8\n KbdInteractiveAuthentication no\nMatch LocalPort 2222\n";
    let found = |config: &str, of_block: &str, general: &str| {
        let mut site = Site::of(&[(MAIN, config)]);
        site.answers = vec![("addr=10.0.0.1,", of_block.to_owned()), ("-T", general.to_owned())];
        let mut findings = Findings::default();
        findings.sshd(&site, None, Some(&toml::from_str(TEMPLATE).unwrap()), &[]);
        shown(&findings)
    };
    assert_eq!(
        found(config, &off, HEALTHY),
        ["Warning sshd-match: /etc/ssh/sshd_config:1: it differs for \"Match address 10.0.0.0/8\": \
          KbdInteractiveAuthentication is off: nobody is asked for a token"]
    );
    assert_eq!(
        found(config, HEALTHY, &off),
        ["Warning sshd-keyboard-interactive: KbdInteractiveAuthentication is off: nobody is asked for a token. \
          It differs for \"Match address 10.0.0.0/8\" (/etc/ssh/sshd_config:1)"]
    );
    assert_eq!(found(config, HEALTHY, HEALTHY), [""; 0]);
    assert_eq!(
        found(config, &off, &off),
        ["Error sshd-keyboard-interactive: KbdInteractiveAuthentication is off: nobody is asked for a token"]
    );
    assert_eq!(found("Match User alice\n", &off, HEALTHY), [""; 0]);
}

#[test]
fn blocks_for_this_hosts_end_are_asked_for_where_sshd_listens() {
    let off = HEALTHY.replace("kbdinteractiveauthentication yes", "kbdinteractiveauthentication no");
    let listens = "port 22\nport 2222\nlistenaddress 0.0.0.0:22\nlistenaddress 0.0.0.0:2222\n";
    let found = |config: &str, elsewhere: (&'static str, &str), general: &str| {
        let mut site = Site::of(&[(MAIN, config)]);
        site.answers = vec![(elsewhere.0, elsewhere.1.to_owned()), ("-T", format!("{listens}{general}"))];
        let mut findings = Findings::default();
        findings.sshd(&site, None, Some(&toml::from_str(TEMPLATE).unwrap()), &[]);
        shown(&findings)
    };
    let reason = "KbdInteractiveAuthentication is off: nobody is asked for a token";
    for (block, asked) in [
        ("localport 2222", "-T -C laddr=10.9.0.5,lport=2222"),
        ("localaddress 10.0.0.0/8", "-T -C laddr=10.9.0.5,lport=22"),
    ] {
        let config = format!("Match {block}\n KbdInteractiveAuthentication no\n");
        assert_eq!(
            found(&config, (asked, &off), HEALTHY),
            [format!("Warning sshd-match: /etc/ssh/sshd_config:1: it differs for \"Match {block}\": {reason}")]
        );
        assert_eq!(
            found(&config, (asked, HEALTHY), &off),
            [format!(
                "Warning sshd-keyboard-interactive: {reason}. \
                 It differs for \"Match {block}\" (/etc/ssh/sshd_config:1)"
            )]
        );
    }
    // sshd does not listen there.
    for block in ["LocalPort 2022", "LocalAddress 192.0.2.0/24", "RDomain vrf-a"] {
        assert_eq!(found(&format!("Match {block}\n"), ("lport=2022", &off), HEALTHY), [""; 0], "{block}");
    }
    // The block is for the first port.
    assert_eq!(
        found("Match LocalPort 22\n", ("lport=2222", HEALTHY), &off),
        [format!("Warning sshd-keyboard-interactive: {reason}. It differs at port 2222")]
    );
    assert_eq!(
        found("Match LocalPort 22\n", ("lport=2222", &off), HEALTHY),
        [format!("Warning sshd-match: it differs at port 2222: {reason}")]
    );
}

#[test]
fn blocks_for_which_sshd_was_not_asked_are_told() {
    for (count, told) in [(MOST_BLOCKS, false), (MOST_BLOCKS + 1, true)] {
        let config = "Match Address 10.0.0.0/8\n".repeat(count);
        let mut site = Site::of(&[(MAIN, &config)]);
        site.answers = vec![("-T", HEALTHY.to_owned())];
        let mut findings = Findings::default();
        findings.sshd(&site, None, Some(&toml::from_str(TEMPLATE).unwrap()), &[]);
        assert_eq!(findings.render().contains("the first 50 of 51 Match blocks"), told, "{count}");
    }
}

/// A host whose sshd listens at port 2222 and has a block for a local port.
struct WithMatch(RefCell<Vec<String>>);

impl Host for WithMatch {
    fn read(&self, _path: &Path) -> Option<String> {
        None
    }
    fn exists(&self, _path: &Path) -> bool {
        false
    }
    fn run(&self, _program: &Path, arguments: &[&str]) -> Ran {
        self.0.borrow_mut().push(arguments.join(" "));
        if arguments.last().is_some_and(|last| last.contains("lport=")) {
            return Ran::Output(format!("port 2222\n{HEALTHY}"));
        }
        Ran::Failed("'Match LocalPort' in configuration but 'lport' not in connection test specification.".into())
    }
}

#[test]
fn a_block_for_a_port_is_asked_for_the_port_of_this_sshd() {
    for (user, asked) in [
        (None, &["-T", "-T -C lport=22", "-T -C lport=2222"][..]),
        (
            Some("alice"),
            &[
                "-T -C user=alice,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22",
                "-T -C user=alice,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=2222",
            ],
        ),
    ] {
        let host = WithMatch(RefCell::default());
        assert!(matches!(effective(&host, user), Ran::Output(_)));
        assert_eq!(host.0.into_inner(), asked);
    }
}

impl Host for Sshd {
    fn read(&self, _path: &Path) -> Option<String> {
        None
    }
    fn exists(&self, _path: &Path) -> bool {
        false
    }
    fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
        self.0.clone()
    }
}

pub(super) const HEALTHY: &str = "usepam yes\nkbdinteractiveauthentication yes\npasswordauthentication no\nauthenticationmethods any\n\
                       logingracetime 120\nmaxstartups 100:30:200\npermitrootlogin without-password\n";

fn found(ran: Ran) -> Vec<String> {
    found_with(ran, "deadline = '20s'")
}

fn found_with(ran: Ran, login: &str) -> Vec<String> {
    let mut findings = Findings::default();
    findings.sshd(&Sshd(ran), Some("alice"), Some(&toml::from_str(login).unwrap()), &[]);
    findings.findings.into_iter().filter_map(|finding| finding.id).filter(|id| id != "sshd-ok").collect()
}

#[test]
fn each_setting_that_keeps_tokens_out_is_found_alone() {
    assert_eq!(found(Ran::Output(HEALTHY.into())), Vec::<String>::new());
    for (from, to, id) in [
        ("usepam yes", "usepam no", "sshd-use-pam"),
        ("kbdinteractiveauthentication yes", "kbdinteractiveauthentication no", "sshd-keyboard-interactive"),
        // OpenSSH 8.0 with the drop-in, and with the line of RHEL 8 below.
        ("usepam yes", "usepam yes\nchallengeresponseauthentication no", "sshd-keyboard-interactive"),
        ("passwordauthentication no", "passwordauthentication yes", "sshd-password"),
        ("authenticationmethods any", "authenticationmethods publickey", "sshd-authentication-methods"),
        (
            "authenticationmethods any",
            "authenticationmethods keyboard-interactive:bsdauth",
            "sshd-authentication-methods",
        ),
        ("logingracetime 120", "logingracetime 45", "sshd-login-grace-time"),
        ("maxstartups 100:30:200", "maxstartups 10:30:100", "sshd-max-startups"),
        ("usepam yes", "usepam yes\npersourcepenalties crash:90 authfail:5 noauth:1", "sshd-penalties"),
        ("usepam yes", "usepam yes\nPerSourcePenalties authfail:5.000000 noauth:1.000000", "sshd-penalties"),
    ] {
        assert_eq!(found(Ran::Output(HEALTHY.replace(from, to))), [id], "{to}");
    }
    let two_steps = HEALTHY.replace("methods any", "methods publickey,keyboard-interactive publickey,password");
    assert_eq!(found(Ran::Output(two_steps)), Vec::<String>::new());
    assert_eq!(found(Ran::Output(HEALTHY.replace("time 120", "time 0"))), Vec::<String>::new());
    assert_eq!(found(Ran::Failed("line 3: Bad configuration option".into())), ["sshd-configuration"]);
    assert_eq!(found(Ran::Missing), ["sshd-missing"]);
    for reason in [
        "Missing privilege separation directory: /run/sshd",
        "/run/sshd must be owned by root and not group or world-writable.",
    ] {
        assert_eq!(found(Ran::Failed(reason.into())), ["sshd-run-directory"]);
    }
    let mut findings = Findings::default();
    let reason = "line 1: Deprecated option UseLogin\r\nline 3: Bad configuration option: nosuch";
    let site = Site::of(&[(MAIN, "Include /etc/ssh/sshd_config.d/*.conf"), ("/etc/ssh/sshd_config.d/a.conf", "")]);
    let mut tell = |reason| findings.no_configuration(&site, reason, &Files::read(&site));
    tell(reason);
    tell("sshd: no hostkeys available -- exiting.");
    tell("Too many recursive configuration includes");
    assert!(findings.findings[0].text.ends_with("UseLogin; line 3: Bad configuration option: nosuch"), "{findings:?}");
    assert!(findings.findings[1].fix.as_ref().unwrap().starts_with("ssh-keygen -A "), "{findings:?}");
    let shows = "grep -inE 'include' /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf ";
    assert!(findings.findings[2].fix.as_ref().unwrap().starts_with(shows), "{findings:?}");
}

#[test]
fn a_login_with_a_link_needs_its_time() {
    let login =
        |accept: &str, time: u64| format!("[exchange]\nserver = 'm'\naccept = [{accept}]\n[link]\ntime = '{time}s'\n");
    let with =
        |grace: u64, login: &str| found_with(Ran::Output(HEALTHY.replace("time 120", &format!("time {grace}"))), login);
    // One request of 10 s, and the deadline of 20 s.
    assert_eq!(with(120, &login("'link'", 90)), Vec::<String>::new());
    assert_eq!(with(120, &login("'link'", 91)), ["sshd-link-time"]);
    assert_eq!(with(119, &login("'link'", 90)), ["sshd-link-time"]);
    assert_eq!(with(120, &format!("deadline = '30s'\n{}", login("'link'", 90))), ["sshd-link-time"]);
    assert_eq!(with(120, "[exchange]\nserver = 'm'\naccept = ['link']\n"), Vec::<String>::new(), "the defaults");
    assert_eq!(with(120, &login("'link'", 300)), ["sshd-link-time"]);
    assert_eq!(with(0, &login("'link'", 300)), Vec::<String>::new(), "no limit");
    assert_eq!(with(120, &login("'mytoken'", 300)), Vec::<String>::new(), "not accepted");
}

/// `sshd -t` says nothing about PAM, and with `UsePAM yes` its stacks can keep everybody out.
#[test]
fn pam_is_switched_on_after_its_stacks_are_right() {
    let off = HEALTHY.replace("usepam yes", "usepam no").replace("startups 100", "startups 10");
    let stack = "auth [success=done default=die] pam_mytoken.so\naccount required pam_mytoken.so\n\
                 session optional pam_mytoken.so\n";
    for (account, pam_first) in [("pam_mytoken.so", false), ("pam_nosuch.so", true)] {
        let stack = stack.replace("account required pam_mytoken.so", &format!("account required {account}"));
        let module = "/usr/lib64/security/pam_mytoken.so";
        let mut site = Site::of(&[(MAIN, "UsePAM no\n"), ("/etc/pam.d/sshd", stack.as_str()), (module, "")]);
        site.answers = vec![("-T", off.clone())];
        let mut findings = Findings::default();
        findings.sshd(&site, None, Some(&toml::from_str(TEMPLATE).unwrap()), &[]);
        let ids: Vec<&str> = findings.findings.iter().filter_map(|finding| finding.id.as_deref()).collect();
        assert_eq!(ids, ["sshd-use-pam", "sshd-max-startups"], "{findings:?}");
        for finding in &findings.findings {
            let fix = finding.fix.as_ref().unwrap();
            assert_eq!(fix.contains("# first the findings about PAM"), pam_first, "{fix}");
            assert_eq!(fix.contains("sed -i"), !pam_first, "{fix}");
            assert!(pam_first || fix.ends_with("keep a shell of root open until a login has worked"), "{fix}");
        }
    }
}

#[test]
fn root_needs_both_configurations() {
    let open = "[accounts]\nallow_system = ['root']\ndeny = []\n";
    let (keys, all) = (Ran::Output(HEALTHY.into()), HEALTHY.replace("login without-password", "login yes"));
    assert_eq!(found_with(keys.clone(), open), ["sshd-permit-root-login"]);
    assert_eq!(found_with(Ran::Output(all), open), Vec::<String>::new());
    assert_eq!(found_with(keys, "[accounts]\nallow_system = ['root']\n"), Vec::<String>::new(), "denied by default");
}
