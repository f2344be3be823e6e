//! The headers of every response, whatever made it, and what errors tell.

mod common;

use axum::{Router, body::Body, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{PASSWORD, Reply, Site, USER};
use secure_app::{App, Opened, client::Connection, config::Settings, host::Hosts, store::Writer};
use sha2::{Digest as _, Sha256};
use std::{
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tower::ServiceExt as _;

const HOST: &str = "app.example";
const HOSTS: &str = "hosts = ['app.example', 'localhost', 'shop.localhost', '127.0.0.1', '[::1]']";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const SECRET: &str = "the-panic-says-so";

const FIXED: [(&str, &str); 10] = [
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("origin-agent-cluster", "?1"),
    (
        "permissions-policy",
        "accelerometer=(), autoplay=(), browsing-topics=(), camera=(), display-capture=(), encrypted-media=(), \
         fullscreen=(), geolocation=(), gyroscope=(), hid=(), idle-detection=(), local-fonts=(), \
         magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), \
         publickey-credentials-create=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), \
         storage-access=(), usb=(), web-share=(), window-management=(), xr-spatial-tracking=()",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-dns-prefetch-control", "off"),
    ("x-frame-options", "DENY"),
    ("x-permitted-cross-domain-policies", "none"),
];
const HSTS: &str = "max-age=31536000; includeSubDomains";

/// Of style and script as a page has them.
fn policy(page: &str) -> String {
    let inside = |begin: &str, end: &str| {
        let (_, rest) = page.split_once(begin).unwrap_or_else(|| panic!("{begin} in {page}"));
        rest.split_once(end).unwrap_or_else(|| panic!("{end} in {page}")).0.to_owned()
    };
    let hash = |text: String| {
        assert!(!text.is_empty());
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; img-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'; upgrade-insecure-requests",
        hash(inside("<style>", "</style>")),
        hash(inside("<script>", "</script>")),
    )
}

/// All headers that each response has.
#[track_caller]
fn has_headers(what: &str, reply: &Reply, policy: &str) {
    for (name, value) in FIXED {
        assert_eq!(reply.header(name), Some(value), "{what}: {name}: {reply:?}");
    }
    assert_eq!(reply.header("content-security-policy"), Some(policy), "{what}: {reply:?}");
    for name in ["server", "x-powered-by", "via", "content-security-policy-report-only", "x-xss-protection"] {
        assert_eq!(reply.header(name), None, "{what}: {reply:?}");
    }
}

/// What an error looks like, and that it tells nothing of what runs here.
#[track_caller]
fn is_plain_error(what: &str, path: &str, reply: &Reply) {
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}: {reply:?}");
    if path.starts_with("/api/") {
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{what}: {reply:?}");
        let problem: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
        let fields: Vec<_> = problem.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["detail", "status", "title"], "{what}: {reply:?}");
        assert_eq!(problem["status"], reply.status, "{what}: {reply:?}");
    } else {
        assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"), "{what}: {reply:?}");
        assert!(reply.body.contains("Leaf &amp; Cookie"), "{what}: {reply:?}");
    }
    // Style and script are the app's own on every page.
    let told = reply.body.split_once("</head>").map_or(&*reply.body, |(_, rest)| rest).to_ascii_lowercase();
    for word in [
        SECRET,
        "panic",
        "axum",
        "hyper",
        "tower",
        "serde",
        "rust",
        ".rs",
        "::",
        "src/",
        "line ",
        "column",
        "invalid",
        "expected `",
        "missing field",
        "deserialize",
        "credentials",
        "u16",
        "u8",
        "length limit",
    ] {
        assert!(!told.contains(word), "{what} tells {word:?}: {reply:?}");
    }
}

struct Case {
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    status: u16,
}

fn case(
    status: u16,
    method: &'static str,
    path: &'static str,
    headers: &[(&'static str, &'static str)],
    body: &str,
) -> Case {
    Case { method, path, headers: headers.to_vec(), body: body.to_owned(), status }
}

fn with_faults() -> Router<Arc<App>> {
    async fn fault() -> &'static str {
        panic!("{SECRET}")
    }
    Router::new().route("/fault", get(fault)).route("/api/fault", get(fault))
}

#[test]
fn every_route_and_every_error_has_all_headers_and_errors_tell_nothing() {
    let site = Site::with(HOSTS, with_faults());
    let at_host = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("Host", HOST)];
        all.retain(|(name, _)| !headers.iter().any(|(its, _)| its == name));
        all.extend(headers);
        site.send(method, path, &all, body)
    };
    let policy = policy(&at_host("GET", "/", &[], "").body);
    let long = "x".repeat(16 * 1024);
    let long_json = format!("{{\"tea\":1,\"card\":\"{long}\"}}");
    let right = format!("username={USER}&password={}", PASSWORD.replace(' ', "+"));
    let cross = ("Sec-Fetch-Site", "cross-site");

    let cases = [
        case(200, "GET", "/", &[], ""),
        case(200, "HEAD", "/", &[], ""),
        case(200, "GET", "/login", &[], ""),
        case(200, "GET", "/health", &[], ""),
        case(200, "GET", "/favicon.svg", &[], ""),
        case(200, "GET", "/api/session", &[], ""),
        // Forms.
        case(303, "POST", "/login", &[FORM], &right),
        case(303, "POST", "/cart", &[FORM], "tea=1&quantity=2&card=hello"),
        case(200, "POST", "/cart/fill", &[FORM], ""),
        case(303, "POST", "/cart/empty", &[FORM], ""),
        case(303, "POST", "/logout", &[FORM], ""),
        case(303, "POST", "/logout/everywhere", &[FORM], ""),
        case(201, "POST", "/api/cart", &[JSON], r#"{"tea":1}"#),
        // What is asked for is not there, or not in this way.
        case(404, "GET", "/nothing", &[], ""),
        case(404, "POST", "/nothing", &[FORM], "a=b"),
        case(404, "GET", "/api/nothing", &[], ""),
        case(404, "GET", "/../../etc/passwd", &[], ""),
        case(405, "POST", "/", &[FORM], ""),
        case(405, "GET", "/cart", &[], ""),
        case(405, "DELETE", "/api/session", &[], ""),
        // What cannot be read.
        case(403, "POST", "/login", &[FORM], "username=eve&password=wrong+horse"),
        case(422, "POST", "/login", &[FORM], "username=eve"),
        case(415, "POST", "/login", &[], "username=eve&password=wrong"),
        case(415, "POST", "/cart", &[JSON], r#"{"tea":1}"#),
        case(422, "POST", "/cart", &[FORM], "tea=9"),
        case(422, "POST", "/cart", &[FORM], "tea=1&quantity=0"),
        case(422, "POST", "/cart", &[FORM], "tea=one"),
        case(422, "POST", "/cart", &[FORM], "tea=1&coffee=2"),
        case(415, "POST", "/api/cart", &[], r#"{"tea":1}"#),
        case(415, "POST", "/api/cart", &[FORM], "tea=1"),
        case(400, "POST", "/api/cart", &[JSON], r#"{"tea":"#),
        case(422, "POST", "/api/cart", &[JSON], r#"{"tea":"one"}"#),
        case(422, "POST", "/api/cart", &[JSON], r#"{"tea":9}"#),
        case(413, "POST", "/cart", &[FORM], &format!("tea=1&card={long}")),
        case(413, "POST", "/login", &[FORM], &format!("username=eve&password={long}")),
        case(413, "POST", "/api/cart", &[JSON], &long_json),
        // From another site, or by a name that is not ours.
        case(403, "POST", "/cart", &[FORM, cross], "tea=1"),
        case(403, "POST", "/api/cart", &[JSON, cross], r#"{"tea":1}"#),
        case(421, "GET", "/", &[("Host", "evil.example")], ""),
        case(421, "GET", "/api/session", &[("Host", "evil.example")], ""),
        // Ours.
        case(500, "GET", "/fault", &[], ""),
        case(500, "GET", "/api/fault", &[], ""),
    ];
    for Case { method, path, headers, body, status } in cases {
        let what = format!("{method} {path} {headers:?} {body:.40}");
        let reply = at_host(method, path, &headers, &body);
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        has_headers(&what, &reply, &policy);
        let expected = Some(HSTS).filter(|_| reply.status != 421);
        assert_eq!(reply.header("strict-transport-security"), expected, "{what}: {reply:?}");
        let kept = if path == "/favicon.svg" { "public, max-age=86400" } else { "no-store" };
        assert_eq!(reply.header("cache-control"), Some(kept), "{what}: {reply:?}");
        if status >= 400 {
            is_plain_error(&what, path, &reply);
        }
    }

    // Any method on any path, whatever comes of it.
    for path in ["/", "/login", "/cart", "/api/session", "/api/cart", "/favicon.svg", "/health", "/nothing"] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            let what = format!("{method} {path}");
            let reply = at_host(method, path, &[], "");
            has_headers(&what, &reply, &policy);
            assert_eq!(reply.header("strict-transport-security"), Some(HSTS), "{what}: {reply:?}");
            assert!(reply.header("cache-control").is_some(), "{what}: {reply:?}");
            if reply.status >= 400 && method != "HEAD" {
                is_plain_error(&what, path, &reply);
            }
        }
    }
}

#[test]
fn a_locked_sign_in_and_a_redirect_to_https_have_all_headers() {
    let site = Site::start(HOSTS);
    let policy = policy(&site.get("/", "").body);
    for _ in 0..10 {
        let attempt = site.runtime().block_on(site.app().limits.begin(USER, [127, 0, 0, 1].into()));
        let _ = attempt.expect("it is not locked");
    }
    let reply = site.log_in("", USER, PASSWORD);
    assert_eq!(reply.status, 429, "{reply:?}");
    has_headers("locked", &reply, &policy);
    is_plain_error("locked", "/login", &reply);

    for (host, path, status) in [
        (HOST, "/?a=b", 308),
        (HOST, "/api/session", 308),
        ("evil.example", "/", 421),
        ("evil.example", "/api/session", 421),
        (HOST, "/health", 200),
    ] {
        let reply = site.send_plain("GET", path, &[("Host", host)], "");
        assert_eq!(reply.status, status, "{host}{path}: {reply:?}");
        has_headers(path, &reply, &policy);
        // Over plain HTTP it would say nothing.
        assert_eq!(reply.header("strict-transport-security"), None, "{host}{path}: {reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{host}{path}: {reply:?}");
        if status == 421 {
            is_plain_error(path, path, &reply);
        }
    }
}

#[test]
fn https_alone_is_asked_for_at_real_names_and_never_at_this_machine_or_an_address() {
    let site = Site::start(&format!("{HOSTS}\ntrusted_proxies = ['127.0.0.1/32']"));
    let hsts = |host: &str| {
        let reply = site.send("GET", "/", &[("Host", host)], "");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.header("strict-transport-security").map(str::to_owned)
    };
    for host in ["app.example", "APP.EXAMPLE", "app.example:8443"] {
        assert_eq!(hsts(host).as_deref(), Some(HSTS), "{host}");
    }
    for host in
        ["localhost", "localhost:8443", "LOCALHOST", "shop.localhost", "127.0.0.1", "[::1]", "[::1]:8443"]
    {
        assert_eq!(hsts(host), None, "{host}");
    }
    // What counts is how the browser came, be it to a proxy.
    let headers = [("Host", HOST), ("X-Forwarded-Proto", "https")];
    let reply = site.send_plain("GET", "/", &headers, "");
    assert_eq!((reply.status, reply.header("strict-transport-security")), (200, Some(HSTS)), "{reply:?}");
    let headers = [("Host", HOST), ("X-Forwarded-Proto", "http")];
    let reply = site.send("GET", "/", &headers, "");
    assert_eq!((reply.status, reply.header("strict-transport-security")), (308, None), "{reply:?}");
}

#[test]
fn no_page_has_an_inline_script_or_style_but_those_with_a_hash() {
    let site = Site::start("");
    let cookie = site.signed_in();
    for (path, cookie, status) in [
        ("/", "", 200),
        ("/", &*cookie, 200),
        ("/login", "", 200),
        ("/login", &*cookie, 200),
        ("/nothing", "", 404),
    ] {
        let reply = site.get(path, cookie);
        assert_eq!(reply.status, status, "{reply:?}");
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(!policy.contains("unsafe"), "{policy}");
        for tag in ["style", "script"] {
            for part in reply.body.split(&format!("<{tag}")).skip(1) {
                let (attributes, rest) = part.split_once('>').expect("the tag's end");
                assert_eq!(attributes, "", "<{tag} of {path}");
                let (text, _) = rest.split_once(&format!("</{tag}>")).expect("the end");
                let hash = format!("{tag}-src 'sha256-{}';", STANDARD.encode(Sha256::digest(text)));
                assert!(policy.contains(&hash), "{hash} of {path} in {policy}");
            }
        }
        // A policy of hashes lets neither of these run.
        for unwanted in [" style=", " onclick=", " onload=", "javascript:"] {
            assert!(!reply.body.contains(unwanted), "{unwanted} in {path}");
        }
    }
}

#[test]
fn what_http_itself_does_not_allow_is_refused_without_a_word() {
    let site = Site::start(HOSTS);
    let reply = |text: &str| {
        let stream = TcpStream::connect(site.http()).unwrap();
        stream.set_read_timeout(Some(browser_tests::PATIENCE)).unwrap();
        common::exchange(stream, text, "")
    };
    // Exactly as long as is read at all: what nobody has read would make the answer get lost.
    let long = |length: usize| {
        let start = "GET /health HTTP/1.1\r\nConnection: close\r\nHost: x\r\nX-Long: ";
        format!("{start}{}", "x".repeat(length - start.len()))
    };
    assert_eq!(reply(&(long(16 * 1024 - 100) + "\r\n\r\n")).status, 200);
    for (status, text) in [(431, &*long(16 * 1024)), (400, "NOT HTTP\r\n\r\n")] {
        let reply = reply(text);
        assert_eq!((reply.status, &*reply.body), (status, ""), "{reply:?}");
        assert_eq!(reply.header("server"), None, "{reply:?}");
    }
}

// ------------------------------------------------------------------------------------------------ Without listeners

/// The app's layers around its routes and `more`, without a connection.
fn router(site: &Site, more: Router<Arc<App>>) -> (Router, Writer) {
    let Opened { app, writer, .. } =
        App::open(Some(site.file()), Arc::new(SystemTime::now)).expect("it opens");
    let settings = Settings::load(Some(&site.file())).expect("settings");
    (app.router(Arc::new(Hosts::new(settings.hosts, 443)), more), writer)
}

async fn ask(router: Router, path: &str) -> Reply {
    ask_from(Ipv4Addr::LOCALHOST, router, path).await
}

async fn ask_from(address: Ipv4Addr, router: Router, path: &str) -> Reply {
    let connection = Connection { peer: (address, 1).into(), tls: true, share: None };
    let request = axum::http::Request::get(path).header("host", HOST);
    let request = request.extension(axum::extract::ConnectInfo(connection)).body(Body::empty()).unwrap();
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let body = axum::body::to_bytes(body, 100_000).await.unwrap();
    Reply {
        status: parts.status.as_u16(),
        headers: parts.headers.iter().map(header).collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// A runtime in which nobody waits: its time goes on at once to whatever comes next.
fn paused() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime")
}

fn never() -> Router<Arc<App>> {
    Router::new()
        .route("/never", get(std::future::pending::<&'static str>))
        .route("/api/never", get(std::future::pending::<&'static str>))
}

#[test]
fn a_request_that_takes_more_than_twenty_seconds_is_over() {
    let site = Site::prepared(HOSTS);
    let (router, _writer) = router(&site, never());
    paused().block_on(async {
        let policy = policy(&ask(router.clone(), "/").await.body);
        for path in ["/never", "/api/never"] {
            let start = tokio::time::Instant::now();
            let reply = ask(router.clone(), path).await;
            assert_eq!(reply.status, 408, "{reply:?}");
            assert_eq!(start.elapsed().as_secs(), 20);
            has_headers(path, &reply, &policy);
            assert_eq!(reply.header("strict-transport-security"), Some(HSTS), "{reply:?}");
            is_plain_error(path, path, &reply);
        }
    });
}

#[test]
fn more_than_a_thousand_requests_at_a_time_are_told_to_come_back() {
    let site = Site::prepared(HOSTS);
    let (router, _writer) = router(&site, never());
    paused().block_on(async {
        let policy = policy(&ask(router.clone(), "/").await.body);
        // Of ten clients a hundred each: no client may have more.
        let client = |number: u32| Ipv4Addr::from_bits(0xc612_0000 + number);
        let begin = |number| tokio::spawn(ask_from(client(number), router.clone(), "/never"));
        let first: Vec<_> = (0..100).map(|_| begin(0)).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(ask_from(client(0), router.clone(), "/").await.status, 503);
        assert_eq!(ask_from(client(1), router.clone(), "/").await.status, 200);
        let mut under_way: Vec<_> = (100..1000).map(|number| begin(number / 100)).collect();
        under_way.extend(first);
        // Paused time goes on when nothing else does: all of them have begun.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for path in ["/", "/api/session"] {
            let reply = ask(router.clone(), path).await;
            assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
            has_headers(path, &reply, &policy);
            is_plain_error(path, path, &reply);
        }
        // Whoever watches over the server sees it all the same.
        assert_eq!(ask(router.clone(), "/health").await.status, 200);
        let one = under_way.pop().expect("a thousand");
        one.abort();
        let _ = one.await;
        assert_eq!(ask(router.clone(), "/").await.status, 200);
    });
}

#[test]
fn a_full_cart_is_a_problem_document_of_its_own() {
    let site = Site::start(HOSTS);
    let policy = policy(&site.get("/", "").body);
    let full = site.post("/cart/fill", "", "");
    let headers = [("Cookie", &*full.cookies()), JSON];
    let body = format!("{{\"tea\":1,\"card\":\"{}\"}}", "x".repeat(100));
    let reply = site.send("POST", "/api/cart", &headers, &body);
    assert_eq!(reply.status, 422, "{reply:?}");
    has_headers("full", &reply, &policy);
    is_plain_error("full", "/api/cart", &reply);
    let reply = site.post("/cart", &full.cookies(), &format!("tea=1&card={}", "x".repeat(100)));
    assert_eq!(reply.status, 422, "{reply:?}");
    has_headers("full", &reply, &policy);
    is_plain_error("full", "/cart", &reply);
    assert!(reply.body.contains("Your cart is full"), "{reply:?}");
}
