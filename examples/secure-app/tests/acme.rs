//! Certificates by ACME, from a real authority: ordered, renewed, shared, and what happens when it fails.

mod common;

use axum::Router;
use browser_tests::{TempDir, wait_for};
use common::{
    PASSWORD, Site, at_once, exchange, head,
    pebble::{Pebble, Tls, connect},
    redis::Redis,
    servers::free_port,
};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use secure_app::{Running, acme::AcmeStatus, metrics::Scrape};
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

const SHOP: &str = "shop.test.example";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const QUARTER: Duration = Duration::from_secs(90 * 24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// The configuration of a shop with certificates by this CA. `settings` stand before the first table.
fn configure(site: &Site, http: u16, ca: (&str, &Path), settings: &str, acme: &str) {
    let path = |name: &str| site.folder.path().join(name).display().to_string();
    let (directory, root) = ca;
    let hosts = if settings.contains("hosts") { "" } else { "hosts = ['shop.test.example', 'localhost']\n" };
    let text = format!(
        "https = '127.0.0.1:0'\nhttp = '127.0.0.1:{http}'\ndata = '{}'\n{hosts}{settings}\n\
         [acme]\ncontact = ['ops@test.example']\nterms_of_service_agreed = true\n\
         directory = '{directory}'\nroot = '{}'\n{acme}\n\
         [[users]]\nname = '{}'\npassword_hash = '{}'\n\
         [session.keys]\nprimary = '{}'\n",
        path("data"),
        root.display(),
        common::USER,
        common::password_hash(),
        site.key,
    );
    site.write("secure-app.toml", &text);
}

fn prepared(http: u16, pebble: &Pebble, settings: &str, acme: &str) -> Site {
    let site = Site::prepared("");
    configure(&site, http, (&pebble.directory(), &pebble.root_file()), settings, acme);
    site
}

/// A CA for a shop, and the shop, which has its first certificate.
fn shop(validity: Duration) -> (Pebble, Site) {
    let http = free_port();
    let pebble = Pebble::start(http, validity);
    let site = prepared(http, &pebble, "", "").started();
    wait_for_renewals(&site, 1);
    (pebble, site)
}

#[track_caller]
fn status(site: &Site) -> AcmeStatus {
    site.app().acme().expect("it is configured")
}

/// Waits until it has ordered so many certificates.
#[track_caller]
fn wait_for_renewals(site: &Site, many: u64) {
    wait_for("a certificate", || (status(site).renewed_total == many).then_some(()));
}

#[track_caller]
fn wait_for_failures(site: &Site, in_a_row: u32) -> AcmeStatus {
    wait_for("a failure", || Some(status(site)).filter(|status| status.failures_in_a_row >= in_a_row))
}

/// Certificates are good to the second.
fn is_about(one: SystemTime, other: SystemTime) -> bool {
    one.max(other).duration_since(one.min(other)).expect("in this order") <= SECOND
}

/// Takes whatever certificate there is.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Whatever certificate a new connection gets.
#[track_caller]
fn presented(address: SocketAddr) -> CertificateDer<'static> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    let name = ServerName::try_from(SHOP).expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(browser_tests::PATIENCE)).expect("a timeout");
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).expect("a handshake");
    }
    own(&connection)
}

fn own(connection: &ClientConnection) -> CertificateDer<'static> {
    connection.peer_certificates().expect("a certificate")[0].clone().into_owned()
}

/// A connection by the shop's name, its certificate checked.
#[track_caller]
fn visit(site: &Site, pebble: &Pebble) -> Tls {
    connect(site.https(), SHOP, pebble.root()).expect("a good certificate")
}

/// Opens the shop's page by its name.
#[track_caller]
fn open_page(stream: Tls) {
    let reply = exchange(stream, &head("GET", "/", &[("Host", SHOP)], 0, ""), "");
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.body.contains("Darjeeling"), "{reply:?}");
}

/// Asks without TLS, as the CA does.
#[track_caller]
fn ask(http: u16, method: &str, path: &str) -> common::Reply {
    let stream = TcpStream::connect(("127.0.0.1", http)).expect("it listens");
    stream.set_read_timeout(Some(browser_tests::PATIENCE)).expect("a timeout");
    exchange(stream, &head(method, path, &[("Host", SHOP)], http, ""), "")
}

/// What would have happened in this time has happened.
fn a_while() {
    thread::sleep(Duration::from_millis(2500));
}

fn folder(site: &Site) -> PathBuf {
    site.folder.path().join("data/acme")
}

#[test]
fn the_first_certificate_is_ordered_by_the_running_server() {
    let (pebble, site) = shop(QUARTER);
    open_page(visit(&site, &pebble));
    // For the names that are not local, and no other.
    assert!(connect(site.https(), "localhost", pebble.root()).is_err());
    assert_eq!((pebble.accounts(), pebble.orders(), pebble.issued()), (1, 1, 1));

    // A third of its time before its end it is renewed.
    let validity = site.app().validity();
    let renewal = validity.not_before + 60 * DAY;
    let next = status(&site).next_attempt.expect("it is known");
    assert!(is_about(next, renewal), "{validity:?} {next:?}");
    let expected = AcmeStatus { renewed_total: 1, next_attempt: Some(next), ..AcmeStatus::default() };
    assert_eq!(status(&site), expected);
    let shown = Scrape::of(Arc::clone(site.app())).acme.expect("it is shown");
    assert_eq!((shown.renewed_total, shown.failures_total, shown.next_attempt), (1, 0, Some(next)));

    // Nobody else reads keys.
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder(&site)), 0o700);
    let mut names = Vec::new();
    for file in fs::read_dir(folder(&site)).expect("it is there") {
        let file = file.expect("a file");
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
        names.push(file.file_name().into_string().expect("a name"));
    }
    names.sort();
    assert_eq!(names, ["account.json", "certificate.json", "lock"]);
    // What is sent to the CA has its provider for itself.
    assert!(CryptoProvider::get_default().is_none());
}

#[test]
fn a_certificate_is_renewed_twice_without_losing_a_connection() {
    let (pebble, site) = shop(QUARTER);
    let mut seen = vec![presented(site.https())];
    let mut open = BufReader::new(visit(&site, &pebble));
    let over = AtomicBool::new(false);
    let visits = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    open_page(visit(&site, &pebble));
                    visits.fetch_add(1, SeqCst);
                }
            });
        }
        let renewed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for renewals in 2..=3 {
                let before = visits.load(SeqCst);
                // It is not time yet.
                let due = status(&site).next_attempt.expect("it is known");
                let now = SystemTime::now() + (if renewals == 2 { 0 } else { 61 }) * DAY;
                site.advance(due.duration_since(now).unwrap() - DAY);
                a_while();
                assert_eq!(status(&site).renewed_total, renewals - 1);
                site.advance(2 * DAY);
                wait_for_renewals(&site, renewals);
                let new = presented(site.https());
                assert!(!seen.contains(&new));
                seen.push(new);
                ask_again(&mut open);
                wait_for("visits meanwhile", || (visits.load(SeqCst) > before + 20).then_some(()));
            }
        }));
        over.store(true, SeqCst);
        renewed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!(own(&open.get_ref().conn), seen[0]);
    assert_eq!((pebble.accounts(), pebble.issued()), (1, 3));
}

/// On a connection that stays open.
#[track_caller]
fn ask_again(stream: &mut BufReader<Tls>) {
    let head = head("GET", "/health", &[], 0, "").replace("Connection: close\r\n", "");
    stream.get_mut().write_all(head.as_bytes()).expect("sent");
    let (mut length, mut line) = (0, String::new());
    stream.read_line(&mut line).expect("an answer");
    assert!(line.starts_with("HTTP/1.1 200"), "{line:?}");
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).expect("an answer") > 0, "it was closed");
        if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = rest.trim().parse().expect("a length");
        }
    }
    stream.read_exact(&mut vec![0; length]).expect("a body");
}

#[test]
fn renewal_begins_when_half_is_left_of_a_short_validity() {
    let (_pebble, site) = shop(8 * DAY);
    let renewal = site.app().validity().not_before + 4 * DAY;
    let next = status(&site).next_attempt.expect("it is known");
    assert!(is_about(next, renewal), "{next:?}");
    site.advance(4 * DAY + SECOND);
    wait_for_renewals(&site, 2);
    // By this clock the new one is due as well; but it is left alone for a quarter of its time.
    a_while();
    assert_eq!(status(&site).renewed_total, 2);
    site.advance(2 * DAY);
    wait_for_renewals(&site, 3);
}

#[test]
fn a_restart_serves_the_stored_certificate_and_asks_nobody() {
    let (mut pebble, mut site) = shop(QUARTER);
    let first = presented(site.https());
    pebble.stop();
    site.restart();
    // From the first connection on.
    assert_eq!(presented(site.https()), first);
    a_while();
    let next = status(&site).next_attempt;
    assert_eq!(status(&site), AcmeStatus { next_attempt: next, ..AcmeStatus::default() });
    let renewal = site.app().validity().not_before + 60 * DAY;
    assert!(is_about(next.expect("it is known"), renewal), "{next:?}");
    assert_eq!(presented(site.https()), first);
}

#[test]
fn an_account_is_kept_over_a_restart_and_replaced_when_the_ca_has_forgotten_it() {
    let (mut pebble, mut site) = shop(QUARTER);
    let account = || fs::read_to_string(folder(&site).join("account.json")).expect("it is there");
    let first = account();
    site.stop();
    site.advance(61 * DAY);
    site.restart();
    wait_for_renewals(&site, 1);
    assert_eq!((pebble.accounts(), pebble.issued()), (1, 2));
    let account = || fs::read_to_string(folder(&site).join("account.json")).expect("it is there");
    assert_eq!(account(), first);

    pebble.restart();
    site.advance(61 * DAY);
    wait_for_renewals(&site, 2);
    assert_eq!((pebble.accounts(), pebble.issued()), (1, 1));
    assert_ne!(account(), first);
    assert_eq!(status(&site).failures_total, 0);
    open_page(visit(&site, &pebble));
}

#[test]
fn another_ca_has_another_account() {
    let (pebble, mut site) = shop(QUARTER);
    let http = site.http().port();
    let other = Pebble::start(http, QUARTER);
    configure(&site, http, (&other.directory(), &other.root_file()), "", "");
    site.advance(61 * DAY);
    site.restart();
    wait_for_renewals(&site, 1);
    assert_eq!((pebble.accounts(), pebble.issued()), (1, 1));
    assert_eq!((other.accounts(), other.issued()), (1, 1));
    assert_eq!(status(&site).failures_total, 0);
}

#[test]
fn addresses_of_an_account_are_changed_with_the_configuration() {
    let (pebble, mut site) = shop(QUARTER);
    let text = fs::read_to_string(site.file()).unwrap();
    site.write("secure-app.toml", &text.replace("ops@test.example", "new@test.example', 'two@test.example"));
    site.advance(61 * DAY);
    site.restart();
    wait_for_renewals(&site, 1);
    assert_eq!((pebble.accounts(), status(&site).failures_total), (1, 0));
    let account: serde_json::Value =
        serde_json::from_slice(&fs::read(folder(&site).join("account.json")).unwrap()).unwrap();
    assert_eq!(account["contact"], serde_json::json!(["new@test.example", "two@test.example"]));
    // The CA has a say in it: this one takes two at most.
    let text = fs::read_to_string(site.file()).unwrap();
    site.write(
        "secure-app.toml",
        &text.replace("new@test.example", "new@test.example', 'three@test.example"),
    );
    site.advance(61 * DAY);
    site.restart();
    wait_for_failures(&site, 1);
}

/// How far the next attempt is away.
fn pause(site: &Site) -> Duration {
    status(site).next_attempt.expect("it is known").duration_since((site.app().clock)()).unwrap_or_default()
}

#[test]
fn while_the_ca_is_down_the_old_certificate_stays_and_pauses_grow() {
    // A thousandth of it is a second, a tenth 100.
    let (mut pebble, site) = shop(1000 * SECOND);
    let first = presented(site.https());
    site.freeze();
    pebble.stop();
    site.advance(501 * SECOND);
    let mut doubled = SECOND;
    for failures in 1..=9 {
        assert_eq!(wait_for_failures(&site, failures).failures_total, u64::from(failures));
        let pause = pause(&site);
        let shortest = doubled.min(100 * SECOND);
        assert!(pause >= shortest && pause <= shortest * 5 / 4, "{failures}: {pause:?}");
        assert_eq!(presented(site.https()), first);
        doubled *= 2;
        // The first ones end by themselves; the clock of the app stands still.
        if failures > 2 {
            site.advance(pause + Duration::from_millis(1));
        }
    }
    pebble.restart();
    site.advance(pause(&site) + Duration::from_millis(1));
    wait_for_renewals(&site, 2);
    open_page(visit(&site, &pebble));
    let status = status(&site);
    assert_eq!(status.failures_in_a_row, 0);
    assert!((9..=10).contains(&status.failures_total), "{status:?}");
}

#[test]
fn a_ca_that_hangs_is_a_failure_too() {
    let (pebble, site) = shop(1000 * SECOND);
    let first = presented(site.https());
    pebble.signal("STOP");
    site.advance(501 * SECOND);
    // A request to it may take 20 seconds.
    thread::sleep(10 * SECOND);
    assert_eq!(status(&site).failures_total, 0);
    wait_for_failures(&site, 1);
    assert_eq!(presented(site.https()), first);
    pebble.signal("CONT");
    wait_for_renewals(&site, 2);
    open_page(visit(&site, &pebble));
}

#[test]
fn a_restart_is_no_way_around_a_pause_but_asking_is() {
    let http = free_port();
    let mut pebble = Pebble::start(http, QUARTER);
    pebble.stop();
    let mut site = prepared(http, &pebble, "", "").started();
    // It has started all the same, with a certificate of its own.
    let (_, certificate) = (wait_for_failures(&site, 1), presented(site.https()));
    assert!(String::from_utf8_lossy(&certificate).contains("self-signed"));
    let range = 55 * SECOND..=75 * SECOND;
    assert!(range.contains(&pause(&site)), "{:?}", pause(&site));

    pebble.restart();
    site.restart();
    wait_for_failures(&site, 1);
    a_while();
    assert_eq!((status(&site).failures_total, pebble.orders()), (0, 0));
    assert!(range.contains(&pause(&site)), "{:?}", pause(&site));
    site.app().hurry();
    wait_for_renewals(&site, 1);
    assert!(!folder(&site).join("pause.json").exists());
    // There is nothing to do now, and hurrying changes nothing.
    site.app().hurry();
    a_while();
    assert_eq!(pebble.orders(), 1);

    // A pause is for what could not be had.
    pebble.stop();
    site.advance(61 * DAY);
    wait_for_failures(&site, 1);
    pebble.restart();
    site.stop();
    configure(&site, http, (&pebble.directory(), &pebble.root_file()), "hosts = ['other.test.example']", "");
    site.restart();
    wait_for_renewals(&site, 1);
    assert!(connect(site.https(), "other.test.example", pebble.root()).is_ok());
}

/// A path, and status and body of each answer.
type Asked = (String, Vec<(u16, String)>);

/// A load balancer that asks all of its instances, and notes what they say.
fn balancer(instances: Arc<Mutex<Vec<u16>>>) -> (u16, Arc<Mutex<Vec<Asked>>>) {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let mut line = String::new();
            stream.read_line(&mut line).expect("a request");
            let path = line.split(' ').nth(1).expect("a path").to_owned();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).expect("a head");
            }
            let instances = instances.lock().unwrap().clone();
            let replies = instances.iter().map(|port| ask(*port, "GET", &path));
            let replies = replies.map(|reply| (reply.status, reply.body)).collect::<Vec<_>>();
            let body = &replies.last().expect("an instance").1;
            let _ = write!(
                stream.get_mut(),
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            seen.lock().unwrap().push((path, replies));
        }
    });
    (port, log)
}

#[test]
fn of_three_instances_on_one_folder_one_orders_and_all_answer_the_ca_and_take_the_certificate() {
    let shared = TempDir::new();
    let lock = File::create(shared.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let acme = format!("folder = '{}'", shared.path().display());
    of_three_instances_one_orders("", &acme, || drop(lock));
}

#[test]
fn of_three_instances_on_one_redis_one_orders_and_all_answer_the_ca_and_take_the_certificate() {
    let redis = Redis::start();
    let _: () = redis.ask("SET secure-app:acme:lock somebody");
    let settings = format!("redis_url = '{}'", redis.url());
    of_three_instances_one_orders(&settings, "", || redis.ask("DEL secure-app:acme:lock"));
    assert!(!redis.ask::<bool>("EXISTS secure-app:acme:lock"));
    for entry in ["certificate.json", "account.json"] {
        let sealed: String = redis.ask(&format!("GET secure-app:acme:{entry}"));
        let is_sealed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_ ".contains(&byte);
        assert!(sealed.len() > 100 && sealed.bytes().all(is_sealed), "{sealed}");
    }
}

/// With this key.
fn instance(http: u16, pebble: &Pebble, key: &str, settings: &str, acme: &str) -> Site {
    let mut site = Site::prepared("");
    site.key = key.to_owned();
    configure(&site, http, (&pebble.directory(), &pebble.root_file()), settings, acme);
    site
}

/// An instance that has its first certificate.
fn one_with_redis() -> (Redis, Pebble, Site) {
    let (redis, http) = (Redis::start(), free_port());
    let pebble = Pebble::start(http, QUARTER);
    let settings = format!("redis_url = '{}'", redis.url());
    let site = instance(http, &pebble, &common::new_key(), &settings, "").started();
    wait_for_renewals(&site, 1);
    (redis, pebble, site)
}

/// And another one, which has taken it.
fn two_with_redis() -> (Redis, Pebble, Site, Site) {
    let (redis, pebble, one) = one_with_redis();
    let two = instance(0, &pebble, &one.key, &format!("redis_url = '{}'", redis.url()), "").started();
    wait_for("the certificate", || (presented(two.https()) == presented(one.https())).then_some(()));
    (redis, pebble, one, two)
}

/// They have one key. `unlock` gives free what somebody else has locked.
fn of_three_instances_one_orders(settings: &str, acme: &str, unlock: impl FnOnce()) {
    let instances = Arc::new(Mutex::new(Vec::new()));
    let (port, log) = balancer(Arc::clone(&instances));
    // A twentieth of it is five seconds, a quarter 25.
    let pebble = Pebble::start(port, 100 * SECOND);
    let key = common::new_key();
    let sites: Vec<Site> = (0..3).map(|_| instance(0, &pebble, &key, settings, acme).started()).collect();
    *instances.lock().unwrap() = sites.iter().map(|site| site.http().port()).collect();
    // Whoever has the lock is the only one that orders.
    a_while();
    assert_eq!(pebble.orders(), 0);
    unlock();

    let all_serve_one = |other_than: Option<&CertificateDer<'_>>| {
        wait_for("one certificate", || {
            let served = sites.iter().map(|site| presented(site.https())).collect::<Vec<_>>();
            let is_new = |certificate: &CertificateDer<'_>| {
                Some(certificate) != other_than
                    && !String::from_utf8_lossy(certificate).contains("self-signed")
            };
            served.iter().all(|one| *one == served[0] && is_new(one)).then(|| served[0].clone())
        })
    };
    let first = all_serve_one(None);
    a_while();
    assert_eq!((pebble.accounts(), pebble.orders(), pebble.issued()), (1, 1, 1));
    let orders = |sites: &[Site]| sites.iter().map(|site| status(site).renewed_total).sum::<u64>();
    assert_eq!(orders(&sites), 1);

    // The others find that it was renewed.
    sites[0].advance(51 * SECOND);
    all_serve_one(Some(&first));
    assert_eq!((pebble.accounts(), pebble.orders(), pebble.issued()), (1, 2, 2));
    assert_eq!((orders(&sites), status(&sites[0]).renewed_total >= 1), (2, true));
    for site in &sites {
        assert_eq!(status(site).failures_total, 0);
        open_page(visit(site, &pebble));
    }

    let log = log.lock().unwrap();
    assert!(log.len() >= 2, "{log:?}");
    for (path, replies) in log.iter() {
        let token = path.strip_prefix("/.well-known/acme-challenge/").expect("a challenge");
        for reply in replies {
            assert_eq!(reply, &replies[0]);
            assert!(reply.0 == 200 && reply.1.starts_with(&format!("{token}.")), "{reply:?}");
        }
        // The order is over.
        for site in &sites {
            assert_eq!(ask(site.http().port(), "GET", path).status, 404);
        }
    }
}

#[test]
fn a_certificate_that_redis_has_lost_is_written_back_and_one_without_redis_is_there_all_the_same() {
    let mut redis = Redis::start();
    let http = free_port();
    let pebble = Pebble::start(http, 20 * SECOND);
    let settings = format!("redis_url = '{}'", redis.url());
    let key = common::new_key();
    let mut site = instance(http, &pebble, &key, &settings, "").started();
    wait_for_renewals(&site, 1);
    site.freeze();
    let _: () = redis.ask("FLUSHALL");
    wait_for("it to be written back", || {
        redis.ask::<bool>("EXISTS secure-app:acme:certificate.json").then_some(())
    });
    // A new instance with nothing on its disk takes it.
    let other = instance(0, &pebble, &key, &settings, "").started();
    wait_for("the certificate", || (presented(other.https()) == presented(site.https())).then_some(()));
    drop(other);
    // Its key goes, and what is sealed under it: those who have the certificate seal it anew.
    let new = common::new_key();
    for keys in [format!("primary = '{new}'\nfallbacks = ['{key}']"), format!("primary = '{new}'")] {
        let text = std::fs::read_to_string(site.file()).unwrap();
        let (before, _) = text.split_once("[session.keys]").unwrap();
        site.write("secure-app.toml", &format!("{before}[session.keys]\n{keys}\n"));
        assert!(matches!(site.app().reload(true), Ok(true)));
    }
    let sealed = || redis.ask::<String>("GET secure-app:acme:certificate.json");
    let before = sealed();
    wait_for("another seal", || (sealed() != before).then_some(()));
    let third = instance(0, &pebble, &new, &settings, "").started();
    wait_for("the certificate", || (presented(third.https()) == presented(site.https())).then_some(()));
    assert_eq!((pebble.accounts(), pebble.orders()), (1, 1));
    drop(third);
    // At a start without Redis it is on the disk.
    let served = presented(site.https());
    redis.kill();
    site.restart();
    assert_eq!(presented(site.https()), served);
    // It is due while Redis is away, and is had when that is back.
    site.advance(11 * SECOND);
    a_while();
    redis.start_again();
    wait_for_renewals(&site, 1);
    assert_ne!(presented(site.https()), served);
    assert_eq!(pebble.accounts(), 1, "and the account is kept");
}

#[test]
fn while_redis_is_away_no_pause_grows_since_the_ca_is_not_asked() {
    let (mut redis, _pebble, mut site) = one_with_redis();
    redis.kill();
    wait_for("Redis to be lost", || site.app().is_degraded().then_some(()));
    site.advance(61 * DAY);
    for _ in 0..3 {
        a_while();
        assert_eq!((status(&site).failures_in_a_row, status(&site).failures_total), (0, 0));
        assert!(pause(&site) <= 60 * SECOND, "{:?}", pause(&site));
        // The pause is over.
        site.advance(61 * SECOND);
    }
    // Nor after a restart.
    site.restart();
    a_while();
    redis.start_again();
    wait_for("Redis to be back", || (!site.app().is_degraded()).then_some(()));
    site.advance(61 * SECOND);
    wait_for_renewals(&site, 1);
    assert_eq!(status(&site).failures_total, 0);
}

#[test]
fn a_redis_that_stops_answering_in_the_middle_is_no_failure_of_the_ca() {
    let (redis, _pebble, site) = one_with_redis();
    redis.pause();
    // It is asked for the lock before anybody has seen that.
    site.advance(61 * DAY);
    site.app().hurry();
    wait_for("Redis to be lost", || site.app().is_degraded().then_some(()));
    a_while();
    redis.resume();
    wait_for("Redis to be back", || (!site.app().is_degraded()).then_some(()));
    site.advance(61 * SECOND);
    wait_for_renewals(&site, 2);
    assert_eq!(status(&site).failures_total, 0);
}

#[test]
fn what_goes_on_in_the_background_begins_again_after_a_panic() {
    let http = free_port();
    let pebble = Pebble::start(http, QUARTER);
    let site = prepared(http, &pebble, "", "");
    let (panics, days) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let broken = Arc::new(AtomicBool::new(false));
    let clock = {
        let (panics, days, broken) = (Arc::clone(&panics), Arc::clone(&days), Arc::clone(&broken));
        move || {
            if broken.load(SeqCst) {
                panics.fetch_add(1, SeqCst);
                panic!("there is no time");
            }
            SystemTime::now() + u32::try_from(days.load(SeqCst)).unwrap() * DAY
        }
    };
    let inside = site.runtime().enter();
    let running = Running::start(Some(site.file()), Arc::new(clock), Router::new()).unwrap();
    drop(inside);
    let renewed = |times| {
        let renewed = || running.app.acme().expect("it is configured").renewed_total;
        wait_for("a certificate", || (renewed() == times).then_some(()));
    };
    renewed(1);
    broken.store(true, SeqCst);
    wait_for("the second panic", || (panics.load(SeqCst) > 1).then_some(()));
    broken.store(false, SeqCst);
    days.store(61, SeqCst);
    renewed(2);
    site.runtime().block_on(running.stop(SECOND));
}

#[test]
fn an_older_certificate_that_is_written_back_takes_no_newer_ones_place() {
    let (redis, pebble, mut one, mut two) = two_with_redis();
    let old = presented(two.https());
    two.stop();
    // Certificates begin to the second.
    a_while();
    one.advance(61 * DAY);
    wait_for_renewals(&one, 2);
    let new = presented(one.https());
    one.stop();
    let _: () = redis.ask("FLUSHALL");
    two.restart();
    two.app().hurry();
    wait_for("it to be written back", || {
        redis.ask::<bool>("EXISTS secure-app:acme:certificate.json").then_some(())
    });
    assert_eq!(presented(two.https()), old);
    one.restart();
    wait_for("the new one", || {
        [&one, &two].iter().for_each(|site| site.app().hurry());
        (presented(two.https()) == new).then_some(())
    });
    redis.ask::<()>("FLUSHALL");
    for site in [&mut one, &mut two] {
        site.restart();
        assert_eq!(presented(site.https()), new);
    }
    assert_eq!(pebble.issued(), 2);
}

/// Step 4 of *Certificate trouble*.
#[test]
fn keys_that_leaked_are_replaced_as_the_runbook_says() {
    let (redis, pebble, mut one, mut two) = two_with_redis();
    let leaked = presented(one.https());
    [&mut one, &mut two].into_iter().for_each(Site::stop);
    let runbook = include_str!("../RUNBOOK.md");
    let command = |begin: &str| {
        let (_, rest) = runbook.split_once(&format!("(`{begin} ")).expect("it stands there");
        rest.split('`').next().expect("its end")
    };
    assert_eq!(redis.ask::<usize>(&format!("DEL {}", command("DEL"))), 2);
    for site in [&one, &two] {
        for file in command("rm -f").split(' ') {
            // Not everyone has kept all of it.
            let _ = fs::remove_file(folder(site).join(file.strip_prefix("secure-app-data/acme/").unwrap()));
        }
    }
    let mut one = one.started();
    wait_for_renewals(&one, 1);
    two.restart();
    wait_for("the new one", || (presented(two.https()) == presented(one.https())).then_some(()));
    assert_ne!(presented(one.https()), leaked);
    assert_eq!((pebble.issued(), pebble.accounts()), (2, 2));
    one.restart();
    assert_ne!(presented(one.https()), leaked);
}

#[test]
fn a_certificate_that_could_not_be_stored_takes_no_newer_ones_place() {
    let http = free_port();
    let pebble = Pebble::start(http, QUARTER);
    let shared = TempDir::new();
    let acme = format!("folder = '{}'", shared.path().display());
    let one = prepared(http, &pebble, "", &acme).started();
    wait_for_renewals(&one, 1);
    let two = prepared(0, &pebble, "", &acme).started();
    // No file takes the place of a folder.
    let file = shared.path().join("certificate.json");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    one.advance(61 * DAY);
    wait_for_renewals(&one, 2);
    fs::remove_dir(&file).unwrap();
    // Certificates begin to the second.
    a_while();
    two.advance(61 * DAY);
    wait_for_renewals(&two, 1);
    let (new, stored) = (presented(two.https()), fs::read(&file).unwrap());
    assert_ne!(presented(one.https()), new);
    one.app().hurry();
    wait_for("the newer one", || (presented(one.https()) == new).then_some(()));
    a_while();
    assert_eq!(fs::read(&file).unwrap(), stored);
    assert_eq!(pebble.orders(), 3);
}

#[test]
fn an_instance_that_cannot_write_its_folder_takes_what_another_has_ordered() {
    let (_redis, pebble, one, mut two) = two_with_redis();
    // No file takes the place of a folder.
    fs::create_dir(folder(&two).join("certificate.json.new")).unwrap();
    one.advance(61 * DAY);
    wait_for_renewals(&one, 2);
    two.advance(61 * DAY);
    let new = presented(one.https());
    for _ in 0..2 {
        wait_for("the new certificate", || (presented(two.https()) == new).then_some(()));
        a_while();
        assert_eq!((status(&two).renewed_total, pebble.orders()), (0, 2));
        two.restart();
    }
}

#[test]
fn an_instance_whose_clock_is_behind_takes_what_another_has_ordered() {
    let redis = Redis::start();
    let http = free_port();
    let pebble = Pebble::start(http, QUARTER);
    let (settings, key) = (format!("redis_url = '{}'", redis.url()), common::new_key());
    let one = instance(http, &pebble, &key, &settings, "");
    one.advance(10 * 60 * SECOND);
    let one = one.started();
    wait_for_renewals(&one, 1);
    let two = instance(0, &pebble, &key, &settings, "").started();
    wait_for("the certificate", || (presented(two.https()) == presented(one.https())).then_some(()));
    a_while();
    assert_eq!((status(&two).renewed_total, pebble.orders()), (0, 1));
}

#[test]
fn whoever_finds_that_another_has_just_renewed_takes_that() {
    let http = free_port();
    let pebble = Pebble::start(http, QUARTER);
    let shared = TempDir::new();
    let acme = format!("folder = '{}'", shared.path().display());
    let one = prepared(http, &pebble, "", &acme).started();
    wait_for_renewals(&one, 1);
    let two = prepared(0, &pebble, "", &acme).started();
    assert_eq!(presented(two.https()), presented(one.https()));
    one.advance(61 * DAY);
    wait_for_renewals(&one, 2);
    // It would look for others only once a minute.
    two.advance(61 * DAY);
    let new = presented(one.https());
    wait_for("the new certificate", || (presented(two.https()) == new).then_some(()));
    a_while();
    assert_eq!((status(&two).renewed_total, pebble.orders()), (0, 2));
}

#[test]
fn a_certificate_that_cannot_be_stored_is_in_use_and_stored_later() {
    let (pebble, site) = shop(100 * SECOND);
    let file = folder(&site).join("certificate.json");
    let first = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    // No file takes the place of a folder.
    fs::create_dir(&file).unwrap();
    site.advance(51 * SECOND);
    wait_for_renewals(&site, 2);
    let second = presented(site.https());
    assert!(file.is_dir());
    fs::remove_dir(&file).unwrap();
    let stored = wait_for("the file", || fs::read(&file).ok());
    assert_ne!(stored, first);
    assert_eq!((presented(site.https()), pebble.orders()), (second, 2));
}

fn path(token: &str) -> String {
    format!("/.well-known/acme-challenge/{token}")
}

#[test]
fn the_path_of_challenges_gives_nothing_away() {
    let http = free_port();
    let mut pebble = Pebble::start(http, QUARTER);
    pebble.stop();
    let site = prepared(http, &pebble, "", "").started();
    wait_for_failures(&site, 1);
    fs::write(folder(&site).join("challenges.json"), r#"{"token-of_1": "its answer", "a/b": "no"}"#).unwrap();

    let reply = ask(http, "GET", &path("token-of_1"));
    assert_eq!((reply.status, reply.body.as_str()), (200, "its answer"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.all("set-cookie"), Vec::<&str>::new());
    // By whatever name, and also where somebody in between has redirected the CA to https.
    let reply = site.send_plain("GET", &path("token-of_1"), &[("Host", "10.1.2.3")], "");
    assert_eq!((reply.status, reply.body.as_str()), (200, "its answer"));

    let long = "a".repeat(129);
    let nothing = ["", "token", "TOKEN-OF_1", "token-of_1/", "token-of_1.", "a/b", "a%2Fb", &long];
    let ways = ["../account.json", "..%2Faccount.json", "%2e%2e/account.json", "account.json", "lock"];
    for token in nothing.into_iter().chain(ways) {
        let reply = ask(http, "GET", &path(token));
        assert_eq!(reply.status, 404, "{token}: {reply:?}");
        assert!(!reply.body.contains("its answer") && !reply.body.contains("directory"), "{reply:?}");
    }
    let reply = ask(http, "POST", &path("token-of_1"));
    assert_eq!((reply.status, reply.body.contains("its answer")), (404, false));
    // All else is redirected as ever.
    for path in [
        "/",
        "/.well-known/acme-challenge",
        "/.well-known/security.txt",
        "//.well-known/acme-challenge/token-of_1",
    ] {
        assert_eq!(ask(http, "GET", path).status, 308, "{path}");
    }
    // Where no certificate is ordered it is a path like any other.
    let other = Site::start("");
    assert_eq!(other.send_plain("GET", &path("token-of_1"), &[], "").status, 308);
}

#[test]
fn whoever_asks_for_challenges_all_the_time_makes_no_work_for_redis() {
    let redis = Redis::start();
    let (http, directory) = (free_port(), format!("https://localhost:{}/dir", free_port()));
    let mut site = Site::prepared("");
    let root = site.write("root.pem", &site.issuer());
    configure(&site, http, (&directory, &root), &format!("redis_url = '{}'", redis.url()), "");
    site = site.started();
    wait_for_failures(&site, 1);
    let (before, begin) = (redis.calls("get"), Instant::now());
    let replies =
        at_once(8, |_| (0..50).map(|_| ask(http, "GET", &path("token")).status).collect::<Vec<_>>());
    assert_eq!(replies.concat(), [404; 400]);
    let (calls, most) = (redis.calls("get") - before, begin.elapsed().as_millis() as u64 / 50);
    assert!(calls <= most + 20, "{calls} in {:?}", begin.elapsed());
}

#[test]
fn the_log_says_what_the_ca_says_and_a_hangup_has_it_tried_again_or_changes_nothing() {
    let http = free_port();
    // It asks where nobody is.
    let nobody = Pebble::start(free_port(), QUARTER);
    let mut site = prepared(http, &nobody, "", "");
    site.start_program(&[]);
    site.its_program().says("a certificate is ordered; until it is there");
    site.its_program().says("no certificate could be ordered");
    let output = site.its_program().output();
    assert!(output.contains("shop.test.example: ") && output.contains("onnection refused"), "{output}");
    let of_self = presented(site.https());
    assert!(String::from_utf8_lossy(&of_self).contains("self-signed"));

    site.its_program().signal("HUP");
    wait_for("another attempt", || (nobody.orders() == 2).then_some(()));
    wait_for("its failure", || {
        (site.its_program().output().matches("no certificate could be ordered").count() == 2).then_some(())
    });
    site.its_program().says("failures=2");

    let pebble = Pebble::start(http, QUARTER);
    configure(&site, http, (&pebble.directory(), &pebble.root_file()), "", "");
    drop(site.take_program());
    site.start_program(&[]);
    site.its_program().says("a new certificate is in use");
    let first = presented(site.https());
    assert_ne!(first, of_self);
    for hangups in 1..=2 {
        site.its_program().signal("HUP");
        wait_for("the reload", || {
            let taken = "session keys, certificate and users are in use as configured now";
            (site.its_program().output().matches(taken).count() == hangups).then_some(())
        });
        open_page(visit(&site, &pebble));
        assert_eq!(presented(site.https()), first);
    }
    assert_eq!(pebble.orders(), 1);
    let (_, output) = {
        site.its_program().signal("TERM");
        site.take_program().ended()
    };
    // Nothing that is secret is in it.
    for file in ["account.json", "certificate.json"] {
        let text = fs::read_to_string(folder(&site).join(file)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let secret = value["credentials"]["key_pkcs8"].as_str().or(value["key"].as_str()).expect("a secret");
        assert!(!output.contains(&secret[40..80]));
    }
    assert!(!output.contains(PASSWORD));
}

#[test]
fn a_stored_certificate_that_is_no_good_is_as_good_as_none() {
    let http = free_port();
    let pebble = Pebble::start(http, QUARTER);
    let mut site = prepared(http, &pebble, "", "");
    site.start_program(&[]);
    site.its_program().says("a new certificate is in use");
    let file = folder(&site).join("certificate.json");
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let with = |name: &str, value: String| {
        let mut changed = good.clone();
        changed[name] = value.into();
        changed.to_string()
    };
    let other_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let other_name = {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["other.test.example".to_owned()]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        serde_json::json!({ "chain": chain, "key": key.serialize_pem(), "issued": 0 }).to_string()
    };
    let cases = [
        (good.to_string()[..1000].to_owned(), "it is no whole entry"),
        (with("chain", "no PEM".to_owned()), "there is no certificate"),
        (with("key", "no PEM".to_owned()), "the key is no PEM"),
        (with("key", other_key), "KeyMismatch"),
        (other_name, "other.test.example"),
    ];
    for (orders, (text, why)) in cases.into_iter().enumerate() {
        drop(site.take_program());
        fs::write(&file, text).unwrap();
        site.start_program(&[]);
        site.its_program().says("the certificate that is stored for acme is as good as not there");
        site.its_program().says(why);
        site.its_program().says("a new certificate is in use");
        open_page(visit(&site, &pebble));
        assert_eq!(pebble.issued(), orders + 2);
    }
}

/// Answers every request like a CA that has no time: by the path as a problem, as a page of somebody in between, or with a
/// wait that makes no sense.
fn busy(site: &Site) -> String {
    const PROBLEM: &str =
        r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many of them"}"#;
    let certificate = site.write_certificate("localhost");
    let pem = fs::read_to_string(site.folder.path().join("key.pem")).unwrap();
    let key = PrivatePkcs8KeyDer::from(rcgen::KeyPair::from_pem(&pem).unwrap().serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let much = " ".repeat(2 * 1024 * 1024);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(connection, stream.unwrap()));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).unwrap();
            }
            let (wait, body) = match head.split(' ').nth(1) {
                Some("/problem") => ("5000", PROBLEM),
                Some("/page") => ("6000", "<h1>Back soon</h1>"),
                Some("/much") => ("7000", &*much),
                _ => ("99999999999999999", PROBLEM),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {wait}\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            );
            // Whoever has read enough may have gone.
            let _ = stream.get_mut().write_all(answer.as_bytes());
            stream.get_mut().conn.send_close_notify();
            let _ = stream.get_mut().flush();
        }
    });
    address
}

#[test]
fn how_long_the_ca_wants_to_be_left_alone_is_heeded() {
    let mut site = Site::prepared("");
    let address = busy(&site);
    let root = site.folder.path().join("root.pem");
    fs::write(&root, site.issuer()).unwrap();
    let cases = [
        ("problem", 5000 * SECOND, "too many of them (urn:ietf:params:acme:error:rateLimited)"),
        ("page", 6000 * SECOND, "the CA answers 429 Too Many Requests"),
        ("long", 8 * DAY, "too many of them"),
    ];
    for (path, wait, text) in cases {
        configure(&site, 0, (&format!("{address}/{path}"), &root), "", "");
        site.start_program(&[]);
        site.its_program().says("SIGHUP has it tried again at once");
        let output = site.take_program().output();
        assert!(output.contains(text), "{output}");
        let again = output.split_once("again=").expect("a time").1.split_whitespace().next().expect("a time");
        let again = humantime::parse_rfc3339(again).expect("a time");
        let pause = again.duration_since(SystemTime::now()).unwrap();
        assert!(pause <= wait && pause + 10 * SECOND >= wait, "{path}: {pause:?}");
    }
}

#[test]
fn more_than_a_megabyte_is_no_answer_of_a_ca() {
    let mut site = Site::prepared("");
    let address = busy(&site);
    let root = site.folder.path().join("root.pem");
    fs::write(&root, site.issuer()).unwrap();
    configure(&site, 0, (&format!("{address}/much"), &root), "", "");
    site.start_program(&[]);
    site.its_program().says("SIGHUP has it tried again at once");
    let output = site.its_program().output();
    assert!(output.contains("length limit exceeded"), "{output}");
}

/// What the start says of a configuration that is no good.
#[track_caller]
fn refused(settings: &str, acme: &str) -> String {
    let site = Site::prepared("");
    let data = site.folder.path().join("data").display().to_string();
    let hosts = if settings.contains("hosts") { "" } else { "hosts = ['shop.test.example']\n" };
    let text = format!(
        "https = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\ndata = '{data}'\n{hosts}{settings}\n[acme]\n{acme}\n"
    );
    let file = site.write("secure-app.toml", &text);
    let _inside = site.runtime().enter();
    match Running::start(Some(file), Arc::new(SystemTime::now), axum::Router::new()) {
        Ok(_) => panic!("it has started with {text}"),
        Err(error) => error,
    }
}

#[test]
fn configurations_that_make_no_sense_are_refused_at_the_start() {
    let agreed = "terms_of_service_agreed = true";
    for acme in ["", "terms_of_service_agreed = false", "contact = []"] {
        let error = refused("", acme);
        assert!(error.contains("acme.terms_of_service_agreed: expected true"), "{error}");
        assert!(error.contains("https://letsencrypt.org/repository/"), "{error}");
    }
    for hosts in ["['localhost']", "['127.0.0.1', '[::1]', 'app.localhost']"] {
        let error = refused(&format!("hosts = {hosts}"), agreed);
        assert!(error.contains("acme: among `hosts` there is no name"), "{error}");
    }
    let both = format!("{agreed}\n[tls]\ncertificate = 'a.pem'\nkey = 'b.pem'");
    let error = refused("", &both);
    assert!(error.contains("tls and acme") && error.contains("one of both"), "{error}");
    for directory in ["http://secret.example/dir", "secret", "https://", "https:///secret", ""] {
        let error = refused("", &format!("{agreed}\ndirectory = '{directory}'"));
        assert!(error.contains("acme.directory: expected an address with https"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    for contact in
        ["mailto:secret@test.example", "secret", "secret@", "a@secret@b", "a b@secret", "a@b?secret"]
    {
        let error = refused("", &format!("{agreed}\ncontact = ['{contact}']"));
        assert!(error.contains("acme.contact: expected a list of e-mail addresses"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let error = refused("", &format!("{agreed}\nsecret = 'a'"));
    assert!(error.contains("acme") && error.contains("unknown field"), "{error}");
    let error = refused("", "terms_of_service_agreed = 'secret'");
    assert!(error.contains("acme") && !error.contains("'secret'"), "{error}");
}

#[test]
fn a_certificate_of_files_takes_the_place_of_ordered_ones_at_a_restart_alone() {
    let (_pebble, site) = shop(QUARTER);
    let first = presented(site.https());
    let path = |name: &str| site.folder.path().join(name).display().to_string();
    let text = fs::read_to_string(site.file()).unwrap();
    let (before, after) = (text.split("[acme]").next().unwrap(), text.split_once("[[users]]").unwrap().1);
    let tls = format!("[tls]\ncertificate = '{}'\nkey = '{}'\n", path("certificate.pem"), path("key.pem"));
    site.write("secure-app.toml", &format!("{before}{tls}[[users]]{after}"));
    let error = site.app().reload(true).expect_err("it is refused");
    assert!(error.contains("restart"), "{error}");
    assert_eq!(presented(site.https()), first);
}

#[test]
fn the_environment_configures_it_as_well() {
    let http = free_port();
    let pebble = Pebble::start(http, QUARTER);
    let mut site = Site::prepared("");
    let data = site.folder.path().join("data").display().to_string();
    let shared = site.folder.path().join("shared");
    site.write(
        "secure-app.toml",
        &format!("https = '127.0.0.1:0'\nhttp = '127.0.0.1:{http}'\ndata = '{data}'"),
    );
    site.start_program(&[
        ("SECURE_APP_HOSTS", SHOP),
        ("SECURE_APP_ACME__CONTACT", "one@test.example, two@test.example"),
        ("SECURE_APP_ACME__TERMS_OF_SERVICE_AGREED", "true"),
        ("SECURE_APP_ACME__DIRECTORY", &pebble.directory()),
        ("SECURE_APP_ACME__ROOT", &pebble.root_file().display().to_string()),
        ("SECURE_APP_ACME__FOLDER", &shared.display().to_string()),
    ]);
    site.its_program().says("a new certificate is in use");
    open_page(visit(&site, &pebble));
    let account = fs::read_to_string(shared.join("account.json")).unwrap();
    assert!(account.contains("one@test.example") && account.contains("two@test.example"), "{account}");
}
