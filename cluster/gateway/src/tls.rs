//! The public listener's certificate: read from the operator's files, or made once and kept beside the store.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::data_folder::{self, FileError};
use crate::token;

const CERTIFICATE: &str = "gateway.crt";
const KEY: &str = "gateway.key";

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read a certificate from {path}: {reason}")]
    Certificate { path: PathBuf, reason: String },
    #[error("cannot read a private key from {path}: {reason}")]
    Key { path: PathBuf, reason: String },
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(#[source] rustls::Error),
    #[error("cannot make a self-signed certificate")]
    Generate(#[source] rcgen::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

pub struct Identity {
    pub config: ServerConfig,
    /// Lowercase hex SHA-256 of the first certificate.
    pub fingerprint: String,
    pub certificate: PathBuf,
}

pub fn identity(config: &Config) -> Result<Identity, TlsError> {
    let (certificate, key) = match config.public.as_ref().and_then(|public| public.identity.clone()) {
        Some(files) => files,
        None => self_signed(config)?,
    };
    let unreadable = |reason: String| TlsError::Certificate { path: certificate.clone(), reason };
    let chain: Vec<CertificateDer> = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(error.to_string()))?;
    let first = chain.first().ok_or_else(|| unreadable("no certificate in it".into()))?;
    let fingerprint = token::hex(&Sha256::digest(first));
    let key = PrivateKeyDer::from_pem_file(&key)
        .map_err(|error| TlsError::Key { path: key.clone(), reason: error.to_string() })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Unusable)?;
    Ok(Identity { config, fingerprint, certificate })
}

/// Makes certificate and key when there is no certificate yet. The key is written first: the certificate's
/// presence means that both are there.
fn self_signed(config: &Config) -> Result<(PathBuf, PathBuf), TlsError> {
    let folder: &Path = config.data_folder();
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if !certificate.exists() {
        let pair = rcgen::KeyPair::generate().map_err(TlsError::Generate)?;
        let mut params = rcgen::CertificateParams::new(names(config)).map_err(TlsError::Generate)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "orama-gateway");
        let made = params.self_signed(&pair).map_err(TlsError::Generate)?;
        let secret = Zeroizing::new(pair.serialize_pem());
        data_folder::write_atomically(&key, secret.as_bytes(), 0o600)?;
        data_folder::write_atomically(&certificate, made.pem().as_bytes(), 0o644)?;
    }
    Ok((certificate, key))
}

/// Every name by which this gateway may be called.
fn names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), config.overlay.address.to_string()];
    if let Some(public) = &config.public {
        let listen: IpAddr = public.listen.ip();
        if !listen.is_unspecified() {
            names.push(listen.to_string());
        }
        names.extend(public.names.iter().cloned());
    }
    if let Some(mesh) = &config.mesh {
        names.push(mesh.endpoint.ip().to_string());
    }
    names.sort();
    names.dedup();
    names
}
