// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test server of a site: provider, mytoken server and resource server.

use std::time::Duration;

use crate::site::daemon::Daemon;
use crate::site::plan::TESTSERVER_INSIDE;
use crate::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER, PROVIDER, RESOURCE_SERVER};
use crate::{Result, Site};

/// The directory of its keys, certificates and `endpoints.json`.
const FOLDER: &str = "/var/lib/testserver";

/// Its name for [`Site::stop`] and [`Site::restart`].
pub const NAME: &str = "testserver";

pub(crate) fn start(site: &Site) -> Result<()> {
    let address = site.network().address();
    let (mytoken, provider, resource) =
        (format!("{address}:8443"), format!("{address}:8444"), format!("{address}:8445"));
    let limit = site.options().request_limit;
    #[rustfmt::skip]
    let mut argv = vec![
        TESTSERVER_INSIDE, "serve", "--dir", FOLDER,
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
    site.wait_for_daemon(NAME, None, Duration::from_secs(30), &endpoints)
}
