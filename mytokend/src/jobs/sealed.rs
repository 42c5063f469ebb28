// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sealed job credentials. Slurm carries, stores and prints only the ciphertext (RFC 9180, `docs/interfaces.md`).
//!
//! `mt1.<key id>.<base64url(enc || ciphertext)>`, HPKE in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305.
//! Everyone can seal, because the key is public. So the result of [`open`] is not trusted: the caller must compare its uid with the job's
//! user, and its server with the configured servers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use mytoken_wire::Handle;
use mytoken_wire::Secret;
use mytoken_wire::sealed::{LIMIT, SealedParts, VERSION, parse};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files::{SealedFile, check_names};
use super::keys::{PrivateKey, PublicKey};
use super::seal_error::SealError;
use super::start_windows::{self, StartWindow};
use super::submission_time::submission_time;

type Kem = X25519HkdfSha256;
type Encapsulated = <Kem as hpke::Kem>::EncappedKey;

/// Longest text in a credential in bytes, except for the sub-token: these texts appear in messages.
const TEXT_LIMIT: usize = 1024;

const INFO: &[u8] = b"mytoken job credential";
const ENCAPSULATED_LEN: usize = 32;

/// The credential that a submission sends to the nodes of its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCredential {
    /// URL of the mytoken server that issued the sub-token.
    pub server: String,
    /// The sub-token.
    pub sub_token: Secret,
    /// The user who submitted. Jobs of other users get no access token.
    pub uid: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// The handle of the submission, 32 hexadecimal digits. It gives no access to anything.
    pub id: String,
    /// Expiry of the sub-token, Unix seconds.
    pub exp: u64,
    /// The profile of the submission.
    pub profile: String,
    /// Scopes of the access tokens, separated by single blanks.
    pub scope: String,
    /// Audience of the access tokens.
    pub audience: String,
    /// Whether the job must fail without a credential.
    #[serde(default)]
    pub required: bool,
    /// When the sub-token was made, Unix seconds of its server's clock. 0: an earlier release sealed it.
    #[serde(default)]
    pub made: u64,
    /// For how many seconds after [`Self::made`] further submissions may use this credential too. 0: only one submission has it. The
    /// credential ends when all jobs that were submitted in this window have ended.
    #[serde(default)]
    pub shared_for: u64,
    /// The agent of the submission's host has promised to revoke the sub-token if no node does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub followed: bool,
    /// The further files. Agents of earlier releases do not know them, and serve the main file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SealedFile>,
    /// Times after the start of a job in which the agents give it access tokens. Empty: always. Agents of earlier releases do not know
    /// them, and give access tokens always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_windows: Vec<StartWindow>,
}

impl JobCredential {
    /// Begin and end of the time in which jobs may have been submitted with it, Unix seconds of its server's clock, if several submissions
    /// share it.
    #[must_use]
    pub fn submission_time(&self) -> Option<(u64, u64)> {
        (self.made > 0 && self.shared_for > 0).then(|| submission_time(self.made, self.shared_for))
    }
}

/// Seals `credential` to `key`.
///
/// # Errors
/// [`SealError::Invalid`] when it would be longer than [`LIMIT`], or the nodes would refuse it.
pub fn seal(credential: &JobCredential, key: &PublicKey) -> Result<String, SealError> {
    check(credential)?;
    let plain = Zeroizing::new(serde_json::to_vec(credential).map_err(|error| invalid(&error.to_string()))?);
    let header = format!("{VERSION}.{}", key.id());
    let (encapsulated, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeS::Base,
        &key.key,
        INFO,
        &plain,
        header.as_bytes(),
    )
    .map_err(|error| invalid(&format!("cannot encrypt: {error}")))?;
    let mut bytes = encapsulated.to_bytes().to_vec();
    bytes.extend_from_slice(&ciphertext);
    let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&bytes));
    if text.len() > LIMIT { Err(invalid("it is longer than 16 KiB")) } else { Ok(text) }
}

/// Opens a sealed text with `key`. `text` is not trusted.
///
/// # Errors
/// [`SealError::OtherKey`] when it was sealed to another key, [`SealError::Invalid`] when it is damaged or not a sealed text.
pub fn open(text: &str, key: &PrivateKey) -> Result<JobCredential, SealError> {
    let SealedParts { key_id: id, header, body } = parts(text)?;
    if id != key.id() {
        return Err(SealError::OtherKey { sealed: id.to_owned(), own: key.id().to_owned() });
    }
    let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| invalid("it is not base64url"))?;
    let (encapsulated, ciphertext) =
        bytes.split_at_checked(ENCAPSULATED_LEN).ok_or_else(|| invalid("it is too short"))?;
    let encapsulated = Encapsulated::from_bytes(encapsulated).map_err(|_| invalid("it was changed"))?;
    let plain = single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeR::Base,
        &key.key,
        &encapsulated,
        INFO,
        ciphertext,
        header.as_bytes(),
    )
    .map(Zeroizing::new)
    .map_err(|_| invalid("it was changed"))?;
    // serde's message could quote a value, for example a sub-token at the place of a number.
    let credential: JobCredential =
        serde_json::from_slice(&plain).map_err(|_| invalid("its content is not a job credential"))?;
    check(&credential)?;
    Ok(credential)
}

/// What the nodes check, and the submission too: what they would refuse is not made.
fn check(credential: &JobCredential) -> Result<(), SealError> {
    if Handle::parse(&credential.id).is_none() || credential.sub_token.is_empty() {
        return Err(invalid("its content is not a job credential"));
    }
    let texts = [
        ("server", &credential.server),
        ("cluster", &credential.cluster),
        ("profile", &credential.profile),
        ("scope", &credential.scope),
        ("audience", &credential.audience),
    ];
    let of_files = credential.files.iter().flat_map(|file| [("scope", &file.scope), ("audience", &file.audience)]);
    start_windows::check(&credential.start_windows).map_err(|fault| invalid(&format!("its start_windows {fault}")))?;
    check_names(credential.files.iter().map(|file| &file.name)).map_err(|fault| invalid(&format!("its {fault}")))?;
    texts
        .into_iter()
        .chain(of_files)
        .try_for_each(|(what, text)| check_text(text).map_err(|fault| invalid(&format!("its {what} {fault}"))))
}

/// Checks a text that becomes part of a credential.
///
/// # Errors
/// The predicate of a sentence.
pub fn check_text(text: &str) -> Result<(), &'static str> {
    if text.len() > TEXT_LIMIT {
        return Err("has more than 1024 bytes");
    }
    if text.chars().any(char::is_control) { Err("has control characters") } else { Ok(()) }
}

/// The key id in the header of a sealed text.
///
/// # Errors
/// [`SealError::Invalid`].
pub fn key_id(text: &str) -> Result<&str, SealError> {
    parts(text).map(|parts| parts.key_id)
}

fn parts(text: &str) -> Result<SealedParts<'_>, SealError> {
    parse(text).map_err(|fault| invalid(&fault.to_string()))
}

fn invalid(reason: &str) -> SealError {
    SealError::Invalid { reason: reason.to_owned() }
}

#[cfg(test)]
pub(crate) fn sample() -> JobCredential {
    JobCredential {
        server: "https://mytoken.testbed:8443".into(),
        sub_token: Secret::new("eyJhbGciOiJFUzUxMiJ9.e30.c2ln"),
        uid: 2001,
        cluster: "testbed".into(),
        id: "0123456789abcdef0123456789abcdef".into(),
        exp: 1_893_456_000,
        profile: "default".into(),
        scope: "storage.read".into(),
        audience: "https://testbed".into(),
        required: false,
        made: 1_893_000_000,
        shared_for: 60,
        followed: true,
        files: Vec::new(),
        start_windows: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keys::generate;
    use super::*;

    fn seal_raw(plain: &[u8], key: &PublicKey, info: &[u8], aad: &[u8], header: &str) -> String {
        let (enc, ct) =
            single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem>(&OpModeS::Base, &key.key, info, plain, aad).unwrap();
        let mut bytes = enc.to_bytes().to_vec();
        bytes.extend(ct);
        format!("{header}.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    #[test]
    fn a_sealed_text_can_be_opened_and_is_different_each_time() {
        let (public, private) = generate();
        let text = seal(&sample(), &public).unwrap();
        assert!(text.starts_with(&format!("mt1.{}.", public.id())), "{text}");
        assert!(!text.contains("eyJ"), "{text}");
        assert_eq!(open(&text, &private).unwrap(), sample());
        assert_ne!(text, seal(&sample(), &public).unwrap());
        assert_eq!(key_id(&text).unwrap(), public.id());
    }

    /// Jobs may wait for weeks, so texts of earlier releases must still open. These are of release 0.1.0 with hpke 0.13 and a key for this test
    /// alone.
    #[test]
    fn sealed_texts_of_earlier_releases_open() {
        let key = PrivateKey::parse("mytoken-x25519-private kUm3Cz8dLE5GXP4LWfxrJRadKU2FCkMu3NhbZSsnsk0").unwrap();
        let plain = "mt1.6a1d98ed.77ZwAeYpyqryi-lbv7CiCpMrudRrWHvvrp6kBOOm5yduXNyMiX7EaoqbTBtp4JcKP1NF1J7SIA0tbF6opV_QbsEo2QIpQPHF0\
            ZsNCcH07gJz5z8z-SKYjQZ__qzGoGydEwj0UYtZtBPTT0q2zrbPNR2_WbbEXP5FYT4FNevOHc9dL2BJ2cfEEq6P39Do3xJxlEF2CyeeEQdm2QJuXXOkvLQDLeX6\
            mr2fkqo1pXPesejckLwy2VYYnXVsxJKZAnut5ZoCKRxfmrV-1_fqxVSoYJ8Mx19YgL2ruyn_a9-uaU7ep_dVt0KJSai9KMDy7euo5xsS_JOuwdv017OFWEOA_mc\
            8bMFbN8TtqxbcjcyHboDKCvS8kHGkxfkoREc553VXeL7B6xR4vGXteLN6uSliN5vjTQGPpA";
        let required = "mt1.6a1d98ed.Rtzn379YCkDVAPTbmAx_6GvOpihLUEGEW71Qrn5uliJetXgESHfdw4w07lGkubbrmMWOFbJ6J6VHaRWEqHSEPu4xYJi2GB\
            zS4GVaaZIT7nHOpIHZesJLc0gPigz-G2lmgub5FoM7rVswL7W8SKgtfJa80V8-t8wHVYx0FatKU8ufJKVy47v_bfcyFz4laR5fgwPceiIHoebD1QBUAthX4lFcY\
            NTt1iWSC44uA175jUZF9gaIuK7al8V-x-0QLFVdM5y0e5toM249St11VS0GAXsfdc_28go2TYXIFCdsvRqicX-JVOoZK5r9xs_t0ouP02FXf2xAZqy91--1QjNe\
            h1BeNhjcQgQDyZzewV-7DsL8-Nd072DGVFhJRYX9jKc0jhD75IreNS-YLiHRQIxtX04cno9X";
        let earlier = JobCredential { made: 0, shared_for: 0, followed: false, ..sample() };
        assert_eq!(open(plain, &key).unwrap(), earlier);
        assert_eq!(open(required, &key).unwrap(), JobCredential { required: true, ..earlier });
    }

    #[test]
    fn windows_after_the_start_are_carried_and_checked() {
        let (public, private) = generate();
        let windows = |until| vec![StartWindow { from: 60, until }];
        let credential = JobCredential { start_windows: windows(120), ..sample() };
        assert_eq!(open(&seal(&credential, &public).unwrap(), &private).unwrap(), credential);
        let wrong = JobCredential { start_windows: windows(60), ..sample() };
        assert!(seal(&wrong, &public).unwrap_err().to_string().contains("start_windows end before"));
    }

    #[test]
    fn another_key_is_named_in_the_refusal() {
        let (public, _) = generate();
        let (_, other) = generate();
        let text = seal(&sample(), &public).unwrap();
        let expected = SealError::OtherKey { sealed: public.id().into(), own: other.id().into() };
        assert_eq!(open(&text, &other).unwrap_err(), expected);
        // Writing the other key's id into the header does not help.
        let forged = text.replace(public.id(), other.id());
        assert!(matches!(open(&forged, &other), Err(SealError::Invalid { .. })));
    }

    #[test]
    fn a_changed_byte_is_detected() {
        let (public, private) = generate();
        let text = seal(&sample(), &public).unwrap();
        // Header, key id and encapsulated key; every 11th byte of the ciphertext; the tag.
        let end = text.len();
        for position in (0..60).chain((60..end).step_by(11)).chain(end - 22..end) {
            let mut bytes = text.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(open(&changed, &private).is_err(), "byte {position}");
        }
        for length in (0..end).step_by(13) {
            assert!(open(&text[..length], &private).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn header_and_info_are_authenticated() {
        let (public, private) = generate();
        let plain = serde_json::to_vec(&sample()).unwrap();
        let header = format!("mt1.{}", public.id());
        assert!(open(&seal_raw(&plain, &public, INFO, header.as_bytes(), &header), &private).is_ok());
        assert!(open(&seal_raw(&plain, &public, INFO, b"", &header), &private).is_err(), "additional data");
        assert!(
            open(&seal_raw(&plain, &public, b"mytoken broker", header.as_bytes(), &header), &private).is_err(),
            "info"
        );
    }

    #[test]
    fn invalid_content_is_refused_and_not_quoted() {
        let (public, private) = generate();
        let header = format!("mt1.{}", public.id());
        let json = serde_json::to_string(&sample()).unwrap();
        for plain in [
            "{}".to_owned(),
            "null".to_owned(),
            json.replace("2001", "\"eyJhbGciOiJFUzUxMiJ9\""),
            json.replace("2001", "-1"),
            json.replace("2001", "4294967296"),
            json.replace("0123456789abcdef0123456789abcdef", "../../etc/passwd"),
            json.replace("0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789ABCDEF"),
            json.replace("eyJhbGciOiJFUzUxMiJ9.e30.c2ln", ""),
            json.replace("storage.read", "a\\nb"),
        ] {
            let error =
                open(&seal_raw(plain.as_bytes(), &public, INFO, header.as_bytes(), &header), &private).unwrap_err();
            assert!(matches!(error, SealError::Invalid { .. }), "{plain}");
            assert!(!error.to_string().contains("eyJ"), "{error}");
        }
    }

    #[test]
    fn a_point_of_low_order_and_malformed_texts_are_refused() {
        let (public, private) = generate();
        let id = public.id();
        for text in [
            format!("mt1.{id}.{}", URL_SAFE_NO_PAD.encode([0_u8; 64])),
            format!("mt1.{id}."),
            format!("mt1.{id}.{}", URL_SAFE_NO_PAD.encode([7_u8; 31])),
            format!("mt2.{id}.AAAA"),
            format!("mt1..{id}.AAAA"),
            "mt1.ZZZZZZZZ.AAAA".to_owned(),
            String::new(),
            ".".to_owned(),
            "A".repeat(LIMIT + 1),
            format!("mt1.{id}.{}==", URL_SAFE_NO_PAD.encode([0_u8; 64])),
        ] {
            assert!(open(&text, &private).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn open_never_panics(text in "\\PC{0,200}|mt1\\.[0-9a-f]{8}\\.[A-Za-z0-9_-]{0,200}") {
            let (_, private) = generate();
            prop_assert!(open(&text, &private).is_err());
        }
    }
}
