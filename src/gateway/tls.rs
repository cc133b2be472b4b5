//! Certificates of the data listeners: found by listener, swapped with the configuration, no connection lost.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::TlsSettings;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::config::snapshot::TlsFiles;

/// The certificate a listener shows now.
pub struct Certificate(ArcSwap<CertifiedKey>);

struct NoCallbacks;

// === impl Certificate ===

impl Certificate {
    pub fn load(files: &TlsFiles) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Certificate(ArcSwap::from_pointee(read(files)?))))
    }

    /// Show another certificate from the next handshake on. On failure the old one stays.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), String> {
        self.0.store(Arc::new(read(files)?));
        Ok(())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[async_trait]
impl TlsAccept for NoCallbacks {}

/// Pingora's settings for a TLS listener: ALPN with h2 and h1, and client certificates where a CA is named.
pub fn settings(files: &TlsFiles, certificate: Arc<Certificate>) -> Result<TlsSettings, String> {
    let mut settings = TlsSettings::with_callbacks(Box::new(NoCallbacks)).map_err(|e| e.to_string())?;
    settings.set_cert_resolver(certificate);
    settings.enable_h2();
    if let Some(ca) = &files.client_ca {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|e| format!("{}: {e}", ca.display()))?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        settings.set_client_cert_verifier(verifier.map_err(|e| format!("{}: {e}", ca.display()))?);
    }
    Ok(settings)
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, String> {
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| format!("{}: {e}", files.key.display()))?;
    let provider = CryptoProvider::get_default().ok_or("no TLS provider is installed")?;
    CertifiedKey::from_der(certificates(&files.cert)?, key, provider)
        .map_err(|e| format!("{} and {}: {e}", files.cert.display(), files.key.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{}: no certificate in this file", path.display())),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}
