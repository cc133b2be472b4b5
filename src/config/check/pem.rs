//! PEM files and other keys, read once at load so that a wrong one never reaches a handshake.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Checker;
use crate::config::raw::{self, At};
use crate::config::snapshot::TlsFiles;

/// A system's whole bundle has about 250 KB.
const LARGEST_PEM: u64 = 4 << 20;

impl Checker<'_> {
    /// The files of a listener: they exist, they parse, and the key belongs to the certificate.
    pub(super) fn tls_files(&mut self, tls: raw::Tls, path: &str) -> Option<TlsFiles> {
        let cert = self.pem_file(tls.cert.as_ref(), &format!("{path}.cert"));
        let key = self.pem_file(tls.key.as_ref(), &format!("{path}.key"));
        let client_ca = self.pem_file(tls.client_ca.as_ref(), &format!("{path}.client_ca"));
        if let (Some(at), Some((_, bytes))) = (&tls.client_ca, &client_ca) {
            self.authorities(at, bytes, &format!("{path}.client_ca"));
        }
        let ((cert, cert_bytes), (key, key_bytes)) = (cert?, key?);
        let (cert_at, key_at) = (tls.cert.as_ref()?, tls.key.as_ref()?);

        let chain = CertificateDer::pem_slice_iter(&cert_bytes).collect::<Result<Vec<_>, _>>().unwrap_or_default();
        if chain.is_empty() {
            let message = format!("{path}.cert: {} holds no certificate in PEM form", cert_at.quoted());
            self.faults.wrong(cert_at.place, path, message);
        }
        let Ok(private) = PrivateKeyDer::from_pem_slice(&key_bytes) else {
            let message = format!("{path}.key: {} holds no unencrypted private key in PEM form", key_at.quoted());
            self.faults.wrong(key_at.place, path, message);
            return None;
        };
        if chain.is_empty() {
            return None;
        }
        // A mismatch is told; what rustls cannot compare passes, as it does in rustls itself.
        if let Err(error) = CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()) {
            let message = format!("{path}: certificate and private key cannot be used together: {error}");
            self.faults.wrong(key_at.place, path, message);
            return None;
        }
        Some(TlsFiles { cert, key, client_ca: client_ca.map(|(path, _)| path) })
    }

    /// The bundle of a provider's only authorities.
    pub(super) fn authority_file(&mut self, at: &At<String>, path: &str) -> Option<Arc<[u8]>> {
        let (_, bytes) = self.pem_file(Some(at), path)?;
        self.authorities(at, &bytes, path).then(|| bytes.into())
    }

    fn authorities(&mut self, at: &At<String>, bytes: &[u8], path: &str) -> bool {
        let mut store = RootCertStore::empty();
        let all_good = CertificateDer::pem_slice_iter(bytes).all(|cert| cert.is_ok_and(|cert| store.add(cert).is_ok()));
        let good = all_good && !store.is_empty();
        if !good {
            let what = if all_good { "holds no certificate" } else { "holds something that is not a certificate" };
            self.faults.wrong(at.place, path, format!("{path}: {} {what} in PEM form", at.quoted()));
        }
        good
    }

    /// A small file of text.
    pub(super) fn text_file(&mut self, at: &At<String>, path: &str) -> Option<String> {
        let (_, bytes) = self.pem_file(Some(at), path)?;
        let text = String::from_utf8(bytes).ok();
        if text.is_none() {
            self.faults.wrong(at.place, path, format!("{path}: {} is not text", at.quoted()));
        }
        text
    }

    fn pem_file(&mut self, at: Option<&At<String>>, path: &str) -> Option<(PathBuf, Vec<u8>)> {
        let at = at?;
        let file = self.path(&at.value);
        let mut bytes = Vec::new();
        let read = File::open(&file).and_then(|f| f.take(LARGEST_PEM + 1).read_to_end(&mut bytes));
        let message = match read {
            Ok(n) if n as u64 > LARGEST_PEM => format!("{path}: {} is larger than 4 MiB", at.quoted()),
            Ok(_) => {
                self.files.push(file.clone());
                return Some((file, bytes));
            }
            Err(error) => {
                format!("{path}: cannot read {}: {} (paths begin at this file's folder)", at.quoted(), error.kind())
            }
        };
        self.faults.wrong(at.place, path, message);
        None
    }
}
