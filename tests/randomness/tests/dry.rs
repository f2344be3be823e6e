//! The operating system has no randomness: no sealed cookie goes out, the old one stays, and removal cookies
//! still go. One test, since the source of randomness is the process's.

use cookie_session::{Key, KeyError, KeyRing, Mode, Session, SessionLayer, UpdateError};
use cookie_session_randomness_tests::{CALLS, DRY};
use http::{HeaderValue, Request, Response, header::COOKIE, header::SET_COOKIE};
use std::{convert::Infallible, sync::atomic::Ordering::SeqCst, time::SystemTime};
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

#[test]
fn without_randomness_no_sealed_cookie_goes_out_and_the_old_one_stays() {
    let layer = |mode| {
        let keys = KeyRing::new(Key::generate().expect("randomness"), []).expect("one key");
        SessionLayer::<u32>::builder(keys).mode(mode).build().expect("good settings")
    };
    let (encrypted, signed) = (layer(Mode::Encrypted), layer(Mode::Signed));
    let cookie = |layer: &SessionLayer<u32>| {
        layer.codec().seal(&7, None, None, SystemTime::now()).expect("randomness").request_header()
    };
    let (good, good_signed) = (cookie(&encrypted), cookie(&signed));

    // A new session draws its id and its nonce in one call, a known one its nonce; a read draws none.
    for (came_in, calls) in [(None, 1), (Some(&good), 1)] {
        let before = CALLS.load(SeqCst);
        assert_eq!(respond(&encrypted, came_in, |session| session.set(8).expect("it fits")).len(), 1);
        assert_eq!(CALLS.load(SeqCst) - before, calls);
    }
    let before = CALLS.load(SeqCst);
    assert!(respond(&encrypted, Some(&good), |session| assert_eq!(session.get(), 7)).is_empty());
    assert_eq!(CALLS.load(SeqCst), before);

    DRY.store(true, SeqCst);
    assert_eq!(Key::generate().unwrap_err(), KeyError::Random);
    assert_eq!(encrypted.codec().seal(&8, None, None, SystemTime::now()).unwrap_err(), UpdateError::Random);

    let fresh = respond(&encrypted, None, |session| {
        assert_eq!(session.set(8), Err(UpdateError::Random));
        assert_eq!((session.get(), session.is_changed()), (0, false));
    });
    assert!(fresh.is_empty());

    let renewed = respond(&encrypted, Some(&good), |session| {
        assert_eq!(session.renew(), Err(UpdateError::Random));
        session.set(8).expect("a known session draws its nonce at the head");
    });
    assert!(renewed.is_empty(), "the old cookie stays: {renewed:?}");
    assert_eq!(encrypted.keys().counters().no_randomness, 1);

    let cleared = respond(&encrypted, Some(&good), |session| assert!(session.clear()));
    assert_eq!(cleared.len(), 1, "the removal goes out, the marker cannot: {cleared:?}");
    assert!(cleared[0].starts_with("__Host-Http-session=;"));
    assert_eq!(encrypted.keys().counters().no_randomness, 2);

    // A signed cookie needs no nonce.
    assert_eq!(respond(&signed, Some(&good_signed), |session| session.set(8).expect("it fits")).len(), 1);
    assert_eq!(respond(&signed, Some(&good_signed), |session| assert!(session.clear())).len(), 2);

    DRY.store(false, SeqCst);
    assert_eq!(respond(&encrypted, Some(&good), |session| session.set(8).expect("it fits")).len(), 1);
}
