// SPDX-License-Identifier: MIT OR Apache-2.0
//! An issuer for tests: generated keys, and tokens with any content.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code, missing_docs)]

use std::cell::RefCell;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mytoken::config::IssuerSettings;
use mytoken::{Deadline, Secret};
use mytoken_login::mapper::{Mapper, Mappers};
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable};
use mytoken_login::validation::{PresentedToken, Validator};
use mytoken_login::{MapperSettings, Refusal};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::signature::{SignatureEncoding, Signer};
use rsa::traits::PublicKeyParts;
use serde_json::{Map, Value, json};
use sha3::{Digest as _, Sha3_256};

pub const ISSUER: &str = "https://op.example.org";
pub const NOW: u64 = 1_800_000_000;

pub const MYTOKEN_HEADER: &str = r#"{"alg":"ES512","typ":"MT+JWT"}"#;

/// The algorithms of [`sign`]. An attacker can use HS256 with a public key.
#[derive(Debug, Clone, Copy)]
pub enum Algorithm {
    RS256,
    RS512,
    PS256,
    ES256,
    EdDSA,
    HS256,
}

/// The keys of the issuer: `rsa`, `weak` (RSA, 1024 bits), `ec`, `ed`.
pub struct Keys {
    rsa: RsaPrivateKey,
    weak: RsaPrivateKey,
    ec: Vec<u8>,
    ed: Vec<u8>,
    pub jwks: Value,
}

/// Generated once for all tests of a file: an RSA key takes a second.
pub fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let rng = SystemRandom::new();
        let rsa = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let weak = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap().as_ref().to_vec();
        let ed = Ed25519KeyPair::generate_pkcs8(&rng).unwrap().as_ref().to_vec();
        let point = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &ec, &rng).unwrap();
        let point = point.public_key().as_ref().to_vec();
        let x = Ed25519KeyPair::from_pkcs8(&ed).unwrap().public_key().as_ref().to_vec();
        let of_rsa = |key: &RsaPrivateKey, kid: &str| {
            json!({"kty": "RSA", "kid": kid, "use": "sig", "n": b64(key.n().to_bytes_be()), "e": b64(key.e().to_bytes_be())})
        };
        let jwks = json!({"keys": [
            of_rsa(&rsa, "rsa"),
            of_rsa(&weak, "weak"),
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": b64(rsa.n().to_bytes_be()), "e": b64(rsa.e().to_bytes_be())},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..65])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(&x)},
            {"kty": "oct", "kid": "oct", "k": "c2VjcmV0"},
            {"kty": "EC", "kid": "broken", "crv": "P-256", "x": 7},
            "no key at all",
        ]});
        Keys { rsa, weak, ec, ed, jwks }
    })
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs header and claims. They are texts, so that they can be malformed.
pub fn sign(header: &str, claims: &str, key: &str, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = signature(message.as_bytes(), key, algorithm);
    format!("{message}.{}", b64(signature))
}

fn signature(message: &[u8], key: &str, algorithm: Algorithm) -> Vec<u8> {
    let keys = keys();
    let rng = SystemRandom::new();
    let rsa = |padding: &'static dyn RsaEncoding| {
        // ring signs with no key below 2048 bits.
        if key == "weak" {
            let signer = rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(keys.weak.clone());
            return signer.sign(message).to_vec();
        }
        let pair = RsaKeyPair::from_der(keys.rsa.to_pkcs1_der().unwrap().as_bytes()).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &rng, message, &mut signature).unwrap();
        signature
    };
    match algorithm {
        Algorithm::RS256 => rsa(&RSA_PKCS1_SHA256),
        Algorithm::RS512 => rsa(&RSA_PKCS1_SHA512),
        Algorithm::PS256 => rsa(&RSA_PSS_SHA256),
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &keys.ec, &rng).unwrap();
            pair.sign(&rng, message).unwrap().as_ref().to_vec()
        }
        Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8(&keys.ed).unwrap().sign(message).as_ref().to_vec(),
        Algorithm::HS256 => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), message).as_ref().to_vec(),
    }
}

/// The claims of a valid access token with `changes`. A `null` removes a claim.
pub fn claims(changes: &Value) -> String {
    let mut claims = json!({
        "iss": ISSUER, "sub": "s-1", "aud": ["https://elsewhere", "https://testbed"], "iat": NOW - 60, "exp": NOW + 3_600,
        "scope": "openid profile storage.read", "preferred_username": "alice",
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims.to_string()
}

/// An access token signed with `ec`.
pub fn access_token(changes: &Value) -> String {
    sign(r#"{"alg":"ES256","typ":"at+jwt","kid":"ec"}"#, &claims(changes), "ec", Algorithm::ES256)
}

/// A mytoken of this server with `changes` to its claims. Its signature is not checked.
pub fn mytoken(header: &str, server: &str, changes: &Value) -> String {
    let mut claims = json!({
        "ver": "0.7", "token_type": "mytoken", "iss": server, "aud": server, "sub": "", "oidc_iss": ISSUER,
        "oidc_sub": "somebody else", "seq_no": 1, "iat": NOW, "exp": NOW + 86_400, "jti": "3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4242",
        "capabilities": ["AT", "create_mytoken"],
    });
    claims["sub"] = STANDARD.encode(Sha3_256::digest(format!("somebody else@{ISSUER}"))).into();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let parts = [header.to_owned(), claims.to_string()].map(b64);
    format!("{}.{}.{}", parts[0], parts[1], b64([7_u8; 132]))
}

pub fn issuer(lines: &str) -> IssuerSettings {
    toml::from_str(&issuer_text(lines)).unwrap()
}

/// The table of the issuer in `mytoken.toml`.
pub fn issuer_text(lines: &str) -> String {
    format!(
        "name = 'op'\nurl = '{ISSUER}'\naudiences = ['https://testbed']\nalgorithms = ['RS256', 'ES256', 'EdDSA']\n{lines}"
    )
}

/// A source of the issuer's keys. It records each call.
#[derive(Default)]
pub struct TestKeys {
    pub calls: RefCell<Vec<KeyFreshness>>,
    pub unavailable: bool,
}

impl KeySource for TestKeys {
    fn keys(&self, issuer: &IssuerSettings, freshness: KeyFreshness, _: Deadline) -> Result<KeySet, KeysUnavailable> {
        self.calls.borrow_mut().push(freshness);
        if self.unavailable {
            return Err(KeysUnavailable { reason: format!("{} cannot be reached", issuer.url) });
        }
        KeySet::parse(keys().jwks.to_string().as_bytes()).map_err(|error| KeysUnavailable { reason: error.to_string() })
    }
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text)
}

/// A provider or mapper that no login may ask.
pub struct NotAsked;

impl Mappers for NotAsked {
    fn mapper<'a>(&'a self, settings: &'a MapperSettings) -> Box<dyn Mapper + 'a> {
        panic!("{settings} was asked")
    }
}

impl Validator for NotAsked {
    fn validate(
        &self,
        _: PresentedToken<'_>,
        issuer: &IssuerSettings,
        _: Deadline,
    ) -> Result<Map<String, Value>, Refusal> {
        panic!("{} was asked", issuer.url)
    }
}
