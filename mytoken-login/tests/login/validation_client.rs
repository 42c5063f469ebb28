// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the client of this site proves itself when it asks for an introspection.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::fake::Request;
use crate::provider_fixture::Provider;
use crate::support::NOW;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mytoken_login::RefusalClass;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

const LOCAL_AND_INTROSPECTION: &str = "validation = ['local', 'introspection']";

fn form(request: &Request) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let bytes: Vec<u8> = text.replace('+', " ").into_bytes();
        let (mut decoded, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            if bytes[at] == b'%' {
                decoded.push(u8::from_str_radix(std::str::from_utf8(&bytes[at + 1..at + 3]).unwrap(), 16).unwrap());
                at += 3;
            } else {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
        String::from_utf8(decoded).unwrap()
    };
    let body = String::from_utf8(request.body.clone()).unwrap();
    body.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value))).collect()
}

fn field(request: &Request, name: &str) -> String {
    form(request).into_iter().find(|(own, _)| own == name).map(|(_, value)| value).unwrap_or_default()
}

#[test]
fn the_client_proves_itself_by_header_or_form() {
    let provider = Provider::new();
    let token = provider.token(&json!({}));
    provider.check(LOCAL_AND_INTROSPECTION, &token).unwrap();
    provider.check(&format!("{LOCAL_AND_INTROSPECTION}\nclient_auth = 'post'"), &token).unwrap();
    let [header, posted] = &provider.asked()[..] else { panic!("{:?}", provider.paths()) };
    let expected = format!("Basic {}", STANDARD.encode("site:s%3Acret"));
    assert_eq!(header.header("authorization"), Some(expected.as_str()));
    assert_eq!((field(header, "token"), field(header, "token_type_hint")), (token.clone(), "access_token".to_owned()));
    assert_eq!(field(header, "client_secret"), "");
    assert_eq!((field(posted, "client_id"), field(posted, "client_secret")), ("site".to_owned(), "s:cret".to_owned()));
    assert_eq!((posted.header("authorization"), field(posted, "token")), (None, token));
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

#[test]
fn the_client_proves_itself_by_a_signature() {
    let (provider, rng) = (Provider::new(), SystemRandom::new());
    let lines = |more: &str| {
        format!(
            "{LOCAL_AND_INTROSPECTION}\nclient_id = 'site'\nclient_auth = 'private_key_jwt'\nclient_key_file = '{}'\n{more}",
            provider.path("key").display()
        )
    };
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    let ed = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
    let ec_point = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &rng).unwrap();
    let ed_point = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
    let ec_public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, ec_point.public_key().as_ref().to_vec());
    let token = provider.token(&json!({}));
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let parts = |request: &Request| {
        assert_eq!(field(request, "client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert_eq!((field(request, "client_id"), request.header("authorization")), ("site".to_owned(), None));
        let assertion = field(request, "client_assertion");
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part| serde_json::from_slice::<Value>(&decode(part)).unwrap();
        (json(header), json(claims), signed.to_owned(), decode(signature))
    };

    provider.write_private("key", &pem(ec.as_ref()));
    provider.check(&lines("client_key_id = 'k1'"), &token).unwrap();
    let (header, claims, signed, signature) = parts(&provider.asked()[0]);
    assert_eq!(header, json!({"alg": "ES256", "typ": "JWT", "kid": "k1"}));
    ec_public.verify(signed.as_bytes(), &signature).unwrap();
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("site"), &json!("site")));
    assert_eq!(claims["aud"], json!(provider.server.url("")));
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW), &json!(NOW + 60)));

    provider.write_private("key", &pem(ed.as_ref()));
    provider.check(&lines(""), &token).unwrap();
    let (header, second, signed, signature) = parts(&provider.asked()[1]);
    assert_eq!(header, json!({"alg": "EdDSA", "typ": "JWT"}));
    let ed_public = UnparsedPublicKey::new(&ED25519, ed_point.public_key().as_ref().to_vec());
    ed_public.verify(signed.as_bytes(), &signature).unwrap();
    assert_ne!(claims["jti"], second["jti"]);
}

#[test]
fn a_secret_that_others_can_read_is_not_used() {
    let provider = Provider::new();
    let token = provider.token(&json!({}));
    let set_mode = |mode| fs::set_permissions(provider.path("secret"), fs::Permissions::from_mode(mode)).unwrap();
    for (prepare, said) in [
        (&(|| set_mode(0o640)) as &dyn Fn(), "chmod 600"),
        (&|| provider.write_private("secret", "\n"), "it is empty"),
        (&|| fs::remove_file(provider.path("secret")).unwrap(), "does not exist"),
    ] {
        prepare();
        let refusal = provider.check(LOCAL_AND_INTROSPECTION, &token).unwrap_err();
        assert_eq!(refusal.class(), RefusalClass::Misconfigured, "{refusal:?}");
        assert!(refusal.detail().unwrap().contains(said), "{refusal:?}");
    }
    provider.write_private("key", "no key");
    let lines = format!(
        "{LOCAL_AND_INTROSPECTION}\nclient_id = 'c'\nclient_auth = 'private_key_jwt'\nclient_key_file = '{}'",
        provider.path("key").display()
    );
    let refusal = provider.check(&lines, &token).unwrap_err();
    assert!(refusal.detail().unwrap().contains("holds no private key"), "{refusal:?}");
    assert_eq!(provider.paths(), Vec::<String>::new());
}
