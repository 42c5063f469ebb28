// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test server of a site: provider, mytoken server and resource server.

use std::fs;
use std::io::Write;
use std::time::Duration;

use crate::error::WithContext;
use crate::site::daemon::Daemon;
use crate::site::paths;
use crate::site::plan::TESTSERVER_INSIDE;
use crate::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER, PROVIDER, RESOURCE_SERVER};
use crate::{Result, Site};

/// The directory of its keys, certificates and `endpoints.json`.
const FOLDER: &str = "/var/lib/testserver";

/// Its name for [`Site::stop`] and [`Site::restart`].
pub const NAME: &str = "testserver";

/// The provider's keys there.
const KEYS: &str = "/var/lib/testserver/provider-keys.json";

/// Further settings.
const SETTINGS: &str = "/var/lib/testserver/settings.json";

/// A program on the user's machine, as oidc-agent.
const CLIENTS: &str =
    r#"{"clients": [{"id": "native", "secret": "native", "redirect_uris": ["http://localhost:4242"]}]}"#;

pub(crate) fn start(site: &Site) -> Result<()> {
    // Making an RSA key takes a second of a processor, and no two sites need different ones.
    if let Ok(keys) = fs::read_to_string(paths::provider_keys()) {
        let write = format!("umask 077; mkdir -p {FOLDER}; chmod 755 {FOLDER}; test -e {KEYS} || cat >{KEYS}");
        site.script("root", &write).stdin(keys).run()?.ok()?;
    }
    let address = site.network().address();
    let (mytoken, provider, resource) =
        (format!("{address}:8443"), format!("{address}:8444"), format!("{address}:8445"));
    let write = format!("mkdir -p {FOLDER} && chmod 755 {FOLDER} && cat >{SETTINGS}");
    site.script("root", &write).stdin(CLIENTS).run()?.ok()?;
    let limit = site.options().request_limit;
    #[rustfmt::skip]
    let mut argv = vec![
        TESTSERVER_INSIDE, "serve", "--dir", FOLDER, "--config", SETTINGS,
        "--mytoken-addr", &mytoken, "--mytoken-url", MYTOKEN_SERVER,
        "--provider-addr", &provider, "--provider-url", PROVIDER,
        "--resource-addr", &resource, "--resource-url", RESOURCE_SERVER, "--resource-audience", AUDIENCE,
        "--control-addr", "127.0.0.1:9440",
    ];
    if !limit.is_empty() {
        argv.extend(["--request-limit", limit]);
    }
    site.start_daemon(Daemon::new(NAME, argv))
}

pub(crate) fn wait(site: &Site) -> Result<()> {
    let endpoints = format!("test -s {FOLDER}/endpoints.json && install -m 644 {FOLDER}/ca.pem {CA}");
    site.wait_for_daemon(NAME, None, Duration::from_secs(30), &endpoints)?;
    keep_keys(site)
}

/// Keeps the provider's keys for later sites, unless there are some.
fn keep_keys(site: &Site) -> Result<()> {
    let (keys, directory) = (paths::provider_keys(), paths::target());
    if keys.exists() {
        return Ok(());
    }
    let text = site.read(KEYS)?;
    let kept = tempfile::NamedTempFile::new_in(directory).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // Other sites that start now do the same.
        file.persist(&keys).map_err(|error| error.error)
    });
    kept.map(drop).with_context(|| format!("writing {}", keys.display()))
}
