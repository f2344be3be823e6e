//! cookie-session's import of jars, against the jars themselves: the old application, the new one, and what they read.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{FromRef, Path, State},
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header},
    routing::{get, post},
};
use axum_extra::extract::{PrivateCookieJar, SignedCookieJar};
use cookie::{Cookie, CookieJar};
use cookie_session::{Identity, Jar, JarKey, Key, KeyRing, Opened, SessionBuilder, SessionLayer};
use interop_tests::Rng;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// The old cookie's name.
pub const OLD: &str = "user_id";

/// What a request can carry of one cookie.
pub const MOST: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Private,
    Signed,
}

pub const KINDS: [Kind; 2] = [Kind::Private, Kind::Signed];

/// A jar's key, as both sides are given it.
#[derive(Clone, Debug)]
pub enum Secret {
    /// 64 octets or more.
    Whole(Vec<u8>),
    /// 32 octets or more, to derive one from.
    Master(Vec<u8>),
}

impl Secret {
    pub fn random(rng: &mut Rng) -> Secret {
        let more = rng.pick(&[0, 0, 1, 40]);
        match rng.below(2) {
            0 => Secret::Whole(rng.bytes(64 + more)),
            _ => Secret::Master(rng.bytes(32 + more)),
        }
    }

    pub fn theirs(&self) -> cookie::Key {
        match self {
            Secret::Whole(key) => cookie::Key::from(key),
            Secret::Master(master) => cookie::Key::derive_from(master),
        }
    }

    pub fn ours(&self) -> JarKey {
        match self {
            Secret::Whole(key) => JarKey::new(key),
            Secret::Master(master) => JarKey::derive_from(master),
        }
    }
}

/// What a session of the new application holds: the text that was in the old cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Held {
    pub text: String,
}

pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_000)
}

/// The import of one old cookie.
pub fn jar(kind: Kind, cookie: Identity, key: JarKey) -> Jar<Held> {
    let read = |text: &str| Some(Held { text: text.to_owned() });
    match kind {
        Kind::Private => Jar::private(cookie, key, read),
        Kind::Signed => Jar::signed(cookie, key, read),
    }
}

/// The new application's settings.
///
/// # Panics
///
/// If the operating system gives no randomness.
pub fn builder() -> SessionBuilder<Held> {
    let ring = KeyRing::new(Key::generate().expect("randomness"), []).expect("one key");
    SessionLayer::builder(ring).clock(now)
}

/// A layer that imports the cookie [`OLD`].
///
/// # Panics
///
/// If the key is too short.
pub fn layer(kind: Kind, secret: &Secret) -> SessionLayer<Held> {
    let import = jar(kind, Identity::named(OLD), secret.ours());
    builder().import(import, now() + Duration::from_secs(1)).build().expect("good settings")
}

/// A request's headers, with this `Cookie` header.
///
/// # Panics
///
/// If it is none.
pub fn headers(cookies: &[u8]) -> HeaderMap {
    let value = HeaderValue::from_bytes(cookies).expect("a header's octets");
    HeaderMap::from_iter([(header::COOKIE, value)])
}

/// What our layer makes of a `Cookie` header.
pub fn open(layer: &SessionLayer<Held>, cookies: &[u8]) -> Opened<Held> {
    layer.codec().open(&headers(cookies), now())
}

/// The old application: a jar behind axum.
pub struct OldApp {
    pub kind: Kind,
    key: cookie::Key,
    router: Router,
    runtime: Runtime,
}

#[derive(Clone)]
struct TheirKey(cookie::Key);

impl FromRef<TheirKey> for cookie::Key {
    fn from_ref(key: &TheirKey) -> cookie::Key {
        key.0.clone()
    }
}

/// Cookies that the test asks for, as JSON: pairs of name and text.
fn asked(body: &str) -> impl Iterator<Item = Cookie<'static>> {
    let pairs: Vec<(String, String)> = serde_json::from_str(body).expect("pairs");
    pairs.into_iter().map(|(name, text)| Cookie::build((name, text)).path("/").http_only(true).build())
}

fn found(cookie: Option<Cookie<'static>>) -> Result<String, StatusCode> {
    cookie.map(|cookie| cookie.value().to_owned()).ok_or(StatusCode::NOT_FOUND)
}

type Read = Result<String, StatusCode>;

async fn set_private(jar: PrivateCookieJar, body: String) -> PrivateCookieJar {
    asked(&body).fold(jar, PrivateCookieJar::add)
}

async fn read_private(jar: PrivateCookieJar, Path(name): Path<String>) -> Read {
    found(jar.get(&name))
}

async fn set_signed(jar: SignedCookieJar, _: State<TheirKey>, body: String) -> SignedCookieJar {
    asked(&body).fold(jar, SignedCookieJar::add)
}

async fn read_signed(jar: SignedCookieJar, Path(name): Path<String>) -> Read {
    found(jar.get(&name))
}

impl OldApp {
    /// # Panics
    ///
    /// If the system gives no runtime.
    pub fn new(kind: Kind, secret: &Secret) -> OldApp {
        let router = match kind {
            Kind::Private => {
                Router::new().route("/set", post(set_private)).route("/read/{name}", get(read_private))
            }
            Kind::Signed => {
                Router::new().route("/set", post(set_signed)).route("/read/{name}", get(read_signed))
            }
        };
        let key = secret.theirs();
        let router = router.with_state(TheirKey(key.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        OldApp { kind, key, router, runtime }
    }

    fn answer(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = self.runtime.block_on(self.router.clone().oneshot(request));
        response
    }

    /// What a browser sends back of the cookies that it sets: `name=value`, percent-encoded.
    ///
    /// # Panics
    ///
    /// If it does not set each.
    pub fn set(&self, pairs: &[(&str, &str)]) -> String {
        let body = serde_json::to_string(pairs).expect("JSON");
        let response = self.answer(Request::post("/set").body(Body::from(body)).expect("a request"));
        let set = response.headers().get_all(header::SET_COOKIE).iter();
        let cookies: Vec<_> = set
            .map(|cookie| cookie.to_str().expect("ASCII").split(';').next().expect("a pair").to_owned())
            .collect();
        assert_eq!(cookies.len(), pairs.len());
        cookies.join("; ")
    }

    /// The text that it reads in the cookie of this name.
    ///
    /// # Panics
    ///
    /// If it answers anything but the text, or that there is none.
    pub fn read(&self, cookies: &[u8], name: &str) -> Option<String> {
        let mut request = Request::get(format!("/read/{name}")).body(Body::empty()).expect("a request");
        *request.headers_mut() = headers(cookies);
        let response = self.answer(request);
        match response.status() {
            StatusCode::OK => {
                let body = self.runtime.block_on(to_bytes(response.into_body(), MOST)).expect("a text");
                Some(String::from_utf8(body.into()).expect("UTF-8"))
            }
            status => {
                assert_eq!(status, StatusCode::NOT_FOUND);
                None
            }
        }
    }

    /// The same cookie as an application sets it that uses the `cookie` crate alone: not percent-encoded.
    pub fn set_plain(&self, name: &str, text: &str) -> String {
        let mut jar = CookieJar::new();
        let cookie = Cookie::new(name.to_owned(), text.to_owned());
        match self.kind {
            Kind::Private => jar.private_mut(&self.key).add(cookie),
            Kind::Signed => jar.signed_mut(&self.key).add(cookie),
        }
        jar.get(name).expect("it was added").to_string()
    }

    /// What such an application reads: of several the last that opens.
    pub fn read_plain(&self, cookies: &[u8], name: &str) -> Option<String> {
        let jar = CookieJar::new();
        let open = |cookie: Cookie<'static>| match self.kind {
            Kind::Private => jar.private(&self.key).decrypt(cookie),
            Kind::Signed => jar.signed(&self.key).verify(cookie),
        };
        let cookies = Cookie::split_parse(str::from_utf8(cookies).ok()?.to_owned()).filter_map(Result::ok);
        let named = cookies.filter(|cookie| cookie.name() == name);
        named.filter_map(open).last().map(|cookie| cookie.value().to_owned())
    }
}

/// A text of some kind.
pub fn text(rng: &mut Rng) -> String {
    let json = |rng: &mut Rng| {
        let cart: Vec<_> = (0..rng.below(4)).map(|_| rng.number()).collect();
        serde_json::json!({ "user": rng.number(), "name": rng.text(), "cart": cart }).to_string()
    };
    match rng.below(8) {
        0 => String::new(),
        1 | 2 => json(rng),
        3 => rng.text(),
        4 => rng.number().to_string(),
        5 => (0..rng.below(40)).map(|_| char::from(rng.pick(b"%=;, \"\\+/&<>{}|^~`'aZ09"))).collect(),
        6 => {
            let parts = ["%", "%4", "%41", "%zz", "%25", "%E4", "a", "\u{e4}"];
            (0..rng.below(6)).map(|_| rng.pick(&parts)).collect()
        }
        _ => "x".repeat(rng.below(300)),
    }
}
