//! TLS: the certificate of the configuration, read anew when its files change, or one that is made at start-up for this
//! machine alone. TLS 1.2 and 1.3 with rustls's ciphers, hybrid post-quantum key exchange first.

use crate::{
    config::{Certificate, Settings},
    host::Host,
};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        pem::{self, PemObject as _},
    },
};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::time::ASN1Time;

/// How long the certificate that is made at start-up is good for.
const SELF_SIGNED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The server's side of TLS.
#[derive(Clone)]
pub struct Tls {
    pub config: Arc<ServerConfig>,
    pub validity: Validity,
}

/// Of the server's own certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Validity {
    fn of(certificate: &CertificateDer<'_>) -> Result<Validity, String> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let time = |time: ASN1Time| {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
        };
        let validity = certificate.validity();
        Ok(Validity { not_before: time(validity.not_before), not_after: time(validity.not_after) })
    }
}

/// With the certificate as its files are now, or one that is made here.
pub fn configured(settings: &Settings) -> Result<Tls, String> {
    match &settings.tls {
        Some(files) => {
            let place =
                |error| format!("{} and tls.key do not go together: {error}", shown(&files.certificate));
            let (chain, key) = read(files)?;
            with(chain, key).map_err(place)
        }
        None => self_signed(&settings.hosts).and_then(|(chain, key)| with(chain, key)),
    }
}

/// With this chain, the server's own certificate first.
pub fn with(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Tls, String> {
    let validity = Validity::of(chain.first().ok_or("there is no certificate")?)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), validity })
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(files: &Certificate) -> Result<Identity, String> {
    let certificate = shown(&files.certificate);
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{certificate} cannot be read: {}", why(error)))?;
    if chain.is_empty() {
        return Err(format!(
            "there is no certificate in {certificate}: it takes PEM, the server's own first"
        ));
    }
    let private = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("tls.key cannot be read: {}", why(error)))?;
    Ok((chain, private))
}

/// Not the error's own text: it quotes lines, which may be the key.
fn why(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "there is none in it".to_owned(),
        _ => "it is no whole PEM, with each line on its own".to_owned(),
    }
}

/// The setting and its file; without that where it may be a key itself, put there by mistake.
fn shown(path: &Path) -> String {
    let path = path.display().to_string();
    let is_a_path = path.len() <= 200 && !path.contains(['\n', '\r']) && !path.contains("-----");
    if is_a_path { format!("tls.certificate ({path})") } else { "tls.certificate (no path)".to_owned() }
}

fn self_signed(hosts: &[Host]) -> Result<Identity, String> {
    let fault = |error: rcgen::Error| format!("no certificate can be made for the hosts {hosts:?}: {error}");
    let names: Vec<String> = hosts.iter().map(|host| host.without_brackets().to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(fault)?;
    params.distinguished_name.push(DnType::CommonName, "secure-app, self-signed");
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(60 * 60)).into();
    params.not_after = (now + SELF_SIGNED).into();
    let key = KeyPair::generate().map_err(fault)?;
    let certificate = params.self_signed(&key).map_err(fault)?;
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((vec![certificate.der().clone()], private.into()))
}
