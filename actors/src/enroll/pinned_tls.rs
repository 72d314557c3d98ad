//! TLS to the one gateway that the image names: its certificate authority or the fingerprint of its certificate is
//! part of the verified root file system. No public authority is trusted. Opens no connection.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

/// Most certificates that an authority file may hold.
const AUTHORITIES_MAX: usize = 16;

/// How the gateway is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// PEM text of the only certificate authorities that may have signed the gateway's certificate.
    Authority(Vec<u8>),
    /// SHA-256 of the gateway's certificate (DER); names and dates in it do not matter.
    Fingerprint([u8; 32]),
}

#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("the gateway's certificate authority is not PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error(
        "the gateway's certificate authority file holds {0} certificates, 1 to {AUTHORITIES_MAX} are expected"
    )]
    Count(usize),
    #[error("the gateway's certificate authority is not usable")]
    Authority(#[source] rustls::Error),
    #[error("fingerprint `{0}` is not `sha256:` and 64 hex characters")]
    Fingerprint(String),
    #[error("configuring TLS")]
    Tls(#[source] rustls::Error),
}

impl Pin {
    /// Reads `sha256:<64 hex>`; colons between bytes, as openssl prints them, are accepted.
    pub fn fingerprint(text: &str) -> Result<Self, PinError> {
        let wrong = || PinError::Fingerprint(text.chars().take(100).collect());
        let hex: String =
            text.strip_prefix("sha256:").ok_or_else(wrong)?.chars().filter(|c| *c != ':').collect();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self::Fingerprint(digest))
    }

    /// A client configuration that trusts what is pinned and nothing else.
    pub fn client_config(&self) -> Result<ClientConfig, PinError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(PinError::Tls)?;
        let mut config = match self {
            Self::Authority(pem) => builder.with_root_certificates(authorities(pem)?).with_no_client_auth(),
            Self::Fingerprint(digest) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(OneCertificate { digest: *digest, provider }))
                .with_no_client_auth(),
        };
        // A WebSocket upgrade exists in HTTP/1.1 only.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, PinError> {
    let certificates =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(PinError::Pem)?;
    if certificates.is_empty() || certificates.len() > AUTHORITIES_MAX {
        return Err(PinError::Count(certificates.len()));
    }
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate).map_err(PinError::Authority)?;
    }
    Ok(store)
}

/// Accepts exactly one certificate, whoever signed it. The handshake still proves possession of its key.
#[derive(Debug)]
struct OneCertificate {
    digest: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Both sides are public, so a plain comparison leaks nothing.
        if <[u8; 32]>::from(Sha256::digest(end_entity)) == self.digest {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        let hex = "ab".repeat(32);
        assert_eq!(Pin::fingerprint(&format!("sha256:{hex}")).unwrap(), Pin::Fingerprint([0xab; 32]));
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(Pin::fingerprint(&format!("sha256:{colons}")).unwrap(), Pin::Fingerprint([0xab; 32]));
        for wrong in [hex.as_str(), "sha256:", "sha256:ab", "sha1:ab", &format!("sha256:{}", "é".repeat(32))]
        {
            assert!(matches!(Pin::fingerprint(wrong), Err(PinError::Fingerprint(_))), "{wrong}");
        }
    }

    #[test]
    fn an_authority_file_without_a_certificate_is_refused() {
        assert!(matches!(Pin::Authority(Vec::new()).client_config(), Err(PinError::Count(0))));
        assert!(
            Pin::Authority(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec())
                .client_config()
                .is_err()
        );
        assert!(Pin::Fingerprint([1; 32]).client_config().is_ok());
    }
}
