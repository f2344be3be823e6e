//! The `tracing` events: named as the crate page says, without secrets, and emitted under no lock.

#![cfg(feature = "tracing")]

use cookie_session::{
    Identity, Imported, Key, KeyRing, KeyRingHandle, OldCookies, OldFormat, RejectedKind, Session,
    SessionLayer,
};
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY},
};
use std::{
    cell::RefCell,
    convert::Infallible,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};
use tower::{Layer as _, Service as _, service_fn};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

type Seen = Arc<Mutex<Vec<(Level, String, String)>>>;

thread_local! {
    /// The session of the request under way, which the subscriber looks at on every event.
    static SESSION: RefCell<Option<Session<u32>>> = const { RefCell::new(None) };
}

struct Recorder(Seen);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("cookie_session")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let session = SESSION.with(|session| session.borrow().clone());
        let value = session.map(|session| session.read(|value| *value));
        let mut text = Text(format!("{value:?}"));
        event.record(&mut text);
        let metadata = event.metadata();
        self.0.lock().expect("no panic").push((*metadata.level(), metadata.name().to_owned(), text.0));
    }
}

/// Runs `body` and returns the events.
fn events(body: impl FnOnce()) -> Vec<(Level, String, String)> {
    let seen = Seen::default();
    tracing::subscriber::with_default(Recorder(Arc::clone(&seen)), body);
    let seen = seen.lock().expect("no panic");
    seen.clone()
}

fn layer() -> SessionLayer<u32> {
    let keys = KeyRing::new(Key::generate().expect("randomness"), []).expect("one key");
    SessionLayer::builder(keys).build().expect("good settings")
}

fn respond(layer: &SessionLayer<u32>, cookie: &str, handler: impl Fn(Session<u32>) -> Response<()>) {
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let session = Session::from_parts(&request.into_parts().0).expect("the layer is around");
        SESSION.set(Some(session.clone()));
        std::future::ready(Ok::<_, Infallible>(handler(session)))
    }));
    let request = Request::builder().header(COOKIE, cookie).body(()).expect("a good request");
    let response = pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(response, Poll::Ready(Ok(_))));
    SESSION.set(None);
}

#[test]
fn a_rejected_cookie_is_a_debug_event_with_its_kind_and_without_its_value() {
    let layer = layer();
    let good = layer.codec().seal(&7, None, None, SystemTime::now()).expect("it fits");
    let mut forged = good.value().to_owned();
    let last = forged.pop().expect("a value");
    forged.push(if last == 'A' { 'Q' } else { 'A' });
    let seen = events(|| {
        respond(&layer, &format!("{}={forged}", good.name()), |session| {
            assert_eq!(session.read(|value| *value), 0);
            Response::new(())
        });
    });
    assert_eq!(seen.len(), 1, "{seen:?}");
    let (level, name, text) = &seen[0];
    assert_eq!((*level, name.as_str()), (Level::DEBUG, "session_rejected"));
    assert!(text.contains("event=\"session_rejected\"") && text.contains("kind="), "{text}");
    assert!(!text.contains(&forged[..20]), "{text}");
}

#[test]
fn what_an_operator_should_hear_of_is_a_warning_or_an_error() {
    let layer = layer();
    let good = layer.codec().seal(&7, None, None, SystemTime::now()).expect("it fits");
    let cookie = format!("{}={}", good.name(), good.value());
    let kept = RefCell::new(None);
    let seen = events(|| {
        respond(&layer, &cookie, |session| {
            session.set(8).expect("it fits");
            kept.replace(Some(session));
            let mut response = Response::new(());
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        });
        assert!(!kept.take().expect("the session").clear());
    });
    let names: Vec<_> = seen.iter().map(|(level, name, _)| (*level, name.as_str())).collect();
    assert_eq!(names, [(Level::WARN, "session_cache_overruled"), (Level::ERROR, "session_clear_too_late")]);
}

/// A number, as it is.
struct Plain;

impl OldFormat<u32> for Plain {
    fn cookies(&self) -> Vec<Identity> {
        vec![Identity::named("old")]
    }
    fn open(&self, old: &OldCookies<'_>) -> Result<Imported<u32>, RejectedKind> {
        let value = old.first("old").ok_or(RejectedKind::Malformed)?;
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        Ok(Imported::new(number.ok_or(RejectedKind::Payload)?, value, b"a key"))
    }
}

#[test]
fn an_import_is_an_event_and_one_whose_date_has_passed_is_said_at_the_start() {
    let importing = |until| {
        let keys = KeyRing::new(Key::generate().expect("randomness"), []).expect("one key");
        SessionLayer::builder(keys).import(Plain, until).build().expect("good settings")
    };
    let names = |seen: Vec<(Level, String, String)>| -> Vec<_> {
        seen.into_iter().map(|(level, name, _)| (level, name)).collect()
    };
    let now = SystemTime::now();
    let seen = events(|| {
        let layer = importing(now + Duration::from_secs(600));
        respond(&layer, "old=7", |session| {
            assert_eq!(session.read(|value| *value), 7);
            Response::new(())
        });
    });
    assert_eq!(names(seen), [(Level::DEBUG, "session_imported".to_owned())]);
    let seen = events(|| drop(importing(now)));
    assert_eq!(names(seen), [(Level::WARN, "session_import_over".to_owned())]);
}

/// A timeout inside the layer whose error is made a response outside of it; or the client has gone.
#[test]
fn a_write_or_a_clear_whose_response_never_comes_is_an_event() {
    let layer = layer();
    let good = layer.codec().seal(&7, None, None, SystemTime::now()).expect("it fits");
    let cookie = format!("{}={}", good.name(), good.value());
    type Handler = fn(&Session<u32>);
    let cases: [(Handler, _); 3] = [
        (|session| assert_eq!(session.get(), 7), None),
        (|session| session.set(8).expect("it fits"), Some((Level::DEBUG, "session_write_dropped"))),
        (|session| assert!(session.clear()), Some((Level::WARN, "session_clear_dropped"))),
    ];
    for (handler, expected) in cases {
        for fails in [true, false] {
            let seen = events(|| {
                let mut service = layer.layer(service_fn(|request: Request<()>| {
                    handler(&Session::from_parts(&request.into_parts().0).expect("the layer is around"));
                    async move {
                        if !fails {
                            std::future::pending::<()>().await;
                        }
                        Err::<Response<()>, _>("elapsed")
                    }
                }));
                let request = Request::builder().header(COOKIE, &cookie).body(()).expect("a good request");
                let response = pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop()));
                assert_eq!(response.is_ready(), fails);
            });
            assert_eq!(names(&seen), Vec::from_iter(expected), "{fails}");
        }
    }
}

#[test]
fn what_a_panicking_clock_loses_is_told() {
    let broken = Arc::new(AtomicBool::new(false));
    let clock = {
        let broken = Arc::clone(&broken);
        move || {
            assert!(!broken.load(SeqCst), "the clock is broken");
            SystemTime::now()
        }
    };
    let keys = KeyRing::new(Key::generate().expect("randomness"), []).expect("one key");
    let layer = SessionLayer::<u32>::builder(keys).clock(clock).build().expect("good settings");
    type Handler = fn(&Session<u32>);
    let cases: [(Handler, _); 2] = [
        (|session| session.set(8).expect("it fits"), (Level::DEBUG, "session_write_dropped")),
        (|session| assert!(session.clear()), (Level::WARN, "session_clear_dropped")),
    ];
    for (handler, expected) in cases {
        broken.store(false, SeqCst);
        let seen = events(|| {
            let mut service = layer.layer(service_fn(|request: Request<()>| {
                handler(&Session::from_parts(&request.into_parts().0).expect("the layer is around"));
                broken.store(true, SeqCst);
                std::future::ready(Ok::<_, Infallible>(Response::new(())))
            }));
            let mut response = Box::pin(service.call(Request::new(())));
            let poll = AssertUnwindSafe(|| {
                response.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
            });
            assert!(catch_unwind(poll).is_err());
        });
        assert_eq!(names(&seen), [expected]);
    }
}

#[test]
fn a_write_that_a_5xx_response_does_not_send_is_a_debug_event() {
    let layer = layer();
    let seen = events(|| {
        respond(&layer, "", |session| {
            session.set(8).expect("it fits");
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        });
    });
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].0, seen[0].1.as_str()), (Level::DEBUG, "session_write_dropped"));
}

#[test]
fn two_types_that_write_one_cookie_are_an_error() {
    let keys = KeyRingHandle::new(KeyRing::new(Key::generate().expect("randomness"), []).expect("one key"));
    let numbers = SessionLayer::<u32>::builder(keys.clone()).build().expect("good settings");
    let texts = SessionLayer::<String>::builder(keys).build().expect("good settings");
    let mut service = texts.layer(numbers.layer(service_fn(|request: Request<()>| {
        let parts = request.into_parts().0;
        Session::<u32>::from_parts(&parts).expect("its layer").set(7).expect("it fits");
        Session::<String>::from_parts(&parts).expect("its layer").set("x".to_owned()).expect("it fits");
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    })));
    let seen = events(|| {
        let response = pin!(service.call(Request::new(()))).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(response, Poll::Ready(Ok(_))));
    });
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].0, seen[0].1.as_str()), (Level::ERROR, "session_name_shared"));
}

#[test]
fn a_key_that_decodes_to_text_is_a_warning() {
    let text = "an old passphrase, of 32 letters";
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let seen = events(|| assert!(hex.parse::<Key>().is_ok()));
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].0, seen[0].1.as_str()), (Level::WARN, "session_key_printable"));
    assert!(!seen[0].2.contains("passphrase") && !seen[0].2.contains(&hex[..12]), "{}", seen[0].2);
}

#[test]
fn a_write_that_comes_too_late_is_a_warning() {
    let keys = KeyRing::new(Key::generate().expect("randomness"), []).expect("one key");
    let time = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
    let clock = Arc::clone(&time);
    let layer = SessionLayer::<u32>::builder(keys).clock(move || *clock.lock().expect("no panic"));
    let layer = layer.absolute_timeout(Duration::from_secs(60)).build().expect("good settings");
    let seen = events(|| {
        respond(&layer, "", |session| {
            session.set(8).expect("it fits");
            *time.lock().expect("no panic") += Duration::from_secs(61);
            Response::new(())
        });
    });
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].0, seen[0].1.as_str()), (Level::WARN, "session_write_too_late"));
}

#[test]
fn a_session_that_is_asked_for_too_late_is_an_error() {
    let kept = RefCell::new(None);
    let seen = events(|| {
        let mut service = layer().layer(service_fn(|request: Request<()>| {
            kept.replace(Some(request.into_parts().0));
            std::future::ready(Ok::<_, Infallible>(Response::new(())))
        }));
        let mut response = pin!(service.call(Request::new(())));
        assert!(response.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(Session::<u32>::from_parts(&kept.take().expect("the parts")).is_ok());
    });
    let names: Vec<_> = seen.iter().map(|(level, name, _)| (*level, name.as_str())).collect();
    assert_eq!(names, [(Level::ERROR, "session_too_late")]);
}

fn names(seen: &[(Level, String, String)]) -> Vec<(Level, &str)> {
    seen.iter().map(|(level, name, _)| (*level, name.as_str())).collect()
}

#[test]
fn what_goes_well_is_no_event() {
    let layer = layer();
    let good = layer.codec().seal(&7, None, None, SystemTime::now()).expect("it fits");
    let cookie = format!("{}={}", good.name(), good.value());
    let seen = events(|| {
        for cookie in ["", &cookie] {
            respond(&layer, cookie, |session| {
                session.read(|_| ());
                Response::new(())
            });
            // An earlier cookie of the session's name is the handler's, and is replaced.
            for earlier in [None, Some("__Host-Http-session=x; Secure; Path=/")] {
                respond(&layer, cookie, |session| {
                    session.set(8).expect("it fits");
                    let mut response = Response::new(());
                    response
                        .headers_mut()
                        .extend(earlier.map(|earlier| (SET_COOKIE, HeaderValue::from_static(earlier))));
                    response
                });
            }
            respond(&layer, cookie, |session| {
                session.clear();
                Response::new(())
            });
        }
    });
    assert_eq!(names(&seen), []);
}

#[test]
fn a_layer_inside_another_with_other_settings_is_a_warning() {
    let (layer, other) = (self::layer(), self::layer());
    let events_of = |inner: &SessionLayer<u32>| {
        let mut service =
            layer.layer(inner.layer(service_fn(|_: Request<()>| {
                std::future::ready(Ok::<_, Infallible>(Response::new(())))
            })));
        events(|| {
            let response = pin!(service.call(Request::new(()))).poll(&mut Context::from_waker(Waker::noop()));
            assert!(response.is_ready());
        })
    };
    assert_eq!(names(&events_of(&layer.clone())), []);
    assert_eq!(names(&events_of(&other)), [(Level::WARN, "session_layer_nested")]);
}

/// `http` takes 2^15 names of headers. Where `Vary` or `private` find no room, neither does the session's cookie, even
/// in the place of an earlier one.
#[test]
fn a_response_with_too_many_headers_is_an_error_and_gets_no_cookie() {
    let layer = layer();
    let earlier = "__Host-Http-session=x; Secure; Path=/";
    for there in [[CACHE_CONTROL.as_str(), "private"], [VARY.as_str(), "cookie"]] {
        let sent = RefCell::new(Vec::new());
        let seen = events(|| {
            let mut service = layer.layer(service_fn(|request: Request<()>| {
                let session = Session::<u32>::from_parts(&request.into_parts().0).expect("its layer");
                session.set(8).expect("it fits");
                let mut response = Response::new(());
                let headers = response.headers_mut();
                headers.insert(there[0], HeaderValue::from_static(there[1]));
                headers.insert(SET_COOKIE, HeaderValue::from_static(earlier));
                let mut names = (0..1 << 15).map(|n| HeaderName::try_from(format!("x-{n}")).expect("a name"));
                let full = names.any(|name| headers.try_append(name, HeaderValue::from_static("x")).is_err());
                assert!(full);
                std::future::ready(Ok::<_, Infallible>(response))
            }));
            let response = pin!(service.call(Request::new(()))).poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Ok(response)) = response else { panic!("ready at once") };
            sent.replace(response.headers().get_all(SET_COOKIE).iter().cloned().collect());
        });
        assert_eq!(names(&seen), [(Level::ERROR, "session_headers_full")], "{there:?}");
        assert_eq!(sent.into_inner(), [earlier]);
    }
}
