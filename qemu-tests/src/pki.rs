//! The certificate authority that an image pins, and the gateway's certificate. Made once per folder and
//! kept, as the image that pins the authority is kept too.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

/// Paths of PEM files.
#[derive(Clone, Debug)]
pub struct Pki {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("making {what}")]
    Make {
        what: &'static str,
        #[source]
        source: rcgen::Error,
    },
    #[error("writing {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Pki {
    /// What is in the folder; made first when something is missing.
    pub fn in_folder(folder: &Path) -> Result<Self, PkiError> {
        let pki = Self {
            authority: folder.join("ca.pem"),
            certificate: folder.join("gateway.pem"),
            key: folder.join("gateway.key"),
        };
        let complete = [&pki.authority, &pki.certificate, &pki.key].iter().all(|path| path.is_file());
        if !complete {
            pki.make(folder)?;
        }
        Ok(pki)
    }

    fn make(&self, folder: &Path) -> Result<(), PkiError> {
        let failed = |what| move |source| PkiError::Make { what, source };
        let (issuer, authority) = authority().map_err(failed("the certificate authority"))?;
        let (certificate, key) = gateway(&issuer).map_err(failed("the gateway's certificate"))?;
        std::fs::create_dir_all(folder)
            .map_err(|source| PkiError::Write { path: folder.to_owned(), source })?;
        // The authority last: it is the one that tells a complete folder from a cut-off one.
        for (path, text) in [(&self.certificate, certificate), (&self.key, key), (&self.authority, authority)]
        {
            std::fs::write(path, text).map_err(|source| PkiError::Write { path: path.clone(), source })?;
        }
        Ok(())
    }
}

fn authority() -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "OramaOS demo authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn gateway(issuer: &Issuer<'static, KeyPair>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "OramaOS demo gateway");
    // From the host, and as slirp shows the host to a node.
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 2, 2)] {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(address)));
    }
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let pem = params.signed_by(&key, issuer)?.pem();
    Ok((pem, key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = Pki::in_folder(folder.path()).unwrap();
        let authority = std::fs::read(&first.authority).unwrap();
        let second = Pki::in_folder(folder.path()).unwrap();
        assert_eq!(authority, std::fs::read(&second.authority).unwrap());
        assert!(std::fs::read_to_string(&second.certificate).unwrap().contains("BEGIN CERTIFICATE"));
    }
}
