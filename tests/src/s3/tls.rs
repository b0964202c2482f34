//! Certificates of the test server.

use std::{io::Write as _, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio_rustls::TlsAcceptor;

/// A certificate for the server, signed by an authority of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Tls {
    /// It is as it should be.
    Good,
    /// It is another host's.
    OtherName,
    /// Its time is over.
    Expired,
}

/// What accepts connections, and the authority's certificate.
pub(crate) fn acceptor(kind: S3Tls) -> (TlsAcceptor, tempfile::NamedTempFile) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let name = if kind == S3Tls::OtherName {
        "elsewhere.invalid"
    } else {
        "127.0.0.1"
    };
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if kind == S3Tls::Expired {
        leaf.not_before = date_time_ymd(2001, 1, 1);
        leaf.not_after = date_time_ymd(2002, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let chain = vec![CertificateDer::from(leaf)];
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority.pem().as_bytes()).unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}
