// SPDX-License-Identifier: MIT OR Apache-2.0
//! sshd as Debian ships it, with PAM and keyboard-interactive as an administrator would set it up from the product's
//! examples.

use std::time::Duration;

use crate::site::daemon::Daemon;
use crate::site::plan::Network;
use crate::{Release, Result, Site};

/// A user's key for logins without a token. Plain `ssh testbed` does not use it, because it has no default name.
pub const USER_KEY: &str = ".ssh/site_key";

/// sshd reads this file before the product's, and uses the first value of a keyword.
const DROP_IN: &str = "/etc/ssh/sshd_config.d/05-testbed.conf";

const PRODUCT_DROP_IN: &str = "/usr/share/mytoken/sshd.conf";
const PRODUCT_STACK: &str = "/usr/share/mytoken/pam-sshd.example";

/// sshd's port. In the caller's network port 22 is often in use.
fn port(network: Network) -> u16 {
    match network {
        Network::Own => 22,
        Network::Callers => 22_022,
    }
}

pub(crate) fn start(site: &Site) -> Result<()> {
    let network = site.network();
    let (address, port) = (network.address(), port(network));
    let options = site.options();
    let mut config = format!("LogLevel {}\n{}\n", options.sshd_log_level, options.sshd_config);
    // sshd of bookworm does not know this keyword and would not start.
    if !options.penalties && options.release != Release::Bookworm {
        config += "PerSourcePenalties no\n";
    }
    if network == Network::Callers {
        config += &format!("ListenAddress {address}:{port}\n");
    }
    site.write(DROP_IN, &config, "0644")?;
    if network == Network::Callers {
        let client = format!("Host testbed\n  HostName {address}\n  Port {port}\n  HostKeyAlias testbed\n");
        site.write("/etc/ssh/ssh_config.d/testbed.conf", &client, "0644")?;
    }
    if options.product {
        // As README describes. The package mytoken-sshd-config makes the link too.
        site.sh("root", &format!("ln -sf {PRODUCT_DROP_IN} /etc/ssh/sshd_config.d/10-mytoken.conf"))?.ok()?;
        if options.example_stack {
            site.sh("root", &format!("cp {PRODUCT_STACK} /etc/pam.d/sshd"))?.ok()?;
        }
    }
    site.start_daemon(Daemon::new("sshd", ["/usr/sbin/sshd", "-D"]))
}

pub(crate) fn wait(site: &Site) -> Result<()> {
    let (address, port) = (site.network().address(), port(site.network()));
    let greeting = format!("exec 3<>/dev/tcp/{address}/{port} && read -t 5 line <&3 && [[ $line == SSH-2.0-* ]]");
    site.wait_for("sshd", Duration::from_secs(10), "root", &greeting).map(drop)
}
