// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's own storage servers in a site: apache2 with `mod_dav` and libapache2-mod-oauth2, and `XRootD` with its scitokens plugin. Both get
//! the provider's keys by themselves, and accept its access tokens for the site's audience.

use std::time::Duration;

use serde_json::json;
use testbed::drive::people;
use testbed::site::servers::{AUDIENCE, CA, PROVIDER};
use testbed::{Result, Site};

/// What the file `data` on both servers holds.
pub const CONTENT: &str = "content-of-data";

/// The profile whose scope `XRootD` understands: an operation with a path, as the WLCG token profile has it.
pub const PROFILE: &str = "store";
/// The scope of the profile.
pub const SCOPE: &str = "storage.read:/";

/// A certificate of the servers that every client of the site accepts.
const CERTIFICATE: &str = r#"set -e
openssl req -x509 -newkey rsa:2048 -nodes -keyout /etc/ssl/store.key -out /etc/ssl/store.pem -days 2 -subj /CN=se.testbed \
    -addext subjectAltName=DNS:se.testbed 2>/dev/null
install -m 644 "$CA" /usr/local/share/ca-certificates/testbed.crt
install -m 644 /etc/ssl/store.pem /usr/local/share/ca-certificates/store.crt
update-ca-certificates >/dev/null 2>&1
mkdir -p /etc/grid-security
ln -s /etc/ssl/certs /etc/grid-security/certificates
"#;

/// The module checks signature and expiry itself, issuer and audience by `Require`.
const APACHE: &str = r#"ServerName se.testbed
<VirtualHost *:443>
  SSLEngine on
  SSLCertificateFile /etc/ssl/store.pem
  SSLCertificateKeyFile /etc/ssl/store.key
  DocumentRoot /srv/dav
  OAuth2TokenVerify jwks_uri $ISSUER/jwks jwks_uri.ssl_verify=true
  <Location />
    Dav On
    AuthType oauth2
    <RequireAll>
      Require oauth2_claim iss:$ISSUER
      Require oauth2_claim aud:$AUDIENCE
    </RequireAll>
  </Location>
</VirtualHost>
"#;

const START_APACHE: &str = r#"set -e
mkdir -p /srv/dav
echo "$CONTENT" >/srv/dav/data
chown -R www-data /srv/dav
a2enmod -q ssl dav dav_fs oauth2 >/dev/null
a2dissite -q 000-default >/dev/null
a2ensite -q store >/dev/null
apache2ctl start
"#;

const XROOTD: &str = "all.export /store
oss.localroot /srv/xrootd
xrd.port 1094
xrd.tls /etc/ssl/store.pem /etc/xrootd/store.key
xrd.tlsca certdir /etc/ssl/certs
xrootd.tls capable all
xrootd.seclib libXrdSec.so
sec.protocol ztn
ofs.authorize 1
ofs.authlib libXrdAccSciTokens.so config=/etc/xrootd/scitokens.cfg
all.adminpath /var/spool/xrootd
all.pidpath /run/xrootd
";

const START_XROOTD: &str = r#"set -e
mkdir -p /srv/xrootd/store /run/xrootd /var/spool/xrootd /var/log/xrootd
echo "$CONTENT" >/srv/xrootd/store/data
chown -R xrootd: /srv/xrootd /run/xrootd /var/spool/xrootd /var/log/xrootd
install -o xrootd -m 600 /etc/ssl/store.key /etc/xrootd/store.key
setpriv --reuid xrootd --regid xrootd --clear-groups xrootd -b -c /etc/xrootd/store.cfg -l /var/log/xrootd/xrootd.log
"#;

/// Starts both servers, and makes the provider and the site's jobs ready for them.
pub fn start(site: &Site) -> Result<()> {
    // The plugin of XRootD wants the version of the token profile.
    let policy = json!({
        "scopes": ["openid", "offline_access", "profile", "storage.read", SCOPE], "extra_claims": {"wlcg.ver": "1.0"}
    });
    people::control(site, "/provider/policy", Some(&policy.to_string()))?;
    let profile = format!(
        "[[profile]]\nname = \"{PROFILE}\"\nserver = \"testbed\"\nscope = \"{SCOPE}\"\naudience = \"{AUDIENCE}\"\ntools = [\"rclone\"]\n"
    );
    site.write("/etc/mytoken/jobs.d/store.toml", &profile, "0644")?;
    let root = |script: &str| site.script("root", script).env("CA", CA).env("CONTENT", CONTENT).run()?.ok().map(drop);
    root(CERTIFICATE)?;
    let apache = APACHE.replace("$ISSUER", PROVIDER).replace("$AUDIENCE", AUDIENCE);
    site.write("/etc/apache2/sites-available/store.conf", &apache, "0644")?;
    root(START_APACHE)?;
    site.write("/etc/xrootd/store.cfg", XROOTD, "0644")?;
    let scitokens =
        format!("[Global]\naudience = {AUDIENCE}\n[Issuer site]\nissuer = {PROVIDER}\nbase_path = /store\n");
    site.write("/etc/xrootd/scitokens.cfg", &scitokens, "0644")?;
    root(START_XROOTD)?;
    let listen = "for port in 443 1094; do timeout 1 bash -c \"</dev/tcp/se.testbed/$port\" || exit 1; done";
    site.wait_for("the storage servers", Duration::from_secs(60), "root", listen).map(drop)
}
