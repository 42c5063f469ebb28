// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo: a tour of the product on the terminal, with real commands and their output.

mod history;
mod job;
mod narrator;
mod outage;
mod session;

use crate::drive::people::{self, Session};
use crate::{Error, Options, Result, Site};

pub use narrator::{Narrator, masked};

/// Lifetime of the demo's access tokens: short enough that a job of a minute needs several.
const TOKEN_SECONDS: u32 = 15;

/// Makes a site and runs the demo in it.
///
/// # Errors
/// When a step could not be run, or at the end when a check failed.
pub fn run(options: Options) -> Result<()> {
    if options.foreign.is_some() {
        return Err(Error::Refused(
            "the demo injects faults, so it needs the test server; with --server run the stories instead".into(),
        ));
    }
    let mut narrator = Narrator::new();
    narrator.chapter("A site: OpenID provider, mytoken server, sshd, munge, slurmctld, 4 nodes");
    let site = Site::start(options)?;
    people::control(&site, "/provider/lifetime", Some(&format!("{{\"seconds\":{TOKEN_SECONDS}}}")))?;
    let versions = site.sh("root", "sinfo --version; ssh -V; sinfo --noheader --format '%D nodes, %T'")?;
    narrator.show("root", "sinfo --version; ssh -V; sinfo", &versions);
    narrator.say(&format!("Access tokens of this provider live {TOKEN_SECONDS} seconds."));

    let mut session = session::log_in(&site, &mut narrator)?;
    let job = job::run(&site, &mut narrator, &mut session)?;
    job::end(&site, &mut narrator, &job)?;
    outage::run(&site, &mut narrator, &mut session)?;
    leave(&site, &mut narrator, session)?;
    narrator.summary()
}

/// Ends the session and checks that its files are removed.
fn leave(site: &Site, narrator: &mut Narrator, session: Session) -> Result<()> {
    narrator.chapter("alice logs out");
    session.close()?;
    let gone = site.wait_for(
        "the end of the session's files",
        std::time::Duration::from_secs(10),
        "root",
        "test -z \"$(find /run/mytoken/sessions -type f 2>/dev/null)\"",
    );
    narrator.check(gone.is_ok(), "the session's files are gone after logout");
    Ok(())
}
