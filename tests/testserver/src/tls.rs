// SPDX-License-Identifier: MIT OR Apache-2.0
//! A private CA and a certificate for the servers. They are kept in a folder, so that clients still trust a server
//! after its restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::private_file;

/// TLS settings of a listener.
pub type TlsConfig = Arc<ServerConfig>;

/// Name of the file with the CA's certificate.
pub const CA_FILE: &str = "ca.pem";

/// TLS settings for these host names and addresses. The server certificate in the folder is used again if it has the
/// same names. The CA in the folder is always used again; its certificate is `ca.pem`.
///
/// # Errors
/// The folder cannot be read or written, or a name is invalid.
pub fn server_config(folder: &Path, names: &[String]) -> Result<TlsConfig, String> {
    let files = Files::below(folder);
    fs::create_dir_all(&files.keys).map_err(|error| format!("{}: {error}", files.keys.display()))?;
    let wanted = names.join("\n");
    if fs::read_to_string(&files.names).ok().as_deref() != Some(&wanted) || !files.complete() {
        issue(&files, names)?;
        private_file::write(&files.names, wanted.as_bytes())?;
    }
    load(&files)
}

struct Files {
    keys: PathBuf,
    ca: PathBuf,
    ca_key: PathBuf,
    server: PathBuf,
    server_key: PathBuf,
    names: PathBuf,
}

impl Files {
    fn below(folder: &Path) -> Self {
        let keys = folder.join("tls");
        Self {
            ca: folder.join(CA_FILE),
            ca_key: keys.join("ca.key"),
            server: keys.join("server.pem"),
            server_key: keys.join("server.key"),
            names: keys.join("names"),
            keys,
        }
    }

    fn complete(&self) -> bool {
        [&self.ca, &self.ca_key, &self.server, &self.server_key].iter().all(|file| file.exists())
    }
}

fn issue(files: &Files, names: &[String]) -> Result<(), String> {
    let failed = |error: rcgen::Error| format!("certificate: {error}");
    let ca_key = match fs::read_to_string(&files.ca_key) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(failed)?,
        Err(_) => {
            let key = KeyPair::generate().map_err(failed)?;
            private_file::write(&files.ca_key, key.serialize_pem().as_bytes())?;
            key
        }
    };
    let authority = ca_params(&ca_key)?;
    if !files.ca.exists() {
        let certificate = authority.self_signed(&ca_key).map_err(failed)?;
        fs::write(&files.ca, certificate.pem()).map_err(|error| format!("{}: {error}", files.ca.display()))?;
    }
    let key = KeyPair::generate().map_err(failed)?;
    let mut server = with_validity(CertificateParams::new(names).map_err(failed)?);
    server.distinguished_name.push(DnType::CommonName, names.first().map_or("testserver", String::as_str));
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let certificate = server.signed_by(&key, &Issuer::new(authority, ca_key)).map_err(failed)?;
    private_file::write(&files.server_key, key.serialize_pem().as_bytes())?;
    private_file::write(&files.server, certificate.pem().as_bytes())
}

/// Parameters of the CA's certificate. Its name contains a fingerprint of the key, so that a client can trust the CAs
/// of two test servers.
fn ca_params(key: &KeyPair) -> Result<CertificateParams, String> {
    let print: String = Sha256::digest(key.public_key_raw()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut params = with_validity(CertificateParams::new(Vec::new()).map_err(|error| error.to_string())?);
    params.distinguished_name.push(DnType::CommonName, format!("testserver authority {print}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Valid long enough for any test. It ends before 2050, when X.509 encodes dates in another way.
fn with_validity(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params
}

fn load(files: &Files) -> Result<TlsConfig, String> {
    let failed = |error: rustls_pki_types::pem::Error| format!("{}: {error}", files.keys.display());
    let chain = vec![CertificateDer::from_pem_file(&files.server).map_err(failed)?];
    let key = PrivateKeyDer::from_pem_file(&files.server_key).map_err(failed)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
