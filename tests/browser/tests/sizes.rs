//! The largest session that `update` accepts, in real clients; and why it is the largest.

use axum::{
    Router,
    extract::Path,
    http::{HeaderName, header},
    routing::{get, post},
};
use browser_tests::{Browser, Curl, Server};
use cookie_session::{Key, KeyRing, Lifetime, Mode, Session, SessionLayer, UpdateError};
use std::time::{Duration, SystemTime};

const NAME: &str = "__Host-Http-session";

/// Bytes of a whole `Set-Cookie` value: the strictest reading in the field.
const LIMIT: usize = 4093;

/// The longest that the default settings allow, so that `Max-Age` has all the digits it can have.
const LONGEST: Duration = Duration::from_secs(14 * 24 * 60 * 60);

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Text(String);

async fn fill(session: Session<Text>, Path(length): Path<usize>) -> Result<&'static str, UpdateError> {
    session.set_lifetime(Lifetime::Own(LONGEST))?;
    session.update(|text| text.0 = "x".repeat(length))?;
    Ok("filled")
}

async fn length(session: Session<Text>) -> String {
    session.read(|text| text.0.len().to_string())
}

fn layer(mode: Mode) -> SessionLayer<Text> {
    let keys = KeyRing::new(Key::generate().unwrap(), []).unwrap();
    SessionLayer::builder(keys).mode(mode).build().unwrap()
}

fn app(layer: SessionLayer<Text>) -> Router {
    let page = get(|| async { "a page" });
    Router::new()
        .route("/fill/{length}", post(fill))
        .route("/length", get(length))
        .layer(layer)
        .route("/page", page)
}

/// How long the longest text is that can be stored.
fn longest(layer: &SessionLayer<Text>) -> usize {
    let fits = |length| {
        let text = Text("x".repeat(length));
        layer.codec().seal(&text, None, None, SystemTime::now()).is_ok()
    };
    let (mut fitting, mut too_long) = (0, LIMIT);
    assert!(fits(fitting) && !fits(too_long));
    while too_long - fitting > 1 {
        let middle = (fitting + too_long) / 2;
        if fits(middle) { fitting = middle } else { too_long = middle }
    }
    fitting
}

/// Every byte of the 4093 is used, but for what base64 cannot express: its length is never 1 more
/// than a multiple of 4.
#[track_caller]
fn assert_full(server: &Server, path: &str) {
    let exchange = server.last(path);
    let [cookie] = exchange.set(NAME)[..] else { panic!("{exchange:?}") };
    assert!(cookie.contains("Max-Age=1209600"), "{cookie}");
    assert!((LIMIT - 1..=LIMIT).contains(&cookie.len()), "{} bytes", cookie.len());
}

#[test]
fn the_largest_session_comes_back_from_chromium() {
    let browser = Browser::start();
    for mode in [Mode::Encrypted, Mode::Signed] {
        let layer = layer(mode);
        let longest = longest(&layer);
        let server = Server::start(app(layer));
        browser.go(&server.url("/page"));
        browser.forget();

        let full = format!("/fill/{longest}");
        assert_eq!(browser.post(&full).ok(), "filled");
        assert_full(&server, &full);
        assert_eq!(browser.get("/length").ok(), longest.to_string(), "{mode:?}");

        // One byte more: refused, and the session is as it was.
        let over = format!("/fill/{}", longest + 1);
        assert_eq!(browser.post(&over).status, 500);
        assert_eq!(server.last(&over).set_cookies, [""; 0]);
        assert_eq!(browser.get("/length").ok(), longest.to_string(), "{mode:?}");
    }
}

#[test]
fn the_largest_session_comes_back_from_curl() {
    for mode in [Mode::Encrypted, Mode::Signed] {
        let layer = layer(mode);
        let longest = longest(&layer);
        let server = Server::start(app(layer));
        let curl = Curl::new();

        let full = format!("/fill/{longest}");
        assert_eq!(curl.post(&server.url(&full)).ok(), "filled");
        assert_full(&server, &full);
        assert_eq!(curl.get(&server.url("/length")).ok(), longest.to_string(), "{mode:?}");

        assert_eq!(curl.post(&server.url(&format!("/fill/{}", longest + 1))).status, 500);
        assert_eq!(curl.get(&server.url("/length")).ok(), longest.to_string(), "{mode:?}");
    }
}

/// A server without a budget: a cookie of so many bytes, name and value.
async fn unchecked(Path(bytes): Path<usize>) -> ([(HeaderName, String); 1], &'static str) {
    const NAME: &str = "unchecked";
    let value = "x".repeat(bytes - NAME.len());
    (
        [(header::SET_COOKIE, format!("{NAME}={value}; Secure; HttpOnly; SameSite=Lax; Path=/"))],
        "sent with 200 OK",
    )
}

#[test]
fn clients_drop_a_cookie_of_more_than_4096_bytes_without_a_word() {
    let app =
        Router::new().route("/unchecked/{bytes}", post(unchecked)).route("/page", get(|| async { "a page" }));
    let (server, browser) = (Server::start(app), Browser::start());
    browser.go(&server.url("/page"));
    for (bytes, kept) in [(4096, 1), (4097, 0)] {
        let path = format!("/unchecked/{bytes}");
        browser.forget();
        assert_eq!(browser.post(&path).ok(), "sent with 200 OK");
        assert_eq!(browser.cookies_named("unchecked").len(), kept, "{bytes} bytes in Chromium");

        let curl = Curl::new();
        assert_eq!(curl.post(&server.url(&path)).ok(), "sent with 200 OK");
        assert_eq!(curl.cookies().len(), kept, "{bytes} bytes in curl");
    }
}
