//! cookie-session over threads and forked processes, and what keys leave in memory.

use cookie_session::{Identity, Key, KeyError, KeyRing, Session, SessionLayer, internal::frame_parse};
use http::{HeaderMap, HeaderValue, Request, Response, header::COOKIE, header::SET_COOKIE};
use std::{
    convert::Infallible,
    pin::pin,
    time::{Duration, SystemTime},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// All ways to a sealed cookie, each once.
pub struct Round {
    pub nonces: [[u8; 24]; Round::NONCES],
    pub ids: [[u8; 16]; Round::IDS],
}

impl Round {
    pub const NONCES: usize = 10;
    const IDS: usize = 4;
    pub const BYTES: usize = 24 * Round::NONCES + 16 * Round::IDS;

    /// # Panics
    ///
    /// Where a cookie that should go out does not.
    pub fn new(layer: &SessionLayer<u64>) -> Round {
        let write = |value| move |session: Session<u64>| session.set(value).expect("it fits");
        let clear = |session: &Session<u64>| assert!(session.clear());
        let new = only(respond(layer, None, write(7)));
        let written = only(respond(layer, Some(&new), write(8)));
        let reissued = only(respond(layer, Some(&new), |session| assert_eq!(session.get(), 7)));
        let renewed = only(respond(layer, Some(&new), |session| {
            session.renew().expect("randomness");
        }));
        // Two markers: that of the cookie's earlier name has one of its own.
        let signed_out: [HeaderValue; 2] =
            respond(layer, Some(&new), |session| clear(&session)).try_into().expect("two markers");
        let begun_anew: [HeaderValue; 3] = respond(layer, Some(&new), |session| {
            clear(&session);
            write(9)(session);
        })
        .try_into()
        .expect("a session and two markers");
        let codec = layer.codec();
        let direct = codec.seal(&9, None, None, SystemTime::now()).expect("randomness").request_header();
        let id = |cookie: &HeaderValue| {
            let headers = HeaderMap::from_iter([(COOKIE, cookie.clone())]);
            let opened = codec.open(&headers, SystemTime::now());
            opened.meta().expect("it opens").id().to_bytes()
        };
        assert_eq!([id(&written), id(&reissued)], [id(&new); 2]);
        let ids = [&new, &renewed, &begun_anew[0], &direct].map(id);
        let singles = [new, written, reissued, renewed, direct];
        let cookies: Vec<_> = singles.into_iter().chain(signed_out).chain(begun_anew).collect();
        let nonces: Vec<_> = cookies.iter().map(|cookie| nonce(cookie).expect("encrypted")).collect();
        Round { nonces: nonces.try_into().expect("as many as there are ways"), ids }
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

/// A layer with a key of its own, which issues a cookie anew at each read.
pub fn layer() -> Result<SessionLayer<u64>, KeyError> {
    let keys = KeyRing::new(Key::generate()?, [])?;
    let builder = SessionLayer::<u64>::builder(keys).formerly(Identity::named("session"));
    Ok(builder.reissue_after(Duration::ZERO).build().expect("good settings"))
}

/// Runs a handler behind the layer; what left, as it would come in again, but for removals.
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
        let pair = &value.as_bytes()[..end];
        (!pair.ends_with(b"=")).then(|| HeaderValue::from_bytes(pair).expect("a part of a header"))
    };
    response.headers().get_all(SET_COOKIE).iter().filter_map(pair).collect()
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
