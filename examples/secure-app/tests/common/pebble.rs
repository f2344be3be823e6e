//! A certificate authority that speaks ACME: Pebble, with a DNS server that finds every name on this machine.

use super::{
    exchange, head,
    servers::{Server, free_port},
    tls,
};
use browser_tests::TempDir;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConnection, StreamOwned,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

const INSTALL: &str = "apt-get install pebble";

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection whose certificate is checked by this root.
pub fn connect(address: SocketAddr, name: &str, root: &CertificateDer<'static>) -> std::io::Result<Tls> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(browser_tests::PATIENCE))?;
    let mut stream = StreamOwned::new(tls(name, root, &[]), stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

pub struct Pebble {
    folder: TempDir,
    ca: CertificateDer<'static>,
    port: u16,
    management: u16,
    dns: u16,
    /// Of the issuing root: a restarted Pebble has another one.
    root: Option<CertificateDer<'static>>,
    server: Option<Server>,
    _names: Server,
}

impl Pebble {
    /// Asks for challenges at this port; its certificates are good for so long.
    #[track_caller]
    pub fn start(http: u16, validity: Duration) -> Pebble {
        let folder = TempDir::new();
        let (port, management, dns) = (free_port(), free_port(), free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();

        let key = || KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, key()).expect("an issuer");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let (params, own) = (CertificateParams::new(names).expect("names"), key());
        let certificate = params.signed_by(&own, &ca).expect("a certificate");
        fs::write(path("root.pem"), ca.pem()).expect("written");
        fs::write(path("certificate.pem"), certificate.pem()).expect("written");
        fs::write(path("key.pem"), own.serialize_pem()).expect("written");
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": path("certificate.pem"),
            "privateKey": path("key.pem"),
            "httpPort": http,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "certificateValidityPeriod": validity.as_secs(),
        } });
        fs::write(path("config.json"), config.to_string()).expect("written");

        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        names.args(["-dns01", &format!("127.0.0.1:{dns}")]);
        names.args(["-management", &format!("127.0.0.1:{}", free_port())]);
        let names = Server::start(&mut names, INSTALL).listening(("127.0.0.1", dns));
        let ca = ca.der().clone();
        let mut pebble =
            Pebble { folder, ca, port, management, dns, root: None, server: None, _names: names };
        pebble.restart();
        pebble
    }

    /// Starts it anew: it has forgotten accounts and orders, and made another root.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        let mut command = Command::new("pebble");
        command.arg("-config").arg(self.folder.path().join("config.json"));
        command.args(["-strict", "-dnsserver", &format!("127.0.0.1:{}", self.dns)]);
        command.envs([
            ("PEBBLE_VA_NOSLEEP", "1"),
            ("PEBBLE_WFE_NONCEREJECT", "0"),
            // Each order is to ask for challenges.
            ("PEBBLE_AUTHZREUSE", "0"),
        ]);
        let address = SocketAddr::from(([127, 0, 0, 1], self.management));
        let server = Server::start(&mut command, INSTALL);
        self.server = Some(server.listening(("127.0.0.1", self.port)).listening(address));
        let stream = connect(address, "localhost", &self.ca).expect("a connection");
        let root = exchange(stream, &head("GET", "/roots/0", &[], self.management, ""), "").body;
        self.root = Some(CertificateDer::from_pem_slice(root.as_bytes()).expect("a root"));
    }

    pub fn stop(&mut self) {
        self.server = None;
    }

    #[track_caller]
    pub fn signal(&self, name: &str) {
        self.server.as_ref().expect("it runs").signal(name);
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The file with the root of its own address.
    pub fn root_file(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// What its certificates are checked by.
    pub fn root(&self) -> &CertificateDer<'static> {
        self.root.as_ref().expect("it has run")
    }

    /// Of certificates that it has made since it was started.
    #[track_caller]
    pub fn issued(&self) -> usize {
        self.count("Issued certificate serial")
    }

    /// Of orders that were begun.
    #[track_caller]
    pub fn orders(&self) -> usize {
        self.count("orders in the db")
    }

    /// Of accounts that were made.
    #[track_caller]
    pub fn accounts(&self) -> usize {
        self.count("accounts in memory")
    }

    #[track_caller]
    fn count(&self, text: &str) -> usize {
        self.server.as_ref().expect("it runs").output().matches(text).count()
    }
}
