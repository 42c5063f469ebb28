// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh login` with a real browser: Debian's Chromium opens the page that the helper gives it, and a person clicks.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER};
use testbed::{Error, Options, Result, Site, has_program, skip, story_with_own_servers, wait};

/// Port of chromedriver, in the network of the site.
const PORT: u16 = 9515;

/// Keeps the page that a browser would be given.
const OPENER: &str = "#!/bin/sh\ncp \"$1\" /home/alice/page.new && mv /home/alice/page.new /home/alice/page.html\n";

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { what: what.to_owned(), source }
}

/// A program of this host in the network of the site. It ends with this process.
fn beside(site: &Site) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "nsenter", "--net", "--target", &site.init_pid().to_string()]);
    command
}

/// Chromium, driven by the `WebDriver` protocol.
struct Browser<'a> {
    site: &'a Site,
    driver: Child,
    session: String,
}

impl<'a> Browser<'a> {
    fn start(site: &'a Site, profile: &str) -> Result<Self> {
        // Chromium interrupts what it loads when it sees a new address: those of IPv6 come a second after the start of a site.
        site.wait_for("addresses", Duration::from_secs(20), "root", "test -z \"$(ip -6 address show tentative)\"")?;
        let mut driver = beside(site);
        driver.args(["chromedriver", &format!("--port={PORT}")]).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = driver.spawn().map_err(io("starting chromedriver"))?;
        let mut browser = Self { site, driver, session: String::new() };
        wait::until("chromedriver", Duration::from_secs(20), || Ok(browser.call("GET", "/status", &Value::Null).ok()))?;
        let address = site.network().address();
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            format!("--user-data-dir={profile}"),
            format!("--host-resolver-rules=MAP *.testbed {address}"),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            // The site's authority is in no store of this host.
            "acceptInsecureCerts": true, "goog:chromeOptions": {"args": arguments},
        }}});
        let session = browser.call("POST", "/session", &wanted)?;
        let id = session.get("sessionId").and_then(Value::as_str).unwrap_or_default();
        browser.session = format!("/session/{id}");
        Ok(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut curl = beside(self.site);
        curl.args([
            "curl",
            "-sS",
            "--max-time",
            "60",
            "-X",
            method,
            &format!("http://127.0.0.1:{PORT}{}{path}", self.session),
        ]);
        if !body.is_null() {
            curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
        }
        let answer = curl.output().map_err(io("starting curl"))?;
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        match answer.get("value") {
            Some(value) if value.get("error").is_none() => Ok(value.clone()),
            _ => Err(Error::Refused(format!("{method} {path}: {answer}"))),
        }
    }

    /// The element, when the page has it.
    fn element(&self, selector: &str) -> Result<String> {
        let asked = json!({"using": "css selector", "value": selector});
        let found = wait::until(selector, Duration::from_secs(20), || Ok(self.call("POST", "/element", &asked).ok()))?;
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str).unwrap_or_default();
        Ok(format!("/element/{id}"))
    }

    fn click(&self, selector: &str) -> Result<()> {
        self.call("POST", &format!("{}/click", self.element(selector)?), &json!({})).map(drop)
    }

    fn text(&self) -> Result<String> {
        let script = json!({"script": "return document.body.innerText", "args": []});
        Ok(self.call("POST", "/execute/sync", &script)?.as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // It ends Chromium. A session may not have begun.
        let _ = self.call("DELETE", "", &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn a_person_logs_in_with_chromium() -> Result<()> {
    if !(has_program("chromium") && has_program("chromedriver")) {
        return skip("chromium or chromedriver is not installed; run `make extras`");
    }
    story_with_own_servers(Options::new()?, |site| {
        site.write("/usr/local/bin/xdg-open", OPENER, "0755")?;
        let login = format!(
            "DISPLAY=:9 LC_ALL=C.UTF-8 script -qec 'stty cols 80 rows 24; mytoken-ssh login --server {MYTOKEN_SERVER} --ca {CA} \
             --scope \"openid profile\" --audience {AUDIENCE}' screen >&2"
        );
        let mut child = site.script("alice", &login).timeout(Duration::from_secs(120)).spawn()?;
        let page = wait::until("the page for the browser", Duration::from_secs(30), || {
            site.exists("/home/alice/page.html")?.then(|| site.read("/home/alice/page.html")).transpose()
        })?;
        let place = tempfile::tempdir().map_err(io("making a directory"))?;
        let file = place.path().join("login.html");
        fs::write(&file, page).map_err(io("writing the page"))?;
        let browser = Browser::start(site, &place.path().join("profile").display().to_string())?;
        browser.call("POST", "/url", &json!({"url": format!("file://{}", file.display())}))?;
        browser.element("#approve")?;
        let consent = browser.text()?;
        assert!(consent.contains("mytoken-ssh") && consent.contains(AUDIENCE), "{consent}");
        browser.click("#approve")?;
        let name = browser.element("input[name=username]")?;
        browser.call("POST", &format!("{name}/value"), &json!({"text": "alice"}))?;
        browser.click("button[value=accept]")?;
        let status = child.wait().map_err(io("waiting for mytoken-ssh"))?;
        let screen = site.read("/home/alice/screen")?;
        assert!(status.success(), "{screen}\n{}", browser.text()?);
        assert!(
            screen.contains("Confirm in your browser within") && screen.contains("✓ alice @ op.testbed"),
            "{screen}"
        );
        assert!(site.sh("alice", "mytoken-ssh status")?.ok()?.stdout.contains("scopes openid profile; audience"));
        Ok(())
    })
}
