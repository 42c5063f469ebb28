// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check`: findings about the configuration, files, accounts, issuers and mytoken servers, each on a site
//! that is broken in this way alone.

use testbed::site::paths;
use testbed::{Error, Options, Result, Site, story, story_with_own_servers};

use crate::checked::{findings, healthy, sees_alone};
use crate::written::document;

/// Puts everything back.
const MEND: &str = "rm -rf /etc/mytoken && cp -a /root/healthy /etc/mytoken && cp /root/passwd /etc/passwd && \
                    chmod 0644 /etc/ssl/both.pem && (test -d /run/mytoken/cache || rm -f /run/mytoken/cache) && chown root /var/cache/mytoken && \
                    rm -rf /var/lib/mytoken/logins && \
                    curl -sf -X POST http://127.0.0.1:9440/clear";

/// A provider of the story's own, at `own.testbed:9443`, with a certificate of the story's authority. `own CERT
/// SECONDS CLAIMS EDIT` starts it with a clock that differs by SECONDS. With EDIT, an expression of sed, it is also a
/// mytoken server with the edited document of the site's. To `/info` it answers as a motley_cue that trusts the provider `$TRUSTED`, else the
/// site's. `plain` does so at port 81 without TLS.
const OWN: &str = r#"
set -e
mkdir -p /root/own/web/.well-known && cd /root/own
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$1.key" 2>/dev/null; }
for authority in ca stranger; do
  key $authority
  openssl req -x509 -new -key $authority.key -days 9 -subj "/CN=$authority of the story" -out $authority.pem
done
key own
openssl req -new -key own.key -subj /CN=own -out own.csr
printf 'subjectAltName=DNS:own.testbed\nbasicConstraints=CA:FALSE\n' >extensions
sign() { openssl x509 -req -in own.csr -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -days 9 -extfile extensions -out "$2.pem" 2>/dev/null; }
sign ca good
sign stranger foreign
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' >ca.cnf
: >index; echo unique_subject = no >index.attr; echo 01 >serial
dated() { openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in own.csr -out "$1.pem" -startdate "$2" -enddate "$3" -extfile extensions -notext 2>/dev/null; }
dated old 20200101000000Z 20200201000000Z
dated young 20490101000000Z 20490201000000Z
cat /etc/ssl/testbed-ca.pem ca.pem >/etc/ssl/both.pem
echo '127.0.0.1 own.testbed' >>/etc/hosts
echo "$(getent ahostsv4 mytoken.testbed | cut -d' ' -f1 | head -1) alias.testbed" >>/etc/hosts
cat >/usr/local/bin/own <<'SCRIPT'
#!/bin/sh
set -e
cd /root/own/web
answer() {
  printf 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nDate: %s\r\nContent-Length: %s\r\n\r\n' \
    "$(LC_ALL=C date -u -d "$2 seconds" '+%a, %d %b %Y %H:%M:%S GMT')" "$(wc -c <$1)" | cat - $1
}
test -e jwks.json || curl -sf --cacert /etc/ssl/testbed-ca.pem https://op.testbed:8444/jwks >jwks.json
url=https://own.testbed:9443
printf '{"issuer":"%s","jwks_uri":"%s/jwks","claims_supported":["sub"%s]}' $url $url "$3" >document.json
printf '{"issuer":"https://elsewhere.example.org","access_token_endpoint":"%s/at","mytoken_endpoint":"%s/my"}' $url $url >server.json
there=https://mytoken.testbed:8443
test -z "$4" || curl -sf --cacert /etc/ssl/testbed-ca.pem $there/.well-known/mytoken-configuration | sed "s,$there,$url,g; $4" >server.json
answer document.json "$2" >.well-known/openid-configuration
answer server.json "$2" >.well-known/mytoken-configuration
answer jwks.json "$2" >jwks
printf '{"supported_OPs":["%s"]}' "${TRUSTED:-https://op.testbed:8444}" >info.json
answer info.json "$2" >info
# The port must be free: the new one would not start, and the old one would be taken for it.
if test -e ../pid && kill "$(cat ../pid)"; then
  for _ in $(seq 100); do openssl s_client -connect own.testbed:9443 </dev/null >/dev/null 2>&1 || break; sleep 0.05; done
fi
setsid openssl s_server -accept 9443 -HTTP -cert ../$1.pem -key ../own.key </dev/null >../log 2>&1 &
echo $! >../pid
for _ in $(seq 50); do openssl s_client -connect own.testbed:9443 </dev/null >/dev/null 2>&1 && exit 0; sleep 0.1; done
cat ../log; exit 1
SCRIPT
cat >/usr/local/bin/plain <<'SCRIPT'
#!/bin/sh
setsid perl -MIO::Socket::INET -e '
  my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 81, Listen => 9, ReuseAddr => 1) or die $!;
  local $/; open my $file, "<", "/root/own/web/info" or die; my $answer = <$file>; $/ = "\r\n";
  while (my $client = $server->accept) { while (<$client>) { last if $_ eq "\r\n" } print $client $answer; close $client }
' </dev/null >/root/own/plain.log 2>&1 &
for _ in $(seq 50); do curl -sf http://127.0.0.1:81/info >/dev/null && exit 0; sleep 0.1; done
cat /root/own/plain.log; exit 1
SCRIPT
chmod 755 /usr/local/bin/own /usr/local/bin/plain
"#;

/// Makes `own` an issuer whose mytokens and access tokens may log in.
const WITH_OWN: &str = "mkdir -p /etc/mytoken/mytoken.d /etc/mytoken/login.d; \
    printf '[[issuer]]\\nname = \"own\"\\nurl = \"https://own.testbed:9443\"\\naudiences = [\"https://testbed\"]\\nrequired_scopes = [\"openid\"]\\n' \
        >/etc/mytoken/mytoken.d/own.toml; \
    printf '[[rule]]\\nname = \"own\"\\nissuer = \"own\"\\ntemplate = \"{preferred_username}\"\\n' >/etc/mytoken/login.d/own.toml; ";

/// A rule with a map file.
const WITH_MAP: &str = "mkdir -p /etc/mytoken/login.d; \
    printf '[[rule]]\\nname = \"list\"\\nissuer = \"op\"\\nmap_file = \"/etc/mytoken/users.map\"\\n' >/etc/mytoken/login.d/list.toml; ";

/// How a site is broken, the id of the one finding, and the exit status.
const FILES: &[(&str, &str, i32)] = &[
    ("mv /etc/mytoken/mytoken.toml /root/", "configuration-missing", 2),
    ("mv /etc/mytoken/login.toml /root/", "login-toml-missing", 2),
    ("mv /etc/mytoken/jobs.toml /root/", "jobs-toml-missing", 2),
    ("echo 'proxi = 1' >>/etc/mytoken/mytoken.toml", "configuration-invalid", 2),
    ("echo '[[rule' >>/etc/mytoken/login.toml", "configuration-invalid", 2),
    ("sed -i 's/^name = \"testbed\"/name = \"-testbed\"/' /etc/mytoken/jobs.toml", "configuration-invalid", 2),
    // What no node accepts.
    (
        "sed -i \"s/^scope = .*/scope = \\\"$(printf %01025d 0)\\\"/\" /etc/mytoken/jobs.toml",
        "configuration-invalid",
        2,
    ),
    (
        "sed -i '/^hosts/d; s,^audience = .*,&\\nhosts = [\"10.0.0.0/+24\"],' /etc/mytoken/jobs.toml",
        "configuration-invalid",
        2,
    ),
    ("sed -i 's/^issuer = .*/issuer = \"egi\"/' /etc/mytoken/login.toml", "configuration-invalid", 2),
    ("chmod 0666 /etc/mytoken/mytoken.toml", "configuration-unsafe", 2),
    ("chmod 0777 /etc/mytoken", "configuration-unsafe", 2),
    ("chown alice /etc/mytoken/login.toml", "configuration-unsafe", 2),
    (
        "mv /etc/mytoken/login.toml ~alice/ && ln -s ~alice/login.toml /etc/mytoken/login.toml",
        "configuration-unsafe",
        2,
    ),
    ("rm /etc/mytoken/login.toml && ln -s nowhere /etc/mytoken/login.toml", "configuration-unreadable", 2),
    ("mkdir /etc/mytoken/login.d && ln -s nowhere /etc/mytoken/login.d/a.toml", "configuration-unreadable", 2),
    // What a link stood for may have denied accounts.
    ("ln -s /etc/site /etc/mytoken/mytoken.d", "configuration-unreadable", 2),
    ("ln -s /etc/site /etc/mytoken/login.d", "configuration-unreadable", 2),
    ("ln -s /etc/site /etc/mytoken/jobs.d", "configuration-unreadable", 2),
    ("ln -s /etc/site /etc/mytoken/keys/private.d", "private-key", 2),
    ("mkdir -p /etc/mytoken/login.d; echo '[accounts]' >/etc/mytoken/login.d/deny.conf", "drop-in-not-read", 1),
    ("mkdir /etc/mytoken/jobs.d && mkfifo /etc/mytoken/jobs.d/a.toml", "configuration-unsafe", 2),
    ("printf '\\377\\n' >>/etc/mytoken/jobs.toml", "configuration-invalid", 2),
    ("chmod 0600 /etc/mytoken/mytoken.toml", "users-cannot-read", 2),
    ("chmod 0600 /etc/mytoken/jobs.toml", "users-cannot-read", 2),
    ("chmod 0600 /etc/mytoken/keys/cluster.pub", "users-cannot-read", 2),
    ("chmod 0700 /etc/mytoken/keys", "users-cannot-read", 2),
    ("chmod 0700 /etc/mytoken", "users-cannot-read", 2),
    ("chmod 0600 /etc/ssl/both.pem", "users-cannot-read", 2),
    (
        "rm -rf /srv/closed; install -D -m 0644 /etc/ssl/both.pem /srv/closed/ca.pem; chmod 0700 /srv/closed; \
         ln -s /srv/closed/ca.pem /etc/mytoken/ca.pem; sed -i s,/etc/ssl/both.pem,/etc/mytoken/ca.pem, /etc/mytoken/mytoken.toml",
        "users-cannot-read",
        2,
    ),
    ("(umask 077; mkdir -p /etc/mytoken/jobs.d)", "users-cannot-read", 2),
    ("mkdir -p /etc/mytoken/jobs.d; (umask 077; echo >/etc/mytoken/jobs.d/a.toml)", "users-cannot-read", 2),
    ("sed -i /^nobody:/d /etc/passwd", "users-not-checked", 1),
    (
        "sed -n '/issuer/,$p' /etc/mytoken/mytoken.toml | sed 's/\"op\"/\"again\"/' >/root/again; cat /root/again >>/etc/mytoken/mytoken.toml",
        "issuer-url-twice",
        2,
    ),
    (
        "mkdir -p /etc/mytoken/mytoken.d; \
         sed -n '/issuer/,$p' /etc/mytoken/mytoken.toml | sed 's/\"op\"/\"again\"/' >/etc/mytoken/mytoken.d/again.toml",
        "issuer-url-twice",
        2,
    ),
    (
        "mkdir -p /etc/mytoken/mytoken.d; \
         printf '[[server]]\\nname = \"again\"\\nurl = \"https://mytoken.testbed:8443/\"\\n' >/etc/mytoken/mytoken.d/again.toml",
        "server-url-twice",
        1,
    ),
    ("sed -i '/rule/,$d' /etc/mytoken/login.toml", "login-no-rule", 2),
    (
        "mkdir -p /etc/mytoken/login.d; sed -n '/rule/,$p' /etc/mytoken/login.toml >/etc/mytoken/login.d/again.toml",
        "rule-name-twice",
        1,
    ),
    ("sed -i '/profile/,$d' /etc/mytoken/jobs.toml", "jobs-no-profile", 2),
    (
        "mkdir -p /etc/mytoken/login.d; printf '[accounts]\\ndeny = [\"root\", \"no-such\"]\\n' >/etc/mytoken/login.d/a.toml",
        "accounts-unknown",
        1,
    ),
    (
        "mkdir -p /etc/mytoken/login.d; printf '[account]\\nexempt = [\"root\", \"no-such\"]\\n' >/etc/mytoken/login.d/a.toml",
        "accounts-unknown",
        1,
    ),
    (
        "mkdir -p /etc/mytoken/login.d; printf '[account]\\nkey_logins = \"recent-login:24h\"\\n' >/etc/mytoken/login.d/a.toml; \
         install -d -m 0755 /var/lib/mytoken /var/lib/mytoken/logins",
        "key-logins-refused",
        2,
    ),
    (
        "sed -i 's,https://testbed,https://other,' /etc/mytoken/login.toml /etc/mytoken/jobs.toml",
        "exchange-audience",
        2,
    ),
    (
        "mkdir -p /etc/mytoken/login.d; printf '[exchange]\\naudience = \"https://other\"\\n' >/etc/mytoken/login.d/a.toml",
        "exchange-audience",
        2,
    ),
    (
        "mkdir -p /etc/mytoken/login.d; printf '[exchange]\\nscope = \"profile\"\\n' >/etc/mytoken/login.d/a.toml",
        "exchange-scope",
        1,
    ),
    ("sed -i /required_scopes/d /etc/mytoken/mytoken.toml", "issuer-id-tokens", 1),
    ("MAP", "map-file-unusable", 2),
    ("MAP echo 'op s-1 alice the boss' >/etc/mytoken/users.map", "map-file-line", 2),
    ("MAP echo 'egi s-1 alice' >/etc/mytoken/users.map", "map-file-issuer", 1),
    ("MAP echo 'op s-1 alicia' >/etc/mytoken/users.map", "map-file-account", 1),
    ("MAP echo 'op s-1 root' >/etc/mytoken/users.map", "map-file-account-closed", 1),
    ("MAP echo '# nobody yet' >/etc/mytoken/users.map", "map-file-empty", 1),
    ("MAP (umask 0; echo 'op s-1 alice' >/etc/mytoken/users.map)", "map-file-unusable", 2),
    (
        "printf '[[rule]]\\nname = \"asked\"\\nissuer = \"op\"\\ncommand = [\"%s\"]\\nrun_as = \"%s\"\\n' /usr/bin/no-such nobody >>/etc/mytoken/login.toml",
        "mapper-program",
        2,
    ),
    (
        "install -m 0777 /bin/true /root/mapper; printf '[[rule]]\\nname = \"asked\"\\nissuer = \"op\"\\ncommand = [\"%s\"]\\nrun_as = \"%s\"\\n' /root/mapper nobody >>/etc/mytoken/login.toml",
        "mapper-program",
        2,
    ),
    (
        "printf '[[rule]]\\nname = \"asked\"\\nissuer = \"op\"\\ncommand = [\"%s\"]\\nrun_as = \"%s\"\\n' /bin/true no-such >>/etc/mytoken/login.toml",
        "mapper-run-as",
        2,
    ),
    ("mv /etc/mytoken/keys/cluster.pub /root/", "public-key", 2),
    // It is not opened to users: that would be the next finding.
    ("cd /etc/mytoken/keys && cp cluster.pub /root/ && cp -p cluster.key cluster.pub", "public-key", 2),
    ("chmod 0644 /etc/mytoken/keys/cluster.key", "private-key", 2),
    (
        "rm -rf /root/pair; mytokenctl keygen --dir /root/pair >/dev/null; cp /root/pair/cluster.pub /etc/mytoken/keys/cluster.pub",
        "keys-differ",
        2,
    ),
    // NSS needs more time for these accounts than the check gives it.
    (
        "MAP seq 20000 | sed 's/.*/u&:x:70000:65534::\\/:\\/bin\\/sh/' >>/etc/passwd; seq 20000 | sed 's/.*/op s-& u&/' >/etc/mytoken/users.map",
        "map-file-lookup",
        1,
    ),
    ("chown alice /var/cache/mytoken", "cache-one-directory", 1),
    ("chown alice /var/cache/mytoken; rm -rf /run/mytoken/cache; touch /run/mytoken/cache", "cache", 2),
];

/// The same, for what the network shows.
const NETWORK: &[(&str, &str, i32)] = &[
    ("echo >/etc/ssl/empty.pem; sed -i s,/both.pem,/empty.pem, /etc/mytoken/mytoken.toml", "ca-file", 2),
    ("PROXY http://[", "http-settings", 2),
    ("PROXY http://127.0.0.1:1", "proxy-unreachable", 2),
    ("PROXY 127.0.0.1:1", "proxy-unreachable", 2),
    ("PROXY htpp://127.0.0.1:1", "http-settings", 2),
    ("DROP_IN http://[", "http-settings", 2),
    ("DROP_IN http://127.0.0.1:1", "proxy-unreachable", 2),
    ("sed -i s,mytoken.testbed:8443,mytoken.testbed:1, /etc/mytoken/mytoken.toml", "server-unavailable", 2),
    ("sed -i s,mytoken.testbed:8443,alias.testbed:8443, /etc/mytoken/mytoken.toml", "server-certificate", 2),
    ("sed -i s,mytoken.testbed:8443,mytoken.testbed:8443/v1, /etc/mytoken/mytoken.toml", "server-address", 2),
    ("sed -i s,mytoken.testbed:8443,op.testbed:8444, /etc/mytoken/mytoken.toml", "server-address", 2),
    ("own good 0; sed -i s,mytoken.testbed:8443,own.testbed:9443, /etc/mytoken/mytoken.toml", "server-issuer", 2),
    (
        "own good 0 ',\"preferred_username\"'; OWN sed -i 's/^issuer = .*/issuer = \"own\"/' /etc/mytoken/login.toml",
        "server-provider",
        2,
    ),
    ("SERVER s/\"revocation_endpoint\"/\"x\"/", "server-revocation", 2),
    ("SERVER s/\"token_transfer_endpoint\"/\"x\"/", "server-transfer-codes", 1),
    ("SERVER s/\"tokeninfo_endpoint\"/\"x\"/", "server-tokeninfo", 1),
    ("SERVER s/\"polling_code\"/\"x\"/", "server-login-flow", 1),
    // A host that accepts no transfer codes.
    (
        "sed -i 's/^.exchange.$/&\\naccept = [\"mytoken\"]/' /etc/mytoken/login.toml; \
         SERVER s/\\(grant_types_supported[^]]*\"oidc_flow\",\\)\"mytoken\"/\\1\"x\"/",
        "server-sub-tokens",
        2,
    ),
    ("SERVER s/\"exp\",//", "server-restriction", 2),
    ("sed -i 's/^scope = .*/scope = \"no.such\"/' /etc/mytoken/jobs.toml", "server-scope", 1),
    ("sed -i 's/^scope = .*/scope = \"openid no.such\"/' /etc/mytoken/login.toml", "server-scope", 1),
    ("MOTLEY_CUE https://own.testbed:1", "motley-cue", 2),
    ("own good 0; MOTLEY_CUE https://own.testbed:9443/elsewhere", "motley-cue", 2),
    ("TRUSTED=https://elsewhere.example.org own good 0; MOTLEY_CUE https://own.testbed:9443", "motley-cue-issuer", 1),
    ("own good 0; plain; MOTLEY_CUE http://127.0.0.1:81", "motley-cue-http", 1),
    ("FAULT discovery 500-html", "issuer-unavailable", 2),
    ("FAULT discovery refused", "issuer-unavailable", 2),
    ("FAULT discovery 200-html", "issuer-address", 2),
    ("FAULT discovery 200-empty-object", "issuer-address", 2),
    ("FAULT discovery redirect", "issuer-address", 2),
    ("sed -i s,op.testbed:8444,op.testbed:8444/realm, /etc/mytoken/mytoken.toml", "issuer-address", 2),
    ("FAULT discovery foreign-issuer", "issuer-issuer", 2),
    ("FAULT discovery keys-elsewhere", "issuer-endpoint-host", 2),
    ("FAULT jwks no-keys", "issuer-keys", 2),
    ("FAULT jwks 500-html", "issuer-keys", 2),
    ("sed -i 's/^required_scopes/algorithms = [\"ES384\"]\\n&/' /etc/mytoken/mytoken.toml", "issuer-algorithms", 2),
    ("OWN own good 0", "issuer-claim", 1),
    (
        "sed -i '/^scope = /d' /etc/mytoken/login.toml; sed -i 's/^required_scopes = .*/required_scopes = [\"opnid\"]/' /etc/mytoken/mytoken.toml",
        "issuer-scope",
        1,
    ),
    ("OWN own good 120 ',\"preferred_username\"'", "clock", 1),
    ("OWN own good -120 ',\"preferred_username\"'", "clock", 1),
    // The mytoken server's, with an issuer whose clock is right.
    ("SERVER_AT 120", "clock", 1),
    ("SERVER_AT -120", "clock", 1),
    ("OWN own foreign 0", "issuer-certificate", 2),
    ("OWN own old 0", "issuer-certificate", 2),
    ("OWN own young 0", "issuer-certificate", 2),
    (
        "OWN own good 0 ',\"preferred_username\"'; sed -i s,https://testbed,https://elsewhere, /etc/mytoken/mytoken.d/own.toml",
        "exchange-audience-issuer",
        1,
    ),
];

/// What a certificate's fault is called.
const CERTIFICATES: &[(&str, &str)] = &[
    ("own foreign", "an authority that is not trusted here"),
    ("own old", "it has expired"),
    ("own young", "it is not valid yet"),
    ("alias.testbed", "it is for another host name"),
];

fn command(row: &str) -> String {
    let fault = |rest: &str| {
        let (endpoint, name) = rest.split_once(' ').unwrap_or_default();
        format!(
            "curl -sf -X POST -d '{{\"endpoint\": \"{endpoint}\", \"name\": \"{name}\"}}' http://127.0.0.1:9440/provider/fault"
        )
    };
    if let Some(rest) = row.strip_prefix("FAULT ") {
        return fault(rest);
    }
    if let Some(proxy) = row.strip_prefix("PROXY ") {
        return format!("sed -i 's,^ca_file.*,&\\nproxy = \"{proxy}\",' /etc/mytoken/mytoken.toml");
    }
    if let Some(proxy) = row.strip_prefix("DROP_IN ") {
        let file = "/etc/mytoken/mytoken.d/proxy.toml";
        return format!("mkdir -p /etc/mytoken/mytoken.d; printf '[http]\\nproxy = \"{proxy}\"\\n' >{file}");
    }
    let there = "sed -i s,mytoken.testbed:8443,own.testbed:9443, /etc/mytoken/mytoken.toml";
    if let Some((before, url)) = row.split_once("MOTLEY_CUE ") {
        let rule = format!("[[rule]]\\nname = \"mc\"\\nissuer = \"op\"\\nmotley_cue = \"{url}\"\\n");
        return format!("{before} mkdir -p /etc/mytoken/login.d; printf '{rule}' >/etc/mytoken/login.d/mc.toml");
    }
    if let Some((before, edit)) = row.split_once("SERVER ") {
        return format!("{before} own good 0 '' '{edit}'; {there}");
    }
    if let Some(seconds) = row.strip_prefix("SERVER_AT ") {
        return format!("own good {seconds} '' s/x/x/; {there}");
    }
    row.replace("MAP ", WITH_MAP).replace("MAP", WITH_MAP).replace("OWN ", WITH_OWN)
}

fn prepared(site: &Site) -> Result<()> {
    healthy(site)?;
    site.sh("root", OWN)?.ok()?;
    site.sh("root", "sed -i s,/testbed-ca.pem,/both.pem, /etc/mytoken/mytoken.toml")?.ok()?;
    // A login makes this directory.
    site.sh("root", "mkdir -p -m 0700 /var/cache/mytoken; cp -a /etc/mytoken /root/healthy; cp /etc/passwd /root/")?
        .ok()?;
    Ok(())
}

fn each_alone(site: &Site, rows: &[(&str, &str, i32)]) -> Result<()> {
    assert_eq!(findings(site, "")?, (vec![], 0));
    for (row, id, status) in rows {
        for found in sees_alone(site, "", &command(row), id, *status)? {
            assert!(found.fix != "-" && !found.fix.contains('\n'), "{found:?}");
            assert!(!found.text.contains('\n'), "{found:?}");
            // A home must stay its user's.
            assert!(!found.fix.starts_with("chown") || !found.fix.contains("/home/"), "{found:?}");
            if *id == "users-cannot-read" {
                site.sh("root", &found.fix)?.ok()?;
                assert_eq!(findings(site, "")?, (vec![], 0), "{row}: {}", found.fix);
            }
            if found.fix.starts_with("grep -R") {
                // It shows the file that is wrong, also if that is a drop-in.
                let broken = command(row);
                let file = broken.rsplit(' ').next().unwrap_or_default().trim_start_matches('>');
                let shown = site.sh("root", &found.fix)?.ok()?.stdout;
                assert!(!file.ends_with(".toml") || shown.contains(file), "{row}: {} {shown}", found.fix);
            }
            if id.ends_with("-missing") {
                // Pasted again, the command leaves what was written. A new login.toml lets nobody in.
                let file = row.split(' ').nth(1).unwrap_or_default();
                let own = format!("echo '# own' >>{file}\n{}\ngrep -x '# own' {file}", found.fix);
                site.sh("root", &format!("set -e\n{}\n{own}", found.fix))?.ok()?;
                assert!(*id != "login-toml-missing" || !site.read(file)?.contains("\n[[rule]]"), "{found:?}");
            }
            for (of, words) in CERTIFICATES {
                assert!(!row.contains(of) || found.text.contains(words), "{found:?}");
            }
        }
        site.sh("root", MEND)?.ok()?;
    }
    assert_eq!(findings(site, "")?, (vec![], 0));
    Ok(())
}

#[test]
fn each_fault_of_the_configuration_is_found_alone() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, request_limit: "1000/300s", ..Options::new()? }, |site| {
        prepared(site)?;
        each_alone(site, FILES)?;
        // A warning, or another error, hides no error.
        let break_it = "chmod 0600 /etc/mytoken/jobs.toml; mkdir /etc/mytoken/login.d; \
                        printf '[accounts]\ndeny = [\"root\", \"no-such\"]\n' >/etc/mytoken/login.d/a.toml";
        site.sh("root", break_it)?.ok()?;
        let ids: Vec<String> = findings(site, "")?.0.into_iter().map(|found| found.id).collect();
        assert_eq!(ids, ["accounts-unknown", "users-cannot-read"]);
        Ok(())
    })
}

#[test]
fn each_fault_of_servers_and_issuers_is_found_alone() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, request_limit: "1000/300s", ..Options::new()? }, |site| {
        prepared(site)?;
        each_alone(site, NETWORK)
    })
}

/// Whether a provider gives one login tokens for two audiences cannot be known before it is tried.
#[test]
fn another_audience_of_jobs_is_told_and_no_mistake() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, ..Options::new()? }, |site| {
        prepared(site)?;
        site.sh("root", "sed -i 's,https://testbed,https://other,' /etc/mytoken/jobs.toml")?.ok()?;
        assert_eq!(findings(site, "")?, (vec![], 0));
        let screen = site.sh("root", "mytokenctl check --json")?.ok()?.stdout;
        assert!(
            screen.contains("\"profile-audience\"") && screen.contains("want tokens for https://other"),
            "{screen}"
        );
        // Also if a further file alone wants another one.
        let files = "sed -i 's,https://other,https://testbed,; /^audience/a files = [{ name = \"ce\", scope = \"storage.read\", audience = \"https://ce\" }]' \
                     /etc/mytoken/jobs.toml";
        site.sh("root", files)?.ok()?;
        assert_eq!(findings(site, "")?, (vec![], 0));
        let screen = site.sh("root", "mytokenctl check --json")?.ok()?.stdout;
        assert!(screen.contains("want tokens for https://ce in the file \\\"ce\\\", "), "{screen}");
        Ok(())
    })
}

/// A page's files are the whole of a site's `/etc/mytoken`, beside a profile of jobs for the server and the audience that the page names.
#[test]
fn the_configuration_of_each_providers_page_has_no_finding() -> Result<()> {
    const FILE: &str = "# /etc/mytoken/";
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        let mut pages = Vec::new();
        let folder = paths::repository().join("docs/providers");
        let listed =
            std::fs::read_dir(&folder).map_err(|source| Error::Io { what: "docs/providers".into(), source })?;
        pages.extend(listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()));
        pages.retain(|name| name != "README.md");
        assert!(pages.len() >= 7, "{pages:?}");
        for page in pages {
            let text = document(&format!("docs/providers/{page}"))?;
            let blocks = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
            let files: Vec<(&str, &str)> =
                blocks.filter_map(|(_, block)| block.strip_prefix(FILE)?.split_once('\n')).collect();
            let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
            assert!(names.contains(&"mytoken.toml") && names.contains(&"login.toml"), "{page}: {names:?}");
            for (name, text) in &files {
                site.write(&format!("/etc/mytoken/{name}"), &format!("{text}\n"), "0644")?;
            }
            let audience = text.lines().find_map(|line| line.strip_prefix("audiences = [\"")?.split('"').next());
            // Google's page has none.
            let audience = audience.unwrap_or("https://cluster.example.org");
            let jobs = format!(
                "sed -i 's,^server = .*,server = \"mytoken\",; s,^audience = .*,audience = \"{audience}\",' /etc/mytoken/jobs.toml"
            );
            site.sh("root", &jobs)?.ok()?;
            assert_eq!(findings(site, "--offline")?, (vec![], 0), "{page}");
            site.sh("root", "rm -f /etc/mytoken/users.map")?.ok()?;
        }
        Ok(())
    })
}

#[test]
fn the_fix_of_a_file_can_be_pasted() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, request_limit: "1000/300s", ..Options::new()? }, |site| {
        prepared(site)?;
        for row in [
            "chmod 0666 /etc/mytoken/login.toml",
            "chown alice /etc/mytoken",
            "chmod 0700 /etc/mytoken/keys",
            "MAP echo 'op s-1 alice' >/etc/mytoken/users.map; chmod 0666 /etc/mytoken/users.map",
            "MAP echo 'op s-1 alice' >/etc/mytoken/users.map; chown alice /etc/mytoken/users.map",
        ] {
            site.sh("root", &row.replace("MAP ", WITH_MAP))?.ok()?;
            let (found, _) = findings(site, "")?;
            assert_eq!(found.len(), 1, "{row}: {found:?}");
            site.sh("root", &found[0].fix)?.ok()?;
            assert_eq!(findings(site, "")?, (vec![], 0), "{row}: {}", found[0].fix);
        }
        Ok(())
    })
}

#[test]
fn the_check_reads_with_the_rights_of_the_user() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, request_limit: "1000/300s", ..Options::new()? }, |site| {
        prepared(site)?;
        site.sh("root", "chgrp $(id -g alice) /etc/mytoken/jobs.toml; chmod 0640 /etc/mytoken/jobs.toml")?.ok()?;
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        for user in ["bob", "nobody"] {
            let (found, code) = findings(site, &format!("--as {user}"))?;
            // For nobody there is no token either.
            let expected =
                if user == "bob" { &["users-cannot-read"][..] } else { &["account-closed", "users-cannot-read"] };
            let mut ids: Vec<_> = found.iter().map(|found| found.id.as_str()).collect();
            ids.sort_unstable();
            assert_eq!(ids, expected, "{user}");
            let fixes: Vec<_> = found.iter().map(|found| found.fix.as_str()).collect();
            assert!(code == 2 && fixes.contains(&"chmod a+r /etc/mytoken/jobs.toml"), "{user}: {fixes:?}");
        }
        Ok(())
    })
}

#[test]
fn the_request_limit_of_the_server_is_told() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, request_limit: "4/300s", ..Options::new()? }, |site| {
        healthy(site)?;
        let found = sees_alone(site, "", "true", "server-request-limit", 1)?;
        assert!(found[0].text.contains("accepts 4 requests from one address"), "{found:?}");
        site.sh("root", "printf '[budget]\\nper_host = 2\\nper_address = 2\\n' >>/etc/mytoken/login.toml")?.ok()?;
        assert_eq!(findings(site, "")?, (vec![], 0));
        let set = "sed -i '/^url = .*mytoken/a request_limit = 5' /etc/mytoken/mytoken.toml";
        let found = sees_alone(site, "", set, "server-request-limit-set", 1)?;
        assert!(found[0].text.contains("5 requests in 300 s") && found[0].text.contains("accepts 4"), "{found:?}");
        site.sh("root", "sed -i /^request_limit/d /etc/mytoken/mytoken.toml")?.ok()?;
        let screen = site.sh("root", "mytokenctl check")?;
        assert!(screen.stdout.contains("accepts 4 requests from this address in its period, 0 are left"), "{screen:?}");
        sees_alone(site, "", "true", "server-busy", 1)?;
        Ok(())
    })
}

#[test]
fn a_login_names_the_fault_of_a_certificate() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, ..Options::new()? }, |site| {
        prepared(site)?;
        site.sh(
            "root",
            "sed -i s,/both.pem,/stranger.pem, /etc/mytoken/mytoken.toml; cp /root/own/stranger.pem /etc/ssl/",
        )?
        .ok()?;
        let explained = site.sh("root", "echo ABCDEFGH | mytokenctl explain --user alice")?;
        let said = format!("{}{}", explained.stdout, explained.stderr);
        assert!(said.contains("an authority that is not trusted here") && !said.contains("again later"), "{said}");
        Ok(())
    })
}
