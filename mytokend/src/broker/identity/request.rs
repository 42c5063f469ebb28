// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node's request for a certificate (RFC 2986).

use std::fmt;

use rcgen::{SigningKey, SubjectPublicKeyInfo};
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::FromDer;

use super::key_hash::KeyHash;

/// Longest request in bytes. One without names has about 250.
pub const LONGEST: usize = 4096;

/// Bytes of an uncompressed point on P-256.
const POINT: usize = 65;

/// A request whose sender has the private key. Names and extensions in it are not read: the broker knows the node from elsewhere.
pub struct CertificateRequest {
    public_key: SubjectPublicKeyInfo,
    key: KeyHash,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is too long.
    #[error("the certificate request is longer than {LONGEST} bytes")]
    TooLong,
    /// It is not a certificate request.
    #[error("this is not a certificate request (PKCS #10, DER)")]
    Malformed,
    /// Its key is not an ECDSA key on P-256.
    #[error("the key of the certificate request is not an ECDSA key on the curve P-256, signed with SHA-256")]
    OtherKey,
    /// Its signature is not by its key.
    #[error("the signature of the certificate request is wrong")]
    Signature,
}

/// SHA-256 of a request as it was received. A proof of the node's identity is bound to it before the request is read.
#[must_use]
pub fn hash(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

impl CertificateRequest {
    /// Reads a request and checks that it is signed by its own key.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > LONGEST {
            return Err(RequestError::TooLong);
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| RequestError::Malformed)?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed);
        }
        let info = &request.certification_request_info.subject_pki;
        let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
        let known = info.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && curve == Some(OID_EC_P256)
            && request.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256
            && info.subject_public_key.data.len() == POINT;
        if !known {
            return Err(RequestError::OtherKey);
        }
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        let public_key = SubjectPublicKeyInfo::from_der(info.raw).map_err(|_| RequestError::OtherKey)?;
        // Of the form that the certificate will have: DER has one, but the reader may accept more.
        let key = KeyHash::of(&rcgen::PublicKeyData::subject_public_key_info(&public_key));
        Ok(Self { public_key, key })
    }

    /// The request for the key of a node, DER.
    ///
    /// # Errors
    /// The cryptographic library's words.
    pub(super) fn make(key: &impl SigningKey) -> Result<Vec<u8>, String> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(key).map_err(|error| error.to_string())?;
        Ok(request.der().to_vec())
    }

    /// The hash of the public key.
    #[must_use]
    pub fn key(&self) -> KeyHash {
        self.key
    }

    /// The public key.
    pub(super) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateRequest({})", self.key.short())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::KeyPair;

    use super::*;

    fn signed_by(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        CertificateRequest::make(&KeyPair::generate_for(algorithm).unwrap()).unwrap()
    }

    #[test]
    fn a_request_has_the_key_that_signed_it() {
        let key = KeyPair::generate().unwrap();
        let request = CertificateRequest::read(&CertificateRequest::make(&key).unwrap()).unwrap();
        assert_eq!(request.key(), KeyHash::of(&rcgen::PublicKeyData::subject_public_key_info(&key)));
    }

    #[test]
    fn names_and_unknown_extensions_do_not_matter() {
        let key = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["broker1".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        // The request for an authority's certificate.
        let constraints = vec![0x30, 0x03, 0x01, 0x01, 0xff];
        params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 19], constraints));
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Other(vec![1, 2, 3])];
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        assert!(CertificateRequest::read(&der).is_ok());
    }

    #[test]
    fn other_keys_and_broken_requests_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            assert_eq!(CertificateRequest::read(&signed_by(algorithm)).unwrap_err(), RequestError::OtherKey);
        }
        let good = signed_by(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(CertificateRequest::read(&[]).unwrap_err(), RequestError::Malformed);
        assert_eq!(CertificateRequest::read(&[good.clone(), vec![0]].concat()).unwrap_err(), RequestError::Malformed);
        assert_eq!(CertificateRequest::read(&vec![0x30; LONGEST + 1]).unwrap_err(), RequestError::TooLong);
        // The key of another request in the place of the own one.
        let other = signed_by(&rcgen::PKCS_ECDSA_P256_SHA256);
        let place = |der: &[u8]| der.windows(2).position(|two| two == [0x00, 0x04]).unwrap() + 1;
        let mut stolen = good;
        let (to, from) = (place(&stolen), place(&other));
        stolen[to..to + POINT].copy_from_slice(&other[from..from + POINT]);
        assert_eq!(CertificateRequest::read(&stolen).unwrap_err(), RequestError::Signature);
    }

    proptest! {
        #[test]
        fn a_request_with_another_byte_is_refused_or_has_the_same_key(place in 0_usize..400, change in 1_u8..) {
            let mut der = signed_by(&rcgen::PKCS_ECDSA_P256_SHA256);
            let key = CertificateRequest::read(&der).unwrap().key();
            let length = der.len();
            der[place % length] ^= change;
            prop_assert!(CertificateRequest::read(&der).is_ok_and(|read| read.key() == key) || CertificateRequest::read(&der).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(CertificateRequest::read(&bytes).is_err());
        }
    }
}
