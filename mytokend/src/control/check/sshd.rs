// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about sshd's effective configuration.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use mytoken_login::LoginSettings;

use super::Findings;
use super::host::{Host, Ran};
use super::kinds::{self, Kind};
use super::package_tool::PackageTool;

/// sshd must be started by its path; Debian, Red Hat and SUSE have it here.
const SSHD: &str = "/usr/sbin/sshd";

/// Where our settings for sshd are, and what Debian's package links there.
const DROP_IN: &str = "/etc/ssh/sshd_config.d/10-mytoken.conf";
const MAIN: &str = "/etc/ssh/sshd_config";
const SHIPPED: &str = "/usr/share/mytoken/sshd.conf";

/// The methods that reach PAM's prompts.
const TOKEN_METHODS: [&str; 2] = ["keyboard-interactive", "keyboard-interactive:pam"];

/// What a person needs to paste a token.
const PERSON: Duration = Duration::from_secs(30);

impl Findings {
    /// Checks what sshd would do for `user`, or for everybody.
    pub(super) fn sshd(&mut self, host: &dyn Host, user: Option<&str>, login: &LoginSettings) {
        let text = match effective(host, user) {
            Ran::Output(text) => text,
            Ran::Missing => {
                return self.add_kind(kinds::SSHD_MISSING, format!("there is no {SSHD}: no login over ssh is checked"));
            }
            Ran::Failed(reason) => {
                let first = reason.lines().next().unwrap_or("it gave no reason").to_owned();
                return self
                    .add_kind(kinds::SSHD_CONFIGURATION, format!("sshd does not accept its configuration: {first}"));
            }
        };
        let before = self.findings.len();
        let sshd = Effective::parse(&text);
        self.effective(host, &sshd, login.deadline.get());
        self.root(&sshd, login);
        if self.findings.len() == before {
            let whom = user.map_or_else(|| "everybody".to_owned(), |user| format!("\"{user}\""));
            self.ok("sshd", format!("its configuration lets {whom} answer the token prompt"));
        }
    }

    /// sshd refuses root's tokens unless `PermitRootLogin` is `yes`.
    fn root(&mut self, sshd: &Effective, login: &LoginSettings) {
        let has_root = |names: &[String]| names.iter().any(|name| name == "root");
        let (allowed, denied) = (has_root(&login.accounts.allow_system), has_root(&login.accounts.deny));
        if let Some(value) = sshd.get("permitrootlogin").filter(|value| allowed && !denied && *value != "yes") {
            let text = format!("login.toml lets tokens open root, but PermitRootLogin is {value}: sshd refuses them");
            self.add_kind(kinds::SSHD_ROOT, text);
        }
    }

    /// Adds the finding about a setting that the product's sshd.conf has. `keyword`: a regular expression.
    fn setting(&mut self, host: &dyn Host, kind: Kind, text: &str, keyword: &str) {
        let debian = self.package_tool == PackageTool::Apt;
        let main = host.read(Path::new(MAIN)).unwrap_or_default().to_ascii_lowercase();
        let included =
            main.lines().any(|line| line.trim_start().starts_with("include") && line.contains("/sshd_config.d/"));
        let fix = if host.exists(Path::new(DROP_IN)) && debian && !main.is_empty() && !included {
            format!("sed -i '1i Include /etc/ssh/sshd_config.d/*.conf' {MAIN} && sshd -t && systemctl reload ssh")
        } else if host.exists(Path::new(DROP_IN)) {
            lines(keyword)
        } else if host.exists(Path::new(SHIPPED)) && debian {
            // The package is here, and somebody has removed its link.
            format!("ln -s {SHIPPED} {DROP_IN} && sshd -t && systemctl reload ssh")
        } else {
            self.package_tool.fix(kind).into_owned()
        };
        self.add_fixed(kind, text, fix);
    }

    fn effective(&mut self, host: &dyn Host, sshd: &Effective, deadline: Duration) {
        if sshd.is("usepam", "no") {
            self.setting(host, kinds::SSHD_USE_PAM, "UsePAM is off: sshd asks no PAM module", "usepam");
        }
        if sshd.is("kbdinteractiveauthentication", "no") {
            let text = "KbdInteractiveAuthentication is off: nobody is asked for a token";
            self.setting(host, kinds::SSHD_KEYBOARD_INTERACTIVE, text, "kbdinteractive|challengeresponse");
        }
        // Lists of methods that must all succeed; one list without keyboard-interactive leaves tokens out.
        let methods = sshd.get("authenticationmethods").unwrap_or("any");
        if methods != "any"
            && !methods.split_whitespace().any(|list| list.split(',').any(|method| TOKEN_METHODS.contains(&method)))
        {
            let text = format!("AuthenticationMethods is \"{methods}\": keyboard-interactive is not among them");
            self.add_kind(kinds::SSHD_METHODS, text);
        }
        if sshd.is("passwordauthentication", "yes") {
            let text = "PasswordAuthentication is on: unix passwords reach pam_mytoken, and one of 8 letters is sent to the mytoken server";
            self.setting(host, kinds::SSHD_PASSWORD, text, "passwordauth");
        }
        // 0: no limit.
        let grace = sshd.get("logingracetime").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        if let Some(grace) = grace.filter(|grace| !grace.is_zero() && *grace < deadline + PERSON) {
            let text = format!(
                "LoginGraceTime is {} s: too short for a deadline of {} s and a person who pastes a token",
                grace.as_secs(),
                deadline.as_secs()
            );
            self.add_kind(kinds::SSHD_GRACE_TIME, text);
        }
        // SSH-11: from this many connections that wait for their login, sshd drops new ones, with keys as well.
        let begin = sshd.get("maxstartups").and_then(|value| value.split(':').next()?.parse::<u32>().ok());
        if let Some(begin) = begin.filter(|begin| *begin < 30) {
            let text = format!("MaxStartups begins at {begin}: that many people at the token prompt shut others out");
            self.setting(host, kinds::SSHD_MAX_STARTUPS, &text, "maxstartups");
        }
        // SSH-12.
        if sshd
            .get("persourcepenalties")
            .is_some_and(|penalties| penalties.split_whitespace().any(|class| class == "authfail:5"))
        {
            let text = "PerSourcePenalties is as shipped: four refused logins shut an address out, which matters where many people share one";
            self.add_kind(kinds::SSHD_PENALTIES, text);
        }
    }
}

/// The command that shows the lines of a keyword in the order in which sshd reads them.
fn lines(keyword: &str) -> String {
    let counts = if keyword == "maxstartups" { "before OpenSSH 10.6 the last" } else { "the first" };
    format!(
        "grep -inE '^[^#]*({keyword}|include)' {MAIN} /etc/ssh/sshd_config.d/*.conf   # {counts} line counts, in included files where they are included; then reload sshd"
    )
}

/// The output of `sshd -T`, for a login of `user` from this host, or for everybody.
fn effective(host: &dyn Host, user: Option<&str>) -> Ran {
    let run = |arguments: &[&str]| host.run(Path::new(SSHD), arguments);
    let at = |port: &str| {
        let user = user.map(|user| format!("user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,"));
        run(&["-T", "-C", &format!("{}lport={port}", user.unwrap_or_default())])
    };
    if user.is_none() {
        match run(&["-T"]) {
            // OpenSSH 9.2 to 10.6 show a configuration with `Match LocalPort` for a connection to a port only.
            Ran::Failed(reason) if reason.contains("'lport' not in connection test specification") => {}
            other => return other,
        }
    }
    let first = at("22");
    match &first {
        Ran::Output(text) => match Effective::parse(text).get("port") {
            Some(port) if port != "22" => at(port),
            _ => first,
        },
        _ => first,
    }
}

/// The output of `sshd -T`: a keyword in small letters and its value on each line.
struct Effective(HashMap<String, String>);

impl Effective {
    fn parse(text: &str) -> Self {
        let mut values = HashMap::new();
        for (keyword, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            // OpenSSH prints each list of AuthenticationMethods on one line, other repeated keywords on several.
            values.entry(keyword.to_ascii_lowercase()).or_insert_with(|| value.trim().to_owned());
        }
        Self(values)
    }

    fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str)
    }

    fn is(&self, keyword: &str, value: &str) -> bool {
        self.get(keyword) == Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Sshd(Ran);

    /// A host with these files, whose sshd listens at port 2222 and has a block for a local port.
    struct WithMatch(&'static [&'static str], RefCell<Vec<String>>);

    impl Host for WithMatch {
        fn read(&self, _path: &Path) -> Option<String> {
            None
        }
        fn exists(&self, path: &Path) -> bool {
            self.0.iter().any(|file| path == Path::new(file))
        }
        fn run(&self, _program: &Path, arguments: &[&str]) -> Ran {
            self.1.borrow_mut().push(arguments.join(" "));
            if arguments.last().is_some_and(|last| last.contains("lport=")) {
                return Ran::Output(format!("port 2222\n{}", HEALTHY.replace("tication no", "tication yes")));
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
            let host = WithMatch(&[], RefCell::default());
            assert!(matches!(effective(&host, user), Ran::Output(_)));
            assert_eq!(host.1.into_inner(), asked);
        }
    }

    #[test]
    fn the_command_is_one_that_can_help_on_this_host() {
        for (files, begin) in [
            (&[][..], "apt install mytoken-sshd-config && "),
            (&[SHIPPED][..], "ln -s /usr/share/mytoken/sshd.conf /etc/ssh/sshd_config.d/10-mytoken.conf && "),
            (&[SHIPPED, DROP_IN][..], "grep -inE '^[^#]*(passwordauth|include)' "),
        ] {
            let mut findings = Findings::default();
            findings.sshd(&WithMatch(files, RefCell::default()), None, &toml::from_str("").unwrap());
            let fix = findings.problems().next().unwrap().fix.clone().unwrap();
            assert!(fix.starts_with(begin), "{files:?}: {fix}");
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

    const HEALTHY: &str = "usepam yes\nkbdinteractiveauthentication yes\npasswordauthentication no\nauthenticationmethods any\n\
                           logingracetime 120\nmaxstartups 100:30:200\npermitrootlogin without-password\n";

    fn found(ran: Ran) -> Vec<String> {
        found_with(ran, "deadline = '20s'")
    }

    fn found_with(ran: Ran, login: &str) -> Vec<String> {
        let mut findings = Findings::default();
        findings.sshd(&Sshd(ran), Some("alice"), &toml::from_str(login).unwrap());
        findings.findings.into_iter().filter_map(|finding| finding.id).filter(|id| id != "sshd-ok").collect()
    }

    #[test]
    fn each_setting_that_keeps_tokens_out_is_found_alone() {
        assert_eq!(found(Ran::Output(HEALTHY.into())), Vec::<String>::new());
        for (from, to, id) in [
            ("usepam yes", "usepam no", "sshd-use-pam"),
            ("kbdinteractiveauthentication yes", "kbdinteractiveauthentication no", "sshd-keyboard-interactive"),
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
        ] {
            assert_eq!(found(Ran::Output(HEALTHY.replace(from, to))), [id], "{to}");
        }
        let two_steps = HEALTHY.replace("methods any", "methods publickey,keyboard-interactive publickey,password");
        assert_eq!(found(Ran::Output(two_steps)), Vec::<String>::new());
        assert_eq!(found(Ran::Output(HEALTHY.replace("time 120", "time 0"))), Vec::<String>::new());
        assert_eq!(found(Ran::Failed("line 3: Bad configuration option".into())), ["sshd-configuration"]);
        assert_eq!(found(Ran::Missing), ["sshd-missing"]);
    }

    #[test]
    fn root_needs_both_configurations() {
        let open = "[accounts]\nallow_system = ['root']\ndeny = []\n";
        let (keys, all) = (Ran::Output(HEALTHY.into()), HEALTHY.replace("login without-password", "login yes"));
        assert_eq!(found_with(keys.clone(), open), ["sshd-permit-root-login"]);
        assert_eq!(found_with(Ran::Output(all), open), Vec::<String>::new());
        assert_eq!(
            found_with(keys, "[accounts]\nallow_system = ['root']\n"),
            Vec::<String>::new(),
            "denied by default"
        );
    }
}
