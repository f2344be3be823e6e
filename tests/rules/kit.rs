//! A driven clock, one request through a layer, and a look at what comes out.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use cookie_session::{Key, KeyRing, Opened, Session, SessionBuilder, SessionLayer, SessionMeta, SetCookie};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{COOKIE, SET_COOKIE},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    convert::Infallible,
    panic::resume_unwind,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer, Service, service_fn};

pub const NAME: &str = "__Host-Http-session";
pub const OUT: &str = "__Host-Http-session-out";

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(60 * 60);
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub const MILLI: Duration = Duration::from_millis(1);

pub trait Data: Default + Serialize + DeserializeOwned + Send + 'static {}
impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Data for T {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shop {
    pub user: Option<u64>,
    pub cart: Vec<u32>,
}

pub fn user(user: u64) -> Shop {
    Shop { user: Some(user), cart: Vec::new() }
}

#[derive(Clone, Debug)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn new() -> Clock {
        Clock(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }

    pub fn millis(&self) -> u64 {
        self.0.load(SeqCst)
    }

    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.millis())
    }

    pub fn pass(&self, by: Duration) {
        self.0.fetch_add(millis(by), SeqCst);
    }

    pub fn back(&self, by: Duration) {
        self.0.fetch_sub(millis(by), SeqCst);
    }

    pub fn set(&self, to: SystemTime) {
        self.0.store(millis(to.duration_since(UNIX_EPOCH).expect("after 1970")), SeqCst);
    }

    pub fn hook(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let clock = self.clone();
        move || clock.now()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a test's time")
}

pub fn key() -> Key {
    Key::generate().expect("randomness")
}

pub fn ring() -> KeyRing {
    KeyRing::new(key(), []).expect("one key")
}

/// A layer's settings: a key of its own, and this clock.
pub fn builder<T: Data>(clock: &Clock) -> SessionBuilder<T> {
    builder_over(ring(), clock)
}

pub fn builder_over<T: Data>(ring: KeyRing, clock: &Clock) -> SessionBuilder<T> {
    SessionLayer::builder(ring).clock(clock.hook())
}

pub fn layer<T: Data>(clock: &Clock) -> SessionLayer<T> {
    builder(clock).build().expect("good settings")
}

/// A request with this `Cookie` header; empty means none.
pub fn request(cookies: &str) -> Request<()> {
    let mut request = Request::new(());
    if !cookies.is_empty() {
        request.headers_mut().insert(COOKIE, HeaderValue::from_str(cookies).expect("a header's text"));
    }
    request
}

/// Polls once: nothing in these tests, and nothing in the layer, has to wait.
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a future that waits"),
    }
}

/// One request through the layer, to a handler that takes the session.
pub fn respond<T: Data>(
    layer: &SessionLayer<T>,
    request: Request<()>,
    handler: impl FnOnce(Session<T>) -> Response<()>,
) -> Response<()> {
    let mut handler = Some(handler);
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = Session::from_parts(&parts).expect("the layer is around");
        // As a server does, the request goes before its response.
        drop(parts);
        let handler = handler.take().expect("one request");
        std::future::ready(Ok::<_, Infallible>(handler(session)))
    }));
    let Ok(response) = ready(service.call(request));
    response
}

/// A request with these cookies that answers 200: what the handler returned, and the response.
pub fn visit<T: Data, R>(
    layer: &SessionLayer<T>,
    cookies: &str,
    handler: impl FnOnce(&Session<T>) -> R,
) -> (R, Response<()>) {
    let mut result = None;
    let response = respond(layer, request(cookies), |session| {
        result = Some(handler(&session));
        Response::new(())
    });
    (result.expect("the handler ran"), response)
}

pub fn status(code: u16) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response
}

/// `name=value`, as a client sends it back.
pub fn sent(cookie: &SetCookie) -> String {
    cookie.request_header().to_str().expect("ASCII").to_owned()
}

/// A cookie that the layer would have made now.
pub fn sealed<T: Data>(layer: &SessionLayer<T>, value: &T, now: SystemTime) -> String {
    sent(&layer.codec().seal(value, None, None, now).expect("it fits"))
}

/// The whole `Set-Cookie` lines.
pub fn lines<B>(response: &Response<B>) -> Vec<String> {
    let text = |line: &HeaderValue| line.to_str().expect("ASCII").to_owned();
    response.headers().get_all(SET_COOKIE).iter().map(text).collect()
}

pub fn cookies_in<B>(response: &Response<B>) -> Vec<cookie::Cookie<'static>> {
    lines(response).into_iter().map(|line| cookie::Cookie::parse(line).expect("it parses")).collect()
}

/// The names of all cookies that a response sets or removes, sorted.
pub fn names<B>(response: &Response<B>) -> Vec<String> {
    let mut names: Vec<_> = cookies_in(response).iter().map(|cookie| cookie.name().to_owned()).collect();
    names.sort();
    names
}

/// The one cookie of this name, if the response has it.
pub fn cookie_in<B>(response: &Response<B>, name: &str) -> Option<cookie::Cookie<'static>> {
    let mut found: Vec<_> = cookies_in(response).into_iter().filter(|cookie| cookie.name() == name).collect();
    assert!(found.len() < 2, "{name} stands there {} times", found.len());
    found.pop()
}

/// The session cookie that a response sets, as a client sends it back.
pub fn session_in<B>(response: &Response<B>) -> Option<String> {
    let cookie = cookie_in(response, NAME)?;
    (!cookie.value().is_empty()).then(|| format!("{NAME}={}", cookie.value()))
}

/// The sign-out marker that a response sets, as a client sends it back.
pub fn marker_in<B>(response: &Response<B>) -> Option<String> {
    let cookie = cookie_in(response, OUT)?;
    assert!(!cookie.value().is_empty(), "a marker is never removed");
    Some(format!("{OUT}={}", cookie.value()))
}

pub fn max_age(cookie: &cookie::Cookie<'_>) -> Option<i64> {
    cookie.max_age().map(|max_age| max_age.whole_seconds())
}

/// Whether a response removes the session cookie.
pub fn removes_session<B>(response: &Response<B>) -> bool {
    cookie_in(response, NAME).is_some_and(|cookie| cookie.value().is_empty() && max_age(&cookie) == Some(0))
}

pub fn open<T: Data>(layer: &SessionLayer<T>, cookies: &str, now: SystemTime) -> Opened<T> {
    let value = HeaderValue::from_str(cookies).expect("a header's text");
    layer.codec().open(&HeaderMap::from_iter([(COOKIE, value)]), now)
}

pub fn meta<T: Data>(layer: &SessionLayer<T>, cookies: &str, now: SystemTime) -> SessionMeta {
    open(layer, cookies, now).meta().expect("it is accepted").clone()
}

/// The time in a marker.
pub fn marker_time<T: Data>(layer: &SessionLayer<T>, cookies: &str) -> Option<SystemTime> {
    open(layer, cookies, UNIX_EPOCH).marker()
}

/// The encoded session in a *signed* cookie, which anybody can read.
pub fn signed_payload(cookie: &str) -> Vec<u8> {
    const HEAD: usize = 1 + 4 + 45;
    const MAC: usize = 32;
    let (_, value) = cookie.split_once('=').expect("name=value");
    let frame = BASE64_URL_SAFE_NO_PAD.decode(value).expect("base64url");
    assert_eq!(frame.first(), Some(&2), "not signed");
    frame[HEAD..frame.len() - MAC].to_vec()
}

/// Runs `body` on a thread of its own; one that never ends fails the test instead of hanging it.
pub fn ends<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = body();
        let _ = tell.send(());
        result
    });
    match told.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it waits for ever"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        }
    }
}
