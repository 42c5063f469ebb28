// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the verification of an access token. The provider's key signs all headers and claims, so that all checks are reached.
#![no_main]

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fuzz::{Keys, NOW, issuer_settings, short_deadline, split_input};
use libfuzzer_sys::fuzz_target;
use mytoken::Secret;
use mytoken_login::oidc::{KeySet, string_list, verify};
use mytoken_login::{AccountSettings, Identity, LocalAccount, LoginSettings, Maps, decide};
use mytoken_wire::clock::FixedClock;
use ring::signature::Ed25519KeyPair;

/// An Ed25519 key pair for this target only (RFC 8410 10.3).
const PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
const PUBLIC: &str = "GbQJ3j_tbmYZs8vpgU_zjtrgbhOu9eWXwA9Qs3Ewx4s";

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"{PUBLIC}"}}]}}"#);
        Keys(KeySet::parse(set.as_bytes()).expect("a key set"))
    })
}

fuzz_target!(|data: &[u8]| {
    let Some([header, claims, choice, raw]) = split_input(data) else { return };
    static SETTINGS: OnceLock<LoginSettings> = OnceLock::new();
    let login = SETTINGS.get_or_init(|| {
        toml::from_str(
            "[[rule]]\nname='a'\nissuer='op'\ntemplate='{preferred_username}'\nrequire_groups=['x']\nrequire_scopes=['openid']\n[[rule]]\nname='b'\nissuer='op'\ntemplate='{sub}'\nrequire_entitlements=['urn:x:y:group:a#y']\n[[rule]]\nname='c'\nissuer='op'\ntemplate='h-{eduperson.id}-x'",
        )
        .expect("rules")
    });
    // Settings that change which tokens are accepted.
    let settings = match choice {
        "0" => issuer_settings("require_audience = false\nmax_age = '0s'"),
        "1" => issuer_settings("required_scopes = ['openid', 'x']\nleeway = '300s'"),
        "2" => issuer_settings("accept_typ = ['at+jwt']"),
        _ => issuer_settings(""),
    };
    let issuers = std::slice::from_ref(&settings);
    let clock = FixedClock(NOW);
    let _ = verify(&Secret::new(raw), issuers, keys(), &clock, short_deadline());
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let pair = STANDARD.decode(PRIVATE).expect("base64");
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pair).expect("a key");
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
    let token = Secret::new(format!("{message}.{signature}"));
    let verified = verify(&token, issuers, keys(), &clock, short_deadline());
    if let Ok(claims) = verified {
        assert!(!claims.sub.is_empty() && settings.is(&claims.iss), "{claims:?}");
        assert!(claims.good_until > NOW && claims.good_until >= claims.exp);
        let audience_fits =
            string_list(&claims.all, "aud").iter().any(|one| settings.audiences.iter().any(|own| own == one));
        assert!(audience_fits || !settings.require_audience);
        assert!(settings.required_scopes.iter().all(|scope| claims.scopes.contains(scope)));
        let identity = Identity::from(claims);
        for name in ["alice", "root", "1"] {
            let account = LocalAccount::new(name, 2_001, 2_001, &AccountSettings::default());
            let _ = decide(&identity, &account, &login.rules, login.accounts.names, &Maps::default(), &|_| {
                unreachable!("no rule has a mapper")
            });
        }
    }
});
