//! The operating system has no randomness: no encrypted cookie and no new session goes out, the old cookie stays, and
//! removal cookies still go. One test, since the source of randomness is the process's.

use cookie_session::{Key, KeyError, KeyRing, Mode, Session, SessionLayer, UpdateError};
use http::{HeaderMap, HeaderValue, Request, Response, header::COOKIE, header::SET_COOKIE};
use randomness_tests::{CALLS, DRY};
use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, SystemTime},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// Runs a handler behind the layer and returns the `Set-Cookie` values that left.
fn respond(
    layer: &SessionLayer<u32>,
    cookie: Option<&HeaderValue>,
    handler: impl Fn(Session<u32>),
) -> Vec<String> {
    let service = layer.layer(service_fn(|request: Request<()>| {
        handler(Session::from_parts(&request.into_parts().0).expect("the layer is there"));
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let mut request = Request::new(());
    request.headers_mut().extend(cookie.map(|cookie| (COOKIE, cookie.clone())));
    let mut response = std::pin::pin!(service.oneshot(request));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok(response)) = response.as_mut().poll(&mut context) else {
        panic!("ready at once")
    };
    let text = |value: &HeaderValue| value.to_str().expect("ASCII").to_owned();
    response.headers().get_all(SET_COOKIE).iter().map(text).collect()
}

/// By how many seconds the layers' clock is ahead.
static AHEAD: AtomicU64 = AtomicU64::new(0);

#[test]
fn without_randomness_nothing_encrypted_and_nothing_new_goes_out_and_the_old_cookie_stays() {
    let layer = |mode| {
        let keys = KeyRing::new(Key::generate().expect("randomness"), []).expect("one key");
        let clock = || SystemTime::now() + Duration::from_secs(AHEAD.load(SeqCst));
        SessionLayer::<u32>::builder(keys).mode(mode).clock(clock).build().expect("good settings")
    };
    let (encrypted, signed) = (layer(Mode::Encrypted), layer(Mode::Signed));
    let unused = layer(Mode::Encrypted);
    let cookie = |layer: &SessionLayer<u32>| {
        layer.codec().seal(&7, None, None, SystemTime::now()).expect("randomness").request_header()
    };
    let (good, good_signed) = (cookie(&encrypted), cookie(&signed));

    // A new session draws its id and its nonce at the head, in one call; a known one its nonce; a read draws none.
    for came_in in [None, Some(&good)] {
        let before = CALLS.load(SeqCst);
        let cookies = respond(&encrypted, came_in, |session| {
            session.set(8).expect("it fits");
            assert_eq!(CALLS.load(SeqCst), before);
        });
        assert_eq!((cookies.len(), CALLS.load(SeqCst) - before), (1, 1));
    }
    let before = CALLS.load(SeqCst);
    assert!(respond(&encrypted, Some(&good), |session| assert_eq!(session.get(), 7)).is_empty());
    assert_eq!(CALLS.load(SeqCst), before);

    DRY.store(true, SeqCst);
    assert_eq!(Key::generate().unwrap_err(), KeyError::Random);

    // The codec: a new session, one that is written again, and the marker.
    let (codec, now) = (encrypted.codec(), SystemTime::now());
    assert_eq!(codec.seal(&8, None, None, now).unwrap_err(), UpdateError::Random);
    let opened = codec.open(&HeaderMap::from_iter([(COOKIE, good.clone())]), now);
    assert!(opened.meta().is_some());
    assert_eq!(codec.seal(&8, opened.meta(), None, now).unwrap_err(), UpdateError::Random);
    let removals = codec.removals(&opened, now);
    assert_eq!((removals.cookies().len(), removals.marker()), (1, None));
    assert_eq!((removals.cookies()[0].name(), removals.cookies()[0].value()), ("__Host-Http-session", ""));

    let fresh = respond(&encrypted, None, |session| {
        session.set(8).expect("a new session draws its id and its nonce at the head");
        assert_eq!((session.get(), session.meta()), (8, None), "no id, so nothing is known of it");
    });
    assert!(fresh.is_empty());
    assert_eq!(encrypted.keys().counters().no_randomness, 1);

    let renewed = respond(&encrypted, Some(&good), |session| {
        assert_eq!(session.renew(), Err(UpdateError::Random));
        session.set(8).expect("a known session draws its nonce at the head");
    });
    assert!(renewed.is_empty(), "the old cookie stays: {renewed:?}");
    assert_eq!(encrypted.keys().counters().no_randomness, 2);

    let cleared = respond(&encrypted, Some(&good), |session| assert!(session.clear()));
    assert_eq!(cleared.len(), 1, "the removal goes out, the marker cannot: {cleared:?}");
    assert!(cleared[0].starts_with("__Host-Http-session=;"));
    assert_eq!(encrypted.keys().counters().no_randomness, 3);

    // Renewed while there was randomness, which ended before the head.
    DRY.store(false, SeqCst);
    let renewed = respond(&encrypted, Some(&good), |session| {
        assert_ne!(session.renew().expect("randomness"), None);
        DRY.store(true, SeqCst);
    });
    assert!(renewed.is_empty(), "{renewed:?}");
    assert_eq!(encrypted.keys().counters().no_randomness, 4);

    let again = respond(&encrypted, Some(&good), |session| {
        assert!(session.clear());
        session.set(8).expect("it fits");
    });
    assert_eq!(again.len(), 1, "the removal of what was cleared: {again:?}");
    assert!(again[0].starts_with("__Host-Http-session=;"));
    assert_eq!(encrypted.keys().counters().no_randomness, 6, "for the session and for the marker");

    // Due for a re-issue, which is then left out; and goes out once there is randomness.
    AHEAD.store(3 * 60 * 60, SeqCst);
    let read = |session: Session<u32>| assert_eq!(session.get(), 7);
    assert!(respond(&encrypted, Some(&good), read).is_empty());
    assert_eq!(encrypted.keys().counters().no_randomness, 7);
    DRY.store(false, SeqCst);
    assert_eq!(respond(&encrypted, Some(&good), read).len(), 1);
    DRY.store(true, SeqCst);
    AHEAD.store(0, SeqCst);

    // A new signed session needs an id, and a known one nothing: there is no nonce.
    assert_eq!(signed.codec().seal(&8, None, None, now).unwrap_err(), UpdateError::Random);
    assert!(respond(&signed, None, |session| session.set(8).expect("it fits")).is_empty());
    assert_eq!(signed.keys().counters().no_randomness, 1);
    assert_eq!(respond(&signed, Some(&good_signed), |session| session.set(8).expect("it fits")).len(), 1);
    assert_eq!(respond(&signed, Some(&good_signed), |session| assert!(session.clear())).len(), 2);

    // A layer that has sealed nothing needs a first half of nonces as well, and draws it once it can.
    assert!(respond(&unused, None, |session| session.set(8).expect("it fits")).is_empty());
    DRY.store(false, SeqCst);
    for calls in [2, 1, 1] {
        let before = CALLS.load(SeqCst);
        assert_eq!(respond(&unused, None, |session| session.set(8).expect("it fits")).len(), 1);
        assert_eq!(CALLS.load(SeqCst) - before, calls);
    }
    assert_eq!(respond(&encrypted, Some(&good), |session| session.set(8).expect("it fits")).len(), 1);
}
