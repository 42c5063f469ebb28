// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` about a provider that logins ask about tokens.

use testbed::drive::people::control;
use testbed::{Options, Result, story_with_own_servers};

use crate::checked::{findings, healthy, sees_alone};

/// Lets logins ask for an introspection, as the client `site`.
const ASK: &str = "printf 'validation = [\"local\", \"introspection\"]\nclient_id = \"site\"\nclient_secret_file = \"/root/secret\"\n' \
                   >>/etc/mytoken/mytoken.toml; (umask 077; echo wrong >/root/secret)";

#[test]
fn a_provider_that_refuses_this_sites_client_is_found_alone() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let found = sees_alone(site, "", ASK, "issuer-validation", 2)?;
        assert!(found[0].text.contains("refuses the client \"site\""), "{found:?}");
        control(site, "/provider/client", Some(r#"{"id": "site", "secret": "right"}"#))?;
        sees_alone(site, "", "true", "issuer-validation", 2)?;
        site.sh("root", "echo right >/root/secret")?.ok()?;
        assert_eq!(findings(site, "")?, (vec![], 0));
        let found = sees_alone(site, "", "chmod 0644 /root/secret", "issuer-validation", 2)?;
        assert!(found[0].text.contains("chmod 600 /root/secret"), "{found:?}");
        let found = sees_alone(site, "", "rm /root/secret", "issuer-validation", 2)?;
        assert!(found[0].text.contains("/root/secret cannot be used: it does not exist"), "{found:?}");
        Ok(())
    })
}
