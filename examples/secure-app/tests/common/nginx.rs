//! A real nginx with the configuration of the example, and clients with addresses of their own (on Linux all of 127.0.0.0/8
//! is this machine).

use super::{
    Reply, Site, credentials, exchange, form_of, head,
    servers::{Server, own_address},
    tls,
};
use axum::Router;
use browser_tests::{TempDir, output, wait_for};
use secure_app::App;
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::Arc,
};
use tokio::net::TcpSocket;

const EXAMPLE: &str = include_str!("../../nginx.example.conf");
const INSTALL: &str = "apt-get install nginx-light curl (any nginx from 1.22 on)";

/// The name in the example.
pub const SHOP: &str = "shop.example.com";

/// Where one listens, nginx or the app.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub address: Ipv4Addr,
    pub https: SocketAddr,
    pub http: SocketAddr,
}

impl Place {
    /// For an nginx: an address of its own, from which it asks the app as well, and free ports.
    pub fn free() -> Place {
        let address = own_address();
        let listen =
            || TcpListener::bind((address, 0)).expect("all of 127.0.0.0/8 is this machine, as on Linux");
        let (https, http) = (listen(), listen());
        let [https, http] = [https, http].map(|listener| listener.local_addr().expect("its address"));
        Place { address, https, http }
    }

    /// The app's own.
    pub fn of(site: &Site) -> Place {
        Place { address: Ipv4Addr::LOCALHOST, https: site.https(), http: site.http() }
    }

    /// As the example says, for the app behind it.
    pub fn settings(&self) -> String {
        self.settings_trusting(&[self])
    }

    pub fn settings_trusting(&self, proxies: &[&Place]) -> String {
        let proxies: Vec<String> = proxies.iter().map(|place| format!("'{}/32'", place.address)).collect();
        let port = self.https.port();
        format!("hosts = ['{SHOP}']\npublic_port = {port}\ntrusted_proxies = [{}]", proxies.join(", "))
    }
}

/// Files of an app of that name, with routes beside its own.
pub fn shop(settings: &str, more: Router<Arc<App>>) -> Site {
    let mut site = Site::prepared(settings);
    site.write_certificate(SHOP);
    site.more = more;
    site
}

/// How nginx asks the app.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Plain,
    Tls,
}

/// Ended when dropped, with its workers.
pub struct Nginx {
    pub place: Place,
    master: Server,
    folder: TempDir,
}

impl Nginx {
    /// Before the app.
    #[track_caller]
    pub fn start(site: &Site, place: Place, way: Way) -> Nginx {
        Nginx::with(site, place, Place::of(site), way, &[])
    }

    /// The example, filled in, and with changes to what stands there once.
    #[track_caller]
    pub fn with(site: &Site, place: Place, next: Place, way: Way, changes: &[(&str, &str)]) -> Nginx {
        let folder = TempDir::new();
        let path = |name: &str| folder.path().join(name).display().to_string();
        site.write_certificate_in("nginx", SHOP);
        for name in ["certificate.pem", "key.pem"] {
            fs::copy(site.folder.path().join("nginx").join(name), path(name)).expect("copied");
        }
        fs::write(path("issuer.pem"), site.issuer()).expect("written");

        let mut text = EXAMPLE.to_owned();
        if let Way::Tls = way {
            text = replaced(&text, "proxy_pass http://secure-app;", "");
            let commented = "        # proxy_";
            assert_eq!(text.matches(commented).count(), 6, "{text}");
            text = text.replace(commented, "        proxy_");
        }
        let next = match way {
            Way::Plain => next.http,
            Way::Tls => next.https,
        };
        let filled_in = [
            ("server 127.0.0.1:8080;", format!("server {next};")),
            ("listen 80;", format!("listen {};", place.http)),
            ("listen 443 ssl", format!("listen {} ssl", place.https)),
            ("/etc/nginx/certificate.pem", path("certificate.pem")),
            ("/etc/nginx/key.pem", path("key.pem")),
            ("/etc/nginx/issuer.pem", path("issuer.pem")),
        ];
        for (old, new) in &filled_in {
            text = replaced(&text, old, new);
        }
        for (old, new) in changes {
            text = replaced(&text, old, new);
        }
        fs::write(path("shop.conf"), text).expect("written");
        // What a machine has around it.
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};\n", path(kind)));
        let main = format!(
            "daemon off;\nworker_processes 2;\npid {};\nerror_log {} notice;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\naccess_log off;\n{}proxy_bind {};\ninclude {};\n}}\n",
            path("pid"),
            path("error.log"),
            temporary.concat(),
            place.address,
            path("shop.conf"),
        );
        fs::write(path("nginx.conf"), main).expect("written");

        let mut command = Command::new("nginx");
        command.args(["-p", &path("."), "-c", &path("nginx.conf"), "-e", &path("error.log")]);
        // Debian has it where users have no path to.
        let paths = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        // Killed, it would leave its workers behind.
        let master = Server::start(command.env("PATH", paths), INSTALL).ended_by("TERM");
        let nginx = Nginx { place, master: master.listening(place.https), folder };
        // It listens before it takes signals.
        wait_for("both workers", || {
            (nginx.errors().matches("start worker process ").count() == 2).then_some(())
        });
        nginx
    }

    /// Its log of errors so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    /// Puts these in the place of the app behind it: `server ADDRESS;` each.
    #[track_caller]
    pub fn send_to(&self, servers: &[String]) {
        let path = self.folder.path().join("shop.conf");
        let text = fs::read_to_string(&path).expect("there");
        let (before, rest) = text.split_once("upstream secure-app {\n").expect("the example");
        let rest: Vec<&str> =
            rest.lines().skip_while(|line| line.trim_start().starts_with("server ")).collect();
        let text = format!("{before}upstream secure-app {{\n{}\n{}\n", servers.join("\n"), rest.join("\n"));
        fs::write(&path, text).expect("written");
        self.reload();
    }

    /// The configuration is read again: new workers take over, and those before end.
    #[track_caller]
    pub fn reload(&self) {
        let ended = || self.errors().matches(" exited with code 0").count();
        let before = ended();
        self.master.signal("HUP");
        // They end when others have begun.
        wait_for("both workers to be replaced", || (ended() >= before + 2).then_some(()));
    }

    /// By HTTP/2 and TLS 1.3, which curl speaks. Returns the version that it was and the reply.
    #[track_caller]
    pub fn curl(&self, arguments: &[&str], path: &str) -> (String, Reply) {
        let mut curl = Command::new("curl");
        let (ip, port) = (self.place.address, self.place.https.port());
        curl.args(["-q", "-sS", "--noproxy", "*", "--max-time", "30", "--http2", "--tlsv1.3", "-i"]);
        curl.args(["-w", "\n%{http_version}", "--resolve", &format!("{SHOP}:{port}:{ip}")]);
        curl.arg("--cacert").arg(self.folder.path().join("issuer.pem"));
        let output = output(curl.args(arguments).arg(format!("https://{SHOP}:{port}{path}")), INSTALL);
        assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        let (response, version) = text.rsplit_once('\n').expect("the version");
        (version.to_owned(), exchange(Recorded(response.as_bytes()), "", ""))
    }
}

#[track_caller]
fn replaced(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old:?} in {text}");
    text.replace(old, new)
}

/// A response that is here already.
struct Recorded<'r>(&'r [u8]);

impl Read for Recorded<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Recorded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A client with an address of its own.
#[derive(Clone, Copy)]
pub struct Visitor<'s> {
    pub site: &'s Site,
    /// Whom it asks.
    pub place: Place,
    pub address: Ipv4Addr,
}

impl Visitor<'_> {
    pub fn connect(&self, to: SocketAddr) -> TcpStream {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((self.address, 0).into())?;
            let stream = socket.connect(to).await?.into_std()?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(browser_tests::PATIENCE))?;
            Ok::<_, std::io::Error>(stream)
        };
        self.site.runtime().block_on(connect).expect("a connection")
    }

    /// Over TLS, the certificate checked.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let stream =
            rustls::StreamOwned::new(tls(SHOP, self.site.ca.der(), &[]), self.connect(self.place.https));
        exchange(stream, &self.head(method, path, headers, body), body)
    }

    #[track_caller]
    pub fn send_plain(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        exchange(self.connect(self.place.http), &self.head(method, path, headers, body), body)
    }

    /// A request's head, for the shop.
    pub fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let host = format!("{SHOP}:{}", self.place.https.port());
        let has_host = headers.iter().any(|(name, _)| *name == "Host");
        let host = (!has_host).then_some(("Host", &*host));
        head(method, path, &headers.iter().copied().chain(host).collect::<Vec<_>>(), 0, body)
    }

    #[track_caller]
    pub fn get(&self, path: &str, cookies: &str) -> Reply {
        self.send("GET", path, &[("Cookie", cookies)], "")
    }

    /// A form.
    #[track_caller]
    pub fn post(&self, path: &str, cookies: &str, form: &str) -> Reply {
        self.send("POST", path, &form_of(cookies), form)
    }

    #[track_caller]
    pub fn log_in(&self, cookies: &str, password: &str) -> Reply {
        self.post("/login", cookies, &credentials(super::USER, password))
    }

    /// What the app has for these cookies.
    #[track_caller]
    pub fn session(&self, cookies: &str) -> serde_json::Value {
        let reply = self.get("/api/session", cookies);
        assert_eq!(reply.status, 200, "{reply:?}");
        serde_json::from_str(&reply.body).expect("JSON")
    }
}
