//! What the compiler can do with the public types, and what their `Debug` keeps to itself.

mod common;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use common::serve;
use cookie_session::{
    ConfigError, Counters, Identity, Imported, Incoming, Key, KeyError, KeyId, KeyRing, KeyRingHandle,
    Lifetime, MapError, MissingLayer, Mode, NotEncodable, OldCookies, OldFormat, Opened, ParseIdError,
    RejectedKind, Removals, ResponseFuture, SameSite, Session, SessionBuilder, SessionCodec, SessionConfig,
    SessionId, SessionLayer, SessionMap, SessionMeta, SessionService, SetCookie, Shape, Shown, TooLarge,
    UpdateError, Weakness,
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use serde::{Deserialize, Serialize};
use std::{
    cell::Cell,
    convert::Infallible,
    error::Error,
    fmt::Debug,
    future::{Ready, ready},
    hash::Hash,
    panic::{RefUnwindSafe, UnwindSafe},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer as _, Service, service_fn};

/// `Send`, and not `Sync`, `Clone` or `Debug`.
#[derive(Default, Serialize, Deserialize)]
struct Plain {
    count: Cell<u32>,
    _not_clone: NotClone,
}

#[derive(Default, Serialize, Deserialize)]
struct NotClone;

fn send_sync_unpin<T: Send + Sync + Unpin>() {}
fn cloneable<T: Clone>() {}
fn copyable<T: Copy + Eq + Debug>() {}
fn hashable<T: Hash>() {}
fn unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
fn debuggable<T: Debug>() {}
fn an_error<T: Error + Clone + PartialEq + Send + Sync + Unpin + UnwindSafe + 'static>() {}

#[test]
fn what_a_service_holds_can_be_sent_and_shared_for_any_type_that_can_be_sent() {
    send_sync_unpin::<Session<Plain>>();
    send_sync_unpin::<SessionLayer<Plain>>();
    send_sync_unpin::<SessionCodec<Plain>>();
    send_sync_unpin::<SessionBuilder<Plain>>();
    send_sync_unpin::<SessionService<(), Plain>>();
    send_sync_unpin::<ResponseFuture<(), Plain>>();
    cloneable::<Session<Plain>>();
    cloneable::<SessionLayer<Plain>>();
    cloneable::<SessionService<(), Plain>>();
    debuggable::<Session<Plain>>();
    debuggable::<SessionLayer<Plain>>();
    debuggable::<SessionCodec<Plain>>();
    debuggable::<SessionBuilder<Plain>>();
    debuggable::<SessionService<(), Plain>>();
    debuggable::<ResponseFuture<(), Plain>>();
    debuggable::<Opened<Plain>>();
    send_sync_unpin::<Imported<u64>>();
    debuggable::<Imported<Plain>>();
    debuggable::<OldCookies<'_>>();
    send_sync_unpin::<Box<dyn OldFormat<Plain>>>();
}

#[cfg(feature = "express")]
#[test]
fn express_can_be_sent_and_shared_and_shows_no_key() {
    use cookie_session::{Digest, Encoding, Express};
    send_sync_unpin::<Express<Plain>>();
    copyable::<Digest>();
    copyable::<Encoding>();
    let express = Express::<u64>::new(Identity::named("session"), b"hunter2hunter2hunter2", &[b"hunter3"]);
    assert_eq!(format!("{:?}", express.digest(Digest::Sha256)), "Express { digest: Sha256, .. }");
}

#[cfg(feature = "jar")]
#[test]
fn jars_and_their_keys_can_be_sent_and_shared_and_show_no_key() {
    use cookie_session::{Jar, JarKey};
    send_sync_unpin::<Jar<Plain>>();
    send_sync_unpin::<JarKey>();
    cloneable::<JarKey>();
    let key = JarKey::new(&[b'k'; 64]);
    assert_eq!(format!("{key:?}"), "JarKey(..)");
    let jar = Jar::<u64>::private(Identity::named("jar"), key, |_| None);
    assert_eq!(format!("{jar:?}"), "Jar { key: JarKey(..), .. }");
}

#[test]
fn keys_and_settings_can_be_sent_and_shared_and_survive_a_panic() {
    macro_rules! all {
        ($($t:ty)*) => {$(
            send_sync_unpin::<$t>();
            unwind_safe::<$t>();
            cloneable::<$t>();
            debuggable::<$t>();
        )*};
    }
    all!(Key KeyId KeyRing KeyRingHandle Counters Mode SameSite Lifetime Identity SessionConfig);
    all!(SessionId SessionMeta SetCookie SessionMap Shape Incoming RejectedKind Shown Weakness);
    send_sync_unpin::<Removals>();
    send_sync_unpin::<Opened<u32>>();
    unwind_safe::<Removals>();
    unwind_safe::<Opened<u32>>();
}

#[test]
fn small_values_are_copied() {
    copyable::<KeyId>();
    copyable::<SessionId>();
    copyable::<Shape>();
    copyable::<Mode>();
    copyable::<SameSite>();
    copyable::<Lifetime>();
    copyable::<Incoming>();
    copyable::<RejectedKind>();
    copyable::<Weakness>();
    hashable::<KeyId>();
    hashable::<SessionId>();
    hashable::<Shape>();
    hashable::<Incoming>();
    hashable::<RejectedKind>();
}

#[test]
fn errors_go_where_errors_go() {
    an_error::<KeyError>();
    an_error::<ConfigError>();
    an_error::<MissingLayer>();
    an_error::<UpdateError>();
    an_error::<TooLarge>();
    an_error::<NotEncodable>();
    an_error::<MapError>();
    an_error::<ParseIdError>();
    fn handler() -> Result<(), Box<dyn Error + Send + Sync>> {
        "".parse::<Key>()?;
        Ok(())
    }
    assert_eq!(handler().unwrap_err().downcast_ref::<KeyError>(), Some(&KeyError::Empty));
}

#[test]
fn errors_say_it_once() {
    /// As reports print an error: with all its sources.
    fn said(error: &dyn Error) -> String {
        let source = error.source().map(said);
        [error.to_string()].into_iter().chain(source).collect::<Vec<_>>().join(": ")
    }
    let error = Session::detached(String::new()).set("x".repeat(9000)).unwrap_err();
    let UpdateError::TooLarge(inner) = &error else { panic!("{error:?}") };
    assert_eq!(said(&error).matches(&inner.to_string()).count(), 1);
    let error = ConfigError::from(KeyError::Empty);
    assert_eq!(said(&error).matches(&KeyError::Empty.to_string()).count(), 1);
    let error = KeyError::At { place: "SESSION_KEY".to_owned(), error: Box::new(KeyError::Empty) };
    assert_eq!(said(&error).matches(&KeyError::Empty.to_string()).count(), 1);
}

#[test]
fn threads_share_a_session_of_a_type_that_they_could_not_share() {
    let session = Session::detached(Plain::default());
    thread::scope(|scope| {
        for _ in 0..4 {
            let session = session.clone();
            scope.spawn(move || {
                for _ in 0..50 {
                    session.update(|plain| plain.count.set(plain.count.get() + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(session.read(|plain| plain.count.get()), 200);
}

#[test]
fn a_future_that_holds_a_session_can_be_sent() {
    fn sendable(_: &impl Send) {}
    let session = Session::detached(Plain::default());
    let future = async move {
        ready(()).await;
        session.read(|plain| plain.count.get())
    };
    sendable(&future);
    let mut service =
        layer().layer(service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(())))));
    sendable(&service.call(Request::new(())));
}

// What `Debug` keeps to itself.

/// What must not be told, in every form in which `Debug` might tell it.
struct Secrets(Vec<String>);

impl Secrets {
    /// A key, the session's content and the cookies that carry it.
    fn all() -> Self {
        let (layer, cookie) = (layer(), cookie());
        let opened = layer.codec().open(&request(cookie.request_header()), noon());
        let removals = layer.codec().removals(&opened, noon());
        let marker = removals.cookies().last().unwrap();
        Secrets(Vec::new())
            .bytes(&STANDARD.decode(KEY).unwrap())
            .bytes(&STANDARD.decode(FALLBACK).unwrap())
            .bytes(NOTE.as_bytes())
            .bytes(&CARD.to_le_bytes())
            .text(NOTE)
            .text(&CARD.to_string())
            .text(cookie.value())
            .bytes(cookie.value().as_bytes())
            .text(marker.value())
    }

    fn text(mut self, text: &str) -> Self {
        self.0.push(text.to_owned());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let list = format!("{bytes:?}");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex_list = format!("{bytes:02x?}");
        self.text(&STANDARD.encode(bytes))
            .text(&URL_SAFE_NO_PAD.encode(bytes))
            .text(&hex.to_uppercase())
            .text(&hex)
            .text(list.trim_matches(['[', ']']))
            .text(hex_list.trim_matches(['[', ']']))
    }

    /// The part of a secret that is in this text, if any is; shorter ones are there by chance.
    fn find(&self, text: &str) -> Option<&str> {
        const TELLING: usize = 9;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let parts = |secret| {
            let starts = 0..=str::len(secret).saturating_sub(TELLING);
            starts.map(move |at| &secret[at..secret.len().min(at + TELLING)])
        };
        self.0.iter().flat_map(|secret| parts(secret)).find(|part| text.contains(part))
    }

    fn are_kept_by(&self, shown: &dyn Debug) {
        for text in [format!("{shown:?}"), format!("{shown:#?}")] {
            assert!(!text.is_empty());
            assert_eq!(self.find(&text), None, "{text}");
        }
    }
}

#[test]
fn the_search_for_secrets_finds_them() {
    let key = STANDARD.decode(KEY).unwrap();
    let (cookie, secrets) = (cookie(), Secrets::all());
    for text in [
        format!("Key({KEY})"),
        format!("{key:?}"),
        format!("{key:#?}"),
        format!("{key:x?}"),
        format!("{:?}", &key[20..24]),
        format!("{:?}", shop()),
        format!("{:#?}", shop()),
        format!("{NOTE:?}"),
    ] {
        assert!(secrets.find(&text).is_some(), "{text}");
    }
    let secrets = Secrets(Vec::new()).text(cookie.value());
    assert!(secrets.find(cookie.header().to_str().unwrap()).is_some());
    assert_eq!(secrets.find("Session { .. }"), None);
}

#[test]
fn a_key_shows_its_id() {
    let key: Key = KEY.parse().unwrap();
    assert_eq!(format!("{key:?}"), format!("Key({}, ..)", key.id()));
    Secrets::all().are_kept_by(&key);
    Secrets::all().are_kept_by(&key.id());
}

#[test]
fn a_key_ring_shows_ids() {
    let text = format!("{:?}", ring());
    for key in [KEY, FALLBACK] {
        assert!(text.contains(&key.parse::<Key>().unwrap().id().to_string()), "{text}");
    }
    Secrets::all().are_kept_by(&ring());
}

#[test]
fn a_ring_handle_keeps_its_keys() {
    let handle = KeyRingHandle::new(ring());
    let _layer = SessionLayer::<Shop>::builder(handle.clone()).build().unwrap();
    Secrets::all().are_kept_by(&handle);
    Secrets::all().are_kept_by(&handle.counters());
}

#[test]
fn a_layer_keeps_its_keys() {
    Secrets::all().are_kept_by(&layer());
    Secrets::all().are_kept_by(&layer().keys());
    assert!(format!("{:?}", layer()).contains(NAME));
}

#[test]
fn a_codec_keeps_its_keys() {
    Secrets::all().are_kept_by(layer().codec());
}

#[test]
fn a_builder_keeps_its_keys() {
    Secrets::all().are_kept_by(&SessionLayer::<Shop>::builder(ring()).context("shop"));
    Secrets::all()
        .are_kept_by(&SessionLayer::<Shop>::from_config(config(&format!("keys.primary = '{KEY}'"))));
}

#[test]
fn a_configuration_keeps_keys_wherever_they_stand() {
    for text in [
        format!("keys.primary = '{KEY}'\nkeys.fallbacks = ['{FALLBACK}']"),
        format!("keys.fallbacks = '{KEY},{FALLBACK}'"),
        format!("key = '{KEY}'"),
        format!("keys = '{KEY}'"),
        format!("name = '{KEY}'"),
        format!("'{KEY}' = 1"),
        format!("[keys]\n'{KEY}' = 1"),
        format!("context = ['{KEY}']"),
        format!("formerly = [{{ name = '{KEY}' }}]"),
    ] {
        Secrets::all().are_kept_by(&config(&text));
        let builder = SessionLayer::<Shop>::from_config(config(&text));
        if let Err(error) = builder.build() {
            Secrets::all().are_kept_by(&error);
            assert_eq!(Secrets::all().find(&error.to_string()), None, "{error}");
        }
    }
}

#[test]
fn what_was_opened_keeps_its_content() {
    let cookie = cookie();
    let opened = layer().codec().open(&request(cookie.request_header()), noon());
    assert_eq!(opened.value(), Some(&shop()));
    Secrets::all().text(cookie.value()).are_kept_by(&opened);
    Secrets::all().text(cookie.value()).are_kept_by(&opened.meta());
}

#[test]
fn a_cookie_keeps_its_value() {
    let cookie = cookie();
    let secrets = Secrets::all().text(cookie.value());
    secrets.are_kept_by(&cookie);
    secrets.are_kept_by(cookie.header());
    secrets.are_kept_by(&cookie.request_header());
    assert!(format!("{cookie:?}").contains(NAME));
}

#[test]
fn removals_keep_the_marker() {
    let cookie = cookie();
    let layer = layer();
    let opened = layer.codec().open(&request(cookie.request_header()), noon());
    let removals = layer.codec().removals(&opened, noon());
    let [removal, marker] = removals.cookies() else { panic!("{removals:?}") };
    assert!(!marker.value().is_empty());
    let secrets = Secrets::all().text(marker.value());
    secrets.are_kept_by(&removals);
    secrets.are_kept_by(removal);
    secrets.are_kept_by(marker);
    assert!(removal.header().is_sensitive() && marker.header().is_sensitive());
}

#[test]
fn a_session_keeps_its_content() {
    let (cookie, layer) = (cookie(), layer());
    let secrets = Secrets::all().text(cookie.value());
    let (_, ()) = serve(&layer, &request(cookie.request_header()), |session| {
        secrets.are_kept_by(&session);
        assert_eq!(session.get(), shop());
        secrets.are_kept_by(&session);
        session.update(|shop| shop.note.push('!')).unwrap();
        secrets.are_kept_by(&session);
        session.read(|_| secrets.are_kept_by(&session));
        secrets.are_kept_by(&session.meta());
        secrets.are_kept_by(&session.set(Shop { note: NOTE.repeat(1000), card: CARD }));
    });
    Secrets::all().are_kept_by(&Session::detached(shop()));
}

#[test]
fn a_service_and_its_future_keep_the_session() {
    let cookie = cookie();
    let secrets = Secrets::all().text(cookie.value());
    let mut service = layer().layer(Echo);
    secrets.are_kept_by(&service);
    let mut request = Request::new(());
    request.headers_mut().insert(COOKIE, cookie.request_header());
    let future = service.call(request);
    secrets.are_kept_by(&future);
}

/// A service that is ready when it is told so.
struct Gate(bool);

impl Service<Request<()>> for Gate {
    type Response = Response<()>;
    type Error = &'static str;
    type Future = Ready<Result<Response<()>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.0 { Poll::Ready(Err("broken")) } else { Poll::Pending }
    }
    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Err("called"))
    }
}

#[test]
fn the_service_is_ready_when_the_inner_one_is() {
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(layer().layer(Gate(false)).poll_ready(&mut context), Poll::Pending);
    assert_eq!(layer().layer(Gate(true)).poll_ready(&mut context), Poll::Ready(Err("broken")));
}

#[test]
fn a_map_keeps_its_keys_and_values() {
    let mut map = SessionMap::new();
    map.insert("a telling key", NOTE).unwrap();
    map.insert("card", &CARD).unwrap();
    Secrets::all().text("a telling key").are_kept_by(&map);
    let error = map.get::<Vec<bool>>("card").unwrap_err();
    Secrets::all().are_kept_by(&error);
    let error = map.get::<u8>("card").unwrap_err();
    assert_eq!(Secrets::all().find(&error.to_string()), None, "{error}");
}

#[test]
fn a_response_keeps_the_cookies() {
    let (cookie, layer) = (cookie(), layer());
    let (response, ()) = serve(&layer, &request(cookie.request_header()), |session| {
        assert!(session.clear());
        session.set(shop()).unwrap();
    });
    let sent: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
    assert_eq!(sent.len(), 2, "a session and a marker");
    let mut secrets = Secrets::all();
    for header in sent {
        assert!(header.is_sensitive());
        let (_, value) = header.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
        assert!(!value.is_empty());
        secrets = secrets.text(value);
    }
    secrets.are_kept_by(&response);
}

#[test]
fn a_refused_key_is_not_quoted() {
    // All but a key: a character too many, too few, or one of no alphabet.
    let hex: String = STANDARD.decode(KEY).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    for text in [&format!("x{KEY}"), &KEY[4..], &KEY.replace('Q', "*"), &hex[2..], &format!("{hex}00")] {
        let error = text.parse::<Key>().unwrap_err();
        let secrets = Secrets::all().text(text);
        secrets.are_kept_by(&error);
        assert_eq!(secrets.find(&error.to_string()), None, "{error}");
    }
    let twice = KeyRing::new(KEY.parse().unwrap(), [KEY.parse().unwrap()]).unwrap_err();
    Secrets::all().are_kept_by(&twice);
}

const NAME: &str = "__Host-Http-session";
const KEY: &str = "iSKAamfAL6VMAXQwIHl90fVDUTAiNNSkHAzhe85NVQw=";
const FALLBACK: &str = "9mjR0YvJCaP0l20zgkBiCGAb5Hz1vvSIKQkMAIcyUe4=";
const NOTE: &str = "met her by the harbour";
const CARD: u64 = 4_929_123_456_789_012;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shop {
    note: String,
    card: u64,
}

fn shop() -> Shop {
    Shop { note: NOTE.to_owned(), card: CARD }
}

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn ring() -> KeyRing {
    KeyRing::new(KEY.parse().unwrap(), [FALLBACK.parse().unwrap()]).unwrap()
}

fn layer() -> SessionLayer<Shop> {
    SessionLayer::builder(ring()).mode(Mode::Signed).clock(noon).build().unwrap()
}

/// A session's cookie; signed, so that its content is in plain sight.
fn cookie() -> SetCookie {
    layer().codec().seal(&shop(), None, None, noon()).unwrap()
}

fn config(text: &str) -> SessionConfig {
    toml::from_str(text).unwrap()
}

fn request(header: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, header)])
}

#[derive(Clone, Debug)]
struct Echo;

impl tower::Service<Request<()>> for Echo {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        Session::<Shop>::from_parts(&request.into_parts().0).unwrap().read(|_| ());
        ready(Ok(Response::new(())))
    }
}
