//! cookie-session over threads and forked processes, and what keys leave in memory.

use cookie_session::{Key, KeyError, KeyRing, Session, SessionLayer, internal::frame_parse};
use http::{HeaderMap, HeaderValue, Request, Response, header::COOKIE, header::SET_COOKIE};
use std::{convert::Infallible, pin::pin, time::SystemTime};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// All ways to a sealed cookie, each once.
pub struct Round {
    pub nonces: [[u8; 24]; Round::NONCES],
    pub ids: [[u8; 16]; Round::IDS],
}

impl Round {
    pub const NONCES: usize = 5;
    const IDS: usize = 3;
    pub const BYTES: usize = 24 * Round::NONCES + 16 * Round::IDS;

    /// # Panics
    ///
    /// Where a cookie that should go out does not.
    pub fn new(layer: &SessionLayer<u64>) -> Round {
        let new = only(respond(layer, None, |session| session.set(7).expect("it fits")));
        let written = only(respond(layer, Some(&new), |session| session.set(8).expect("it fits")));
        let renewed = only(respond(layer, Some(&new), |session| {
            session.renew().expect("randomness");
        }));
        let [_removal, marker] = respond(layer, Some(&new), |session| assert!(session.clear()))
            .try_into()
            .expect("the removal and the marker");
        let codec = layer.codec();
        let direct = codec.seal(&9, None, None, SystemTime::now()).expect("randomness").request_header();
        let id = |cookie: &HeaderValue| {
            let headers = HeaderMap::from_iter([(COOKIE, cookie.clone())]);
            let opened = codec.open(&headers, SystemTime::now());
            opened.meta().expect("it opens").id().to_bytes()
        };
        assert_eq!(id(&new), id(&written));
        Round {
            nonces: [&new, &written, &renewed, &marker, &direct]
                .map(|cookie| nonce(cookie).expect("encrypted")),
            ids: [&new, &renewed, &direct].map(id),
        }
    }

    pub fn to_bytes(&self) -> [u8; Round::BYTES] {
        let all = [self.nonces.as_flattened(), self.ids.as_flattened()].concat();
        all.try_into().expect("as many bytes")
    }

    pub fn from_bytes(bytes: &[u8; Round::BYTES]) -> Round {
        let (nonces, ids) = bytes.split_at(24 * Round::NONCES);
        let mut round = Round { nonces: Default::default(), ids: Default::default() };
        round.nonces.as_flattened_mut().copy_from_slice(nonces);
        round.ids.as_flattened_mut().copy_from_slice(ids);
        round
    }
}

/// A layer with a key of its own.
pub fn layer() -> Result<SessionLayer<u64>, KeyError> {
    let keys = KeyRing::new(Key::generate()?, [])?;
    Ok(SessionLayer::<u64>::builder(keys).build().expect("good settings"))
}

/// Runs a handler behind the layer; what left, as it would come in again.
///
/// # Panics
///
/// Where the layer does not answer at once.
pub fn respond(
    layer: &SessionLayer<u64>,
    cookie: Option<&HeaderValue>,
    handler: impl Fn(Session<u64>),
) -> Vec<HeaderValue> {
    let service = layer.layer(service_fn(|request: Request<()>| {
        handler(Session::from_parts(&request.into_parts().0).expect("the layer is there"));
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let mut request = Request::new(());
    request.headers_mut().extend(cookie.map(|cookie| (COOKIE, cookie.clone())));
    let mut response = pin!(service.oneshot(request));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok(response)) = response.as_mut().poll(&mut context) else {
        panic!("ready at once")
    };
    let pair = |value: &HeaderValue| {
        let end = value.as_bytes().iter().position(|&byte| byte == b';').expect("attributes");
        HeaderValue::from_bytes(&value.as_bytes()[..end]).expect("a part of a header")
    };
    response.headers().get_all(SET_COOKIE).iter().map(pair).collect()
}

fn only(cookies: Vec<HeaderValue>) -> HeaderValue {
    let [cookie] = cookies.try_into().expect("one cookie");
    cookie
}

/// The nonce in `name=value`, if it is encrypted: bytes 5 to 29 of the value.
///
/// # Panics
///
/// If it is no cookie of ours.
pub fn nonce(cookie: &HeaderValue) -> Option<[u8; 24]> {
    let at = cookie.as_bytes().iter().position(|&byte| byte == b'=').expect("a name");
    let (suite, _key_id, body) = frame_parse(&cookie.as_bytes()[at + 1..]).expect("a frame");
    (suite == 0x01).then(|| *body.first_chunk().expect("a nonce"))
}
