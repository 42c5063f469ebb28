// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh login` and `mytoken-ssh logout`, with a user who confirms in the browser.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::login_site::{AUDIENCE, LoginSite, deadline, stderr};
use mytoken::server::Server;
use mytoken::token_store::StoredToken;
use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

#[test]
fn a_login_stores_a_mytoken_and_describes_it() {
    let site = LoginSite::start();
    let output = site.login(&[]);
    assert!(output.contains("✓ alice @ ") && output.contains("mytoken \"laptop\", valid 30 days"), "{output}");
    assert!(output.contains("may: get access tokens, create narrower mytokens"), "{output}");
    assert!(!output.contains("\n! ") && !output.contains('\u{1b}') && !output.contains("eyJ"), "{output}");
    let entry = site.stored().unwrap();
    assert_eq!(entry.restrictions[0].audience, [AUDIENCE]);
    assert_eq!(entry.restrictions[0].scope, "openid profile storage.read");
    assert!(!entry.mom_id.is_empty() && !entry.rotates());

    let status = site.run(&["status"]);
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && shown.contains(&mytoken::token::fingerprint(&entry.mytoken)), "{shown}");
    assert!(!shown.contains(entry.mytoken.expose()));
    let listed = site.run(&["status", "--json"]);
    let list: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed.status.success() && !list.to_string().contains("eyJ"), "{list}");
    assert_eq!((&list[0]["server"], &list[0]["sub"]), (&json!(site.mytoken_url()), &json!("alice")));
    assert_eq!(
        (&list[0]["expires_at"], &list[0]["restrictions"]),
        (&json!(entry.expires_at), &json!(entry.restrictions))
    );
    site.store().lock(deadline()).unwrap().remove(&site.url()).unwrap();
    let none = site.run(&["status", "--json"]);
    assert_eq!((none.stdout.as_slice(), none.status.code()), (b"[]\n".as_slice(), Some(1)));
}

#[test]
fn a_second_login_needs_no_option_and_gets_no_more_than_the_first_one() {
    let site = LoginSite::start();
    fs::remove_file(site.path("home/.config/mytoken/config.toml")).unwrap();
    let ca = site.path("server/ca.pem");
    let host = site.mytoken_url().strip_prefix("https://").unwrap().to_owned();
    let first =
        ["--ca", ca.to_str().unwrap(), "--audience", AUDIENCE, "--scope", "openid storage.read", "--capability", "AT"];
    let output = site.login(&[&[host.as_str()], &first[..]].concat());
    assert!(!output.contains("last one"), "{output}");
    let before = site.stored().unwrap();
    // An expired one is remembered too.
    site.store().lock(deadline()).unwrap().put(&StoredToken { expires_at: Some(1), ..before.clone() }).unwrap();
    let mut child = site.helper(&["login"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut output, mut line) = (String::new(), String::new());
    while !line.contains("/c/") && {
        line.clear();
        lines.read_line(&mut line).unwrap() > 0
    } {
        output.push_str(&line);
    }
    let told = "  may: get access tokens\n  for: scopes openid storage.read; audience https://testbed\n";
    assert!(output.contains(told), "{output}");
    site.confirm(line.trim(), &[]);
    lines.read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    let after = site.stored().unwrap();
    let rights = |entry: &StoredToken| {
        let clause = entry.restrictions[0].clone();
        (entry.capabilities.to_string(), clause.scope, clause.audience, entry.issuer.clone(), entry.ca_file.clone())
    };
    assert_eq!(rights(&after), rights(&before));
    assert!(after.mytoken != before.mytoken && after.expires_at > before.expires_at);
}

#[test]
fn a_login_that_repairs_a_damaged_file_says_that_it_does_not_know_the_last_one() {
    let site = LoginSite::start();
    site.store_mytoken(&["AT"], &Value::Null);
    let store = mytoken::token_store::TokenStore::default_path(&site.path("home"));
    let entry = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let entry = entry.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    fs::write(&entry, "{").unwrap();
    let mut child = site.helper(&["login"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut told).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(told.contains("so this login does not know what the last one got"), "{told}");
}

#[test]
fn a_scope_that_the_server_left_out_is_shown_as_warning() {
    let site = LoginSite::start();
    let output = site.login(&["--scope", "openid", "--scope", "no.such.scope"]);
    assert!(output.contains("! the server left out the scope no.such.scope"), "{output}");
}

/// What a login prints up to the line with the link.
fn until_the_link(terminal: &mut BufReader<File>) -> String {
    let mut output = String::new();
    while !output.contains("/c/") {
        assert!(terminal.read_line(&mut output).unwrap() > 0, "{output}");
    }
    output
}

/// Runs a login with a warning on a terminal of its own. Returns what appeared on the terminal.
fn login_on_terminal(site: &LoginSite, environment: &[(&str, &str)]) -> String {
    let pty = openpty(None, None).unwrap();
    let mut helper = site.helper(&["login", "--scope", "openid", "--scope", "no.such.scope"]);
    helper.env_remove("NO_COLOR").env("TERM", "xterm").envs(environment.iter().copied());
    let mut child = helper.stdout(pty.slave).spawn().unwrap();
    // The terminal has its end when no process has it open any more.
    drop(helper);
    let mut terminal = BufReader::new(File::from(pty.master));
    let mut output = until_the_link(&mut terminal);
    site.confirm(output.lines().last().unwrap().trim(), &[]);
    // Reading a terminal whose other end is closed is an error on Linux.
    while terminal.read_line(&mut output).is_ok_and(|count| count > 0) {}
    assert!(child.wait().unwrap().success(), "{output}");
    assert!(output.contains("! the server left out the scope no.such.scope"), "{output}");
    output
}

/// What a terminal of this size shows while a login waits, after some seconds, and after it.
fn screens(site: &LoginSite, (columns, lines): (u16, u16), locale: &str) -> (String, String) {
    let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let mut helper = site.helper(&["login", "--no-browser"]);
    helper.env_remove("NO_COLOR").env("TERM", "xterm").env("LC_ALL", locale);
    let mut child = helper.stdout(pty.slave).spawn().unwrap();
    drop(helper);
    let mut terminal = File::from(pty.master);
    let mut screen = vt100::Parser::new(lines.try_into().unwrap(), columns.try_into().unwrap(), 0);
    let (mut buffer, mut output) = ([0; 4096], String::new());
    // Line feeds come with a carriage return each, and so does each second.
    while output.matches('\r').count() < output.matches('\n').count() + 3 {
        let count = terminal.read(&mut buffer).unwrap();
        screen.process(&buffer[..count]);
        output.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let link = output.split_whitespace().find(|word| word.contains("/c/")).unwrap();
    let waiting = screen.screen().contents();
    site.confirm(link, &[]);
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        screen.process(&buffer[..count]);
    }
    assert!(child.wait().unwrap().success());
    (waiting, screen.screen().contents())
}

#[test]
fn a_login_fits_on_the_terminal() {
    let site = LoginSite::start();
    for (size, locale, has_code) in
        [((80, 24), "C.UTF-8", true), ((40, 24), "C.UTF-8", true), ((80, 24), "C", false), ((200, 50), "C", true)]
    {
        let (waiting, after) = screens(&site, size, locale);
        let shown = format!("{size:?} {locale}\n{waiting}\n--\n{after}");
        let countdowns = waiting.lines().filter(|line| line.contains(" left") || line.contains("waiting")).count();
        assert_eq!(countdowns, 1, "{shown}");
        assert_eq!(waiting.contains(if locale == "C" { "####" } else { "█" }), has_code, "{shown}");
        assert!(waiting.contains("Open this link") && (locale != "C" || after.is_ascii()), "{shown}");
        assert!(!after.contains(" left") && after.contains("mytoken-ssh ssh HOST"), "{shown}");
    }
}

/// Writes down what the program that opens browsers is given.
const OPENER: &str = "#!/bin/sh\n{ echo \"$*\"; ps -o pgid= -p $$; echo $$; cat \"$1\"; } >\"$OPENED.new\" && mv \"$OPENED.new\" \"$OPENED\"; sleep 60\n";

#[test]
fn the_browser_gets_a_page_that_leads_to_the_link_and_no_program_has_the_link_as_argument() {
    let site = LoginSite::start();
    let (programs, opened) = (site.path("programs"), site.path("opened"));
    fs::create_dir(&programs).unwrap();
    let program = |name: &str, text: &str| {
        fs::write(programs.join(name), text).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("xdg-open", OPENER);
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let login = |more: &[&str], [pages, links]: [&str; 2], environment: &[(&str, &str)]| {
        program("xdg-mime", &format!("#!/bin/sh\n[ \"$*\" = 'query default text/html' ] && echo {pages}\n"));
        program("xdg-settings", &format!("#!/bin/sh\n[ \"$*\" = 'get default-web-browser' ] && echo {links}\n"));
        let _ = fs::remove_file(&opened);
        let pty = openpty(None, None).unwrap();
        let mut helper = site.helper(&[&["login"], more].concat());
        helper.env_remove("SSH_CONNECTION").env_remove("SSH_TTY").env("DISPLAY", ":9").env("PATH", &path);
        helper.env("OPENED", &opened).envs(environment.iter().copied());
        let mut child = helper.stdout(pty.slave).spawn().unwrap();
        drop(helper);
        let mut terminal = BufReader::new(File::from(pty.master));
        let mut output = until_the_link(&mut terminal);
        let link = output.lines().last().unwrap().trim().to_owned();
        let is_asked = output.contains("Confirm in your browser within");
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while is_asked && !opened.exists() {
            assert!(std::time::Instant::now() < until, "no browser was opened: {output}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let seen = fs::read_to_string(&opened).ok();
        site.confirm(&link, &[]);
        while terminal.read_line(&mut output).is_ok_and(|count| count > 0) {}
        assert!(child.wait().unwrap().success(), "{output}");
        assert_eq!(seen.is_some(), is_asked, "{output}");
        seen.map(|seen| (link, seen))
    };
    let firefox = ["firefox.desktop"; 2];
    let (link, seen) = login(&[], firefox, &[]).unwrap();
    let [argument, group, process, page] = seen.splitn(4, '\n').collect::<Vec<_>>()[..] else { panic!("{seen}") };
    assert_eq!(group.trim(), process, "Ctrl-C would end the browser");
    assert!(argument.ends_with("/login.html") && !argument.contains("/c/"), "{argument}");
    assert!(page.contains(&format!("content=\"0; url={link}\"")), "{page}");
    assert!(!std::path::Path::new(argument).exists(), "the page is left");
    assert_eq!(login(&["--no-browser"], firefox, &[]), None);
    assert_eq!(login(&[], ["gedit.desktop", "firefox.desktop"], &[]), None);
    assert_eq!(login(&[], firefox, &[("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")]), None);
}

#[test]
fn control_sequences_reach_a_terminal_only_and_none_with_no_color() {
    let site = LoginSite::start();
    assert!(login_on_terminal(&site, &[]).contains('\u{1b}'));
    let output = login_on_terminal(&site, &[("NO_COLOR", "1")]);
    assert!(!output.contains('\u{1b}'), "{output:?}");
    assert!(output.contains("\r  waiting for you at the browser"), "{output:?}");
    // Into a pipe.
    let output = site.login(&["--scope", "openid", "--scope", "no.such.scope"]);
    assert!(output.contains("\n! ") && !output.contains(['\u{1b}', '\r']), "{output:?}");
}

#[test]
fn a_second_login_replaces_and_revokes_the_first() {
    let site = LoginSite::start();
    site.login(&[]);
    let first = site.stored().unwrap();
    site.login(&[]);
    let second = site.stored().unwrap();
    assert_ne!(first.mytoken, second.mytoken);
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    assert!(matches!(
        server.introspect(&first.mytoken, deadline()),
        Err(mytoken::Error::Server(mytoken::server::ServerError::TokenRefused { .. }))
    ));
    assert!(server.introspect(&second.mytoken, deadline()).unwrap().valid);
}

#[test]
fn a_declined_login_is_an_error_and_stores_nothing() {
    let site = LoginSite::start();
    let (child, _lines, link) = site.start_login(&[]);
    site.confirm(&link, &["--decline"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("declined in the browser"), "{}", stderr(&output));
    assert!(site.stored().is_none());
}

#[test]
fn ctrl_c_interrupts_a_login_and_stores_nothing() {
    let site = LoginSite::start();
    let (mut child, mut lines, _link) = site.start_login(&[]);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains('✓') && site.stored().is_none());
}

#[test]
fn a_login_with_ignored_hangup_signal_continues() {
    let site = LoginSite::start();
    let (mut child, mut lines, link) = site.start_login_after("trap '' HUP", &[]);
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(300));
    site.confirm(&link, &[]);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success() && rest.contains('✓') && site.stored().is_some(), "{rest}");
}

#[test]
fn a_mytoken_that_cannot_be_stored_is_revoked() {
    let site = LoginSite::start();
    let (child, _lines, link) = site.start_login(&[]);
    fs::remove_dir_all(site.path("home/.config/mytoken/tokens")).unwrap();
    site.confirm(&link, &[]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the token store cannot be used"), "{}", stderr(&output));
    let journal = site.control("GET", "/journal?service=mytoken", &serde_json::Value::Null);
    let revocations = journal.as_array().unwrap().iter().filter(|request| request["endpoint"] == "revocation");
    assert_eq!(revocations.map(|request| request["status"].clone()).collect::<Vec<_>>(), [204], "{journal}");
}

#[test]
fn logout_revokes_the_mytoken_with_its_sub_tokens_and_removes_it() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT", "create_mytoken", "tokeninfo:introspect"], &serde_json::Value::Null);
    site.run(&["ssh", "--delegate", "tb"]);
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    let child = server.redeem(&mytoken::Secret::new(site.answers().remove(0)), deadline()).unwrap().mytoken;
    assert!(server.introspect(&child, deadline()).unwrap().valid);

    let output = site.run(&["logout"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(site.stored().is_none());
    for token in [&entry.mytoken, &child] {
        assert!(matches!(
            server.introspect(token, deadline()),
            Err(mytoken::Error::Server(mytoken::server::ServerError::TokenRefused { .. }))
        ));
    }
}

#[test]
fn logout_keeps_a_mytoken_that_it_cannot_revoke_except_with_forget() {
    let site = LoginSite::start();
    site.store_mytoken(&["AT"], &serde_json::Value::Null);
    site.control("POST", "/outage", &serde_json::json!({"service": "mytoken", "on": true}));
    let output = site.run(&["logout"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--forget") && site.stored().is_some());
    assert!(site.run(&["logout", "--forget"]).status.success() && site.stored().is_none());
}
