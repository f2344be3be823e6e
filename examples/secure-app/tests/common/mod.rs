//! A running app with a configuration, a database and a certificate of its own, a clock that tests drive, and a client that
//! shows each response as it came.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod nginx;
pub mod pebble;
pub mod redis;
pub mod servers;

use self::servers::{output_of, signal};
use axum::Router;
use browser_tests::{TempDir, output, wait_for};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName},
};
use secure_app::{App, Running, passwords};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, SystemTime},
};
use tokio::runtime::Runtime;

/// The session cookie's name.
pub const NAME: &str = "__Host-Http-id";
pub const USER: &str = "ada";
pub const PASSWORD: &str = "correct horse battery";

/// Of [`PASSWORD`]; made once, since it takes its time.
pub fn password_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| passwords::hash(PASSWORD).expect("a hash"))
}

/// A key of the tests' own.
pub fn new_key() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub struct Site {
    pub folder: TempDir,
    /// What stands in the configuration's file beside what every site needs.
    settings: String,
    pub key: String,
    /// Milliseconds that the app's clock is ahead.
    ahead: Arc<AtomicI64>,
    frozen: Arc<OnceLock<SystemTime>>,
    running: Option<Running>,
    pub program: Option<Program>,
    more: Router<Arc<App>>,
    runtime: Runtime,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// The real program, in a process of its own. Killed when dropped.
pub struct Program {
    child: Child,
    /// Where it listens, once it has said so.
    https: Option<SocketAddr>,
    /// Both of its outputs.
    output: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Program {
    /// With a configuration's file, and these variables in its environment.
    pub fn start(file: &std::path::Path, environment: &[(&str, &str)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secure-app"));
        Program::run(command.arg(file).envs(environment.iter().copied()))
    }

    /// By a command of one's own.
    pub fn run(command: &mut Command) -> Program {
        command.stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (output, readers) = output_of(&mut child);
        Program { child, https: None, output, readers: readers.into() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("no panic").clone()
    }

    /// Waits until it has said that.
    #[track_caller]
    pub fn says(&self, text: &str) {
        wait_for(&format!("{text:?} in {:?}", self.output()), || self.output().contains(text).then_some(()));
    }

    #[track_caller]
    fn listens(&mut self) -> SocketAddr {
        let port = wait_for("the address that it listens on", || {
            let output = self.output();
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{status}: {output}");
            }
            let line = output.lines().find(|line| line.starts_with("https://") && line.ends_with('/'))?;
            line.trim_end_matches('/').rsplit(':').next()?.parse::<u16>().ok()
        });
        *self.https.insert(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// What it has said of where it listens.
    fn logged(&self, name: &str) -> Option<SocketAddr> {
        let output = self.output();
        let (_, rest) = output.split_once(name)?;
        let end = rest.find([' ', '\n'])?;
        rest[..end].parse().ok()
    }

    /// `TERM`, `HUP` and so on.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for its end. Returns how it ended and all that it has said.
    #[track_caller]
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = wait_for("its end", || self.child.try_wait().expect("a status"));
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic");
        }
        (status, self.output())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A response as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    /// The one value of a header; the name in small letters.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} twice: {values:?}");
        values.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(its, _)| its == name).map(|(_, value)| value.as_str()).collect()
    }

    /// `name=value` of each cookie that is set and not removed, for the next request's `Cookie`.
    pub fn cookies(&self) -> String {
        let set = self.all("set-cookie").into_iter().filter(|cookie| !cookie.contains("Max-Age=0"));
        set.map(|cookie| cookie.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("; ")
    }
}

impl Site {
    /// Settings stand before the first table: a table of theirs comes last there.
    pub fn start(settings: &str) -> Site {
        Site::with(settings, Router::new())
    }

    /// With routes beside the app's own.
    pub fn with(settings: &str, more: Router<Arc<App>>) -> Site {
        let mut site = Site::prepared(settings);
        site.more = more;
        site.started()
    }

    /// The real program, in a process of its own.
    pub fn program(settings: &str, environment: &[(&str, &str)]) -> Site {
        let mut site = Site::prepared(settings);
        site.start_program(environment);
        site
    }

    /// Its files alone; nothing runs yet.
    pub fn prepared(settings: &str) -> Site {
        assert!(
            std::env::var_os("REDIS_URL").is_none(),
            "REDIS_URL is set: it would take each site's place of its own"
        );
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an issuer");
        let site = Site {
            folder: TempDir::new(),
            settings: settings.to_owned(),
            key: new_key(),
            ahead: Arc::default(),
            frozen: Arc::default(),
            running: None,
            program: None,
            more: Router::new(),
            runtime: Runtime::new().expect("a runtime"),
            ca,
        };
        site.write_certificate("localhost");
        site.configure(&site.settings, &format!("primary = '{}'", site.key));
        site
    }

    /// Starts what is prepared.
    pub fn started(mut self) -> Site {
        self.run().unwrap_or_else(|error| panic!("{error}"));
        self
    }

    /// The configuration's file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("secure-app.toml")
    }

    /// Starts the real program, and waits until it listens.
    #[track_caller]
    pub fn start_program(&mut self, environment: &[(&str, &str)]) {
        self.program = Some(Program::start(&self.file(), environment));
        self.listens();
    }

    /// The same, on a disk that can be [full](Site::limit_files): without this a write beyond that limit ends the process.
    #[track_caller]
    pub fn start_program_that_meets_limits(&mut self) {
        self.program = Some(Program::run(
            Command::new("sh")
                .args(["-c", "trap '' XFSZ; exec \"$0\" \"$1\""])
                .args([env!("CARGO_BIN_EXE_secure-app").as_ref(), self.file().as_os_str()]),
        ));
        self.listens();
    }

    /// No file of its program grows beyond so many bytes, or `unlimited`.
    #[track_caller]
    pub fn limit_files(&self, bytes: &str) {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &self.its_program().id().to_string()]);
        command.arg(format!("--fsize={bytes}:unlimited"));
        assert!(output(&mut command, "apt-get install util-linux").status.success());
    }

    /// Waits until its program listens.
    #[track_caller]
    pub fn listens(&mut self) {
        self.program.as_mut().expect("it runs").listens();
    }

    #[track_caller]
    pub fn its_program(&self) -> &Program {
        self.program.as_ref().expect("it runs")
    }

    /// For whoever ends it.
    #[track_caller]
    pub fn take_program(&mut self) -> Program {
        self.program.take().expect("it runs")
    }

    /// Writes the configuration anew: general settings and the table of keys.
    pub fn configure(&self, settings: &str, keys: &str) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let text = format!(
            "https = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\ndata = '{}'\n{settings}\n\
             [tls]\ncertificate = '{}'\nkey = '{}'\n\
             [[users]]\nname = '{USER}'\npassword_hash = '{}'\n\
             [session.keys]\n{keys}\n",
            path("data"),
            path("certificate.pem"),
            path("key.pem"),
            password_hash(),
        );
        self.write("secure-app.toml", &text);
    }

    /// As editors and deploys do: a new file takes the old one's place.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let new = self.folder.path().join(format!("{name}.new"));
        fs::write(&new, text).expect("written");
        fs::rename(&new, &path).expect("renamed");
        path
    }

    /// A certificate of the tests' issuer, and its key. Returns it as DER.
    pub fn write_certificate(&self, name: &str) -> CertificateDer<'static> {
        self.write_certificate_in(".", name)
    }

    /// The same into a folder inside the site's.
    pub fn write_certificate_in(&self, folder: &str, name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        // Not the issuer's: OpenSSL would take it for one that is signed by itself.
        params.distinguished_name.push(DnType::CommonName, name);
        self.write_certificate_of(folder, params)
    }

    /// For localhost, good within these times.
    pub fn write_certificate_between(&self, begin: SystemTime, end: SystemTime) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (begin.into(), end.into());
        self.write_certificate_of(".", params)
    }

    fn write_certificate_of(&self, folder: &str, params: CertificateParams) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.ca).expect("a certificate");
        fs::create_dir_all(self.folder.path().join(folder)).expect("a folder");
        self.write(&format!("{folder}/certificate.pem"), &certificate.pem());
        self.write(&format!("{folder}/key.pem"), &key.serialize_pem());
        certificate.der().clone()
    }

    /// The issuer of its certificates, as PEM.
    pub fn issuer(&self) -> String {
        self.ca.pem()
    }

    fn run(&mut self) -> Result<(), String> {
        let (ahead, frozen) = (Arc::clone(&self.ahead), Arc::clone(&self.frozen));
        let clock = move || {
            let now = frozen.get().copied().unwrap_or_else(SystemTime::now);
            let ahead = ahead.load(SeqCst);
            let by = Duration::from_millis(ahead.unsigned_abs());
            if ahead < 0 { now - by } else { now + by }
        };
        let file = Some(self.file());
        let _inside = self.runtime.enter();
        self.running = Some(Running::start(file, Arc::new(clock), self.more.clone())?);
        Ok(())
    }

    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop(Duration::from_secs(5)));
        }
    }

    /// Ends it and starts it again; on another port.
    pub fn restart(&mut self) {
        self.stop();
        self.run().unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn app(&self) -> &Arc<App> {
        &self.running().app
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// From here on the app's clock only goes by [`advance`](Site::advance).
    pub fn freeze(&self) {
        self.frozen.set(SystemTime::now()).expect("frozen once");
    }

    /// The app's clock goes on by this much at once.
    pub fn advance(&self, by: Duration) {
        self.ahead.fetch_add(by.as_millis() as i64, SeqCst);
    }

    /// Somebody sets the machine's clock.
    pub fn turn_back(&self, by: Duration) {
        self.ahead.fetch_sub(by.as_millis() as i64, SeqCst);
    }

    pub fn https(&self) -> SocketAddr {
        match &self.program {
            // Where users' browsers see another port, the log alone has this one.
            Some(program) => program.logged(" https=").or(program.https).expect("it listens"),
            None => self.running().listeners.https,
        }
    }

    pub fn http(&self) -> SocketAddr {
        let Some(program) = &self.program else { return self.running().listeners.http };
        // By its log, which comes another way than what `listens` waits for.
        wait_for("the address of the listener without TLS", || program.logged(" http="))
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https().port())
    }

    /// A TLS connection, its certificate checked.
    pub fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        self.connect_offering(&[])
    }

    /// The same, with these protocols to choose from.
    pub fn connect_offering(&self, protocols: &[&str]) -> StreamOwned<ClientConnection, TcpStream> {
        let connection = tls("localhost", self.ca.der(), protocols);
        let stream = TcpStream::connect(self.https()).expect("it listens");
        stream.set_read_timeout(Some(browser_tests::PATIENCE)).expect("a timeout");
        StreamOwned::new(connection, stream)
    }

    /// The certificate that a new connection gets.
    pub fn certificate(&self) -> CertificateDer<'static> {
        let mut stream = self.connect();
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        let chain = stream.conn.peer_certificates().expect("a certificate");
        chain.first().expect("a certificate").clone().into_owned()
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
    pub fn log_in(&self, cookies: &str, user: &str, password: &str) -> Reply {
        self.post("/login", cookies, &credentials(user, password))
    }

    /// The cookie of a user who has just signed in.
    #[track_caller]
    pub fn signed_in(&self) -> String {
        let reply = self.log_in("", USER, PASSWORD);
        assert_eq!(reply.status, 303, "{reply:?}");
        reply.cookies()
    }

    /// Who these cookies are, to the app.
    #[track_caller]
    pub fn user(&self, cookies: &str) -> Option<String> {
        let reply = self.get("/api/session", cookies);
        assert_eq!(reply.status, 200, "{reply:?}");
        let session: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
        session["user"].as_str().map(str::to_owned)
    }

    /// A request over TLS, with `Host` and `Content-Length` unless they are given.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        exchange(self.connect(), &head(method, path, headers, self.https().port(), body), body)
    }

    /// The same to the listener without TLS.
    #[track_caller]
    pub fn send_plain(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let stream = TcpStream::connect(self.http()).expect("it listens");
        stream.set_read_timeout(Some(browser_tests::PATIENCE)).expect("a timeout");
        exchange(stream, &head(method, path, headers, self.http().port(), body), body)
    }
}

/// Of a program, whose disk hangs when it is told to.
pub struct Disk {
    library: String,
    /// For as long as this is there.
    hanging: PathBuf,
    variable: String,
}

impl Disk {
    const SOURCE: &str = r#"
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int file) {
    (void)file;
    while (access(getenv("HANGING"), F_OK) == 0) usleep(10000);
    return 0;
}

int fsync(int file) { return fdatasync(file); }
"#;

    pub fn of(site: &Site) -> Disk {
        let source = site.write("disk.c", Disk::SOURCE);
        let library = site.folder.path().join("disk.so");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
        assert!(output(&mut command, "apt-get install gcc").status.success());
        let hanging = site.folder.path().join("hanging");
        Disk { library: library.display().to_string(), variable: hanging.display().to_string(), hanging }
    }

    pub fn environment(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", &self.library), ("HANGING", &self.variable)]
    }

    pub fn hangs(&self) {
        fs::write(&self.hanging, "").expect("written");
    }

    pub fn goes_on(&self) {
        fs::remove_file(&self.hanging).expect("removed");
    }
}

/// The client's side of TLS, for a server of that name whose certificate is checked by this root.
pub fn tls(name: &str, root: &CertificateDer<'static>, protocols: &[&str]) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a connection")
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
        // Before its folder goes.
        self.program = None;
    }
}

/// `parallel` calls at once; their results in the order of their numbers.
pub fn at_once<R: Send>(parallel: usize, call: impl Fn(usize) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let call = &call;
        let threads: Vec<_> = (0..parallel).map(|number| scope.spawn(move || call(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// The headers of a form that is posted.
fn form_of(cookies: &str) -> [(&str, &str); 2] {
    [("Cookie", cookies), ("Content-Type", "application/x-www-form-urlencoded")]
}

/// The form of a user who signs in.
fn credentials(user: &str, password: &str) -> String {
    format!("username={user}&password={}", password.replace(' ', "+"))
}

pub fn head(method: &str, path: &str, headers: &[(&str, &str)], port: u16, body: &str) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    let given = |name: &str| headers.iter().any(|(its, _)| its.eq_ignore_ascii_case(name));
    if !given("host") {
        head.push_str(&format!("Host: localhost:{port}\r\n"));
    }
    if !given("content-length") && (!body.is_empty() || method == "POST") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

/// Sends a request and reads the response to the connection's end.
#[track_caller]
pub fn exchange(mut stream: impl Read + Write, head: &str, body: &str) -> Reply {
    stream.write_all(head.as_bytes()).expect("sent");
    // A server that has read enough may have gone.
    let _ = stream.write_all(body.as_bytes()).and_then(|()| stream.flush());
    let mut bytes = Vec::new();
    // Without a farewell of TLS, what came before counts all the same: the length says whether it is whole.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let split = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let reply = Reply { status, headers: lines.map(split).collect(), body: body.to_owned() };
    if let Some(length) = reply.header("content-length") {
        assert!(reply.body.is_empty() || reply.body.len().to_string() == length, "cut short: {reply:?}");
    }
    reply
}
