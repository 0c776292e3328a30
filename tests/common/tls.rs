//! Owns the certificates of the tests and the settings of servers that have them. It does not own the servers.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Made with openssl for tests alone: a CA, and certificates of "localhost" that it signed.
pub fn pem(name: &str) -> String {
    format!("{}/tests/connectors/planetscale/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Returns the settings of a server that has a certificate of that CA, and perhaps wants one of its clients.
pub fn tls(wants_client: bool) -> ServerConfig {
    let certificate = |name: &str| CertificateDer::from_pem_file(pem(name)).expect("a certificate");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("TLS 1.3");
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).expect("a CA");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match wants_client {
        true => builder.with_client_cert_verifier(verifier.build().expect("a verifier")),
        false => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(pem("server.key.pem")).expect("a key");
    builder.with_single_cert(vec![certificate("server.pem")], key).expect("both")
}
