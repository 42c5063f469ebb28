// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh doctor`: looks for what keeps logins with a token from working, and says what to do.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use mytoken::capabilities::AT;
use mytoken::time_format::validity;
use mytoken::token_store::StoredToken;
use mytoken::urls::ServerUrl;
use mytoken::{Clock, SystemClock};
use mytoken_wire::shell_word;
use serde::Serialize;

use crate::askpass::directory::PrivateDirectory;
use crate::command_line::{DoctorOptions, LoginTokenOptions};
use crate::error::Error;
use crate::login_token::by_account::{account_instead, lacks_mytoken};
use crate::login_token::{Form, LoginTokenRequest};
use crate::mytoken_sources::{Chosen, MytokenSource};
use crate::other_programs::oidc_agent::OidcAgent;
use crate::other_programs::{TokenSource, command};
use crate::output::{print, print_for_program};
use crate::printable::printable;
use crate::settings::HelperSettings;
use crate::ssh::installed;
use crate::ssh::resolution::{Configuration, configuration};
use crate::ssh::version::check_version;
use crate::ssh::wrapper::token_request;
use crate::status::server_check::{ServerCheck, State};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// It works.
    Ok,
    /// Some logins do not work.
    Warning,
    /// No login works.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    part: &'static str,
    level: Level,
    text: String,
    /// A command to run, or `null`.
    fix: Option<String>,
}

impl Finding {
    fn ok(part: &'static str, text: impl Into<String>) -> Self {
        Self { part, level: Level::Ok, text: text.into(), fix: None }
    }

    fn error(part: &'static str, error: &Error) -> Self {
        Self { part, level: Level::Error, text: error.to_string(), fix: None }
    }

    fn with_fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    fn warning(self) -> Self {
        Self { level: Level::Warning, ..self }
    }

    fn line(&self) -> String {
        let mark = match self.level {
            Level::Ok => '✓',
            Level::Warning => '!',
            Level::Error => '✗',
        };
        let fix = self.fix.as_ref().map(|fix| format!("{:10}fix: {fix}\n", "")).unwrap_or_default();
        format!("{:8}{mark} {}\n{fix}", self.part, self.text)
    }
}

/// The command that gets a new mytoken.
const LOGIN: &str = "mytoken-ssh login";

/// Looks at this machine, the mytoken servers and, if one is named, a host. The exit status is 1 with an error.
pub fn run(options: &DoctorOptions) -> Result<ExitCode, Error> {
    let mut findings = vec![ssh(), askpass()];
    match HelperSettings::load() {
        Ok(settings) => {
            let seen = stored(&settings, &mut findings);
            if let Some(host) = &options.host {
                host_findings(&settings, &seen, host, &mut findings);
            }
        }
        Err(error) => findings.push(Finding::error("config", &error)),
    }
    if options.json {
        print_for_program(&(serde_json::to_string(&findings).unwrap_or_default() + "\n"))?;
    } else {
        print(&findings.iter().map(Finding::line).collect::<String>());
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(if worst == Some(Level::Error) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn ssh() -> Finding {
    match installed::find("ssh").and_then(|ssh| check_version(ssh.as_os_str())) {
        Ok(version) => Finding::ok("ssh", version),
        Err(error) => Finding::error("ssh", &error),
    }
}

/// ssh runs this program again, by a link in a private directory.
fn askpass() -> Finding {
    let parent = |directory: &PrivateDirectory| directory.path().parent().map(Path::to_owned).unwrap_or_default();
    match PrivateDirectory::create().and_then(|directory| Ok((parent(&directory), directory.close()?))) {
        Ok((parent, ())) => Finding::ok("askpass", format!("its socket has a place in {}", parent.display())),
        Err(error) => {
            Finding::error("askpass", &error).with_fix("export TMPDIR=DIRECTORY   # one that you can write to")
        }
    }
}

/// A stored mytoken, and its server's time of day, Unix seconds.
struct Seen {
    entry: StoredToken,
    now: u64,
    /// Whether logins use it.
    is_used: bool,
}

/// Asks each server about the mytoken that is stored for it.
fn stored(settings: &HelperSettings, findings: &mut Vec<Finding>) -> Vec<Seen> {
    let read = || -> Result<_, Error> {
        let store = settings.existing_store()?;
        let entries = store.as_ref().map(|store| store.tokens()).transpose()?.unwrap_or_default();
        Ok(store.map(|store| (store, entries)))
    };
    let (store, entries) = match read() {
        Ok(Some((store, entries))) if !entries.is_empty() => (store, entries),
        Ok(_) => return lent(settings, findings).into_iter().collect(),
        Err(error) => {
            findings.push(Finding::error("mytoken", &error));
            return Vec::new();
        }
    };
    // Logins use that of this server, unless an option names another one.
    let chosen = Chosen::new(settings, None);
    let mut lent = None;
    let chosen = match chosen {
        Err(error) => {
            let fix = match error {
                Error::SeveralServers => "mytoken-ssh status   # its servers; or write server = into config.toml",
                _ => LOGIN,
            };
            findings.push(Finding::error("mytoken", &error).with_fix(fix));
            None
        }
        Ok(Chosen { mytokens: mytokens @ MytokenSource::Lent(_), server, told }) => {
            lent = asked(settings, &mytokens, &server, told.as_deref(), findings);
            None
        }
        Ok(Chosen { server, .. }) => {
            if entries.iter().all(|entry| entry.server != server) {
                let none = Error::NotLoggedIn { server: server.to_string() };
                findings.push(Finding::error("mytoken", &none).with_fix(LOGIN));
            }
            Some(server)
        }
    };
    let store = MytokenSource::Store(store);
    let look = |entry: StoredToken| {
        let check = ServerCheck::ask(settings, &store, &entry);
        let now = check.now.unwrap_or_else(|| SystemClock.now());
        let is_chosen = chosen.as_ref() == Some(&entry.server);
        for finding in of_server(&entry, &check, now) {
            let is_error = finding.level == Level::Error;
            findings.push(if is_error && !is_chosen { finding.warning() } else { finding });
        }
        Seen { entry, now, is_used: is_chosen }
    };
    entries.into_iter().map(look).chain(lent).collect()
}

/// Asks the server of the session's mytoken, if logins use that.
fn lent(settings: &HelperSettings, findings: &mut Vec<Finding>) -> Option<Seen> {
    match Chosen::new(settings, None) {
        Ok(Chosen { mytokens, server, told: Some(told) }) => asked(settings, &mytokens, &server, Some(&told), findings),
        Ok(Chosen { told: None, .. }) => {
            let none = Error::Usage("you have no mytoken".into());
            findings.push(Finding::error("mytoken", &none).with_fix(LOGIN));
            None
        }
        Err(error) => {
            findings.push(Finding::error("mytoken", &error).with_fix(LOGIN));
            None
        }
    }
}

fn asked(
    settings: &HelperSettings,
    mytokens: &MytokenSource,
    server: &ServerUrl,
    told: Option<&str>,
    findings: &mut Vec<Finding>,
) -> Option<Seen> {
    let entry = mytokens.token(server).ok().flatten()?;
    let check = ServerCheck::ask(settings, mytokens, &entry);
    let now = check.now.unwrap_or_else(|| SystemClock.now());
    findings.extend(told.map(|told| Finding::ok("mytoken", format!("logins go {told}"))));
    findings.extend(of_server(&entry, &check, now));
    Some(Seen { entry, now, is_used: true })
}

/// What a server says of the mytoken that is stored for it.
fn of_server(entry: &StoredToken, check: &ServerCheck, now: u64) -> Vec<Finding> {
    let name = printable(&entry.name);
    let error = |text: String| Finding::error("mytoken", &Error::Usage(text));
    let finding = match (&check.state, &check.reason) {
        (State::Valid, _) if !entry.capabilities.has(AT) => {
            error(format!("\"{name}\" of {} gives no access tokens: nobody can log in with it", entry.server))
                .with_fix(LOGIN)
        }
        (State::Valid, _) => {
            let life = validity(entry.expires_at, now);
            Finding::ok("mytoken", format!("{} accepts \"{name}\", {life}", entry.server))
        }
        (State::Refused, _) => {
            let text =
                format!("{} does not accept \"{name}\": revoked, replaced, expired or not valid yet", entry.server);
            error(text).with_fix(format!("{LOGIN} {}", entry.server))
        }
        (State::Unknown, reason) => error(format!("{}: {}", entry.server, reason.as_deref().unwrap_or_default())),
    };
    let clock = check.clock.iter().map(|clock| Finding::ok("clock", clock.as_str()).warning());
    std::iter::once(finding).chain(clock).collect()
}

/// What ssh's configuration and the stored mytoken mean for a host.
fn host_findings(settings: &HelperSettings, seen: &[Seen], host: &str, findings: &mut Vec<Finding>) {
    let found = installed::find("ssh").and_then(|ssh| configuration(ssh.as_os_str(), &vec![host.into()]));
    let configuration = match found {
        Ok(Some(configuration)) => configuration,
        Ok(None) => {
            let text = format!("{} is not the name of one host", printable(host));
            return findings.push(Finding::error("host", &Error::Usage(text)));
        }
        Err(error) => return findings.push(Finding::error("host", &error)),
    };
    findings.extend(of_configuration(&configuration, host, &|name, file| has_key(name, file)));
    // Without a mytoken that would be used, there is a finding already.
    let seen = seen.iter().find(|seen| seen.is_used);
    match of_other_source(settings, &configuration) {
        Some(finding) => {
            // Other hosts need it.
            let is_about_mytoken = |finding: &&mut Finding| finding.part == "mytoken" && finding.level == Level::Error;
            findings.iter_mut().filter(is_about_mytoken).for_each(|finding| finding.level = Level::Warning);
            findings.push(finding);
        }
        None => findings.extend(seen.and_then(|seen| token_for(settings, seen, &configuration))),
    }
}

/// Which token the host would get, if it is not of the user's mytoken. No token is made.
fn of_other_source(settings: &HelperSettings, ssh: &Configuration) -> Option<Finding> {
    let destination = ssh.destination()?;
    let mut request = token_request(settings, &LoginTokenOptions::default(), &destination);
    let who = format!("{}@{}", printable(&destination.account.user), printable(&destination.account.host));
    if request.source == TokenSource::Mytoken && lacks_mytoken(settings) {
        match account_instead(OidcAgent::named().as_ref(), &request) {
            Ok(account) => request.source = TokenSource::OidcAgent(account?),
            Err(error) => return Some(Finding::error("host", &error)),
        }
    }
    of_source(&who, &request, &OidcAgent::find)
}

fn of_source(who: &str, request: &LoginTokenRequest, agent: &dyn Fn() -> Result<OidcAgent, Error>) -> Option<Finding> {
    if let Err(error) = request.check_source() {
        return Some(Finding::error("host", &error));
    }
    let finding = match &request.source {
        TokenSource::Mytoken | TokenSource::Unclear(_) => return None,
        TokenSource::Command(words) => {
            let program = words.first().map(String::as_str).unwrap_or_default();
            let text = format!("{who} gets what {} prints", printable(program));
            match command::is_there(program) {
                true => Finding::ok("host", text),
                false => Finding::error("host", &Error::Usage(format!("{text}, and there is no such program"))),
            }
        }
        TokenSource::OidcAgent(account) => match agent().and_then(|agent| agent.accounts()) {
            Err(error) => Finding::error("host", &error),
            Ok(loaded) => of_account(who, account, request, &loaded),
        },
    };
    Some(finding)
}

/// `loaded`: the accounts that oidc-agent has.
fn of_account(who: &str, account: &str, request: &LoginTokenRequest, loaded: &[String]) -> Finding {
    let shown = printable(account);
    // Which account is one of a provider, only the agent knows.
    let is_provider = account.contains("://");
    if loaded.is_empty() || !(is_provider || loaded.iter().any(|one| one == account)) {
        let text = format!("{who} gets a token of {shown} from oidc-agent, which has not loaded it");
        let fix = if is_provider { "ACCOUNT   # one of this provider".to_owned() } else { shell_word(account) };
        return Finding::ok("host", text).warning().with_fix(format!("oidc-add {fix}"));
    }
    let scope = if request.scope.is_empty() { "all scopes of the account".into() } else { printable(&request.scope) };
    let of = if is_provider { format!("oidc-agent's account of {shown}") } else { format!("oidc-agent's {shown}") };
    let audience = printable(&request.audience);
    Finding::ok("host", format!("{who} gets an access token of {of} for {audience} with {scope}"))
}

/// What ssh's configuration means for a login. `has_key`: whether a file has a key of this name.
fn of_configuration(ssh: &Configuration, host: &str, has_key: &dyn Fn(&str, &str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shown = printable(host);
    if ssh.get("batchmode") == Some("yes") {
        let text = format!("BatchMode is on for {shown}: ssh asks for no token");
        let fix = format!("mytoken-ssh ssh -oBatchMode=no {shown}");
        findings.push(Finding::error("host", &Error::Usage(text)).with_fix(fix));
    }
    if let Some(jump) = ssh.get("proxyjump").filter(|jump| *jump != "none") {
        let text = format!("ssh goes through {}: if that asks for a token too, it asks you", printable(jump));
        findings.push(Finding::ok("host", text));
    }
    let files = ["userknownhostsfile", "globalknownhostsfile"].into_iter().filter_map(|key| ssh.get(key));
    let name = ssh.name_of_key();
    let is_known = files.flat_map(|list| list.split(' ')).any(|file| has_key(&name, file));
    // Keys can come from elsewhere.
    let from_elsewhere = ssh.get("knownhostscommand").is_some_and(|command| command != "none")
        || ssh.get("verifyhostkeydns").is_some_and(|answer| answer == "yes");
    if !is_known && !from_elsewhere {
        findings.push(unknown_key(&printable(&name), ssh.get("stricthostkeychecking"), &shown));
    }
    findings
}

/// What an unknown key means, as the helper starts ssh: that asks about it only where it would without the helper. `checking`:
/// `StrictHostKeyChecking`.
fn unknown_key(name: &str, checking: Option<&str>, host: &str) -> Finding {
    let unknown = format!("the host key of {name} is not known here");
    match checking.filter(|checking| *checking != "ask") {
        None => {
            let text = format!("{unknown}: at a terminal ssh asks you to compare it, elsewhere the login is refused");
            Finding::ok("host", text).warning().with_fix(format!("mytoken-ssh ssh {host}   # at a terminal"))
        }
        Some(checking) => {
            // As users write it.
            let checking = match checking {
                "true" => "yes".to_owned(),
                "false" => "no".to_owned(),
                other => printable(other),
            };
            let text = format!(
                "{unknown}, and the login is refused: with StrictHostKeyChecking {checking} nobody compares it"
            );
            let fix = format!("ssh -o StrictHostKeyChecking=ask {host}   # at a terminal; compare the key");
            Finding::error("host", &Error::Usage(text)).with_fix(fix)
        }
    }
}

/// Whether the file has a key for this name that is not revoked. A file that does not exist has none.
fn has_key(name: &str, file: &str) -> bool {
    let mut command = Command::new("ssh-keygen");
    command.args(["-F", name, "-f", file]).stdin(Stdio::null()).stderr(Stdio::null());
    let is_key = |line: &str| !line.starts_with('#') && !line.starts_with("@revoked") && !line.trim().is_empty();
    command.output().is_ok_and(|found| String::from_utf8_lossy(&found.stdout).lines().any(is_key))
}

/// Which token the host would get.
fn token_for(settings: &HelperSettings, seen: &Seen, ssh: &Configuration) -> Option<Finding> {
    let destination = ssh.destination()?;
    let request = token_request(settings, &LoginTokenOptions::default(), &destination);
    let who = format!("{}@{}", printable(&destination.account.user), printable(&destination.account.host));
    Some(match request.form(&seen.entry, seen.now) {
        Ok(Form::AccessToken { audience, .. }) => {
            Finding::ok("host", format!("{who} gets an access token for {}", printable(&audience)))
        }
        Ok(Form::Code) if request.code => {
            Finding::ok("host", format!("{who} gets a transfer code, as its [[host]] says"))
        }
        Ok(Form::Code) => {
            let text = format!("{who} gets a transfer code: your mytoken leaves its audience or scope open");
            Finding::ok("host", text)
        }
        Err(error) => Finding::error("host", &error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope_and_audience::tests::{NOW, stored};

    fn levels(findings: &[Finding]) -> Vec<(Level, &str)> {
        findings.iter().map(|finding| (finding.level, finding.text.as_str())).collect()
    }

    #[test]
    fn what_a_server_says_is_told_with_what_to_do() {
        let entry = stored(&["AT"], &serde_json::json!([]));
        let check = |state, reason: Option<&str>, clock: Option<&str>| ServerCheck {
            state,
            reason: reason.map(str::to_owned),
            clock: clock.map(str::to_owned),
            now: None,
        };
        let valid = of_server(&entry, &check(State::Valid, None, Some("this clock is 90 s behind")), NOW);
        assert_eq!(valid.iter().map(|one| one.level).collect::<Vec<_>>(), [Level::Ok, Level::Warning]);
        let [refused] = &of_server(&entry, &check(State::Refused, None, None), NOW)[..] else { panic!() };
        assert_eq!(
            (refused.level, refused.fix.as_deref()),
            (Level::Error, Some("mytoken-ssh login https://mt.example.org"))
        );
        let [unknown] = &of_server(&entry, &check(State::Unknown, Some("no answer"), None), NOW)[..] else { panic!() };
        assert_eq!(unknown.line(), "mytoken ✗ https://mt.example.org: no answer\n");
        let useless = stored(&["tokeninfo"], &serde_json::json!([]));
        assert_eq!(of_server(&useless, &check(State::Valid, None, None), NOW)[0].level, Level::Error);
    }

    #[test]
    fn where_a_token_comes_from_is_looked_at() {
        use crate::login_token::tests::request;
        use crate::other_programs::oidc_agent::tests::agent;

        let of = |source: TokenSource, audience: &str, loaded: Option<&[&str]>| {
            let request = LoginTokenRequest { source, audience: audience.into(), ..request(None) };
            let answer = serde_json::json!({"status": "success", "info": loaded.unwrap_or_default()}).to_string();
            let (agent, _dir, _served) = agent(&[&answer]);
            let found = || loaded.map(|_| agent.clone()).ok_or(Error::NoMytoken);
            of_source("a@h", &request, &found).map(|finding| (finding.level, finding.text, finding.fix))
        };
        let account = |name: &str| TokenSource::OidcAgent(name.into());
        let command = |program: &str| TokenSource::Command(vec![program.into()]);
        let url = "https://op";
        for (source, audience, loaded, level, told, fix) in [
            (
                account("c"),
                "x",
                Some(&["b", "c"][..]),
                Level::Ok,
                "of oidc-agent's c for x with all scopes of the account",
                None,
            ),
            (account("c"), "x", Some(&["b"]), Level::Warning, "has not loaded it", Some("oidc-add c")),
            (account(url), "x", Some(&["b"]), Level::Ok, "oidc-agent's account of https://op for x", None),
            (
                account(url),
                "x",
                Some(&[]),
                Level::Warning,
                "not loaded",
                Some("oidc-add ACCOUNT   # one of this provider"),
            ),
            (account("c"), "x", None, Level::Error, "no mytoken", None),
            (account("c"), "", Some(&["c"]), Level::Error, "need one audience", None),
            (command("sh"), "", None, Level::Ok, "a@h gets what sh prints", None),
            (command("no-such-program"), "", None, Level::Error, "there is no such program", None),
            (TokenSource::Unclear("two sources".into()), "x", None, Level::Error, "two sources", None),
        ] {
            let (found, text, line) = of(source.clone(), audience, loaded).unwrap();
            assert!(found == level && text.contains(told) && line.as_deref() == fix, "{source:?}: {text} {line:?}");
        }
        assert!(of(TokenSource::Mytoken, "x", None).is_none());
    }

    #[test]
    fn the_configuration_of_ssh_is_judged() {
        let of = |text: &str, known: bool| {
            let ssh = Configuration::new(format!("host tb\nuser alice\nhostname testbed\nport 22\n{text}"));
            let has_key = |name: &str, file: &str| known && (name, file) == ("testbed", "/home/alice/k2");
            let found = of_configuration(&ssh, "tb", &has_key);
            levels(&found).into_iter().map(|(level, text)| (level, text.to_owned())).collect::<Vec<_>>()
        };
        let files = "userknownhostsfile /home/alice/k1 /home/alice/k2\n";
        assert_eq!(of(files, true), []);
        let unknown = of(files, false);
        assert!(
            matches!(&unknown[..], [(Level::Warning, text)] if text.contains("host key of testbed")),
            "{unknown:?}"
        );
        let strict = of(&format!("{files}stricthostkeychecking accept-new\n"), false);
        assert!(matches!(&strict[..], [(Level::Error, text)] if text.contains("the login is refused")), "{strict:?}");
        assert_eq!(of("knownhostscommand /usr/bin/keys %H\n", false), []);
        assert_eq!(of("verifyhostkeydns yes\n", false), []);
        let batch = of(&format!("{files}batchmode yes\nproxyjump jump.example.org\n"), true);
        assert!(
            matches!(&batch[..], [(Level::Error, first), (Level::Ok, second)]
            if first.contains("asks for no token") && second.contains("through jump.example.org")),
            "{batch:?}"
        );
    }

    #[test]
    fn a_revoked_key_is_no_known_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0DJSnMN/VEUQX2WjVaLMKHzSfHnDoRxBzVPVQdXJmC";
        let has = |line: &str, name: &str| {
            std::fs::write(&file, format!("{line}\n")).unwrap();
            has_key(name, file.to_str().unwrap())
        };
        assert!(has(&format!("testbed {key}"), "testbed"));
        assert!(!has(&format!("testbed {key}"), "other") && !has("", "testbed"));
        assert!(!has(&format!("@revoked testbed {key}"), "testbed"));
        assert!(!has_key("testbed", "/no/such/file"));
    }

    #[test]
    fn the_name_of_a_host_key_is_that_of_known_hosts() {
        for (text, name) in [
            ("hostname testbed\nport 22\n", "testbed"),
            ("hostname testbed\nport 2222\n", "[testbed]:2222"),
            ("hostname testbed\nport 2222\nhostkeyalias cluster\n", "cluster"),
        ] {
            assert_eq!(Configuration::new(text.into()).name_of_key(), name);
        }
    }
}
