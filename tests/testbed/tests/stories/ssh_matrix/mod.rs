// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real sshd: each method by which it takes a token, with each form of connection. The release is that of the site's
//! root, so that `make test-all` plays all releases.
//!
//! A cell of the matrix is a login that succeeds and one that is refused. While the first one is open, its token is in
//! exactly one file of a session; after its end the file is gone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::site::command::{CommandOutcome, SiteCommand};
use testbed::{Error, Options, Result, Site, story_with_own_servers, wait};

use crate::bad_tokens::{attempt, inputs};

mod table;

use table::{FORMS, Form, Incomplete, Method};

const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn each_form_works_by_keyboard_interactive() -> Result<()> {
    play(&table::KEYBOARD_INTERACTIVE)
}

/// In this mode sshd cannot show the prompt, and takes at most 1024 bytes.
#[test]
fn each_form_works_by_password() -> Result<()> {
    play(&table::PASSWORD)
}

#[test]
fn each_form_works_by_key_and_keyboard_interactive() -> Result<()> {
    play(&table::KEY_AND_KEYBOARD_INTERACTIVE)
}

#[test]
fn each_form_works_by_keyboard_interactive_and_key() -> Result<()> {
    play(&table::KEYBOARD_INTERACTIVE_AND_KEY)
}

fn play(method: &'static Method) -> Result<()> {
    story_with_own_servers(Options { nodes: 1, sshd_config: method.sshd, ..Options::new()? }, |site| {
        let mut failures = Vec::new();
        std::thread::scope(|scope| {
            let cells: Vec<_> = FORMS
                .iter()
                .flat_map(|form| {
                    [
                        (format!("{}, accepted", form.name), scope.spawn(move || accepted(site, method, form))),
                        (format!("{}, refused", form.name), scope.spawn(move || refused(site, method, form))),
                    ]
                })
                .chain(
                    method
                        .incomplete
                        .iter()
                        .map(|login| (login.name.to_owned(), scope.spawn(move || incomplete(site, login)))),
                )
                .collect();
            for (name, cell) in cells {
                match cell.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => failures.push(format!("{name}: {error}")),
                    Err(_) => failures.push(format!("{name}: a panic")),
                }
            }
        });
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        // A token that was accepted before a key was missing has one. The agent looks every 20 s.
        let left = "find /run/mytoken/handover -mindepth 2 -type f | grep .";
        wait::until("the end of all hand-over records", 2 * TIMEOUT, || {
            Ok((!site.sh("root", left)?.success()).then_some(()))
        })
    })
}

/// A login of alice from an address of its own.
struct Login {
    address: String,
    /// A directory in alice's home.
    directory: String,
}

impl Login {
    fn prepare(site: &Site, token: &str) -> Result<Self> {
        let address = site.new_client()?.address().to_string();
        let directory = attempt::prepare_answers(site, "alice", &[token.to_owned()])?;
        Ok(Self { address, directory })
    }

    fn command<'site>(&self, site: &'site Site, script: &str, client: &str) -> SiteCommand<'site> {
        let options = format!("-o NumberOfPasswordPrompts=1 -o BindAddress={} {client}", self.address);
        let ask = format!("{}/ask", self.directory);
        site.script("alice", &format!("cd {} || exit 1\n{script}", self.directory))
            .env("OPTIONS", &options)
            .env("SSH_ASKPASS", &ask)
            .env("SSH_ASKPASS_REQUIRE", "force")
    }

    /// The lines of sshd and the module in the log that have all of `words` and this client's address.
    fn lines(&self, site: &Site, words: &[&str]) -> Result<Vec<String>> {
        let log = site.system_log()?;
        let of_client = |line: &&str| line.split([' ', '=']).any(|word| word == self.address);
        let lines = log.lines().filter(of_client).filter(|line| words.iter().all(|word| line.contains(word)));
        Ok(lines.map(str::to_owned).collect())
    }

    /// Waits for one line of the log: another process writes it. Then there is exactly one.
    fn expect_line(&self, site: &Site, words: &[&str]) -> Result<()> {
        let lines = wait::until(&format!("{words:?} of {}", self.address), TIMEOUT, || {
            let lines = self.lines(site, words)?;
            Ok((!lines.is_empty()).then_some(lines))
        })?;
        expect(lines.len() == 1, || format!("{words:?} is logged several times: {lines:#?}"))
    }
}

fn expect(is_met: bool, fault: impl FnOnce() -> String) -> Result<()> {
    if is_met { Ok(()) } else { Err(Error::Refused(fault())) }
}

/// A token that no other login has.
fn token(site: &Site, user: &str) -> Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let request: Value = json!({"user": user, "claims": {"jti": format!("matrix-{number}")}});
    inputs::mint(site, &request)
}

fn accepted(site: &Site, method: &Method, form: &Form) -> Result<()> {
    let token = token(site, "alice")?;
    let login = Login::prepare(site, &token)?;
    let wanted = format!("/root/token.{}", login.address);
    site.write(&wanted, &token, "0600")?;
    let files = || -> Result<usize> {
        let found = site.sh("root", &format!("grep -rlF -f {wanted} --include=bt_u2001 /run/mytoken/sessions"))?;
        Ok(found.lines().len())
    };
    let running = login.command(site, form.script, method.client).spawn()?;
    let opened = wait::until("the file with the token", TIMEOUT, || Ok(Some(files()?).filter(|count| *count > 0)));
    // It ends in any case, so that its output can tell why there is no file.
    site.sh("alice", &format!("touch {}/go", login.directory))?.ok()?;
    let output = running.wait_with_output().map_err(|error| Error::Refused(error.to_string()))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let opened = opened.map_err(|error| Error::Refused(format!("{error}: {said}")))?;
    expect(opened == 1, || format!("{opened} sessions have the token"))?;
    expect(output.status.code() == Some(0), || format!("{}: {said}", output.status))?;
    expect(said.contains(&format!("in:{}", form.shows)), || format!("not inside: {said}"))?;
    login.expect_line(site, &["accept user=alice"])?;
    login.expect_line(site, &[method.accepted])?;
    wait::until("the end of the file with the token", TIMEOUT, || Ok((files()? == 0).then_some(())))
}

fn refused(site: &Site, method: &Method, form: &Form) -> Result<()> {
    let login = Login::prepare(site, &token(site, "bob")?)?;
    let outcome = login.command(site, form.script, method.client).run()?;
    expect_outside(&outcome)?;
    login.expect_line(site, &["refuse user=alice", "reason=not_mapped"])?;
    expect(login.lines(site, &["Accepted "])?.is_empty(), || "sshd accepted it".to_owned())
}

fn incomplete(site: &Site, how: &Incomplete) -> Result<()> {
    let login = Login::prepare(site, &token(site, "alice")?)?;
    expect_outside(&login.command(site, "ssh $OPTIONS testbed echo in:", how.client).run()?)?;
    if how.is_token_accepted {
        login.expect_line(site, &["accept user=alice"])?;
    }
    // sshd has logged the end of the connection by now.
    login.expect_line(site, &["Connection closed by authenticating user alice"])?;
    let asked = login.lines(site, &["pam_mytoken(sshd:auth)"])?;
    expect(asked.is_empty() != how.is_token_accepted, || format!("the module: {asked:#?}"))?;
    expect(login.lines(site, &["Accepted "])?.is_empty(), || "sshd accepted it".to_owned())
}

fn expect_outside(outcome: &CommandOutcome) -> Result<()> {
    let is_outside = outcome.code == 255 && !outcome.stdout.contains("in:");
    expect(is_outside, || format!("a login that must fail: {outcome:?}"))
}
