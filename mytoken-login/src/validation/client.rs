// SPDX-License-Identifier: MIT OR Apache-2.0
//! Proves to the provider which client asks: by a secret in the header or in the form, or by a signature (OpenID Connect Core 9).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mytoken::Secret;
use mytoken::config::{ClientProof, FileTrust, IntrospectionClient};
use mytoken::random::random;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::json;
use std::path::Path;
use zeroize::Zeroizing;

/// Largest file with a secret or key, in bytes. An RSA key of 8192 bits has 6.4 KB.
const FILE_LIMIT: usize = 16 * 1024;

/// How long a signed proof is valid, in seconds.
const PROOF_LIFETIME: u64 = 60;

/// `client_assertion_type` of a signed proof (RFC 7523 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Why there is no proof, for the administrator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClientProofFailed(
    /// The sentence.
    String,
);

/// A client that can prove itself.
pub struct ClientForm {
    id: String,
    proof: Proof,
}

enum Proof {
    Basic(Secret),
    Post(Secret),
    Signature { key: SigningKey, key_id: Option<String> },
}

/// A private key with its one algorithm.
enum SigningKey {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// Reads the secret or key of a client.
///
/// # Errors
/// [`ClientProofFailed`]: the file is missing, others can read it, or it holds something else.
pub fn client_form(client: IntrospectionClient<'_>, trust: FileTrust) -> Result<ClientForm, ClientProofFailed> {
    let proof = match client.proof {
        ClientProof::Basic { secret } => Proof::Basic(read_secret(secret, trust)?),
        ClientProof::Post { secret } => Proof::Post(read_secret(secret, trust)?),
        ClientProof::PrivateKeyJwt { key, key_id } => {
            let text = read(key, trust)?;
            let key = SigningKey::from_pem(&text).ok_or_else(|| failed(key, "it holds no private key for RS256, ES256 or EdDSA; make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"))?;
            Proof::Signature { key, key_id: key_id.map(str::to_owned) }
        }
    };
    Ok(ClientForm { id: client.id.to_owned(), proof })
}

impl ClientForm {
    /// The fields of the form that prove the client to a provider that calls itself `audience`.
    #[must_use]
    pub fn fields(&self, audience: &str, now: u64) -> Vec<(&'static str, Zeroizing<String>)> {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        match &self.proof {
            Proof::Basic(_) => Vec::new(),
            Proof::Post(secret) => vec![("client_id", text(&self.id)), ("client_secret", text(secret.expose()))],
            Proof::Signature { key, key_id } => {
                let assertion = self.assertion(key, key_id.as_deref(), audience, now);
                let kind = ("client_assertion_type", text(ASSERTION_TYPE));
                vec![("client_id", text(&self.id)), kind, ("client_assertion", Zeroizing::new(assertion))]
            }
        }
    }

    /// Client id and secret for the header.
    #[must_use]
    pub fn basic(&self) -> Option<(&str, &Secret)> {
        match &self.proof {
            Proof::Basic(secret) => Some((&self.id, secret)),
            Proof::Post(_) | Proof::Signature { .. } => None,
        }
    }

    fn assertion(&self, key: &SigningKey, key_id: Option<&str>, audience: &str, now: u64) -> String {
        let mut header = json!({"alg": key.algorithm(), "typ": "JWT"});
        if let (Some(key_id), Some(header)) = (key_id, header.as_object_mut()) {
            header.insert("kid".to_owned(), key_id.into());
        }
        let claims = json!({
            "iss": self.id, "sub": self.id, "aud": audience, "jti": format!("{:032x}", random::<u128>()), "iat": now,
            "exp": now.saturating_add(PROOF_LIFETIME),
        });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        // An empty signature is refused by the provider. ring only fails to sign without random numbers.
        let signature = key.sign(signed.as_bytes()).unwrap_or_default();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl SigningKey {
    /// Reads a private key of PKCS#8 in PEM, as `openssl genpkey` writes it.
    fn from_pem(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
        let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?);
        let p256 = || EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new()).ok();
        // OpenSSL writes Ed25519 keys without their public part.
        let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok();
        let rsa = RsaKeyPair::from_pkcs8(&der).ok().map(Box::new).map(Self::Rsa);
        rsa.or_else(|| p256().map(Box::new).map(Self::P256)).or_else(|| ed25519().map(Box::new).map(Self::Ed25519))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
                Some(signature)
            }
            Self::P256(key) => Some(key.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec()),
            Self::Ed25519(key) => Some(key.sign(message).as_ref().to_vec()),
        }
    }
}

fn read_secret(path: &Path, trust: FileTrust) -> Result<Secret, ClientProofFailed> {
    let text = read(path, trust)?;
    let secret = text.trim_ascii_end();
    if secret.is_empty() { Err(failed(path, "it is empty")) } else { Ok(Secret::new(secret)) }
}

fn read(path: &Path, trust: FileTrust) -> Result<Zeroizing<String>, ClientProofFailed> {
    let bytes = trust.read_private(path, FILE_LIMIT).map_err(|error| ClientProofFailed(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| failed(path, "it does not exist"))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(failed(path, "it is not text")),
    }
}

fn failed(path: &Path, reason: &str) -> ClientProofFailed {
    ClientProofFailed(format!("{} cannot be used: {reason}", path.display()))
}
