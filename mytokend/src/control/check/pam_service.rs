// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the module's arguments, and whether it serves the service that calls it.

use std::path::Path;

use mytoken_login::ModuleArguments;
use mytoken_wire::printable;

use super::configuration::{edit, word};
use super::host::Host;
use super::pam::{MODULE, NAME, SSHD, has_cr, ours, read};
use super::pam_stack::{Group, Stack};
use super::{Findings, kinds};

impl Findings {
    /// The services whose stacks are checked. `sshd`: the name that sshd has for PAM.
    pub(super) fn checked_services(host: &dyn Host, listed: &[String], sshd: &str) -> Vec<String> {
        let asked = sshd != SSHD || ours(&read(host, sshd, Group::Auth)).is_some();
        let also = Some(sshd.to_owned()).filter(|sshd| asked && !listed.contains(sshd));
        listed.iter().cloned().chain(also).collect()
    }

    /// Lets the module's own parser judge its arguments. An included line can be in several stacks.
    pub(super) fn arguments(&mut self, stacks: [&Stack; 3], dir: &Path) {
        for line in stacks.into_iter().flat_map(Stack::lines).filter(|line| line.name() == MODULE && !has_cr(line)) {
            let arguments = ModuleArguments::parse(&line.arguments);
            if arguments.config != dir {
                let read = arguments.config.to_string_lossy();
                let text = format!(
                    "{}: {MODULE}.so reads {}, and {} is checked here",
                    line.place,
                    printable(&read, NAME),
                    dir.display()
                );
                self.add_fixed(kinds::PAM_CONFIG, text, format!("mytokenctl check --config {}", word(&read)));
            }
            for unknown in arguments.unknown {
                let text = format!(
                    "{}: {MODULE}.so has no argument {}: it is passed over, and logged at each login",
                    line.place,
                    printable(&unknown, NAME)
                );
                self.add_fixed(kinds::PAM_ARGUMENT, text, format!("{}   # man 8 pam_mytoken", edit(&line.place)));
            }
        }
    }

    /// Whether the module serves the service: it passes others over.
    pub(super) fn served(&mut self, auth: &Stack, service: &str, listed: &[String]) {
        let Some(line) = ours(auth) else { return };
        let own = ModuleArguments::parse(&line.arguments).services;
        let (names, place, fix) = match &own {
            Some(own) => (own.as_slice(), "services= of this line", edit(&line.place)),
            None => (listed, "services of login.toml", "${EDITOR:-vi} /etc/mytoken/login.toml".to_owned()),
        };
        if !names.iter().any(|name| name == service) {
            let text = format!("{}: {place} does not name {service}: tokens are not asked for", line.place);
            self.add_fixed(kinds::PAM_SERVICE, text, format!("{fix}   # services"));
        }
    }

    /// Files that keep out everybody but root.
    pub(super) fn nologin(&mut self, host: &dyn Host, sshd: &str) {
        let asked = read(host, sshd, Group::Account).lines().any(|line| line.name() == "pam_nologin");
        // sshd itself looks for the first one.
        let files = [("/etc/nologin", true), ("/run/nologin", asked)];
        for (file, _) in files.into_iter().filter(|(file, counts)| *counts && host.exists(Path::new(file))) {
            let fix = format!("cat {file}   # the reason; then remove it");
            self.add_fixed(kinds::NOLOGIN, format!("{file} exists: nobody but root can log in"), fix);
        }
    }
}
