// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh add`: writes into hosts.toml which token a host gets.

use std::process::ExitCode;

use mytoken::http::{HttpClient, HttpSettings, Roots};
use mytoken::token_store::StoredToken;
use mytoken::urls::IssuerUrl;
use mytoken::{Clock, SystemClock};
use mytoken_wire::shell_word;

use super::offer::{self, Offer, is_word};
use super::{HostRule, HostRules, HostsFile, Sent, matches_pattern};
use crate::askpass::terminal::{PromptKind, TerminalReply, ask};
use crate::command_line::{AddOptions, LoginTokenOptions};
use crate::error::Error;
use crate::login_token::Form;
use crate::mytoken_sources::Chosen;
use crate::other_programs::TokenSource;
use crate::output::{print_line, tell};
use crate::printable::printable;
use crate::settings::HelperSettings;
use crate::ssh::installed;
use crate::ssh::resolution::{ResolvedDestination, resolve};
use crate::ssh::wrapper::token_request;

/// Adds a host, with the token that is named, or the one that the host asks for.
pub fn run(options: &AddOptions) -> Result<ExitCode, Error> {
    let settings = HelperSettings::load()?;
    let is_named = options.audience.is_some()
        || !options.scope.is_empty()
        || options.send.is_some()
        || options.oidc_agent.is_some();
    let destination = if is_pattern(&options.host)? { None } else { Some(destination(&options.host)?) };
    // As the user writes it: hosts with one HostName, behind different ports or jump hosts, are not one host.
    let pattern = destination.as_ref().map_or(&options.host, |destination| &destination.host_argument);
    let pattern = pattern.to_ascii_lowercase();
    let before = counting(&settings.hosts, &pattern, destination.as_ref()).cloned();
    let stored = chosen_mytoken(&settings, options.server.as_deref());
    let rule = if is_named {
        named(options, &pattern, before.as_ref())?
    } else {
        let issuer = options.issuer.as_deref().or(before.as_ref().and_then(provider_of_agent));
        let stored = stored.as_ref().ok().and_then(Option::as_ref);
        let offer = ask_host(options, issuer, &settings, stored, destination.as_ref())?;
        let rule = offered(&offer, &pattern, before.as_ref())?;
        let text = shown(&offer, &rule, &settings.hosts, before.as_ref(), stored);
        confirm(&text, options.yes)?;
        rule
    };
    let directory = settings.directory();
    let mut file = HostsFile::open(&directory)?;
    file.put(&rule)?;
    file.save()?;
    print_line(&format!("✓ {}: {}", printable(&rule.pattern), describe_rule(&rule)));
    if let Some(before) = before.filter(|before| !before.gives_as(&rule)) {
        print_line(&format!("  until now: {}", until_now(&before, &rule)));
    }
    let hosts = HostRules::load(settings.hosts.configured.clone(), &directory)?;
    let settings = settings.with_hosts(hosts);
    for warning in warnings(&settings, &rule, destination.as_ref(), &stored, SystemClock.now()) {
        tell(&format!("mytoken-ssh: {warning}"));
    }
    if destination.is_some() {
        print_line(&format!("Next:  mytoken-ssh ssh {}", shell_word(&options.host)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether it stands for several hosts. A pattern is compared with names of hosts, in which other letters cannot be.
fn is_pattern(host: &str) -> Result<bool, Error> {
    if !host.contains(['*', '?']) {
        return Ok(false);
    }
    let is_allowed = |letter: char| letter.is_alphanumeric() || ".-_:*?".contains(letter);
    if host.chars().all(is_allowed) {
        return Ok(true);
    }
    let text = format!(
        "{} is no pattern for names of hosts: those have letters, digits and .-_: beside * and ?",
        printable(host)
    );
    Err(Error::Usage(text))
}

pub(super) fn destination(host: &str) -> Result<ResolvedDestination, Error> {
    let ssh = installed::find("ssh")?;
    let not_one = || Error::Usage(format!("{} is not the name of one host", printable(host)));
    // An option of ssh is no host.
    if host.starts_with('-') {
        return Err(not_one());
    }
    resolve(ssh.as_os_str(), &vec![host.into()])?.ok_or_else(not_one)
}

/// The rule that counts now: for a host, or the one of a pattern itself.
fn counting<'a>(
    hosts: &'a HostRules,
    pattern: &str,
    destination: Option<&ResolvedDestination>,
) -> Option<&'a HostRule> {
    match destination {
        Some(destination) => hosts.rule([&destination.host_argument, &destination.hostname]),
        None => hosts.added.iter().find(|rule| rule.pattern.eq_ignore_ascii_case(pattern)),
    }
}

/// The mytoken that logins use, if there is one.
fn chosen_mytoken(settings: &HelperSettings, option: Option<&str>) -> Result<Option<StoredToken>, Error> {
    match Chosen::new(settings, option) {
        Ok(Chosen { mytokens, server, .. }) => Ok(mytokens.token(&server)?),
        Err(Error::NoMytoken | Error::NotLoggedIn { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The rule of the command line. What it does not name stays as it is: a token is never wider because of what somebody left out.
fn named(options: &AddOptions, pattern: &str, before: Option<&HostRule>) -> Result<HostRule, Error> {
    let scope = if options.scope.is_empty() { None } else { Some(options.scope.join(" ")) };
    let words = scope.iter().flat_map(|scope| scope.split(' ')).chain(options.audience.as_deref());
    if let Some(wrong) = words.into_iter().find(|word| !is_word(word)) {
        return Err(Error::Usage(format!("\"{}\" is no scope or audience", printable(wrong))));
    }
    let old = |value: fn(&HostRule) -> Option<String>| before.and_then(value);
    let rule = HostRule {
        pattern: pattern.to_owned(),
        scope: scope.or_else(|| old(|rule| rule.scope.clone())),
        audience: options.audience.clone().or_else(|| old(|rule| rule.audience.clone())),
        send: options.send.or_else(|| before.and_then(|rule| rule.send)),
        oidc_agent: options.oidc_agent.clone().or_else(|| old(|rule| rule.oidc_agent.clone())),
        command: before.and_then(|rule| rule.command.clone()).filter(|_| options.oidc_agent.is_none()),
    };
    match rule.source() {
        TokenSource::Unclear(why) => Err(Error::Usage(why)),
        _ => Ok(rule),
    }
}

/// Where the host's motley_cue is asked.
fn addresses(options: &AddOptions, destination: Option<&ResolvedDestination>) -> Result<Vec<String>, Error> {
    let name_it = "name the token: --audience URL --scope SCOPES";
    match (&options.info, destination) {
        (Some(url), _) => Ok(vec![url.clone()]),
        (None, None) => Err(Error::Usage(format!("several hosts cannot be asked which token they take; {name_it}"))),
        // The name that ssh uses behind another host may be somebody else's here.
        (None, Some(host)) if host.has_jump_host || host.has_proxy_command || is_this_machine(&host.hostname) => {
            let text = format!(
                "{} cannot be asked from here which token it takes; {name_it}, or its motley_cue: --info URL",
                printable(&host.hostname)
            );
            Err(Error::Usage(text))
        }
        (None, Some(host)) => Ok(offer::usual_addresses(&host.hostname).to_vec()),
    }
}

/// The provider whose tokens oidc-agent gives by a rule, if the rule names it.
fn provider_of_agent(rule: &HostRule) -> Option<&str> {
    rule.oidc_agent.as_deref().filter(|name| name.contains("://"))
}

/// `issuer`: the URL of the provider that is meant; otherwise that of the mytoken.
fn ask_host(
    options: &AddOptions,
    issuer: Option<&str>,
    settings: &HelperSettings,
    stored: Option<&StoredToken>,
    destination: Option<&ResolvedDestination>,
) -> Result<Offer, Error> {
    let addresses = addresses(options, destination)?;
    let given = issuer.map(|url| IssuerUrl::parse(url, false)).transpose()?;
    let issuer = given.as_ref().or(stored.map(|stored| &stored.issuer));
    let http = settings.http(options.ca.as_deref());
    let clients = roots(http, options, settings, stored).iter().map(HttpClient::new).collect::<Result<Vec<_>, _>>()?;
    offer::ask(&clients, &addresses, issuer)
}

fn is_this_machine(hostname: &str) -> bool {
    hostname == "localhost" || hostname.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The settings to try: a host may have its certificate from the authority that was named at the login, and other hosts have not.
fn roots(
    http: HttpSettings,
    options: &AddOptions,
    settings: &HelperSettings,
    stored: Option<&StoredToken>,
) -> Vec<HttpSettings> {
    let is_configured = options.ca.is_some() || settings.user.ca_file.is_some();
    let of_login = stored.and_then(|stored| stored.ca_file.clone()).filter(|_| !is_configured);
    let second = of_login.map(|file| HttpSettings { roots: Roots::File(file), ..http.clone() });
    std::iter::once(http).chain(second).collect()
}

/// The rule for what a host asks for. How its tokens are made and sent stays as it was.
fn offered(offer: &Offer, pattern: &str, before: Option<&HostRule>) -> Result<HostRule, Error> {
    let scope = Some(offer.scope.clone()).filter(|scope| !scope.is_empty());
    match offer.audience.as_slice() {
        [only] => {
            let pattern = pattern.to_owned();
            Ok(HostRule { pattern, scope, audience: Some(only.clone()), ..before.cloned().unwrap_or_default() })
        }
        // Its tokens would be for whatever the mytoken is for.
        [] => {
            let with_scope = scope.map(|scope| format!(" --scope {}", shell_word(&scope))).unwrap_or_default();
            Err(Error::Usage(format!(
                "{} says nothing about the audience of its tokens; ask its administrators: mytoken-ssh add {} --audience URL{with_scope}",
                printable(&offer.url),
                shell_word(pattern)
            )))
        }
        several => Err(Error::Usage(format!(
            "{} names several audiences: {}; choose with --audience",
            printable(&offer.url),
            offer::some_of(several)
        ))),
    }
}

/// What the host asks for, for the person who decides.
fn shown(
    offer: &Offer,
    rule: &HostRule,
    hosts: &HostRules,
    before: Option<&HostRule>,
    stored: Option<&StoredToken>,
) -> String {
    let audience = rule.audience.as_deref().unwrap_or_default();
    let mut text = format!(
        "{} takes tokens with this, says {}:\n    provider  {}\n    audience  {audience}\n    scope     {}\n",
        printable(&rule.pattern),
        printable(&offer.url),
        offer.issuer,
        rule.scope.as_deref().unwrap_or(match rule.source() {
            TokenSource::Mytoken => "all of your mytoken",
            TokenSource::OidcAgent(_) => "all of the account of oidc-agent",
            TokenSource::Command(_) | TokenSource::Unclear(_) => "what your command chooses",
        }),
    );
    if rule.source() != TokenSource::Mytoken {
        text += &format!("Its tokens: {}\n", describe_rule(rule));
    }
    if let Some(before) = before.filter(|before| !before.gives_as(rule)) {
        text += &format!("Until now: {}\n", until_now(before, rule));
    }
    let others: Vec<String> =
        hosts.with_audience(audience, &rule.pattern).map(|other| printable(&other.pattern)).collect();
    if !others.is_empty() {
        text += &format!("Tokens of this audience also open {}.\n", offer::some_of(&others));
    }
    let clauses = stored.map(|stored| stored.restrictions.as_slice()).unwrap_or_default();
    if clauses.iter().any(|clause| clause.audience.iter().any(|own| own == audience)) {
        text += "It is an audience of your mytoken, which hosts get that you have not added.\n";
    }
    text + "Whoever runs this host could use them there, and wherever else this audience counts.\n\
            Is it the audience that your site tells?\n"
}

/// Shows `text` and waits for the answer, both at the terminal.
fn confirm(text: &str, yes: bool) -> Result<(), Error> {
    if yes {
        print_line(text.trim_end());
        return Ok(());
    }
    match ask(&format!("{text}Add it (y/n)? "), PromptKind::Confirm) {
        TerminalReply::Line(_) => Ok(()),
        TerminalReply::Declined => Err(Error::Usage("nothing was added".into())),
        TerminalReply::Unavailable => Err(Error::Usage(
            "nothing was added: there is no terminal to confirm it; use --yes, or name it with --audience and --scope"
                .into(),
        )),
    }
}

/// The rule in words.
pub(super) fn describe_rule(rule: &HostRule) -> String {
    let audience = rule.audience.as_ref().map(|audience| format!("audience {}", printable(audience)));
    let scope = rule.scope.as_ref().map(|scope| format!("scope {}", printable(scope)));
    let send = rule.send.map(|send| match send {
        Sent::TransferCode => "a transfer code at each login".to_owned(),
        Sent::AccessToken => "an access token".to_owned(),
    });
    let (source, nothing_named) = match rule.source() {
        TokenSource::Mytoken => (None, "audience and scope of your mytoken".to_owned()),
        TokenSource::OidcAgent(account) => {
            let scope = if rule.scope.is_some() { "" } else { ", all scopes of the account" };
            (Some(format!("from oidc-agent's account {}{scope}", printable(&account))), String::new())
        }
        TokenSource::Command(command) => (Some(format!("printed by {}", printable(&command.join(" ")))), String::new()),
        TokenSource::Unclear(why) => (Some(format!("no token: {}", printable(&why))), String::new()),
    };
    let parts: Vec<String> = [audience, scope, send, source].into_iter().flatten().collect();
    if parts.is_empty() { nothing_named } else { parts.join(", ") }
}

/// What counted before, and whose rule that was.
fn until_now(before: &HostRule, rule: &HostRule) -> String {
    let by =
        if before.pattern == rule.pattern { String::new() } else { format!(" (by {})", printable(&before.pattern)) };
    describe_rule(before) + &by
}

/// What keeps hosts from the token that was added.
fn warnings(
    settings: &HelperSettings,
    rule: &HostRule,
    destination: Option<&ResolvedDestination>,
    stored: &Result<Option<StoredToken>, Error>,
    now: u64,
) -> Vec<String> {
    let Some(destination) = destination else {
        let is_unnamed = matches!(rule.source(), TokenSource::OidcAgent(_)) && rule.audience.is_none();
        let unnamed = "tokens of oidc-agent need an audience: add it with --audience URL".to_owned();
        return of_pattern(&settings.hosts, rule).into_iter().chain(is_unnamed.then_some(unnamed)).collect();
    };
    let counts = settings.hosts.rule([&destination.host_argument, &destination.hostname]);
    if let Some(other) = counts.filter(|other| *other != rule) {
        return vec![format!(
            "the [[host]] {} of config.toml comes first and counts: {}",
            printable(&other.pattern),
            describe_rule(other)
        )];
    }
    let request = token_request(settings, &LoginTokenOptions::default(), destination);
    if request.source != TokenSource::Mytoken {
        return request.check_source().err().map(|error| error.to_string()).into_iter().collect();
    }
    let stored = match stored {
        Err(error) => return vec![error.to_string()],
        Ok(None) => {
            let option = |name: &str, value: &Option<String>| {
                value.as_ref().map(|value| format!(" --{name} {}", shell_word(value))).unwrap_or_default()
            };
            let (audience, scope) = (option("audience", &rule.audience), option("scope", &rule.scope));
            return vec![format!(
                "you have no mytoken that logins use; run: mytoken-ssh login SERVER{audience}{scope}"
            )];
        }
        Ok(Some(stored)) => stored,
    };
    match request.form(stored, now) {
        Ok(Form::Code) if rule.send != Some(Sent::TransferCode) => vec![
            "your mytoken leaves its audience or scope open, so the host gets a transfer code, which only pam_mytoken \
             understands"
                .to_owned(),
        ],
        Ok(_) => Vec::new(),
        Err(error) => vec![error.to_string()],
    }
}

/// What comes before a pattern.
fn of_pattern(hosts: &HostRules, rule: &HostRule) -> Vec<String> {
    let is_it = |other: &&HostRule| other.pattern.eq_ignore_ascii_case(&rule.pattern);
    let covers = |other: &&HostRule| matches_pattern(&other.pattern.to_lowercase(), &rule.pattern.to_lowercase());
    let earlier = hosts.configured.iter().chain(hosts.added.iter().take_while(|other| !is_it(other)));
    if let Some(first) = earlier.into_iter().find(covers) {
        return vec![format!(
            "{} comes first and counts for all these hosts: {}; see mytoken-ssh hosts",
            printable(&first.pattern),
            describe_rule(first)
        )];
    }
    let own = |other: &&HostRule| {
        !other.is_pattern() && matches_pattern(&rule.pattern.to_lowercase(), &other.pattern.to_lowercase())
    };
    let named: Vec<String> =
        hosts.configured.iter().chain(&hosts.added).filter(own).map(|other| printable(&other.pattern)).collect();
    if named.is_empty() {
        return Vec::new();
    }
    vec![format!("hosts with an entry of their own keep it: {}", offer::some_of(&named))]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::rule;
    use super::*;
    use crate::scope_and_audience::tests::{NOW, stored};
    use crate::ssh::resolution::parse;

    fn options(audience: Option<&str>, scope: &[&str]) -> AddOptions {
        AddOptions {
            host: "h".into(),
            audience: audience.map(str::to_owned),
            scope: scope.iter().map(ToString::to_string).collect(),
            ..AddOptions::default()
        }
    }

    #[test]
    fn what_the_command_line_names_becomes_a_rule() {
        let found = named(&options(Some("https://a"), &["openid", "profile email"]), "h", None).unwrap();
        assert_eq!(found, HostRule { scope: Some("openid profile email".into()), ..rule("h", "https://a") });
        for (audience, scope) in [(Some(""), "a"), (Some("a b"), "a"), (None, ""), (None, "a  b"), (None, "a\u{1b}")] {
            assert!(named(&options(audience, &[scope]), "h", None).is_err(), "{audience:?} {scope:?}");
        }
    }

    #[test]
    fn what_is_left_out_stays_as_it_was() {
        let wide = HostRule { scope: Some("openid".into()), send: Some(Sent::AccessToken), ..rule("*.x", "https://a") };
        let code = AddOptions { send: Some(Sent::TransferCode), ..options(None, &[]) };
        let found = named(&code, "h", Some(&wide)).unwrap();
        assert_eq!(found, HostRule { pattern: "h".into(), send: Some(Sent::TransferCode), ..wide.clone() });
        let found = named(&options(Some("https://b"), &[]), "h", Some(&wide)).unwrap();
        assert_eq!(found, HostRule { pattern: "h".into(), audience: Some("https://b".into()), ..wide });
    }

    #[test]
    fn oidc_agent_takes_the_place_of_a_command_and_a_command_stays() {
        let words = Some(vec!["pass".to_owned()]);
        let before = HostRule { command: words.clone(), ..rule("*.x", "https://a") };
        let found = named(&options(Some("https://b"), &[]), "h", Some(&before)).unwrap();
        assert_eq!(found, HostRule { command: words, ..rule("h", "https://b") });
        assert!(describe_rule(&found).ends_with(", printed by pass"));
        let agent = AddOptions { oidc_agent: Some("cluster".into()), ..options(None, &[]) };
        let found = named(&agent, "h", Some(&before)).unwrap();
        assert_eq!(found, HostRule { oidc_agent: Some("cluster".into()), ..rule("h", "https://a") });
        let code = HostRule { send: Some(Sent::TransferCode), ..rule("h", "https://a") };
        assert!(named(&agent, "h", Some(&code)).is_err(), "oidc-agent makes no code");
    }

    #[test]
    fn a_pattern_has_only_letters_of_names() {
        for (text, is_it) in
            [("h", false), ("*.a-b.org", true), ("[x]?", false), ("u@*.e", false), ("!bad*", false), ("ssh://*", false)]
        {
            assert_eq!(is_pattern(text).unwrap_or(false), is_it, "{text}");
            assert_eq!(is_pattern(text).is_err(), !is_it && text != "h", "{text}");
        }
    }

    fn offer(audience: &[&str]) -> Offer {
        Offer {
            url: "https://evil.example".into(),
            issuer: "https://op.example.org".into(),
            scope: "openid".into(),
            audience: audience.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn what_a_host_offers_changes_neither_the_source_nor_the_form() {
        let before = HostRule {
            command: Some(vec!["pass".into()]),
            scope: Some("wide".into()),
            send: Some(Sent::TransferCode),
            ..rule("*", "https://old")
        };
        let found = offered(&offer(&["https://a"]), "h", Some(&before)).unwrap();
        let expected = HostRule { audience: Some("https://a".into()), scope: Some("openid".into()), ..before };
        assert_eq!(found, HostRule { pattern: "h".into(), ..expected });
    }

    #[test]
    fn a_person_is_told_what_else_the_audience_opens() {
        let offer = offer(&["https://cluster"]);
        let own = offered(&offer, "evil.example", None).unwrap();
        let hosts = HostRules { configured: vec![rule("*.cluster", "https://x https://cluster")], added: Vec::new() };
        let mytoken = stored(&["AT"], &json!([{"audience": ["https://cluster"]}]));
        let text = shown(&offer, &own, &hosts, Some(&rule("*", "https://narrow")), Some(&mytoken));
        for part in [
            "also open *.cluster.\n",
            "audience  https://cluster\n",
            "Until now: audience https://narrow (by *)\n",
            "It is an audience of your mytoken",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let other = stored(&["AT"], &json!([{"audience": ["https://other"]}]));
        let text = shown(&offer, &own, &HostRules::default(), Some(&own), Some(&other));
        assert!(
            !text.contains("also open") && !text.contains("Until now") && !text.contains("of your mytoken"),
            "{text}"
        );
    }

    #[test]
    fn a_person_is_told_where_the_tokens_come_from() {
        let account = HostRule { oidc_agent: Some("cluster".into()), ..rule("h", "https://a") };
        let command = HostRule { command: Some(vec!["pass".into()]), ..rule("h", "https://a") };
        let of = |rule: &HostRule| shown(&offer(&["https://a"]), rule, &HostRules::default(), None, None);
        let own = of(&rule("h", "https://a"));
        assert!(own.contains("scope     all of your mytoken\n") && !own.contains("Its tokens"), "{own}");
        for (rule, scope, source) in [
            (&account, "all of the account of oidc-agent", "from oidc-agent's account cluster, all scopes"),
            (&command, "what your command chooses", "printed by pass"),
        ] {
            let text = of(rule);
            assert!(text.contains(&format!("scope     {scope}\n")), "{text}");
            assert!(text.contains(&format!("Its tokens: audience https://a, {source}")), "{text}");
        }
        assert_eq!(provider_of_agent(&account), None);
        let provider = HostRule { oidc_agent: Some("https://op".into()), ..rule("h", "https://a") };
        assert_eq!(provider_of_agent(&provider), Some("https://op"));
        let unnamed = HostRule { oidc_agent: Some("cluster".into()), ..rule("*.x", "") };
        let told = warnings(&HelperSettings::default(), &unnamed, None, &Ok(None), NOW);
        assert!(told.len() == 1 && told[0].contains("need an audience"), "{told:?}");
        assert!(warnings(&HelperSettings::default(), &account, None, &Ok(None), NOW).is_empty());
    }

    #[test]
    fn a_host_is_asked_only_where_its_name_means_it() {
        let of = |more: &str, info: Option<&str>| {
            let host = parse(&format!("host h\nuser alice\nport 22\n{more}")).unwrap();
            let options = AddOptions { info: info.map(str::to_owned), ..options(None, &[]) };
            addresses(&options, Some(&host)).map_err(|error| error.to_string())
        };
        assert_eq!(of("hostname h.example\nproxycommand none\n", None).unwrap()[0], "https://h.example");
        for more in [
            "hostname localhost\n",
            "hostname 127.0.0.2\n",
            "hostname ::1\n",
            "hostname h\nproxyjump gate\n",
            "hostname h\nproxycommand nc %h\n",
        ] {
            assert!(of(more, None).unwrap_err().contains("cannot be asked from here"), "{more}");
            assert_eq!(of(more, Some("https://m")), Ok(vec!["https://m".to_owned()]), "{more}");
        }
        assert!(addresses(&options(None, &[]), None).is_err(), "a pattern");
    }

    #[test]
    fn an_offer_names_one_audience() {
        let none = offered(&offer(&[]), "h", None).unwrap_err().to_string();
        assert!(none.ends_with("mytoken-ssh add h --audience URL --scope openid"), "{none}");
        let many = vec!["x"; 200];
        let many = offered(&offer(&many), "h", None).unwrap_err().to_string();
        assert!(many.ends_with("x, x, x, x, x and 195 more; choose with --audience"), "{many}");
    }

    #[test]
    fn what_keeps_the_host_from_its_token_is_told() {
        let destination = parse("host h\nuser alice\nhostname h.example\nport 22\n").unwrap();
        let told = |configured: &[HostRule], own: &HostRule, stored: Option<&StoredToken>| {
            let hosts = HostRules { configured: configured.to_vec(), added: vec![own.clone()] };
            let settings = HelperSettings::default().with_hosts(hosts);
            warnings(&settings, own, Some(&destination), &Ok(stored.cloned()), NOW).join("|")
        };
        let own = rule("h", "https://a");
        let clause = |audience: &str| json!([{"exp": NOW + 60, "scope": "openid", "audience": [audience]}]);
        let fitting = stored(&["AT", "create_mytoken"], &clause("https://a"));
        assert_eq!(told(&[], &own, Some(&fitting)), "");
        let first = told(&[rule("*.example", "https://b")], &own, Some(&fitting));
        assert_eq!(first, "the [[host]] *.example of config.toml comes first and counts: audience https://b");
        let other = told(&[], &own, Some(&stored(&["AT", "create_mytoken"], &clause("https://b"))));
        assert!(other.starts_with("your mytoken gives no access token for audience https://a"), "{other}");
        let open = stored(&["AT", "create_mytoken"], &json!([]));
        let access_token = HostRule { send: Some(Sent::AccessToken), ..own.clone() };
        assert!(told(&[], &own, Some(&open)).contains("transfer code"));
        assert!(told(&[], &access_token, Some(&open)).contains("transfer code"));
        assert_eq!(told(&[], &HostRule { send: Some(Sent::TransferCode), ..own }, Some(&open)), "");
        let hostile = HostRule { scope: Some("$(id)".into()), ..rule("h", "https://x;id|sh") };
        let none = told(&[], &hostile, None);
        assert!(none.ends_with("mytoken-ssh login SERVER --audience 'https://x;id|sh' --scope '$(id)'"), "{none}");
        let broken = warnings(
            &HelperSettings::default().with_hosts(HostRules { configured: vec![], added: vec![hostile.clone()] }),
            &hostile,
            Some(&destination),
            &Err(Error::NotStartedBySsh),
            NOW,
        );
        assert_eq!(broken, [Error::NotStartedBySsh.to_string()]);
    }

    #[test]
    fn what_comes_before_a_pattern_is_told() {
        let own = rule("*.cluster.example", "https://a");
        let told = |configured: &[HostRule], added: &[HostRule]| {
            of_pattern(&HostRules { configured: configured.to_vec(), added: added.to_vec() }, &own).join("|")
        };
        assert_eq!(told(&[], &[own.clone(), rule("*", "https://b")]), "");
        for (configured, added) in [
            (vec![rule("*", "https://b")], vec![own.clone()]),
            (vec![], vec![rule("*.example", "https://b"), own.clone()]),
        ] {
            assert!(
                told(&configured, &added).contains("comes first and counts for all these hosts: audience https://b")
            );
        }
        let named = told(&[], &[own.clone(), rule("login.cluster.example", "https://c"), rule("other", "https://c")]);
        assert_eq!(named, "hosts with an entry of their own keep it: login.cluster.example");
    }
}
