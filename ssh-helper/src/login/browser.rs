// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens the link of a login in the user's browser. All users can see the arguments of programs, and who has the link can confirm it in
//! the user's place. So the browser gets a page in a private directory that leads to it.

use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mytoken::Deadline;

use crate::askpass::directory::{PAGE_NAME, PrivateDirectory};
use crate::other_programs::waiting::within;
use crate::ssh::installed;

/// Time limit for the name of the browser.
const NAME_TIMEOUT: Duration = Duration::from_secs(2);

/// A page that a browser was asked to open. It is removed with this.
pub struct OpenedPage {
    _directory: PrivateDirectory,
}

/// Asks the user's browser to open the link. `None`: there is no browser, or not on this screen.
pub fn open(link: &str) -> Option<OpenedPage> {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !std::io::stdout().is_terminal() || !is_on_this_screen(&has) {
        return None;
    }
    let opener = installed::find(if cfg!(target_os = "macos") { "open" } else { "xdg-open" }).ok()?;
    if default_browser().is_some_and(|name| is_snap(&name)) {
        return None;
    }
    let directory = PrivateDirectory::create().ok()?;
    let file = directory.path().join(PAGE_NAME);
    // Nobody else can enter the directory.
    std::fs::write(&file, page(link)).ok()?;
    let mut child = installed::command(&opener)
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // It may run as long as the browser.
    std::thread::spawn(move || child.wait());
    Some(OpenedPage { _directory: directory })
}

/// Whether a window would show where the user is: a session over ssh may have the variables of a screen elsewhere.
fn is_on_this_screen(has: &dyn Fn(&str) -> bool) -> bool {
    let is_remote = has("SSH_CONNECTION") || has("SSH_TTY");
    !is_remote && (cfg!(target_os = "macos") || has("DISPLAY") || has("WAYLAND_DISPLAY"))
}

/// Name of the default browser's desktop entry. `None`: nobody says it.
fn default_browser() -> Option<String> {
    let program = installed::find("xdg-settings").ok()?;
    let asked = within(Deadline::after(NAME_TIMEOUT), move || {
        let mut command = Command::new(program);
        command.args(["get", "default-web-browser"]).stdin(Stdio::null()).stderr(Stdio::null());
        command.output().ok().filter(|output| output.status.success())
    });
    Some(String::from_utf8_lossy(&asked??.stdout).trim().to_owned())
}

/// A browser from a snap (`firefox_firefox.desktop`) sees no private directory of others.
fn is_snap(name: &str) -> bool {
    Path::new(name).file_stem().and_then(|name| name.to_str()).is_some_and(|name| name.contains('_'))
}

/// A page that leads to the link.
fn page(link: &str) -> String {
    let link: String = link
        .chars()
        .map(|letter| match letter {
            '&' | '<' | '>' | '"' | '\'' => format!("&#{};", u32::from(letter)),
            letter => letter.to_string(),
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta http-equiv=\"refresh\" content=\"0; url={link}\">\n<title>mytoken-ssh login</title>\n<a href=\"{link}\">Confirm the login</a>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_opened_on_the_screen_of_the_user_only() {
        let shown = |variables: &[&str]| is_on_this_screen(&|name| variables.contains(&name));
        assert!(shown(&["DISPLAY"]) && shown(&["WAYLAND_DISPLAY"]));
        assert!(!shown(&["DISPLAY", "SSH_CONNECTION"]) && !shown(&["WAYLAND_DISPLAY", "SSH_TTY"]));
        assert_eq!(shown(&[]), cfg!(target_os = "macos"));
        assert!(is_snap("firefox_firefox.desktop"));
        assert!(!is_snap("firefox.desktop") && !is_snap("org.mozilla.firefox.desktop") && !is_snap(""));
    }

    #[test]
    fn a_link_cannot_leave_its_place_in_the_page() {
        let page = page("https://mt/c/a?b=1&c=\"><script>'");
        assert!(page.contains("url=https://mt/c/a?b=1&#38;c=&#34;&#62;&#60;script&#62;&#39;\">"), "{page}");
        assert_eq!(page.matches("<script").count(), 0);
    }
}
