// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens the link of a login in the user's browser. All users can see the arguments of programs, and who has the link can confirm it in
//! the user's place. So the browser gets a page in a private directory that leads to it.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use mytoken::Deadline;

use crate::askpass::directory::{PAGE_NAME, PrivateDirectory};
use crate::other_programs::waiting::within;
use crate::ssh::installed;

/// Time limit for the name of a program.
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
    let pages = says("xdg-mime", &["query", "default", "text/html"]);
    let links = says("xdg-settings", &["get", "default-web-browser"]);
    if !opens_pages(pages.as_deref(), links.as_deref()) {
        return None;
    }
    let directory = PrivateDirectory::create().ok()?;
    let file = directory.path().join(PAGE_NAME);
    // Nobody else can enter the directory.
    std::fs::write(&file, page(link)).ok()?;
    // Ctrl-C is for this program, and not for a browser that starts now.
    let mut child = Command::new(&opener)
        .arg(&file)
        .process_group(0)
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

/// The line that a program prints. `None`: it is missing, or has nothing to say.
fn says(program: &str, arguments: &'static [&'static str]) -> Option<String> {
    let program = installed::find(program).ok()?;
    let asked = within(Deadline::after(NAME_TIMEOUT), move || {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        command.output().ok().filter(|output| output.status.success())
    });
    let said = String::from_utf8_lossy(&asked.ok()??.stdout).trim().to_owned();
    Some(said).filter(|said| !said.is_empty())
}

/// Whether the program for pages can be the browser, by the names of desktop entries. Another one may be an editor. One from a snap
/// (`firefox_firefox.desktop`) sees no private directory of others.
fn opens_pages(page: Option<&str>, links: Option<&str>) -> bool {
    let is_snap = |name: &str| name.strip_suffix(".desktop").unwrap_or(name).contains('_');
    let is_browser = page.zip(links).is_none_or(|(page, links)| page == links);
    is_browser && ![page, links].into_iter().flatten().any(is_snap)
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
        let (own, snap) = (Some("org.mozilla.firefox.desktop"), Some("firefox_firefox.desktop"));
        assert!(opens_pages(own, own) && opens_pages(None, own) && opens_pages(own, None) && opens_pages(None, None));
        for (page, links) in [(snap, snap), (None, snap), (snap, None), (Some("org.gnome.gedit.desktop"), own)] {
            assert!(!opens_pages(page, links), "{page:?} {links:?}");
        }
    }

    #[test]
    fn a_link_cannot_leave_its_place_in_the_page() {
        let page = page("https://mt/c/a?b=1&c=\"><script>'");
        assert!(page.contains("url=https://mt/c/a?b=1&#38;c=&#34;&#62;&#60;script&#62;&#39;\">"), "{page}");
        assert_eq!(page.matches("<script").count(), 0);
    }
}
