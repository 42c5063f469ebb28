// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection with several shells, with none, and with forwarding only: one login, one credential.

use std::time::Duration;

use serde_json::json;
use testbed::{Result, Site, story_with_own_servers};

use super::one_node;
use crate::bad_tokens::{attempt, inputs};

const SHORT: Duration = Duration::from_secs(20);

/// The token files of all sessions.
const FILES: &str = "find /run/mytoken/sessions -name bt_u2001";

/// Opens a connection of alice in the background, with a socket for more.
fn connect(site: &Site, options: &str) -> Result<()> {
    let token = inputs::mint(site, &json!({}))?;
    let destination = site.new_client()?.destination();
    let arguments = format!(
        "-o PreferredAuthentications=keyboard-interactive -o ControlMaster=yes -o ControlPath=$HOME/mux {options} \
         {destination} </dev/null >/dev/null 2>&1"
    );
    attempt::ssh_with(site, "alice", &[token], &arguments)?.ok()?;
    site.wait_for("the connection", SHORT, "alice", "test -S mux").map(drop)
}

fn disconnect(site: &Site) -> Result<()> {
    site.sh("alice", "ssh -o ControlPath=$HOME/mux -O exit testbed")?.ok()?;
    site.wait_for("the end of the files", SHORT, "root", &format!("! {FILES} | grep .")).map(drop)
}

#[test]
fn two_shells_of_one_connection_share_the_credential_until_the_last_one_ends() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        connect(site, "-fN")?;
        let shell = |command: &str| site.sh("alice", &format!("ssh -o ControlPath=$HOME/mux testbed '{command}'"));
        let wait = "echo $BEARER_TOKEN_FILE >first; while test -e stay; do sleep 0.1; done; cat $BEARER_TOKEN_FILE";
        site.sh("alice", "touch stay")?.ok()?;
        std::thread::scope(|scope| {
            let first = scope.spawn(|| shell(wait));
            site.wait_for("the first shell", SHORT, "alice", "test -s first")?;
            let second = shell("echo $BEARER_TOKEN_FILE; cat $BEARER_TOKEN_FILE | wc -c")?.ok()?;
            let named = site.sh("alice", "cat first; wc -c <$(cat first)")?.ok()?;
            assert_eq!(second.lines(), named.lines(), "both have the same file");
            // The second one has ended. Now the first one reads it.
            site.sh("alice", "rm stay")?.ok()?;
            let read = first.join().map_err(|_| testbed::Error::Refused("a panic".into()))??.ok()?;
            assert!(read.stdout.contains('.'), "the end of one shell removed the file of the other one");
            Ok::<_, testbed::Error>(())
        })?;
        assert_eq!(site.sh("root", FILES)?.ok()?.lines().len(), 1, "the connection is open");
        disconnect(site)
    })
}

#[test]
fn a_connection_without_a_shell_has_a_credential_until_its_end() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        for options in ["-fN", "-fN -L 127.0.0.1:2222:127.0.0.1:22"] {
            connect(site, options)?;
            assert_eq!(site.sh("root", FILES)?.ok()?.lines().len(), 1, "{options}");
            if options.contains("-L") {
                let banner = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/2222; head -c 7 <&3'";
                assert_eq!(site.sh("alice", banner)?.ok()?.stdout, "SSH-2.0");
            }
            disconnect(site)?;
        }
        Ok(())
    })
}
