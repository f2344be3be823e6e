//! TLS: the certificate of the configuration, read anew when its files change, or one that is made at start-up for this
//! machine alone. TLS 1.2 and 1.3 with rustls's ciphers, hybrid post-quantum key exchange first.

use crate::config::{Certificate, Settings};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
};
use std::{sync::Arc, time::SystemTime};

/// How long the certificate that is made at start-up is good for.
const SELF_SIGNED_DAYS: i64 = 30;

/// The server's side of TLS, with the certificate as its files are now.
pub fn config(settings: &Settings) -> Result<Arc<ServerConfig>, String> {
    let (chain, key) = match &settings.tls {
        Some(files) => read(files)?,
        None => self_signed(&settings.hosts)?,
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match &settings.tls {
            Some(files) => format!(
                "{} and {} do not go together: {error}",
                files.certificate.display(),
                files.key.display()
            ),
            None => error.to_string(),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(files: &Certificate) -> Result<Identity, String> {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("the certificate {certificate} cannot be read: {error}"))?;
    if chain.is_empty() {
        return Err(format!(
            "there is no certificate in {certificate}: it takes PEM, the server's own first"
        ));
    }
    let private = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("the private key {key} cannot be read: {error}"))?;
    Ok((chain, private))
}

fn self_signed(hosts: &[String]) -> Result<Identity, String> {
    let fault = |error: rcgen::Error| format!("no certificate can be made for the hosts {hosts:?}: {error}");
    let names: Vec<String> =
        hosts.iter().map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(fault)?;
    params.distinguished_name.push(DnType::CommonName, "secure-app, self-signed");
    let now = SystemTime::now();
    params.not_before = (now - std::time::Duration::from_secs(60 * 60)).into();
    params.not_after =
        params.not_before + std::time::Duration::from_secs(SELF_SIGNED_DAYS as u64 * 24 * 60 * 60);
    let key = KeyPair::generate().map_err(fault)?;
    let certificate = params.self_signed(&key).map_err(fault)?;
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((vec![certificate.der().clone()], private.into()))
}
