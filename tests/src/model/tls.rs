//! A root made at start and a certificate for the service's name.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The service's side of TLS.
pub struct Identity {
    /// The root, PEM. Whoever calls has to trust it.
    pub root_pem: String,
    /// For the listener.
    pub config: Arc<rustls::ServerConfig>,
}

/// Makes a root and a certificate for these names. The root's key is dropped.
pub fn identity(names: &[String]) -> anyhow::Result<Identity> {
    let mut root = CertificateParams::new(Vec::new())?;
    root.distinguished_name
        .push(DnType::CommonName, "Assay scripted model root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root_key = KeyPair::generate()?;
    let root_pem = root.self_signed(&root_key)?.pem();
    let issuer = Issuer::new(root, root_key);
    let mut leaf = CertificateParams::new(names.to_vec())?;
    leaf.distinguished_name
        .push(DnType::CommonName, names.first().context("no name")?.clone());
    leaf.use_authority_key_identifier_extension = true;
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let chain = vec![leaf.signed_by(&key, &issuer)?.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity {
        root_pem,
        config: Arc::new(config),
    })
}
