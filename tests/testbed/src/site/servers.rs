// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers of a site: their URLs, their certificates, the audience of its services.

/// Certificates of the site's servers.
pub const CA: &str = "/etc/ssl/testbed-ca.pem";
/// The site's mytoken server.
pub const MYTOKEN_SERVER: &str = "https://mytoken.testbed:8443";
/// The site's provider.
pub const PROVIDER: &str = "https://op.testbed:8444";
/// The site's resource server.
pub const RESOURCE_SERVER: &str = "https://se.testbed:8445";
/// The audience that the site's services accept.
pub const AUDIENCE: &str = "https://testbed";
/// Control API of the test server.
pub const CONTROL: &str = "http://127.0.0.1:9440";
