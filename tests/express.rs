//! What people know from npm's `cookie-session` (2.1.1, on Express 5.3.0), and what it is here.
//!
//! The first half follows the 42 tests of that package, title by title; where this crate differs on
//! purpose, the test shows what it does instead and a comment says why. The second half shows, one
//! by one, that its traps are none here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cookie_session::{
    ConfigError, Incoming, Key, KeyError, KeyRing, KeyRingHandle, Lifetime, MissingLayer, Mode, NotEncodable,
    RejectedKind, SameSite, Session, SessionBuilder, SessionConfig, SessionLayer, SessionMap, UpdateError,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY},
    request::Parts,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer, Service, service_fn};

const KEY: &str = "a7kla1zNMA84RMZzZhWHCrnJCh+SnouQSgEs6JOJf3M=";
const OLD_KEY: &str = "yKOn1rjHg8oSIqkx7kfgbtSDO6hVz0vptA+wBL4jd18=";

const NAME: &str = "__Host-Http-session";
const MARKER: &str = "__Host-Http-session-out";

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn ring(primary: &str, fallbacks: &[&str]) -> KeyRing {
    KeyRing::new(key(primary), fallbacks.iter().map(|text| key(text))).unwrap()
}

#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Self {
        Clock(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

/// A layer and its clock.
struct App<T = SessionMap> {
    layer: SessionLayer<T>,
    clock: Clock,
}

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> App<T> {
    fn new(
        keys: impl Into<KeyRingHandle>,
        configure: impl FnOnce(SessionBuilder<T>) -> SessionBuilder<T>,
    ) -> Self {
        let clock = Clock::new();
        let tick = clock.clone();
        let builder = SessionLayer::builder(keys).clock(move || tick.now());
        App { layer: configure(builder).build().unwrap(), clock }
    }

    /// Handles a request by a function that asks for the session itself, or not at all.
    fn serve<A: Answer>(&self, request: Request<()>, handler: impl FnOnce(&mut Parts) -> A) -> Reply {
        serve(&self.layer, request, handler)
    }

    /// Handles a request with this `Cookie` header.
    fn visit<A: Answer>(&self, cookies: &str, handler: impl FnOnce(&Session<T>) -> A) -> Reply {
        self.serve(request(cookies), |parts| handler(&Session::from_parts(parts).unwrap()))
    }
}

fn app() -> App {
    app_with(|builder| builder)
}

fn app_with(configure: impl FnOnce(SessionBuilder<SessionMap>) -> SessionBuilder<SessionMap>) -> App {
    App::new(ring(KEY, &[]), configure)
}

/// An application that has rotated its keys, and one that has not yet.
fn rotated_and_old(configure: fn(SessionBuilder<SessionMap>) -> SessionBuilder<SessionMap>) -> (App, App) {
    (App::new(ring(KEY, &[OLD_KEY]), configure), App::new(ring(OLD_KEY, &[]), configure))
}

fn request(cookies: &str) -> Request<()> {
    let mut request = Request::new(());
    if !cookies.is_empty() {
        request.headers_mut().insert(COOKIE, HeaderValue::try_from(cookies).unwrap());
    }
    request
}

fn serve<A: Answer>(
    layer: &impl LayerOnce,
    request: Request<()>,
    handler: impl FnOnce(&mut Parts) -> A,
) -> Reply {
    let mut handler = Some(handler);
    let mut handle = |request: Request<()>| {
        let handler = handler.take().expect("one request");
        handler(&mut request.into_parts().0).answer()
    };
    let response = layer.serve_once(request, &mut handle);
    assert!(handler.is_none(), "the handler was asked");
    let (parts, ()) = response.into_parts();
    Reply { status: parts.status, headers: parts.headers }
}

type Handle<'h> = &'h mut dyn FnMut(Request<()>) -> Response<()>;

/// One layer, or two around each other: what can stand around a handler.
trait LayerOnce {
    fn serve_once(&self, request: Request<()>, handle: Handle<'_>) -> Response<()>;
}

impl<T: Send + 'static> LayerOnce for SessionLayer<T> {
    fn serve_once(&self, request: Request<()>, handle: Handle<'_>) -> Response<()> {
        let inner = service_fn(|request| ready(Ok::<_, Infallible>(handle(request))));
        let future = self.layer(inner).call(request);
        // Nothing in it waits.
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => response,
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => panic!("the layer waits for something"),
        }
    }
}

/// The outer and the inner layer.
impl<A: LayerOnce, B: LayerOnce> LayerOnce for (&A, &B) {
    fn serve_once(&self, request: Request<()>, handle: Handle<'_>) -> Response<()> {
        let (outer, inner) = self;
        outer.serve_once(request, &mut |request| inner.serve_once(request, handle))
    }
}

/// What a handler may answer with.
trait Answer {
    fn answer(self) -> Response<()>;
}

impl Answer for Response<()> {
    fn answer(self) -> Response<()> {
        self
    }
}

impl Answer for StatusCode {
    fn answer(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self;
        response
    }
}

impl Answer for () {
    fn answer(self) -> Response<()> {
        Response::new(())
    }
}

fn with_header(name: HeaderName, value: &'static str) -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().append(name, HeaderValue::from_static(value));
    response
}

#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
}

impl Reply {
    fn cookies(&self) -> Vec<&str> {
        self.headers.get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap()).collect()
    }

    fn sets_nothing(&self) -> bool {
        !self.headers.contains_key(SET_COOKIE)
    }

    /// The one cookie of this response.
    fn cookie(&self) -> SetCookie<'_> {
        match self.cookies()[..] {
            [cookie] => SetCookie::parse(cookie),
            ref others => panic!("one Set-Cookie was expected: {others:?}"),
        }
    }

    fn named(&self, name: &str) -> Vec<SetCookie<'_>> {
        let all = self.cookies().into_iter().map(SetCookie::parse);
        all.filter(|cookie| cookie.name == name).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SetCookie<'r> {
    name: &'r str,
    value: &'r str,
    attributes: BTreeSet<&'r str>,
}

impl<'r> SetCookie<'r> {
    fn parse(text: &'r str) -> Self {
        let mut parts = text.split("; ");
        let (name, value) = parts.next().unwrap().split_once('=').unwrap();
        let attributes: Vec<_> = parts.collect();
        let unique: BTreeSet<_> = attributes.iter().copied().collect();
        assert_eq!(attributes.len(), unique.len(), "an attribute stands there twice: {text}");
        SetCookie { name, value, attributes: unique }
    }

    fn has(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute)
    }

    fn max_age(&self) -> Option<u64> {
        let mut ages = self.attributes.iter().filter_map(|attribute| attribute.strip_prefix("Max-Age="));
        ages.next().map(|age| age.parse().unwrap())
    }

    fn without_max_age(&self) -> BTreeSet<&str> {
        self.attributes.iter().copied().filter(|attribute| !attribute.starts_with("Max-Age=")).collect()
    }

    fn is_removal(&self) -> bool {
        self.value.is_empty() && self.max_age() == Some(0)
    }

    fn request_header(&self) -> String {
        format!("{}={}", self.name, self.value)
    }
}

/// A browser, which keeps what it is sent and never forgets by itself.
#[derive(Clone, Default)]
struct Browser {
    jar: BTreeMap<String, String>,
}

impl Browser {
    /// A browser with a session that holds `a: 1` and `b: 2`.
    fn with_session(app: &App) -> Browser {
        let mut browser = Browser::default();
        browser.visit(app, |session| {
            put(session, "a", 1);
            put(session, "b", 2);
        });
        browser
    }

    fn visit<T, A>(&mut self, app: &App<T>, handler: impl FnOnce(&Session<T>) -> A) -> Reply
    where
        T: Default + Serialize + DeserializeOwned + Send + 'static,
        A: Answer,
    {
        let reply = app.visit(&self.cookies(), handler);
        self.receive(&reply);
        reply
    }

    fn receive(&mut self, reply: &Reply) {
        for cookie in reply.cookies().into_iter().map(SetCookie::parse) {
            if cookie.max_age() == Some(0) {
                self.jar.remove(cookie.name);
            } else {
                self.jar.insert(cookie.name.to_owned(), cookie.value.to_owned());
            }
        }
    }

    fn cookies(&self) -> String {
        let pairs: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    fn value(&self) -> &str {
        &self.jar[NAME]
    }
}

/// As `req.session[key] = value`.
fn put(session: &Session<SessionMap>, key: &str, value: impl Serialize) {
    session.try_update(|map| map.insert(key, &value)).unwrap().unwrap();
}

/// As `req.session[key]`.
fn get<V: DeserializeOwned>(session: &Session<SessionMap>, key: &str) -> Option<V> {
    session.read(|map| map.get(key).unwrap())
}

/// As `req.session.isPopulated`.
fn is_populated(session: &Session<SessionMap>) -> bool {
    session.read(|map| !map.is_empty())
}

fn read(session: &Session<SessionMap>) {
    session.read(|_| ());
}

fn rejected(session: &Session<SessionMap>) -> Option<RejectedKind> {
    match session.incoming() {
        Incoming::Rejected(kind) => Some(kind),
        _ => None,
    }
}

/// A layer from a configuration with a good key.
fn configured(mut settings: Value) -> Result<SessionLayer<SessionMap>, ConfigError> {
    if settings.get("keys").is_none() {
        settings["keys"] = json!({ "primary": KEY });
    }
    let config: SessionConfig = serde_json::from_value(settings).unwrap();
    SessionLayer::from_config(config).build()
}

/// What one setting of a configuration is refused for.
fn refused(setting: &str, value: Value) -> ConfigError {
    configured(json!({ setting: value })).expect_err(setting)
}

/// Asserts that there is no setting of this name, and that the error says which one is meant.
fn is_no_setting(setting: &str, value: Value) {
    match refused(setting, value) {
        ConfigError::UnknownField { field } => assert_eq!(field.to_string(), format!("{setting:?}")),
        other => panic!("{setting}: {other}"),
    }
}

/// Every value that differs from this one in a single character.
fn tampered(value: &str) -> impl Iterator<Item = String> + '_ {
    (0..value.len()).map(move |at| {
        let other = if &value[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &value[..at], &value[at + 1..])
    })
}

/// Asserts that a value for the session's cookie is answered with a new session, and left alone.
fn is_rejected(app: &App, value: &str) {
    let reply = app.visit(&format!("{NAME}={value}"), |session| {
        assert!(rejected(session).is_some(), "{value}: {:?}", session.incoming());
        assert!(session.is_new() && !is_populated(session), "{value}");
    });
    assert!(reply.status == StatusCode::OK && reply.sets_nothing(), "{value}");
}

// The titles of npm's own tests.

mod http_only_option {
    use super::*;

    #[test]
    fn defaults_to_true() {
        let reply = app().visit("", |session| put(session, "a", 1));
        assert!(reply.cookie().has("HttpOnly"));
    }

    /// Instead of "should use given false": a session that scripts can read is stolen by the first
    /// injected one, and nothing that a page needs is in it.
    #[test]
    fn cannot_be_set_to_false() {
        is_no_setting("http_only", json!(false));
        is_no_setting("httpOnly", json!(false));
        let insecure = app_with(SessionBuilder::insecure_for_local_http);
        let reply = insecure.visit("", |session| put(session, "a", 1));
        assert!(reply.cookie().has("HttpOnly"));
    }
}

mod overwrite_option {
    use super::*;

    fn writes_beside(set_cookie: &'static str) -> Reply {
        app().visit("", |session| {
            put(session, "a", 1);
            let mut response = with_header(SET_COOKIE, set_cookie);
            response.headers_mut().append(SET_COOKIE, HeaderValue::from_static("foo=bar"));
            response
        })
    }

    #[test]
    fn defaults_to_true() {
        let reply = writes_beside("__Host-Http-session=foo; Path=/; Secure");
        let [foo, ours] = reply.cookies()[..] else { panic!("{reply:?}") };
        assert_eq!(foo, "foo=bar");
        assert_ne!(SetCookie::parse(ours).value, "foo");
    }

    /// npm's module takes out every cookie of the name; to a browser one of another Path or Domain
    /// is another cookie, so it is none of ours.
    #[test]
    fn leaves_a_cookie_of_another_path_or_domain() {
        for other in
            ["__Host-Http-session=foo; path=/fake", "__Host-Http-session=foo; path=/; domain=example.com"]
        {
            let reply = writes_beside(other);
            let [kept, foo, ours] = reply.cookies()[..] else { panic!("{reply:?}") };
            assert_eq!((kept, foo), (other, "foo=bar"));
            assert_eq!(SetCookie::parse(ours).name, NAME);
        }
    }

    /// Instead of "should use given false": two cookies of one identity in a response are a riddle,
    /// of which browsers keep the last.
    #[test]
    fn cannot_be_set_to_false() {
        is_no_setting("overwrite", json!(false));
    }
}

#[test]
fn my_session_is_used_for_the_cookies_name() {
    let app = app_with(|builder| builder.name("my.session"));
    let mut browser = Browser::default();
    let reply = browser.visit(&app, |session| put(session, "message", "hi"));
    assert_eq!(reply.cookie().name, "my.session");
    browser.visit(&app, |session| assert_eq!(get(session, "message"), Some("hi".to_owned())));
}

/// As `signed: true` with `keys`; the cookie is encrypted, the default.
mod with_several_keys {
    use super::*;

    fn keys() -> KeyRing {
        ring(KEY, &[OLD_KEY])
    }

    fn app() -> App {
        App::new(keys(), |builder| builder)
    }

    /// One cookie, whose seal is in its value: there is no second one that can get lost.
    #[test]
    fn seals_the_cookie() {
        let app = app();
        let reply = app.visit("", |session| put(session, "a", 1));
        let value = reply.cookie().value;
        tampered(value).for_each(|value| is_rejected(&app, &value));
        app.visit(&reply.cookie().request_header(), |session| assert_eq!(get(session, "a"), Some(1)));
    }

    #[test]
    fn seals_with_the_primary_key() {
        let app = app();
        let mut browser = Browser::with_session(&app);
        browser.visit(&app, |session| assert_eq!(session.meta().unwrap().key_id(), key(KEY).id()));
        let others = App::new(ring(OLD_KEY, &[]), |builder| builder);
        is_rejected(&others, browser.value());
    }

    #[test]
    fn accepts_a_session_with_the_primary_keys_seal() {
        let mut browser = Browser::with_session(&App::new(ring(KEY, &[]), |builder| builder));
        browser.visit(&app(), |session| assert_eq!(get(session, "a"), Some(1)));
    }

    #[test]
    fn accepts_a_session_with_a_fallback_keys_seal() {
        let mut browser = Browser::with_session(&App::new(ring(OLD_KEY, &[]), |builder| builder));
        browser.visit(&app(), |session| assert_eq!(get(session, "a"), Some(1)));
    }

    #[test]
    fn rejects_a_session_with_an_invalid_seal() {
        let stranger = App::new(KeyRing::new(Key::generate().unwrap(), []).unwrap(), |builder| builder);
        is_rejected(&app(), Browser::with_session(&stranger).value());
    }

    #[test]
    fn rejects_a_session_with_no_seal() {
        let app = app();
        is_rejected(&app, "eyJtZXNzYWdlIjoiaGkifQ==");
        let browser = Browser::with_session(&app);
        let sealed = URL_SAFE_NO_PAD.decode(browser.value()).unwrap();
        // The value without its tag.
        is_rejected(&app, &URL_SAFE_NO_PAD.encode(&sealed[..sealed.len() - 16]));
    }
}

/// As `signed: true` with `secret`; the cookie is only signed, as npm's are.
mod with_one_key_and_signed {
    use super::*;

    fn app() -> App {
        app_with(|builder| builder.mode(Mode::Signed))
    }

    #[test]
    fn signs_the_cookie() {
        let app = app();
        let reply = app.visit("", |session| put(session, "a", 1));
        let value = reply.cookie().value;
        tampered(value).for_each(|value| is_rejected(&app, &value));
        app.visit(&reply.cookie().request_header(), |session| assert_eq!(get(session, "a"), Some(1)));
    }

    #[test]
    fn signs_with_the_only_key() {
        let app = app();
        let mut browser = Browser::with_session(&app);
        browser.visit(&app, |session| {
            let meta = session.meta().unwrap();
            assert_eq!((meta.key_id(), meta.mode()), (key(KEY).id(), Mode::Signed));
        });
    }

    #[test]
    fn accepts_a_session_with_a_signature() {
        let mut browser = Browser::with_session(&app());
        browser.visit(&app(), |session| assert_eq!(get(session, "b"), Some(2)));
    }

    #[test]
    fn rejects_a_session_with_an_invalid_signature() {
        let stranger = App::new(ring(OLD_KEY, &[]), |builder| builder.mode(Mode::Signed));
        is_rejected(&app(), Browser::with_session(&stranger).value());
    }

    #[test]
    fn rejects_a_session_with_no_signature() {
        let app = app();
        let browser = Browser::with_session(&app);
        let signed = URL_SAFE_NO_PAD.decode(browser.value()).unwrap();
        is_rejected(&app, &URL_SAFE_NO_PAD.encode(&signed[..signed.len() - 32]));
    }
}

/// npm's constructor throws. Here a builder without keys does not compile, and a configuration or
/// an environment without them is an error at start-up.
#[test]
fn without_keys_there_is_no_layer() {
    for keys in [json!({}), json!(null), json!({ "primary": null })] {
        assert_eq!(refused("keys", keys), ConfigError::NoPrimaryKey);
    }
    let unset = "EXPRESS_TEST_SESSION_KEY_THAT_NOBODY_SETS";
    assert_eq!(KeyRing::from_env(unset).unwrap_err(), KeyError::Missing { var: unset.to_owned() });
}

/// As `signed: false`, which there is not: without a seal every visitor writes the session.
mod without_a_seal {
    use super::*;

    fn both_modes() -> [App; 2] {
        [
            app_with(|builder| builder.mode(Mode::Encrypted).accept_mode(Mode::Signed)),
            app_with(|builder| builder.mode(Mode::Signed).accept_mode(Mode::Encrypted)),
        ]
    }

    /// Instead of "should not set cookie signature".
    #[test]
    fn no_cookie_is_ever_sent() {
        is_no_setting("signed", json!(false));
        for mode in ["none", "unsigned", "plain", ""] {
            assert!(matches!(refused("mode", json!(mode)), ConfigError::WrongValue { .. }), "{mode}");
        }
    }

    /// Instead of "should accept session without signature".
    #[test]
    fn no_session_is_ever_accepted() {
        for app in both_modes() {
            is_rejected(&app, "eyJtZXNzYWdlIjoiaGkifQ==");
            is_rejected(&app, "eyJtZXNzYWdlIjoiaGkifQ");
            // A suite byte that would mean "none", a key id that is on the ring, and a payload.
            let id = u32::from_str_radix(&key(KEY).id().to_string(), 16).unwrap().to_be_bytes();
            for suite in [0x00, 0x03, 0xff] {
                is_rejected(&app, &URL_SAFE_NO_PAD.encode([&[suite][..], &id, &[0; 80]].concat()));
            }
        }
    }

    /// Instead of "should accept session with invalid signature".
    #[test]
    fn no_session_is_accepted_for_a_cookie_beside_it() {
        for app in both_modes() {
            let cookies = format!("{NAME}=eyJtZXNzYWdlIjoiaGkifQ==; {NAME}.sig=vdp2-kj-91tgzbWcV1QzofT3hu0");
            app.visit(&cookies, |session| {
                assert!(rejected(session).is_some() && !is_populated(session));
            });
        }
    }
}

/// Instead of "should not Set-Cookie" when `secure: true` meets a connection that is not: npm's
/// module looks at the connection and then loses every session without a word. Here Secure comes
/// from the configuration alone; behind a proxy that ends TLS each connection looks like http.
#[test]
fn on_a_connection_that_is_not_secured_the_cookie_is_sent_and_says_secure() {
    let app = app();
    for uri in ["/", "http://example.com/", "https://example.com/"] {
        for proto in ["", "http", "https", "http, https"] {
            let mut request = request("");
            *request.uri_mut() = uri.parse().unwrap();
            request.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static(proto));
            let reply = app.serve(request, |parts| put(&Session::from_parts(parts).unwrap(), "a", 1));
            assert!(reply.cookie().has("Secure"), "{uri} {proto}");
        }
    }
}

#[test]
fn a_session_that_contains_a_semicolon_still_works() {
    let app = app();
    let text = "a;b; Path=/elsewhere; c=\"d\"\r\nSet-Cookie: e=f";
    let plain = app.visit("", |session| put(session, text, "text"));
    let mut browser = Browser::default();
    let reply = browser.visit(&app, |session| put(session, "text", text));
    assert_eq!(reply.cookie().attributes, plain.cookie().attributes);
    browser.visit(&app, |session| assert_eq!(get(session, "text"), Some(text.to_owned())));
}

#[test]
fn an_invalid_session_is_a_new_session() {
    let app = app();
    let mut browser = Browser::default();
    browser.jar.insert(NAME.to_owned(), "bogus".to_owned());
    browser.visit(&app, |session| {
        assert!(session.is_new() && !is_populated(session));
        put(session, "message", "hello");
    });
    browser.visit(&app, |session| assert_eq!(get(session, "message"), Some("hello".to_owned())));
}

mod new_session {
    use super::*;

    #[test]
    fn not_accessed_sets_no_cookie() {
        let reply = app().serve(request(""), |_| ());
        assert!(reply.headers.is_empty(), "{reply:?}");
    }

    #[test]
    fn accessed_and_not_populated_sets_no_cookie() {
        let app = app();
        assert!(app.visit("", read).sets_nothing());
        let set_and_deleted = app.visit("", |session| {
            put(session, "a", 1);
            session.update(|map| map.remove("a")).unwrap();
        });
        assert!(set_and_deleted.sets_nothing());
    }

    #[test]
    fn populated_sets_a_cookie() {
        let reply = app().visit("", |session| put(session, "message", "hello"));
        assert_eq!(reply.cookie().name, NAME);
        assert!(!reply.cookie().value.is_empty());
    }
}

mod saved_session {
    use super::*;

    #[test]
    fn not_accessed_sets_no_cookie() {
        let app = app();
        let browser = Browser::with_session(&app);
        let reply = app.serve(request(&browser.cookies()), |_| ());
        assert!(reply.headers.is_empty(), "{reply:?}");
    }

    #[test]
    fn accessed_but_not_changed_is_the_same_session() {
        let app = app();
        let mut browser = Browser::default();
        let mut id = None;
        browser.visit(&app, |session| {
            put(session, "a", 1);
            id = session.meta().map(|meta| meta.id());
        });
        browser.visit(&app, |session| {
            assert_eq!(get(session, "a"), Some(1));
            assert!(!session.is_new() && !session.is_changed());
            assert_eq!(session.meta().map(|meta| meta.id()), id);
        });
        assert!(id.is_some());
    }

    #[test]
    fn accessed_but_not_changed_sets_no_cookie() {
        let app = app();
        assert!(Browser::with_session(&app).visit(&app, read).sets_nothing());
    }

    #[test]
    fn accessed_and_changed_sets_a_cookie() {
        let app = app();
        let mut browser = Browser::with_session(&app);
        let before = browser.value().to_owned();
        let reply = browser.visit(&app, |session| put(session, "a", 5));
        assert_eq!(reply.cookie().name, NAME);
        assert_ne!(reply.cookie().value, before);
        browser.visit(&app, |session| assert_eq!(get(session, "a"), Some(5)));
    }
}

/// As `req.session = null`.
mod cleared_session {
    use super::*;

    #[test]
    fn is_expired() {
        let app = app();
        let mut browser = Browser::with_session(&app);
        let reply = browser.visit(&app, |session| assert!(session.clear()));
        assert!(reply.named(NAME)[0].is_removal(), "{reply:?}");
        assert!(!browser.jar.contains_key(NAME));
    }

    #[test]
    fn is_no_longer_returned() {
        let app = app();
        let mut browser = Browser::with_session(&app);
        browser.visit(&app, |session| {
            session.clear();
            // Not null, whose properties cannot be read: an empty session.
            assert_eq!(get::<u32>(session, "a"), None);
            assert!(session.is_new() && session.meta().is_none());
        });
        browser.visit(&app, |session| assert!(session.is_new() && !is_populated(session)));
    }
}

/// As `req.session = {…}`.
mod replaced_session {
    use super::*;

    fn map(entries: &[(&str, u32)]) -> SessionMap {
        let mut map = SessionMap::new();
        for (key, value) in entries {
            map.insert(*key, value).unwrap();
        }
        map
    }

    #[test]
    fn by_nothing_where_there_was_none_sets_no_cookie() {
        assert!(app().visit("", |session| session.set(map(&[])).unwrap()).sets_nothing());
    }

    #[test]
    fn by_values_is_a_session() {
        let app = app();
        let mut browser = Browser::default();
        let reply = browser.visit(&app, |session| session.set(map(&[("a", 7)])).unwrap());
        assert_eq!(reply.cookie().name, NAME);
        browser.visit(&app, |session| assert_eq!(get(session, "a"), Some(7)));
    }

    #[test]
    fn by_special_properties_is_no_error() {
        let app = app();
        let special = ["isNew", "isChanged", "isPopulated", "_ctx", "__proto__", "constructor", "toString"];
        let entries = special.map(|name| (name, 7));
        let mut browser = Browser::default();
        browser.visit(&app, |session| session.set(map(&entries)).unwrap());
        browser.visit(&app, |session| {
            assert_eq!(special.map(|name| get(session, name)), [Some(7); 7]);
            assert!(!session.is_new() && !session.is_changed());
        });
    }

    /// npm's module throws for what is neither null nor an object. Here the compiler refuses a value
    /// of another type (`from_express.md` has the doctest); what is left for run time is a value
    /// that cannot be stored, and that is an error and changes nothing.
    #[test]
    fn by_anything_else_is_an_error() {
        let app: App<Moody> = App::new(ring(KEY, &[]), |builder| builder);
        let mut browser = Browser::default();
        browser.visit(&app, |session| session.set(Moody(1)).unwrap());
        let reply = browser.visit(&app, |session| {
            let refused = session.set(Moody(UNWRITABLE));
            assert_eq!(refused, Err(UpdateError::NotEncodable(NotEncodable::Serialize)));
            assert_eq!(session.read(|value| value.0), 1);
        });
        assert!(reply.sets_nothing());
    }
}

/// A session's value that does not always encode, as a circular object or a `BigInt` does not.
#[derive(Default, Deserialize)]
struct Moody(u32);

const UNWRITABLE: u32 = 13;

impl Serialize for Moody {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == UNWRITABLE {
            return Err(serde::ser::Error::custom("circular"));
        }
        serializer.serialize_newtype_struct("Moody", &self.0)
    }
}

/// As `req.session.isPopulated`: `!map.is_empty()`, and with a struct of one's own whatever
/// "populated" means there.
mod populated {
    use super::*;

    #[test]
    fn is_false_on_a_new_session() {
        app().visit("", |session| assert!(!is_populated(session)));
    }

    #[test]
    fn is_true_after_adding_a_value() {
        app().visit("", |session| {
            put(session, "message", "hello");
            assert!(is_populated(session));
        });
    }

    #[test]
    fn is_true_when_loading_a_session() {
        let app = app();
        Browser::with_session(&app).visit(&app, |session| assert!(is_populated(session)));
    }

    #[test]
    fn does_not_conflict_with_a_session_value() {
        let app = app();
        let mut browser = Browser::default();
        browser.visit(&app, |session| {
            put(session, "isPopulated", false);
            assert!(is_populated(session));
        });
        browser.visit(&app, |session| {
            assert_eq!(get(session, "isPopulated"), Some(false));
            assert!(is_populated(session));
        });
    }
}

/// As `req.sessionOptions`. Settings are fixed at `build()`; what differs from session to session
/// is its lifetime, which is in the seal and so outlives the response.
mod session_options {
    use super::*;

    #[test]
    fn are_those_of_the_session() {
        let app = app_with(|builder| builder.idle_timeout(HOUR).max_own_lifetime(30 * DAY));
        app.visit("", |session| {
            put(session, "a", 1);
            let meta = session.meta().unwrap();
            assert_eq!(meta.lifetime(), Lifetime::Timeouts);
            assert_eq!(meta.expires_at(), app.clock.now() + HOUR);
            assert_eq!(meta.absolute_deadline(), app.clock.now() + 14 * DAY);
            session.set_lifetime(Lifetime::Own(30 * DAY)).unwrap();
            assert_eq!(session.meta().unwrap().lifetime(), Lifetime::Own(30 * DAY));
        });
    }

    #[test]
    fn alter_the_cookie() {
        let app = app();
        let mut browser = Browser::default();
        let reply = browser.visit(&app, |session| {
            put(session, "a", 1);
            session.set_lifetime(Lifetime::Own(DAY / 2)).unwrap();
        });
        assert_eq!(reply.cookie().max_age(), Some(12 * 60 * 60));
        // The next request's write keeps it, and other sessions do not get it.
        app.clock.pass(HOUR);
        let reply = browser.visit(&app, |session| put(session, "a", 2));
        assert_eq!(reply.cookie().max_age(), Some(11 * 60 * 60));
        let other = app.visit("", |session| put(session, "a", 1));
        assert_eq!(other.cookie().max_age(), Some(24 * 60 * 60));
    }
}

// The traps: at start-up.

/// The Express guide's own example sets `cookie: { secure, httpOnly, … }`, which npm's module
/// ignores without a word.
#[test]
fn options_at_the_wrong_place_are_refused_by_name() {
    is_no_setting("cookie", json!({ "secure": true, "httpOnly": true, "domain": "example.com" }));
    let error = configured(json!({ "cookie": {}, "maxAge": 1, "path": "foo/bar" })).unwrap_err();
    let text = error.to_string();
    assert!(["\"cookie\"", "\"maxAge\"", "foo/bar"].iter().all(|part| text.contains(part)), "{text}");
}

/// npm's `{ value: 'oops' }` replaces every session by `oops`; deprecated and misspelt options work
/// or do not, and nobody says which.
#[test]
fn an_option_that_is_none_is_refused_by_name() {
    let none = ["value", "secureProxy", "maxage", "maxAge", "expires", "secret", "priority", "secure"];
    none.into_iter().chain(["sameSite", "signed", "overwrite", ""]).for_each(|name| {
        is_no_setting(name, json!("oops"));
    });
}

#[test]
fn a_path_without_a_leading_slash_is_refused() {
    for path in ["foo/bar", ""] {
        let built = SessionLayer::<SessionMap>::builder(ring(KEY, &[])).name("id").path(path).build();
        assert!(matches!(built, Err(ConfigError::PathWithoutSlash { .. })), "{path:?}: {built:?}");
    }
}

/// With npm's module `maxAge: 0` means no expiry at all.
#[test]
fn a_lifetime_of_zero_is_refused() {
    let layer = || SessionLayer::<SessionMap>::builder(ring(KEY, &[]));
    let zero = Duration::ZERO;
    for (setting, built) in [
        ("idle_timeout", layer().idle_timeout(zero).build()),
        ("absolute_timeout", layer().absolute_timeout(zero).idle_timeout(zero).build()),
        ("max_own_lifetime", layer().max_own_lifetime(zero).build()),
    ] {
        let text = built.unwrap_err().to_string();
        assert!(text.contains(&format!("{setting} is 0ns: one second is the least")), "{setting}: {text}");
    }
    let reply = app().visit("", |session| {
        put(session, "a", 1);
        let refused = session.set_lifetime(Lifetime::Own(zero));
        assert_eq!(refused, Err(UpdateError::LifetimeTooShort { asked: zero }));
    });
    // The session has the lifetime that it had.
    assert_eq!(reply.cookie().max_age(), Some(24 * 60 * 60));
}

/// Milliseconds there, seconds elsewhere; a text, `NaN` or a date out of range loses every cookie.
#[test]
fn a_lifetime_without_a_unit_or_out_of_range_is_refused() {
    for value in [json!(3_600_000), json!("1000"), json!(1e17), json!("Infinity"), json!(-1), json!([])] {
        let error = refused("idle_timeout", value.clone());
        assert!(matches!(error, ConfigError::WrongValue { .. }), "{value}: {error}");
    }
    assert!(matches!(refused("absolute_timeout", json!("401days")), ConfigError::LifetimeTooLong { .. }));
    configured(json!({ "idle_timeout": "30m" })).unwrap();
}

#[test]
fn empty_short_and_guessable_keys_are_refused() {
    let short = "a7kla1zNMA84RMZzZhWHCrnJCh+SnouQSgEs6JOJfw=="; // 31 bytes
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for text in ["", " ", "a", "abc", "key1", "keyboard cat", short, zeros] {
        let error = text.parse::<Key>().unwrap_err().to_string();
        assert!(error.contains("openssl rand -base64 32"), "{text:?}: {error}");
        assert!(matches!(refused("keys", json!({ "primary": text })), ConfigError::Key(_)), "{text:?}");
        let fallback = json!({ "primary": KEY, "fallbacks": [text, OLD_KEY] });
        // An empty entry of a list is none.
        if !text.trim().is_empty() {
            assert!(matches!(refused("keys", fallback), ConfigError::Key(_)), "{text:?}");
        }
    }
}

/// npm's `keys: 'abc'`, a text in place of a list, loses every write and answers reads with 500.
#[test]
fn a_key_in_place_of_a_list_is_read_as_one() {
    let layer = configured(json!({ "keys": { "primary": KEY, "fallbacks": OLD_KEY } })).unwrap();
    let rotated = App { layer, clock: Clock::new() };
    let browser = Browser::with_session(&App::new(ring(OLD_KEY, &[]), |builder| builder));
    let opened = rotated.layer.codec().open(request(&browser.cookies()).headers(), rotated.clock.now());
    assert_eq!(opened.incoming(), Incoming::Accepted);
    // npm's own form, and a variable that was not set: refused, and nothing of a key is shown.
    for keys in [json!([KEY, OLD_KEY]), json!(KEY), json!({ "primary": KEY, "fallbacks": [null] })] {
        let error = refused("keys", keys);
        assert!(matches!(error, ConfigError::WrongValue { .. }), "{error}");
        assert!(!error.to_string().contains(&KEY[..8]), "{error}");
    }
}

/// npm's constructor fills its defaults into the caller's object.
#[test]
fn a_configuration_can_be_used_for_several_layers() {
    let settings = json!({ "keys": { "primary": KEY }, "context": "shop" });
    let config: SessionConfig = serde_json::from_value(settings).unwrap();
    let other = SessionLayer::<SessionMap>::from_config(config.clone()).name("other").context("other");
    let other = other.same_site(SameSite::Strict).idle_timeout(HOUR).build().unwrap();
    let same =
        |config: &SessionConfig| SessionLayer::<SessionMap>::from_config(config.clone()).build().unwrap();
    let cookies = [&same(&config), &other, &same(&config)].map(|layer| {
        let now = Clock::new().now();
        layer.codec().seal(&SessionMap::new(), None, None, now).unwrap()
    });
    let [before, other, after] = cookies.each_ref().map(|cookie| (cookie.name(), cookie.attributes()));
    assert_eq!(before, after);
    assert_ne!(before, other);
    let opened = same(&config)
        .codec()
        .open(&HeaderMap::from_iter([(COOKIE, cookies[0].request_header())]), Clock::new().now());
    assert_eq!(opened.incoming(), Incoming::Accepted);
}

/// CVE-2026-88038, and its like: cookies 0.9.1, which npm's module pins, sends them all.
#[test]
fn a_domain_or_path_cannot_smuggle_an_attribute_in() {
    let layer = || SessionLayer::<SessionMap>::builder(ring(KEY, &[])).name("id");
    for path in ["/; domain=evil.test", "/;HttpOnly", "/\r\nSet-Cookie: a=b", "/\n", "/\u{7f}", "/ä"] {
        let built = layer().path(path).build();
        assert!(matches!(built, Err(ConfigError::InvalidPath { .. })), "{path:?}: {built:?}");
    }
    for domain in ["example.com; samesite=none", "exa mple!.com", "example.com\r\n", "example.com,a", ""] {
        let built = layer().domain(domain).build();
        assert!(matches!(built, Err(ConfigError::InvalidDomain { .. })), "{domain:?}: {built:?}");
    }
    layer().path("/foo/bar").domain("example.com").build().unwrap();
}

/// npm's module writes `=eyJ…` for an empty name, drops the cookie for others, and lets a name
/// promise what its attributes do not keep.
#[test]
fn a_name_that_is_no_token_or_breaks_its_prefix_is_refused() {
    let layer = |name: &str| SessionLayer::<SessionMap>::builder(ring(KEY, &[])).name(name);
    for name in ["", "a b", "a=b", "a;b", "a,b", "ä", "日本", "a\"b", "a\tb", "a/b(c)", "a\nb"] {
        let built = layer(name).build();
        assert!(matches!(built, Err(ConfigError::InvalidName { .. })), "{name:?}: {built:?}");
    }
    for name in ["__Secure-x", "__Host-x", "__Http-x", "__Host-Http-x", "__hOST-x"] {
        let built = layer(name).insecure_for_local_http().build();
        assert!(matches!(built, Err(ConfigError::InsecurePrefix { .. })), "{name:?}: {built:?}");
    }
    let built = layer("__Host-x").domain("example.com").build();
    assert!(matches!(built, Err(ConfigError::HostPrefixWithDomain { .. })), "{built:?}");
    let built = layer("__Host-x").path("/foo").build();
    assert!(matches!(built, Err(ConfigError::HostPrefixWithPath { .. })), "{built:?}");
}

/// npm's default is no SameSite at all; a word that it does not know loses every cookie.
#[test]
fn same_site_is_lax_unless_set_and_an_unknown_word_is_refused() {
    let reply = app().visit("", |session| put(session, "a", 1));
    assert!(reply.cookie().has("SameSite=Lax"));
    for value in [json!("bogus"), json!("Lax"), json!(true), json!(false)] {
        assert!(matches!(refused("same_site", value.clone()), ConfigError::WrongValue { .. }), "{value}");
    }
    let strict = app_with(|builder| builder.same_site(SameSite::Strict));
    assert!(strict.visit("", |session| put(session, "a", 1)).cookie().has("SameSite=Strict"));
}

#[test]
fn same_site_none_or_partitioned_without_secure_is_refused() {
    let layer = || SessionLayer::<SessionMap>::builder(ring(KEY, &[])).insecure_for_local_http();
    assert_eq!(layer().same_site(SameSite::None).build().unwrap_err(), ConfigError::InsecureSameSiteNone);
    assert_eq!(layer().partitioned().build().unwrap_err(), ConfigError::InsecurePartitioned);
    let embedded = app_with(|builder| builder.same_site(SameSite::None).partitioned());
    let reply = embedded.visit("", |session| put(session, "a", 1));
    assert!(["SameSite=None", "Partitioned", "Secure"].iter().all(|attribute| reply.cookie().has(attribute)));
}

/// With `DEBUG=cookie-session` npm's module prints its keys and every session.
#[test]
fn debug_output_shows_neither_keys_nor_sessions() {
    let config: SessionConfig =
        serde_json::from_value(json!({ "keys": { "primary": KEY, "fallbacks": [OLD_KEY] } })).unwrap();
    let ring = ring(KEY, &[OLD_KEY]);
    let app = App::new(ring.clone(), |builder| builder);
    let mut shown = vec![
        format!("{:?}", key(KEY)),
        format!("{ring:?}"),
        format!("{:?}", KeyRingHandle::new(ring)),
        format!("{config:?}"),
        format!("{:?}", SessionLayer::<SessionMap>::from_config(config)),
        format!("{:?} {:?}", app.layer, app.layer.codec()),
        format!("{:?}", app.layer.layer(())),
    ];
    let mut browser = Browser::default();
    let reply = browser.visit(&app, |session| {
        put(session, "hunter2", "hunter2");
        shown.push(format!("{session:?} {:?}", session.get()));
    });
    shown.push(format!("{reply:?}"));
    let opened = app.layer.codec().open(request(&browser.cookies()).headers(), app.clock.now());
    shown.push(format!("{opened:?} {:?}", app.layer.codec().removals(&opened, app.clock.now())));
    let cookie = app.layer.codec().seal(&SessionMap::new(), None, None, app.clock.now()).unwrap();
    shown.push(format!("{cookie:?} {:?} {:?}", cookie.header(), cookie.request_header()));
    let secret = |key: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
        let hex: String = bytes[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        [key[..8].to_owned(), hex, format!("{}, {}, {}", bytes[0], bytes[1], bytes[2])]
    };
    let secrets = [secret(KEY), secret(OLD_KEY)].concat();
    let hidden = secrets.iter().map(String::as_str).chain(["hunter2", browser.value(), cookie.value()]);
    for hidden in hidden {
        assert!(!hidden.is_empty());
        assert!(shown.iter().all(|shown| !shown.contains(hidden)), "{hidden} in {shown:#?}");
    }
}

// The traps: what a session says.

/// As `req.session = {}`, which leaves the old cookie in the browser, and the user signed in.
#[test]
fn a_session_replaced_by_an_empty_one_is_empty_in_the_browser_too() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    let reply = browser.visit(&app, |session| session.set(SessionMap::new()).unwrap());
    assert_eq!(reply.cookie().name, NAME);
    browser.visit(&app, |session| assert!(!is_populated(session)));
}

#[test]
fn a_session_whose_values_were_all_taken_out_is_empty_in_the_browser_too() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    browser.visit(&app, |session| {
        assert!(session.update(|map| map.remove("a") && map.remove("b")).unwrap());
    });
    browser.visit(&app, |session| assert!(!is_populated(session) && !session.is_new()));
}

/// npm's module drops these when it loads a session; `length` once crashed it.
#[test]
fn names_that_javascript_reserves_are_ordinary_keys() {
    let names = [
        "__defineGetter__",
        "__lookupSetter__",
        "__proto__",
        "_ctx",
        "constructor",
        "hasOwnProperty",
        "isChanged",
        "isNew",
        "isPopulated",
        "length",
        "toJSON",
        "toString",
        "valueOf",
        "_private",
        "",
    ];
    let app = app();
    let mut browser = Browser::default();
    browser.visit(&app, |session| names.iter().for_each(|name| put(session, name, name)));
    let reply = browser.visit(&app, |session| {
        for name in names {
            assert_eq!(get(session, name), Some(name.to_owned()));
        }
        assert_eq!(session.read(SessionMap::len), names.len());
    });
    assert!(reply.sets_nothing());
}

/// npm's getters share the session's names: `req.session.isNew = 1` throws, or does nothing.
#[test]
fn what_is_known_of_a_session_and_what_is_in_it_do_not_meet() {
    let app = app();
    let mut browser = Browser::default();
    browser.visit(&app, |session| {
        put(session, "isNew", false);
        put(session, "isChanged", false);
        assert!(session.is_new() && session.is_changed());
    });
    browser.visit(&app, |session| {
        put(session, "isNew", true);
        assert!(!session.is_new() && session.is_changed());
        assert_eq!((get(session, "isNew"), get(session, "isChanged")), (Some(true), Some(false)));
    });
}

/// npm's module compares the JSON in the order of the keys; here equal content is no change.
#[test]
fn changed_and_changed_back_is_no_change_in_whatever_order() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    let reply = browser.visit(&app, |session| {
        put(session, "a", 3);
        assert!(session.is_changed());
        put(session, "a", 1);
        assert!(!session.is_changed());
        session.update(|map| map.remove("a")).unwrap();
        put(session, "a", 1);
        // Nor is the same content in a new map.
        let mut same = SessionMap::new();
        same.insert("b", &2).unwrap();
        same.insert("a", &1).unwrap();
        session.set(same).unwrap();
        assert!(!session.is_changed());
    });
    assert!(reply.sets_nothing());
}

#[test]
fn a_change_deep_inside_a_value_is_a_change() {
    let app: App<BTreeMap<String, BTreeMap<String, u32>>> = App::new(ring(KEY, &[]), |builder| builder);
    let mut browser = Browser::default();
    let inner = || BTreeMap::from([("x".to_owned(), 1)]);
    browser.visit(&app, |session| session.set(BTreeMap::from([("o".to_owned(), inner())])).unwrap());
    let deep = browser.visit(&app, |session| {
        session.update(|map| *map.get_mut("o").unwrap().get_mut("x").unwrap() = 2).unwrap();
    });
    assert_eq!(deep.cookie().name, NAME);
    browser.visit(&app, |session| session.read(|map| assert_eq!(map["o"]["x"], 2)));
}

/// npm's module swallows the error when the headers leave: status 200, and nothing is saved.
#[test]
fn a_value_that_does_not_encode_is_an_error_of_the_call() {
    struct Circular;
    impl Serialize for Circular {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("circular"))
        }
    }
    let app = app();
    let mut browser = Browser::with_session(&app);
    let reply = browser.visit(&app, |session| {
        let refused = session.try_update(|map| {
            map.insert("c", &1)?;
            map.insert("d", &Circular)
        });
        assert!(matches!(refused, Ok(Err(_))), "{refused:?}");
        assert_eq!((get::<u32>(session, "c"), get(session, "a")), (None, Some(1)));
        // What JSON has no form for, a BigInt say, is stored.
        put(session, "big", u128::MAX);
    });
    assert_eq!(reply.cookie().name, NAME);
    browser.visit(&app, |session| {
        assert_eq!((get(session, "big"), get::<u32>(session, "c")), (Some(u128::MAX), None));
    });
}

/// npm's module sends 80,038 bytes with status 200. A browser drops them, and what comes back from
/// one that does not is 431 before the application is asked.
#[test]
fn a_session_that_is_too_large_is_an_error_of_the_call_and_the_old_one_stays() {
    let app = app();
    let mut browser = Browser::default();
    let mut stored = 0;
    let error = loop {
        let mut refused = None;
        let reply = browser.visit(&app, |session| {
            assert_eq!(session.read(SessionMap::len), stored);
            let key = stored.to_string();
            refused = session.try_update(|map| map.insert(key, &"x".repeat(200))).err();
            assert_eq!(session.read(SessionMap::len), stored + usize::from(refused.is_none()));
        });
        if let Some(error) = refused {
            assert!(reply.sets_nothing());
            break error;
        }
        assert!(reply.cookies()[0].len() <= 4093 && browser.cookies().len() <= 4093);
        stored += 1;
    };
    assert!(stored > 10);
    let UpdateError::TooLarge(sizes) = error else { panic!("{error}") };
    assert!(sizes.needed() > 4093 && sizes.max_set_cookie() == 4093 && sizes.payload() > sizes.max_payload());
    app.visit(&browser.cookies(), |session| assert_eq!(session.read(SessionMap::len), stored));
    is_rejected(&app, &"A".repeat(20_000));
}

// The traps: when the headers leave.

/// npm's module forgets the change without a word.
#[test]
fn a_write_after_the_headers_left_is_an_error() {
    let app = app();
    let mut kept = None;
    let mut browser = Browser::with_session(&app);
    browser.visit(&app, |session| {
        put(session, "a", 3);
        kept = Some(session.clone());
    });
    let session = kept.unwrap();
    let late = session.try_update(|map| map.insert("a", &4));
    assert!(matches!(late, Err(UpdateError::Committed)), "{late:?}");
    assert_eq!(session.set(SessionMap::new()), Err(UpdateError::Committed));
    assert_eq!(session.set_lifetime(Lifetime::Browser), Err(UpdateError::Committed));
    assert_eq!(session.renew(), Err(UpdateError::Committed));
    assert!(!session.clear());
    assert_eq!(get(&session, "a"), Some(3));
}

/// npm's module throws `ERR_HTTP_HEADERS_SENT` there when the key is an old one.
#[test]
fn a_first_read_after_the_headers_left_works_with_an_old_key_too() {
    let (rotated, old) = rotated_and_old(|builder| builder);
    let mut kept = None;
    Browser::with_session(&old).visit(&rotated, |session| kept = Some(session.clone()));
    assert_eq!(get(&kept.unwrap(), "a"), Some(1));
}

/// npm's module saves what a handler had done before it failed.
#[test]
fn a_500_saves_nothing() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE] {
        let reply = browser.visit(&app, |session| {
            put(session, "a", 3);
            session.renew().unwrap();
            status
        });
        assert!(reply.status == status && reply.sets_nothing());
        let new = app.visit("", |session| {
            put(session, "a", 3);
            status
        });
        assert!(new.sets_nothing());
    }
    browser.visit(&app, |session| assert_eq!(get(session, "a"), Some(1)));
}

#[test]
fn redirects_304_and_404_carry_the_cookie() {
    let app = app();
    for status in [302, 303, 304, 400, 404, 422].map(|code| StatusCode::from_u16(code).unwrap()) {
        let reply = app.visit("", |session| {
            put(session, "a", 1);
            status
        });
        assert_eq!((reply.status, reply.cookie().name), (status, NAME));
    }
}

/// npm's module adds neither, so a shared cache may hand the first visitor's page to all.
#[test]
fn a_response_that_used_the_session_is_private_and_varies_by_cookie() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    for reply in [
        browser.visit(&app, read),
        browser.visit(&app, |session| put(session, "a", 3)),
        browser.visit(&app, |session| assert!(session.clear())),
        app.visit("", read),
    ] {
        assert_eq!(reply.headers[VARY], "Cookie");
        assert_eq!(reply.headers[CACHE_CONTROL], "private");
    }
    let cached = app.visit("", |session| {
        put(session, "a", 1);
        with_header(CACHE_CONTROL, "public, max-age=60")
    });
    assert_eq!(cached.headers[CACHE_CONTROL], "max-age=60, private");
}

/// A `writeHead` with a list of headers once lost some of them (CVE-2025-7339).
#[test]
fn other_headers_and_cookies_of_the_response_stay() {
    let reply = app().visit("", |session| {
        put(session, "a", 1);
        let mut response = with_header(SET_COOKIE, "foo=bar; Path=/");
        for (name, value) in [("set-cookie", "__Host-Http-sessionx=1; Path=/"), ("x-a", "1"), ("x-a", "2")] {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    });
    let [foo, similar, ours] = reply.cookies()[..] else { panic!("{reply:?}") };
    assert_eq!((foo, similar), ("foo=bar; Path=/", "__Host-Http-sessionx=1; Path=/"));
    assert_eq!(SetCookie::parse(ours).name, NAME);
    assert!(reply.headers.get_all("x-a").iter().eq(["1", "2"]));
}

// The traps: signing out.

/// With `secure: true` on a connection that looks like http, npm's module loses the deletion too.
#[test]
fn a_sign_out_does_not_depend_on_the_connection_or_the_status() {
    let app = app();
    let browser = Browser::with_session(&app);
    for proto in ["http", "https"] {
        for status in [200, 302, 404, 500, 503].map(|code| StatusCode::from_u16(code).unwrap()) {
            let mut request = request(&browser.cookies());
            *request.uri_mut() = "http://example.com/logout".parse().unwrap();
            request.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static(proto));
            let reply = app.serve(request, |parts| {
                assert!(Session::<SessionMap>::from_parts(parts).unwrap().clear());
                status
            });
            assert!(reply.named(NAME)[0].is_removal(), "{status} {proto}: {reply:?}");
        }
    }
}

/// Removal fails in a browser whenever its attributes differ from those that the cookie was set
/// with; a `maxAge` once prevented it.
#[test]
fn a_removal_has_the_attributes_of_the_cookie_that_it_removes() {
    let plain: fn(SessionBuilder<SessionMap>) -> SessionBuilder<SessionMap> = |builder| builder;
    for configure in [
        plain,
        |builder| builder.name("__Secure-id").domain("example.com").path("/foo").same_site(SameSite::Strict),
        |builder| builder.same_site(SameSite::None).partitioned(),
        |builder| builder.insecure_for_local_http(),
    ] {
        let app = app_with(configure);
        let mut browser = Browser::default();
        let set = browser.visit(&app, |session| {
            put(session, "a", 1);
            session.set_lifetime(Lifetime::Own(DAY)).unwrap();
        });
        let set = set.cookie();
        let reply = browser.visit(&app, |session| assert!(session.clear()));
        let [removal] = &reply.named(set.name)[..] else { panic!("{reply:?}") };
        assert!(removal.is_removal());
        assert_eq!(removal.without_max_age(), set.without_max_age());
    }
}

/// npm's module sends two deletions to whoever asks.
#[test]
fn a_sign_out_of_a_visitor_without_a_cookie_sets_nothing() {
    let app = app();
    assert!(app.visit("", |session| assert!(session.clear())).sets_nothing());
    assert!(app.visit("other=1", |session| assert!(session.clear())).sets_nothing());
}

/// `req.session = null` after a write: neither comes back by the other.
#[test]
fn a_sign_out_wins_over_the_writes_before_it() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    let reply = browser.visit(&app, |session| {
        put(session, "a", 3);
        session.set_lifetime(Lifetime::Own(DAY)).unwrap();
        assert!(session.clear());
    });
    assert!(reply.named(NAME)[0].is_removal(), "{reply:?}");
    browser.visit(&app, |session| assert!(session.is_new()));
}

/// `req.session = null`, then `req.session = { x: 1 }`.
#[test]
fn a_write_after_a_sign_out_is_another_session() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    let mut ids = Vec::new();
    let reply = browser.visit(&app, |session| {
        ids.push(session.meta().unwrap().id());
        session.clear();
        put(session, "x", 1);
    });
    assert!(!reply.named(NAME)[0].is_removal() && reply.named(NAME).len() == 1);
    browser.visit(&app, |session| {
        ids.push(session.meta().unwrap().id());
        assert_eq!((get(session, "x"), get::<u32>(session, "a")), (Some(1), None));
    });
    assert_ne!(ids[0], ids[1]);
}

/// npm's module accepts it, for ever: a slow response, a restored tab or a second click is enough.
#[test]
fn a_cookie_that_comes_back_after_sign_out_is_rejected_in_the_same_browser() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    let old = browser.value().to_owned();
    let reply = browser.visit(&app, |session| assert!(session.clear()));
    assert_eq!((reply.named(NAME).len(), reply.named(MARKER).len()), (1, 1));
    browser.jar.insert(NAME.to_owned(), old);
    for _ in 0..2 {
        browser.visit(&app, |session| {
            assert_eq!(rejected(session), Some(RejectedKind::SignedOut));
            assert!(!is_populated(session));
        });
        app.clock.pass(HOUR);
    }
    // Signing in again does not wait for anything.
    browser.visit(&app, |session| put(session, "a", 9));
    browser.visit(&app, |session| assert_eq!(get(session, "a"), Some(9)));
}

/// No client-side session can take back a copy in another browser by itself; npm's has no place to
/// ask a list either.
#[test]
fn a_copied_cookie_can_be_refused_by_its_sessions_id() {
    let denied = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let list = Arc::clone(&denied);
    let app =
        app_with(|builder| builder.accept_if(move |meta, _| !list.lock().unwrap().contains(&meta.id())));
    let mut browser = Browser::with_session(&app);
    let mut copy = browser.clone();
    browser.visit(&app, |session| {
        let id = session.meta().unwrap().id();
        denied.lock().unwrap().insert(id);
        assert!(session.clear());
    });
    copy.visit(&app, |session| assert_eq!(rejected(session), Some(RejectedKind::Refused)));
}

// The traps: what is accepted, and for how long.

/// npm's module sends an expiry and never looks at it again.
#[test]
fn a_cookie_replayed_after_its_lifetime_is_rejected() {
    let idle_and_own: [fn(&Session<SessionMap>); 3] = [
        |_| (),
        |session| session.set_lifetime(Lifetime::Own(2 * HOUR)).unwrap(),
        |session| session.set_lifetime(Lifetime::Browser).unwrap(),
    ];
    for (set_lifetime, lifetime) in idle_and_own.into_iter().zip([DAY, 2 * HOUR, DAY]) {
        let app = app();
        let mut browser = Browser::default();
        browser.visit(&app, |session| {
            put(session, "a", 1);
            set_lifetime(session);
        });
        let cookies = browser.cookies();
        app.clock.pass(lifetime - SECOND);
        app.visit(&cookies, |session| assert_eq!(get(session, "a"), Some(1)));
        app.clock.pass(SECOND);
        app.visit(&cookies, |session| {
            assert_eq!(rejected(session), Some(RejectedKind::Expired));
            assert!(!is_populated(session));
        });
    }
    // However active the user is, the absolute timeout holds.
    let app = app();
    let mut browser = Browser::with_session(&app);
    for _ in 0..14 {
        app.clock.pass(DAY - SECOND);
        browser.visit(&app, |session| put(session, "a", get::<u32>(session, "a").unwrap() + 1));
    }
    app.clock.pass(14 * SECOND);
    browser.visit(&app, |session| assert_eq!(rejected(session), Some(RejectedKind::Expired)));
}

/// npm's signature binds the cookie's name and nothing else.
#[test]
fn the_cookie_of_one_application_does_not_open_in_another_with_the_same_key_and_name() {
    let of = |context: &'static str| app_with(move |builder| builder.context(context));
    let (shop, forum) = (of("shop"), of("forum"));
    let browser = Browser::with_session(&shop);
    is_rejected(&forum, browser.value());
    is_rejected(&app(), browser.value());
    shop.visit(&browser.cookies(), |session| assert_eq!(get(session, "a"), Some(1)));
    // Nor does it under another name.
    let other = app_with(|builder| builder.name("__Host-Http-other").context("shop"));
    other.visit(&format!("__Host-Http-other={}", browser.value()), |session| {
        assert_eq!(rejected(session), Some(RejectedKind::NotAuthentic));
    });
}

/// npm's users take `keys` for encryption; its cookie is base64 that anybody reads.
#[test]
fn nobody_but_the_server_reads_the_session_unless_it_is_only_signed() {
    let content = |mode| {
        let app = app_with(|builder| builder.mode(mode));
        let reply = app.visit("", |session| put(session, "card", "4929 1234"));
        let sealed = URL_SAFE_NO_PAD.decode(reply.cookie().value).unwrap();
        String::from_utf8_lossy(&sealed).into_owned()
    };
    assert!(!["card", "4929"].iter().any(|text| content(Mode::Encrypted).contains(text)));
    assert!(content(Mode::Signed).contains("4929 1234"));
}

/// npm's module answers 500 for some, deletes part of others, and once crashed on more.
#[test]
fn no_cookie_that_a_client_can_send_is_an_error() {
    let app = app();
    let good = Browser::with_session(&app).value().to_owned();
    let json = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let values = [
        "".to_owned(),
        "=".to_owned(),
        "\"\"".to_owned(),
        "%00%ff".to_owned(),
        "null".to_owned(),
        json(r#"{"views":1}"#),
        json(r#"{"isPopulated":true,"isNew":true,"_ctx":{},"__proto__":{"admin":true}}"#),
        json("[1,2]"),
        "s%3Aabc.def".to_owned(),
        format!("{good}="),
        format!("\"{good}\""),
        format!("{good}A"),
        format!(" {good} x"),
        good[1..].to_owned(),
        good[..good.len() - 1].to_owned(),
        good[..7].to_owned(),
        "A".repeat(4096),
        "A".repeat(4097),
        "A".repeat(100_000),
    ];
    values.iter().for_each(|value| is_rejected(&app, value));
    let mut request = request("");
    for line in [&b"__Host-Http-session=\xff\xfe\xf0"[..], b"\xa0__Host-Http-session=x", b";;=;", b"=", b""] {
        request.headers_mut().append(COOKIE, HeaderValue::from_bytes(line).unwrap());
    }
    let reply = app.serve(request, |parts| read(&Session::from_parts(parts).unwrap()));
    assert!(reply.status == StatusCode::OK && reply.sets_nothing());
}

/// npm's module counts a payload that is not in its own form as changed at the first read, and
/// sends it again. Here one session has one text, and any other is left alone.
#[test]
fn a_cookie_that_is_only_read_is_not_sent_again_for_its_form() {
    let app = app();
    let browser = Browser::with_session(&app);
    let value = browser.value();
    is_rejected(&app, &format!("{value}="));
    // The same bytes for a lenient decoder: only the bits that are left over differ.
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (start, last) = value.split_at(value.len() - 1);
    let at = ALPHABET.find(last).unwrap();
    assert!(!value.len().is_multiple_of(4) && at.is_multiple_of(4), "the value has bits left over");
    is_rejected(&app, &format!("{start}{}", &ALPHABET[at + 1..at + 2]));
    let padded = format!("{NAME}= {value}\t; other=1");
    let reply = app.visit(&padded, |session| assert_eq!(get(session, "a"), Some(1)));
    assert!(reply.sets_nothing());
}

/// npm's module looks at the first alone, so a cookie tossed in from a subdomain hides the good one.
#[test]
fn of_several_cookies_of_one_name_the_good_one_is_found() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    let older = browser.value().to_owned();
    app.clock.pass(SECOND);
    browser.visit(&app, |session| put(session, "a", 3));
    let newer = browser.value();
    for cookies in [
        format!("{NAME}=junk; {NAME}={newer}"),
        format!("{NAME}={newer}; {NAME}=junk"),
        format!("{NAME}={older}; {NAME}={newer}"),
        format!("{NAME}={newer}; {NAME}={older}"),
        format!("{NAME}=; {NAME}={older}; x=y;{NAME}={newer}"),
    ] {
        app.visit(&cookies, |session| assert_eq!(get(session, "a"), Some(3), "{cookies}"));
    }
    let mut lines = request(&format!("{NAME}=junk"));
    lines.headers_mut().append(COOKIE, HeaderValue::try_from(browser.cookies()).unwrap());
    app.serve(lines, |parts| assert_eq!(get(&Session::from_parts(parts).unwrap(), "a"), Some(3)));
}

// The traps: rotation, and responses that overtake each other.

/// npm's module signs again with `path=/; httponly` and nothing else, so a login that was to last
/// ends with the browser.
#[test]
fn a_rotation_keeps_every_attribute_and_the_lifetime_that_is_left() {
    let attributes: fn(SessionBuilder<SessionMap>) -> SessionBuilder<SessionMap> = |builder| {
        builder
            .name("__Secure-id")
            .domain("example.com")
            .path("/foo")
            .same_site(SameSite::Strict)
            .partitioned()
    };
    for (own, left) in [(None, DAY), (Some(7 * DAY), 6 * DAY + DAY / 2)] {
        let (rotated, old) = rotated_and_old(attributes);
        let mut browser = Browser::default();
        let first = browser.visit(&old, |session| {
            put(session, "a", 1);
            if let Some(own) = own {
                session.set_lifetime(Lifetime::Own(own)).unwrap();
            }
        });
        // Not at once, or two instances in different stages of a deploy would flip it on each request.
        assert!(browser.visit(&rotated, read).sets_nothing());
        rotated.clock.pass(DAY / 2);
        let moved = browser.visit(&rotated, read);
        assert_eq!(moved.cookie().without_max_age(), first.cookie().without_max_age());
        assert_eq!(moved.cookie().max_age(), Some(left.as_secs()));
        // The old key is no longer needed.
        let new = App::new(ring(KEY, &[]), attributes);
        new.clock.pass(DAY / 2);
        browser.visit(&new, |session| assert_eq!(get(session, "a"), Some(1)));
    }
}

#[test]
fn a_cookie_of_an_old_key_moves_with_the_next_write() {
    let (rotated, old) = rotated_and_old(|builder| builder);
    let mut browser = Browser::with_session(&old);
    assert!(rotated.serve(request(&browser.cookies()), |_| ()).sets_nothing());
    let moved = browser.visit(&rotated, |session| put(session, "a", 3));
    assert_eq!(moved.cookie().name, NAME);
    browser.visit(&app(), |session| assert_eq!((get(session, "a"), get(session, "b")), (Some(3), Some(2))));
}

/// npm's hash cannot be changed without signing everyone out.
#[test]
fn the_mode_can_change_without_signing_anyone_out() {
    let signed = app_with(|builder| builder.mode(Mode::Signed));
    let both = app_with(|builder| builder.mode(Mode::Encrypted).accept_mode(Mode::Signed));
    let mut browser = Browser::with_session(&signed);
    browser.visit(&both, |session| put(session, "a", get::<u32>(session, "a").unwrap() + 1));
    browser.visit(&app(), |session| {
        assert_eq!((get(session, "a"), session.meta().unwrap().mode()), (Some(2), Mode::Encrypted));
    });
}

/// Why npm's module has no `rolling`: the slowest of several requests would win.
#[test]
fn a_slow_response_does_not_undo_a_newer_one() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    app.clock.pass(DAY / 2);
    let slow = app.visit(&browser.cookies(), |session| {
        read(session);
        app.clock.pass(11 * SECOND);
    });
    assert!(slow.sets_nothing());
    // A quick one keeps an active user signed in, and only when it is time.
    assert_eq!(browser.visit(&app, read).cookie().name, NAME);
    assert!(browser.visit(&app, read).sets_nothing());
}

/// express-session sends nothing when only `cookie.maxAge` changed, and no more on `touch()`.
#[test]
fn a_change_of_the_lifetime_alone_is_sent() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    let reply = browser.visit(&app, |session| session.set_lifetime(Lifetime::Own(10 * DAY)).unwrap());
    assert_eq!(reply.cookie().max_age(), Some(10 * 24 * 60 * 60));
    let reply = browser.visit(&app, |session| session.set_lifetime(Lifetime::Browser).unwrap());
    assert_eq!(reply.cookie().max_age(), None);
    browser.visit(&app, |session| assert_eq!(get(session, "a"), Some(1)));
}

/// npm's module has no `regenerate`, which Passport calls at sign-in.
#[test]
fn a_session_gets_a_new_id_at_sign_in_and_keeps_its_data() {
    let app = app();
    let mut browser = Browser::with_session(&app);
    let mut ids = Vec::new();
    let reply = browser.visit(&app, |session| {
        ids.push(session.meta().unwrap().id());
        assert_eq!(session.renew().unwrap().as_ref(), ids.last());
        ids.push(session.meta().unwrap().id());
    });
    assert_eq!(reply.cookie().name, NAME);
    browser.visit(&app, |session| {
        assert_eq!(session.meta().unwrap().id(), ids[1]);
        assert_eq!(get(session, "a"), Some(1));
    });
    assert_ne!(ids[0], ids[1]);
}

// The traps: several layers, and none.

/// npm's module answers with a single cookie, of the second name, with the first one's content,
/// signed with the first one's key.
#[test]
fn two_layers_in_one_application_keep_their_sessions_apart() {
    let one: App<u32> = App::new(ring(KEY, &[]), |builder| builder.name("__Host-Http-one"));
    let two: App<String> = App::new(ring(OLD_KEY, &[]), |builder| builder.name("__Host-Http-two"));
    let write = |parts: &mut Parts| {
        Session::<u32>::from_parts(parts).unwrap().set(1).unwrap();
        Session::<String>::from_parts(parts).unwrap().set("two".to_owned()).unwrap();
    };
    for reply in [
        serve(&(&one.layer, &two.layer), request(""), write),
        serve(&(&two.layer, &one.layer), request(""), write),
    ] {
        let mut browser = Browser::default();
        browser.receive(&reply);
        assert_eq!((reply.cookies().len(), browser.jar.len()), (2, 2));
        browser.visit(&one, |session| assert_eq!(session.get(), 1));
        browser.visit(&two, |session| assert_eq!(session.get(), "two"));
        serve(&(&one.layer, &two.layer), request(&browser.cookies()), |parts| {
            assert_eq!(Session::<u32>::from_parts(parts).unwrap().get(), 1);
            assert_eq!(Session::<String>::from_parts(parts).unwrap().get(), "two");
        });
    }
}

/// The inner one has other settings, none of which is used.
#[test]
fn a_layer_inside_one_of_the_same_type_and_name_passes_through() {
    let outer = app();
    let inner = app_with(|builder| builder.context("inner").same_site(SameSite::Strict));
    let mut browser = Browser::with_session(&outer);
    let reply = serve(&(&outer.layer, &inner.layer), request(&browser.cookies()), |parts| {
        let session = Session::from_parts(parts).unwrap();
        assert_eq!(get(&session, "a"), Some(1));
        put(&session, "a", 3);
    });
    assert!(reply.cookie().name == NAME && reply.cookie().has("SameSite=Lax"));
    browser.receive(&reply);
    browser.visit(&outer, |session| assert_eq!(get(session, "a"), Some(3)));
}

/// Two cookies of one type need newtypes; without them the inner layer is the one in use, and the
/// outer one's cookie is not touched.
#[test]
fn a_layer_inside_one_of_the_same_type_and_another_name_corrupts_nothing() {
    let outer = app_with(|builder| builder.name("__Host-Http-outer"));
    let inner = app();
    let mut browser = Browser::default();
    browser.visit(&outer, |session| put(session, "a", 1));
    let reply = serve(&(&outer.layer, &inner.layer), request(&browser.cookies()), |parts| {
        put(&Session::from_parts(parts).unwrap(), "a", 3);
    });
    assert_eq!(reply.cookie().name, NAME);
    browser.receive(&reply);
    browser.visit(&inner, |session| assert_eq!(get(session, "a"), Some(3)));
    browser.visit(&outer, |session| assert_eq!(get(session, "a"), Some(1)));
}

/// express-session leaves `req.session` undefined outside its path, and the handler fails on it.
#[test]
fn without_a_layer_the_session_is_an_error_that_says_so() {
    let (parts, ()) = request("").into_parts();
    let missing: MissingLayer = Session::<SessionMap>::from_parts(&parts).unwrap_err();
    assert!(missing.to_string().contains("add a SessionLayer<"), "{missing}");
    // Nor does another type's layer do.
    app().serve(request(""), |parts| assert!(Session::<u32>::from_parts(parts).is_err()));
}

#[cfg(feature = "axum")]
mod with_axum {
    use super::*;
    use axum::{Router, body::Body, body::to_bytes, routing::get};
    use tower::ServiceExt as _;

    async fn send(app: &Router, path: &str, cookies: &str) -> (Reply, String) {
        let mut request = request(cookies).map(|()| Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 10_000).await.unwrap();
        let reply = Reply { status: parts.status, headers: parts.headers };
        (reply, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The counter of npm's README.
    #[tokio::test]
    async fn views_are_counted() {
        #[derive(Default, Serialize, Deserialize)]
        struct Visits {
            views: u64,
        }

        async fn views(session: Session<Visits>) -> Result<String, UpdateError> {
            session.update(|visits| {
                visits.views += 1;
                format!("{} views", visits.views)
            })
        }

        let sessions = SessionLayer::<Visits>::builder(ring(KEY, &[])).build().unwrap();
        let app = Router::new().route("/", get(views)).layer(sessions);
        let mut browser = Browser::default();
        for count in 1..4 {
            let (reply, body) = send(&app, "/", &browser.cookies()).await;
            browser.receive(&reply);
            assert_eq!(body, format!("{count} views"));
        }
    }

    /// npm's module hands `The "key" argument must be of type string…` to the error handler, whose
    /// default shows it to the client.
    #[tokio::test]
    async fn an_error_of_the_session_tells_the_client_nothing() {
        async fn oversize(session: Session<Vec<String>>) -> Result<(), UpdateError> {
            session.update(|list| list.push("hunter2".repeat(1000)))
        }

        let sessions = SessionLayer::<Vec<String>>::builder(ring(KEY, &[])).build().unwrap();
        let app = Router::new().route("/", get(oversize)).layer(sessions);
        let (reply, body) = send(&app, "/", "").await;
        assert_eq!((reply.status, body.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, ""));
        assert!(reply.sets_nothing());
    }
}

#[test]
fn what_a_map_cannot_store_or_read_is_said_with_the_key_and_the_type_and_without_the_value() {
    #[derive(Serialize)]
    struct Refuses(#[serde(serialize_with = "refuse")] &'static str);
    fn refuse<S: serde::Serializer>(secret: &&'static str, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(secret))
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Page {
        title: String,
    }
    let mut map = SessionMap::new();
    map.insert("cart", "hunter2").unwrap();
    map.insert("page", &BTreeMap::from([("hunter2", 1)])).unwrap();
    let nested = (0..200).fold(json!("hunter2"), |inner, _| json!([inner]));
    let errors = [
        (map.get::<u8>("cart").unwrap_err(), "`u8`", "of another type"),
        (map.get::<Page>("page").unwrap_err(), "Page`", "no field `title`"),
        (map.insert("cart", &nested).unwrap_err(), "Value`", "too deep"),
        (
            map.insert("cart", &BTreeMap::from([((1, 2), 3)])).unwrap_err(),
            "BTreeMap",
            "a map key is not text",
        ),
        (map.insert("cart", &Refuses("hunter2")).unwrap_err(), "Refuses`", "Serialize implementation failed"),
    ];
    for (error, type_name, reason) in errors {
        let said = error.to_string();
        assert!(
            ["cart", "page"].contains(&error.key()) && said.contains(&format!("{:?}", error.key())),
            "{said}"
        );
        assert!(said.contains(type_name) && said.contains(reason) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_map_reads_what_was_stored_and_no_variant_with_another_content() {
    #[derive(Serialize)]
    enum Stored {
        Placed(u8),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    enum Read {
        Placed,
    }
    let mut map = SessionMap::new();
    map.insert("flags", &BTreeMap::from([(false, 1), (true, 2)])).unwrap();
    let texts = BTreeMap::from([("false".to_owned(), 1), ("true".to_owned(), 2)]);
    assert_eq!(map.get("flags"), Ok(Some(texts)));
    map.insert("step", &Stored::Placed(5)).unwrap();
    assert!(map.get::<Read>("step").is_err());
    // As JSON's `{"Placed": null}`.
    map.insert("step", &BTreeMap::from([("Placed", ())])).unwrap();
    assert_eq!(map.get("step"), Ok(Some(Read::Placed)));
    map.insert("step", "Placed").unwrap();
    assert_eq!(map.get("step"), Ok(Some(Read::Placed)));
}
